"""PPO on a tiny model: it learns, its first epoch is on policy, its first step costs no KL, and resuming changes nothing."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
import trl
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    TrainerCallback,
)
from trl import GRPOTrainer

from ranker.errors import CheckpointError
from trainer.checkpoints import complete_checkpoints, newest_checkpoint
from trainer.ppo import FIXED, PPOConfig, PPOTrainer
from trainer.rollouts import Writer

NUM_PROMPTS = 64
LETTERS = "abcdefghijkl"
LORA = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")


def early_letters(completions: list[str], **_: Any) -> list[float]:
    """A rule that can be learnt: the share of letters from the first half of the alphabet that the model has."""
    return [sum(c in LETTERS[:6] for c in text) / 4 for text in completions]


@pytest.fixture(scope="module")
def letters_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve letters, two layers: small enough for a bandit to be learnt in seconds."""
    directory = tmp_path_factory.mktemp("letters-model")
    vocabulary = {"<pad>": 0, "<end>": 1, **{c: i + 2 for i, c in enumerate(LETTERS)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>", padding_side="left"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
        initializer_range=0.1,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    fast.save_pretrained(directory)
    return directory


class StopAt(TrainerCallback):
    def __init__(self, optimizer_step: int) -> None:
        self.optimizer_step = optimizer_step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.optimizer_step:
            control.should_save = control.should_training_stop = True


def make_trainer(
    model_dir: Path, out: Path, *, max_steps: int, stop_at: int | None = None, is_ours: bool = True, **changes: Any
) -> PPOTrainer:
    """`is_ours`: our own sampler writes the completions, not `generate` of transformers."""
    options: dict[str, Any] = {
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 1,
        "steps_per_generation": 2,
        "num_iterations": 2,
        "num_generations": 1,
        "max_completion_length": 4,
        "learning_rate": 1e-2,
        "value_learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "seed": 3,
        "kl_coef": 0.02,
    }
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    writer = Writer(lambda prompt: tokenizer(prompt)["input_ids"], max_tokens=4, temperature=1.0)
    return PPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32),
        reward_funcs=[early_letters],
        args=PPOConfig(output_dir=str(out), max_steps=max_steps, **{**options, **changes}),
        train_dataset=Dataset.from_list([{"prompt": LETTERS[n % 12] + LETTERS[n // 12]} for n in range(NUM_PROMPTS)]),
        processing_class=tokenizer,
        callbacks=[StopAt(stop_at)] if stop_at else [],
        peft_config=LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"),
        rollout_func=writer if is_ours else None,
    )


def history(trainer: PPOTrainer) -> list[dict[str, float]]:
    timing = ("time", "runtime", "per_second")
    rows = [row for row in trainer.state.log_history if "loss" in row]
    return [{k: v for k, v in row.items() if not any(t in k for t in timing)} for row in rows]


WRITERS = pytest.mark.parametrize("is_ours", [True, False], ids=["studio", "transformers"])


@pytest.fixture(scope="module", params=[True, False], ids=["studio", "transformers"])
def learned(
    letters_model_dir: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> list[dict[str, float]]:
    trainer = make_trainer(
        letters_model_dir,
        tmp_path_factory.mktemp("ppo"),
        max_steps=80,
        is_ours=request.param,
        per_device_train_batch_size=16,
    )
    trainer.train()
    return history(trainer)


def test_reward_rises_on_a_learnable_rule(learned: list[dict[str, float]]) -> None:
    first = sum(row["objective/score"] for row in learned[:8:4]) / 2
    scores = [row["objective/score"] for row in learned if "objective/score" in row]
    assert first < 0.62
    assert sum(scores[-4:]) / 4 > first + 0.2


def test_the_first_epoch_is_on_policy_and_the_second_is_not(learned: list[dict[str, float]]) -> None:
    """Four optimizer steps a rollout: the first sees the policy that sampled, so its ratio is 1 and nothing is clipped."""
    for row in learned[::4]:
        assert row["policy/ratio"] == pytest.approx(1, abs=1e-6)
        assert row["policy/approx_kl"] == pytest.approx(0, abs=1e-9)
        assert row["clip_ratio/region_mean"] == 0
    assert max(abs(row["policy/ratio"] - 1) for row in learned[2::4]) > 1e-4


def test_the_sampler_is_the_policy_that_is_trained(letters_model_dir: Path, tmp_path: Path) -> None:
    """After updates too, when the adapter says something."""
    trainer = make_trainer(letters_model_dir, tmp_path, max_steps=24)
    trainer.train()
    off = [row["sampling/sampling_logp_difference/mean"] for row in history(trainer)[::4]]
    assert len(off) == 6 and max(off) < 1e-5


def test_the_first_rollout_costs_no_divergence(learned: list[dict[str, float]]) -> None:
    assert learned[0]["objective/kl"] == pytest.approx(0, abs=1e-6)
    assert learned[0]["value/mean"] == 0
    assert max(abs(row.get("objective/kl", 0)) for row in learned) > 0.01


def test_the_critic_learns_too(learned: list[dict[str, float]]) -> None:
    assert learned[0]["value/loss"] > 2 * min(row["value/loss"] for row in learned[-12:])


@WRITERS
@pytest.mark.parametrize("stop_at", [4, 6])
def test_a_resumed_run_is_the_uninterrupted_one(
    letters_model_dir: Path, tmp_path: Path, stop_at: int, is_ours: bool
) -> None:
    """Stopped at the end of a rollout (4) and in the middle of one (6); 24 steps are more than an epoch of the data."""
    whole = make_trainer(letters_model_dir, tmp_path / "whole", max_steps=24, is_ours=is_ours)
    whole.train()
    stopped = {"stop_at": stop_at, "save_strategy": "steps", "save_steps": 100}
    first = make_trainer(letters_model_dir, tmp_path / "parts", max_steps=24, is_ours=is_ours, **stopped)
    first.train()
    assert first.state.global_step == stop_at
    second = make_trainer(letters_model_dir, tmp_path / "parts", max_steps=24, is_ours=is_ours)
    second.train(resume_from_checkpoint=str(newest_checkpoint(tmp_path / "parts")))
    assert history(second) == history(whole)
    assert torch.equal(second.value_head.linear.weight, whole.value_head.linear.weight)
    for (name, left), (_, right) in zip(second.model.named_parameters(), whole.model.named_parameters(), strict=True):
        assert torch.equal(left, right), name


def test_a_checkpoint_of_an_earlier_critic_is_refused_in_words(letters_model_dir: Path, tmp_path: Path) -> None:
    trainer = make_trainer(letters_model_dir, tmp_path, max_steps=1)
    with pytest.raises(CheckpointError, match="its critic cannot go on: clone the job"):
        trainer.load_critic({"value_head": trainer.value_head.state_dict()})


def test_a_checkpoint_has_its_name_only_when_it_is_whole(letters_model_dir: Path, tmp_path: Path) -> None:
    trainer = make_trainer(
        letters_model_dir, tmp_path, max_steps=3, save_strategy="steps", save_steps=1, save_total_limit=2
    )
    trainer.train()
    assert [p.name for p in complete_checkpoints(tmp_path)] == ["checkpoint-3", "checkpoint-2"]
    assert not (tmp_path / ".partial").exists()
    (tmp_path / "checkpoint-3" / "trainer_state.json").write_text('{"cut sho')
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-2"


CANARIES = {
    "_tokenize_prompts": ["self", "prompts"],
    "_calculate_rewards": ["self", "inputs", "prompts", "completions", "completion_ids_list"],
    "_generate_and_score_completions": ["self", "inputs"],
    "_generate": ["self", "prompts"],
    "_compute_loss": ["self", "model", "inputs"],
    "_get_train_sampler": ["self", "dataset"],
    "_save_checkpoint": ["self", "model", "trial"],
}


def test_what_is_overridden_is_still_there() -> None:
    """A new TRL has to be read before it is used: everything below is private to it."""
    assert trl.__version__ == "1.16.0"
    for name, parameters in CANARIES.items():
        assert list(inspect.signature(getattr(GRPOTrainer, name)).parameters) == parameters, name
    log_probs = list(inspect.signature(GRPOTrainer._get_per_token_logps_and_entropies).parameters)
    assert log_probs[:7] == [
        "self", "model", "input_ids", "attention_mask", "logits_to_keep", "batch_size", "compute_entropy",
    ]  # fmt: skip
    assert set(FIXED) <= set(inspect.signature(trl.GRPOConfig).parameters)
    source = inspect.getsource(GRPOTrainer)
    assert "self.rollout_func(prompts, self)" in source and '{"prompt_ids", "completion_ids", "logprobs"}' in source
    assert list(inspect.signature(GRPOTrainer._get_learning_rate).parameters) == ["self"]
    for used in ("self._buffered_inputs", "self._step ", "self._metrics", "advantages.dim() == 1", "reward_weights"):
        assert used in source, used


def test_prompts_are_tokenised_in_their_pieces(letters_model_dir: Path, tmp_path: Path) -> None:
    trainer = make_trainer(letters_model_dir, tmp_path, max_steps=1)
    trainer._prompt_pieces = lambda prompt: [7, len(prompt)]
    assert trainer._tokenize_prompts(["abc", "a"])[0] == [[7, 3], [7, 1]]
