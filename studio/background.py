"""Work that takes longer than a click: reading a file, importing it, checking a dataset. It runs on a thread of its own, says
how far it is, and can be given up. Knows no page and no dataset."""

import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from ranker.errors import UsageError

MAX_AT_ONCE = 2
MAX_KEPT = 64


class Progress:
    """How far a work is; the work calls it now and then."""

    def __init__(self) -> None:
        self.number = 0
        self.cancelled = threading.Event()

    def __call__(self, number: int = 0) -> None:
        """Note how much is done, or raise UsageError if nobody wants the work any more."""
        if self.cancelled.is_set():
            raise UsageError("work: was cancelled: nothing was stored")
        self.number = max(self.number, number)

    def give_up_if_cancelled(self, _: int = 0) -> None:
        """Raises UsageError if nobody wants the work any more."""
        self()


@dataclass(frozen=True)
class _Work:
    future: "Future[Any]"
    progress: Progress


class Background:
    """Works by token. Tokens are random, so one page cannot guess another one's."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(MAX_AT_ONCE, thread_name_prefix="background")
        self._works: dict[str, _Work] = {}
        self._lock = threading.Lock()

    def start(self, run: Callable[[Progress], Any]) -> str:
        """Let `run` work as soon as there is room. Returns the token."""
        token, progress = secrets.token_urlsafe(12), Progress()
        with self._lock:
            self._works[token] = _Work(self._executor.submit(run, progress), progress)
            finished = [key for key, work in self._works.items() if work.future.done()]
            for key in finished[: max(0, len(self._works) - MAX_KEPT)]:  # pages that were closed never ask
                del self._works[key]
        return token

    def is_done(self, token: str, *, wait_s: float = 0.0) -> bool:
        """Whether it has ended, after waiting for at most `wait_s`. Raises UsageError for a token that is not known."""
        future = self._work(token).future
        wait([future], timeout=wait_s)
        return future.done()

    def number(self, token: str) -> int:
        """How much is done. Raises UsageError for a token that is not known."""
        return self._work(token).progress.number

    def result(self, token: str) -> Any:
        """What came out, once; raises what the work has raised, and UsageError for a token that is not known."""
        work = self._work(token)
        with self._lock:
            self._works.pop(token, None)
        return work.future.result()

    def cancel(self, token: str) -> None:
        """Give a work up; one that is not known has ended already."""
        with self._lock:
            work = self._works.pop(token, None)
        if work is not None:
            work.progress.cancelled.set()
            work.future.cancel()

    def close(self) -> None:
        """Give up all works and wait until their threads have noticed."""
        for token in list(self._works):
            self.cancel(token)
        self._executor.shutdown(cancel_futures=True)

    def _work(self, token: str) -> _Work:
        with self._lock:
            work = self._works.get(token)
        if work is None:
            raise UsageError("work: is not known any more: start it again")
        return work
