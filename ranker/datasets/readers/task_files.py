"""Reader of files that already hold ranking tasks."""

from functools import partial

from ranker.datasets.readers.base import Reader, first_rows
from ranker.datasets.rows import ROW_FORMATS, iter_rows
from ranker.datasets.sources import Source
from ranker.datasets.tables import TABLES, TaskTables
from ranker.datasets.taskrows import Table
from ranker.errors import DatasetError


def _sniff(source: Source) -> float:
    best = 0.0
    for file in source.with_suffix(*ROW_FORMATS):
        mapping = Table(iter(first_rows(file, 5))).guess()
        best = max(best, 1.0 if mapping.is_contract else 0.5 if mapping.candidates or mapping.candidate_text else 0.1)
    return best


def _read(source: Source) -> TaskTables:
    files = source.with_suffix(*ROW_FORMATS)
    if not files:
        known = " ".join(sorted(ROW_FORMATS))
        raise DatasetError(f"{source.name}: suffix: no table among the files: give one of {known}")
    return TaskTables(parts=tuple(partial(iter_rows, file) for file in files), place=source.name)


TASK_FILES = Reader(
    name="tasks",
    summary="ranking tasks: JSON Lines, JSON, CSV, TSV, Parquet, in the contract's layout or with mapped columns",
    builder=TABLES,
    sniff=_sniff,
    read=_read,
)
