"""Large delimited files of short cells (interactions, ratings) as columns, block by block through polars.

Rows are checked as they come, so that an error still names file and line. Quoted cells with line breaks do not occur in
such files and are refused.
"""

import io
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from ranker.datasets.sources import SourceFile, decode
from ranker.errors import DatasetError

if TYPE_CHECKING:
    import polars

_BLOCK_LINES = 2**17
_UNIT_SEPARATOR = b"\x1f"


def read_columns(
    file: SourceFile, *, separator: str, columns: Sequence[str] | None, wanted: Sequence[str]
) -> "polars.DataFrame":
    """The wanted columns as text, in file order.

    Args:
        separator: one character, or `::`.
        columns: names in order; None = the first line holds them.
        wanted: names to keep.

    Raises:
        DatasetError: `file:line: row: ...` for a row with another number of cells.
    """
    import polars as pl

    lines = file.raw_lines()
    if columns is None:
        _, header = next(lines, (1, b""))
        columns = [c.strip() for c in decode(header, f"{file.name}:1").strip("\r\n").split(separator)]
    frames = [_block(file, block, separator, columns).select(wanted) for block in _blocks(lines)]
    return pl.concat(frames) if frames else pl.DataFrame(schema=dict.fromkeys(wanted, pl.String))


def as_numbers(frame: "polars.DataFrame", column: str, file: SourceFile, *, first_line: int) -> "polars.Series":
    """The column as numbers (empty = null).

    Raises:
        DatasetError: `file:line: field: value: fix` for the first cell that is no number.
    """
    import polars as pl

    text = frame[column]
    numbers = text.cast(pl.Float64, strict=False)
    bad = (numbers.is_null() & text.is_not_null()) | numbers.is_nan().fill_null(value=False)
    if bad.any():
        index = int(bad.arg_true()[0])
        place = f"{file.name}:{index + first_line}"
        raise DatasetError(f"{place}: field '{column}': {text[index]!r} is not a number: correct it")
    return numbers


def _blocks(lines: Iterator[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    while block := list(islice(lines, _BLOCK_LINES)):
        yield block


def _block(
    file: SourceFile, block: list[tuple[int, bytes]], separator: str, columns: Sequence[str]
) -> "polars.DataFrame":
    import polars as pl

    mark = separator.encode() if len(separator) == 1 else _UNIT_SEPARATOR
    data = b"".join(raw if raw.endswith(b"\n") else raw + b"\n" for _, raw in block)
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
        _find_bad_line(file, block, separator, len(columns))
        raise DatasetError(
            f"{file.name}:{block[0][0]}: rows: {' '.join(str(error).split())[:120]}: correct them"
        ) from error
    if frame.height != len(block) or frame.get_column(columns[-1]).null_count():
        _find_bad_line(file, block, separator, len(columns))
    return frame


def _find_bad_line(file: SourceFile, block: list[tuple[int, bytes]], separator: str, num_columns: int) -> None:
    """Raises DatasetError for the first line that does not split into `num_columns` cells."""
    for number, raw in block:
        place = f"{file.name}:{number}"
        text = decode(raw, place).rstrip("\r\n")
        cells = text.count(separator) + 1
        if cells != num_columns and '"' not in text:
            raise DatasetError(f"{place}: row: {cells} cells where {num_columns} are expected: correct the row")
