"""The policy as it was at the start, for a penalty on leaving it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class HasReference:
    """Mixin for a trainer: remembers the weights that are trained, as they were.

    Switching an adapter off would not do: one that is trained further would be pulled back to the base model.
    """

    _start: list[torch.Tensor]

    def remember_start(self) -> None:
        """Once `model` and `accelerator` are there, before anything is loaded over them to resume."""
        self._start = [parameter.detach().clone() for parameter in self._trained()]

    def _trained(self) -> Iterator[torch.nn.Parameter]:
        trainer: Any = self
        model = trainer.accelerator.unwrap_model(trainer.model)
        return (p for p in model.parameters() if p.requires_grad)

    @contextmanager
    def as_reference(self) -> Iterator[None]:
        """The model as it was, without gradients, for a while."""
        now = [(parameter, parameter.data) for parameter in self._trained()]
        for (parameter, _), start in zip(now, self._start, strict=True):
            parameter.data = start.to(parameter.device)
        try:
            with torch.no_grad():
                yield
        finally:
            for parameter, data in now:
                parameter.data = data
