"""One file that holds the whole store, and the way back. A backup can be made while the studio runs; a restore cannot.

The file is a .zip of `studio.db` (copied by SQLite itself, so it is one moment of the database), the files of the evaluations that
the page started (`evaluations/<id>/...`), and `manifest.json` with the hash of each. Models and jobs are not in it: they are large,
and can be fetched, added or trained again. This module does not know what the tables mean.
"""

import json
import os
import re
import shutil
import sqlite3
import tempfile
import zipfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from filelock import FileLock, Timeout

from ranker.errors import StoreError, UsageError
from studio.evaluationfiles import EVALUATION_ID
from studio.settings import Settings
from studio.store import Store
from trainer.modelfiles import hash_files

DATABASE: Final = "studio.db"
MANIFEST: Final = "manifest.json"
FORMAT: Final = 2
FORMATS: Final = (1, FORMAT)
"""What can be read: in 1 there is the database alone."""
MAX_MANIFEST_BYTES: Final = 10_000_000
EVALUATIONS: Final = "evaluations"
_EVALUATION_FILE: Final = re.compile(rf"{EVALUATIONS}/{EVALUATION_ID.pattern}/[a-z]+(\.[a-z]+)?\.(json|jsonl|txt)")


class Backup(NamedTuple):
    """What a backup holds."""

    path: Path
    created_at: str
    database_bytes: int
    sha256: str
    """Of the database."""
    num_evaluations: int


def make_backup(settings: Settings, path: Path) -> Backup:
    """Write the store to `path`, whole or not at all.

    Raises:
        UsageError: if there is no store yet, or `path` cannot be written.
        StoreError: if the database cannot be read.
    """
    if not settings.database_path.is_file():
        raise UsageError(
            f"--data-dir: {settings.data_dir}: holds no {DATABASE}: name the directory that the studio uses"
        )
    part = path.with_name(path.name + ".part")
    try:
        with tempfile.TemporaryDirectory(dir=path.parent) as place:
            copy = Path(place) / DATABASE
            _copy_database(settings.database_path, copy)
            files = _copy_evaluations(settings.evaluations_dir, Path(place))
            backup = Backup(
                path,
                datetime.now(UTC).isoformat(timespec="seconds"),
                copy.stat().st_size,
                hash_files([copy]),
                len({name.split("/")[1] for name in files}),
            )
            manifest = {
                "format": FORMAT,
                "created_at": backup.created_at,
                "sha256": backup.sha256,
                "files": {name: hash_files([file]) for name, file in files.items()},
            }
            with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(MANIFEST, json.dumps(manifest))
                archive.write(copy, DATABASE)
                for name, file in files.items():
                    archive.write(file, name)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UsageError(f"backup: {path}: {error.strerror or error}: choose another file") from error
    return backup


def restore_backup(settings: Settings, path: Path) -> Path | None:
    """Put the store of a backup in the place of the present one, after checking it completely.

    Evaluations come back beside those that are there; where both have one, that of the data directory stays.

    Returns:
        Where the store that was there before is kept; None if there was none.

    Raises:
        UsageError: if `path` is no backup, or a studio is using the data directory.
        StoreError: if what the backup holds is damaged.
    """
    settings.make_directories()
    lock = FileLock(settings.data_dir / "studio.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UsageError(f"--data-dir: {settings.data_dir}: a studio is using it: close it first") from error
    try:
        with tempfile.TemporaryDirectory(dir=settings.data_dir) as place:
            copy = Path(place) / DATABASE
            _extract(path, Path(place))
            _check(copy, path)
            before = _set_aside(settings.database_path)
            copy.replace(settings.database_path)
            for evaluation in sorted(Path(place).glob(f"{EVALUATIONS}/*")):
                target = settings.evaluations_dir / evaluation.name
                if not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    evaluation.replace(target)
    finally:
        lock.release()
    return before


def _copy_database(source: Path, target: Path) -> None:
    """SQLite's own copy: one moment of the database, whatever is being written."""
    try:
        reading = sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)
        with closing(reading), closing(sqlite3.connect(target)) as copy:
            reading.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        raise StoreError(f"{source}: database: {error}: run `verify`") from error


def _copy_evaluations(source: Path, place: Path) -> dict[str, Path]:
    """Name in the archive -> a copy of the file: what a running evaluation appends meanwhile is not seen."""
    copies = {}
    for file in sorted(source.glob("*/*")):
        name = f"{EVALUATIONS}/{file.parent.name}/{file.name}"
        if file.is_file() and not file.is_symlink() and _EVALUATION_FILE.fullmatch(name):
            copies[name] = place / name
            copies[name].parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copies[name])
    return copies


def _extract(path: Path, place: Path) -> None:
    """Every file of the backup to its name below `place`, with the hash that the manifest says."""
    no_backup = f"restore: {path}: is not a backup of the studio: give a file that `backup` wrote"
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = _read_manifest(archive, no_backup)
            hashes = {DATABASE: manifest.get("sha256"), **manifest.get("files", {})}
            others = [name for name in hashes if name != DATABASE]
            is_known = all(_EVALUATION_FILE.fullmatch(name) for name in others)
            if not is_known or sorted(archive.namelist()) != sorted([MANIFEST, *hashes]):
                raise UsageError(no_backup)
            needed = sum(archive.getinfo(name).file_size for name in hashes)
            if shutil.disk_usage(place).free < 2 * needed:
                raise UsageError(f"restore: {path}: needs {2 * needed / 1e6:.0f} MB: free some space in {place.parent}")
            for name in hashes:
                target = place / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as source, target.open("wb") as copy:
                    shutil.copyfileobj(source, copy, 1024 * 1024)
    except FileNotFoundError as error:
        raise UsageError(f"restore: {path}: not found: check the path") from error
    except zipfile.BadZipFile as error:
        raise UsageError(no_backup) from error
    except OSError as error:
        raise UsageError(f"restore: {path}: {error.strerror or error}: cannot be read") from error
    for name, expected in hashes.items():
        if hash_files([place / name]) != expected:
            raise StoreError(
                f"restore: {path}: {name}: sha256: does not match: the file is damaged, use another backup"
            )


def _read_manifest(archive: zipfile.ZipFile, no_backup: str) -> dict[str, Any]:
    try:
        with archive.open(MANIFEST) as stream:
            manifest = json.loads(stream.read(MAX_MANIFEST_BYTES))
    except (KeyError, ValueError) as error:
        raise UsageError(no_backup) from error
    if not isinstance(manifest, dict) or manifest.get("format") not in FORMATS:
        raise UsageError(no_backup)
    if not isinstance(manifest.get("files", {}), dict):
        raise UsageError(no_backup)
    return manifest


def _check(copy: Path, path: Path) -> None:
    """Open (and migrate) the copy and re-derive what it stores."""
    store = Store(copy)
    try:
        problems = store.verify()
    finally:
        store.close()
    if problems:
        raise StoreError(f"restore: {path}: {problems[0]}: use another backup")
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")  # everything into the one file


def _set_aside(database: Path) -> Path | None:
    """Move the present store out of the way, with its log folded in."""
    if not database.is_file():
        return None
    try:
        with closing(sqlite3.connect(database, timeout=1.0)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.DatabaseError as error:
        if "locked" in str(error):
            raise UsageError(f"{database}: another program is using it: close it first") from error
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    kept = database.with_name(f"{database.name}.before-restore-{stamp}-{os.getpid()}")
    for suffix in ("-wal", "-shm"):  # only left where the database could not be read at all
        left = database.with_name(database.name + suffix)
        if left.exists():
            left.replace(kept.with_name(kept.name + suffix))
    database.replace(kept)
    return kept
