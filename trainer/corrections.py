"""Files of corrections, one JSON object a line, as `corrections export` writes them."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from ranker.errors import DatasetError
from ranker.schema import Correction


def load_corrections(path: Path) -> Iterator[Correction]:
    """The corrections of a JSON Lines file, in order.

    Raises:
        DatasetError: `file:line: field: value: fix`.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _parse(line, f"{path}:{number}")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise DatasetError(f"{path}: {reason}: give a JSON Lines file of corrections") from error


def dump_corrections(corrections: Iterable[Correction], path: Path) -> int:
    """Write corrections; returns how many."""
    number = 0
    with path.open("w", encoding="utf-8") as lines:
        for correction in corrections:
            lines.write(correction.model_dump_json() + "\n")
            number += 1
    return number


def _parse(line: str, place: str) -> Correction:
    try:
        return Correction.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the line"
        raise DatasetError(f"{place}: {field}: {str(first['input'])[:60]!r}: {first['msg'].lower()}") from error
