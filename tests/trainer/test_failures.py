"""Every end in words that say what to do; and the estimate that prevents the commonest of them."""

import errno
import time

import pytest

from ranker.errors import JobError
from trainer.failures import NotFiniteError, check_finite, explain_disappearance, explain_failure
from trainer.memory import ModelShape, check_memory, estimate_memory

SMOLLM2 = ModelShape(
    num_parameters=139_400_000,
    num_trained=4_900_000,
    num_layers=30,
    num_heads=9,
    hidden_size=576,
    vocabulary=49_152,
    kv_size=192,
    num_backward_layers=30,
)

FAILURES = [
    (MemoryError(), "out of memory"),
    (
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried"),
        "out of memory",
    ),
    (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "out of memory"),
    (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
    (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), "the disk is full"),
    (OSError(errno.EFBIG, "File too large"), "the disk is full"),
    (
        RuntimeError(
            "[enforce fail at inline_container.cc:672] . PytorchStreamWriter failed writing file data/0: file write"
        ),
        "the disk is full",
    ),
    (JobError("data: nothing is known"), "data: nothing is known"),
    (NotFiniteError("loss: nan at optimizer step 3"), "loss: nan"),
    (KeyError("x\ny"), "KeyError: 'x\\ny': see the job's log"),
]


@pytest.mark.parametrize(("error", "words"), FAILURES)
def test_words(error: BaseException, words: str) -> None:
    assert explain_failure(error).startswith(words) and "\n" not in explain_failure(error)


def test_a_full_disk_below_another_error_is_found() -> None:
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as cause:
            raise RuntimeError("could not save") from cause
    except RuntimeError as error:
        assert explain_failure(error).startswith("the disk is full")


def test_a_disappearance_is_told_from_the_last_heartbeat() -> None:
    now = time.time()
    assert "machine was restarted" in explain_disappearance({"time": now - 500}, boot_time_s=now - 100)
    assert "lack of it" in explain_disappearance({"time": now, "available_share": 0.01}, boot_time_s=0)
    assert "was killed" in explain_disappearance({"time": now, "available_share": 0.4}, boot_time_s=0)


def test_nan_ends_a_job() -> None:
    check_finite({"loss": 0.4, "grad_norm": 1.0}, 3)
    with pytest.raises(NotFiniteError, match=r"grad_norm: nan at optimizer step 3.*learning_rate"):
        check_finite({"loss": 0.4, "grad_norm": float("nan")}, 3)
    with pytest.raises(NotFiniteError, match="loss: inf"):
        check_finite({"loss": float("inf")}, 3)


def test_the_estimate_grows_with_what_costs_memory() -> None:
    few = estimate_memory(SMOLLM2, num_rows=1, row_tokens=1_000, logit_rows=160, bytes_per_weight=2)
    assert 3.0e9 < few.total < 5.0e9, "a job of this size was measured at 4.3 GB"
    many = estimate_memory(SMOLLM2, num_rows=1, row_tokens=1_000, logit_rows=1_300, bytes_per_weight=2)
    assert many.logits > 5 * few.logits
    saved = estimate_memory(
        SMOLLM2, num_rows=1, row_tokens=1_000, logit_rows=160, bytes_per_weight=2, is_checkpointed=True
    )
    assert saved.activations < few.activations / 10
    divided = estimate_memory(SMOLLM2, num_rows=1, row_tokens=1_000, logit_rows=160, bytes_per_weight=2, num_shards=3)
    assert few.trained == 2 * divided.trained
    written = [
        estimate_memory(
            SMOLLM2, num_rows=1, row_tokens=1_000, logit_rows=160, bytes_per_weight=2, rollout_rows=rows
        ).total
        for rows in (1, 768)
    ]
    assert written[0] == few.total, "what is written before the backward pass takes memory that this needs anyway"
    assert written[1] - few.total > 15e9, "23 KB a token"


def test_a_job_that_does_not_fit_does_not_start() -> None:
    estimate = estimate_memory(SMOLLM2, num_rows=1, row_tokens=1_000, logit_rows=160, bytes_per_weight=2)
    with pytest.raises(JobError, match=r"needs about \d\.\d GB; this machine has 1\.0 GB free: lower"):
        check_memory(estimate, 1_000_000_000, where="this machine", is_ignored=False)
    assert "1.0 GB free" in check_memory(estimate, 1_000_000_000, where="this machine", is_ignored=True)
