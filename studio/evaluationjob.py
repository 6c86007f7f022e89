"""The process of one evaluation that the page started: reads its request, runs it, says how far it is.

    python -m studio.evaluationjob DIRECTORY DATA_DIR

The file `stop` beside its request asks it to stop; it then writes what it has, and whoever starts it again goes on from there.
(An interrupt would not do: one that comes while Python runs a destructor is printed and forgotten.) It does what the command `eval`
does, by the same functions.
"""

import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

from ranker.errors import RankingStudioError
from studio.cli.offline import go_offline
from studio.evaluationfiles import EvaluationFiles, EvaluationState, EvaluationStatus

logger = logging.getLogger(__name__)

WRITE_EVERY_S: Final = 0.25


def main(directory: Path, data_dir: Path) -> int:
    """Run the evaluation in `directory`. Returns 0 = done or stopped, 1 = failed (the status says why)."""
    go_offline(os.environ)
    files = EvaluationFiles(directory)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: files.stop_path.touch())
    progress = _Progress(files)
    try:
        _run(files, data_dir, progress)
    except KeyboardInterrupt:
        progress.end(EvaluationState.STOPPED, "was stopped; everything that was answered is kept")
        return 0
    except RankingStudioError as error:
        progress.end(EvaluationState.FAILED, str(error))
        return 1
    except Exception as error:
        logger.exception("evaluation failed")
        what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        progress.end(EvaluationState.FAILED, f"{what}: see log.txt in {directory.name}")
        return 1
    progress.end(EvaluationState.DONE, "")
    return 0


class _Progress:
    """Answers that are there, by cell; written now and then."""

    def __init__(self, files: EvaluationFiles) -> None:
        import psutil

        process = psutil.Process()
        self._files, self._cells = files, dict[tuple[str, str], int]()
        self._written_s = 0.0
        old = files.status()
        self._status = EvaluationStatus(
            state=EvaluationState.RUNNING,
            message="opens datasets and models",
            pid=process.pid,
            process_started_at_s=process.create_time(),
            launched_at_s=old.launched_at_s,
            seconds_before=old.seconds,
            seconds=old.seconds,
            num_done=old.num_done,
            num_all=old.num_all,
        )
        self._started_s = time.monotonic()
        self._write()

    def plan(self, num_all: int, cells: dict[tuple[str, str], int]) -> None:
        """What is to be answered, and what is already."""
        self._cells = cells
        self._status = self._status.model_copy(update={"num_all": num_all, "message": ""})
        self._write()

    def __call__(self, dataset: str, system: str, num_done: int, num_all: int) -> None:
        self._cells[dataset, system] = num_done
        self._status = self._status.model_copy(update={"dataset": dataset, "system": system})
        if time.monotonic() - self._written_s >= WRITE_EVERY_S or num_done == num_all:
            self._write()

    def end(self, state: EvaluationState, message: str) -> None:
        self._status = self._status.model_copy(update={"state": state, "message": message, "pid": None})
        self._write()

    def _write(self) -> None:
        self._written_s = time.monotonic()
        seconds = self._status.seconds_before + self._written_s - self._started_s
        num_done = sum(self._cells.values()) if self._cells else self._status.num_done
        self._status = self._status.model_copy(update={"seconds": round(seconds, 1), "num_done": num_done})
        self._files.write_status(self._status)


def _run(files: EvaluationFiles, data_dir: Path, progress: _Progress) -> None:
    from dataclasses import replace

    from ranker.evaluation import journal_path, run_evaluation
    from ranker.evaluation.answers import AnswerKey, Journal
    from studio.cli.options import stored_tasks
    from studio.evaluationcommand import eval_command
    from studio.evaluations import make_plan
    from studio.settings import Settings
    from trainer.registry import Registry

    settings, request = Settings(data_dir=data_dir), files.request()
    plan = make_plan(request, Registry(settings.models_dir), lambda name: stored_tasks(settings, name))
    plan = replace(plan, keep_traces=True)
    num_all, cells = 0, {}
    with Journal(journal_path(files.results_path)) as journal:
        for system in plan.systems:
            for dataset in plan.datasets:
                if system.suits(dataset):
                    tasks, key = plan.tasks(dataset, system), system.info.key
                    num_all += len(tasks) * len(plan.seeds)
                    keys = (AnswerKey(dataset.key, key, s, t.task_id) for s in plan.seeds for t in tasks)
                    cells[dataset.name, system.info.name] = sum(journal.get(k) is not None for k in keys)
    progress.plan(num_all, cells)
    command, is_stopped = eval_command(request), files.stop_path.exists
    if is_stopped():
        raise KeyboardInterrupt
    run_evaluation(plan, files.results_path, command=command, report=progress, is_stopped=is_stopped)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
