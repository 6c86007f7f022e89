"""The lean forward pass on a CPU, where all that lies between two matrix products is one compiled loop (`ranker.backends.kernels`).

Imports torch. Ours.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

import numpy as np
import torch

from ranker.backends.kv import KeyValueRows
from ranker.backends.lean import LeanForward, WeightOf, plain_weight

_FEW: Final = 5
"""Tokens of a row that look by themselves; more of them share what they read in PyTorch's attention."""

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
        batch, length = ids.shape
        owners = torch.arange(first, first + batch).repeat_interleave(length)
        queries, attended = self._make_heads(len(owners)), self._make_heads(len(owners))
        attend: Attend
        if length <= _FEW:
            ends = (columns.flatten() + 1).clamp(max=mask.shape[-1])
            attend = self._looking_alone(queries, rows, owners, ends, mask.flatten(0, 1).contiguous(), attended)
        else:
            views = self._views(columns, mask)

            def attend(layer: int) -> None:
                stored = rows.data[layer, :, first : first + batch]
                together = self._look(queries.view(batch, length, *queries.shape[1:]), stored, views)
                attended.view(together.shape).copy_(together)

        at = positions.flatten(), owners, columns.flatten().contiguous()
        return self._pass(ids.flatten(), *at, queries, attended, attend, rows).view(batch, length, -1)

    def step(
        self, ids: torch.Tensor, positions: torch.Tensor, end: int, rows: KeyValueRows, *, is_ragged: bool
    ) -> torch.Tensor:
        owners, columns = torch.arange(len(ids)), positions.contiguous()
        queries, attended = self._make_heads(len(ids)), self._make_heads(len(ids))
        attend = self._looking_alone(queries, rows, owners, columns + 1, None, attended)
        return self._pass(ids, positions, owners, columns, queries, attended, attend, rows)

    def _make_heads(self, num_tokens: int) -> torch.Tensor:
        return torch.empty(num_tokens, self._num_heads, self._head_dim)

    def _looking_alone(
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
        """Hidden states (N, E) of tokens (N,), whose keys and values go to `columns` of rows `owners`."""
        kernels, epsilon, num_tokens = self._kernels, np.float32(self._rms_epsilon), len(ids)
        x = self._embedding[ids]
        turns = torch.view_as_real(self._turn(positions)).numpy()
        normed, gated = torch.empty_like(x), torch.empty(num_tokens, self._intermediate_size)
        places, data, no_norm = (owners.numpy(), columns.numpy()), rows.data.numpy(), torch.empty(0, self._head_dim)
        kernels.normalise(x.numpy(), epsilon, normed.numpy())
        for index, layer in enumerate(self._layers):
            heads = layer.qkv(normed).view(num_tokens, -1, self._head_dim)
            head_norm = (no_norm if layer.head_norm is None else layer.head_norm).numpy()
            kernels.rotate(heads.numpy(), turns, head_norm, epsilon, *places, data[index], queries.numpy())
            attend(index)
            kernels.add_and_normalise(x.numpy(), layer.out(attended.flatten(1)).numpy(), epsilon, normed.numpy())
            kernels.gate(layer.gate_up(normed).numpy(), gated.numpy())
            kernels.add_and_normalise(x.numpy(), layer.down(gated).numpy(), epsilon, normed.numpy())
        return normed * self._norm
