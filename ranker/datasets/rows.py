"""Rows of a file as dictionaries, whatever the format: JSON Lines, a JSON array, CSV, TSV, Parquet.

Everything is streamed: memory is bounded by the longest row (and, for Parquet, by a small batch). It knows no field names.
"""

import csv
import json
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ranker.datasets.sources import MAX_LINE_BYTES, SourceFile, decode
from ranker.errors import DatasetError

csv.field_size_limit(MAX_LINE_BYTES)
_PARQUET_BATCH_ROWS = 256
_JSON_BLOCK_CHARS = 2**20


class Row(NamedTuple):
    """One record of a file."""

    place: str
    """`file:line` of where it begins (Parquet: the 1-based row), for messages."""
    values: dict[str, Any]

    def need(self, column: str) -> Any:
        """The value of a column that every row must have. Raises DatasetError where it is missing."""
        if column not in self.values:
            raise DatasetError(f"{self.place}: field '{column}': missing: add it, as in the first rows")
        return self.values[column]


def iter_rows(file: SourceFile) -> Iterator[Row]:
    """The rows of `file`, read by its suffix.

    Raises:
        DatasetError: `file:line: field: value: fix`, for anything that is not a well-formed row.
    """
    return row_format(file)(file)


def row_format(file: SourceFile) -> Callable[[SourceFile], Iterator[Row]]:
    """The function that reads the rows of `file`.

    Raises:
        DatasetError: if the suffix is none that holds rows.
    """
    reader = ROW_FORMATS.get(file.suffix)
    if reader is None:
        known = " ".join(sorted(ROW_FORMATS))
        raise DatasetError(f"{file.name}: suffix: {file.suffix or 'none'} holds no rows: rename to one of {known}")
    return reader


def iter_json_lines(file: SourceFile) -> Iterator[Row]:
    """One JSON object a line; blank lines are skipped."""
    for line in file.lines():
        if line.text.strip():
            place = f"{file.name}:{line.number}"
            yield Row(place, _as_object(parse_json(line.text, place), place))


def iter_json(file: SourceFile) -> Iterator[Row]:
    """A JSON array of objects, read element by element; a file that does not begin with `[` is read as JSON Lines."""
    with file.open() as stream:
        first = stream.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    return _iter_array(file) if first == b"[" else iter_json_lines(file)


def iter_csv(file: SourceFile) -> Iterator[Row]:
    """Comma-separated rows under a header; quoted cells may hold line breaks; every cell stays text."""
    numbers = _NumberedText(file)
    reader = csv.reader(numbers, strict=True)
    return _table_rows(file, reader, numbers)


def iter_tsv(file: SourceFile) -> Iterator[Row]:
    """Tab-separated rows under a header; quote characters are plain text, as in RecBole, WikiQA and BEIR files."""
    numbers = _NumberedText(file)
    reader = csv.reader(numbers, delimiter="\t", quoting=csv.QUOTE_NONE)
    return _table_rows(file, reader, numbers)


def iter_parquet(file: SourceFile) -> Iterator[Row]:
    """The rows of a Parquet file, in small batches."""
    import pyarrow
    from pyarrow import parquet

    with file.open_seekable() as stream:
        try:
            number = 0
            for batch in parquet.ParquetFile(stream).iter_batches(batch_size=_PARQUET_BATCH_ROWS):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(f"{file.name}:{number}", values)
        except (pyarrow.ArrowException, UnicodeDecodeError, ValueError, OverflowError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DatasetError(f"{file.name}: Parquet: {reason}: write the file again") from error


ROW_FORMATS: dict[str, Callable[[SourceFile], Iterator[Row]]] = {
    ".jsonl": iter_json_lines,
    ".ndjson": iter_json_lines,
    ".json": iter_json,
    ".csv": iter_csv,
    ".tsv": iter_tsv,
    ".parquet": iter_parquet,
}


def parse_json(text: str, place: str) -> Any:
    """Strict JSON: no NaN or Infinity, no half of a surrogate pair (neither can be stored or sent on).

    Raises:
        DatasetError: with `place`, the column and the reason.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise DatasetError(f"{place}: JSON: {error.msg} at column {error.colno}: correct the line") from error
    except RecursionError as error:
        raise DatasetError(f"{place}: JSON: nested too deep: flatten it") from error
    except ValueError as error:
        raise DatasetError(f"{place}: JSON: {str(error)[:120]}: correct the value") from error
    if "\\u" in text:
        _refuse_surrogates(value, place)
    return value


def as_number(value: Any, place: str, field: str) -> float:
    """A cell as a finite number; true and false count 1 and 0.

    Raises:
        DatasetError: `place: field: value: fix` for anything else.
    """
    text = str(value).strip().lower()
    if text in ("true", "false"):
        return float(text == "true")
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        shown = repr(value if len(text) <= 40 else text[:40] + "...")
        raise DatasetError(f"{place}: field '{field}': {shown} is not a number: write one")
    return number


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _refuse_surrogates(value: Any, place: str) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise DatasetError(f"{place}: JSON: lone surrogate in a \\u escape: write the character itself") from error


def _as_object(value: Any, place: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise DatasetError(f"{place}: JSON: {type(value).__name__} where an object is expected: write one object a row")


def _iter_array(file: SourceFile) -> Iterator[Row]:
    """Elements of a top-level array, holding one element and one block of text in memory."""
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    buffer, position, number, is_open = "", 0, 1, False
    for block in _blocks(file):
        buffer, position = buffer[position:] + block, 0
        while True:
            start = _skip_separators(buffer, position)
            number += buffer.count("\n", position, start)
            position = start
            if position == len(buffer):
                break
            if not is_open:
                is_open, position = True, position + 1
                continue
            if buffer[position] == "]":
                return
            place = f"{file.name}:{number}"
            element = _next_element(decoder, buffer, position, place)
            if element is None:
                break
            value, end = element
            yield Row(place, _as_object(value, place))
            number += buffer.count("\n", position, end)
            position = end
    raise DatasetError(f"{file.name}:{number}: JSON: the array is cut off or malformed: correct the element here")


def _next_element(decoder: json.JSONDecoder, buffer: str, position: int, place: str) -> tuple[Any, int] | None:
    """(value, end) of the element at `position`, or None where more text may complete it."""
    try:
        value, end = decoder.raw_decode(buffer, position)
    except json.JSONDecodeError as error:
        if len(buffer) - position > MAX_LINE_BYTES:
            raise DatasetError(f"{place}: JSON: {error.msg}: correct the element that begins here") from error
        return None
    except RecursionError as error:
        raise DatasetError(f"{place}: JSON: nested too deep: flatten it") from error
    except ValueError as error:
        raise DatasetError(f"{place}: JSON: {str(error)[:120]}: correct the value") from error
    if buffer.find("\\u", position, end) >= 0:
        _refuse_surrogates(value, place)
    return value, end


def _skip_separators(buffer: str, position: int) -> int:
    while position < len(buffer) and buffer[position] in " \t\r\n,":
        position += 1
    return position


def _blocks(file: SourceFile) -> Iterator[str]:
    """The text in whole lines, about `_JSON_BLOCK_CHARS` at a time."""
    parts: list[str] = []
    size = 0
    for line in file.lines():
        parts.append(line.text + "\n")
        size += len(line.text) + 1
        if size >= _JSON_BLOCK_CHARS:
            yield "".join(parts)
            parts, size = [], 0
    if parts:
        yield "".join(parts)


class _NumberedText(Iterator[str]):
    """Lines with their ends, as `csv.reader` wants them, remembering the number of the last one."""

    def __init__(self, file: SourceFile) -> None:
        self._lines = file.raw_lines()
        self._name = file.name
        self.number = 0

    def __next__(self) -> str:
        self.number, raw = next(self._lines)
        return decode(raw, f"{self._name}:{self.number}")


def _table_rows(file: SourceFile, reader: Iterator[list[str]], numbers: _NumberedText) -> Iterator[Row]:
    header: list[str] | None = None
    while True:
        start = numbers.number + 1
        place = f"{file.name}:{start}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DatasetError(f"{place}: row: {error}: correct the quotes or the cell") from error
        if cells is None:
            return
        if not any(cells):
            continue
        if header is None:
            header = _checked_header(cells, place)
        elif len(cells) != len(header):
            raise DatasetError(f"{place}: row: {len(cells)} cells under {len(header)} columns: correct the row")
        else:
            yield Row(place, dict(zip(header, cells, strict=True)))


def _checked_header(cells: list[str], place: str) -> list[str]:
    names = [c.strip() for c in cells]
    twice = next((n for i, n in enumerate(names) if n in names[:i]), None)
    if twice is not None:
        raise DatasetError(f"{place}: header: column {twice!r} appears twice: rename one")
    return names
