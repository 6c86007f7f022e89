"""Why a job ended, in words that say what to do. This module knows exceptions and signals, not training."""

import errno
import math
import re
import time
from collections.abc import Mapping
from typing import Any, Final

from ranker.errors import JobError, RankingStudioError

_MEMORY: Final = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|bad_alloc|std::bad_alloc", re.I
)
_DISK: Final = re.compile(
    r"no space left on device|disk quota exceeded|os error 28|enough disk space|file too large|"
    r"PytorchStreamWriter failed|unexpected pos \d+ vs",  # what torch.save says when a write fails
    re.I,
)
_PEER: Final = re.compile(r"connection closed by peer|connection reset by peer|ncclRemoteError|ncclSystemError", re.I)
LITTLE_MEMORY: Final = 0.04
"""Share of the memory that was still free at the last heartbeat of a job that was killed for it."""


class NotFiniteError(JobError):
    """A loss or a gradient is not a number any more."""


def explain_failure(error: BaseException) -> str:
    """One line on why training stopped: the cause, and the way out."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    if isinstance(error, NotFiniteError):
        return str(error)
    if isinstance(error, MemoryError) or _MEMORY.search(text):
        return "out of memory: lower optimizer.batch_size, ppo.rollout_size or max_prompt_tokens, then resume"
    if _is_disk_full(error) or _DISK.search(text):
        return "the disk is full: free some space, then resume; the last complete checkpoint is intact"
    if isinstance(error, RankingStudioError):
        return str(error)
    if _PEER.search(text):
        return "one of the job's processes ended, and no step can be made without it: see the job's log, then resume"
    return f"{text[:300]}: see the job's log"


def explain_disappearance(heartbeat: Mapping[str, Any] | None, boot_time_s: float) -> str:
    """One line on a process that ended without a word, from what it last said of itself."""
    if heartbeat is None:
        return "the process ended before it said anything: see the job's log, then resume"
    last = float(heartbeat.get("time", 0))
    if last < boot_time_s:
        return "the machine was restarted: resume continues from the last complete checkpoint"
    ago = max(0.0, time.time() - last)
    share = heartbeat.get("available_share")
    if isinstance(share, int | float) and share < LITTLE_MEMORY:
        return (
            f"killed when {share:.0%} of the memory was free, most likely for lack of it ({ago:.0f} s ago): "
            "lower optimizer.batch_size, then resume"
        )
    return f"the process was killed ({ago:.0f} s since it was last heard of): resume continues from the last checkpoint"


def check_finite(metrics: Mapping[str, Any], optimizer_step: int) -> None:
    """Raise if training has gone wrong beyond repair.

    Raises:
        NotFiniteError: if the loss or the gradient's norm is NaN or infinite.
    """
    for name in ("loss", "grad_norm"):
        value = metrics.get(name)
        if isinstance(value, int | float) and not math.isfinite(value):
            raise NotFiniteError(
                f"{name}: {value} at optimizer step {optimizer_step}: not a number any more: lower "
                "optimizer.learning_rate or use precision fp32, then resume from the last checkpoint"
            )


def _is_disk_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        error = error.__cause__ or error.__context__
    return False
