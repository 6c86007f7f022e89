"""The server is killed in the middle of a ranking: nothing that was finished is lost, and it can be continued."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from ranker.schema import Candidate, Domain, RankingTask
from studio.app import open_context
from studio.settings import Settings
from studio.store import Store, TraceState
from trainer.modelcards import ModelCard, write_card

SERVER = """
import sys
from pathlib import Path
from studio.server import serve
from studio.settings import Settings
serve(Settings(data_dir=Path(sys.argv[1]), port=0, model="slow"), on_ready=lambda url: print(url, flush=True), with_pages=False)
"""
ROOT = Path(__file__).resolve().parents[2]
TASK = RankingTask(
    task_id="t1",
    domain=Domain.OTHER,
    query="which one",
    candidates=tuple(Candidate(candidate_id=f"c{i}", text=f"thing {i}") for i in range(12)),
    relevance={"c3": 1},
)


@contextmanager
def running_server(data_dir: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-c", SERVER, str(data_dir)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env) as server:
        try:
            assert server.stdout is not None
            yield server, server.stdout.readline().strip()
        finally:
            server.kill()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    write_card(path / "models", ModelCard(name="slow", engine="scripted", options={"delay_s": 0.01}))
    store = Store(path / "studio.db")
    store.datasets.append("handwritten", TASK)
    store.close()
    return path


def events_until(url: str, is_enough: Callable[[dict[str, object]], bool]) -> str:
    """Follow a new ranking until an event is enough; returns its trace_id."""
    trace_id = ""
    params = {"dataset": "handwritten", "task": "t1"}
    with httpx.Client(trust_env=False, timeout=10) as client, client.stream("GET", url, params=params) as response:
        for line in response.iter_lines():
            for event in json.loads(line[6:]) if line.startswith("data: ") else []:
                trace_id = event["trace"]["trace_id"] if event["k"] == "snapshot" else trace_id
                if is_enough(event):
                    return trace_id
    raise AssertionError("the stream ended too early")


def test_a_killed_ranking_keeps_its_finished_steps_and_is_continued(data_dir: Path) -> None:
    with running_server(data_dir) as (server, url):
        trace_id = events_until(
            f"{url}v1/rank/stream",
            lambda e: e["k"] == "elim" and e["step"]["step_index"] == 3,  # type: ignore[index]
        )
        os.kill(server.pid, signal.SIGKILL)
        server.wait(10)

    context = open_context(Settings(data_dir=data_dir, model="slow"))
    try:
        interrupted = context.store.traces.get(trace_id)
        assert interrupted.state is TraceState.INTERRUPTED
        assert 4 <= len(interrupted.steps) < 11
        assert [s.step_index for s in interrupted.steps] == list(range(len(interrupted.steps)))
        assert context.store.verify() == []
        context.rankings.resume(trace_id)
        deadline = time.monotonic() + 20
        while context.store.traces.get(trace_id).state.is_live:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        finished = context.store.traces.get(trace_id)
        assert finished.state is TraceState.FINISHED
        assert finished.steps[: len(interrupted.steps)] == interrupted.steps
        assert sorted(finished.ranking or ()) == sorted(TASK.candidate_ids)
        assert context.store.verify() == []
    finally:
        context.close()


def test_sigterm_ends_the_server_at_once_although_somebody_watches(data_dir: Path) -> None:
    with running_server(data_dir) as (server, url):

        def terminate_at_first_token(event: dict[str, object]) -> bool:
            if event["k"] == "tok" and server.poll() is None and not ended:
                ended.append(time.monotonic())
                server.terminate()
            return False

        ended: list[float] = []
        with pytest.raises((AssertionError, httpx.RemoteProtocolError)):
            events_until(f"{url}v1/rank/stream", terminate_at_first_token)
        server.wait(10)
        assert time.monotonic() - ended[0] < 1.9
    store = Store(data_dir / "studio.db")
    assert store.traces.search().rows[0].state is TraceState.INTERRUPTED
    assert store.verify() == []
    store.close()
