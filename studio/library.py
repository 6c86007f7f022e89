"""The datasets a person works with: import, list, page, delete with undo. Over the store; knows no page."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ranker.errors import DatasetError, RankingStudioError, UsageError
from ranker.schema import RankingTask
from studio.settings import ASSETS_DIR
from studio.store import DatasetInfo, Store, TaskPage

if TYPE_CHECKING:
    from ranker.backends.base import Backend
    from ranker.datasets import Fingerprints, ImportPlan, Report

logger = logging.getLogger(__name__)

HANDWRITTEN = "handwritten"
MAX_NAME_CHARS = 80


class BlockedError(DatasetError):
    """The doctor found errors; whoever has looked at them can allow the import."""

    def __init__(self, message: str, report: "Report") -> None:
        super().__init__(message)
        self.report = report


class Library:
    """Datasets of one store."""

    def __init__(self, store: Store, *, samples_dir: Path = ASSETS_DIR / "samples") -> None:
        self._store = store
        self._samples_dir = samples_dir
        self._fingerprints: dict[str, Fingerprints] = {}

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
        """`import_source` of a file, directory or archive, as it is."""
        return self.import_source(path, name, report=report, cancel=cancel)

    def import_source(
        self,
        source: str | Path,
        name: str,
        *,
        from_dir: Path | None = None,
        options: Mapping[str, Any] | None = None,
        allow: bool = False,
        report: Callable[[int], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> DatasetInfo:
        """Import a source as `name`: all of it or, if anything is wrong, nothing.

        Args:
            source: a path, `recipe:NAME`, `hub:ID` or `ir:ID` (see `ranker.datasets.import_source`).
            name: what the dataset is called; other content under the same name becomes its next version.
            from_dir: where the raw files of a recipe are.
            options: of the reader's builder.
            allow: take it in although the doctor finds errors.
            report: told now and then how many tasks have been read.
            cancel: set it from another thread to give up.

        Returns:
            The new version, its `provenance` holding how it was made and the doctor's report; or the one that was made
            from the same content with the same options, or that has these very tasks already.

        Raises:
            DatasetError: `file:line: field: value: fix`; BlockedError for the doctor's first error.
            UsageError: if the name cannot be used, or the import was cancelled.
        """
        from ranker.datasets import Doctor, import_source  # readers of big formats take their time to load

        name = _checked_name(name)

        def give_up_if_cancelled(_: int = 0) -> None:
            if cancel is not None and cancel.is_set():
                raise UsageError(f"{source}: import: was cancelled: nothing was stored")

        plan = import_source(source, from_dir=from_dir, options=options, watch=give_up_if_cancelled)
        known = self._made_before(name, plan)
        if known is not None:
            return self.restore(known.id)
        doctor = Doctor()

        def examined() -> Iterator[RankingTask]:
            yield from doctor.watch(plan.tasks())
            found = doctor.report()
            if found.has_errors and not allow:
                raise BlockedError(f"{plan.name}: check: {found.errors[0].summary} Or allow it.", found)

        def provenance() -> dict[str, Any]:
            return {**plan.provenance.model_dump(mode="json"), "report": doctor.report().model_dump(mode="json")}

        return self._store.datasets.add(
            name, examined(), source=plan.name, provenance=provenance, report=report, cancel=cancel
        )

    def check(
        self,
        dataset_id: int,
        *,
        model: "Backend | None" = None,
        max_answer_tokens: int = 0,
        against: Sequence[int] | None = None,
        report: Callable[[int], None] | None = None,
    ) -> "Report":
        """What the dataset doctor says.

        Args:
            dataset_id: the version to look at.
            model: whose tokens and context length count; None = characters / 4, without a limit.
            max_answer_tokens: what the model has to have left to write.
            against: datasets to look for the same queries in; None = the newest versions of all others.
            report: told how many tasks have been looked at; what it raises ends the check.
        """
        from ranker.datasets import check

        info = self.dataset(dataset_id)
        others = self._others_of(info) if against is None else [self.dataset(i) for i in against]
        return check(
            _counted(self._store.datasets.iter_tasks(dataset_id), report),
            count_tokens=model.count_tokens if model else None,
            max_tokens=model.context_tokens - max_answer_tokens if model else None,
            chat_text=model.chat_text if model else None,
            others={f"{other.name}@{other.version}": self._fingerprints_of(other) for other in others},
        )

    def imported_report(self, info: DatasetInfo) -> "Report | None":
        """What the doctor said when it was imported; None where that was not kept (tasks written by hand)."""
        from ranker.datasets import Report

        kept = info.provenance.get("report")
        return Report.model_validate(kept) if kept else None

    def _made_before(self, name: str, plan: "ImportPlan") -> DatasetInfo | None:
        """The version of `name` that the same content and options have made already."""
        wanted = plan.provenance.model_dump(mode="json", include={"content_hash", "reader", "recipe", "options"})
        for info in self.datasets(include_deleted=True):
            if info.name == name and all(info.provenance.get(key) == value for key, value in wanted.items()):
                return info
        return None

    def _others_of(self, info: DatasetInfo) -> list[DatasetInfo]:
        newest: dict[str, DatasetInfo] = {}
        for other in self.datasets():  # newest version first
            newest.setdefault(other.name, other)
        return [other for other in newest.values() if other.name != info.name]

    def _fingerprints_of(self, info: DatasetInfo) -> "Fingerprints":
        """Kept for as long as the library lives: versions never change (tasks written by hand change the hash)."""
        from ranker.datasets import fingerprint

        if info.sha256 not in self._fingerprints:
            self._fingerprints[info.sha256] = fingerprint(self._store.datasets.iter_tasks(info.id))
        return self._fingerprints[info.sha256]

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

    def position(self, dataset_id: int, task_id: str) -> int:
        """0-based place of a task in its dataset. Raises StoreError if it has no such task."""
        return self._store.datasets.position(dataset_id, task_id)

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


def _counted(tasks: Iterator[RankingTask], report: Callable[[int], None] | None) -> Iterator[RankingTask]:
    for number, task in enumerate(tasks, start=1):
        if report is not None:
            report(number)
        yield task


def _checked_name(name: str) -> str:
    name = " ".join(name.split())
    if not name or len(name) > MAX_NAME_CHARS or not name.isprintable():
        raise UsageError(f"dataset: name: {name[:40]!r}: use 1 to {MAX_NAME_CHARS} printable characters")
    return name
