"""A backend that looks at the clock: how much of a ranking is reading, writing and scoring. Ours.

For one ranking at a time. Calls of one kind that run together (two looks of `adaptive`) count once.
"""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from ranker.backends.base import Backend, Chunk, GenerateRequest, ScoreRequest, Scores
from ranker.backends.passing import PassingBackend

Kind = Literal["reading", "writing", "scoring"]


class Stopwatch(PassingBackend):
    """See the module."""

    def __init__(self, backend: Backend, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__(backend)
        self._clock = clock
        self._running: dict[Kind, int] = {"reading": 0, "writing": 0, "scoring": 0}
        self._since: dict[Kind, float] = {}
        self.seconds: dict[Kind, float] = {"reading": 0.0, "writing": 0.0, "scoring": 0.0}

    async def generate(self, request: GenerateRequest) -> AsyncIterator[Chunk]:
        chunks = self._backend.generate(request)
        with self._taken("reading"):
            first = await anext(chunks)
        yield first
        with self._taken("writing"):
            async for chunk in chunks:
                yield chunk

    async def score(self, request: ScoreRequest) -> Scores:
        with self._taken("scoring"):
            return await self._backend.score(request)

    @contextmanager
    def _taken(self, kind: Kind) -> Iterator[None]:
        if not self._running[kind]:
            self._since[kind] = self._clock()
        self._running[kind] += 1
        try:
            yield
        finally:
            self._running[kind] -= 1
            if not self._running[kind]:
                self.seconds[kind] += self._clock() - self._since[kind]
