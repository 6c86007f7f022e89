"""From a checked config and its examples to a trainer that is ready to run. Imports torch and TRL."""

import math
from collections.abc import Sequence
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any, Final, NamedTuple

import torch
from datasets import Dataset
from peft import get_peft_model
from transformers import AutoTokenizer, TrainingArguments, set_seed
from trl import DPOConfig, GRPOConfig, GRPOTrainer, SFTConfig

from ranker.elimination import AnswerFormat
from ranker.errors import JobError
from trainer.checkpoints import AsideCheckpoints
from trainer.config import JobConfig
from trainer.critic import CriticOptions
from trainer.eliminations import EliminationArguments, EliminationTrainer
from trainer.encoding import Encoder, TitleRow
from trainer.followers import threads_of
from trainer.loading import choose_device, choose_dtype, keep_inputs, load_policy, new_adapter
from trainer.material import Material
from trainer.memory import STATES_AT_ONCE, ModelShape
from trainer.policy import Rewards
from trainer.ppo import PPOConfig, PPOTrainer
from trainer.preferences import PreferenceTrainer, encode_pairs
from trainer.rewards import PRESETS
from trainer.rollouts import Writer, can_write, frozen_weights_kept
from trainer.sft import (
    ReadingTrainer,
    WarmStartTrainer,
    encode_demonstrations,
    encode_likelihoods,
    encode_rationales,
    mix,
)
from trainer.titles import DEFAULT_SCALES, TitleTrainer, encode_titles
from trainer.trunk import Trunk

ZERO2: Final = {
    "zero_optimization": {"stage": 2},
    "zero_allow_untested_optimizer": True,  # AdamW of PyTorch
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "bf16": {"enabled": "auto"},
}
"""DeepSpeed's options; `auto` = as the trainer is told."""


class PassSize(NamedTuple):
    """The largest forward pass with gradients."""

    num_rows: int
    row_tokens: int
    logit_rows: int
    rollout_rows: int = 0
    """Completions of as many tokens, with their prompts, that are written at once."""
    trunk_bytes: int = 0
    """Of what is kept of the layers that are not trained."""


class Learner(NamedTuple):
    """A trainer, and what is known of it before it starts."""

    trainer: Any
    encoder: Encoder
    shape: ModelShape
    size: PassSize
    num_examples: int
    num_left_out: int
    """Examples that were too long or had no rationale."""


class KeepsRollouts:
    """Mixin for GRPO's trainer and ours: what was generated is kept for reading, with the advantage that it got."""

    rewards_log: Rewards | None = None

    def _generate(self, prompts: list[Any]) -> Any:
        trainer: Any = self
        if not trainer.use_vllm:
            return super()._generate(prompts)  # type: ignore[misc]
        with frozen_weights_kept(trainer.accelerator.unwrap_model(trainer.model)):
            return super()._generate(prompts)  # type: ignore[misc]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        out: dict[str, Any] = super()._generate_and_score_completions(inputs)  # type: ignore[misc]
        if self.rewards_log is not None:
            advantages, mask = out["advantages"], out["completion_mask"]
            if advantages.dim() == 2:  # one a token
                advantages = (advantages * mask).sum(1) / mask.sum(1).clamp(min=1)
            self.rewards_log.keep(advantages.tolist(), mask.sum(1).tolist())
        return out


class GroupTrainer(KeepsRollouts, AsideCheckpoints, GRPOTrainer):  # type: ignore[misc]
    """TRL's own GRPO, to compare with."""


class CriticTrainer(KeepsRollouts, PPOTrainer):
    """PPO whose rollouts can be read."""


def make_learner(config: JobConfig, base: Path, material: Material, out: Path, callbacks: Sequence[Any]) -> Learner:
    """Load the model and build the trainer of the config's kind.

    Raises:
        CheckpointError: if the base model or the adapter to start from does not load.
        JobError: if no example fits.
    """
    if config.num_threads or config.num_processes > 1:
        torch.set_num_threads(config.num_threads or threads_of(config.num_processes))
    set_seed(config.seed)
    if config.sharding != "none" and find_spec("deepspeed") is None:
        raise JobError(
            f"sharding: {config.sharding}: DeepSpeed is not installed: install the extra `deepspeed`, or say none"
        )
    device = choose_device(config)
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False, padding_side="left")
    dtype = choose_dtype(config, device)
    if device.type == "cuda" and dtype is torch.bfloat16:
        torch.set_float32_matmul_precision("high")  # the adapters' own matrices are float32
    model = load_policy(config, base, dtype)
    encoder = Encoder(tokenizer, config.answer_format)
    trainer, size, num_used = _MAKE[config.kind](config, model, encoder, material, out, callbacks, device)
    parameters = list(trainer.model.parameters())
    text_config = model.config.get_text_config()
    head_size = getattr(text_config, "head_dim", None) or text_config.hidden_size // text_config.num_attention_heads
    shape = ModelShape(
        num_parameters=sum(p.numel() for p in parameters),
        num_trained=sum(p.numel() for p in parameters if p.requires_grad),
        num_layers=text_config.num_hidden_layers,
        num_heads=text_config.num_attention_heads,
        hidden_size=text_config.hidden_size,
        vocabulary=text_config.vocab_size,
        kv_size=text_config.num_key_value_heads * head_size,
        num_backward_layers=config.num_backward_layers(text_config.num_hidden_layers),
    )
    return Learner(trainer, encoder, shape, size, num_used, max(0, len(material.examples.train) - num_used))


def _arguments(config: JobConfig, out: Path, device: torch.device) -> dict[str, Any]:
    """What every trainer is told in the same words."""
    o = config.optimizer
    return {
        "output_dir": str(out),
        "per_device_train_batch_size": o.batch_size,
        "gradient_accumulation_steps": o.accumulation,
        "learning_rate": o.learning_rate,
        "lr_scheduler_type": o.schedule,
        "warmup_steps": o.warmup_steps,
        "max_steps": o.max_steps,
        "max_grad_norm": o.max_grad_norm,
        "weight_decay": 0.0,
        "seed": config.seed,
        "logging_steps": config.log_every,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": config.save_every,
        "save_total_limit": config.keep_checkpoints,
        "gradient_checkpointing": config.gradient_checkpointing,
        "use_cpu": device.type == "cpu",
        "deepspeed": ZERO2 if config.sharding == "zero2" else None,
        "ddp_backend": "gloo" if device.type == "cpu" and config.num_processes > 1 else None,
        "bf16": config.lora is None and config.precision == "bf16",
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
    }


def _make_titles(
    config: JobConfig,
    model: Any,
    encoder: Encoder,
    material: Material,
    out: Path,
    callbacks: Any,
    device: Any,
) -> tuple[Any, PassSize, int]:
    rows = encode_titles(encoder, material.examples.train, config.max_prompt_tokens)
    _check_any(rows, config)
    policy = _with_adapter(config, model)
    trainer = TitleTrainer(
        model=policy,
        args=TrainingArguments(remove_unused_columns=False, **_arguments(config, out, device)),
        train_dataset=rows,
        processing_class=encoder.tokenizer,
        callbacks=list(callbacks),
        loss=config.titles.loss,
        scale=config.titles.scale or DEFAULT_SCALES[encoder.answer_format],
        kl_weight=config.titles.kl_weight,
        trunk=_trunk(config, policy),
    )
    return trainer, _size_of_titles(config, policy, [r["row"] for r in rows]), len(rows)


def _make_exclusions(
    config: JobConfig,
    model: Any,
    encoder: Encoder,
    material: Material,
    out: Path,
    callbacks: Any,
    device: Any,
) -> tuple[Any, PassSize, int]:
    rows = [r["row"] for r in encode_titles(encoder, material.examples.train, config.max_prompt_tokens)]
    _check_any(rows, config)
    policy, p = _with_adapter(config, model), config.ppo
    trainer = EliminationTrainer(
        model=policy,
        args=EliminationArguments(
            remove_unused_columns=False,
            rollout_size=p.rollout_size,
            group_size=p.group_size,
            num_epochs=p.epochs,
            clip=p.clip,
            entropy_coef=p.entropy_coef,
            **_critic_options(config),
            **_arguments(config, out, device),
        ),
        processing_class=encoder.tokenizer,
        callbacks=list(callbacks),
        rows=rows,
        scale=config.titles.scale or DEFAULT_SCALES[encoder.answer_format],
        is_whole=encoder.answer_format is AnswerFormat.LIKELIHOOD,
        normalisation=PRESETS[config.reward].normalisation,
        lot=_lot(config),
        rollouts_path=out.parent / "rollouts.jsonl",
        trunk=_trunk(config, policy),
    )
    return trainer, _size_of_titles(config, policy, rows), len(rows)


def _with_adapter(config: JobConfig, model: Any) -> Any:
    """The model with the adapter that is trained, or as it is where it has one or all weights are trained."""
    adapter = new_adapter(config, model)
    policy = model if adapter is None else get_peft_model(model, adapter)
    return policy if config.copies_inputs(policy.dtype.itemsize) else keep_inputs(policy)


def _trunk(config: JobConfig, policy: Any) -> Trunk | None:
    return Trunk.of(policy, int(config.lora.kept_gb * 1e9)) if config.lora else None


def _size_of_titles(config: JobConfig, policy: Any, rows: Sequence[TitleRow]) -> PassSize:
    longest_row = max(text.num_tokens for row in rows for text in row.texts)
    most_tokens = _most_of([row.num_tokens for row in rows], config.optimizer.batch_size)
    most_scored = _most_of([row.num_scored_tokens for row in rows], config.optimizer.batch_size)
    text_config = policy.config.get_text_config()
    token_bytes = text_config.hidden_size * next(policy.parameters()).element_size()
    return PassSize(
        -(-most_tokens // longest_row),
        longest_row,
        most_scored if config.lora is None else min(most_scored, STATES_AT_ONCE),
        trunk_bytes=config.trunk_bytes(text_config.num_hidden_layers, sum(row.num_tokens for row in rows), token_bytes),
    )


def _most_of(numbers: Sequence[int], batch_size: int) -> int:
    """What the sum of so many, drawn at random, hardly ever exceeds: four standard deviations above its mean, at most so many times the largest."""
    sum_of_batch = batch_size * fmean(numbers) + 4 * pstdev(numbers) * math.sqrt(batch_size)
    return math.ceil(min(sum_of_batch, batch_size * max(numbers)))


def _make_sft(
    config: JobConfig,
    model: Any,
    encoder: Encoder,
    material: Material,
    out: Path,
    callbacks: Any,
    device: Any,
) -> tuple[Any, PassSize, int]:
    train, is_reading = material.examples.train, config.sft.teach == "likelihood"
    if is_reading:
        rows = encode_likelihoods(encoder, train, config.max_prompt_tokens)
    else:
        made = encode_rationales(encoder, train, config.max_prompt_tokens)
        shown = encode_demonstrations(encoder, material.demonstrations, config.max_prompt_tokens)
        rows = mix(made, shown, config.sft.demonstration_share)
    _check_any(rows, config)
    arguments = {"train_sampling_strategy": "group_by_length", **_arguments(config, out, device)}
    shared = {
        "train_dataset": Dataset.from_list(rows),
        "processing_class": encoder.tokenizer,
        "callbacks": list(callbacks),
    }
    if is_reading:
        trainer: Any = ReadingTrainer(
            model=_with_adapter(config, model),
            args=TrainingArguments(**arguments),
            pad_id=encoder.tokenizer.pad_token_id,
            **shared,
        )
    else:
        trainer = WarmStartTrainer(
            model=model, args=SFTConfig(max_length=None, **arguments), peft_config=new_adapter(config, model), **shared
        )
    longest, size = max(len(r["input_ids"]) for r in rows), config.optimizer.batch_size
    return trainer, PassSize(size, longest, size * longest), len(rows)


def _make_dpo(
    config: JobConfig,
    model: Any,
    encoder: Encoder,
    material: Material,
    out: Path,
    callbacks: Any,
    device: Any,
) -> tuple[Any, PassSize, int]:
    rows = encode_pairs(encoder, material.examples.train, config.max_prompt_tokens)
    _check_any(rows, config)
    trainer = PreferenceTrainer(
        model=model,
        args=DPOConfig(
            max_length=None, beta=config.dpo.beta, loss_type=[config.dpo.loss], **_arguments(config, out, device)
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=encoder.tokenizer,
        callbacks=list(callbacks),
        peft_config=new_adapter(config, model),
    )
    longest = max(len(r["prompt_ids"]) + max(len(r["chosen_ids"]), len(r["rejected_ids"])) for r in rows)
    size = 2 * config.optimizer.batch_size
    return trainer, PassSize(size, longest, size * longest), len(rows)


def _make_rollouts(
    config: JobConfig,
    model: Any,
    encoder: Encoder,
    material: Material,
    out: Path,
    callbacks: Any,
    device: Any,
) -> tuple[Any, PassSize, int]:
    examples = material.examples.train
    prompts = [example.render(encoder.chat_text) for example in examples]
    ids = {p.text: encoder.prompt_ids(p) for p in prompts}
    rows = [
        {"prompt": p.text, "example": k} for k, p in enumerate(prompts) if len(ids[p.text]) <= config.max_prompt_tokens
    ]
    _check_any(rows, config)
    rewards = Rewards(examples, PRESETS[config.reward], out.parent / "rollouts.jsonl", lot=_lot(config))
    shared = {
        "model": model,
        "reward_funcs": rewards.functions(),
        "train_dataset": Dataset.from_list(rows),
        "processing_class": encoder.tokenizer,
        "callbacks": list(callbacks),
        "peft_config": new_adapter(config, model),
    }
    p = config.ppo
    if _is_written_by_us(config, model):
        shared["rollout_func"] = Writer(ids.__getitem__, max_tokens=p.max_completion_tokens, temperature=p.temperature)
    options = _rollout_options(config, out, device)
    if config.kind == "grpo":
        arguments: Any = GRPOConfig(num_generations=p.group_size, beta=p.kl_coef, **options)
        trainer: Any = GroupTrainer(args=arguments, **shared)
    else:
        arguments = PPOConfig(
            num_generations=1,
            **_critic_options(config),
            **options,
        )
        trainer = CriticTrainer(args=arguments, prompt_pieces=ids.__getitem__, **shared)
    trainer.rewards_log = rewards
    longest = max(len(ids[str(row["prompt"])]) for row in rows) + p.max_completion_tokens
    size = config.optimizer.batch_size
    return trainer, PassSize(size, longest, size * p.max_completion_tokens, config.rollout_rows), len(rows)


_MAKE: Final = {
    "titles": _make_titles,
    "sft": _make_sft,
    "dpo": _make_dpo,
    "ppo": _make_rollouts,
    "ppo-exclusions": _make_exclusions,
    "grpo": _make_rollouts,
}


def _critic_options(config: JobConfig) -> dict[str, Any]:
    """What both PPO trainers are told in the same words (`trainer.critic.CriticOptions`)."""
    p = config.ppo
    return {field.name: getattr(p, field.name) for field in fields(CriticOptions)}


def _lot(config: JobConfig) -> int | None:
    """The seed of a reward by lot, None where the reward is the true one."""
    return config.seed if config.placebo == "random-reward" else None


def _rollout_options(config: JobConfig, out: Path, device: torch.device) -> dict[str, Any]:
    p = config.ppo
    vllm: dict[str, Any] = {}
    if p.rollouts == "vllm":
        vllm = {
            "use_vllm": True,
            "vllm_mode": "colocate",
            "vllm_gpu_memory_utilization": p.vllm_memory,
            "vllm_max_model_length": config.max_prompt_tokens + p.max_completion_tokens,
        }
    return {
        **_arguments(config, out, device),
        **vllm,
        "steps_per_generation": p.rollout_size // (config.optimizer.batch_size * config.num_processes),
        "num_iterations": p.epochs,
        "max_completion_length": p.max_completion_tokens,
        "temperature": p.temperature,
        "epsilon": p.clip,
        "entropy_coef": p.entropy_coef,
    }


def _is_written_by_us(config: JobConfig, model: Any) -> bool:
    """Raises JobError if what is asked for is not there."""
    wanted = config.ppo.rollouts
    if wanted == "vllm" and find_spec("vllm") is None:
        raise JobError(
            "ppo.rollouts: vllm: is not installed: install the extra `vllm`, or choose studio or transformers"
        )
    if wanted == "studio" and not can_write(model):
        raise JobError(
            f"ppo.rollouts: studio: does not know models of type {model.config.model_type}: choose transformers"
        )
    return wanted == "studio" or (wanted == "auto" and can_write(model))


def _check_any(rows: Sequence[Any], config: JobConfig) -> None:
    if not rows:
        raise JobError(f"max_prompt_tokens: {config.max_prompt_tokens}: every example is longer: raise it")
