"""What a reader is: a name, a guess whether a source is its format, and a function from the source to raw data."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ranker.datasets.building import Builder
from ranker.datasets.rows import ROW_FORMATS, Row
from ranker.datasets.sources import Source, SourceFile
from ranker.errors import DatasetError

Raw = TypeVar("Raw")


@dataclass(frozen=True, kw_only=True)
class Reader(Generic[Raw]):
    """Reads one family of formats into the raw data of one builder."""

    name: str
    summary: str
    """One line for people: which files it takes."""
    builder: Builder[Raw, Any]
    sniff: Callable[[Source], float]
    """How surely the source is of this format, 0 (not) to 1, from names and first lines only."""
    read: Callable[[Source], Raw]


def first_rows(file: SourceFile, number: int = 3) -> list[Row]:
    """The first rows of a table, or [] for what is no table (sniffing must not fail)."""
    reader = ROW_FORMATS.get(file.suffix)
    rows: list[Row] = []
    if reader is None:
        return rows
    try:
        for row in reader(file):
            rows.append(row)
            if len(rows) == number:
                break
    except DatasetError:
        pass
    return rows


def columns_of_file(file: SourceFile) -> tuple[str, ...]:
    """Column names of a table's first row, or ()."""
    rows = first_rows(file, 1)
    return tuple(rows[0].values) if rows else ()


def pick(names: tuple[str, ...], *wanted: str) -> str | None:
    """The first of `wanted` that is among `names`, ignoring case, or None."""
    by_plain = {n.lower(): n for n in reversed(names)}
    return next((by_plain[w] for w in wanted if w in by_plain), None)
