"""The endpoint for agents: the protocol's small words, the tools, and errors that an agent can read."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from ranker.schema import RankingTask
from studio.app import create_app
from studio.settings import VERSION, Settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def client(module_settings: Settings) -> Iterator[TestClient]:
    app = create_app(module_settings, with_pages=False)
    with TestClient(app, base_url="http://127.0.0.1") as opened:
        yield opened


def ask(client: TestClient, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
    message = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params or {}}
    response = client.post("/mcp", json=message, headers={"accept": "application/json, text/event-stream"})
    assert response.status_code == 200
    answer = response.json()
    assert (answer["jsonrpc"], answer["id"]) == ("2.0", 7)
    return answer  # type: ignore[no-any-return]


def call(client: TestClient, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    result = ask(client, "tools/call", {"name": tool, "arguments": arguments})["result"]
    if not result.get("isError"):
        assert json.loads(result["content"][0]["text"]) == result["structuredContent"]
    return result  # type: ignore[no-any-return]


@pytest.mark.parametrize(("asked", "given"), [("2025-03-26", "2025-03-26"), ("2030-01-01", "2025-06-18")])
def test_an_agent_introduces_itself(client: TestClient, asked: str, given: str) -> None:
    result = ask(client, "initialize", {"protocolVersion": asked, "capabilities": {}})["result"]
    assert (result["protocolVersion"], result["serverInfo"]["name"]) == (given, "ranking-studio")
    assert client.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"}).status_code == 202
    assert ask(client, "ping")["result"] == {}
    assert client.get("/mcp").status_code == 405


def test_the_version_is_that_of_the_package() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"] == VERSION


def test_tools_are_listed_with_their_arguments(client: TestClient) -> None:
    tools = {tool["name"]: tool for tool in ask(client, "tools/list")["result"]["tools"]}
    assert set(tools) == {"rank", "list_datasets", "get_trace", "submit_correction"}
    assert tools["rank"]["inputSchema"]["required"] == ["candidates"]
    assert all(tool["inputSchema"]["type"] == "object" for tool in tools.values())


def test_rank_and_list_and_get(client: TestClient, make_task: Any) -> None:
    ranked = call(client, "rank", {"query": "q", "candidates": ["a", "b", "c"]})["structuredContent"]
    assert (sorted(ranked["ranking"]), len(ranked["steps"])) == ([0, 1, 2], 2)
    context = client.app.state.context  # type: ignore[attr-defined]
    task: RankingTask = make_task()
    dataset_id, task_id = context.library.add_task(task)
    (info,) = call(client, "list_datasets", {})["structuredContent"]["datasets"]
    assert (info["id"], info["num_tasks"]) == (dataset_id, 1)
    stream = client.get("/v1/rank/stream", params={"dataset": str(dataset_id), "task": task_id})
    trace_id = json.loads(stream.text.splitlines()[0][6:])[0]["trace"]["trace_id"]
    trace = call(client, "get_trace", {"trace_id": trace_id})["structuredContent"]
    assert (trace["state"], len(trace["steps"])) == ("finished", 4)
    said = {"dataset_id": dataset_id, "task_id": task_id, "author": "agent", "correction_id": "a-1"}
    said["payload"] = {"order": [["c3"], ["c0", "c1"]]}
    made = call(client, "submit_correction", said)["structuredContent"]
    assert (made["author"], made["is_gold"], made["dataset"]) == ("agent", False, "handwritten@1")
    assert call(client, "submit_correction", said)["structuredContent"] == made
    wrong = call(client, "submit_correction", said | {"correction_id": "a-2", "payload": {"order": [["zz"], ["c0"]]}})
    assert wrong["isError"] and "payload.order: ['zz']" in wrong["content"][0]["text"]


@pytest.mark.parametrize(
    ("tool", "arguments", "error"),
    [
        ("rank", {"query": "q", "candidates": ["a"]}, "rank: candidates: "),
        ("rank", {"candidates": ["a", ""]}, "at least 1 character"),
        ("rank", {"candidates": ["a", "b"], "model": "gpt"}, "no such model"),
        ("rank", {"candidates": ["a", "b"], "extra": 1}, "rank: extra: "),
        ("get_trace", {"trace_id": "nope"}, "'nope' is not there"),
    ],
)
def test_a_tool_that_fails_says_why(client: TestClient, tool: str, arguments: dict[str, Any], error: str) -> None:
    result = call(client, tool, arguments)
    assert result["isError"]
    assert error in result["content"][0]["text"]
    assert "\n" not in result["content"][0]["text"]


def test_what_is_not_the_protocol_is_refused(client: TestClient) -> None:
    assert ask(client, "resources/list")["error"]["code"] == -32601
    assert ask(client, "tools/call", {"name": "drop_tables"})["error"]["code"] == -32602
    for body, code in ((b"{", -32700), (b"[]", -32600), (b'{"method": 3, "id": 1}', -32600)):
        response = client.post("/mcp", content=body)
        assert (response.status_code, response.json()["error"]["code"]) == (400, code)
    assert client.post("/mcp", json={}, headers={"origin": "http://evil.example"}).status_code == 403
