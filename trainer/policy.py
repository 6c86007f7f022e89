"""The reward functions that TRL calls, and the rollouts that people read. One function a component, so that each is logged."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from ranker.schema import Mode
from trainer.examples import TrainingExample
from trainer.rewards import COMPONENTS, RewardConfig, RewardParts, explain

ROLLOUTS_PER_STEP: Final = 4
"""How many completions of a rollout are kept for reading."""

Reward = Callable[..., list[float]]


class Rewards:
    """Scores completions of numbered examples (column `example` of the data set)."""

    def __init__(
        self,
        examples: Sequence[TrainingExample],
        config: RewardConfig,
        rollouts_path: Path | None,
        *,
        lot: int | None = None,
    ) -> None:
        """`lot`: a seed; what is excluded is then rewarded by lot (placebo), form and length as ever."""
        self._examples, self._config, self._path, self._lot = examples, config, rollouts_path, lot
        self._lines: list[dict[str, Any]] = []

    def functions(self) -> list[Reward]:
        """One function for each component, the first of which also notes what was generated."""
        return [self._make(name, is_first=k == 0) for k, name in enumerate(COMPONENTS)]

    def keep(self, advantages: Sequence[float], num_tokens: Sequence[int]) -> None:
        """Write the noted completions down, now that their advantages are known."""
        if self._path is None or not self._lines:
            return
        with self._path.open("a", encoding="utf-8") as rollouts:
            for line, advantage, length in zip(self._lines, advantages, num_tokens, strict=False):
                whole = {**line, "advantage": round(advantage, 6), "num_tokens": int(length)}
                rollouts.write(json.dumps(whole, ensure_ascii=False) + "\n")
        self._lines = []

    def _make(self, name: str, *, is_first: bool) -> Reward:
        def score(
            prompts: Sequence[str], completions: Sequence[str], example: Sequence[int], **columns: Any
        ) -> list[float]:
            parts = [self._explain(c, self._examples[i]) for c, i in zip(completions, example, strict=True)]
            if is_first:
                self._note(columns, parts, example)
                self._note_lines(prompts, completions, example, parts, columns.get("trainer_state"))
            return [float(getattr(p, name)) for p in parts]

        score.__name__ = name
        return score

    def _explain(self, completion: str, example: TrainingExample) -> RewardParts:
        parts = explain(completion, example, self._config)
        if self._lot is None:
            return parts
        seed = f"{self._lot}\0{example.task.task_id}\0{example.pool}\0{completion}"
        won = hashlib.sha256(seed.encode()).digest()[0] % 2
        drawn = 1.0 if won else -1.0  # mean 0 and variance 1, as the standardised reward of a random policy
        total = parts.total - parts.exclusion - parts.ranking + drawn
        if example.mode is Mode.DIRECT:
            return parts._replace(ranking=drawn, total=total)
        return parts._replace(exclusion=drawn, total=total)

    def _note(self, columns: dict[str, Any], parts: Sequence[RewardParts], numbers: Sequence[int]) -> None:
        """Shares that the curves show: well formed answers, and right exclusions against the random floor, by pool size."""
        log_metric = columns.get("log_metric")
        if log_metric is None:
            return
        log_metric("answers/parsed", _mean([float(p.outcome == "parsed") for p in parts]))
        log_metric("exclusion/random_floor", _mean([p.floor for p in parts]))
        grades: dict[str, list[float]] = {}
        for part, number in zip(parts, numbers, strict=True):
            if part.grade is not None:
                for name in ("exclusion/grade", f"exclusion/grade/pool_{len(self._examples[number].pool)}"):
                    grades.setdefault(name, []).append(part.grade)
        for name, values in grades.items():
            log_metric(name, _mean(values))

    def _note_lines(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        numbers: Sequence[int],
        parts: Sequence[RewardParts],
        state: Any,
    ) -> None:
        if state is not None and not state.is_world_process_zero:
            return
        first = list(zip(prompts, completions, numbers, parts, strict=True))[:ROLLOUTS_PER_STEP]
        self._lines = [self._line(*each, optimizer_step=getattr(state, "global_step", 0)) for each in first]

    def _line(
        self, prompt: str, completion: str, number: int, part: RewardParts, *, optimizer_step: int
    ) -> dict[str, Any]:
        example = self._examples[number]
        return {
            "optimizer_step": optimizer_step,
            "task_id": example.task.task_id,
            "pool": example.pool,
            "grades": dict(example.grades),
            "tiers": example.tiers,
            "mode": example.mode.value,
            "shown": example.shown,
            "prompt": prompt,
            "completion": completion,
            "parts": part._asdict(),
        }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
