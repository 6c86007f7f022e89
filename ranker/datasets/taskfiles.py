"""Files of ranking tasks in and out. `load_tasks(dump_tasks(tasks))` gives the same tasks in every format.

(An empty criterion counts as none.)
"""

import contextlib
import csv
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

from ranker.datasets.mapping import TASK_FIELDS, ColumnMapping
from ranker.datasets.rows import ROW_FORMATS, iter_rows
from ranker.datasets.sources import open_source
from ranker.datasets.taskrows import Table
from ranker.errors import DatasetError
from ranker.schema import Domain, RankingTask


def load_tasks(
    path: Path, *, mapping: ColumnMapping | None = None, domain: Domain = Domain.OTHER
) -> Iterator[RankingTask]:
    """The tasks of a file, of a directory of files, or of a .zip / .gz of them, streamed.

    Args:
        path: .jsonl, .json, .csv, .tsv or .parquet files by suffix; other files in a directory are passed over.
        mapping: which column is which field; None = guessed for each file from its first rows.
        domain: for tables without a domain column.

    Yields:
        Tasks in the order of the files' names and rows.

    Raises:
        DatasetError: `file:line: field: value: fix`, at the first row that makes no valid task.

    Example:
        >>> from itertools import islice
        >>> list(islice(load_tasks(Path("assets/samples/recommendation.jsonl")), 2))  # doctest: +SKIP
    """
    source = open_source(path)
    files = source.with_suffix(*ROW_FORMATS)
    if not files:
        known = " ".join(sorted(ROW_FORMATS))
        raise DatasetError(
            f"{source.name}: suffix: no file of tasks: give one of {known}, or a directory or .zip of them"
        )
    for file in files:
        table = Table(iter_rows(file))
        yield from table.tasks(mapping or table.guess(), domain)


def dump_tasks(tasks: Iterable[RankingTask], path: Path) -> int:
    """Write tasks to a .jsonl, .csv or .parquet file, whole or not at all, and return their number.

    Raises:
        DatasetError: for another suffix, or if the file cannot be written.
    """
    path = Path(path)
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        known = " ".join(sorted(_WRITERS))
        raise DatasetError(f"{path}: suffix: {path.suffix or 'none'} cannot be written: use one of {known}")
    partial: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        partial = Path(name)
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as out:
            count = writer(tasks, out, partial)
        partial.replace(path)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be written: {error.strerror or error}: choose another place") from error
    finally:
        if partial is not None:
            with contextlib.suppress(FileNotFoundError):
                partial.unlink()
    return count


def task_line(task: RankingTask) -> str:
    """The task as one line of JSON, without the fields that are at their defaults (contract, "Files")."""
    return json.dumps(_plain_task(task), ensure_ascii=False, allow_nan=False)


def _plain_task(task: RankingTask) -> dict[str, Any]:
    values = task.model_dump(mode="json")
    for candidate in values["candidates"]:
        if not candidate["metadata"]:
            del candidate["metadata"]
    return {k: v for k, v in values.items() if v or k in ("task_id", "domain", "query", "candidates")}


def _flat_task(task: RankingTask) -> dict[str, str]:
    values = task.model_dump(mode="json")
    return {k: v if isinstance(v, str) else _cell_text(v) for k in TASK_FIELDS for v in [values[k]]}


def _cell_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False) if value else ""


def _write_jsonl(tasks: Iterable[RankingTask], out: IO[str], _path: Path) -> int:
    count = 0
    for task in tasks:
        out.write(task_line(task) + "\n")
        count += 1
    return count


def _write_csv(tasks: Iterable[RankingTask], out: IO[str], _path: Path) -> int:
    writer = csv.DictWriter(out, TASK_FIELDS)
    writer.writeheader()
    count = 0
    for task in tasks:
        writer.writerow(_flat_task(task))
        count += 1
    return count


def _write_parquet(tasks: Iterable[RankingTask], _out: IO[str], path: Path) -> int:
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.schema([(field, pyarrow.string()) for field in TASK_FIELDS])
    count = 0
    with parquet.ParquetWriter(path, schema) as writer:
        rows = iter(tasks)
        while batch := [_flat_task(task) for task in islice(rows, 1000)]:
            writer.write_table(pyarrow.Table.from_pylist(batch, schema=schema))
            count += len(batch)
    return count


_WRITERS = {".jsonl": _write_jsonl, ".csv": _write_csv, ".parquet": _write_parquet}
