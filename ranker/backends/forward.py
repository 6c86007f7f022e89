"""The forward pass of a decoder-only model over rows of keys and values: what the engine needs of a model, and the reference.

`TransformersForward` runs the modules of transformers as they are, with the engine's own cache and attention. Other passes
(`ranker.backends.lean`) compute the same function from the same weights and are compared with it. Imports torch.
"""

from typing import Any, Protocol

import torch

from ranker.backends.kv import FirstRows, KeyValueRows


class Forward(Protocol):
    """Computes hidden states, and leaves the keys and values of what it computed in the rows."""

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
        several continuations lie side by side. `mask` is bool (B, L, S), True = may look at that column.
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
