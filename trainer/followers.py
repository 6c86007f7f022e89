"""Several processes for one job: one a GPU of this machine, or some on its cores.

The job's own process leads: it alone waits for its turn, measures, and writes down what happens. Just before it trains, it starts
the others (`python -m trainer.run JOB MODELS follow`), which do every optimizer step with it, each on examples of its own, and end
with it. They meet through the variables that torch.distributed reads; accelerate does the rest. A follower that loses its leader
ends by itself; a leader that loses a follower fails, and the job is resumed from its last checkpoint. Ours.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final

FOLLOW: Final = "follow"
"""Last argument of a process that follows."""
_RENDEZVOUS: Final = ("MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
_END_S: Final = 60.0
_WATCH_S: Final = 1.0


class Followers:
    """The other processes of a job, while it trains; none if `num_processes` is 1."""

    def __init__(self, arguments: Sequence[str], num_processes: int) -> None:
        """`arguments`: those of `trainer.run`."""
        self._command = [sys.executable, "-m", "trainer.run", *arguments, FOLLOW]
        self._num_processes = num_processes
        self._before: dict[str, str | None] = {}
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Followers":
        if self._num_processes == 1:
            return self
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
        size = {name: str(self._num_processes) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")}
        self._before = {name: os.environ.get(name) for name in _RENDEZVOUS}
        for rank in range(1, self._num_processes):
            environment = {**os.environ, **place, **size, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            self._processes.append(
                subprocess.Popen(self._command, stdin=subprocess.DEVNULL, env=environment)  # noqa: S603
            )
        os.environ.update({**place, **size, "RANK": "0", "LOCAL_RANK": "0"})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if error is None:
                self._leave()
        finally:
            for process in self._processes:
                process.kill()
                process.wait()
            for name, value in self._before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    def _leave(self) -> None:
        """Wait for the others, who do the same steps."""
        import torch.distributed

        end = time.monotonic() + _END_S
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):  # everything is saved: it may as well be killed
                process.wait(timeout=max(0.1, end - time.monotonic()))
        # where there are no others, a group is vLLM's, which ends it itself
        if self._processes and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def stay_with_leader() -> None:
    """Leave signals of the terminal to the leader, and end if it is gone: nobody would ever answer."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    leader = os.getppid()

    def watch() -> None:
        while os.getppid() == leader:
            time.sleep(_WATCH_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="leader").start()


def threads_of(num_processes: int) -> int:
    """CPU threads of each of so many processes that share this machine."""
    return max(1, (os.cpu_count() or 1) // num_processes)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
