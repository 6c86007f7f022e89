"""How many calls are under way at once; those of a watched ranking first. Ours."""

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ranker.errors import BackendError


class Slots:
    """`count` places, given to whoever waits with the lowest priority number; equals in the order of arrival."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._closed: str | None = None
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    @asynccontextmanager
    async def take(self, priority: int) -> AsyncIterator[None]:
        """Wait for a place and hold it.

        Raises:
            BackendError: if there are no more places, ever (`close`).
        """
        self.check_open()
        if self._free > 0:
            self._free -= 1
        else:
            turn = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (priority, next(self._numbers), turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._pass_on()  # the place came and nobody is here to use it
                raise
        try:
            yield
        finally:
            self._pass_on()

    def check_open(self) -> None:
        """Raises BackendError behind `close`."""
        if self._closed is not None:
            raise BackendError(self._closed)

    def close(self, reason: str) -> None:
        """Turn away who waits and who comes."""
        self._closed = reason
        for _, _, turn in self._waiting:
            if not turn.done() and not turn.get_loop().is_closed():
                turn.set_exception(BackendError(reason))
        self._waiting.clear()

    def _pass_on(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
