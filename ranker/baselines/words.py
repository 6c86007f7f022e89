"""Baselines that compare words: overlap and BM25 (`bm25s`)."""

import re
from collections.abc import Sequence
from typing import ClassVar, Final

import numpy as np

from ranker.baselines.base import Training, query_text
from ranker.metrics import Floats
from ranker.schema import Domain, RankingTask

ALL_DOMAINS: Final = frozenset(Domain)
_WORD: Final = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Lower-case words, in order."""
    return _WORD.findall(text.lower())


class WordIndex:
    """BM25 as Lucene has it (k1 1.2, b 0.75) over a list of texts, words stemmed.

    Source: Robertson and Zaragoza 2009; Lù 2024 (bm25s).
    """

    def __init__(self, texts: Sequence[str]) -> None:
        import bm25s
        from Stemmer import Stemmer

        self._stem = Stemmer("english").stemWords
        self._index = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
        self._index.index([self._stem(words(text)) or [""] for text in texts], show_progress=False)
        self._num_texts = len(texts)

    def scores(self, query: str) -> Floats:
        """A score for each text, in their order."""
        known = [w for w in self._stem(words(query)) if w in self._index.vocab_dict]
        if not known:
            return np.zeros(self._num_texts)
        return np.asarray(self._index.get_scores(known), dtype=float)


class Overlap:
    """Number of different query words that a candidate has."""

    name: ClassVar = "overlap"
    domains: ClassVar = ALL_DOMAINS
    needs_training: ClassVar = False

    def fit(self, training: Training, unlabelled: Sequence[RankingTask]) -> None:
        """Nothing to learn."""

    def score(self, task: RankingTask) -> list[float]:
        wanted = set(words(query_text(task)))
        return [float(len(wanted & set(words(c.text)))) for c in task.candidates]


class BM25:
    """BM25 of the query (and history) against each candidate; document frequencies over all candidates of the dataset."""

    name: ClassVar = "bm25"
    domains: ClassVar = ALL_DOMAINS
    needs_training: ClassVar = False

    def fit(self, training: Training, unlabelled: Sequence[RankingTask]) -> None:
        """Index every candidate text once, as a search engine would; labels are not used."""
        texts = list(dict.fromkeys(c.text for t in unlabelled for c in t.candidates))
        self._row = {text: row for row, text in enumerate(texts)}
        self._index = WordIndex(texts)

    def score(self, task: RankingTask) -> list[float]:
        scores = self._index.scores(query_text(task))
        return [float(scores[self._row[c.text]]) for c in task.candidates]


class FirstStage:
    """The order in which the dataset's own first stage listed the candidates (metadata `source_rank`)."""

    name: ClassVar = "first-stage"
    domains: ClassVar = frozenset({Domain.PASSAGE})
    needs_training: ClassVar = False

    def fit(self, training: Training, unlabelled: Sequence[RankingTask]) -> None:
        """Nothing to learn."""

    def score(self, task: RankingTask) -> list[float]:
        return [-float(c.metadata.get("source_rank", 0)) for c in task.candidates]
