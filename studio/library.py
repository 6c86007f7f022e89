"""The datasets a person works with: import, list, page, delete with undo. Over the store; knows no page."""

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from ranker.errors import RankingStudioError, UsageError
from ranker.schema import RankingTask
from studio.settings import ASSETS_DIR
from studio.store import DatasetInfo, Store, TaskPage

logger = logging.getLogger(__name__)

HANDWRITTEN = "handwritten"
MAX_NAME_CHARS = 80


class Library:
    """Datasets of one store."""

    def __init__(self, store: Store, *, samples_dir: Path = ASSETS_DIR / "samples") -> None:
        self._store = store
        self._samples_dir = samples_dir

    def datasets(self, *, include_deleted: bool = False) -> list[DatasetInfo]:
        """All versions of all datasets, by name, newest version first."""
        return self._store.datasets.list(include_deleted=include_deleted)

    def dataset(self, dataset_id: int) -> DatasetInfo:
        """Raises StoreError if there is none of that id."""
        return self._store.datasets.get(dataset_id)

    def import_file(
        self,
        path: Path,
        name: str,
        *,
        report: Callable[[int], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> DatasetInfo:
        """Import a file of tasks as `name`: all of it or, if anything is wrong, nothing.

        Args:
            path: JSON Lines, CSV, ... (what `ranker.datasets.load_tasks` reads).
            name: what the dataset is called; a file with other tasks under the same name becomes its next version.
            report: told now and then how many tasks have been read.
            cancel: set it from another thread to give up.

        Returns:
            The new version, or the one that has these very tasks already.

        Raises:
            DatasetError: `file:line: field: value: fix`.
            UsageError: if the name cannot be used, or the import was cancelled.
        """
        from ranker.datasets import load_tasks  # readers of big formats take their time to load

        name = _checked_name(name)
        provenance = {"file": path.name, "bytes": path.stat().st_size if path.is_file() else None}
        return self._store.datasets.add(
            name, load_tasks(path), source=path.name, provenance=provenance, report=report, cancel=cancel
        )

    def delete(self, dataset_id: int) -> DatasetInfo:
        """Hide a version; `restore` brings it back. Its traces stay."""
        return self._store.datasets.set_deleted(dataset_id, True)

    def restore(self, dataset_id: int) -> DatasetInfo:
        """Undo `delete`."""
        return self._store.datasets.set_deleted(dataset_id, False)

    def tasks(self, dataset_id: int, *, query: str = "", offset: int = 0, limit: int = 50) -> TaskPage:
        """One page of a dataset's tasks in their order; with `query` those in which all its words occur."""
        return self._store.datasets.tasks(dataset_id, query=query, offset=offset, limit=limit)

    def iter_tasks(self, dataset_id: int) -> Iterator[RankingTask]:
        """All tasks of a dataset in their order, streamed."""
        return self._store.datasets.iter_tasks(dataset_id)

    def task(self, dataset_id: int, task_id: str) -> RankingTask:
        """Raises StoreError if the dataset has no such task."""
        return self._store.datasets.task(dataset_id, task_id)

    def add_task(self, task: RankingTask, dataset_name: str = HANDWRITTEN) -> tuple[int, str]:
        """Keep a task that somebody wrote.

        Returns:
            (dataset_id, task_id); the id differs from the task's own where that is taken by another task.
        """
        return self._store.datasets.append(_checked_name(dataset_name), task)

    def export_file(self, dataset_id: int, path: Path) -> int:
        """Write a dataset to a file. Returns the number of tasks."""
        from ranker.datasets import dump_tasks

        dump_tasks(self._store.datasets.iter_tasks(dataset_id), path)
        return self.dataset(dataset_id).num_tasks

    def seed_samples(self) -> list[DatasetInfo]:
        """Import the samples that come with the program, if the store has never had a dataset."""
        if self.datasets(include_deleted=True) or not self._samples_dir.is_dir():
            return []
        added = []
        for path in sorted(self._samples_dir.glob("*.jsonl")):
            try:
                added.append(self.import_file(path, path.stem))
            except RankingStudioError as error:  # the studio is of use without its samples
                logger.error("samples: %s", error)
        return added


def _checked_name(name: str) -> str:
    name = " ".join(name.split())
    if not name or len(name) > MAX_NAME_CHARS or not name.isprintable():
        raise UsageError(f"dataset: name: {name[:40]!r}: use 1 to {MAX_NAME_CHARS} printable characters")
    return name
