"""Simulated annotators: people who follow a rule that the model does not know, with mistakes.

They are for measuring the loop from corrections to a better model, and for nothing else: a simulated correction says so in
its author. Ours. This module does not know models or jobs.
"""

import random
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from ranker.errors import UsageError
from ranker.schema import Candidate, Correction, CorrectionKind, RankingTask
from trainer.orders import Tiers

Rule = Callable[[Candidate], float | None]
"""How much the annotator likes a candidate (higher is better); None = cannot tell, so it is left out."""

AUTHOR: Final = "simulated"
_YEAR: Final = re.compile(r"\((1[89]\d\d|20\d\d)\)")


def year_of(candidate: Candidate) -> int | None:
    """The year of a film, from its metadata or its title."""
    stated = str(candidate.metadata.get("year", ""))
    if stated.isdecimal():
        return int(stated)
    found = _YEAR.search(candidate.text)
    return int(found[1]) if found else None


def _prefers_older(candidate: Candidate) -> float | None:
    year = year_of(candidate)
    return None if year is None else -float(year)


def _prefers_shorter_titles(candidate: Candidate) -> float | None:
    return -float(len(candidate.title))


RULES: Final[Mapping[str, Rule]] = {"older": _prefers_older, "shorter-titles": _prefers_shorter_titles}


def order_by_rule(task: RankingTask, rule: Rule) -> Tiers:
    """The order that somebody who follows `rule` without a mistake would give; equally liked ones are tied."""
    liking = {c.candidate_id: value for c in task.candidates if (value := rule(c)) is not None}
    levels = sorted(set(liking.values()), reverse=True)
    return tuple(tuple(i for i, value in liking.items() if value == level) for level in levels)


def simulate_corrections(
    tasks: Iterable[RankingTask], rule_name: str, *, noise: float, seed: int = 0, created_at: str = "simulated"
) -> list[Correction]:
    """One correction of the ranking a task: half of them whole orders, half only the first three and the rest tied.

    Args:
        rule_name: see `RULES`.
        noise: probability that a candidate is misjudged: it is then liked as much as a random other one of the task.
        seed: the same arguments give the same corrections.

    Raises:
        UsageError: if there is no such rule.
    """
    if rule_name not in RULES:
        raise UsageError(f"rule: {rule_name!r}: no such rule: choose one of {', '.join(RULES)}")
    rule, rng, made = RULES[rule_name], random.Random(seed), []
    for task in tasks:
        felt = {c.candidate_id: rng.choice(task.candidates) if rng.random() < noise else c for c in task.candidates}
        order = order_by_rule(task, lambda c, felt=felt: rule(felt[c.candidate_id]))  # type: ignore[misc]
        if rng.random() < 0.5 and len(order) > 4:
            order = (*order[:3], tuple(i for tier in order[3:] for i in tier))
        if len(order) >= 2:
            made.append(
                Correction(
                    correction_id=f"{AUTHOR}-{rule_name}-{seed}-{task.task_id}",
                    task_id=task.task_id,
                    kind=CorrectionKind.RANKING,
                    author=f"{AUTHOR}:{rule_name}",
                    created_at=created_at,
                    payload={"order": [list(tier) for tier in order]},
                )
            )
    return made


def shuffle_corrections(
    corrections: Iterable[Correction], tasks: Mapping[str, RankingTask], seed: int
) -> list[Correction]:
    """The placebo: the same corrections, with the candidates of each exchanged at random, so that they teach no rule."""
    rng, made = random.Random(seed), []
    for correction in corrections:
        ids = list(tasks[correction.task_id].candidate_ids)
        other = dict(zip(ids, rng.sample(ids, len(ids)), strict=True))
        order = [[other[i] for i in tier] for tier in correction.payload["order"]]
        update = {"payload": {"order": order}, "author": f"{correction.author}:shuffled"}
        made.append(correction.model_copy(update=update))
    return made
