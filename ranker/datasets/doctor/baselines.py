"""Rankers that read nothing: popularity and word overlap, beside the random floor, so that a broken set shows at once.

Ties are broken at random, in expectation: the figures depend on no order.
"""

from array import array
from collections import Counter
from collections.abc import Sequence

from ranker.datasets.doctor.facts import text_facts
from ranker.datasets.doctor.report import Baseline, Finding, Severity
from ranker.metrics import random_floor_mrr
from ranker.schema import RankingTask

TOO_EASY = 0.9
"""An MRR of word overlap from which a set says little about a model."""


def expected_reciprocal_rank(scores: Sequence[float], is_relevant: Sequence[bool]) -> float:
    """Expected reciprocal rank of the first relevant candidate when equal scores are ordered at random.

    Of the best group that holds a relevant candidate, `above` candidates stand before it, and the first of its r relevant
    among n stands at place k with the probability that `random_floor_mrr` uses.
    """
    best = max(s for s, relevant in zip(scores, is_relevant, strict=True) if relevant)
    above = sum(s > best for s in scores)
    tied = sum(s == best for s in scores)
    relevant_tied = sum(s == best and r for s, r in zip(scores, is_relevant, strict=True))
    expectation, is_later = 0.0, 1.0
    for k in range(1, tied - relevant_tied + 2):
        is_here = is_later * relevant_tied / (tied - k + 1)
        expectation += is_here / (above + k)
        is_later -= is_here
    return expectation


class Baselines:
    """Scores tasks as they come; popularity keeps 8 bytes a candidate for its second pass."""

    def __init__(self) -> None:
        self._overlap_sum = self._floor_sum = 0.0
        self._stored_sum, self._stored_floor, self._num_stored = 0.0, 0.0, 0
        self._num = 0
        self._counts: Counter[int] = Counter()
        self._hashes = array("q")
        self._own = array("b")
        self._relevant = array("b")
        self._sizes = array("H")

    def add(self, task: RankingTask) -> None:
        """Score one task; those without relevance do not count."""
        relevant = task.relevant_ids
        history = {_key(h) for h in task.history}
        self._counts.update(history)
        if not relevant:
            return
        marks = [c.candidate_id in relevant for c in task.candidates]
        floor = random_floor_mrr(len(marks), len(relevant))
        self._num += 1
        self._floor_sum += floor
        self._overlap_sum += expected_reciprocal_rank(_overlaps(task), marks)
        stored = [c.metadata.get("popularity") for c in task.candidates]
        if all(isinstance(s, int | float) for s in stored):
            self._stored_sum += expected_reciprocal_rank([float(s) for s in stored if s is not None], marks)
            self._stored_floor += floor
            self._num_stored += 1
        keys = [_key(c.text) for c in task.candidates]
        own = {k for k, mark in zip(keys, marks, strict=True) if mark}
        self._counts.update(own)
        self._hashes.extend(keys)
        self._own.extend([(k in own) + (k in history) for k in keys])
        self._relevant.extend(marks)
        self._sizes.append(len(keys))

    @property
    def floor(self) -> float | None:
        """Mean MRR of a random order over the tasks with relevance."""
        return self._floor_sum / self._num if self._num else None

    def results(self) -> tuple[Baseline, ...]:
        """Popularity (stored with the candidates, else counted in the dataset's other tasks) and word overlap."""
        if not self._num:
            return ()
        floor = self._floor_sum / self._num
        overlap = Baseline(
            name="overlap",
            about="share of the candidate's words that stand in the query or history",
            mrr=round(self._overlap_sum / self._num, 4),
            floor=round(floor, 4),
            num_tasks=self._num,
        )
        popularity = self._stored() if self._num_stored == self._num else self._counted(floor)
        return (popularity, overlap) if popularity else (overlap,)

    def _stored(self) -> Baseline:
        return Baseline(
            name="popularity",
            about="interactions of the item in the source (its own target included)",
            mrr=round(self._stored_sum / self._num_stored, 4),
            floor=round(self._stored_floor / self._num_stored, 4),
            num_tasks=self._num_stored,
        )

    def _counted(self, floor: float) -> Baseline | None:
        """None where no candidate ever occurs in another task."""
        total, position, is_informed = 0.0, 0, False
        for size in self._sizes:
            span = range(position, position + size)
            scores = [self._counts[self._hashes[i]] - self._own[i] for i in span]
            is_informed = is_informed or any(scores)
            total += expected_reciprocal_rank(scores, [bool(self._relevant[i]) for i in span])
            position += size
        if not is_informed:
            return None
        return Baseline(
            name="popularity",
            about="how often the same text is relevant or in the history in other tasks",
            mrr=round(total / self._num, 4),
            floor=round(floor, 4),
            num_tasks=self._num,
        )

    def findings(self) -> list[Finding]:
        """A set that word overlap solves, or that it solves backwards."""
        found = []
        for result in self.results():
            if result.num_tasks < 20:
                continue
            if result.mrr >= TOO_EASY:
                found.append(_easy(result))
            elif result.name == "overlap" and result.mrr < 0.5 * result.floor:
                found.append(_backwards(result))
        return found


def _easy(result: Baseline) -> Finding:
    return Finding(
        check=f"easy_{result.name}",
        severity=Severity.WARNING,
        message=f"{result.name.capitalize()} alone reaches MRR {result.mrr:.2f} (random order {result.floor:.2f}).",
        count=result.num_tasks,
        fix="Choose harder candidates: a model need not read to do well here.",
    )


def _backwards(result: Baseline) -> Finding:
    return Finding(
        check=f"backwards_{result.name}",
        severity=Severity.WARNING,
        message=f"{result.name.capitalize()} does worse than chance: MRR {result.mrr:.2f}, random {result.floor:.2f}.",
        count=result.num_tasks,
        fix="Check that the labels are not reversed.",
    )


def _overlaps(task: RankingTask) -> list[float]:
    """For each candidate: how many distinct words of the query (without one: of the history) it holds."""
    asked = text_facts(task.query).words or frozenset().union(*(text_facts(h).words for h in task.history))
    return [float(len(asked & text_facts(c.text).words)) for c in task.candidates]


def _key(text: str) -> int:
    return text_facts(text).key
