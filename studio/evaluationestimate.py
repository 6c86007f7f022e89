"""What an evaluation will take, before it is started: rankings, requests to models, and time where it was measured before.

A time is only given for systems that some kept evaluation has timed, scaled by the number of requests; for others it says so.
Knows no page.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from ranker.evaluation import PRESETS, Results, presets_of
from ranker.evaluation.methods import ALL_PAIRS_UP_TO, METHODS
from ranker.schema import Mode, Record
from studio.evaluations import NOT_IN_ALL, EvaluationRequest
from studio.library import Library

SAMPLE_TASKS: Final = 32
_BASELINE_S: Final = 0.01
"""A ranking by a baseline that was never timed."""


class Size(NamedTuple):
    """How large a dataset is."""

    num_tasks: int
    num_candidates: float


class Estimate(Record):
    """What is to come."""

    num_rankings: int
    num_requests: int
    """To models."""
    seconds: float | None
    """Of what was timed before; None where nothing was."""
    untimed: tuple[str, ...]
    """Systems of which no time is known."""
    unknown: tuple[str, ...]
    """Datasets of which no size is known: left out of the numbers."""


FindSize = Callable[[str], Size | None]


def estimate(
    request: EvaluationRequest, find_size: FindSize, past: Iterable[Results], budgets: Mapping[str, int]
) -> Estimate:
    """Add it up.

    Args:
        request: what will be asked for.
        find_size: dataset name -> size.
        past: results that were timed.
        budgets: model -> thinking budget of its card, for a request that names none.
    """
    timed = _timings(past)
    names = request.datasets or tuple(presets_of(request.protocol))
    sizes = {name: find_size(name) for name in names}
    num_rankings, num_requests, seconds = 0, 0, 0.0
    untimed: list[str] = []
    for system in _systems(request, budgets):
        for size in sizes.values():
            if size is None:
                continue
            limits = [size.num_tasks, request.limit, request.mode_limits.get(system.mode)]
            count = min(n for n in limits if n is not None) * request.num_seeds
            requests = count * _requests(system, size.num_candidates) if system.mode else 0.0
            num_rankings, num_requests = num_rankings + count, num_requests + round(requests)
            known = timed.get(system.name)
            if known is not None:
                seconds += known * (requests if system.mode else count)
            elif system.mode:
                untimed.append(system.name)
            else:
                seconds += _BASELINE_S * count
    models_only = bool(untimed) and not any(s.mode and s.name in timed for s in _systems(request, budgets))
    return Estimate(
        num_rankings=num_rankings,
        num_requests=num_requests,
        seconds=None if models_only else round(seconds, 1),
        untimed=tuple(dict.fromkeys(untimed)),
        unknown=tuple(name for name, size in sizes.items() if size is None),
    )


def sizes_of(library: Library, example: Results | None) -> FindSize:
    """Sizes of stored datasets, counted; of presets, as they were in the results that come with the studio."""

    def find(name: str) -> Size | None:
        wanted, _, version = name.partition("@")
        for info in library.datasets():
            if info.name == wanted and version in ("", str(info.version)):
                rows = library.tasks(info.id, limit=SAMPLE_TASKS).rows
                mean = sum(row.num_candidates for row in rows) / len(rows) if rows else 0.0
                return Size(info.num_tasks, mean)
        record = next((d for d in example.datasets if d.name == name), None) if example and name in PRESETS else None
        return None if record is None else Size(record.num_tasks, record.pool_sizes[1])

    return find


class _System(NamedTuple):
    name: str
    mode: str
    """Empty for a baseline."""
    think_tokens: int


def _systems(request: EvaluationRequest, budgets: Mapping[str, int]) -> list[_System]:
    from ranker.baselines import BASELINES

    baselines: list[str] = []
    for name in request.baselines:
        baselines += [b for b in BASELINES if b not in NOT_IN_ALL] if name == "all" else [name]
    found = [_System(name, "", 0) for name in dict.fromkeys(baselines)]
    for model in request.models:
        for mode in request.modes:
            own: Sequence[int] = request.think_tokens or (budgets.get(model, 0),)
            for tokens in (0,) if mode in (Mode.FIRST_TOKEN, *METHODS) else own:
                found.append(_System(f"{model}/{mode}" + (f"@{tokens}" if tokens else ""), mode, tokens))
    return found


def _requests(system: _System, num_candidates: float) -> float:
    """To the model, for one ranking: a thought and a scoring for each decision."""
    n = num_candidates
    if system.mode in METHODS:
        pairs = n * (n - 1) / 2 if n <= ALL_PAIRS_UP_TO else n * math.log2(n)
        return {"pointwise": n, "pairwise": 2 * pairs}.get(system.mode, 3 * n)
    decisions = 1.0 if system.mode in (Mode.DIRECT, Mode.FIRST_TOKEN) else max(1.0, n - 1)
    return decisions * (2 if system.think_tokens else 1)


def _timings(past: Iterable[Results]) -> dict[str, float]:
    """System name -> seconds a request (a ranking, for a baseline), mean over the rows that were timed."""
    rows: dict[str, list[float]] = {}
    for results in past:
        for row in results.rows:
            if row.usage.seconds:
                rows.setdefault(row.system, []).append(row.usage.seconds / (row.usage.num_calls or 1))
    return {name: sum(values) / len(values) for name, values in rows.items()}
