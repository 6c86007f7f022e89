"""Large delimited files of short cells (interactions, ratings) as columns, block by block through polars.

Rows are checked as they come, so that an error still names file and line. Quoted cells with line breaks do not occur in
such files and are refused.
"""

import io
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from ranker.datasets.sources import SourceFile, decode
from ranker.errors import DatasetError

if TYPE_CHECKING:
    import polars

_BLOCK_LINES = 2**17
_UNIT_SEPARATOR = b"\x1f"


class Block(NamedTuple):
    """Some consecutive rows of a file."""

    frame: "polars.DataFrame"
    """All columns are text."""
    file: SourceFile
    lines: Sequence[int]
    """The line number of each row."""

    def place(self, row: int) -> str:
        """`file:line` of a row of the frame."""
        return f"{self.file.name}:{self.lines[row]}"

    def texts(self, column: str) -> "polars.Series":
        """A column in which no cell may be empty. Raises DatasetError for the first that is."""
        empty = self.frame[column].is_null()
        if empty.any():
            place = self.place(int(empty.arg_true()[0]))
            raise DatasetError(f"{place}: field '{column}': empty: every row needs it")
        return self.frame[column]

    def numbers(self, column: str) -> "polars.Series":
        """A column as finite numbers, empty = null. Raises DatasetError for the first cell that is none."""
        import polars as pl

        text = self.frame[column]
        numbers = text.cast(pl.Float64, strict=False)
        bad = (numbers.is_null() & text.is_not_null()) | ~numbers.is_finite().fill_null(value=True)
        if bad.any():
            row = int(bad.arg_true()[0])
            raise DatasetError(f"{self.place(row)}: field '{column}': {text[row]!r} is not a number: correct it")
        return numbers


def iter_columns(
    file: SourceFile, *, separator: str, columns: Sequence[str], wanted: Sequence[str], has_header: bool
) -> Iterator[Block]:
    """The wanted columns, some thousand rows at a time, in file order; blank lines are passed over.

    Args:
        separator: one character, or `::`.
        columns: all names in order.
        wanted: names to keep.
        has_header: the first line holds names and no row.

    Raises:
        DatasetError: `file:line: row: ...` for a row with another number of cells.
    """
    lines = ((number, raw) for number, raw in file.raw_lines() if not (has_header and number == 1) and raw.strip())
    while rows := list(islice(lines, _BLOCK_LINES)):
        frame = _parsed(file, rows, separator, columns)
        yield Block(frame.select(wanted), file, [number for number, _ in rows])


def _parsed(
    file: SourceFile, rows: list[tuple[int, bytes]], separator: str, columns: Sequence[str]
) -> "polars.DataFrame":
    import polars as pl

    mark = separator.encode() if len(separator) == 1 else _UNIT_SEPARATOR
    data = b"".join(raw if raw.endswith(b"\n") else raw + b"\n" for _, raw in rows)
    if len(separator) > 1:
        data = data.replace(separator.encode(), mark)
    try:
        data.decode("utf-8")
        frame = pl.read_csv(
            io.BytesIO(data),
            separator=mark.decode(),
            has_header=False,
            new_columns=list(columns),
            schema=dict.fromkeys(columns, pl.String),
            quote_char='"' if separator == "," else None,
        )
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        _find_bad_line(file, rows, separator, len(columns))
        reason = " ".join(str(error).split())[:120]
        raise DatasetError(f"{file.name}:{rows[0][0]}: rows: {reason}: correct them") from error
    if frame.height != len(rows):
        _find_bad_line(file, rows, separator, len(columns))
        raise DatasetError(f"{file.name}:{rows[0][0]}: rows: line breaks in quotes: put each row on one line")
    if frame.get_column(columns[-1]).null_count():
        _find_bad_line(file, rows, separator, len(columns))
    return frame


def _find_bad_line(file: SourceFile, rows: list[tuple[int, bytes]], separator: str, num_columns: int) -> None:
    """Raises DatasetError for the first line that does not split into `num_columns` cells."""
    for number, raw in rows:
        place = f"{file.name}:{number}"
        text = decode(raw, place).rstrip("\r\n")
        cells = text.count(separator) + 1
        if cells != num_columns and '"' not in text:
            raise DatasetError(f"{place}: row: {cells} cells where {num_columns} are expected: correct the row")
