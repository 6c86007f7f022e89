"""What a running job does between optimizer steps: obey the stop flag, write metrics, report itself, refuse NaN."""

import contextlib
import json
import threading
import time
from collections.abc import Mapping
from typing import Any

import psutil
from transformers import TrainerCallback

from trainer.checkpoints import write_whole
from trainer.failures import check_finite
from trainer.jobs import Job, JobState

HEARTBEAT_S = 2.0


class JobCallback(TrainerCallback):  # type: ignore[misc]
    """Connects transformers' Trainer with the files of a job."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.is_stopped = False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Progress; and if somebody wants it to stop, a checkpoint and the end."""
        if state.is_world_process_zero:
            status = self._job.written_status()
            update = {"optimizer_step": state.global_step, "max_steps": state.max_steps, "state": JobState.RUNNING}
            self._job.write_status(status.model_copy(update=update))
        if self._wants_to_stop(args):
            self.is_stopped = True
            control.should_save = control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        """One line of metrics; ends the job if the loss is no number any more."""
        row = {k: v for k, v in (logs or {}).items() if isinstance(v, int | float)}
        if "loss" not in row:
            return
        if state.is_world_process_zero:
            line = {"optimizer_step": state.global_step, "time": round(time.time(), 3), **row}
            with self._job.metrics_path.open("a", encoding="utf-8") as metrics:
                metrics.write(json.dumps(line) + "\n")
        check_finite(row, state.global_step)

    def _wants_to_stop(self, args: Any) -> bool:
        """The first process decides for all, or they could part ways."""
        if args.world_size == 1:
            return self._job.stop_path.exists()
        from accelerate.utils import broadcast_object_list

        return bool(broadcast_object_list([self._job.stop_path.exists()])[0])


class Heartbeat:
    """A thread that says every few seconds that the process lives, and how much memory it has."""

    def __init__(self, job: Job) -> None:
        self._path = job.directory / "heartbeat.json"
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="heartbeat")
        self.peak_bytes = 0

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        process = psutil.Process()
        while True:
            used, memory = process.memory_info().rss, psutil.virtual_memory()
            self.peak_bytes = max(self.peak_bytes, used)
            beat = {
                "time": time.time(),
                "rss_bytes": used,
                "peak_rss_bytes": self.peak_bytes,
                "available_share": memory.available / memory.total,
            }
            with contextlib.suppress(OSError):  # a full disk is reported by whoever needs it
                write_whole(self._path, json.dumps(beat))
            if self._end.wait(HEARTBEAT_S):
                return
