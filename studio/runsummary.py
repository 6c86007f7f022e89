"""What a run of many rankings came to: counts, quality beside the random floor, cost. Knows no file and no printing."""

import math
from collections import Counter
from typing import Any

from ranker.metrics import random_floor_mrr, reciprocal_rank, skill_score
from ranker.schema import RankingTask, RankingTrace

Z_95 = 1.96


class RunSummary:
    """Adds up traces as they come."""

    def __init__(self) -> None:
        self.num_now = 0
        self.num_before = 0
        self._num_valid = 0
        self._outcomes: Counter[str] = Counter()
        self._reciprocal_ranks: list[float] = []
        self._floors: list[float] = []
        self._tokens: Counter[str] = Counter()
        self.wall_s = 0.0
        """Of the rankings made now, without loading the model."""

    @property
    def num_tasks(self) -> int:
        return self.num_now + self.num_before

    def add(self, task: RankingTask, trace: RankingTrace, *, is_new: bool) -> None:
        """Count one ranking; `is_new` = it was made now, not read from an earlier run."""
        self.num_now += is_new
        self.num_before += not is_new
        self._num_valid += sorted(trace.ranking) == sorted(task.candidate_ids)
        self._outcomes.update(outcome.value for outcome in (step.outcome for step in trace.steps))
        found = reciprocal_rank(trace.ranking, task.relevance)
        if found is not None:
            self._reciprocal_ranks.append(found)
            self._floors.append(random_floor_mrr(len(task.candidates), len(task.relevant_ids)))
        if is_new:
            self._tokens["prompt"] += trace.totals.prompt_tokens
            self._tokens["cached_prompt"] += trace.totals.cached_prompt_tokens
            self._tokens["completion"] += trace.totals.completion_tokens

    def as_dict(self) -> dict[str, Any]:
        """All figures. MRR, interval, floor and skill are None where no relevance is known.

        The interval is the half width of a normal 95% interval.
        """
        n = len(self._reciprocal_ranks)
        mrr = sum(self._reciprocal_ranks) / n if n else None
        floor = sum(self._floors) / n if n else None
        half_width = skill = None
        if mrr is not None and floor is not None:
            skill = skill_score(mrr, floor)
            if n > 1:
                variance = sum((x - mrr) ** 2 for x in self._reciprocal_ranks) / (n - 1)
                half_width = Z_95 * math.sqrt(variance / n)
        return {
            "tasks": self.num_tasks,
            "ranked_now": self.num_now,
            "ranked_before": self.num_before,
            "valid_permutations": self._num_valid,
            "outcomes": dict(self._outcomes.most_common()),
            "mrr": mrr,
            "mrr_half_width_95": half_width,
            "random_mrr": floor,
            "skill": skill,
            "num_with_relevance": n,
            "prompt_tokens": self._tokens["prompt"],
            "cached_prompt_tokens": self._tokens["cached_prompt"],
            "completion_tokens": self._tokens["completion"],
            "seconds": round(self.wall_s, 3),
            "rankings_per_minute": round(60 * self.num_now / self.wall_s, 2) if self.wall_s else None,
        }

    def lines(self) -> list[tuple[str, str]]:
        """The same for people: name and text."""
        d = self.as_dict()
        valid = f"{d['valid_permutations'] / self.num_tasks:.1%}" if self.num_tasks else "-"
        lines = [
            ("tasks", f"{d['tasks']} ({d['ranked_now']} ranked now, {d['ranked_before']} before)"),
            ("permutations", f"{valid} valid"),
            ("outcomes", ", ".join(f"{name} {count}" for name, count in d["outcomes"].items()) or "-"),
        ]
        if d["mrr"] is not None:
            interval = "" if d["mrr_half_width_95"] is None else f" +-{d['mrr_half_width_95']:.3f} (95%)"
            lines.append(
                (
                    "MRR",
                    f"{d['mrr']:.3f}{interval}, random order {d['random_mrr']:.3f}, skill {d['skill']:+.3f}, n = {d['num_with_relevance']}",
                )
            )
        if self.num_now:
            cached = f"{d['cached_prompt_tokens']:,} of them cached"
            lines.append(("tokens", f"{d['prompt_tokens']:,} prompt ({cached}), {d['completion_tokens']:,} written"))
            lines.append(("time", f"{d['seconds']:.1f} s, {d['rankings_per_minute'] or 0:.1f} rankings a minute"))
        return lines
