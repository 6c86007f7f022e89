"""BM25 in memory: candidates for judged collections that come without a run.

Okapi BM25 with k1 = 0.9, b = 0.4 (Anserini's defaults for passages) and idf = ln(1 + (N - n + 0.5) / (n + 0.5)); words are
lower-case letter and digit runs without stemming. Source: Robertson and Zaragoza 2009, section 3.
"""

import math
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable

_WORD = re.compile(r"[^\W_]+")
STOP_WORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "by",
        "can",
        "did",
        "do",
        "does",
        "for",
        "from",
        "had",
        "has",
        "have",
        "how",
        "i",
        "if",
        "in",
        "is",
        "it",
        "its",
        "of",
        "on",
        "or",
        "that",
        "the",
        "their",
        "there",
        "they",
        "this",
        "to",
        "was",
        "were",
        "what",
        "when",
        "where",
        "which",
        "who",
        "why",
        "will",
        "with",
        "you",
        "your",
    ]
)


def words(text: str) -> list[str]:
    """Lower-case words of `text`, stop words left out."""
    return [w for w in _WORD.findall(text.casefold()) if w not in STOP_WORDS]


class Bm25:
    """An inverted index of texts by id, of the words that will be asked for."""

    def __init__(
        self, documents: Iterable[tuple[str, str]], vocabulary: Collection[str], *, k1: float = 0.9, b: float = 0.4
    ) -> None:
        self._ids: list[str] = []
        self._postings: dict[str, tuple[array[int], array[int]]] = {w: (array("I"), array("I")) for w in vocabulary}
        lengths: list[int] = []
        for number, (document_id, text) in enumerate(documents):
            counts = Counter(words(text))
            self._ids.append(document_id)
            lengths.append(sum(counts.values()))
            for word in counts.keys() & self._postings.keys():
                numbers, occurrences = self._postings[word]
                numbers.append(number)
                occurrences.append(counts[word])
        mean = (sum(lengths) / len(lengths) if lengths else 0) or 1.0
        self._norms = [k1 * (1 - b + b * length / mean) for length in lengths]
        self._k1 = k1

    def search(self, query: str, top: int) -> list[tuple[str, float]]:
        """(id, score) of the best documents, best first; equal scores in the order of the collection."""
        scores: defaultdict[int, float] = defaultdict(float)
        for word in words(query):
            numbers, occurrences = self._postings.get(word, ((), ()))
            idf = math.log(1 + (len(self._ids) - len(numbers) + 0.5) / (len(numbers) + 0.5))
            for number, count in zip(numbers, occurrences, strict=True):
                scores[number] += idf * count * (self._k1 + 1) / (count + self._norms[number])
        best = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:top]
        return [(self._ids[number], score) for number, score in best]
