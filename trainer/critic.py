"""The critic that both PPO trainers have: a value head beside the model, its clipped loss, its own optimizer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from ranker.errors import CheckpointError
from trainer.loading import without_adapter


@dataclass
class CriticOptions:
    """What both trainers' arguments have beside the library's."""

    kl_coef: float = 0.05
    """Weight of KL(policy || reference)."""
    kl_in_loss: bool = False
    """Put it into the loss instead of the reward."""
    gamma: float = 1.0
    lam: float = 0.95
    value_weight: float = 0.1
    value_clip: float = 0.2
    value_learning_rate: float = 1e-3


class ValueHead(nn.Module):  # type: ignore[misc]
    """Hidden state -> expected return, float32, 0 at the start."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., E) -> (...)"""
        with torch.autocast(hidden.device.type, enabled=False):
            values: torch.Tensor = self.linear(hidden.float()).squeeze(-1)
            return values


def clipped_errors(values: torch.Tensor, old: torch.Tensor, returns: torch.Tensor, clip: float) -> torch.Tensor:
    """Half the squared error of each value, or that of the value clipped to within `clip` of the old one, if it is larger.

    Source: the code of Schulman et al. 2017; the paper of 2017 does not clip it.
    """
    clipped = old + (values - old).clamp(-clip, clip)
    return 0.5 * torch.max((values - returns) ** 2, (clipped - returns) ** 2)


class HasCritic:
    """Mixin for a trainer: its value head lives outside `model` (clean adapters), with an optimizer of its own.

    So nothing that wraps model and optimizer (DDP, ZeRO) has to know of it. Its rate follows the schedule of the model's.
    """

    value_head: ValueHead
    value_optimizer: torch.optim.Optimizer

    def add_critic(self) -> None:
        """Once `model` and `accelerator` are there. `args.value_learning_rate` is the head's own rate."""
        trainer: Any = self
        config = without_adapter(trainer.model).config.get_text_config()
        self.value_head = ValueHead(config.hidden_size).to(trainer.accelerator.device)
        self.value_optimizer = torch.optim.AdamW(self.value_head.parameters(), weight_decay=0.0)
        trainer.add_callback(_ValueHeadCallback(trainer))

    def critic_state(self) -> dict[str, Any]:
        """What a resumed run needs of it."""
        return {"value_head": self.value_head.state_dict(), "value_optimizer": self.value_optimizer.state_dict()}

    def load_critic(self, state: Mapping[str, Any]) -> None:
        """Go on with what `critic_state` gave.

        Raises:
            CheckpointError: if an earlier version wrote it, whose critic had no optimizer of its own.
        """
        if "value_optimizer" not in state:
            raise CheckpointError("checkpoint: an earlier version wrote it, and its critic cannot go on: clone the job")
        self.value_head.load_state_dict(state["value_head"])
        self.value_optimizer.load_state_dict(state["value_optimizer"])


class _ValueHeadCallback(TrainerCallback):  # type: ignore[misc]
    """Takes the head's step where the model's is taken."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        trainer, accelerator = self._trainer, self._trainer.accelerator
        parameters = list(trainer.value_head.parameters())
        if accelerator.num_processes > 1:
            for parameter in parameters:
                parameter.grad = accelerator.reduce(parameter.grad, "mean")
        if args.max_grad_norm > 0:
            nn.utils.clip_grad_norm_(parameters, args.max_grad_norm)
        (group,) = trainer.value_optimizer.param_groups
        group["lr"] = args.value_learning_rate * trainer._get_learning_rate() / args.learning_rate
        trainer.value_optimizer.step()
        trainer.value_optimizer.zero_grad()
