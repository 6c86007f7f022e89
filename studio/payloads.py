"""What a correction may say: the payload of every kind, checked against its task and brought into its one stored form.

The stored form is the one that `trainer.orders` reads, so that there is one meaning of a payload: an order for `ranking`, the
relevant ones for `label`, and for `step` the pool as it was shown with what is right (`exclude`) and wrong (`keep`) to
exclude. Beside that it keeps what the person chose (`verdict`) and what it cost them. Knows no store and no page.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ranker.errors import DatasetError, UsageError
from ranker.schema import Correction, CorrectionKind, EliminationStep, RankingTask
from trainer.orders import grade_step, tiers_of_correction

MAX_REASONING_CHARS: Final = 20_000


class Verdict(StrEnum):
    """What somebody says of one step."""

    EXCLUDE = "exclude"
    """Not this one: exclude the named one."""
    ANY = "any"
    """Any of the named ones."""
    NOT_THIS = "not_this"
    """Not this one; which one, is left open."""
    RIGHT_WRONG_REASON = "right_wrong_reason"
    """The right exclusion for a wrong reason."""
    RIGHT = "right"
    """The right exclusion."""
    UNDECIDABLE = "undecidable"
    """It cannot be decided from what is shown."""


class _Payload(BaseModel):
    """What every kind may hold beside its meaning."""

    model_config = ConfigDict(extra="forbid")

    start: Literal["model", "blank", "blind"] | None = None
    """What the person started from."""
    clicks: Annotated[int, Field(ge=0)] | None = None
    keys: Annotated[int, Field(ge=0)] | None = None
    gestures: Annotated[int, Field(ge=0)] | None = None
    """Drags with mouse, finger or pen."""


class _Ranking(_Payload):
    order: list[list[str]]
    top: Annotated[int, Field(ge=1)] | None = None
    """"Only the top k matter": so many stand above the person's line, all others are the last tier. The order says the same,
    so training reads the order alone; this lets the page draw the line again."""


class _Label(_Payload):
    relevant: list[str]


class _Flag(_Payload):
    flag: Annotated[str, Field(max_length=80)] | None = None
    withdrawn: str | None = None


class _Step(_Payload):
    step_index: Annotated[int, Field(ge=0)] | None = None
    verdict: Verdict | None = None
    exclude_ids: list[str] | None = None
    """Another name for `exclude`, with a verdict."""
    pool: list[str] | None = None
    exclude: list[str] = []
    keep: list[str] = []
    reasoning: Annotated[str, Field(max_length=MAX_REASONING_CHARS)] | None = None
    """The thought as the person would have it."""
    rating: Annotated[int, Field(ge=1, le=5)] | None = None
    """Of the model's thought; 5 is best."""


_FORMS: Final[Mapping[CorrectionKind, type[_Payload]]] = {
    CorrectionKind.RANKING: _Ranking,
    CorrectionKind.LABEL: _Label,
    CorrectionKind.FLAG: _Flag,
    CorrectionKind.STEP: _Step,
}


def checked_payload(
    kind: CorrectionKind, payload: Mapping[str, Any], task: RankingTask, steps: Sequence[EliminationStep] = ()
) -> dict[str, Any]:
    """The payload in its stored form.

    Args:
        kind: of the correction.
        payload: as the page, a client or a file has it.
        task: that it is about.
        steps: of the trace that it is about; fill in what a verdict on a step refers to.

    Raises:
        UsageError: `correction: payload.field: value: fix`.
    """
    try:
        form = _FORMS[kind].model_validate(dict(payload))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(("payload", *map(str, first["loc"])))
        raise UsageError(f"correction: {field}: {str(first['input'])[:60]!r}: {first['msg'].lower()}") from error
    if isinstance(form, _Step):
        form = _complete(form, steps)
    stored = form.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    stored |= {name: getattr(form, name) for name in ("order", "relevant", "pool") if hasattr(form, name)}
    if isinstance(form, _Ranking):
        stored["order"] = _checked_order(form.order)
        if form.top is not None and form.top != sum(map(len, stored["order"][:-1])):
            raise UsageError(
                f"correction: payload.top: {form.top}: so many are to stand before the last tier: leave it out or mend it"
            )
    _check_meaning(kind, stored, task)
    return stored


def _checked_order(order: list[list[str]]) -> list[list[str]]:
    tiers = [tier for tier in order if tier]
    if sum(map(len, tiers)) < 2:
        raise UsageError(
            f"correction: payload.order: {order!r}: says nothing yet: put two candidates in order at least"
        )
    return tiers


def _check_meaning(kind: CorrectionKind, payload: Mapping[str, Any], task: RankingTask) -> None:
    """What training will read has to be readable."""
    correction = Correction(
        correction_id="new", task_id=task.task_id, kind=kind, author="-", created_at="-", payload=payload
    )
    try:
        if kind is CorrectionKind.STEP:
            grade_step(correction, task)
        else:
            tiers_of_correction(correction, task)
    except DatasetError as error:
        raise UsageError(str(error).replace("correction new", "correction", 1)) from error


def _complete(form: _Step, steps: Sequence[EliminationStep]) -> _Step:
    """Fill in pool, `exclude` and `keep` from the verdict and the step that it is on."""
    step = None
    if steps and form.step_index is not None:
        if form.step_index >= len(steps):
            raise UsageError(
                f"correction: payload.step_index: {form.step_index}: the trace has {len(steps)} steps: count from 0"
            )
        step = steps[form.step_index]
    pool = form.pool if form.pool is not None else list(step.pool) if step else None
    if pool is None:
        raise UsageError("correction: payload.pool: None: name the trace and step_index, or the pool as it was shown")
    if step is not None and pool != list(step.pool):
        raise UsageError(
            f"correction: payload.pool: {str(pool)[:60]}: is not the pool of step {form.step_index}: leave it out"
        )
    filled: dict[str, Any] = {"pool": pool, "exclude_ids": None}
    if form.verdict is not None:
        filled |= _meaning_of(form, form.verdict, step)
    elif form.exclude_ids is not None:
        raise UsageError("correction: payload.exclude_ids: needs a verdict: say what they are")
    return form.model_copy(update=filled)


def _meaning_of(form: _Step, verdict: Verdict, step: EliminationStep | None) -> dict[str, list[str]]:
    named = form.exclude_ids if form.exclude_ids is not None else form.exclude
    models_own = list(step.exclusions) if step else []
    match verdict:
        case Verdict.EXCLUDE if len(named) != 1:
            raise UsageError(
                f"correction: payload.exclude_ids: {named}: `exclude` names exactly one: use `any` for several"
            )
        case Verdict.ANY if len(named) < 2:
            raise UsageError(
                f"correction: payload.exclude_ids: {named}: `any` names two at least: use `exclude` for one"
            )
        case Verdict.EXCLUDE | Verdict.ANY:
            return {"exclude": named, "keep": []}
        case Verdict.NOT_THIS:
            return {"exclude": [], "keep": _known_exclusions(form.keep or models_own, verdict)}
        case Verdict.RIGHT | Verdict.RIGHT_WRONG_REASON:
            return {"exclude": _known_exclusions(named or models_own, verdict), "keep": []}
    if named:
        raise UsageError(
            f"correction: payload.exclude_ids: {named}: what cannot be decided names nothing: leave it out"
        )
    return {"exclude": [], "keep": []}


def _known_exclusions(ids: list[str], verdict: Verdict) -> list[str]:
    if not ids:
        raise UsageError(
            f"correction: payload.verdict: {verdict.value}: name the trace and step_index that it is about"
        )
    return ids
