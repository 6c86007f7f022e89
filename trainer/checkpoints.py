"""Checkpoints that are whole or not there: written aside, then renamed; and what each of them came from.

    checkpoints/checkpoint-120/      adapter, tokenizer, optimizer, scheduler, RNG, trainer state, provenance.json
    checkpoints/.partial/            one that is being written

This module knows files, not models: torch is not imported.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import Field, ValidationError

from ranker.errors import CheckpointError
from ranker.schema import Record

PROVENANCE: Final = "provenance.json"
STATE: Final = "trainer_state.json"
PREFIX: Final = "checkpoint-"
PARTIAL: Final = ".partial"


class Provenance(Record):
    """What a checkpoint came from: enough to make it again."""

    job_id: str
    kind: str
    base_model: str
    base_directory: str
    base_sha256: str | None = None
    data_sha256: Mapping[str, str] = Field(default_factory=dict)
    """File of tasks or corrections -> hash of its bytes."""
    correction_ids: tuple[str, ...] = ()
    config: Mapping[str, Any] = Field(default_factory=dict)
    prompt_version: str
    code_version: str
    answer_format: str
    """How the result decides: `scored`, `free` or `likelihood`."""
    think_tokens: int
    """Budget of a thought that it was trained with, in tokens."""
    optimizer_step: int = 0
    created_at: str = ""
    interpolation: float = 1.0
    """Of a shipped adapter: where it is between the one that the job began with (0) and the one that it ended with (1)."""


class AsideCheckpoints:
    """Mixin for transformers' Trainer: a checkpoint gets its name only when everything is in it.

    transformers writes file after file into the final directory, and a kill in between leaves a newest checkpoint that
    cannot be resumed. Set `provenance` before training.
    """

    provenance: Provenance | None = None
    _is_aside = False

    def _get_output_dir(self, trial: Any) -> str:
        final: str = super()._get_output_dir(trial)  # type: ignore[misc]
        return str(Path(final) / PARTIAL) if self._is_aside else final

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        arguments, state, accelerator = self.args, self.state, self.accelerator  # type: ignore[attr-defined]
        final = Path(arguments.output_dir)
        limit, arguments.save_total_limit = arguments.save_total_limit, None
        self._is_aside = True
        try:
            if accelerator.is_main_process:
                shutil.rmtree(final / PARTIAL, ignore_errors=True)
            accelerator.wait_for_everyone()
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
            self._save_beside(final / PARTIAL / f"{PREFIX}{state.global_step}")
            accelerator.wait_for_everyone()  # every process has written its part
        finally:
            self._is_aside, arguments.save_total_limit = False, limit
        if accelerator.is_main_process:
            settle(final, state.global_step, self.provenance, limit)
        accelerator.wait_for_everyone()

    def _save_beside(self, directory: Path) -> None:
        """What a subclass adds to a checkpoint."""


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def settle(final: Path, optimizer_step: int, provenance: Provenance | None, limit: int | None) -> Path:
    """Give a finished checkpoint its name, and drop the oldest beyond `limit`."""
    written = final / PARTIAL / f"{PREFIX}{optimizer_step}"
    if provenance is not None:
        text = provenance.model_copy(update={"optimizer_step": optimizer_step}).model_dump_json(indent=2)
        (written / PROVENANCE).write_text(text + "\n", encoding="utf-8")
    for path in written.rglob("*"):
        if path.is_file():
            _flush(path)
    target = final / written.name
    shutil.rmtree(target, ignore_errors=True)
    written.rename(target)
    shutil.rmtree(final / PARTIAL, ignore_errors=True)
    if limit:
        for old in list(complete_checkpoints(final))[limit:]:
            shutil.rmtree(old, ignore_errors=True)
    return target


def complete_checkpoints(directory: Path) -> Iterator[Path]:
    """Checkpoints that can be resumed, the newest first."""
    found = [p for p in directory.glob(f"{PREFIX}*") if p.name.removeprefix(PREFIX).isdecimal()]
    for path in sorted(found, key=lambda p: int(p.name.removeprefix(PREFIX)), reverse=True):
        if _is_complete(path):
            yield path


def newest_checkpoint(directory: Path) -> Path | None:
    """The newest that can be resumed."""
    return next(complete_checkpoints(directory), None)


def read_provenance(checkpoint: Path) -> Provenance:
    """Where a checkpoint came from.

    Raises:
        CheckpointError: if it does not say.
    """
    path = checkpoint / PROVENANCE
    try:
        return Provenance.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: missing: give a checkpoint that a training job of this studio wrote") from error
    except (OSError, ValidationError) as error:
        reason = str(error).split("\n", 1)[0]
        raise CheckpointError(f"{path}: cannot be read: {reason}: give another checkpoint of the job") from error


def _is_complete(checkpoint: Path) -> bool:
    """Does its trainer state, which is written last, parse?"""
    try:
        json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def _flush(path: Path) -> None:
    """Make sure that the bytes are on the disk before the name is."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
