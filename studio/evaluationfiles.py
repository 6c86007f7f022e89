"""The files of one evaluation that the page started, and what they say of where it stands.

    evaluations/<id>/request.json    what was asked for, by which name
    evaluations/<id>/status.json     written by its process alone, whole or not at all
    evaluations/<id>/log.txt
    evaluations/<id>/results.json, results.journal.jsonl, results.tasks.jsonl, results.traces.jsonl

Whoever reads decides by the process itself whether it still runs: by its id and its start time. Knows no page.
"""

import re
import time
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from pydantic import ValidationError

from ranker.errors import DatasetError
from ranker.evaluation.results import read_results
from ranker.schema import Record
from studio.evaluations import EvaluationRequest
from trainer.checkpoints import write_whole
from trainer.jobs import process_start_time

EVALUATION_ID: Final = re.compile(r"\d{8}-\d{6}-[a-z0-9]{4}")
STARTING_GRACE_S: Final = 60.0
"""How long an evaluation may take until its process has written its first status."""


R = TypeVar("R", bound=Record)


class EvaluationState(StrEnum):
    """Where an evaluation stands."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"
    """Its process is gone without having said why; what was answered is kept."""
    FAILED = "failed"
    DONE = "finished"

    @property
    def is_live(self) -> bool:
        return self in (EvaluationState.STARTING, EvaluationState.RUNNING, EvaluationState.STOPPING)


class EvaluationStatus(Record):
    """What is known of an evaluation at one moment."""

    state: EvaluationState
    message: str = ""
    """In words: what is going on, or why it ended."""
    dataset: str = ""
    system: str = ""
    """What is being answered."""
    num_done: int = 0
    num_all: int = 0
    """Rankings; 0 before the datasets are open."""
    seconds: float = 0.0
    """Of all starts together."""
    seconds_before: float = 0.0
    """Of the starts before this one."""
    launched_at_s: float = 0.0
    """Unix time of the last start."""
    pid: int | None = None
    process_started_at_s: float | None = None


class Asked(Record):
    """`request.json`."""

    name: str
    created_at: str
    request: EvaluationRequest


class EvaluationFiles(NamedTuple):
    """The files of one evaluation."""

    directory: Path

    @property
    def evaluation_id(self) -> str:
        return self.directory.name

    @property
    def results_path(self) -> Path:
        return self.directory / "results.json"

    @property
    def log_path(self) -> Path:
        return self.directory / "log.txt"

    @property
    def stop_path(self) -> Path:
        """Is there while somebody waits for the process to stop."""
        return self.directory / "stop"

    def asked(self) -> Asked:
        """Raises DatasetError if it cannot be read."""
        return _read(self.directory / "request.json", Asked)

    def request(self) -> EvaluationRequest:
        """Raises DatasetError if it cannot be read."""
        return self.asked().request

    def write_asked(self, asked: Asked) -> None:
        write_whole(self.directory / "request.json", asked.model_dump_json(indent=2) + "\n")

    def status(self) -> EvaluationStatus:
        """Where it stands, seen from outside. Raises DatasetError if that cannot be read."""
        status = self._written()
        if not status.state.is_live:
            return status
        if not _is_alive(status):
            status = self._written()  # it may have ended in between
            if status.state.is_live:
                message = "its process ended without a word; everything that was answered is kept"
                return status.model_copy(update={"state": EvaluationState.INTERRUPTED, "message": message})
            return status
        if self.stop_path.exists():
            return status.model_copy(update={"state": EvaluationState.STOPPING})
        return status

    def write_status(self, status: EvaluationStatus) -> None:
        write_whole(self.directory / "status.json", status.model_dump_json(indent=2) + "\n")

    def _written(self) -> EvaluationStatus:
        return _read(self.directory / "status.json", EvaluationStatus)


def evaluations_in(directory: Path) -> list[EvaluationFiles]:
    """The newest first."""
    found = sorted(directory.glob("*"), reverse=True)
    return [EvaluationFiles(path) for path in found if EVALUATION_ID.fullmatch(path.name)]


def verify_evaluations(directory: Path) -> list[str]:
    """Problems, one line each: files of evaluations that cannot be read."""
    problems = []
    for files in evaluations_in(directory):
        try:
            files.asked()
            files.status()
            if files.results_path.exists():
                read_results(files.results_path)
        except (DatasetError, OSError) as error:
            problems.append(str(error))
    return problems


def _read(path: Path, kind: type[R]) -> R:
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        reason = str(error).split("\n", 1)[0]
        raise DatasetError(
            f"{path.parent.name}: {path.name}: cannot be read: {reason}: delete the evaluation"
        ) from error


def _is_alive(status: EvaluationStatus) -> bool:
    if status.pid is None:
        return time.time() - status.launched_at_s < STARTING_GRACE_S
    started = process_start_time(status.pid)
    return started is not None and abs(started - (status.process_started_at_s or 0)) < 1.0
