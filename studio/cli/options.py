"""Flags and openings that several commands have in common."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ranker.schema import RankingTask
    from studio.library import Library
    from studio.settings import Settings
    from studio.store import DatasetInfo, Store


def example(*lines: str) -> str:
    """The end of a command's help."""
    return "\n".join(
        ["example:" if len(lines) == 1 else "examples:", *(f"  python launch.py {line}" for line in lines)]
    )


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="where the studio keeps its things (default: STUDIO_DATA_DIR, else your user data directory)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def read_settings(arguments: argparse.Namespace) -> "Settings":
    """The settings that the flags say; the data directory exists afterwards."""
    from studio.settings import Settings

    names = ("data_dir", "host", "port", "model", "accounts", "public_name", "tls_cert", "tls_key")
    given = {name: getattr(arguments, name, None) for name in names}
    chosen = {name: value for name, value in given.items() if value is not None}
    if "public_name" in chosen:
        chosen["public_names"] = tuple(chosen.pop("public_name"))
    settings = Settings(**chosen, open_browser=not getattr(arguments, "no_browser", True))
    settings.make_directories()
    return settings


@contextmanager
def open_store(settings: "Settings") -> Iterator["Store"]:
    """The studio's database, closed again at the end."""
    from studio.store import Store

    store = Store(settings.database_path)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def open_library(settings: "Settings") -> Iterator["Library"]:
    """The stored datasets; the samples are among them from the first time on."""
    from studio.library import Library

    with open_store(settings) as store:
        library = Library(store)
        library.seed_samples()
        yield library


def stored_tasks(settings: "Settings", name: str) -> "list[RankingTask] | None":
    """The tasks of `NAME` or `NAME@VERSION`; None if no stored dataset is called so."""
    with open_library(settings) as library:
        if name.partition("@")[0] not in {info.name for info in library.datasets()}:
            return None
        return list(library.iter_tasks(find_dataset(library, name).id))


def find_dataset(library: "Library", name: str) -> "DatasetInfo":
    """`NAME` (its newest version) or `NAME@VERSION`.

    Raises:
        UsageError: if there is none.
    """
    from ranker.errors import UsageError

    wanted, _, version = name.partition("@")
    datasets = library.datasets()
    for info in datasets:  # newest version first
        if info.name == wanted and version in ("", str(info.version)):
            return info
    known = ", ".join(sorted({info.name for info in datasets})) or "none"
    raise UsageError(f"dataset: {name!r}: no such dataset: known are {known}")
