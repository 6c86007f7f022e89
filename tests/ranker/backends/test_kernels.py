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
    loop = kernels.Loop(kernels.gate, (gated, gated), gated.shape, num_threads=1)
    loop(torch.cat([x, torch.full_like(x, 3.0)], 1))
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
    seen = mask.contiguous() if is_masked else torch.empty(0, 0, 0, dtype=torch.bool)
    arrays = (rows[0], queries, owners, ends, seen, torch.empty(2, 6, 33), attended)
    attend = kernels.Loop(kernels.attend, arrays, (3, 2, 2, 3, 8, 5, 40, 33, seen.shape[-1]), num_threads=2)
    for layer in (1, 0):
        attend(rows[layer])
        keys, values = (part[owners][:, :, :33].repeat_interleave(3, 1) for part in rows[layer])  # (3, 6, 33, 8)
        scores = (queries.transpose(1, 2) @ keys.mT).masked_fill(~mask[:, None], -torch.inf)
        expected = (scores.softmax(-1).nan_to_num(0.0) @ values).transpose(1, 2)
        torch.testing.assert_close(attended, expected, rtol=1e-5, atol=1e-5)


@needs_kernels
def test_arrays_whose_addresses_mean_something_else_are_refused() -> None:
    kernels = load_kernels()
    assert kernels is not None
    whole = torch.zeros(2, 4)
    for wrong in (torch.zeros(2, 8)[:, ::2], whole.double()):
        with pytest.raises(AssertionError, match="addresses"):
            kernels.Loop(kernels.gate, (torch.zeros(2, 8), wrong), whole.shape, num_threads=1)
    loop = kernels.Loop(kernels.gate, (torch.zeros(2, 8), whole), whole.shape, num_threads=1)
    with pytest.raises(AssertionError, match="address"):
        loop(torch.zeros(8, 2).T)


@needs_kernels
@pytest.mark.parametrize("broken", ["gate", "rotate", "attend", "add_and_normalise"])
def test_compiled_loops_that_do_something_else_are_found_out(
    broken: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kernels = load_kernels()
    assert kernels is not None
    numba = pytest.importorskip("numba")
    idle = numba.cfunc(numba.types.void(numba.types.CPointer(numba.types.int64)))(lambda _: None)
    monkeypatch.setattr(kernels, broken, idle)
    lean = make_checked(make_model(*MODELS["llama"]))
    assert type(lean) is LeanForward
    assert "compiled loops" in caplog.text


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
