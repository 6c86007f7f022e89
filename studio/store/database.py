"""The SQLite file: opening, migrating, and the two kinds of transaction. Knows no table.

Readers never wait (write-ahead log). Writers queue on one lock in this process and on SQLite's lock across processes, and
take that lock at their beginning, so that none fails half-way.
"""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlmodel import Session

from ranker.errors import StoreError

MIGRATIONS_DIR = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_MS = 5000
WRITE_PATIENCE_S = 60.0


def known_versions() -> list[str]:
    """Numbers of the migrations in this package, oldest first."""
    return sorted(path.name[:4] for path in (MIGRATIONS_DIR / "versions").glob("[0-9]*.py"))


def _set_up_connection(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, see `_begin`
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
        "cache_size=-16000",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


class Database:
    """One open database file. Usable from any thread."""

    def __init__(self, path: Path) -> None:
        """Open `path`, make it if it is not there, and bring it up to the newest version.

        Raises:
            StoreError: if the file is no database, is damaged, or was written by a newer program.
        """
        self.path = path
        self._lock = threading.Lock()
        self._engine: Engine = create_engine(f"sqlite:///{path}", pool_size=8, max_overflow=24)
        event.listen(self._engine, "connect", _set_up_connection)
        event.listen(self._engine, "begin", _begin)
        try:
            self._migrate()
        except BaseException:
            self._engine.dispose()
            raise

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one moment of the database."""
        with self._one_line_errors(), Session(self._engine) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that may change things: committed at the end, rolled back if anything is raised."""
        with self.connect() as connection, self.writing(connection), Session(connection) as session:
            yield session
            session.flush()

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection of one's own, for work with temporary tables."""
        with self._one_line_errors(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self, connection: Connection) -> Iterator[None]:
        """Hold the write lock on `connection` (which must be in no transaction); commit at the end."""
        with self._lock:
            deadline = time.monotonic() + WRITE_PATIENCE_S
            connection.execution_options(immediate=True)
            while True:
                try:
                    connection.begin()
                    break
                except OperationalError as error:
                    if "locked" not in str(error.orig) or time.monotonic() > deadline:
                        raise
            try:
                yield
                connection.commit()
            finally:
                connection.rollback()
                connection.execution_options(immediate=False)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def version(self) -> str | None:
        """Number of the newest migration that was applied. None = an empty file."""
        with self.connect() as connection:
            return self._version(connection)

    @contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            reason = str(error.orig) if isinstance(error, DBAPIError) else str(error)
            reason = " ".join(reason.split())
            fix = "wait for the other program to finish" if "locked" in reason else "run `verify`, or restore a backup"
            raise StoreError(f"{self.path}: database: {reason}: {fix}") from error

    def _version(self, connection: Connection) -> str | None:
        if not inspect(connection).has_table("alembic_version"):
            return None
        version: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return version

    def _migrate(self) -> None:
        newest = known_versions()[-1]
        with self.connect() as connection:
            version = self._version(connection)
            connection.rollback()
            if version == newest:
                return
            if version is not None and version not in known_versions():
                raise StoreError(
                    f"{self.path}: version: {version} is newer than this program knows ({newest}): update the program"
                )
            with self.writing(connection):
                self._upgrade(connection)

    def _upgrade(self, connection: Connection) -> None:
        from alembic import command  # takes 0.3 s; only needed when there is something to do
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS_DIR).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
