"""The results file: what was measured on what, by what, with which certainty, and how to make it again. Frozen records.

`values` hold one number a query (the mean over seeds) in the order of the dataset's `task_ids`, so that anybody can test any two
rows. It does not know how answers are made.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from pydantic import ValidationError

from ranker.errors import DatasetError
from ranker.evaluation.analysis import Analysis
from ranker.evaluation.systems import SystemInfo
from ranker.schema import Record

FORMAT: Final = "ranking-studio-evaluation-1"


class Estimate(Record):
    """A mean over queries."""

    mean: float
    low: float
    high: float
    """Ends of the 95% bootstrap interval, by query."""
    floor: float | None = None
    """Expected value of a random order of the same candidates."""
    skill: float | None = None
    """(mean - floor) / (1 - floor)."""
    by_seed: tuple[float, ...] = ()
    """The mean with each reshuffle of the candidates."""

    @property
    def spread(self) -> float:
        """Between the best and the worst reshuffle."""
        return max(self.by_seed) - min(self.by_seed) if self.by_seed else 0.0


class Usage(Record):
    """What it took, for one ranking on average, and what the answers were like."""

    num_calls: float = 0
    prompt_tokens: float = 0
    cached_prompt_tokens: float = 0
    completion_tokens: float = 0
    seconds: float = 0
    """Time of the run over the number of rankings (those beside it included)."""
    wall_s: float = 0
    """Time of the run, in all."""
    num_steps: float = 0
    malformed: float = 0
    """Share of steps whose written answer was no answer, several, or not in the pool; scores decided."""
    forced: float = 0
    """Share of steps in which the model was not asked to write an answer; scores decided."""
    cut: float = 0
    """Share of rankings for which texts were cut to fit the context window."""
    stopped_early: float = 0


class ExclusionRow(Record):
    """How often exclusions from pools of one size hit a candidate that is not relevant."""

    pool_size: int
    num_steps: int
    accuracy: float
    floor: float


class Row(Record):
    """One system on one dataset."""

    dataset: str
    system: str
    """Names; `dataset_key` and `system_key` say exactly which."""
    dataset_key: str
    system_key: str
    n: int
    """Queries that were answered with every seed."""
    num_wanted: int
    """Queries that were to be answered; more than `n` where the run was stopped."""
    seeds: tuple[int, ...]
    metrics: Mapping[str, Estimate]
    values: Mapping[str, tuple[float | None, ...]]
    """Metric -> value by query, for the metrics that cannot be computed from others; None = not answered."""
    usage: Usage = Usage()
    exclusions: tuple[ExclusionRow, ...] = ()
    analysis: Analysis | None = None
    """None in files of before this was measured."""
    command: int = 0
    """Index into `commands`."""


class DatasetRecord(Record):
    """What was measured on."""

    name: str
    key: str
    sha256: str
    source: str
    split: str
    metric: str
    num_tasks: int
    """With known relevance; the limit took from these."""
    num_unjudged: int
    task_ids: tuple[str, ...]
    """The ones that were taken, in order; a row of `num_wanted` queries took the first ones."""
    pool_sizes: tuple[int, int, int]
    """Smallest, median, largest."""
    mean_relevant: float
    binary_from: float = 1.0
    domain: str = ""
    """Of its first task."""
    paper_name: str | None = None
    notes: tuple[str, ...] = ()


class Difference(Record):
    """Two systems on the queries that both answered."""

    family: str
    """Tests of one family and pair of systems are corrected together."""
    a: str
    b: str
    dataset: str
    metric: str
    n: int
    difference: float
    """Mean of a - b."""
    low: float
    high: float
    p_value: float
    p_holm: float
    """Corrected over the datasets on which a and b were compared."""


class Results(Record):
    """A whole file."""

    format: Literal["ranking-studio-evaluation-1"] = FORMAT
    created_at: str
    updated_at: str
    commands: tuple[str, ...]
    versions: Mapping[str, str]
    machine: str
    num_draws: int
    """Of bootstrap and permutation."""
    datasets: tuple[DatasetRecord, ...] = ()
    systems: tuple[SystemInfo, ...] = ()
    rows: tuple[Row, ...] = ()
    differences: tuple[Difference, ...] = ()
    published: Mapping[str, Mapping[str, float]] = {}
    """The paper's rows: model -> paper's dataset -> MRR. Other queries than ours; not to be tested against."""

    def row(self, dataset: str, system: str) -> Row | None:
        """The row of two names, if there is one."""
        return next((r for r in self.rows if (r.dataset, r.system) == (dataset, system)), None)


def read_results(path: Path) -> Results:
    """Raises DatasetError if the file is not one of ours."""
    try:
        return Results.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "file"
        raise DatasetError(f"{path}: {place}: {first['msg']}: choose another --out") from error


def write_results(results: Results, path: Path) -> None:
    """Write the file, whole or not at all; lists of numbers and ids stay on one line."""
    part = path.with_name(path.name + ".part")
    part.write_text(to_text(results), encoding="utf-8")
    part.replace(path)


def to_text(results: Results) -> str:
    """JSON with a line for each record, which stays readable in a diff."""
    values = results.model_dump(mode="json")
    lines = []
    for name, value in values.items():
        if isinstance(value, list) and value:
            inner = ",\n    ".join(json.dumps(entry, ensure_ascii=False) for entry in value)
            lines.append(f'  "{name}": [\n    {inner}\n  ]')
        else:
            lines.append(f'  "{name}": {json.dumps(value, ensure_ascii=False)}')
    return "{\n" + ",\n".join(lines) + "\n}\n"
