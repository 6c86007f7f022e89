"""What a run of many rankings came to: counts, quality beside the random floor, cost. Knows no file and no printing."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from ranker.metrics import random_floor_mrr, reciprocal_rank, skill_score
from ranker.schema import RankingTask, RankingTrace
from ranker.statistics import bootstrap_interval


class RunSummary:
    """Adds up traces as they come."""

    def __init__(self, cost: Callable[[int, int], float | None] | None = None) -> None:
        """`cost`: what so many prompt and written tokens cost, of a model whose prices are known."""
        self._cost = cost
        self.num_now = 0
        self.num_before = 0
        self._num_valid = 0
        self._outcomes: Counter[str] = Counter()
        self._deciders: Counter[str] = Counter()
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
        self._deciders.update(step.decided_by.value for step in trace.steps)
        found = reciprocal_rank(trace.ranking, task.relevance)
        if found is not None:
            self._reciprocal_ranks.append(found)
            self._floors.append(random_floor_mrr(len(task.candidates), len(task.relevant_ids)))
        if is_new:
            self._tokens["prompt"] += trace.totals.prompt_tokens
            self._tokens["cached_prompt"] += trace.totals.cached_prompt_tokens
            self._tokens["completion"] += trace.totals.completion_tokens

    def as_dict(self) -> dict[str, Any]:
        """All figures; `mrr`, its 95% interval, the random floor and the skill score are None where no relevance is known."""
        n = len(self._reciprocal_ranks)
        interval = bootstrap_interval(self._reciprocal_ranks) if n else None
        floor = sum(self._floors) / n if n else None
        return {
            "tasks": self.num_tasks,
            "ranked_now": self.num_now,
            "ranked_before": self.num_before,
            "valid_permutations": self._num_valid,
            "outcomes": dict(self._outcomes.most_common()),
            "decided_by": dict(self._deciders.most_common()),
            "mrr": interval.mean if interval else None,
            "mrr_interval_95": [interval.low, interval.high] if interval else None,
            "random_mrr": floor,
            "skill": skill_score(interval.mean, floor) if interval and floor is not None else None,
            "num_with_relevance": n,
            "prompt_tokens": self._tokens["prompt"],
            "cached_prompt_tokens": self._tokens["cached_prompt"],
            "completion_tokens": self._tokens["completion"],
            "cost": self._cost(self._tokens["prompt"], self._tokens["completion"]) if self._cost else None,
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
        if set(d["decided_by"]) - {"model", "score"}:
            lines.append(("decided by", ", ".join(f"{name} {count}" for name, count in d["decided_by"].items())))
        if d["mrr"] is not None:
            low, high = d["mrr_interval_95"]
            compared = f"random order {d['random_mrr']:.3f}, skill {d['skill']:+.3f}"
            lines.append(
                ("MRR", f"{d['mrr']:.3f} ({low:.3f} to {high:.3f}), {compared}, n = {d['num_with_relevance']}")
            )
        if self.num_now:
            cached = f"{d['cached_prompt_tokens']:,} of them cached"
            lines.append(("tokens", f"{d['prompt_tokens']:,} prompt ({cached}), {d['completion_tokens']:,} written"))
            if d["cost"] is not None:
                lines.append(("cost", f"{d['cost']:.4g} by the prices of its card"))
            lines.append(("time", f"{d['seconds']:.1f} s, {d['rankings_per_minute'] or 0:.1f} rankings a minute"))
        return lines
