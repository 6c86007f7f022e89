"""PPO with a critic on TRL's maintained GRPO trainer, which brings reward functions, LoRA, accelerate and vLLM.

TRL removed its PPO trainer after 1.12. What is added here: a value head with its clipped loss, GAE, the KL penalty inside the
reward, prompts tokenised in the engine's pieces, and everything that a bit-exact resume needs. Overridden (canary tests pin
the signatures and the version of TRL): `_tokenize_prompts`, `_get_per_token_logps_and_entropies`, `_calculate_rewards`,
`_generate_and_score_completions`, `_compute_loss`, `_get_train_sampler`, `_save_checkpoint`, `train`.

Where it departs from Schulman et al. 2017: an episode is one completion, a time step one token, the reward comes at the last
token and a KL penalty to the reference policy (adapter off) at every token; advantages are whitened over the whole rollout
batch; the critic shares the backbone, reads the hidden state *before* each token, and starts at 0. Where it departs from the
paper: LoRA instead of all weights, KL in the reward only (the paper adds a KL loss of the same weight: `kl_in_loss`), one
schedule for two learning rates, several epochs a rollout, lambda .95 instead of 1. Preset `paper` takes the paper's values.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from accelerate.utils import send_to_device
from torch import nn
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from trainer.checkpoints import AsideCheckpoints
from trainer.critic import CriticOptions, HasCritic, clipped_errors
from trainer.gae import estimate_advantages
from trainer.loading import without_adapter

FIXED: Final = {
    "loss_type": "bnpo",  # mean over tokens
    "importance_sampling_level": "token",
    "scale_rewards": "none",
    "multi_objective_aggregation": "sum_then_normalize",
    "top_entropy_quantile": 1.0,
    "off_policy_mask_threshold": None,
    "delta": None,
    "mask_truncated_completions": False,
    "disable_dropout": True,
    "sync_ref_model": False,
    "use_bias_correction_kl": False,
}
"""Options of GRPO that would change the objective silently."""


@dataclass
class PPOConfig(CriticOptions, GRPOConfig):  # type: ignore[misc]
    """GRPO's options with PPO's beside them.

    `num_iterations` = epochs over a rollout; `steps_per_generation / gradient_accumulation_steps` = minibatches an epoch.
    """

    def __post_init__(self) -> None:
        for name, value in FIXED.items():
            setattr(self, name, value)
        self.beta = self.kl_coef  # other than 0, or GRPO computes no reference
        wanted: int = self.num_generations  # type: ignore[has-type]
        self.num_generations = max(2, wanted)  # GRPO insists on groups of 2; PPO has a critic instead
        super().__post_init__()
        self.num_generations = wanted


class PPOTrainer(HasCritic, AsideCheckpoints, GRPOTrainer):  # type: ignore[misc]
    """One actor with a LoRA adapter (or all weights), one value head beside it."""

    _tag_names: Final = ["trl", "ppo"]
    _name = "PPO"

    def __init__(self, *args: Any, prompt_pieces: Callable[[str], list[int]] | None = None, **kwargs: Any) -> None:
        """As GRPOTrainer; `prompt_pieces`: prompt -> ids, None = the tokenizer on the whole text."""
        super().__init__(*args, **kwargs)
        self._prompt_pieces = prompt_pieces
        self.add_critic()
        self._hidden: list[torch.Tensor] | None = None  # last hidden states of a scoring pass, one per chunk
        self._passes: list[tuple[torch.Tensor, torch.Tensor]] = []  # (log-probabilities, values) of the policy's passes
        self._sampler: Any = None
        self._scores = torch.zeros(0)
        without_adapter(self.model).base_model.register_forward_hook(self._keep_hidden)
        self.add_callback(_OrderCallback(self))

    def _keep_hidden(self, _module: nn.Module, _args: Any, output: Any) -> None:
        if self._hidden is not None:
            self._hidden.append(output.last_hidden_state)

    # ---- rollouts ----------------------------------------------------------------------------------------------------

    def _tokenize_prompts(self, prompts: list[str]) -> Any:
        pieces = self._prompt_pieces
        return super()._tokenize_prompts(prompts) if pieces is None else ([pieces(p) for p in prompts], None, {})

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Any, attention_mask: Any, logits_to_keep: int, *args: Any, **kwargs: Any
    ) -> Any:
        """As GRPO's, and the values from the same forward pass: of the state before each token of the completion."""
        self._hidden = []
        try:
            out = super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, *args, **kwargs
            )
        finally:
            hidden, self._hidden = self._hidden, None
        if hidden:  # none from a separate reference model
            before = torch.cat([h[:, -logits_to_keep - 1 : -1] for h in hidden])  # (B, T, E)
            self._passes.append((out[0].detach(), self.value_head(before)))
        return out

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Any:
        self._scores = super()._calculate_rewards(*args, **kwargs)  # (processes * B, functions)
        return self._scores

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Replace GRPO's group-relative advantages by GAE over the critic's values; all (B, T)."""
        self._passes = []
        out: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if "old_per_token_logps" not in out:
            self._passes = []
            self._score_rollout(out)
        log_probs, values = self._passes[0]  # the policy's pass comes before the reference's
        self._passes = []
        mask = out["completion_mask"]
        first = self.accelerator.process_index * len(inputs)
        per_function = self._scores[first : first + len(inputs)]
        scores = (per_function * self.reward_weights.to(per_function.device)).nansum(1)  # (B,)
        is_scored = ~per_function.isnan().all(1)
        if (sampled := out.get("sampling_per_token_logps")) is not None:  # by what wrote the completions
            off = self._sum((sampled - log_probs).abs() * mask) / self._sum(mask).clamp(min=1)
            self._note("sampling/sampling_logp_difference/mean", off)
        divergence = (log_probs - out.get("ref_per_token_logps", log_probs)) * mask
        rewards = torch.zeros_like(divergence) if self.args.kl_in_loss else -self.args.kl_coef * divergence
        last = mask.sum(1).clamp(min=1) - 1
        rewards[torch.arange(len(inputs), device=last.device), last] += scores
        estimate = estimate_advantages(rewards, values, mask, gamma=self.args.gamma, lam=self.args.lam)
        valid = mask * is_scored[:, None]
        out["advantages"] = self._whiten(estimate.advantages, valid) * valid
        out["returns"] = torch.where(valid.bool(), estimate.returns, values)
        out["values"] = values
        self._note_rollout(scores, divergence, rewards, values, estimate.returns, valid)
        return out

    def _score_rollout(self, out: dict[str, Any]) -> None:
        """The policy's pass, which GRPO leaves out where a rollout is used for one step only."""
        ids = torch.cat([out["prompt_ids"], out["completion_ids"]], 1)
        mask = torch.cat([out["prompt_mask"], out["completion_mask"]], 1)
        size = self.args.per_device_train_batch_size
        with torch.no_grad():
            self._get_per_token_logps_and_entropies(self.model, ids, mask, out["completion_ids"].size(1), size)

    def _note_rollout(self, scores: Any, divergence: Any, rewards: Any, values: Any, returns: Any, valid: Any) -> None:
        num_rows, num_tokens = self._sum(torch.ones_like(scores)), self._sum(valid).clamp(min=1)
        error_mean = self._sum((returns - values) * valid) / num_tokens
        return_mean = self._sum(returns * valid) / num_tokens
        error = self._sum((returns - values - error_mean) ** 2 * valid)
        spread = self._sum((returns - return_mean) ** 2 * valid)
        self._note("objective/kl", self._sum(divergence) / num_rows)
        self._note("objective/score", self._sum(scores) / num_rows)
        self._note("objective/reward", self._sum(rewards) / num_rows)
        self._note("value/mean", self._sum(values * valid) / num_tokens)
        self._note("value/explained_variance", (1 - error / spread.clamp(min=1e-8)).clamp(min=-1))

    # ---- updates -----------------------------------------------------------------------------------------------------

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """GRPO's clipped surrogate and entropy bonus, and the critic's clipped loss."""
        self._passes = []
        beta: float = self.beta  # type: ignore[has-type]
        self.beta = beta if self.args.kl_in_loss else 0.0
        try:
            loss: torch.Tensor = super()._compute_loss(model, inputs)
        finally:
            self.beta = beta
        ((log_probs, values),) = self._passes
        self._passes = []
        mask = inputs["completion_mask"]
        value_loss = self._value_loss(values, inputs["values"], inputs["returns"], mask)
        log_ratio = (log_probs - inputs.get("old_per_token_logps", log_probs)) * mask
        num_tokens = self._sum(mask).clamp(min=1)
        self._note("policy/ratio", self._sum(log_ratio.exp() * mask) / num_tokens)
        self._note("policy/approx_kl", self._sum((log_ratio.exp() - 1 - log_ratio) * mask) / num_tokens)
        accumulation = self.current_gradient_accumulation_steps if self.model.training else 1
        return loss + self.args.value_weight * value_loss / accumulation

    def _value_loss(self, values: Any, old: Any, returns: Any, mask: Any) -> torch.Tensor:
        errors = clipped_errors(values, old, returns, self.args.value_clip)
        is_clipped = errors > 0.5 * (values - returns) ** 2
        loss: torch.Tensor = (errors * mask).sum() / mask.sum().clamp(min=1)
        self._note("value/loss", loss.detach())
        self._note("value/clip_fraction", self._sum(is_clipped * mask) / self._sum(mask).clamp(min=1))
        return loss

    def _sum(self, x: torch.Tensor) -> torch.Tensor:
        """Over all processes."""
        total: torch.Tensor = self.accelerator.reduce(x.detach().float().sum(), "sum")
        return total

    def _whiten(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Mean 0 and variance 1 over the real tokens of all processes."""
        num_tokens = self._sum(mask).clamp(min=1)
        mean = self._sum(x * mask) / num_tokens
        variance = self._sum((x - mean) ** 2 * mask) / num_tokens
        return (x - mean) * torch.rsqrt(variance + 1e-8)

    def _note(self, name: str, value: Any) -> None:
        self._metrics["train" if self.model.training else "eval"][name].append(float(value))

    # ---- sampler, resume ----------------------------------------------------------------------------------

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        self._sampler = super()._get_train_sampler(dataset)
        return self._sampler

    def reseed_sampler(self, epoch: int) -> None:
        """Make the order of an epoch depend on its number, not on how many were drawn in this process."""
        generator = getattr(self._sampler, "generator", None)
        if generator is not None:
            generator.manual_seed(self.args.seed + epoch)

    def _save_beside(self, directory: Path) -> None:
        """Value head, position within the rollout, and the rollout itself if it is still in use."""
        is_used_up = self._step % (self.args.steps_per_generation * self.num_iterations) == 0
        state = {
            **self.critic_state(),
            "step": self._step,
            "rollout": None if is_used_up else self._buffered_inputs,
        }
        torch.save(state, directory / self._state_name())

    def _state_name(self) -> str:
        return f"ppo_state_{self.accelerator.process_index}.pt"

    def train(self, resume_from_checkpoint: str | None = None, **kwargs: Any) -> Any:
        """As transformers' Trainer; resuming continues the very same run."""
        if resume_from_checkpoint:
            path = Path(resume_from_checkpoint) / self._state_name()
            state = torch.load(path, map_location="cpu", weights_only=True)
            self.load_critic(state)
            self._step = state["step"]
            self._buffered_inputs = send_to_device(state["rollout"], self.accelerator.device)
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)


class _OrderCallback(TrainerCallback):  # type: ignore[misc]
    def __init__(self, trainer: PPOTrainer) -> None:
        self._trainer = trainer

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._trainer.reseed_sampler(int(state.epoch or 0))
