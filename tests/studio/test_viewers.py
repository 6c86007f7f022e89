"""Twenty people watch one ranking: how late do they see a token, and what does it cost the server?

Runs as a test (marker `slow`), or by hand against any model that is set up:
    python tests/studio/test_viewers.py [--data-dir DIR] [--model NAME] [--viewers N] [--with-pages]
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from ranker.schema import Candidate, Domain, RankingTask
from trainer.modelcards import ModelCard, write_card

ROOT = Path(__file__).resolve().parents[2]
SERVER = """
import sys
from pathlib import Path
from studio.server import serve
from studio.settings import Settings
settings = Settings(data_dir=Path(sys.argv[1]), port=0, model=sys.argv[2])
serve(settings, on_ready=lambda url: print(url, flush=True), with_pages=sys.argv[3] == "pages")
"""


class Figures(NamedTuple):
    """One run's figures. Latency: from the moment a token is published to its arrival at a viewer."""

    num_viewers: int
    num_tokens: int
    seconds: float
    p50_ms: float
    p95_ms: float
    max_ms: float
    messages_per_viewer_s: float
    server_cpu_percent: float
    """Of one core, the model's own work included."""


def make_task(num_candidates: int) -> RankingTask:
    candidates = tuple(
        Candidate(candidate_id=f"c{i}", text=f"Film number {i}, a story about place {i}") for i in range(num_candidates)
    )
    return RankingTask(
        task_id=f"t{num_candidates}", domain=Domain.RECOMMENDATION, query="", history=("Heat",), candidates=candidates
    )


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Viewer(NamedTuple):
    latencies_s: list[float]
    num_messages: int


async def watch(client: httpx.AsyncClient, url: str, trace_id: str) -> Viewer:
    latencies, num_messages = [], 0
    async with client.stream("GET", f"{url}api/traces/{trace_id}/events") as response:
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                now = time.time()
                num_messages += 1
                latencies += [now - event["t"] for event in json.loads(line[6:]) if event["k"] == "tok"]
    return Viewer(latencies, num_messages)


async def watch_together(url: str, pid: int, task_id: str, num_viewers: int, model: str) -> Figures:
    limits = httpx.Limits(max_connections=num_viewers + 4)
    async with httpx.AsyncClient(timeout=600, limits=limits, trust_env=False) as client:
        warm_up = {"query": "a", "documents": ["b", "c"], "model": model}
        (await client.post(f"{url}v1/rerank", json=warm_up)).raise_for_status()
        params = {"dataset": "viewers", "task": task_id, "model": model}
        async with client.stream("GET", f"{url}v1/rank/stream", params=params) as response:
            first = await anext(response.aiter_lines())
        trace_id = json.loads(first[6:])[0]["trace"]["trace_id"]
        began, cpu_began = time.monotonic(), cpu_seconds(pid)
        viewers = await asyncio.gather(*(watch(client, url, trace_id) for _ in range(num_viewers)))
        seconds, cpu = time.monotonic() - began, cpu_seconds(pid) - cpu_began
    latencies = sorted(latency for viewer in viewers for latency in viewer.latencies_s)
    return Figures(
        num_viewers=num_viewers,
        num_tokens=len(latencies) // num_viewers,
        seconds=round(seconds, 2),
        p50_ms=round(1000 * latencies[len(latencies) // 2], 1),
        p95_ms=round(1000 * latencies[int(len(latencies) * 0.95)], 1),
        max_ms=round(1000 * latencies[-1], 1),
        messages_per_viewer_s=round(sum(viewer.num_messages for viewer in viewers) / num_viewers / seconds, 1),
        server_cpu_percent=round(100 * cpu / seconds, 1),
    )


def measure(
    data_dir: Path, model: str, *, num_candidates: int = 10, num_viewers: int = 20, with_pages: bool = False
) -> Figures:
    """Start a server on `data_dir`, let `num_viewers` watch one ranking by `model`, and end it."""
    from studio.store import Store

    store = Store(data_dir / "studio.db")
    _, task_id = store.datasets.append("viewers", make_task(num_candidates))
    store.close()
    command = [sys.executable, "-c", SERVER, str(data_dir), model, "pages" if with_pages else "routes"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            return asyncio.run(watch_together(url, server.pid, task_id, num_viewers, model))
        finally:
            server.terminate()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the server's CPU time from /proc")
def test_twenty_viewers_see_every_token_in_a_few_messages(tmp_path: Path) -> None:
    write_card(tmp_path / "models", ModelCard(name="20hz", engine="scripted", options={"delay_s": 0.02}))
    figures = measure(tmp_path, "20hz")
    print(figures)
    assert figures.num_tokens > 50
    assert figures.messages_per_viewer_s < 35


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the live view with many viewers.")
    parser.add_argument(
        "--data-dir", type=Path, help="default: an empty one with a scripted model of 20 tokens a second"
    )
    parser.add_argument("--model", default="20hz")
    parser.add_argument("--viewers", type=int, default=20)
    parser.add_argument("--candidates", type=int, default=10)
    parser.add_argument("--with-pages", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        data_dir = args.data_dir or Path(scratch)
        if args.model == "20hz":
            write_card(data_dir / "models", ModelCard(name="20hz", engine="scripted", options={"delay_s": 0.05}))
        print(
            measure(
                data_dir,
                args.model,
                num_candidates=args.candidates,
                num_viewers=args.viewers,
                with_pages=args.with_pages,
            )
        )


if __name__ == "__main__":
    main()
