"""What commands print: tables, JSON, and progress on standard error."""

import json
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as their longest cell; numbers to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(name), *(len(row[i]) for row in cells), 0) for i, name in enumerate(header)]
    is_number = [bool(rows) and all(isinstance(row[i], int | float) for row in rows) for i in range(len(header))]
    for row in [list(header), *cells]:
        line = [
            cell.rjust(w) if right else cell.ljust(w) for cell, w, right in zip(row, widths, is_number, strict=True)
        ]
        print("  ".join(line).rstrip())


def print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2))


class Progress:
    """Lines of progress: one per thing that is done, redrawn on a terminal while it moves."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._doing = ""
        self._since = time.monotonic()

    def __call__(self, doing: str, share: float | None) -> None:
        """Show that `doing` goes on (share: 0 to 1, None = not known)."""
        if doing != self._doing:
            self.close()
            self._doing, self._since = doing, time.monotonic()
            if not self._terminal:
                print(f"{doing} ...", file=sys.stderr, flush=True)
        if self._terminal:
            percent = "" if share is None else f" {share:.0%}"
            line = f"{doing} ...{percent} {time.monotonic() - self._since:.0f} s"
            print(f"\r\x1b[2K{line[: shutil.get_terminal_size().columns - 1]}", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the present line."""
        if self._doing and self._terminal:
            seconds = time.monotonic() - self._since
            print(f"\r\x1b[2K{self._doing}: done, {seconds:.1f} s", file=sys.stderr, flush=True)
        self._doing = ""
