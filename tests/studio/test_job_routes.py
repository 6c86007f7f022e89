"""The HTTP routes of training jobs: what can be asked without training anything."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from ranker.schema import Candidate, Domain, RankingTask
from studio.app import create_app
from studio.settings import Settings
from trainer.config import make_config
from trainer.jobs import Jobs
from trainer.modelcards import ModelCard, write_card

TASK = RankingTask(
    task_id="f1",
    domain=Domain.OTHER,
    query="old",
    candidates=tuple(
        Candidate(candidate_id=str(k), text=f"F{k} ({year})") for k, year in enumerate((1931, 1994, 2003))
    ),
    relevance={"0": 1},
)


@pytest.fixture
def client(settings: Settings, toy_model_dir: Path) -> Iterator[TestClient]:
    write_card(settings.models_dir, ModelCard(name="toy", directory=str(toy_model_dir), num_parameters=60_000))
    app = create_app(settings, with_pages=False)
    app.state.context.store.datasets.add("films", [TASK, TASK.model_copy(update={"task_id": "f2"})], source="test")
    with TestClient(app, base_url="http://127.0.0.1") as opened:
        yield opened


@pytest.fixture
def job_id(client: TestClient, settings: Settings) -> str:
    """A job that was made and never started."""
    path = settings.data_dir / "films.jsonl"
    path.write_text(TASK.model_dump_json() + "\n", encoding="utf-8")
    jobs = Jobs(settings.jobs_dir, models_dir=settings.models_dir)
    return jobs.create(make_config({"kind": "sft", "model": "toy", "data": {"tasks": [str(path)]}})).job_id


def body(**changes: Any) -> dict[str, Any]:
    settings = {"model": "toy", "optimizer": {"max_steps": 3}, "examples": {"held_out_share": 0}}
    return {"preset": "sft", "material": {"datasets": ["films"]}, "settings": settings, **changes}


def test_an_estimate_starts_nothing(client: TestClient) -> None:
    found = client.post("/api/jobs/estimate", json=body()).json()
    assert found["fits"] and found["optimizer_steps"] == 3 and found["words"].startswith("Needs about")
    assert sum(found["memory"].values()) == found["memory_bytes"]
    assert client.get("/api/jobs").json() == {"jobs": []}


@pytest.mark.parametrize(
    ("path", "sent", "status", "said"),
    [
        ("/api/jobs", body(preset="nosuch"), 400, "job: preset: 'nosuch'"),
        ("/api/jobs", body(settings={"kind": "sft", "steps": 3}), 400, "no such field"),
        ("/api/jobs", body(nosuch=1), 400, "nosuch"),
        ("/api/jobs/20260101-000000-aaaa/stop", None, 404, "no such job"),
        ("/api/jobs/..%2F..%2Fmodels/resume", None, 404, ""),
        ("/api/models/undo-promote", None, 400, "nothing to take back"),
        ("/api/rewards/inspect", {"completion": "x" * 50_000}, 400, "at most 40,000"),
    ],
)
def test_what_is_wrong_is_one_line(client: TestClient, path: str, sent: Any, status: int, said: str) -> None:
    answer = client.post(path, json=sent)
    assert answer.status_code == status and said in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_a_job_can_be_looked_at(client: TestClient, job_id: str) -> None:
    assert [job["job_id"] for job in client.get("/api/jobs").json()["jobs"]] == [job_id]
    view = client.get(f"/api/jobs/{job_id}").json()
    assert view["config"]["kind"] == "sft" and view["provenance"] is None and not view["can"]["promote"]
    live = client.get(f"/api/jobs/{job_id}/live").json()
    assert live["metrics"] == [] and live["num_rollouts"] == 0 and live["status"]["state"] == "queued"
    assert client.get(f"/api/jobs/{job_id}/rollouts/0").status_code == 404
    assert client.get(f"/api/jobs/{job_id}/log").text == ""
    assert client.get(f"/api/jobs/{job_id}/compare?other={job_id}").json()["settings"] == []
    assert client.put(f"/api/jobs/{job_id}/priority", json={"priority": 2}).json()["priority"] == 2
    assert client.put(f"/api/jobs/{job_id}/priority", json={"priority": 200}).status_code == 400
    promoted = client.post(f"/api/jobs/{job_id}/promote")
    assert promoted.status_code == 503 and "has no checkpoint yet" in promoted.json()["error"]
    assert (
        "learns from no corrections" in client.post(f"/api/jobs/{job_id}/clone", json={"placebo": True}).json()["error"]
    )


def test_a_completion_is_inspected_on_a_task_a_job_or_anything(client: TestClient, job_id: str) -> None:
    good = "x\n</think>\n<answer>[3]</answer>"
    for asked in ({}, {"job": job_id}, {"dataset": 1, "task": "f2"}):
        found = client.post("/api/rewards/inspect", json={**asked, "completion": good}).json()
        assert found["rewards"]["paper"]["total"] == 1 and found["example"]["query"] == "old"
        assert [c["grade"] for c in found["example"]["pool"]] == [0, 1, 1]
    assert client.post("/api/rewards/inspect", json={"job": job_id, "rollout": 0}).status_code == 404


def test_another_site_may_not_start_a_job(client: TestClient) -> None:
    answer = client.post("/api/jobs", json=body(), headers={"origin": "http://evil.example"})
    assert answer.status_code == 403 and client.get("/api/jobs").json() == {"jobs": []}
