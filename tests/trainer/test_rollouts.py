"""The studio's own sampler of completions: the same policy as the one that is trained, whatever the prompts share."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from ranker.backends.kv import KeyValueRows
from ranker.errors import JobError
from trainer.rollouts import Completion, Writer, _lay_out, can_write, frozen_weights_kept, sample

END = 1
VOCABULARY = 50
SHARED = [5 + k % 11 for k in range(40)]


def make_policy(**changes: Any) -> Any:
    """A small model with an adapter that says something."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=END,
        **changes,
    )
    model = get_peft_model(LlamaForCausalLM(config), LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def log_probs_of(model: Any, prompt: list[int], completion: list[int], temperature: float) -> list[float]:
    """By the modules that are trained."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *completion]])).logits[0] / temperature
    picked = logits.log_softmax(-1)[torch.arange(len(prompt) - 1, len(prompt) + len(completion) - 1), completion]
    found: list[float] = picked.tolist()
    return found


def write(model: Any, prompts: list[list[int]], *, max_tokens: int = 12, **changes: Any) -> list[Completion]:
    with torch.inference_mode():
        forward, rows = _lay_out(model, changes.pop("num_rows", len(prompts)))
        options = {"temperature": 1.0, "end_ids": frozenset({END}), **changes}
        return sample(forward, rows, prompts, max_tokens=max_tokens, **options)


PROMPTS = [
    [*SHARED, 7, 8, 9],
    [3],
    [*SHARED, 7],
    [*SHARED, 7, 8, 9],
    [*SHARED, 20, 21, 22, 23, 24, 25],
    [3, 4],
    SHARED,
    [*SHARED[:35], 30],
    [9] * 60,
]
"""Neighbours with a common beginning, one that is the beginning of others, a repeated one, and some that share nothing."""


@pytest.mark.parametrize("num_rows", [9, 3], ids=["all at once", "in lots"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_what_is_sampled_has_the_trained_models_log_probabilities(num_rows: int, temperature: float) -> None:
    model = make_policy()
    rows = KeyValueRows(model.config, num_rows + 1, dtype=torch.float32, device=torch.device("cpu"))
    torch.manual_seed(0)
    forward = _lay_out(model, 9)[0]
    with torch.inference_mode():
        found = sample(
            forward, rows, PROMPTS, max_tokens=12, temperature=temperature, end_ids=frozenset({END, 2, 3, 4, 5})
        )
    lengths = [len(completion.ids) for completion in found]
    assert len(set(lengths)) > 3, "rows end at different times, so that places are exchanged"
    for prompt, completion in zip(PROMPTS, found, strict=True):
        expected = log_probs_of(model, prompt, completion.ids, temperature)
        assert completion.log_probs == pytest.approx(expected, abs=2e-4)


def test_a_completion_stops_at_its_end_token_or_at_the_limit() -> None:
    torch.manual_seed(0)
    ends = frozenset({END, 2, 3})
    for completion in write(make_policy(), PROMPTS * 3, max_tokens=8, end_ids=ends):
        *before, last = completion.ids
        assert not ends & set(before)
        assert last in ends or len(completion.ids) == 8


def test_tokens_are_drawn_as_often_as_the_policy_says() -> None:
    model, prompt = make_policy(), [4, 9, 2]
    torch.manual_seed(0)
    drawn = torch.tensor([c.ids[0] for c in write(model, [prompt] * 4000, max_tokens=1)])
    counts = torch.bincount(drawn, minlength=VOCABULARY)
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([prompt])).logits[0, -1].softmax(-1) * len(drawn)
    is_usual = expected >= 5
    chi_square = float(((counts - expected) ** 2 / expected)[is_usual].sum())
    assert chi_square < 2 * int(is_usual.sum())


def test_it_draws_again_what_it_drew_from_the_same_seed() -> None:
    model = make_policy()
    drawn = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        drawn.append([c.ids for c in write(model, PROMPTS)])
    assert drawn[0] == drawn[1] != drawn[2]


class FakeTrainer:
    """What a `Writer` asks of TRL's trainer."""

    eos_token_ids = (END,)

    def __init__(self, model: Any) -> None:
        self.model, self.accelerator = model, self

    def unwrap_model(self, model: Any) -> Any:
        return model


def test_another_policy_than_the_trained_one_is_not_learnt_from() -> None:
    model = make_policy()
    writer = Writer(lambda prompt: [ord(c) % VOCABULARY for c in prompt], max_tokens=6, temperature=1.0)
    # the modules without the adapter, the sampler with it
    with model.disable_adapter(), pytest.raises(JobError, match=r"set ppo\.rollouts to transformers"):
        writer(["abc"], FakeTrainer(model))
    out = writer(["abc", "bd"], FakeTrainer(model))
    assert out["prompt_ids"] == [[ord(c) % VOCABULARY for c in text] for text in ("abc", "bd")]
    assert [len(ids) for ids in out["completion_ids"]] == [len(x) for x in out["logprobs"]]


def test_weights_are_left_as_they_were() -> None:
    model = make_policy()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    write(model, PROMPTS)
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())


@pytest.mark.parametrize("is_kept", [True, False])
def test_weights_below_an_adapter_outlive_a_merge_in_half_precision(is_kept: bool) -> None:
    model = make_policy().to(torch.bfloat16)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    with frozen_weights_kept(model) if is_kept else nullcontext():
        model.merge_adapter()
        model.unmerge_adapter()
    assert is_kept == all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())


def test_it_says_which_models_it_knows() -> None:
    model = make_policy()
    assert can_write(model) and can_write(model.get_base_model())
    model.config.hidden_act = "gelu"
    assert not can_write(model)
