"""How many attempts may be made: counts them in a sliding window, and says how long to wait. In memory only.

An attempt counts before it is tried, so that many at once do not all slip through. Ours. Knows no passwords.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

WINDOW_S: Final = 15 * 60.0
MAX_KEYS: Final = 10_000


class Throttle:
    """Attempts by key. Usable from any thread."""

    def __init__(self, *, window_s: float = WINDOW_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._window_s = window_s
        self._clock = clock
        self._attempts: dict[object, deque[float]] = {}
        self._lock = threading.Lock()

    def attempt(self, limits: Sequence[tuple[object, int]]) -> int:
        """Count one attempt under every key, unless one of them is used up.

        Args:
            limits: keys, and how many attempts each has in a window.

        Returns:
            0 = go on; else the seconds to wait. What has to wait does not count.
        """
        now = self._clock()
        with self._lock:
            waits = [self._wait_s(key, limit, now) for key, limit in limits]
            if max(waits) > 0:
                return math.ceil(max(waits))
            for key, _ in limits:
                self._attempts.setdefault(key, deque()).append(now)
            if len(self._attempts) > MAX_KEYS:
                self._forget_old(now)
            return 0

    def forgive(self, key: object) -> None:
        """It was no bad attempt: start anew."""
        with self._lock:
            self._attempts.pop(key, None)

    def _wait_s(self, key: object, limit: int, now: float) -> float:
        made = self._attempts.get(key, deque())
        while made and made[0] <= now - self._window_s:
            made.popleft()
        return made[-limit] + self._window_s - now if len(made) >= limit else 0.0

    def _forget_old(self, now: float) -> None:
        for key in [key for key, made in self._attempts.items() if not made or made[-1] <= now - self._window_s]:
            del self._attempts[key]
