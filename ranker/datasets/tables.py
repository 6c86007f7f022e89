"""Tables that already hold ranking tasks, with the mapping of their columns as options."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ranker.datasets.building import Builder, BuildOptions, Built, Tally, query_group
from ranker.datasets.mapping import ColumnMapping
from ranker.datasets.rows import Row
from ranker.datasets.taskrows import Table
from ranker.errors import DatasetError
from ranker.schema import Domain


@dataclass(frozen=True, kw_only=True)
class TaskTables:
    """One or more tables of tasks; each part may be called again."""

    parts: tuple[Callable[[], Iterator[Row]], ...]
    place: str = "tasks"

    def first(self) -> Table:
        """The first table, for showing its columns and mapping."""
        return Table(self.parts[0]())


class TableOptions(BuildOptions):
    """Which column is which field. None = guessed from the names; an empty text = the table has none."""

    task_id: str | None = None
    query: str | None = None
    history: str | None = None
    candidates: str | None = None
    candidate_text: str | None = None
    candidate_id: str | None = None
    candidate_title: str | None = None
    relevance: str | None = None
    domain: str | None = None
    criterion: str | None = None
    default_domain: Domain = Domain.OTHER
    """For tables without a domain column."""

    def mapping(self, table: Table) -> ColumnMapping:
        """The guessed mapping of `table` with these options in place of the guesses."""
        changes = {f: v for f in ColumnMapping.model_fields if (v := getattr(self, f)) is not None}
        return table.guess().edited(changes, table.columns)


def build_tables(raw: TaskTables, options: TableOptions, tally: Tally) -> Iterator[Built]:
    """The tasks of every table, ids checked to be unique over all."""
    seen: set[str] = set()
    for part in raw.parts:
        table = Table(part())
        for task in table.tasks(options.mapping(table), options.default_domain):
            tally.add("tasks_read")
            if task.task_id in seen:
                raise DatasetError(f"{raw.place}: field 'task_id': {task.task_id!r} appears twice: make ids unique")
            seen.add(task.task_id)
            yield Built(query_group(" ".join((task.query, *task.history))), task)


TABLES = Builder(name="tasks", group="query", options=TableOptions, build=build_tables)
