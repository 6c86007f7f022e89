"""What two datasets have in common: fingerprints of queries and of candidate texts, small enough to keep for each dataset."""

from collections.abc import Iterable, Mapping
from heapq import heappush, heappushpop

from ranker.datasets.doctor.facts import text_facts, text_hash
from ranker.datasets.doctor.report import Finding, Severity
from ranker.schema import RankingTask, Record

MAX_CANDIDATE_HASHES = 20_000
"""The smallest hashes of candidate texts that are kept (a bottom-k sketch: a fair sample of the distinct texts)."""
_CANDIDATE_SHARE = 0.2


class Fingerprints(Record):
    """What a dataset can be recognised by."""

    queries: frozenset[int]
    """Hash of the query (without one: of the history) of every task, case and spacing aside."""
    candidates: frozenset[int]
    """The smallest MAX_CANDIDATE_HASHES hashes of candidate texts."""


class Overlap:
    """Gathers the fingerprints of one dataset and compares them with others'."""

    def __init__(self) -> None:
        self._queries: dict[int, str] = {}
        self._kept: set[int] = set()
        self._heap: list[int] = []

    def add(self, task: RankingTask) -> None:
        """Remember one task."""
        self._queries.setdefault(query_hash(task), task.task_id)
        for candidate in task.candidates:
            value = text_facts(candidate.text).key
            if value in self._kept:
                continue
            if len(self._heap) < MAX_CANDIDATE_HASHES:
                heappush(self._heap, -value)
                self._kept.add(value)
            elif value < -self._heap[0]:
                self._kept.discard(-heappushpop(self._heap, -value))
                self._kept.add(value)

    def fingerprints(self) -> Fingerprints:
        """The fingerprints of all tasks so far."""
        return Fingerprints(queries=frozenset(self._queries), candidates=frozenset(self._kept))

    def findings(self, others: Mapping[str, Fingerprints]) -> list[Finding]:
        """Shared queries (users, where there is only a history) and, as a note, shared candidates."""
        found = []
        for name, other in others.items():
            shared = [task_id for value, task_id in self._queries.items() if value in other.queries]
            if shared:
                found.append(
                    Finding(
                        check="shared_queries",
                        severity=Severity.WARNING,
                        message=f"{len(shared):,} of {len(self._queries):,} queries or histories are also in {name!r}.",
                        count=len(shared),
                        examples=tuple(shared[:3]),
                        fix="Do not train on one and test on the other; split by user or query.",
                    )
                )
            share = _shared_share(self._kept, other.candidates)
            if share >= _CANDIDATE_SHARE:
                found.append(
                    Finding(
                        check="shared_candidates",
                        severity=Severity.NOTE,
                        message=f"About {share:.0%} of the candidate texts are also in {name!r}.",
                        count=round(share * len(self._kept)),
                        fix="Expected for two sides of one source or one catalogue; else check for copies.",
                    )
                )
        return found


def fingerprint(tasks: Iterable[RankingTask]) -> Fingerprints:
    """The fingerprints of a dataset."""
    overlap = Overlap()
    for task in tasks:
        overlap.add(task)
    return overlap.fingerprints()


def query_hash(task: RankingTask) -> int:
    """64 bits of what is asked."""
    return text_hash(text_facts(task.query).plain or "\0".join(text_facts(h).plain for h in task.history))


def _shared_share(mine: set[int], theirs: frozenset[int]) -> float:
    """Share of my texts that they have, estimated below the smaller of the two sketches' limits."""
    if not mine or not theirs:
        return 0.0
    limits = [max(s) for s in (mine, theirs) if len(s) >= MAX_CANDIDATE_HASHES]
    limit = min(limits) if limits else None
    sample = [value for value in mine if limit is None or value <= limit]
    return sum(value in theirs for value in sample) / len(sample) if sample else 0.0
