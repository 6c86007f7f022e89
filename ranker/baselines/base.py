"""What a baseline is: something that is fitted once for a dataset and then gives each candidate of a task a score.

A baseline never sees the relevance of a task that it is asked about: the caller takes it away before (`without_relevance`).
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Protocol

from ranker.schema import Domain, RankingTask


class Training(NamedTuple):
    """What a baseline may learn from: the training side of the split, and nothing else."""

    tasks: Sequence[RankingTask] = ()
    """Tasks with their relevance."""
    sequences: Sequence[Sequence[str]] = ()
    """Recommendation: the candidate_ids that each user of the training side took, oldest first."""
    titles: dict[str, str] = {}  # noqa: RUF012  (never changed)
    """Recommendation: candidate_id -> title, for all items of the catalogue."""


class Baseline(Protocol):
    """One baseline on one dataset."""

    name: ClassVar[str]
    domains: ClassVar[frozenset[Domain]]
    """Where it makes sense."""
    needs_training: ClassVar[bool]
    """Whether it learns from labels or histories of the training side."""

    def fit(self, training: Training, unlabelled: Sequence[RankingTask]) -> None:
        """Learn.

        Args:
            training: of the same dataset; empty where `needs_training` is false.
            unlabelled: the tasks that will be asked about, without relevance: texts to index, histories to fold in.
        """

    def score(self, task: RankingTask) -> Sequence[float]:
        """One score for each of `task.candidates`, in their order; higher is better; equal scores are a tie."""


def without_relevance(task: RankingTask) -> RankingTask:
    """The task as a baseline may see it: no relevance, and of the metadata nothing that is made of it."""
    hidden = ("score", "gain", "relevance", "popularity") if task.domain is not Domain.PASSAGE else ("relevance",)
    candidates = tuple(
        c.model_copy(update={"metadata": {k: v for k, v in c.metadata.items() if k not in hidden}})
        for c in task.candidates
    )
    return task.model_copy(update={"relevance": {}, "candidates": candidates})


def query_text(task: RankingTask) -> str:
    """What a text retriever searches with: the query and what the user chose before. Source: the paper's BM25 rows."""
    return " ".join([task.query, *task.history]).strip()
