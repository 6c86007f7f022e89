"""The rows of keys and values: what growing keeps, and what it takes."""

from types import SimpleNamespace

import psutil
import torch

from ranker.backends.kv import KeyValueRows


def make_rows(num_rows: int, dtype: torch.dtype = torch.float32) -> KeyValueRows:
    config = SimpleNamespace(
        num_hidden_layers=4, num_key_value_heads=2, num_attention_heads=4, hidden_size=64, head_dim=16
    )
    return KeyValueRows(config, num_rows, dtype=dtype, device=torch.device("cpu"))


def test_growing_keeps_the_rows_that_are_used() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        rows = make_rows(3, dtype)
        rows.grow(100, 0)
        rows.data[:, :, :2, :, :100] = torch.randn(4, 2, 2, 2, 100, 16).to(dtype)
        before = rows.data[:, :, :2, :, :100].clone()
        rows.grow(600, 2)
        assert rows.capacity >= 600
        assert rows.data.dtype is dtype
        assert torch.equal(rows.data[:, :, :2, :, :100], before)
        assert not rows.data[:, :, :, :, 256:].any()


def test_rows_that_nobody_has_written_take_no_memory() -> None:
    """A CPU has room for 37 long rows, of which most rankings use one."""
    rows, process = make_rows(512), psutil.Process()
    before = process.memory_info().rss
    rows.grow(4096, 0)
    assert rows.data.nbytes >= 1 << 30
    assert process.memory_info().rss - before < 64 << 20
    rows.data[:, :, 0] = 1.0
    rows.grow(8192, 1)
    assert process.memory_info().rss - before < 128 << 20
