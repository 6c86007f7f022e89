"""The loops between the products of a decoding step: what they compute, and what happens where they do not run or are wrong."""

import sys

import pytest
import torch
from test_lean import MODELS, make_model, needs_kernels
from torch.nn import functional

from ranker.backends.fused import FusedForward
from ranker.backends.kv import KeyValueRows
from ranker.backends.lean import LeanForward
from ranker.backends.passes import load_kernels, make_checked


@needs_kernels
def test_the_gate_is_silu_to_the_last_digits() -> None:
    """Beyond 80, where e to the power of it is no float32 any more, only that it is next to nothing."""
    kernels = load_kernels()
    assert kernels is not None
    x = torch.cat([torch.linspace(-80, 80, 10_001), torch.tensor([-1e4, -200.0, 200.0, 1e4])])[None]
    gated = torch.empty_like(x)
    kernels.gate(torch.cat([x, torch.full_like(x, 3.0)], 1).numpy(), gated.numpy())
    torch.testing.assert_close(gated.double(), 3 * functional.silu(x.double()), rtol=1e-6, atol=1e-30)


@needs_kernels
@pytest.mark.parametrize("is_masked", [False, True])
def test_attention_is_that_of_pytorch(is_masked: bool) -> None:
    """Two tokens in each of three rows; who may see nothing gets nothing."""
    kernels = load_kernels()
    assert kernels is not None
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(3, 2, 6, 8, generator=generator)
    rows = 2 * torch.randn(2, 2, 5, 2, 40, 8, generator=generator)  # two layers, five rows, two heads that keep keys
    owners, ends = torch.tensor([4, 0, 2]), torch.tensor([33, 1, 18])
    mask = torch.arange(33) < ends[:, None, None].expand(-1, 2, -1)
    if is_masked:
        mask = mask & (torch.rand(3, 2, 33, generator=generator) < 0.5)
        mask[0, 1] = False
    attended = torch.full((3, 2, 6, 8), torch.nan)
    seen = mask.contiguous().numpy() if is_masked else None
    attend = kernels.Attention(
        queries.numpy(), rows.numpy(), owners.numpy(), ends.numpy(), seen, attended.numpy(), num_threads=2
    )
    for layer in (1, 0):
        attend(layer)
        keys, values = (part[owners][:, :, :33].repeat_interleave(3, 1) for part in rows[layer])  # (3, 6, 33, 8)
        scores = (queries.transpose(1, 2) @ keys.mT).masked_fill(~mask[:, None], -torch.inf)
        expected = (scores.softmax(-1).nan_to_num(0.0) @ values).transpose(1, 2)
        torch.testing.assert_close(attended, expected, rtol=1e-5, atol=1e-5)


@needs_kernels
def test_arrays_whose_addresses_mean_something_else_are_refused() -> None:
    kernels = load_kernels()
    assert kernels is not None
    queries, rows, one = torch.zeros(1, 1, 2, 4), torch.zeros(1, 2, 1, 1, 8, 4), torch.ones(1, dtype=torch.int64)
    strided = torch.zeros(1, 1, 2, 8)[..., ::2]
    with pytest.raises(AssertionError, match="addresses"):
        kernels.Attention(queries.numpy(), rows.numpy(), one.numpy(), one.numpy(), None, strided.numpy(), 1)


@needs_kernels
@pytest.mark.parametrize("broken", ["gate", "rotate", "add_and_normalise"])
def test_compiled_loops_that_do_something_else_are_found_out(
    broken: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(load_kernels(), broken, lambda *_: None)
    lean = make_checked(make_model(*MODELS["llama"]))
    assert type(lean) is LeanForward
    assert "compiled loops" in caplog.text


@needs_kernels
def test_a_wrong_attention_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_kernels().Attention, "__call__", lambda *_: None)  # type: ignore[union-attr]
    assert type(make_checked(make_model(*MODELS["llama"]))) is LeanForward


@needs_kernels
def test_how_many_threads_attend_changes_no_bit() -> None:
    model = make_model(*MODELS["llama"])
    lean = make_checked(model)
    assert isinstance(lean, FusedForward)
    rows = KeyValueRows(model.config, 4, dtype=torch.float32, device=torch.device("cpu"))
    rows.grow(32, 0)
    rows.data.normal_(generator=torch.Generator().manual_seed(0))
    ids, positions = torch.tensor([3, 1, 4]), torch.tensor([12, 30, 5])
    found, num_threads = [], torch.get_num_threads()
    try:
        for n in (1, 2, 5):
            torch.set_num_threads(n)
            with torch.inference_mode():
                found.append(lean.step(ids, positions, 31, rows, is_ragged=True))
    finally:
        torch.set_num_threads(num_threads)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_without_numba_there_are_no_compiled_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    load_kernels.cache_clear()
    monkeypatch.setitem(sys.modules, "numba", None)
    try:
        assert type(make_checked(make_model(*MODELS["llama"]))) is LeanForward
    finally:
        load_kernels.cache_clear()
