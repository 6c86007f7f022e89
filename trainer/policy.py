"""The reward functions that TRL calls, and the rollouts that people read. One function a component, so that each is logged."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from trainer.examples import TrainingExample
from trainer.rewards import COMPONENTS, RewardConfig, RewardParts, explain

ROLLOUTS_PER_STEP: Final = 4
"""How many completions of a rollout are kept for reading."""

Reward = Callable[..., list[float]]


class Rewards:
    """Scores completions of numbered examples (column `example` of the data set)."""

    def __init__(self, examples: Sequence[TrainingExample], config: RewardConfig, rollouts_path: Path | None) -> None:
        self._examples, self._config, self._path = examples, config, rollouts_path

    def functions(self) -> list[Reward]:
        """One function for each component, the first of which also writes down what was generated."""
        return [self._make(name, is_first=k == 0) for k, name in enumerate(COMPONENTS)]

    def _make(self, name: str, *, is_first: bool) -> Reward:
        def score(
            prompts: Sequence[str], completions: Sequence[str], example: Sequence[int], **columns: Any
        ) -> list[float]:
            parts = [explain(c, self._examples[i], self._config) for c, i in zip(completions, example, strict=True)]
            if is_first:
                self._note(columns, parts)
                self._write(prompts, completions, example, parts, columns.get("trainer_state"))
            return [float(getattr(p, name)) for p in parts]

        score.__name__ = name
        return score

    def _note(self, columns: dict[str, Any], parts: Sequence[RewardParts]) -> None:
        """Shares that the curves show: well formed answers, and right exclusions against the random floor."""
        log_metric = columns.get("log_metric")
        if log_metric is None:
            return
        log_metric("answers/parsed", sum(p.outcome == "parsed" for p in parts) / len(parts))
        graded = [p for p in parts if p.grade is not None]
        if graded:
            log_metric("exclusion/grade", sum(p.grade or 0.0 for p in graded) / len(graded))
        log_metric("exclusion/random_floor", sum(p.floor for p in parts) / len(parts))

    def _write(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        numbers: Sequence[int],
        parts: Sequence[RewardParts],
        state: Any,
    ) -> None:
        if self._path is None or (state is not None and not state.is_world_process_zero):
            return
        with self._path.open("a", encoding="utf-8") as rollouts:
            for prompt, completion, number, part in list(zip(prompts, completions, numbers, parts, strict=True))[
                :ROLLOUTS_PER_STEP
            ]:
                example = self._examples[number]
                line = {
                    "optimizer_step": getattr(state, "global_step", 0),
                    "task_id": example.task.task_id,
                    "pool": example.pool,
                    "prompt": prompt,
                    "completion": completion,
                    "parts": part._asdict(),
                }
                rollouts.write(json.dumps(line, ensure_ascii=False) + "\n")
