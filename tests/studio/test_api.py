"""The HTTP routes and the guard in front of them, over a real server on a free port."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import uvicorn

from ranker.errors import UsageError
from ranker.schema import RankingTask, RankingTrace
from studio.app import create_app
from studio.context import Context
from studio.security import CONTENT_SECURITY_POLICY
from studio.server import serve
from studio.settings import Settings

TASK = {
    "task_id": "m-17",
    "domain": "recommendation",
    "query": "",
    "history": ["Heat"],
    "candidates": [{"candidate_id": str(i), "text": f"film {i}", "metadata": {"year": 1990 + i}} for i in range(4)],
    "relevance": {"2": 1},
}


@pytest.fixture(scope="module")
def served(module_settings: Settings) -> Iterator[tuple[httpx.Client, Context]]:
    app = create_app(module_settings, with_pages=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        with httpx.Client(
            base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=10, trust_env=False
        ) as client:
            yield client, app.state.context
        app.state.context.hub.close()
        server.should_exit = True
        thread.join(10)
    assert not thread.is_alive()


def read_stream(client: httpx.Client, url: str) -> list[dict[str, Any]]:
    with client.stream("GET", url) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line.startswith("data: ")]
    return [event for line in lines for event in json.loads(line[6:])]


def test_rerank_has_the_common_shape_and_scores_fall_with_the_rank(served: tuple[httpx.Client, Context]) -> None:
    client, _ = served
    body = {
        "model": "fast",
        "query": "q",
        "documents": ["a", {"text": "b", "id": 7}, "c", "a"],
        "max_tokens_per_doc": 9,
    }
    answer = client.post("/v1/rerank", json=body).json()
    scores = [result["relevance_score"] for result in answer["results"]]
    assert sorted(result["index"] for result in answer["results"]) == [0, 1, 2, 3]
    assert scores == sorted(set(scores), reverse=True)
    assert 0 < scores[-1] < scores[0] == 1.0
    assert answer["id"].startswith("rerank-")
    assert answer["usage"]["total_tokens"] > 0
    assert "document" not in answer["results"][0]
    shown = client.post("/v1/rerank", json=body | {"top_n": 2, "return_documents": True}).json()["results"]
    assert [r["index"] for r in shown] == [r["index"] for r in answer["results"][:2]]
    assert all(r["document"]["text"] == ["a", "b", "c", "a"][r["index"]] for r in shown)
    (only,) = client.post("/v1/rerank", json={"query": "q", "documents": ["x"]}).json()["results"]
    assert only == {"index": 0, "relevance_score": 1.0}


def test_rank_gives_a_trace(served: tuple[httpx.Client, Context]) -> None:
    client, context = served
    total = context.store.traces.search().total
    response = client.post("/v1/rank", params={"seed": 3, "mode": "iterative"}, json=TASK)
    trace = RankingTrace.model_validate_json(response.content)
    assert (trace.task_id, trace.seed, len(trace.steps)) == ("m-17", 3, 3)
    assert context.store.traces.search().total == total


@pytest.mark.parametrize(
    ("method", "url", "body", "status", "error"),
    [
        ("POST", "/v1/rank", {**TASK, "candidates": TASK["candidates"][:1]}, 400, "body: candidates: "),  # type: ignore[index]
        ("POST", "/v1/rank", {**TASK, "extra": 1}, 400, "body: extra: "),
        ("POST", "/v1/rank", {**TASK, "relevance": {"9": 1}}, 400, "'9' is not a candidate"),
        ("POST", "/v1/rank?mode=best", TASK, 400, "query: mode: 'best': "),
        ("POST", "/v1/rank?model=gpt", TASK, 400, "'gpt': no such model"),
        ("POST", "/v1/rerank", {"query": "q", "documents": []}, 400, "body: documents: "),
        ("POST", "/v1/rerank", {"query": "q", "documents": ["x"] * 201}, 400, "at most 200"),
        ("POST", "/v1/rerank", {"query": "q", "documents": ["x", ""]}, 400, "at least 1 character"),
        ("GET", "/v1/rank/stream", None, 400, "dataset= and task="),
        ("GET", "/v1/rank/stream?dataset=nope&task=1", None, 404, "'nope' is not there"),
        ("GET", "/v1/rank/stream?trace=nope", None, 404, "'nope' is not there"),
        ("GET", "/api/traces/nope/events", None, 404, "'nope' is not there"),
        ("GET", "/api/traces/nope", None, 404, "'nope' is not there"),
        ("GET", "/studio-assets/samples/films.jsonl", None, 404, "Not Found"),
        ("GET", "/nowhere", None, 404, "Not Found"),
    ],
)
def test_a_bad_request_gets_one_line(
    served: tuple[httpx.Client, Context], method: str, url: str, body: object, status: int, error: str
) -> None:
    client, _ = served
    response = client.request(method, url, json=body) if body else client.request(method, url)
    assert response.status_code == status, response.text
    (message,) = response.json().values()
    assert response.json() == {"error": message}
    assert error in message
    assert "\n" not in message


def test_a_stream_starts_with_a_snapshot_and_ends_with_done(
    served: tuple[httpx.Client, Context], make_task: Callable[..., RankingTask]
) -> None:
    client, context = served
    context.library.add_task(make_task())
    events = read_stream(client, "/v1/rank/stream?dataset=handwritten&task=t1&model=slow")
    kinds = [event["k"] for event in events]
    assert (kinds[0], kinds[-1]) == ("snapshot", "done")
    opened = events[0]["trace"]  # the ranking may have begun before its viewer came
    steps = [*opened["steps"], *(event["step"] for event in events if event["k"] == "elim")]
    assert [step["step_index"] for step in steps] == [0, 1, 2, 3]
    assert [event["step_index"] for event in events if event["k"] == "step"][-1] == 3
    assert kinds.count("tok") > 10
    assert all("prompt" not in step for step in steps)
    trace_id = opened["trace_id"]
    assert sorted(events[-1]["ranking"]) == ["c0", "c1", "c2", "c3", "c4"]
    again = read_stream(client, f"/api/traces/{trace_id}/events")
    assert [event["k"] for event in again] == ["snapshot", "done"]
    assert [step["excluded_id"] for step in again[0]["trace"]["steps"]] == [step["excluded_id"] for step in steps]
    exported = client.get("/api/traces/export", params={"text": "mars", "dataset": "handwritten"})
    assert [json.loads(line)["trace_id"] for line in exported.text.splitlines()] == [trace_id]
    assert client.get("/api/traces/export", params={"min_rank": 5, "max_rank": 4}).text == ""
    assert client.get(f"/api/traces/{trace_id}").json() == json.loads(exported.text)


def test_corrections_and_drafts(served: tuple[httpx.Client, Context], make_task: Callable[..., RankingTask]) -> None:
    client, context = served
    dataset_id, task_id = context.library.add_task(make_task("corrected"))
    about = {"dataset": str(dataset_id), "task_id": task_id, "author": "ann"}
    body = about | {"kind": "ranking", "payload": {"order": [["c0"], ["c1"]]}, "correction_id": "over-http"}
    draft = client.put("/api/drafts", json=about | {"payload": {"order": [["c0"]]}, "revision": 0}).json()
    assert draft["revision"] == 1
    stale = client.put("/api/drafts", json=about | {"payload": {"order": [["c1"]]}, "revision": 0})
    assert (stale.status_code, "both" in stale.json()["error"]) == (409, True)
    assert client.post("/api/corrections", json=body | {"draft_revision": 7}).status_code == 409
    made, again = (client.post("/api/corrections", json=body | {"draft_revision": 1}) for _ in range(2))
    assert (made.status_code, again.status_code) == (201, 200)
    assert made.json() == again.json()
    where = {"dataset": "handwritten", "task": task_id, "author": "ann"}
    assert client.get("/api/corrections", params=where).json() == {
        "corrections": [made.json()["correction"]],
        "total": 1,
    }
    assert client.get("/api/corrections", params=where | {"author": "bob"}).json()["total"] == 0
    kept = client.get("/api/drafts", params=where).json()
    assert (kept["payload"], [c["payload"]["order"] for c in kept["conflicts"]]) == (
        None, [[["c1"]], [["c0"], ["c1"]]],
    )  # fmt: skip
    for wrong, status, error in (
        ({"payload": {"order": [["c0"], ["zz"]]}}, 400, "payload.order: ['zz']"),
        ({"kind": "opinion"}, 400, "body: kind: 'opinion'"),
        ({"duration_s": -1}, 400, "body: duration_s"),
        ({"dataset": "nope"}, 404, "'nope' is not there"),
        ({"task_id": "nope"}, 404, "'nope' is not there"),
    ):
        answer = client.post("/api/corrections", json=body | {"correction_id": None} | wrong)
        assert (answer.status_code, error in answer.json()["error"]) == (status, True), answer.text
    assert client.post("/api/corrections", json=body, headers={"origin": "http://evil.example"}).status_code == 403


def test_health_and_metrics(served: tuple[httpx.Client, Context]) -> None:
    client, _ = served
    client.post("/v1/rank", json=TASK)
    health = client.get("/healthz").json()
    assert (health["status"], health["live_traces"], "fast" in health["models"]) == ("ok", 0, True)
    lines = client.get("/metrics").text.splitlines()
    assert 'studio_traces{state="failed"} 0' in lines
    assert 'studio_model_loaded{model="fast"} 1' in lines


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/healthz", {"host": "evil.example"}, 400),
        ("GET", "/healthz", {"host": "127.0.0.1.evil.example:80"}, 400),
        ("GET", "/healthz", {"host": "[::1"}, 400),
        ("GET", "/healthz", {"host": "localhost:1234"}, 200),
        ("GET", "/healthz", {"host": "[::1]:7860"}, 200),
        ("POST", "/v1/rank", {"origin": "http://evil.example"}, 403),
        ("POST", "/v1/rank", {"origin": "null"}, 403),
        ("POST", "/v1/rank", {"origin": "http://localhost:9999"}, 403),
        ("POST", "/v1/rank", {"sec-fetch-site": "cross-site"}, 403),
        ("POST", "/v1/rank", {"sec-fetch-site": "same-site"}, 403),
        ("POST", "/v1/rank", {"sec-fetch-site": "same-origin"}, 200),
        ("DELETE", "/gradio_api/upload", {"origin": "http://evil.example"}, 403),
        ("GET", "/api/traces/export", {"sec-fetch-site": "cross-site"}, 403),
        ("GET", "/healthz", {"sec-fetch-site": "cross-site"}, 200),
        ("GET", "/gradio_api/file=http://169.254.169.254/x", {}, 403),
    ],
)
def test_the_guard(
    served: tuple[httpx.Client, Context], method: str, path: str, headers: dict[str, str], status: int
) -> None:
    client, _ = served
    body = {"json": TASK} if method == "POST" and "content-length" not in headers else {}
    response = client.request(method, path, headers=headers, **body)  # type: ignore[arg-type]
    assert response.status_code == status, response.text
    assert response.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert response.headers["x-content-type-options"] == "nosniff"


def test_bodies_are_limited_with_and_without_a_length(served: tuple[httpx.Client, Context]) -> None:
    client, context = served
    limit = context.settings.max_request_bytes
    large = json.dumps({"query": "q" * limit, "documents": ["a", "b"]}).encode()

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(large), 65536):
            yield large[start : start + 65536]

    for content in (large, chunks()):
        try:
            response = client.post("/v1/rerank", content=content, headers={"content-type": "application/json"})
        except (httpx.WriteError, httpx.RemoteProtocolError):  # answered and closed before all was sent
            continue
        assert response.status_code == 413
        assert "larger than 8192 KiB" in response.json()["error"]
    assert client.get("/healthz").status_code == 200


def test_the_documents_of_the_pages_are_served_and_nothing_beside_them(served: tuple[httpx.Client, Context]) -> None:
    client, context = served
    assets = context.settings.assets_dir
    (assets / "studio.css").write_text("a {}", encoding="utf-8")
    (assets / "tasks.jsonl").write_text("{}", encoding="utf-8")
    assert client.get("/studio-assets/studio.css").text == "a {}"
    for path in ("tasks.jsonl", "../data/studio.db", "%2e%2e/data/studio.db", ""):
        assert client.get(f"/studio-assets/{path}").status_code == 404


def test_other_machines_are_refused_and_a_taken_port_is_said_in_one_line(settings: Settings) -> None:
    for host in ("0.0.0.0", "192.168.1.5", "::", "example.com"):
        exposed = Settings(data_dir=settings.data_dir, host=host)
        with pytest.raises(UsageError, match="no admin yet"):
            create_app(exposed, with_pages=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port: {port}: .*choose another"):
            serve(Settings(data_dir=settings.data_dir, port=port), on_ready=print)
