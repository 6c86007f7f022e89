"""The growing files of running jobs, read piece by piece: however often a page asks, a byte is read once. Knows no job.

A job that is resumed drops what lay behind its checkpoint, so a file can become another one; `generation` says so, and a
reader that knows an older generation starts anew.
"""

import json
import threading
from pathlib import Path
from typing import Any, NamedTuple

MAX_ROWS = 4_000
"""Rows of metrics that are kept a job; beyond that every second one is dropped."""
MAX_LOG_BYTES = 24_000


class Rows(NamedTuple):
    """Rows behind the one that was asked for."""

    generation: int
    rows: list[dict[str, Any]]


class _Tail:
    """One file: whole lines that were appended since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file_id: int | None = None
        self.offset = 0
        self.generation = 0

    def read(self) -> list[tuple[int, bytes]] | None:
        """(offset, line) of the new whole lines; None before the first of a new generation."""
        try:
            with self._path.open("rb") as file:
                size, file_id = file.seek(0, 2), self._path.stat().st_ino
                if self._file_id is not None and (file_id != self._file_id or size < self.offset):
                    self._file_id, self.offset, self.generation = file_id, 0, self.generation + 1
                    return None
                self._file_id = file_id
                file.seek(self.offset)
                block = file.read()
        except FileNotFoundError:
            return []
        lines, start = [], self.offset
        for line in block.splitlines(keepends=True):
            if line.endswith(b"\n"):
                lines.append((self.offset, line))
                self.offset += len(line)
        assert self.offset >= start
        return lines


class MetricsFile:
    """The metrics of one job, in memory. Callable from any thread."""

    def __init__(self, path: Path) -> None:
        self._tail, self._rows, self._lock = _Tail(path), list[dict[str, Any]](), threading.Lock()

    def after(self, optimizer_step: int, generation: int) -> Rows:
        """The rows behind `optimizer_step`; all of them if the file has become another since `generation`."""
        with self._lock:
            self._update()
            behind = optimizer_step if generation == self._tail.generation else -1
            return Rows(self._tail.generation, [row for row in self._rows if row["optimizer_step"] > behind])

    def _update(self) -> None:
        lines = self._tail.read()
        if lines is None:
            self._rows.clear()
            lines = self._tail.read() or []
        self._rows += [row for _, line in lines if (row := _parse(line)) is not None and "optimizer_step" in row]
        while len(self._rows) > MAX_ROWS:
            self._rows = self._rows[::2]


class RolloutFile:
    """The completions of one job, found by number. Callable from any thread."""

    def __init__(self, path: Path) -> None:
        self._path, self._tail, self._offsets, self._lock = path, _Tail(path), list[int](), threading.Lock()

    def count(self) -> int:
        """How many there are."""
        with self._lock:
            lines = self._tail.read()
            if lines is None:
                self._offsets.clear()
                lines = self._tail.read() or []
            self._offsets += [offset for offset, _ in lines]
            return len(self._offsets)

    def get(self, number: int) -> dict[str, Any] | None:
        """That one (0-based); None if there is none."""
        if not 0 <= number < self.count():
            return None
        with self._path.open("rb") as file:
            file.seek(self._offsets[number])
            return _parse(file.readline())


def read_log(path: Path) -> str:
    """The end of a log."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - MAX_LOG_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return text if size <= MAX_LOG_BYTES else text.split("\n", 1)[-1]


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
