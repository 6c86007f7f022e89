"""Keys and values of many sequences in one tensor, one row a sequence, and the attention that reads them.

A row belongs to one running sequence; its length is known to the engine, not here. Rows are preallocated, so a decoding step
neither copies nor grows what is there (a `DynamicCache` concatenates every layer at every token), and sequences of different
lengths share a batch without padding. Imports torch: load it only through `ranker.backends.engine`.
"""

import math
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional
from transformers import AttentionInterface
from transformers.cache_utils import Cache

ATTENTION_NAME: Final = "ranking_studio"
_GROWTH_TOKENS: Final = 256


class KeyValueRows:
    """`data`: (num_layers, 2, num_rows, num_kv_heads, capacity, head_dim); index 0 of the second axis holds keys."""

    def __init__(
        self,
        config: Any,
        num_rows: int,
        *,
        dtype: torch.dtype,
        device: torch.device,
        max_bytes: int | None = None,
    ) -> None:
        """`max_bytes`: long rows are fewer than `num_rows`, so that all together take no more."""
        self._num_layers, self._num_heads = config.num_hidden_layers, config.num_key_value_heads
        self._head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._max_rows, self._max_bytes = num_rows, max_bytes
        self.version = 0
        """Counts how often `data` became another tensor."""
        self.data = torch.zeros(
            self._num_layers, 2, num_rows, self._num_heads, 0, self._head_dim, dtype=dtype, device=device
        )

    @property
    def num_rows(self) -> int:
        return int(self.data.shape[2])

    @property
    def capacity(self) -> int:
        """Tokens that fit into a row."""
        return int(self.data.shape[4])

    @property
    def bytes_per_token(self) -> int:
        """Of one row."""
        return int(self._num_layers * 2 * self._num_heads * self._head_dim * self.data.element_size())

    def rows_at(self, capacity: int, num_used: int) -> int:
        """How many rows there are once they hold `capacity` tokens: at least one that is not used."""
        if capacity <= self.capacity:
            return self.num_rows
        if self._max_bytes is None:
            return self._max_rows
        fitting = self._max_bytes // (self._rounded(capacity) * self.bytes_per_token)
        return min(self._max_rows, max(fitting, num_used) + 1)

    def grow(self, capacity: int, num_used: int) -> None:
        """Make rows at least `capacity` tokens long; what the first `num_used` hold stays.

        Fresh memory is zero, never NaN.
        """
        if capacity <= self.capacity:
            return
        num_rows, capacity = self.rows_at(capacity, num_used), self._rounded(capacity)
        shape = (self._num_layers, 2, num_rows, self._num_heads, capacity, self._head_dim)
        data = _zeros(shape, self.data)
        data[:, :, :num_used, :, : self.capacity] = self.data[:, :, :num_used]
        self.data = data
        self.version += 1

    def _rounded(self, capacity: int) -> int:
        return -(-capacity // _GROWTH_TOKENS) * _GROWTH_TOKENS

    def read(self, row: int, begin: int, end: int) -> torch.Tensor:
        """A copy of some tokens of a row: (num_layers, 2, num_kv_heads, end - begin, head_dim)."""
        return self.data[:, :, row, :, begin:end].clone()

    def write(self, row: int, pieces: Iterable[torch.Tensor]) -> None:
        """Put copies back, one behind the other from the start of a row on."""
        begin = 0
        for key_values in pieces:
            end = begin + key_values.shape[3]
            self.data[:, :, row, :, begin:end] = key_values
            begin = end

    def move(self, source: int, target: int, length: int) -> None:
        """Move the first `length` tokens from one row to another."""
        self.data[:, :, target, :, :length] = self.data[:, :, source, :, :length]

    def swap(self, one: int, other: int, one_length: int, other_length: int) -> None:
        """Exchange the first tokens of two rows."""
        kept = self.read(one, 0, one_length)
        self.move(other, one, other_length)
        self.write(other, (kept,))


def _zeros(shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """On a CPU memory as the system hands it out, which is zero and takes no room, and no time, until it is written: PyTorch writes zeros."""
    if like.device.type != "cpu":
        return torch.zeros(shape, dtype=like.dtype, device=like.device)
    memory = np.zeros(math.prod(shape) * like.element_size(), np.uint8)
    return torch.from_numpy(memory).view(like.dtype).view(shape)


class FirstRows(Cache):  # type: ignore[misc]
    """For one forward pass over B neighbouring rows from `first` on, whose tokens go to `columns` (B, L) of them."""

    def __init__(self, rows: KeyValueRows, first: int, columns: torch.Tensor, end: int) -> None:
        """`end`: how much of a row is seen."""
        super().__init__(layers=[])
        self._data, self._columns, self._end = rows.data, columns, end
        self._seen = slice(first, first + len(columns))
        self._rows = torch.arange(first, first + len(columns), device=columns.device)[:, None]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store (B, H_kv, L, D) and return the rows up to `end`."""
        layer = self._data[layer_idx]
        layer[0, self._rows, :, self._columns] = key_states.transpose(1, 2)
        layer[1, self._rows, :, self._columns] = value_states.transpose(1, 2)
        return layer[0, self._seen, :, : self._end], layer[1, self._seen, :, : self._end]


ALL: Final = 1 << 40
"""Where a token's descendants end if everything behind it comes from it: beyond every column."""


def tree_mask(columns: torch.Tensor, ends: torch.Tensor, end: int) -> torch.Tensor:
    """What tokens (B, L) may see of the first `end` columns of their rows: (B, L, S), themselves and where they come from.

    A tree lies depth first in a row, so that the descendants of a token are what stands between it and its `ends` (B, L), a column.
    """
    of_column = torch.full((len(columns), end + 1), ALL, device=columns.device)
    of_column.scatter_(1, columns.clamp(max=end), ends)  # padding may lie beyond what is seen
    at = columns[..., None]
    return (torch.arange(end, device=columns.device) <= at) & (at < of_column[:, None, :end])


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
