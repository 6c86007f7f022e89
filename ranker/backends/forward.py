"""The forward pass of a decoder-only model over rows of keys and values: what the engine needs of a model, and the reference.

`TransformersForward` runs the modules of transformers as they are, with the engine's own cache and attention. Other passes
(`ranker.backends.lean`) compute the same function from the same weights and are compared with it. Imports torch.
"""

from typing import Any, Protocol

import torch

from ranker.backends.kv import FirstRows, KeyValueRows, OneRow


class Forward(Protocol):
    """Computes hidden states, and leaves the keys and values of what it computed in the rows."""

    def row(
        self, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor, rows: KeyValueRows, row: int, start: int
    ) -> torch.Tensor:
        """Last hidden states (L, E) of ids (L,) at positions (L,), laid behind the first `start` tokens of `row`.

        `mask` is bool (L, start + L), True = may look.
        """

    def step(self, ids: torch.Tensor, positions: torch.Tensor, rows: KeyValueRows) -> torch.Tensor:
        """Last hidden states (B, E) of one token for each of the first B rows: ids (B,) at positions (B,)."""

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(N, V) from (N, E)."""


class TransformersForward:
    """The modules of transformers: the reference."""

    def __init__(self, model: Any) -> None:
        self._decoder, self._head = model.get_decoder(), model.get_output_embeddings()

    def row(
        self, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor, rows: KeyValueRows, row: int, start: int
    ) -> torch.Tensor:
        return self._hidden(ids[None], positions[None], mask[None, None], OneRow(rows, row, start))[0]

    def step(self, ids: torch.Tensor, positions: torch.Tensor, rows: KeyValueRows) -> torch.Tensor:
        columns = torch.arange(int(positions.max()) + 1, device=positions.device)
        mask = (columns[None] <= positions[:, None])[:, None, None]  # (B, 1, 1, S)
        return self._hidden(ids[:, None], positions[:, None], mask, FirstRows(rows, positions))[:, 0]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._head(hidden)
        return logits

    def _hidden(
        self, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor, cache: OneRow | FirstRows
    ) -> torch.Tensor:
        """(B, L, E) of ids (B, L) at positions (B, L) under a bool mask (B, 1, L, S)."""
        output = self._decoder(
            input_ids=ids, position_ids=positions, attention_mask=mask, past_key_values=cache, use_cache=True
        )
        hidden: torch.Tensor = output.last_hidden_state
        return hidden
