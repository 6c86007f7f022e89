"""Child processes that end with this one, however it ends: killed, it could not end them itself. Ours."""

import subprocess
import sys
from collections.abc import Sequence
from typing import Final

_WATCHER: Final = """
import sys, psutil
watched = []
for pid in sys.argv[1:]:
    try:
        watched.append(psutil.Process(int(pid)))
    except psutil.NoSuchProcess:
        pass
sys.stdin.buffer.read()
for process in watched:
    try:
        family = process.children(recursive=True)
        process.kill()
        for child in family:
            child.kill()
    except psutil.NoSuchProcess:
        pass
"""
"""The end of its input is the end of whoever holds the other end. psutil tells a process from a later one of the same number."""


class Leash:
    """Kills processes and their descendants as soon as this process is gone."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._watcher = subprocess.Popen(  # noqa: S603  (an argument list; no shell)
            [sys.executable, "-c", _WATCHER, *map(str, pids)], stdin=subprocess.PIPE, start_new_session=True
        )

    def release(self) -> None:
        """They end by themselves."""
        self._watcher.kill()
        self._watcher.communicate()
