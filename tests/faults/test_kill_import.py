"""An import is killed: before it is done there is nothing of it, and it can simply be run again."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ranker.schema import Candidate, Domain, RankingTask
from studio.store import Store

ROOT = Path(__file__).resolve().parents[2]
IMPORT = """
import sys
from pathlib import Path
from studio.library import Library
from studio.store import Store
store = Store(Path(sys.argv[1]))
Library(store).import_file(Path(sys.argv[2]), "films", report=lambda n: print(n, flush=True))
print("done", flush=True)
"""
NUM_TASKS = 2000


@pytest.fixture
def tasks_file(tmp_path: Path) -> Path:
    path = tmp_path / "films.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for i in range(NUM_TASKS):
            candidates = tuple(Candidate(candidate_id=str(j), text=f"film {i * j} of {j}") for j in range(8))
            task = RankingTask(
                task_id=f"t{i}",
                domain=Domain.RECOMMENDATION,
                query=f"number {i}",
                candidates=candidates,
                relevance={str(i % 8): 1},
            )
            file.write(task.model_dump_json() + "\n")
    return path


@pytest.mark.parametrize("last_report", ["1000", "2000"])
def test_a_killed_import_leaves_all_or_nothing(tmp_path: Path, tasks_file: Path, last_report: str) -> None:
    database = tmp_path / "studio.db"
    command = [sys.executable, "-c", IMPORT, str(database), str(tasks_file)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.strip() == last_report:
                os.kill(child.pid, signal.SIGKILL)
                break
        else:
            raise AssertionError("the import reported too little")
    store = Store(database)
    found = store.datasets.list(include_deleted=True)
    assert [info.num_tasks for info in found] in ([], [NUM_TASKS])
    assert store.verify() == []
    store.close()
    again = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env, check=True)
    assert again.stdout.endswith("done\n")
    store = Store(database)
    assert [(info.version, info.num_tasks) for info in store.datasets.list()] == [(1, NUM_TASKS)]
    assert store.verify() == []
    store.close()
