"""Checks of ids, relevance and order: what would make every figure on the dataset wrong."""

import math
from collections import Counter, defaultdict

from ranker.datasets.doctor.facts import text_facts, text_hash
from ranker.datasets.doctor.report import Finding, Hits, Severity
from ranker.schema import Domain, RankingTask

SKEW_P = 0.001
"""Below it the positions of the relevant candidates are called skewed."""
_MIN_EXPECTED = 5.0
"""Positions expected less often are pooled: the chi-square approximation needs it."""


class Labels:
    """Counts over tasks; memory grows by two numbers a task."""

    def __init__(self) -> None:
        self.num_tasks = 0
        self.domains: Counter[str] = Counter()
        self.candidates_per_task: Counter[int] = Counter()
        self.relevant_per_task: Counter[int] = Counter()
        self.num_with_relevance = 0
        self._observed: defaultdict[int, float] = defaultdict(float)
        self._expected: defaultdict[int, float] = defaultdict(float)
        self._ids: set[int] = set()
        self._contents: dict[int, str] = {}
        self._same_id, self._same_task = Hits(), Hits()
        self._none, self._unknown, self._several, self._every = Hits(), Hits(), Hits(), Hits()
        self._leak, self._shown, self._ties = Hits(), Hits(), Hits()

    def add(self, task: RankingTask) -> None:
        """Check one task."""
        self.num_tasks += 1
        self.domains[task.domain.value] += 1
        self.candidates_per_task[len(task.candidates)] += 1
        self._add_copies(task)
        relevant = task.relevant_ids
        self.relevant_per_task[len(relevant)] += 1
        if not relevant:
            (self._none if task.relevance else self._unknown).add(task.task_id)
            return
        self.num_with_relevance += 1
        best = max(task.relevance.values())
        if len(relevant) == len(task.candidates) and min(task.relevance[i] for i in relevant) == best:
            self._every.add(task.task_id)
        elif len(relevant) > 1:
            ties = sum(gain == best for gain in task.relevance.values())
            kind = self._ties if task.domain is Domain.ROUTING and ties > 1 else self._several
            kind.add(f"{task.task_id}: {len(relevant)} of {len(task.candidates)}")
        self._add_positions(task, relevant)
        self._add_history(task, relevant)

    def _add_copies(self, task: RankingTask) -> None:
        task_id = text_hash(task.task_id)
        if task_id in self._ids:
            self._same_id.add(task.task_id)
        self._ids.add(task_id)
        texts = sorted(c.text for c in task.candidates)
        content = text_hash("\0".join([task.query, *task.history, "\1", *texts]))
        first = self._contents.setdefault(content, task.task_id)
        if first != task.task_id:
            self._same_task.add(f"{first} and {task.task_id}")

    def _add_positions(self, task: RankingTask, relevant: frozenset[str]) -> None:
        """Each task weighs 1 in all, spread over its relevant candidates."""
        share, weight = 1 / len(task.candidates), 1 / len(relevant)
        for position, candidate in enumerate(task.candidates):
            self._expected[position] += share
            if candidate.candidate_id in relevant:
                self._observed[position] += weight

    def _add_history(self, task: RankingTask, relevant: frozenset[str]) -> None:
        if not task.history:
            return
        history = {text_facts(h).key for h in task.history}
        shown = [c for c in task.candidates if text_facts(c.text).key in history]
        leaked = next((c for c in shown if c.candidate_id in relevant), None)
        if leaked:
            self._leak.add(f"{task.task_id}: {leaked.text[:60]!r}")
        elif shown:
            self._shown.add(f"{task.task_id}: {shown[0].text[:60]!r}")

    @property
    def positions(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(observed, expected) weight at each position."""
        size = range(len(self._expected))
        return tuple(round(self._observed[i], 4) for i in size), tuple(round(self._expected[i], 4) for i in size)

    @property
    def positions_p(self) -> float | None:
        """Probability of a skew this large were the order random; None with too few tasks."""
        pairs = [(self._observed[i], self._expected[i]) for i in range(len(self._expected))]
        return chi_square_p(pairs)

    def findings(self) -> list[Finding]:
        """What was found in all tasks."""
        error, warning, note = Severity.ERROR, Severity.WARNING, Severity.NOTE
        unknown_severity = note if self._unknown.count == self.num_tasks else warning
        return [
            *self._same_id.finding("same_id", error, "{n} task ids appear again.", "Make every task_id unique."),
            *self._leak.finding(
                "target_in_history",
                error,
                "In {n} tasks a relevant candidate is already in the history.",
                "Drop repeats before the target is chosen (the builders do), or drop these tasks.",
            ),
            *self._every.finding(
                "all_relevant",
                warning,
                "In {n} tasks every candidate is equally relevant.",
                "Add candidates that are not relevant: every order scores 1.",
            ),
            *self._none.finding(
                "none_relevant",
                warning,
                "In {n} tasks no candidate is relevant.",
                "Label one, or drop the tasks: they count in no figure.",
            ),
            *self._unknown.finding(
                "no_relevance",
                unknown_severity,
                "{n} tasks have no relevance.",
                "They can be ranked and corrected, but not scored; map a column to relevance to score them.",
            ),
            *self._same_task.finding(
                "same_task", warning, "{n} tasks repeat the query and candidates of another.", "Drop the copies."
            ),
            *self._shown.finding(
                "candidate_in_history",
                warning,
                "In {n} tasks a candidate that is not relevant is in the history.",
                "Draw negatives among what the user has not taken: these are given away.",
            ),
            *self._ties.finding(
                "router_ties",
                note,
                "In {n} routing tasks several models tie for the best.",
                "Each of them counts as relevant here; a single gold model would be an artefact of column order.",
            ),
            *self._several.finding(
                "several_relevant",
                note,
                "{n} tasks have several relevant candidates.",
                "MRR looks at the first of them only; nDCG uses the grades.",
            ),
            *self._skew_finding(),
        ]

    def _skew_finding(self) -> list[Finding]:
        p = self.positions_p
        if p is None or p >= SKEW_P:
            return []
        observed, expected = self.positions
        worst = sorted(range(len(observed)), key=lambda i: abs(observed[i] - expected[i]), reverse=True)[:3]
        return [
            Finding(
                check="position_skew",
                severity=Severity.WARNING,
                message=f"The relevant candidate's position gives it away (chi-square p = {p:.1g}).",
                count=self.num_with_relevance,
                examples=tuple(f"position {i + 1}: {observed[i]:.0f} times, {expected[i]:.0f} expected" for i in worst),
                fix="Shuffle the candidates of each task.",
            )
        ]


def chi_square_p(pairs: list[tuple[float, float]]) -> float | None:
    """P of Pearson's test for (observed, expected) counts of equal sums; sparse cells are pooled from the end.

    Returns:
        None if fewer than two cells remain.
    """
    cells: list[tuple[float, float]] = []
    observed = expected = 0.0
    for o, e in pairs:
        observed, expected = observed + o, expected + e
        if expected >= _MIN_EXPECTED:
            cells.append((observed, expected))
            observed = expected = 0.0
    if cells and expected:
        last = cells.pop()
        cells.append((last[0] + observed, last[1] + expected))
    if len(cells) < 2:
        return None
    return chi_square_tail(sum((o - e) ** 2 / e for o, e in cells), len(cells) - 1)


def chi_square_tail(value: float, degrees: int) -> float:
    """P(X >= value) for a chi-square variable with that many degrees of freedom (an exact finite sum).

    Source: Abramowitz and Stegun 26.4.4 (odd) and 26.4.5 (even).
    """
    half = value / 2
    if half > 700:
        return 0.0
    if degrees % 2 == 0:
        term = total = math.exp(-half)
        for i in range(1, degrees // 2):
            term *= half / i
            total += term
        return min(1.0, total)
    total = math.erfc(math.sqrt(half))
    term = math.sqrt(value / (math.pi / 2)) * math.exp(-half)
    for i in range(1, (degrees - 1) // 2 + 1):
        total += term
        term *= value / (2 * i + 1)
    return min(1.0, total)
