"""A plan file: several evaluations into one results file, by one command.

    defaults: {limit: 100, depth: 20}
    sections:
      - {baselines: [all], datasets: [rec-movie, dl19]}
      - {models: given, modes: [first-token, iterative], think_tokens: [0, 48], mode_limits: {iterative: 8}}

A section has the fields of `EvaluationRequest`; `defaults` are those that no section has to repeat. `models: given` means those
of `--models`; such a section is left out if none are named. What the command line says bounds what the file says: a `--limit`,
`--seeds` or `--row-minutes` there lowers them, `--datasets` takes only those, so that a plan can be tried in a minute. It does
not know how an evaluation is run.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import Field, ValidationError

from ranker.elimination import AnswerFormat
from ranker.errors import UsageError
from ranker.schema import Mode, Record
from studio.evaluations import EvaluationRequest

MAX_PLAN_BYTES: Final = 1_000_000
_SEEDS: Final = EvaluationRequest().num_seeds
Positive = Annotated[int, Field(ge=1)]


class Section(Record):
    """One evaluation of a plan."""

    datasets: tuple[str, ...] = ()
    protocol: str = "paper"
    split: Literal["test", "all"] | None = None
    models: Literal["given"] | tuple[str, ...] = ()
    modes: tuple[str, ...] = (Mode.ITERATIVE.value,)
    think_tokens: tuple[Annotated[int, Field(ge=0)], ...] = ()
    answer: AnswerFormat | None = None
    with_thoughts: bool = False
    """Whether rows with the bank of `--thoughts` are made, where one is given."""
    baselines: tuple[str, ...] = ()
    limit: Positive | None = None
    mode_limits: Mapping[str, Positive] = {}
    row_minutes: Annotated[float, Field(gt=0)] | None = None
    seeds: Positive = _SEEDS
    early_stop: bool = False
    depth: Positive | None = None
    compare: tuple[tuple[str, str], ...] = ()


class PlanFile(Record):
    """The whole file."""

    sections: Annotated[tuple[Section, ...], Field(min_length=1)]


def read_plan(path: Path) -> PlanFile:
    """Raises UsageError, `file: field: value: fix`."""
    try:
        if path.stat().st_size > MAX_PLAN_BYTES:
            raise UsageError(f"{path}: is larger than {MAX_PLAN_BYTES:,} bytes: give a plan")
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise UsageError(f"--plan: {path}: {reason}: give a readable YAML file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UsageError(f"{path}{line}: {getattr(error, 'problem', None) or 'cannot be read'}: write YAML") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("sections"), list):
        raise UsageError(f"{path}: sections: missing: write a list of evaluations, such as - {{baselines: [all]}}")
    defaults: Any = raw.pop("defaults", None) or {}
    if not isinstance(defaults, dict):
        raise UsageError(f"{path}: defaults: {str(defaults)[:40]!r}: write fields, such as limit: 100")
    raw["sections"] = [{**defaults, **s} if isinstance(s, dict) else s for s in raw["sections"]]
    try:
        return PlanFile.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        fix = "no such field: remove it or correct its name" if first["type"] == "extra_forbidden" else first["msg"]
        raise UsageError(f"{path}: {field}: {str(first['input'])[:60]!r}: {fix}") from error


def make_requests(plan: PlanFile, given: EvaluationRequest) -> list[EvaluationRequest]:
    """The requests of a plan, in its order.

    Args:
        plan: as it was read.
        given: what the command line says: models, where files are, bounds.
    """
    requests = []
    for section in plan.sections:
        models = given.models if section.models == "given" else section.models
        datasets = [d for d in section.datasets if not given.datasets or d in given.datasets]
        if (section.models and not models) or (given.datasets and not datasets):
            continue
        requests.append(
            given.model_copy(
                update={
                    "datasets": tuple(datasets),
                    "protocol": section.protocol,
                    "split": section.split,
                    "models": models,
                    "modes": section.modes,
                    "think_tokens": section.think_tokens,
                    "answer": section.answer or given.answer,
                    "thoughts": given.thoughts if section.with_thoughts else None,
                    "baselines": section.baselines,
                    "limit": _least(section.limit, given.limit),
                    "mode_limits": {**section.mode_limits},
                    "row_minutes": _least(section.row_minutes, given.row_minutes),
                    "num_seeds": _least(section.seeds, given.num_seeds if given.num_seeds != _SEEDS else None),
                    "stop_early": section.early_stop,
                    "depth": section.depth,
                    "compare": (*section.compare, *given.compare),
                }
            )
        )
    return requests


def _least(*bounds: float | None) -> float | None:
    """The smallest of those that are given."""
    return min((b for b in bounds if b is not None), default=None)
