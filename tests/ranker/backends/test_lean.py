"""Our own forward pass against the modules of transformers, for every architecture that it says it knows."""

import asyncio
from pathlib import Path

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from ranker.backends import GenerateRequest, Prompt, ScoreRequest
from ranker.backends.forward import Forward, TransformersForward
from ranker.backends.fused import FusedForward
from ranker.backends.kv import ATTENTION_NAME, KeyValueRows
from ranker.backends.lean import _linear
from ranker.backends.local import load_local
from ranker.backends.passes import load_kernels, make_checked

SHAPE = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.4,
    "attn_implementation": ATTENTION_NAME,
}
YARN = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA_3 = YARN | {"original_max_position_embeddings": 32}


def make_model(kind: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedModel:
    torch.manual_seed(0)
    model = kind(config).eval()
    with torch.no_grad():  # norms and biases that do something
        for name, parameter in model.named_parameters():
            if "norm" in name or "bias" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig(**SHAPE)),
    "llama with biases": (LlamaForCausalLM, LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True)),
    "llama 3 rope": (LlamaForCausalLM, LlamaConfig(**SHAPE, rope_parameters=LLAMA_3)),
    "mistral": (MistralForCausalLM, MistralConfig(**SHAPE, sliding_window=None, head_dim=8)),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**SHAPE)),
    "qwen3, tied": (Qwen3ForCausalLM, Qwen3Config(**SHAPE, head_dim=16, tie_word_embeddings=True)),
}


needs_kernels = pytest.mark.skipif(load_kernels() is None, reason="no compiled loops on this machine")


def extend(forward: Forward, ids: torch.Tensor, starts: list[int], rows: KeyValueRows, first: int) -> torch.Tensor:
    """Hidden states (B * L, E) of plain text behind the first `starts` tokens of neighbouring rows."""
    columns = torch.tensor(starts)[:, None] + torch.arange(ids.shape[1])
    mask = torch.arange(int(columns.max()) + 1) <= columns[..., None]
    return forward.extend(ids, columns, columns, mask, rows, first).flatten(0, 1)


@pytest.mark.parametrize("has_kernels", [pytest.param(True, marks=needs_kernels), False])
@pytest.mark.parametrize("name", MODELS)
def test_hidden_states_are_those_of_transformers(name: str, has_kernels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prefix in blocks, what comes behind it under a mask with holes, and steps of three rows of different lengths."""
    monkeypatch.setattr("ranker.backends.lean._BLOCK", 4)
    model = make_model(*MODELS[name])
    lean = make_checked(model, has_kernels=has_kernels)
    assert lean is not None
    assert isinstance(lean, FusedForward) is has_kernels
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 97, (3, 20), generator=generator)
    results = []
    for forward in (TransformersForward(model), lean):
        rows = KeyValueRows(model.config, 4, dtype=torch.float32, device=torch.device("cpu"))
        rows.grow(32, 0)
        found = []
        with torch.inference_mode():
            for row, length in enumerate((9, 14, 5)):
                found.append(extend(forward, ids[row : row + 1, :length], [0], rows, row))
            beside = torch.tensor([[5, 6, 7, 8]])
            mask = torch.cat([torch.ones(4, 5, dtype=torch.bool), torch.eye(4, dtype=torch.bool)], 1)[None]
            found.append(forward.extend(ids[2:, 5:9], torch.tensor([[5, 5, 5, 6]]), beside, mask, rows, 2)[0])
            for step in range(3):
                positions = torch.tensor([9, 14, 5]) + step
                found.append(forward.step(ids[:, 15 + step], positions, 15 + step, rows, is_ragged=True))
            found.append(forward.step(ids[:1, 19], torch.tensor([12]), 13, rows, is_ragged=False))
            found.append(extend(forward, ids[1:, 3:9], [10, 2], rows, 1))  # two rows at once, behind what they hold
            results.append(torch.cat([forward.logits(hidden) for hidden in found]))
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_half_precision_is_as_near_to_float32_as_transformers(name: str) -> None:
    half = make_model(*MODELS[name]).bfloat16()
    rotary = half.get_decoder().rotary_emb  # loading leaves these in float32, and so does the engine
    rotary.inv_freq = make_model(*MODELS[name]).get_decoder().rotary_emb.inv_freq
    lean = make_checked(half)
    assert lean is not None
    half.get_decoder().layers[1].mlp.register_forward_hook(lambda _module, _inputs, output: output * 1.5)
    assert make_checked(half) is None


needs_bfloat16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU has no products of bfloat16"
)


@needs_bfloat16
@pytest.mark.parametrize("name", MODELS)
def test_products_in_bfloat16_are_nearer_to_float32_than_a_model_in_bfloat16(name: str) -> None:
    """What goes into the matrices and comes out is rounded; norms, residuals, keys and values are not."""
    model = make_model(*MODELS[name])
    half = make_model(*MODELS[name]).bfloat16()
    half.get_decoder().rotary_emb.inv_freq = model.get_decoder().rotary_emb.inv_freq
    lean = make_checked(model, matrices=torch.bfloat16)
    assert lean is not None
    exact = log_probs_of(TransformersForward(model), model)
    ours, theirs = (
        (log_probs_of(forward, of) - exact).square().mean().sqrt()
        for forward, of in ((lean, model), (TransformersForward(half), half))
    )
    assert 0 < ours < theirs


def log_probs_of(forward: Forward, model: PreTrainedModel) -> torch.Tensor:
    """Of forty tokens, read at once: (40, V)."""
    ids, at = torch.randint(0, 97, (1, 40), generator=torch.Generator().manual_seed(1)), torch.arange(40)[None]
    mask = torch.ones(1, 40, 40, dtype=torch.bool).tril()
    rows = KeyValueRows(model.config, 2, dtype=model.dtype, device=torch.device("cpu"))
    rows.grow(40, 0)
    with torch.inference_mode():
        return forward.logits(forward.extend(ids, at, at, mask, rows, 0)[0]).float().log_softmax(-1)


needs_float16 = pytest.mark.skipif(
    "fbgemm" not in torch.backends.quantized.supported_engines, reason="this CPU has no FBGEMM"
)


@needs_float16
@pytest.mark.parametrize("name", MODELS)
def test_matrices_in_float16_are_the_only_numbers_that_are_rounded(name: str) -> None:
    """As near as a model whose matrices were rounded, and whose products are in float32."""
    model, rounded = make_model(*MODELS[name]), make_model(*MODELS[name])
    with torch.no_grad():
        for parameter in rounded.parameters():
            if parameter.dim() == 2 and parameter is not rounded.get_input_embeddings().weight:
                parameter.copy_(parameter.half().float())
    lean, whole = make_checked(model, matrices=torch.float16), make_checked(model)
    assert lean is not None and whole is not None
    exact = log_probs_of(TransformersForward(model), model)
    ours, theirs, without = (
        (log_probs_of(forward, of) - exact).square().mean().sqrt()
        for forward, of in ((lean, model), (TransformersForward(rounded), rounded), (whole, model))
    )
    assert 10 * without < ours < 3 * theirs


@needs_float16
def test_matrices_that_float16_cannot_hold_stay_in_float32() -> None:
    model = make_model(*MODELS["llama"])
    mlp = model.get_decoder().layers[0].mlp
    with torch.no_grad():
        mlp.up_proj.weight.mul_(1e6)
        mlp.down_proj.weight.mul_(1e-6)
    lean = make_checked(model, matrices=torch.float16)
    assert lean is not None
    torch.testing.assert_close(
        log_probs_of(lean, model), log_probs_of(TransformersForward(model), model), rtol=1e-4, atol=1e-4
    )


@needs_bfloat16
def test_sums_far_from_zero_keep_their_digits() -> None:
    """Rounding is relative, and the best logits of real models are beyond 20, where one step of bfloat16 is an eighth."""
    x, weight = torch.randn(64, 48), 0.1 * torch.randn(97, 48)
    x[:, 0], weight[:, 0] = 1.0, 24.0
    exact = x @ weight.T
    errors = [
        (_linear(weight, None, torch.bfloat16, less=less)(x) + less - exact).square().mean().sqrt()
        for less in (0.0, 24.0)
    ]
    assert errors[1] < errors[0] / 5


@needs_bfloat16
def test_a_pass_in_bfloat16_that_does_something_else_is_found_out() -> None:
    model = make_model(*MODELS["llama"])
    model.get_decoder().layers[1].mlp.register_forward_hook(lambda _module, _inputs, output: output * 1.5)
    assert make_checked(model, matrices=torch.bfloat16) is None


@needs_float16
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_only_a_model_in_float32_falls_back_to_matrices_in_float32(
    dtype: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    model = make_model(*MODELS["llama"])
    model = model.to(dtype)
    model.get_decoder().layers[1].mlp.register_forward_hook(lambda _module, _inputs, output: output * 1.5)
    assert make_checked(model, matrices=torch.float16) is None
    said = [record.getMessage().rpartition(": ")[2] for record in caplog.records]
    without = ["going on without"] if load_kernels() is not None else []  # compiled loops
    assert said == (["using float32", *without] if dtype is torch.float32 else []) + ["using transformers"]


def test_what_it_does_not_know_is_left_to_transformers() -> None:
    assert make_checked(make_model(Olmo2ForCausalLM, Olmo2Config(**SHAPE))) is None
    assert make_checked(make_model(LlamaForCausalLM, LlamaConfig(**SHAPE, hidden_act="gelu"))) is None
    sliding = Qwen2Config(**SHAPE, use_sliding_window=True, sliding_window=4, max_window_layers=1)
    assert make_checked(make_model(Qwen2ForCausalLM, sliding)) is None


def test_a_pass_that_does_not_come_to_the_same_is_not_used() -> None:
    """A family member that does something unseen is found out by the check at loading."""
    model = make_model(*MODELS["llama"])
    model.get_decoder().layers[1].mlp.register_forward_hook(lambda _module, _inputs, output: output * 1.5)
    assert make_checked(model) is None


def test_the_engine_says_the_same_on_either(tiny_model_dir: Path) -> None:
    prompt, texts = Prompt("Think between a film and one", " then two"), ("one", "a film and", "two")

    async def ask(is_reference: bool) -> tuple[str, tuple[float, ...]]:
        backend = load_local(tiny_model_dir, name="tiny", is_reference=is_reference, dtype=torch.float32)
        chunks = [c.text async for c in backend.generate(GenerateRequest(prompt=prompt, max_tokens=24))]
        scores = await backend.score(ScoreRequest(prompt=prompt, continuations=texts))
        await backend.aclose()
        return "".join(chunks), scores.log_probs

    (text, log_probs), (reference_text, reference_log_probs) = asyncio.run(ask(False)), asyncio.run(ask(True))
    assert text == reference_text
    assert log_probs == pytest.approx(reference_log_probs, abs=1e-4)
