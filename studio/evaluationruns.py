"""Evaluations that the studio keeps: started as processes of their own, stopped, resumed, listed, deleted, read.

A process outlives the page and the studio. One runs at a time: two would share the cores, and both would be slow and time each
other. Results that come with the studio are listed too and can only be read. Knows no page.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from ranker.errors import DatasetError, UsageError
from ranker.evaluation import Results, journal_path, read_results
from ranker.schema import Record
from studio.evaluationcommand import eval_command
from studio.evaluationfiles import (
    EVALUATION_ID,
    Asked,
    EvaluationFiles,
    EvaluationState,
    EvaluationStatus,
    evaluations_in,
)
from studio.evaluations import EvaluationRequest

ROOT: Final = Path(__file__).resolve().parent.parent
EXAMPLE: Final = "example"
"""Id of the results that come with the studio."""
MAX_NAME_CHARS: Final = 80


class EvaluationInfo(Record):
    """One line of the list."""

    evaluation_id: str
    name: str
    created_at: str
    status: EvaluationStatus
    commands: tuple[str, ...]
    """What makes its results again."""
    is_example: bool = False


class _Read(NamedTuple):
    stamp: int
    results: Results


class Evaluations:
    """All evaluations below one directory."""

    def __init__(self, directory: Path, *, data_dir: Path, example: Path) -> None:
        """
        Args:
            directory: of the evaluations; what was deleted before is cleared away.
            data_dir: where models and datasets are, for the processes.
            example: results that come with the studio; need not be there.
        """
        self._dir, self._data_dir, self._example = directory, data_dir, example
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._cache: dict[str, _Read] = {}
        self._lock = threading.Lock()
        shutil.rmtree(directory / ".deleted", ignore_errors=True)

    def infos(self) -> list[EvaluationInfo]:
        """The newest first, the example last. Folders that cannot be read are left out."""
        found = []
        for files in evaluations_in(self._dir):
            with contextlib.suppress(DatasetError):
                found.append(self.info(files.evaluation_id))
        return [*found, *([self.info(EXAMPLE)] if self._example.is_file() else [])]

    def info(self, evaluation_id: str) -> EvaluationInfo:
        """Raises UsageError if there is none of that id."""
        if evaluation_id == EXAMPLE and self._example.is_file():
            results = self._results(EXAMPLE, self._example)
            return EvaluationInfo(
                evaluation_id=EXAMPLE,
                name="Example: public sets",
                created_at=results.updated_at,
                status=EvaluationStatus(state=EvaluationState.DONE),
                commands=results.commands,
                is_example=True,
            )
        files = self._files(evaluation_id)
        asked = files.asked()
        return EvaluationInfo(
            evaluation_id=evaluation_id,
            name=asked.name,
            created_at=asked.created_at,
            status=self._status(files),
            commands=(eval_command(asked.request),),
        )

    def start(self, name: str, request: EvaluationRequest) -> str:
        """Start an evaluation. Returns its id.

        Raises:
            UsageError: if one runs, or the directory cannot be written.
        """
        now = datetime.now(UTC)
        files = EvaluationFiles(self._dir / f"{now:%Y%m%d-%H%M%S}-{os.urandom(3).hex()[:4]}")
        name = " ".join(name.split())[:MAX_NAME_CHARS] or f"Evaluation of {now:%d %b, %H:%M}"
        with self._lock:
            self._refuse_second()
            try:
                files.directory.mkdir(parents=True)
                files.write_asked(Asked(name=name, created_at=now.isoformat(timespec="seconds"), request=request))
            except OSError as error:
                raise UsageError(f"evaluate: {self._dir}: {error.strerror}: free some space") from error
            self._launch(files, EvaluationStatus(state=EvaluationState.STARTING))
        return files.evaluation_id

    def stop(self, evaluation_id: str) -> None:
        """Ask it to stop after the answers that it has. Raises UsageError if it does not run."""
        files = self._files(evaluation_id)
        status = self._status(files)
        if not status.state.is_live:
            raise UsageError(f"evaluation: {evaluation_id}: is {status.state.value}: there is nothing to stop")
        files.stop_path.touch()

    def resume(self, evaluation_id: str) -> None:
        """Go on with what is missing. Raises UsageError if it runs, or another one does."""
        files = self._files(evaluation_id)
        status = self._status(files)
        if status.state.is_live:
            raise UsageError(f"evaluation: {evaluation_id}: is {status.state.value}: wait for it")
        with self._lock:
            self._refuse_second()
            self._launch(files, status.model_copy(update={"state": EvaluationState.STARTING, "message": ""}))

    def delete(self, evaluation_id: str) -> str:
        """Put it away until the studio starts again. Returns its name. Raises UsageError while it runs."""
        files = self._files(evaluation_id)
        if self._status(files).state.is_live:
            raise UsageError(f"evaluation: {evaluation_id}: is running: stop it first")
        name = files.asked().name
        away = self._dir / ".deleted"
        away.mkdir(exist_ok=True)
        files.directory.rename(away / evaluation_id)
        return name

    def restore(self, evaluation_id: str) -> str:
        """Take back a deletion. Returns the name. Raises UsageError if it is gone."""
        place = self._dir / ".deleted" / evaluation_id
        if not EVALUATION_ID.fullmatch(evaluation_id) or not place.is_dir():
            raise UsageError(f"evaluation: {evaluation_id[:40]!r}: is gone: evaluate again")
        place.rename(self._dir / evaluation_id)
        return self.info(evaluation_id).name

    def results(self, evaluation_id: str) -> Results | None:
        """What was measured so far; None before the first row."""
        path = self.results_path(evaluation_id)
        return self._results(evaluation_id, path) if path.is_file() else None

    def results_path(self, evaluation_id: str) -> Path:
        """Where the results are or will be. Raises UsageError if there is no such evaluation."""
        if evaluation_id == EXAMPLE and self._example.is_file():
            return self._example
        return self._files(evaluation_id).results_path

    def has_answers(self, evaluation_id: str) -> bool:
        """Whether every single ranking is at hand (the example has means and values by query only)."""
        return journal_path(self.results_path(evaluation_id)).is_file()

    def log_tail(self, evaluation_id: str, num_chars: int = 2000) -> str:
        """The end of what its process wrote."""
        path = self._files(evaluation_id).log_path
        return path.read_text(encoding="utf-8", errors="replace")[-num_chars:] if path.is_file() else ""

    def _files(self, evaluation_id: str) -> EvaluationFiles:
        if EVALUATION_ID.fullmatch(evaluation_id) and (self._dir / evaluation_id / "request.json").is_file():
            return EvaluationFiles(self._dir / evaluation_id)
        raise UsageError(f"evaluation: {evaluation_id[:40]!r}: is not there: choose one from the list")

    def _status(self, files: EvaluationFiles) -> EvaluationStatus:
        child = self._children.get(files.evaluation_id)
        if child is not None and child.poll() is not None:  # collects it: a process that ended is none
            del self._children[files.evaluation_id]
            status = files.status()
            if status.state is EvaluationState.STARTING:
                words = self.log_tail(files.evaluation_id, 300).strip().splitlines()
                message = words[-1] if words else f"ended with code {child.returncode}"
                status = status.model_copy(update={"state": EvaluationState.FAILED, "message": message})
                files.write_status(status)
        return files.status()

    def _refuse_second(self) -> None:
        running = next((i for i in self.infos() if i.status.state.is_live), None)
        if running is not None:
            raise UsageError(f"evaluate: {running.name}: is running: wait for it or stop it")

    def _launch(self, files: EvaluationFiles, status: EvaluationStatus) -> None:
        files.stop_path.unlink(missing_ok=True)
        files.write_status(
            status.model_copy(update={"pid": None, "process_started_at_s": None, "launched_at_s": time.time()})
        )
        command = [sys.executable, "-m", "studio.evaluationjob", str(files.directory), str(self._data_dir)]
        with files.log_path.open("ab") as log:
            self._children[files.evaluation_id] = subprocess.Popen(  # noqa: S603  (an argument list; no shell)
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, start_new_session=True
            )

    def _results(self, evaluation_id: str, path: Path) -> Results:
        stamp = path.stat().st_mtime_ns
        known = self._cache.get(evaluation_id)
        if known is None or known.stamp != stamp:
            known = _Read(stamp, read_results(path))
            self._cache[evaluation_id] = known
        return known.results
