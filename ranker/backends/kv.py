"""Keys and values of many sequences in one tensor, one row a sequence, and the attention that reads them.

A row belongs to one running sequence; its length is known to the engine, not here. Rows are preallocated, so a decoding step
neither copies nor grows what is there (a `DynamicCache` concatenates every layer at every token), and sequences of different
lengths share a batch without padding. Imports torch: load it only through `ranker.backends.engine`.
"""

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch.nn import functional
from transformers import AttentionInterface
from transformers.cache_utils import Cache

ATTENTION_NAME: Final = "ranking_studio"
_GROWTH_TOKENS: Final = 256


class KeyValueRows:
    """`data`: (num_layers, 2, num_rows, num_kv_heads, capacity, head_dim); index 0 of the second axis holds keys."""

    def __init__(self, config: Any, num_rows: int, *, dtype: torch.dtype, device: torch.device) -> None:
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._shape = (config.num_hidden_layers, 2, num_rows, config.num_key_value_heads)
        self._head_dim = head_dim
        self.data = torch.zeros(*self._shape, 0, head_dim, dtype=dtype, device=device)

    @property
    def capacity(self) -> int:
        """Tokens that fit into a row."""
        return int(self.data.shape[4])

    @property
    def bytes_per_token(self) -> int:
        """Of one row."""
        layers, two, _, heads = self._shape
        return int(layers * two * heads * self._head_dim * self.data.element_size())

    def grow(self, capacity: int, num_used: int) -> None:
        """Make rows at least `capacity` tokens long; what the first `num_used` hold stays.

        Fresh memory is zero, never NaN; on a CPU it takes no room until it is written.
        """
        if capacity <= self.capacity:
            return
        capacity = -(-capacity // _GROWTH_TOKENS) * _GROWTH_TOKENS
        data = torch.zeros(*self._shape, capacity, self._head_dim, dtype=self.data.dtype, device=self.data.device)
        data[:, :, :num_used, :, : self.capacity] = self.data[:, :, :num_used]
        self.data = data

    def read(self, row: int, length: int) -> torch.Tensor:
        """A copy of the first `length` tokens of a row: (num_layers, 2, num_kv_heads, length, head_dim)."""
        return self.data[:, :, row, :, :length].clone()

    def write(self, row: int, key_values: torch.Tensor) -> None:
        """Put a copy back at the start of a row."""
        self.data[:, :, row, :, : key_values.shape[3]] = key_values

    def move(self, source: int, target: int, length: int) -> None:
        """Move the first `length` tokens from one row to another."""
        self.data[:, :, target, :, :length] = self.data[:, :, source, :, :length]


class OneRow(Cache):  # type: ignore[misc]
    """For one forward pass of (1, L) tokens that stand behind `start` tokens of `row`."""

    def __init__(self, rows: KeyValueRows, row: int, start: int) -> None:
        super().__init__(layers=[])
        self._data, self._row, self._start = rows.data, row, start

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store (1, H_kv, L, D) and return everything of the row up to there."""
        layer, end = self._data[layer_idx], self._start + key_states.shape[2]
        layer[0, self._row, :, self._start : end] = key_states[0]
        layer[1, self._row, :, self._start : end] = value_states[0]
        return layer[0, self._row : self._row + 1, :, :end], layer[1, self._row : self._row + 1, :, :end]


class FirstRows(Cache):  # type: ignore[misc]
    """For one decoding step: one token for each of the first B rows, each at its own position."""

    def __init__(self, rows: KeyValueRows, positions: torch.Tensor) -> None:
        super().__init__(layers=[])
        self._data, self._positions = rows.data, positions  # (B,)
        self._rows = torch.arange(len(positions), device=positions.device)
        self._end = int(positions.max()) + 1

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store (B, H_kv, 1, D) and return the rows up to the longest."""
        layer, num_rows = self._data[layer_idx], len(self._positions)
        layer[0, self._rows, :, self._positions] = key_states[:, :, 0]
        layer[1, self._rows, :, self._positions] = value_states[:, :, 0]
        return layer[0, :num_rows, :, : self._end], layer[1, :num_rows, :, : self._end]


def tree_mask(start: int, num_behind: int, lengths: Sequence[int], device: torch.device) -> torch.Tensor:
    """(1, 1, L, S): the suffix is causal; each continuation sees prefix, suffix and itself, but no other continuation."""
    num_rows = num_behind + sum(lengths)
    mask = torch.zeros(num_rows, start + num_rows, dtype=torch.bool, device=device)
    mask[:, :start] = True
    behind = torch.ones(num_behind, num_behind, dtype=torch.bool, device=device).tril()
    mask[:num_behind, start : start + num_behind] = behind
    mask[num_behind:, start : start + num_behind] = True
    offset = num_behind
    for length in lengths:
        block = torch.ones(length, length, dtype=torch.bool, device=device).tril()
        mask[offset : offset + length, start + offset : start + offset + length] = block
        offset += length
    return mask[None, None]


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Grouped-query attention that never copies keys for the heads that share them.

    Shapes: query (B, H, L, D), key and value (B, H_kv, S, D), attention_mask bool (B, 1, L, S), True = may look.
    Returns (B, L, H, D). Equal to the model's own attention up to rounding (tested).
    """
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    if query.shape[2] > 1:
        out = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=attention_mask, scale=scale, enable_gqa=key.shape[1] != query.shape[1]
        )
        return out.transpose(1, 2).contiguous(), None
    batch, heads, _, dim = query.shape
    grouped = query.view(batch, key.shape[1], heads // key.shape[1], dim)  # (B, H_kv, G, D)
    weights = (grouped @ key.transpose(2, 3)) * scale  # (B, H_kv, G, S)
    weights = weights.masked_fill(~attention_mask, float("-inf")).softmax(-1, dtype=torch.float32).to(value.dtype)
    return (weights @ value).view(batch, 1, heads, dim), None


AttentionInterface.register(ATTENTION_NAME, attend)
