"""The forward pass of a decoder-only model over rows of keys and values: what the engine needs of a model, and the reference.

`TransformersForward` runs the modules of transformers as they are, with the engine's own cache and attention. Other passes
(`ranker.backends.lean`) compute the same function from the same weights and are compared with it. Imports torch.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol

import torch

from ranker.backends.kv import ALL, FirstRows, KeyValueRows, tree_mask
from ranker.backends.tokentree import TreeLine


class Forward(Protocol):
    """Computes hidden states, and leaves the keys and values of what it computed in the rows."""

    @property
    def dtype(self) -> torch.dtype:
        """Of keys, values and hidden states."""

    @property
    def device(self) -> torch.device:
        """Where everything is computed."""

    def extend(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        columns: torch.Tensor,
        mask: torch.Tensor,
        rows: KeyValueRows,
        first: int,
    ) -> torch.Tensor:
        """Last hidden states (B, L, E) of many tokens for each of B neighbouring rows, `first` being the first of them.

        ids, positions and columns are (B, L): a token's column is its place in its row, which is not its position where
        a tree of continuations lies there. `mask` is bool (B, L, S), True = may look at that column.
        """

    def step(
        self, ids: torch.Tensor, positions: torch.Tensor, end: int, rows: KeyValueRows, *, is_ragged: bool
    ) -> torch.Tensor:
        """Last hidden states (B, E) of one token for each of the first B rows: ids (B,) at positions (B,).

        `end`: columns that are looked at, beyond every position. `is_ragged`: some rows do not reach it.
        """

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(N, V) from (N, E), up to a constant: what is made of them is probabilities."""


class TransformersForward:
    """The modules of transformers: the reference."""

    def __init__(self, model: Any) -> None:
        self._decoder, self._head = model.get_decoder(), model.get_output_embeddings()
        self.dtype: Final[torch.dtype] = model.dtype
        self.device: Final[torch.device] = next(model.parameters()).device

    def extend(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        columns: torch.Tensor,
        mask: torch.Tensor,
        rows: KeyValueRows,
        first: int,
    ) -> torch.Tensor:
        return self._hidden(ids, positions, mask[:, None], FirstRows(rows, first, columns, mask.shape[-1]))

    def step(
        self, ids: torch.Tensor, positions: torch.Tensor, end: int, rows: KeyValueRows, *, is_ragged: bool
    ) -> torch.Tensor:
        mask = (torch.arange(end, device=positions.device) <= positions[:, None])[:, None, None]  # (B, 1, 1, S)
        cache = FirstRows(rows, 0, positions[:, None], end)
        return self._hidden(ids[:, None], positions[:, None], mask, cache)[:, 0]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._head(hidden)
        return logits

    def _hidden(self, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor, cache: FirstRows) -> torch.Tensor:
        """(B, L, E) of ids (B, L) at positions (B, L) under a bool mask (B, 1, L, S)."""
        output = self._decoder(
            input_ids=ids, position_ids=positions, attention_mask=mask, past_key_values=cache, use_cache=True
        )
        hidden: torch.Tensor = output.last_hidden_state
        return hidden


def extend_rows(
    forward: Forward,
    rows: KeyValueRows,
    first: int,
    tokens: Sequence[tuple[int, Sequence[int], TreeLine]],
) -> torch.Tensor:
    """Compute tokens for neighbouring rows from `first` on; returns hidden states (B, L, E).

    For each row: what it holds, the ids that go behind that, and the tree that goes behind both. Shorter lines are padded by what
    nobody sees and later tokens overwrite, so the longest must fit behind the longest row.
    """
    device = rows.data.device
    length = max(len(ids) + len(line.ids) for _, ids, line in tokens)
    end = max(start + len(ids) + len(line.ids) for start, ids, line in tokens)
    table = []  # for each row its ids, positions and ends
    for start, ids, line in tokens:
        behind = start + len(ids)
        padding = [0] * (length - len(ids) - len(line.ids))
        positions = [*range(start, behind), *(behind + depth for depth in line.depths)]
        ends = [ALL] * len(ids) + [behind + e for e in line.ends]
        table.append([[*ids, *line.ids, *padding], [*positions, *padding], [*ends, *([ALL] * len(padding))]])
    all_ids, all_positions, all_ends = torch.tensor(table).to(device).unbind(1)  # (B, L)
    starts = torch.tensor([start for start, _, _ in tokens]).to(device)
    columns = starts[:, None] + torch.arange(length, device=device)
    mask = tree_mask(columns, all_ends, end)
    return forward.extend(all_ids, all_positions, columns, mask, rows, first)
