"""Figures that a trainer notes between two lines of its metrics; a line has their means."""

from typing import Any

import torch


class Notes:
    """Mixin for transformers' Trainer."""

    def note(self, name: str, value: Any) -> None:
        """`value`: a number, or a tensor, each of whose values counts as much as a number."""
        numbers = value.detach().flatten().tolist() if isinstance(value, torch.Tensor) else [float(value)]
        if numbers:
            self.__dict__.setdefault("_noted", {}).setdefault(name, []).extend(numbers)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        noted = self.__dict__.pop("_noted", {})
        logs.update({name: sum(values) / len(values) for name, values in noted.items()})
        super().log(logs, start_time)  # type: ignore[misc]
