"""Guesses of what comes next: what followed the last tokens when they stood somewhere before.

Thoughts about candidates quote the prompt and repeat themselves. A guess is checked in the forward pass that is due anyway, for all its
tokens at once, and only what the model would have written by itself is kept, so that greedy completions stay the same. Source: Saxena
2023, "Prompt Lookup Decoding"; the table instead of a search is ours.
"""

from collections.abc import Sequence
from typing import Final

LENGTHS: Final = (3, 2)
"""Of the endings that are looked up, the longest first."""


class Lookup:
    """Where each ending of a growing text stood last."""

    def __init__(self, ids: Sequence[int]) -> None:
        """`ids`: the text, which is read again at every guess and may only have grown."""
        self._ids = ids
        self._after: dict[tuple[int, ...], int] = {}
        self._num_read = 0

    def guess(self, limit: int) -> list[int]:
        """At most `limit` ids that may follow; none if the ending is new."""
        self._read()
        for length in LENGTHS:
            at = self._after.get(tuple(self._ids[-length:]))
            if at is not None:
                return list(self._ids[at : at + limit])
        return []

    def _read(self) -> None:
        """Note every ending that something follows."""
        for end in range(max(self._num_read, 1), len(self._ids)):
            for length in LENGTHS:
                if end >= length:
                    self._after[tuple(self._ids[end - length : end])] = end
        self._num_read = len(self._ids)
