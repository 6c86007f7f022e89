"""A file of traces that a long run appends to: JSON Lines, one trace each, written as they are finished.

A run that was killed may leave its last line torn; that line is dropped, and everything before it counts. The next run with
the same settings goes on behind it. This module does not know how a trace is made.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, NamedTuple, Self

from pydantic import ValidationError

from ranker.errors import DatasetError, UsageError
from ranker.schema import Mode, RankingTrace

BLOCK_BYTES: Final = 64 * 1024


class RunKey(NamedTuple):
    """What all traces of one run have in common."""

    model: str
    mode: Mode
    seed: int
    prompt_version: str


def read_traces(path: Path) -> Iterator[RankingTrace]:
    """The traces of a file, in its order.

    Raises:
        DatasetError: at the first line that is no trace.
    """
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield RankingTrace.model_validate_json(line)
            except ValidationError as error:
                first = error.errors()[0]
                field = ".".join(str(part) for part in first["loc"]) or "line"
                raise DatasetError(
                    f"{path}:{number}: {field}: {first['msg']}: delete the line, or write to another file"
                ) from error


def drop_torn_line(path: Path) -> int:
    """Cut off what a killed run left behind the last whole line. Returns the bytes that were dropped.

    A last line that is a trace, and only lacks its end of line, is kept.
    """
    if not path.is_file() or path.stat().st_size == 0:
        return 0
    with path.open("r+b") as file:
        start = _start_of_last_line(file)
        file.seek(start)
        tail = file.read()
        if not tail:
            return 0
        try:
            RankingTrace.model_validate_json(tail)
        except ValidationError:
            file.truncate(start)
            return len(tail)
        file.write(b"\n")
        return 0


class TraceWriter:
    """Appends traces to a file; each is on disk when `add` returns."""

    def __init__(self, path: Path) -> None:
        """Raises UsageError if the file cannot be written."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--out: {path}: {error.strerror}: choose another file") from error

    def add(self, trace: RankingTrace) -> None:
        self._file.write(trace.model_dump_json() + "\n")
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._file.close()


def check_same_run(trace: RankingTrace, key: RunKey, place: str) -> None:
    """Raises UsageError if `trace` was made with other settings than `key`."""
    for field, wanted in key._asdict().items():
        found = getattr(trace, field)
        if found != wanted:
            raise UsageError(
                f"{place}: {field}: {found}: this run has {wanted}: use the same settings or another --out"
            )


def _start_of_last_line(file: BinaryIO) -> int:
    """Offset behind the last end of line, read backwards."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - BLOCK_BYTES)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
