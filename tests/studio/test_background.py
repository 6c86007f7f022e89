"""Long work beside the pages: results, errors, progress, giving up."""

import threading
from collections.abc import Iterator

import pytest

from ranker.errors import DatasetError, UsageError
from studio.background import Background, Progress

SOON_S = 10.0


@pytest.fixture
def background() -> Iterator[Background]:
    made = Background()
    yield made
    made.close()


def test_a_result_is_given_once(background: Background) -> None:
    token = background.start(lambda progress: 42)
    assert background.is_done(token, wait_s=SOON_S)
    assert background.result(token) == 42
    with pytest.raises(UsageError, match="start it again"):
        background.result(token)


def test_what_the_work_raises_comes_out(background: Background) -> None:
    def fail(progress: Progress) -> None:
        raise DatasetError("x.csv:1: broken: mend it")

    token = background.start(fail)
    assert background.is_done(token, wait_s=SOON_S)
    with pytest.raises(DatasetError, match=r"x\.csv:1"):
        background.result(token)


def test_progress_is_seen_and_a_cancelled_work_ends(background: Background) -> None:
    counted, ended = threading.Event(), threading.Event()

    def count(progress: Progress) -> None:
        try:
            while True:
                progress(7)
                counted.set()
        finally:
            ended.set()

    token = background.start(count)
    assert counted.wait(SOON_S)
    assert background.number(token) == 7
    background.cancel(token)
    assert ended.wait(SOON_S)
    with pytest.raises(UsageError):
        background.is_done(token)


def test_closing_gives_up_what_runs() -> None:
    background, started = Background(), threading.Event()

    def count(progress: Progress) -> None:
        started.set()
        while True:
            progress()

    background.start(count)
    assert started.wait(SOON_S)
    background.close()  # would not return otherwise
