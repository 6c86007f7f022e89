"""`train` and `jobs` as they are typed: exit codes, one line where something is wrong, JSON where it is asked for."""

import json
import time
from pathlib import Path

import pytest

from studio.cli import main
from trainer.jobs import Jobs, JobState
from trainer.modelcards import ModelCard, write_card


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    write_card(tmp_path / "d" / "models", ModelCard(name="toy", directory=str(tmp_path)))
    (tmp_path / "tasks.jsonl").write_text('{"task_id": "t", "query": 3}\n', encoding="utf-8")
    (tmp_path / "job.yaml").write_text("kind: titles\nmodel: toy\ndata: {tasks: [tasks.jsonl]}\n", encoding="utf-8")
    return tmp_path / "d"


def test_a_mistake_in_the_file_is_one_line_and_starts_nothing(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = data_dir.parent / "job.yaml"
    path.write_text("kind: titles\nmodel: toy\ndata: {tasks: [tasks.jsonl]}\nsteps: 3\n", encoding="utf-8")
    assert main(["train", str(path), "--data-dir", str(data_dir)]) == 2
    assert capsys.readouterr().err == f"{path}: steps: '3': no such field: remove it or correct its name\n"
    assert main(["jobs", "list", "--data-dir", str(data_dir)]) == 0
    assert "No job yet" in capsys.readouterr().out


def test_a_dataset_or_model_that_does_not_exist(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = data_dir.parent / "job.yaml"
    path.write_text("kind: titles\nmodel: toy\ndata: {tasks: [nosuch]}\n", encoding="utf-8")
    assert main(["train", str(path), "--data-dir", str(data_dir)]) == 2
    assert "'nosuch': no such dataset" in capsys.readouterr().err
    path.write_text("kind: titles\nmodel: nosuch\ndata: {tasks: [tasks.jsonl]}\n", encoding="utf-8")
    assert main(["train", str(path), "--data-dir", str(data_dir)]) == 2
    assert "'nosuch': no such model" in capsys.readouterr().err


def test_a_job_that_fails_says_why_and_is_listed(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(data_dir.parent / "job.yaml"), "--data-dir", str(data_dir)]) == 1
    assert "failed: " in capsys.readouterr().err
    assert main(["jobs", "list", "--json", "--data-dir", str(data_dir)]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["state"], listed["kind"]) == ("failed", "titles") and "tasks.jsonl:1:" in listed["message"]
    assert main(["jobs", "show", listed["job_id"], "--data-dir", str(data_dir)]) == 0
    assert "checkpoints:\nnone yet" in capsys.readouterr().out
    assert main(["jobs", "stop", listed["job_id"], "--data-dir", str(data_dir)]) == 1
    assert "is failed: there is nothing to stop" in capsys.readouterr().err
    assert main(["jobs", "show", "../x", "--data-dir", str(data_dir)]) == 2


def test_detached_it_returns_at_once(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(data_dir.parent / "job.yaml"), "--detach", "--json", "--data-dir", str(data_dir)]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["state"] == "queued"
    jobs = Jobs(data_dir / "jobs", models_dir=data_dir / "models")
    job = jobs.job(status["job_id"])
    for _ in range(600):
        if jobs.status(job).state is JobState.FAILED:
            break
        time.sleep(0.05)
    assert jobs.status(job).state is JobState.FAILED
