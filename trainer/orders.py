"""Which exclusions are right, wrong or open under what is known of a pool: a label, or a person's order with ties.

The rule. Of candidate c, `better` and `worse` are the numbers of candidates *of this pool* that are known to be better and
worse than c. Ties say nothing, and a candidate that the order leaves out is not comparable with anything. Then

    grade(c) = better / (better + worse)        the reward of excluding c, between 0 and 1
    grade(c) is None                            if c is comparable with nothing: the exclusion is open

so a grade of 1 is *right* (nothing is known to be worse than c, and something is known to be better), 0 is *wrong* (nothing
is known to be better), anything between is partly right. A label is an order of two tiers, the relevant ones before the
rest; the rule then gives the paper's reward: 1 for every candidate that is not relevant, 0 for the relevant one. Ours for
partial orders; the paper has labels only. This module does not know prompts or models.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ranker.errors import DatasetError
from ranker.schema import Correction, CorrectionKind, RankingTask

Tiers = tuple[tuple[str, ...], ...]
"""Candidate ids, best first; those of one inner tuple are tied; may leave candidates out."""
Grades = Mapping[str, float | None]
"""candidate_id -> grade of excluding it; None = open."""


def tiers_of_labels(task: RankingTask) -> Tiers:
    """The order that a task's relevance says: higher gains first; () if relevance is not known or the same for all."""
    gains = {i: float(task.relevance.get(i, 0)) for i in task.candidate_ids}
    levels = sorted(set(gains.values()), reverse=True)
    if len(levels) < 2:
        return ()
    return tuple(tuple(i for i in task.candidate_ids if gains[i] == level) for level in levels)


def grade_exclusions(tiers: Tiers, pool: Sequence[str]) -> dict[str, float | None]:
    """Grade the exclusion of every candidate of `pool` (see the rule above).

    Example:
        >>> grade_exclusions((("a",), ("b", "c"), ("d",)), ["a", "b", "d", "x"])
        {'a': 0.0, 'b': 0.5, 'd': 1.0, 'x': None}
    """
    level_of = {i: level for level, tier in enumerate(tiers) for i in tier}
    levels = [level_of[i] for i in pool if i in level_of]
    grades: dict[str, float | None] = {}
    for candidate_id in pool:
        own = level_of.get(candidate_id)
        better = 0 if own is None else sum(level < own for level in levels)
        worse = 0 if own is None else sum(level > own for level in levels)
        grades[candidate_id] = better / (better + worse) if better + worse else None
    return grades


def random_floor(grades: Grades) -> float:
    """Expected grade of an exclusion drawn from those that are not open; with one relevant of n: (n - 1) / n.

    Raises:
        ValueError: if everything is open.
    """
    known = [g for g in grades.values() if g is not None]
    if not known:
        raise ValueError("grades: every exclusion is open")
    return sum(known) / len(known)


def tiers_of_correction(correction: Correction, task: RankingTask) -> Tiers:
    """The order that a correction of kind `ranking` or `label` says; () for the other kinds.

    Payloads: `ranking` {"order": [[id, ...], ...]}; `label` {"relevant": [id, ...]} (the others are below).

    Raises:
        DatasetError: if the payload has another form or names candidates that the task does not have.
    """
    if correction.kind is CorrectionKind.RANKING:
        order = _field(correction, "order", list)
        if not all(isinstance(tier, list) for tier in order):
            raise _error(correction, "order", order, "write a list of lists of candidate ids, best first")
        tiers = tuple(tuple(str(i) for i in tier) for tier in order if tier)
        _check_known(correction, "order", [i for tier in tiers for i in tier], task)
        return tiers
    if correction.kind is CorrectionKind.LABEL:
        relevant = [str(i) for i in _field(correction, "relevant", list)]
        _check_known(correction, "relevant", relevant, task)
        rest = tuple(i for i in task.candidate_ids if i not in relevant)
        return (tuple(relevant), rest) if relevant and rest else ()
    return ()


def grade_step(correction: Correction, task: RankingTask) -> tuple[tuple[str, ...], dict[str, float | None]]:
    """The pool and the grades that a correction of kind `step` says.

    Payload: {"pool": [id, ...] as it was shown, "exclude": [id, ...], "keep": [id, ...]}, the last two optional. "Exclude x"
    says that x is worst: x is right, everything else wrong. "Exclude any of these" is the same for several. "Not this one"
    (`keep` alone) says that the kept ones are wrong, and leaves the rest open. Neither: cannot be decided, all is open.

    Returns:
        (pool as shown, candidate_id -> grade)

    Raises:
        DatasetError: as `tiers_of_correction`.
    """
    pool = tuple(str(i) for i in _field(correction, "pool", list))
    exclude = [str(i) for i in correction.payload.get("exclude") or ()]
    keep = [str(i) for i in correction.payload.get("keep") or ()]
    _check_known(correction, "pool", pool, task)
    for name, ids in (("exclude", exclude), ("keep", keep)):
        if not set(ids) <= set(pool):
            raise _error(correction, name, ids, "name only candidates of its pool")
    if set(exclude) & set(keep):
        raise _error(correction, "keep", keep, "a candidate cannot be kept and excluded")
    otherwise = 0.0 if exclude else None
    grades = {i: 1.0 if i in exclude else 0.0 if i in keep else otherwise for i in pool}
    return pool, grades


def _field(correction: Correction, name: str, kind: type) -> Any:
    value = correction.payload.get(name)
    if not isinstance(value, kind):
        raise _error(correction, name, value, f"a correction of kind {correction.kind.value} needs a list here")
    return value


def _check_known(correction: Correction, name: str, ids: Collection[str], task: RankingTask) -> None:
    unknown = set(ids) - set(task.candidate_ids)
    if unknown or len(set(ids)) != len(ids):
        shown = sorted(unknown) or list(ids)
        raise _error(correction, name, shown, f"use ids of task {task.task_id}, each once")


def _error(correction: Correction, name: str, value: object, fix: str) -> DatasetError:
    return DatasetError(f"correction {correction.correction_id}: payload.{name}: {str(value)[:80]}: {fix}")
