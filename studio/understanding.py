"""What a reader makes of a file before anything is stored: format, columns, first tasks, and what would stop the import.

A bounded look, so that a file of any length is understood at once. Knows no page.
"""

from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ranker.datasets import Doctor, Report, import_source
from ranker.datasets.imports import PREVIEW_TASKS
from ranker.errors import DatasetError
from ranker.schema import RankingTask

MAX_TASKS = 1000


class Understood(NamedTuple):
    """A file as it would be imported."""

    source: str
    files: tuple[str, ...]
    reader: str
    summary: str
    """Which files the reader takes, for people."""
    columns: tuple[str, ...]
    """Tables: the columns there are."""
    mapping: Mapping[str, str]
    """Tables: field -> column."""
    preview: tuple[RankingTask, ...]
    num_looked: int
    """Tasks that were made and checked."""
    is_complete: bool
    """Whether those are all there are."""
    report: Report
    """The doctor's, on those tasks."""
    error: str
    """The first row that makes no task, in one line; "" = none."""


def understand(path: Path, options: Mapping[str, Any], watch: Callable[[int], None] | None = None) -> Understood:
    """Read as much of a file as it takes to show what an import would do.

    Args:
        path: a file or an archive.
        options: of the reader's builder, and `reader` to force one.
        watch: called now and then; what it raises ends the reading.

    Raises:
        DatasetError: if no reader takes the file, or an option names what is not there.
    """
    plan = import_source(path, options=options, watch=watch)
    mapping = plan.mapping
    doctor, preview, number, error = Doctor(), [], 0, ""
    tasks = plan.tasks()
    is_complete = False
    try:
        for number, task in enumerate(islice(tasks, MAX_TASKS), start=1):
            doctor.add(task)
            if number <= PREVIEW_TASKS:
                preview.append(task)
            if watch is not None:
                watch(0)
        is_complete = number < MAX_TASKS or next(tasks, None) is None
    except DatasetError as problem:
        error = str(problem)
    return Understood(
        source=plan.name,
        files=plan.files,
        reader=plan.reader.name,
        summary=plan.reader.summary,
        columns=plan.columns,
        mapping=mapping.columns() if mapping is not None else {},
        preview=tuple(preview),
        num_looked=number,
        is_complete=is_complete,
        report=doctor.report(),
        error=error,
    )
