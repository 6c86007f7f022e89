"""The studio's database: datasets with their tasks, traces with their steps, corrections with the people behind them.

Knows no model and no page.
"""

from pathlib import Path

from studio.store.accounts import AccountSection
from studio.store.assignments import AssignmentSection
from studio.store.corrections import CorrectionSection
from studio.store.database import Database
from studio.store.datasets import DatasetSection
from studio.store.drafts import DraftSection
from studio.store.records import (
    Annotator,
    DatasetInfo,
    Draft,
    DraftConflict,
    Guideline,
    NotStoredError,
    StaleError,
    StoredTrace,
    TaskPage,
    TaskRow,
    TraceFilter,
    TracePage,
    TraceRow,
    TraceState,
    now_utc,
)
from studio.store.traces import TraceSection, new_trace_id

__all__ = [
    "Annotator",
    "DatasetInfo",
    "Draft",
    "DraftConflict",
    "Guideline",
    "NotStoredError",
    "StaleError",
    "Store",
    "StoredTrace",
    "TaskPage",
    "TaskRow",
    "TraceFilter",
    "TracePage",
    "TraceRow",
    "TraceState",
    "new_trace_id",
    "now_utc",
]


class Store:
    """One open database. Usable from any thread."""

    def __init__(self, path: Path) -> None:
        """Open `path`, make it if it is not there, and migrate it.

        Raises:
            StoreError: if it is no database, is damaged, or was written by a newer program.
        """
        self.path = path
        self._database = Database(path)
        self.datasets = DatasetSection(self._database)
        self.traces = TraceSection(self._database)
        self.corrections = CorrectionSection(self._database)
        self.drafts = DraftSection(self._database)
        self.assignments = AssignmentSection(self._database)
        self.accounts = AccountSection(self._database)

    def verify(self) -> list[str]:
        """Check the file and re-derive everything that is stored twice. Returns problems, one line each."""
        from studio.store.verify import verify_database

        return verify_database(self._database)

    def close(self) -> None:
        """Close every connection."""
        self._database.close()
