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


EVALUATION = "20261126-101112-ab12"


def add_evaluation(settings: Settings, log: str) -> Path:
    place = settings.evaluations_dir / EVALUATION
    place.mkdir(parents=True, exist_ok=True)
    (place / "results.journal.jsonl").write_text('{"row": 1}\n')
    (place / "log.txt").write_text(log)
    (place / "stop").write_text("")
    (settings.evaluations_dir / "notes").mkdir(exist_ok=True)
    (settings.evaluations_dir / "notes" / "mine.txt").write_text("not ours")
    return place


def test_evaluations_come_back_beside_those_that_are_there(
    settings: Settings, make_task: MakeTask, tmp_path: Path
) -> None:
    add_task(settings, make_task("one"))
    place = add_evaluation(settings, "then")
    made = make_backup(settings, tmp_path / "b.zip")
    assert made.num_evaluations == 1
    (place / "log.txt").write_text("now")
    restore_backup(settings, made.path)
    assert (place / "log.txt").read_text() == "now", "what is there stays"
    elsewhere = Settings(data_dir=tmp_path / "elsewhere")
    restore_backup(elsewhere, made.path)
    restored = {str(f.relative_to(elsewhere.evaluations_dir)): f for f in elsewhere.evaluations_dir.rglob("*.*")}
    assert sorted(restored) == [f"{EVALUATION}/log.txt", f"{EVALUATION}/results.journal.jsonl"]
    assert restored[f"{EVALUATION}/log.txt"].read_text() == "then"
    assert task_ids(elsewhere) == ["one"]


def rewrite(backup: Path, change: Callable[[dict[str, bytes]], object]) -> None:
    with zipfile.ZipFile(backup) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(backup, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def test_a_backup_of_the_first_format_is_restored(settings: Settings, backup: Path) -> None:
    def as_before(members: dict[str, bytes]) -> None:
        manifest = json.loads(members["manifest.json"])
        del manifest["files"]
        members["manifest.json"] = json.dumps(manifest | {"format": 1}).encode()

    rewrite(backup, as_before)
    restore_backup(settings, backup)
    assert task_ids(settings) == ["one"]


@pytest.mark.parametrize(
    "name", ["../up.txt", "evaluations/../../up.txt", "models/x/model.json", f"evaluations/{EVALUATION}/a/b.txt"]
)
def test_a_manifest_cannot_name_other_files(settings: Settings, backup: Path, name: str) -> None:
    def smuggle(members: dict[str, bytes]) -> None:
        manifest = json.loads(members["manifest.json"])
        members["manifest.json"] = json.dumps(manifest | {"files": {name: "0" * 64}}).encode()
        members[name] = b"x"

    rewrite(backup, smuggle)
    with pytest.raises(UsageError, match="is not a backup"):
        restore_backup(settings, backup)
    assert not list(settings.data_dir.parent.rglob("up.txt"))


def test_a_damaged_evaluation_is_found(settings: Settings, make_task: MakeTask, tmp_path: Path) -> None:
    add_task(settings, make_task("one"))
    add_evaluation(settings, "then")
    path = make_backup(settings, tmp_path / "b.zip").path
    rewrite(path, lambda members: members.update({f"evaluations/{EVALUATION}/log.txt": b"other"}))
    with pytest.raises(StoreError, match=r"log\.txt: sha256: does not match"):
        restore_backup(settings, path)


def test_missing_files_are_named(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not found"):
        restore_backup(settings, tmp_path / "none.zip")
    with pytest.raises(UsageError, match=r"holds no studio\.db"):
        make_backup(settings, tmp_path / "b.zip")
