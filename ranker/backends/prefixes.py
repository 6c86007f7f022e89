"""What was computed for texts that prompts begin with, so that the next prompt goes on from there."""

from collections import OrderedDict
from collections.abc import Sequence

import torch

_MAX_TEXTS = 1024


class PrefixCache:
    """Least recently used texts: their ids, and within a number of bytes the keys and values that were computed for them."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._computed: OrderedDict[str, torch.Tensor] = OrderedDict()  # (num_layers, 2, H_kv, length, D)
        self._ids: OrderedDict[str, tuple[int, ...]] = OrderedDict()

    def computed(self, text: str) -> torch.Tensor | None:
        """Keys and values of the first tokens of `text` (all of them, or all but the last sampled one)."""
        if text in self._computed:
            self._computed.move_to_end(text)
        return self._computed.get(text)

    def first(self, text: str, length: int) -> torch.Tensor | None:
        """Keys and values of the first `length` tokens of `text`; None = so many are not kept."""
        kept = self.computed(text)
        return kept[:, :, :, :length] if kept is not None and kept.shape[3] >= length else None

    def ids(self, text: str) -> tuple[int, ...] | None:
        return self._ids.get(text)

    def put(self, text: str, ids: Sequence[int], key_values: torch.Tensor) -> None:
        self._ids[text] = tuple(ids)
        if len(self._ids) > _MAX_TEXTS:
            self._ids.popitem(last=False)
        if text in self._computed or key_values.nbytes > self._max_bytes:
            return
        self._computed[text] = key_values
        self._bytes += key_values.nbytes
        while self._bytes > self._max_bytes:
            _, old = self._computed.popitem(last=False)
            self._bytes -= old.nbytes

    def clear(self) -> None:
        self._computed.clear()
        self._ids.clear()
        self._bytes = 0
