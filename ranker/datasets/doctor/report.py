"""What the doctor says: frozen records that serialise to JSON, for the command line, the page and the store alike."""

from collections.abc import Mapping
from enum import StrEnum

from ranker.schema import Record

MAX_EXAMPLES = 3


class Severity(StrEnum):
    """What a finding does to an import."""

    ERROR = "error"
    """Blocks it, unless allowed."""
    WARNING = "warning"
    """Does not block; results on the dataset can mislead."""
    NOTE = "note"
    """Good to know."""


class Finding(Record):
    """One thing that the doctor found."""

    check: str
    """The name of the check, for machines."""
    severity: Severity
    message: str
    """What was found, in one sentence."""
    count: int
    """How many tasks (or things, as the message says)."""
    examples: tuple[str, ...] = ()
    """Up to three, as `task id: value`."""
    fix: str

    @property
    def summary(self) -> str:
        """Message, first example and fix in one line."""
        example = f" ({self.examples[0]})" if self.examples else ""
        return f"{self.message.rstrip('.')}{example}: {self.fix}"


class Baseline(Record):
    """How well a ranker does that reads nothing."""

    name: str
    about: str
    mrr: float
    floor: float
    """The MRR of a random order on the same tasks."""
    num_tasks: int


class Budget(Record):
    """Lengths of the first prompt of each task (the longest one: all candidates are in play)."""

    unit: str
    """`tokens` of the model, or `tokens (characters / 4)` where no model was given."""
    mean: float
    longest: int
    longest_task_id: str
    limit: int | None
    """The model's context less what it may write."""
    num_over: int
    """Tasks whose prompt is longer than the limit."""
    histogram: tuple[tuple[int, int], ...]
    """(upper edge, tasks up to it), edges doubling."""


class Report(Record):
    """Everything that the doctor has to say about a dataset."""

    num_tasks: int
    domains: Mapping[str, int]
    num_with_relevance: int
    candidates_per_task: Mapping[int, int]
    """Number of candidates -> tasks."""
    relevant_per_task: Mapping[int, int]
    """Number of relevant candidates -> tasks."""
    positions: tuple[float, ...] = ()
    """How often the relevant candidate stands at each position (0-based), as listed."""
    positions_expected: tuple[float, ...] = ()
    """The same, were the order of candidates random."""
    positions_p: float | None = None
    """Chi-square test of the two."""
    random_mrr: float | None = None
    baselines: tuple[Baseline, ...] = ()
    budget: Budget | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def has_errors(self) -> bool:
        """Whether an import must be allowed explicitly."""
        return any(f.severity is Severity.ERROR for f in self.findings)

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity is Severity.ERROR)


class Hits:
    """A count with its first three examples."""

    def __init__(self) -> None:
        self.count = 0
        self.examples: list[str] = []

    def add(self, example: str, number: int = 1) -> None:
        """Count one (or more), remembering it as an example while there is room."""
        self.count += number
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(example if len(example) <= 160 else example[:157] + "...")

    def finding(self, check: str, severity: Severity, message: str, fix: str) -> list[Finding]:
        """[the finding], or [] if nothing was counted. `{n}` in the message is the count."""
        if not self.count:
            return []
        text = message.replace("{n}", f"{self.count:,}")
        examples = tuple(self.examples)
        return [Finding(check=check, severity=severity, message=text, count=self.count, examples=examples, fix=fix)]
