"""What was computed for texts that prompts begin with, so that the next prompt goes on from there.

Of a text only what stands behind another kept one is kept: a thought behind its prompt, a prompt behind the head that it shares.
Whoever uses a text uses what it stands behind, so that the least recently used has nothing behind it.

A chain of calls asks for the same prefix again and again. Where more chains run than prefixes fit, each would push out what the next
one asks for; `make_room` says whether another text would. Ours.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch

_MAX_TEXTS: Final = 1024
_WARM_STEPS: Final = 8
"""A text that was used so few steps ago is about to be asked for again: its chain is between two calls."""


@dataclass(eq=False, slots=True)
class _Kept:
    behind: str
    num_behind: int
    """Tokens of `behind` that it stands behind: where two texts meet, the last token of the first may be another one."""
    key_values: torch.Tensor  # of its own tokens: (num_layers, 2, H_kv, length, D)
    age: int
    used_at: int

    @property
    def length(self) -> int:
        return self.num_behind + int(self.key_values.shape[3])


class PrefixCache:
    """Least recently used texts: their ids, and within a number of bytes the keys and values that were computed for them."""

    def __init__(self, max_bytes: int, needed: Callable[[], Iterable[str]] = tuple) -> None:
        """`needed`: the texts that something runs behind, which are the last to go."""
        self._max_bytes, self._needed, self._bytes = max_bytes, needed, 0
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._ids: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        self._step = 0

    def length(self, text: str) -> int:
        """For how many of the first tokens of `text` (all, or all but the last sampled one) there are keys and values; 0 = it is not kept."""
        return self._kept[text].length if text in self._kept else 0

    def pieces(self, text: str, length: int) -> list[torch.Tensor]:
        """Keys and values of the first `length` tokens of a kept text, one piece behind the other: (num_layers, 2, H_kv, *, D)."""
        pieces: list[torch.Tensor] = []
        for kept in self._use(text):
            pieces.append(kept.key_values[:, :, :, : max(0, length - kept.num_behind)])
            length = min(length, kept.num_behind)
        return pieces[::-1]

    def ids(self, text: str) -> tuple[int, ...] | None:
        return self._ids.get(text)

    def put(
        self,
        text: str,
        ids: Sequence[int],
        age: int,
        length: int,
        read: Callable[[int, int], torch.Tensor],
        *,
        behind: str = "",
        num_behind: int = 0,
    ) -> None:
        """Keep a text of which `length` tokens are computed, behind the first `num_behind` of another one if that is kept.

        `read(begin, end)` copies keys and values of its tokens.
        """
        self._ids[text] = tuple(ids)
        if len(self._ids) > _MAX_TEXTS:
            self._ids.popitem(last=False)
        if text in self._kept or not self._max_bytes:
            return
        if self.length(behind) < num_behind:
            behind, num_behind = "", 0
        key_values = read(num_behind, length)
        if key_values.nbytes > self._max_bytes:
            return
        self._kept[text] = _Kept(behind, num_behind, key_values, age, self._step)
        self._bytes += key_values.nbytes
        self._touch([text])
        if self._bytes > self._max_bytes:
            self._touch(self._needed())
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def next_step(self) -> None:
        """Time goes on: what has not been used for some steps is not waited for any more."""
        self._step += 1

    def make_room(self, new_bytes: int, coming_bytes: int, age: int) -> bool:
        """Whether so much can be kept, for a chain of `age`, without losing a needed text or one that an older chain used just now.

        Those are the last to go then. True also where it could not be kept at all: nothing is gained by waiting.
        `coming_bytes`: what will be kept of what runs, behind the needed texts.
        """
        num_bytes = new_bytes + coming_bytes
        if new_bytes > self._max_bytes or self._bytes + num_bytes <= self._max_bytes:
            return True
        warm = {t: k for t, k in self._kept.items() if k.age <= age and self._step - k.used_at <= _WARM_STEPS}
        for text in self._needed():
            warm |= dict(self._line(text))
        if sum(int(kept.key_values.nbytes) for kept in warm.values()) + num_bytes > self._max_bytes:
            return False
        self._touch(warm)
        return True

    def clear(self) -> None:
        self._kept.clear()
        self._ids.clear()
        self._bytes = 0

    def _line(self, text: str) -> Iterator[tuple[str, _Kept]]:
        """A text, what it stands behind, and so on."""
        while text in self._kept:
            kept = self._kept[text]
            yield text, kept
            text = kept.behind

    def _use(self, text: str) -> Iterator[_Kept]:
        for found, kept in self._line(text):
            kept.used_at = self._step
            self._kept.move_to_end(found)
            yield kept

    def _touch(self, texts: Iterable[str]) -> None:
        for text in texts:
            for _ in self._use(text):
                pass

    def _drop(self, text: str) -> None:
        self._bytes -= self._kept.pop(text).key_values.nbytes
