"""The table of permissions against everything that is really registered: routes, pages, UI events, agent tools."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI
from starlette.routing import Mount
from starlette.testclient import TestClient

from ranker.schema import Candidate, Domain, RankingTask
from studio.accounts import Accounts
from studio.app import create_app
from studio.context import Context
from studio.mcp import make_tools
from studio.permissions import PAGES, ROLES, TOOLS, Permission, Role, permission_of_event, permission_of_route
from studio.settings import Settings
from studio.store import Store

PASSWORD = "a long enough sentence"
OPEN = {
    "/healthz", "/login", "/logout", "/api/me", "/studio-assets/{path:path}", "/favicon.ico", "/robots.txt",
}  # fmt: skip
"""All that anybody may ask for. A longer list is a decision, so it stands here once more."""


@pytest.fixture(scope="module")
def client(module_settings: Settings) -> Iterator[TestClient]:
    """Of a studio that is open to others, with its pages."""
    (module_settings.assets_dir / "studio.css").write_text("a {}", encoding="utf-8")
    settings = Settings(**{**vars(module_settings), "accounts": True})
    settings.make_directories()
    opened = Store(settings.database_path)
    people = Accounts(opened, settings.data_dir, hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    for role in Role:
        people.add(role.value, role, PASSWORD)
    opened.close()
    with TestClient(create_app(settings), base_url="http://127.0.0.1", follow_redirects=False) as opened:
        yield opened


@pytest.fixture(scope="module")
def app(client: TestClient) -> FastAPI:
    assert isinstance(client.app, FastAPI)
    return client.app


@pytest.fixture(scope="module")
def tokens(app: FastAPI) -> dict[Role, str]:
    return {role: app.state.context.accounts.make_token(role.value) for role in Role}


def registered(routes: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """(method, path) of every route, those of mounted applications too."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from registered(included.routes, prefix)
        elif isinstance(route, Mount):
            inner = getattr(route.app, "routes", None)
            if inner is None:
                yield "GET", f"{prefix}{route.path}/{{path:path}}"
            else:
                yield from registered(inner, prefix + route.path)
        else:
            for method in route.methods:
                yield method, prefix + route.path


def concrete(path: str) -> str:
    """A path that the template matches."""
    return re.sub(r"\{\w+(:path)?\}", "x", path)


def test_every_route_is_in_the_table(app: FastAPI) -> None:
    routes = list(registered(app.routes))
    assert len(routes) > 80, "Gradio's are among them"
    unlisted = [route for route in routes if permission_of_route(*route) is Permission.UNLISTED]
    assert unlisted == [], "enter them in studio/permissions.py"
    assert {path.rstrip("/") for method, path in routes if permission_of_route(method, path) is Permission.OPEN} == OPEN


def test_every_ui_event_and_tool_is_in_the_table(app: FastAPI) -> None:
    context: Context = app.state.context
    from studio.pages import build_pages
    from studio.pages.wiring import event_permission

    events = [fn.fn for fn in build_pages(context).fns.values() if fn.fn is not None]
    assert len(events) > 30
    assert [fn for fn in events if event_permission(fn) in (None, Permission.UNLISTED)] == []
    assert {tool.name for tool in make_tools(context)} == set(TOOLS)


def test_without_a_login_nothing_but_the_open_routes_answers(app: FastAPI, client: TestClient) -> None:
    for method, template in registered(app.routes):
        permission = permission_of_route(method, template)
        if permission is Permission.OPEN:
            continue
        response = client.request(method, concrete(template))
        if permission is Permission.NOBODY:
            assert response.status_code in (403, 404), template  # 403: the guard was quicker
        elif method == "GET" and (template.rstrip("/") or "/") in PAGES:
            assert (response.status_code, response.headers["location"][:12]) == (303, "/login?next="), template
        else:
            assert response.status_code == 401, (method, template)
            assert response.headers["www-authenticate"].startswith("Bearer")
    for path in ("/gradio_api/queue/join", "/gradio_api/upload", "/gradio_api/run/predict", "/config", "/nowhere"):
        assert client.post(path).status_code == 401
        assert client.get(path, headers={"authorization": "Bearer rst_guessed"}).status_code == 401
        assert client.get(path, headers={"cookie": "ranking_studio=guessed.guessed"}).status_code == 401
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/api/me").json()["may"] == ["open"]


@pytest.mark.parametrize("role", list(Role))
def test_each_role_may_what_the_table_says_on_every_route(
    app: FastAPI, client: TestClient, tokens: dict[Role, str], role: Role
) -> None:
    headers = {"authorization": f"Bearer {tokens[role]}"}
    for method, template in registered(app.routes):
        permission = permission_of_route(method, template)
        if permission in ROLES[role] or permission is Permission.NOBODY:
            continue
        response = client.request(method, concrete(template), headers=headers)
        assert response.status_code == 403, (method, template)
    assert client.get("/", headers=headers).status_code == 200
    assert client.get("/api/people", headers=headers).status_code == (200 if role is Role.ADMIN else 403)
    assert client.get("/nowhere", headers=headers).status_code == (404 if role is Role.ADMIN else 403)
    me = client.get("/api/me", headers=headers).json()
    assert (me["name"], me["role"], "/quality" in me["closed_pages"]) == (role, role, role is Role.ANNOTATOR)


def test_roles_grow() -> None:
    annotator, researcher, admin = (ROLES[role] for role in Role)
    assert annotator < researcher < admin
    assert {Permission.RANK, Permission.CORRECT} <= annotator
    assert {Permission.EVALUATE, Permission.TRAIN, Permission.EXPORT} <= researcher - annotator
    assert {Permission.PEOPLE, Permission.DELETE, Permission.PROMOTE} <= admin - researcher
    assert Permission.NOBODY not in admin


@pytest.mark.parametrize(
    ("method", "path", "permission"),
    [
        ("GET", "/traces/", Permission.VIEW),
        ("HEAD", "/", Permission.RANK),
        ("GET", "//gradio_api/upload", Permission.UNLISTED),
        ("GET", "/Data", Permission.UNLISTED),
        ("POST", "/data", Permission.UNLISTED),
        ("GET", "/api/traces/export", Permission.EXPORT),
        ("GET", "/api/traces/export/", Permission.EXPORT),
        ("GET", "/api/traces/exported", Permission.VIEW),
        ("GET", "/api/traces/a/b", Permission.UNLISTED),
        ("GET", "/studio-assets/../studio.db", Permission.OPEN),  # the file server refuses it
        ("GET", "/gradio_api/file=/etc/passwd\n", Permission.IMPORT),
        ("DELETE", "/api/people/ann", Permission.PEOPLE),
    ],
)
def test_paths_are_matched_whole(method: str, path: str, permission: Permission) -> None:
    assert permission_of_route(method, path) is permission


def send_event(client: TestClient, token: str, fn_index: int) -> Any:
    """What the notice says after a UI event."""
    body = {"data": [], "fn_index": fn_index, "session_hash": "s", "trigger_id": None, "event_data": {"id": "1"}}
    response = client.post("/gradio_api/run/predict", json=body, headers={"authorization": f"Bearer {token}"})
    assert response.status_code == 200, response.text
    return response.json()["data"][0]


def test_a_ui_event_asks_the_same_table(app: FastAPI, client: TestClient, tokens: dict[Role, str]) -> None:
    """An annotator sees the Data page, and cannot delete through it, nor by calling its event."""
    context: Context = app.state.context
    from studio.pages import build_pages

    fns = build_pages(context).fns
    delete = next(i for i, fn in fns.items() if fn.fn.__name__ == "delete" and fn.fn.permission is Permission.DELETE)
    candidates = (Candidate(candidate_id="a", text="a"), Candidate(candidate_id="b", text="b"))
    task = RankingTask(task_id="t", domain=Domain.OTHER, query="q", candidates=candidates)
    dataset_id, _ = context.library.add_task(task, "kept")
    assert dataset_id == 1
    answers = {}
    for role in (Role.ANNOTATOR, Role.RESEARCHER, Role.ADMIN):
        answers[role] = send_event(client, tokens[role], delete)
        assert bool(context.library.datasets()) is (role is not Role.ADMIN)
    assert "role: annotator: may not do this (delete): ask for the role admin" in answers[Role.ANNOTATOR]["text"]
    assert answers[Role.RESEARCHER]["kind"] == "error"
    assert answers[Role.ADMIN]["kind"] == "done"


def test_a_handler_that_nobody_entered_is_for_admins() -> None:
    def forgotten() -> None: ...

    forgotten.__module__ = "studio.pages.new_page"
    assert permission_of_event(forgotten) is Permission.UNLISTED
