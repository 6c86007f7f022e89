"""A store, to a file and back."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ranker.errors import StoreError, UsageError
from ranker.schema import RankingTask
from studio.app import open_context
from studio.backup import make_backup, restore_backup
from studio.library import Library
from studio.settings import Settings
from studio.store import Store

MakeTask = Callable[..., RankingTask]


def add_task(settings: Settings, task: RankingTask) -> None:
    settings.make_directories()
    store = Store(settings.database_path)
    Library(store).add_task(task)
    store.close()


def task_ids(settings: Settings) -> list[str]:
    store = Store(settings.database_path)
    library = Library(store)
    ids = [task.task_id for info in library.datasets()[:1] for task in library.iter_tasks(info.id)]
    store.close()
    return ids


@pytest.fixture
def backup(settings: Settings, make_task: MakeTask, tmp_path: Path) -> Path:
    """A backup that holds task `one`."""
    add_task(settings, make_task("one"))
    return make_backup(settings, tmp_path / "b.zip").path


def test_restore_brings_back_what_was_there(settings: Settings, backup: Path, make_task: MakeTask) -> None:
    add_task(settings, make_task("two"))
    kept = restore_backup(settings, backup)
    assert task_ids(settings) == ["one"]
    assert kept is not None and kept.is_file(), "what was replaced is kept"


def test_restore_into_an_empty_directory(backup: Path, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "elsewhere")
    assert restore_backup(settings, backup) is None
    assert task_ids(settings) == ["one"]
    assert sorted(path.name for path in settings.data_dir.glob("studio.db*")) == ["studio.db"]


def test_backup_while_the_studio_writes_sees_one_moment(
    settings: Settings, make_task: MakeTask, tmp_path: Path
) -> None:
    context = open_context(settings)
    try:
        context.library.add_task(make_task("one"))
        path = make_backup(settings, tmp_path / "b.zip").path
        context.library.add_task(make_task("two"))
        with pytest.raises(UsageError, match="a studio is using it"):
            restore_backup(settings, path)
    finally:
        context.close()
    restore_backup(settings, path)
    assert task_ids(settings) == ["one"]


def test_damaged_backup_changes_nothing(settings: Settings, backup: Path, make_task: MakeTask) -> None:
    add_task(settings, make_task("two"))
    with zipfile.ZipFile(backup) as archive:
        database = bytearray(archive.read("studio.db"))
        manifest = archive.read("manifest.json")
    database[5000] ^= 1
    with zipfile.ZipFile(backup, "w") as archive:
        archive.writestr("studio.db", bytes(database))
        archive.writestr("manifest.json", manifest)
    with pytest.raises(StoreError, match="sha256: does not match"):
        restore_backup(settings, backup)
    assert len(task_ids(settings)) == 2


@pytest.mark.parametrize(
    "members",
    [
        None,
        {},
        {"studio.db": "x"},
        {"studio.db": "x", "manifest.json": "no json"},
        {"studio.db": "x", "manifest.json": json.dumps({"format": 99})},
        {"studio.db": "x", "manifest.json": "{}", "../up": "x"},
    ],
    ids=["no zip", "empty", "no manifest", "bad manifest", "newer format", "path trick"],
)
def test_file_that_is_no_backup_is_refused(settings: Settings, tmp_path: Path, members: dict[str, str] | None) -> None:
    path = tmp_path / "other.zip"
    path.write_text("not a zip")
    if members is not None:
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in members.items():
                archive.writestr(name, text)
    with pytest.raises(UsageError, match="is not a backup"):
        restore_backup(settings, path)


def test_missing_files_are_named(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not found"):
        restore_backup(settings, tmp_path / "none.zip")
    with pytest.raises(UsageError, match=r"holds no studio\.db"):
        make_backup(settings, tmp_path / "b.zip")
