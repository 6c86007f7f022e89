"""The lean forward pass on a CPU, where all that lies between two matrix products is one compiled loop (`ranker.backends.kernels`).

Imports torch. Ours.
"""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Final, NamedTuple

import torch

from ranker.backends.kv import KeyValueRows
from ranker.backends.lean import LeanForward, WeightOf, plain_weight

_FEW: Final = 5
"""Tokens of a row that look by compiled loops; of more, PyTorch's attention makes matrix products."""

_NO_MASK: Final = torch.empty(0, 0, 0, dtype=torch.bool)

Attend = Callable[[torch.Tensor], None]
"""Attention over one layer of the rows: from the queries of a pass to what its tokens attended to."""


class _Heads(NamedTuple):
    """What a pass has of its tokens' heads: (B, L, H, D) each."""

    queries: torch.Tensor
    attended: torch.Tensor


class FusedForward(LeanForward):
    """The same from the same weights, in float32 on a CPU."""

    def __init__(
        self,
        model: Any,
        kernels: ModuleType,
        *,
        matrices: torch.dtype | None = None,
        weight_of: WeightOf = plain_weight,
    ) -> None:
        """`kernels`: see `ranker.backends.passes.load_kernels`; the others as of `LeanForward`."""
        super().__init__(model, matrices=matrices, weight_of=weight_of)
        self._kernels = kernels
        self._intermediate_size = int(model.config.get_text_config().intermediate_size)

    def extend(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        columns: torch.Tensor,
        mask: torch.Tensor,
        rows: KeyValueRows,
        first: int,
    ) -> torch.Tensor:
        owners = torch.arange(first, first + len(ids))
        heads = self._make_heads(ids.shape)
        attend: Attend
        if ids.shape[1] <= _FEW:
            attend = self._looking(heads, rows, owners, (columns.amax(1) + 1).clamp(max=mask.shape[-1]), mask)
        else:
            views = self._views(columns, mask)

            def attend(layer: torch.Tensor) -> None:
                found = self._look(heads.queries, layer[:, first : first + len(ids)], views)
                heads.attended.view(found.shape).copy_(found)

        return self._pass(ids, positions, owners, columns, heads, attend, rows)

    def step(
        self, ids: torch.Tensor, positions: torch.Tensor, end: int, rows: KeyValueRows, *, is_ragged: bool
    ) -> torch.Tensor:
        owners = torch.arange(len(ids))
        heads = self._make_heads((len(ids), 1))
        attend = self._looking(heads, rows, owners, positions + 1, _NO_MASK)
        return self._pass(ids[:, None], positions[:, None], owners, positions[:, None], heads, attend, rows)[:, 0]

    def _make_heads(self, shape: Sequence[int]) -> _Heads:
        return _Heads(*(torch.empty(*shape, self._num_heads, self._head_dim) for _ in range(2)))

    def _looking(
        self, heads: _Heads, rows: KeyValueRows, owners: torch.Tensor, ends: torch.Tensor, mask: torch.Tensor
    ) -> Attend:
        """Attention of few tokens in each of the rows `owners` (B,), whose first `ends` (B,) columns they see as `mask` says."""
        batch, length = heads.queries.shape[:2]
        group, end = self._num_heads // self._num_kv_heads, int(ends.max())
        scores = torch.empty(torch.get_num_threads(), length * group, end)
        arrays = (rows.data[0], heads.queries, owners, ends, mask.contiguous(), scores, heads.attended)
        sizes = (batch, length, self._num_kv_heads, group, self._head_dim, rows.num_rows, rows.capacity, end)
        return self._loop("attend", arrays, (*sizes, mask.shape[-1]))

    def _loop(self, name: str, arrays: Sequence[torch.Tensor], sizes: Sequence[int]) -> Callable[..., None]:
        loop: Callable[..., None] = self._kernels.Loop(
            getattr(self._kernels, name), arrays, sizes, torch.get_num_threads()
        )
        return loop

    def _pass(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        owners: torch.Tensor,
        columns: torch.Tensor,
        heads: _Heads,
        attend: Attend,
        rows: KeyValueRows,
    ) -> torch.Tensor:
        """Hidden states (B, L, E) of tokens (B, L), whose keys and values go to `columns` (B, L) of rows `owners` (B,)."""
        x = self._embedding[ids.flatten()]
        turns = torch.view_as_real(self._turn(positions.flatten()))
        places = owners.repeat_interleave(ids.shape[1]), columns.flatten().contiguous()
        normed, gated, no_norm = torch.empty_like(x), torch.empty(len(x), self._intermediate_size), x[:0]
        num_normed = 0 if self._layers[0].head_norm is None else self._num_heads + self._num_kv_heads
        sizes = (len(x), self._num_heads, self._num_kv_heads, self._head_dim, rows.num_rows, rows.capacity, num_normed)
        some = x, rows.data[0], no_norm  # in whose places come those of each layer
        rotate = self._loop("rotate", (*some, turns, self._epsilon, *places, heads.queries), sizes)
        add_and_normalise = self._loop("add_and_normalise", (x, x, self._epsilon, normed), x.shape)
        gate = self._loop("gate", (x, gated), gated.shape)
        attended = heads.attended.view(len(x), -1)
        add_and_normalise(torch.zeros_like(x))
        for layer, stored in zip(self._layers, rows.data, strict=True):
            rotate(layer.qkv(normed), stored, no_norm if layer.head_norm is None else layer.head_norm)
            attend(stored)
            add_and_normalise(layer.out(attended))
            gate(layer.gate_up(normed))
            add_and_normalise(layer.down(gated))
        return (normed * self._norm).view(*ids.shape, -1)
