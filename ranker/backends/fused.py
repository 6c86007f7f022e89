"""The lean forward pass on a CPU, where all that lies between two matrix products is one compiled loop (`ranker.backends.kernels`).

Imports torch. Ours.
"""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Final

import numpy as np
import torch

from ranker.backends.kv import KeyValueRows
from ranker.backends.lean import LeanForward, WeightOf, plain_weight

_FEW: Final = 5
"""Tokens of a row that look by compiled loops; of more, PyTorch's attention makes matrix products."""

Attend = Callable[[int], None]
"""Attention of one layer, by its index: from the queries of a pass to what its tokens attended to."""


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
        queries, attended = self._make_heads(ids.shape), self._make_heads(ids.shape)
        attend: Attend
        if ids.shape[1] <= _FEW:
            ends = (columns.amax(1) + 1).clamp(max=mask.shape[-1])
            attend = self._looking(queries, rows, owners, ends, mask.contiguous(), attended)
        else:
            views = self._views(columns, mask)

            def attend(layer: int) -> None:
                found = self._look(queries, rows.data[layer, :, first : first + len(ids)], views)
                attended.view(found.shape).copy_(found)

        return self._pass(ids, positions, owners, columns, queries, attended, attend, rows)

    def step(
        self, ids: torch.Tensor, positions: torch.Tensor, end: int, rows: KeyValueRows, *, is_ragged: bool
    ) -> torch.Tensor:
        owners = torch.arange(len(ids))
        queries, attended = self._make_heads((len(ids), 1)), self._make_heads((len(ids), 1))
        attend = self._looking(queries, rows, owners, positions + 1, None, attended)
        at = ids[:, None], positions[:, None], owners, positions[:, None]
        return self._pass(*at, queries, attended, attend, rows)[:, 0]

    def _make_heads(self, shape: Sequence[int]) -> torch.Tensor:
        return torch.empty(*shape, self._num_heads, self._head_dim)

    def _looking(
        self,
        queries: torch.Tensor,
        rows: KeyValueRows,
        owners: torch.Tensor,
        ends: torch.Tensor,
        mask: torch.Tensor | None,
        attended: torch.Tensor,
    ) -> Attend:
        seen = None if mask is None else mask.numpy()
        arrays = (queries.numpy(), rows.data.numpy(), owners.numpy(), ends.numpy(), seen, attended.numpy())
        attend: Attend = self._kernels.Attention(*arrays, num_threads=torch.get_num_threads())
        return attend

    def _pass(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        owners: torch.Tensor,
        columns: torch.Tensor,
        queries: torch.Tensor,
        attended: torch.Tensor,
        attend: Attend,
        rows: KeyValueRows,
    ) -> torch.Tensor:
        """Hidden states (B, L, E) of tokens (B, L), whose keys and values go to `columns` (B, L) of rows `owners` (B,)."""
        kernels, epsilon = self._kernels, np.float32(self._rms_epsilon)
        x = self._embedding[ids.flatten()]
        turns = torch.view_as_real(self._turn(positions.flatten())).numpy()
        normed, gated = torch.empty_like(x), torch.empty(len(x), self._intermediate_size)
        places = owners.repeat_interleave(ids.shape[1]).numpy(), columns.flatten().contiguous().numpy()
        data, no_norm, aside = rows.data.numpy(), torch.empty(0, self._head_dim), queries.flatten(0, 1).numpy()
        kernels.normalise(x.numpy(), epsilon, normed.numpy())
        for index, layer in enumerate(self._layers):
            heads = layer.qkv(normed).view(len(x), -1, self._head_dim).numpy()
            head_norm = (no_norm if layer.head_norm is None else layer.head_norm).numpy()
            kernels.rotate(heads, turns, head_norm, epsilon, *places, data[index], aside)
            attend(index)
            kernels.add_and_normalise(x.numpy(), layer.out(attended.view(len(x), -1)).numpy(), epsilon, normed.numpy())
            kernels.gate(layer.gate_up(normed).numpy(), gated.numpy())
            kernels.add_and_normalise(x.numpy(), layer.down(gated).numpy(), epsilon, normed.numpy())
        return (normed * self._norm).view(*ids.shape, -1)
