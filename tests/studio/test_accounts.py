"""Accounts: passwords, sessions, tokens, lockout, removal; over HTTP and on the command line."""

import io
import json
import re
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from starlette.testclient import TestClient

from ranker.errors import UsageError
from ranker.schema import RankingTask
from studio.accounts import (
    MAX_TRIES,
    MAX_TRIES_OF_ADDRESS,
    SESSION_S,
    Accounts,
    BadLoginError,
    TooManyTriesError,
)
from studio.app import create_app
from studio.cli import main
from studio.context import Context
from studio.corrections import Submission
from studio.peopleroutes import local_path
from studio.permissions import Role
from studio.settings import Settings
from studio.store import NotStoredError, Store
from studio.throttle import Throttle

PASSWORD = "correct horse battery"
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""The real one takes 64 MiB and its time; a stored hash says itself how it was made."""


class Clock:
    """A time that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime(2026, 11, 25, tzinfo=UTC) + timedelta(seconds=self.seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def accounts(store: Store, tmp_path: Path, clock: Clock) -> Accounts:
    made = Accounts(store, tmp_path, clock=clock.now, throttle=Throttle(clock=clock.monotonic), hasher=QUICK)
    made.add("ann", Role.ADMIN, PASSWORD)
    return made


def test_what_is_kept_is_no_password_and_no_token(accounts: Accounts, store: Store, tmp_path: Path) -> None:
    cookie = accounts.login("ann", PASSWORD, address="a")
    token = accounts.make_token("ann")
    held = b"".join(path.read_bytes() for path in tmp_path.glob("studio.db*"))
    for secret in (PASSWORD, cookie.split(".")[0], token, token.removeprefix("rst_")):
        assert secret.encode() not in held
    kept = store.accounts.credentials("ann")
    assert kept is not None and kept.password_hash.startswith("$argon2id$")
    assert stat.S_IMODE((tmp_path / "session.key").stat().st_mode) == 0o600
    assert store.verify() == []


def test_a_session_ends_by_itself_by_logout_and_by_a_new_password(accounts: Accounts, clock: Clock) -> None:
    first, second = (accounts.login("ann", PASSWORD, address="a") for _ in range(2))
    assert first != second
    assert [a.name for a in (accounts.of_cookie(first), accounts.of_cookie(second)) if a] == ["ann", "ann"]
    accounts.logout(first)
    assert (accounts.of_cookie(first), accounts.of_cookie(second) is not None) == (None, True)
    accounts.set_password("ann", "another " + PASSWORD)
    assert accounts.of_cookie(second) is None
    third = accounts.login("ann", "another " + PASSWORD, address="a")
    clock.seconds += SESSION_S - 1
    assert accounts.of_cookie(third) is not None
    clock.seconds += 2
    assert accounts.of_cookie(third) is None


def test_a_cookie_that_we_did_not_sign_is_none(accounts: Accounts, store: Store, tmp_path: Path) -> None:
    cookie = accounts.login("ann", PASSWORD, address="a")
    token, _, signature = cookie.partition(".")
    for forged in (
        "",
        ".",
        token,
        f"{token}.",
        f"{token}.{signature[:-1]}0",
        f"x{cookie}",
        f"{token}.{'é' * 8}",
        f"é.{signature}",
    ):
        assert accounts.of_cookie(forged) is None or forged == cookie
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert Accounts(store, elsewhere).of_cookie(cookie) is None, "another data directory has another key"


def test_tokens_end_and_can_be_taken_back(accounts: Accounts, store: Store, clock: Clock) -> None:
    short, long = accounts.make_token("ann", days=1), accounts.make_token("ann")
    assert accounts.of_token(short) is not None
    clock.seconds += 24 * 3600 + 1
    assert (accounts.of_token(short), accounts.of_token(long) is not None) == (None, True)
    assert store.accounts.revoke_tokens("ann") >= 1
    assert accounts.of_token(long) is None
    with pytest.raises(NotStoredError, match="has no account"):
        accounts.make_token("nobody")


def test_bad_tries_lock_one_name_from_one_address_for_a_while(accounts: Accounts, clock: Clock) -> None:
    accounts.add("bob", Role.ANNOTATOR, PASSWORD)
    for _ in range(MAX_TRIES):
        with pytest.raises(BadLoginError, match="name or password"):
            accounts.login("ann", "wrong", address="a")
    with pytest.raises(TooManyTriesError, match="wait 15 min"):
        accounts.login("ann", PASSWORD, address="a")
    assert accounts.login("bob", PASSWORD, address="a")
    assert accounts.login("ann", PASSWORD, address="b"), "others cannot lock somebody out"
    clock.seconds += 15 * 60 + 1
    assert accounts.login("ann", PASSWORD, address="a")


def test_a_name_that_is_not_there_is_refused_and_locked_alike(accounts: Accounts) -> None:
    for _ in range(MAX_TRIES):
        with pytest.raises(BadLoginError) as caught:
            accounts.login("nobody", PASSWORD, address="a")
    with pytest.raises(BadLoginError) as known:
        accounts.login("ann", "wrong", address="a")
    assert str(caught.value) == str(known.value)
    with pytest.raises(TooManyTriesError):
        accounts.login("nobody", PASSWORD, address="a")


def test_an_address_that_tries_many_names_is_locked(clock: Clock) -> None:
    throttle = Throttle(clock=clock.monotonic)
    waits = [throttle.attempt([(("name", n), 5), ("address", MAX_TRIES_OF_ADDRESS)]) for n in range(31)]
    assert waits == [0] * 30 + [900]
    clock.seconds += 899
    assert throttle.attempt([("address", MAX_TRIES_OF_ADDRESS)]) == 1
    clock.seconds += 1
    assert throttle.attempt([("address", MAX_TRIES_OF_ADDRESS)]) == 0


@pytest.mark.parametrize(("name", "password", "said"), [
    ("bob", "short", "password: has 5 characters"),
    ("ann", PASSWORD, "'ann': has an account"),
    ("", PASSWORD, "author: ''"),
    ("a\x00b", PASSWORD, "printable"),
])  # fmt: skip
def test_an_account_that_cannot_be_made(accounts: Accounts, name: str, password: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        accounts.add(name, Role.ANNOTATOR, password)


def test_removal_takes_the_person_and_keeps_the_votes(context: Context, make_task: Callable[..., RankingTask]) -> None:
    dataset_id, task_id = context.library.add_task(make_task(), "d")
    context.accounts.add("ann", Role.ANNOTATOR, PASSWORD)
    cookie, token = context.accounts.login("ann", PASSWORD, address="a"), context.accounts.make_token("ann")
    said = Submission(task_id=task_id, kind="ranking", payload={"order": [["c1"], ["c0"]]}, author="ann")  # type: ignore[arg-type]
    context.corrections.submit(dataset_id, said)
    kept_as = context.accounts.remove("ann").name
    assert (context.accounts.of_cookie(cookie), context.accounts.of_token(token)) == (None, None)
    assert context.store.accounts.all() == []
    (vote,) = context.corrections.effective()
    assert (vote.author, vote.payload["order"]) == (kept_as, [["c1"], ["c0"]])
    with pytest.raises(BadLoginError):
        context.accounts.login("ann", PASSWORD, address="a")
    assert context.store.verify() == []


# -------------------------------------------------------------------------------------------------------- over HTTP


@pytest.fixture(scope="module")
def open_studio(module_settings: Settings) -> Iterator[tuple[TestClient, Context]]:
    settings = Settings(**{**vars(module_settings), "accounts": True})
    settings.make_directories()
    store = Store(settings.database_path)
    people = Accounts(store, settings.data_dir, hasher=QUICK)
    people.add("mallory", Role.ANNOTATOR, PASSWORD)
    people.add("ann", Role.ANNOTATOR, PASSWORD)
    people.add("bob", Role.RESEARCHER, PASSWORD)
    people.add("eve", Role.ADMIN, PASSWORD)
    store.close()
    app = create_app(settings, with_pages=False)
    with TestClient(app, base_url="http://127.0.0.1", follow_redirects=False) as client:
        yield client, app.state.context


@pytest.fixture
def client(open_studio: tuple[TestClient, Context]) -> TestClient:
    open_studio[0].cookies.clear()
    return open_studio[0]


def log_in(client: TestClient, name: str, password: str = PASSWORD, next_path: str = "/data") -> object:
    return client.post("/login", data={"name": name, "password": password, "next": next_path})


def test_logging_in_and_out(client: TestClient) -> None:
    page = client.get("/login?next=/data%3Fdataset=1")
    assert 'name="next" value="/data?dataset=1"' in page.text
    wrong = client.post("/login", data={"name": "<b>ann", "password": "x" * 12, "next": "/data"})
    assert (wrong.status_code, "Name or password is not right" in wrong.text) == (401, True)
    assert 'value="&lt;b&gt;ann"' in wrong.text and "x" * 12 not in wrong.text
    assert "set-cookie" not in wrong.headers
    right = log_in(client, "ann")
    assert (right.status_code, right.headers["location"]) == (303, "/data")  # type: ignore[attr-defined]
    cookie = right.headers["set-cookie"].lower()  # type: ignore[attr-defined]
    assert "httponly" in cookie and "samesite=lax" in cookie and "max-age=604800" in cookie and "path=/" in cookie
    assert client.get("/api/corrections").status_code == 200
    kept = dict(client.cookies)
    assert client.get("/login").headers["location"] == "/"
    out = client.post("/logout")
    assert (out.status_code, out.headers["location"]) == (303, "/login")
    client.cookies.update(kept)
    assert client.get("/api/corrections").status_code == 401, "the session has ended here, not only in the browser"


def test_a_session_from_before_the_login_is_worth_nothing_after_it(client: TestClient) -> None:
    """Session fixation: neither a made-up cookie nor somebody's older session is taken over by a login."""
    log_in(client, "eve")
    planted = client.cookies["ranking_studio"]
    log_in(client, "ann")
    assert client.cookies["ranking_studio"] != planted
    client.cookies.clear()
    old = {"cookie": f"ranking_studio={planted}"}
    assert client.get("/api/corrections", headers=old).status_code == 401
    made_up = {"cookie": "ranking_studio=chosen-by-somebody.else"}
    form = {"name": "ann", "password": PASSWORD}
    assert "chosen-by-somebody" not in client.post("/login", data=form, headers=made_up).headers["set-cookie"]
    client.cookies.clear()
    assert client.get("/api/corrections", headers=made_up).status_code == 401


def test_another_site_can_neither_log_in_nor_out(client: TestClient) -> None:
    for path in ("/login", "/logout"):
        for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
            assert client.post(path, data={"name": "ann"}, headers=headers).status_code == 403


@pytest.mark.parametrize(("path", "safe"), [
    ("/data?dataset=1", "/data?dataset=1"), ("", "/"), ("//evil.example", "/"), ("/\\evil.example", "/"), ("https://evil.example", "/"),
    ("data", "/"), ("/a\r\nset-cookie: x", "/"), ("/login?next=/", "/"), ("/logout", "/"), ("/\t/evil.example", "/"),
])  # fmt: skip
def test_a_login_leads_to_this_studio_only(path: str, safe: str) -> None:
    assert local_path(path) == safe


def test_too_many_tries_over_http(client: TestClient) -> None:
    answers = [log_in(client, "mallory", "guess number one") for _ in range(MAX_TRIES + 1)]
    assert [a.status_code for a in answers] == [401] * MAX_TRIES + [429]  # type: ignore[attr-defined]
    assert int(answers[-1].headers["retry-after"]) > 800  # type: ignore[attr-defined]


def test_each_sees_their_own_history_and_speaks_in_their_own_name(
    open_studio: tuple[TestClient, Context], client: TestClient, make_task: Callable[..., RankingTask]
) -> None:
    context = open_studio[1]
    _, task_id = context.library.add_task(make_task(), "said")
    body = {"dataset": "said", "task_id": task_id, "kind": "ranking", "payload": {"order": [["c1"], ["c0"]]}}
    for name in ("ann", "bob"):
        log_in(client, name)
        made = client.post("/api/corrections", json=body | {"author": "somebody else"})
        assert (made.status_code, made.json()["correction"]["author"]) == (201, name)
    everybody = client.get("/api/corrections").json()
    assert [c["author"] for c in everybody["corrections"]] == ["ann", "bob"], "a researcher sees all"
    draft = {"dataset": "said", "task_id": task_id, "author": "ann", "payload": {"order": [["c1"]]}, "revision": 0}
    assert client.put("/api/drafts", json=draft).status_code == 200
    log_in(client, "ann")
    assert [c["author"] for c in client.get("/api/corrections").json()["corrections"]] == ["ann"]
    assert client.get("/api/corrections?author=bob").status_code == 403
    where = {"dataset": "said", "task": task_id, "author": "bob"}
    assert client.get("/api/drafts", params=where).json()["payload"] is None, "bob's draft is bob's"
    call = {"name": "submit_correction", "arguments": {
        "dataset_id": 1, "task_id": task_id, "author": "an agent", "payload": {"order": [["c0"], ["c1"]]},
    }}  # fmt: skip
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    assert client.post("/mcp", json=message).json()["result"]["structuredContent"]["author"] == "ann"


def test_an_admin_sees_and_removes_people_over_http(
    open_studio: tuple[TestClient, Context], client: TestClient
) -> None:
    context = open_studio[1]
    Accounts(context.store, context.settings.data_dir, hasher=QUICK).add("leaving", Role.ANNOTATOR, PASSWORD)
    token = context.accounts.make_token("eve")
    headers = {"authorization": f"Bearer {token}"}
    assert "leaving" in [p["name"] for p in client.get("/api/people", headers=headers).json()["people"]]
    assert client.delete("/api/people/leaving", headers=headers).json()["votes_are_kept_as"].startswith("annotator-")
    assert client.delete("/api/people/leaving", headers=headers).status_code == 404


# -------------------------------------------------------------------------------------------------------- opening it


def test_it_opens_to_others_only_when_there_is_an_admin(settings: Settings) -> None:
    for changes in ({"host": "0.0.0.0"}, {"host": "::"}, {"host": "192.168.1.5"}, {"accounts": True}):
        exposed = Settings(**{**vars(settings), **changes})
        with pytest.raises(UsageError, match=r"no admin yet: run `python launch\.py people add NAME --role admin`"):
            create_app(exposed, with_pages=False)
    store = Store(settings.database_path)
    Accounts(store, settings.data_dir, hasher=QUICK).add("ann", Role.RESEARCHER, PASSWORD)
    store.close()
    exposed = Settings(**{**vars(settings), "host": "0.0.0.0", "public_names": ("rank.example",)})
    with pytest.raises(UsageError, match="no admin yet"):
        create_app(exposed, with_pages=False)
    store = Store(settings.database_path)
    store.accounts.set_role("ann", Role.ADMIN)
    store.close()
    app = create_app(exposed, with_pages=False)
    with TestClient(app, base_url="http://192.168.1.5:7860") as client:
        assert client.get("/api/corrections").status_code == 401
        for host, status in (("10.0.0.7", 200), ("[fe80::1]:7860", 200), ("rank.example", 200), ("evil.example", 400)):
            assert client.get("/healthz", headers={"host": host}).status_code == status, host


def test_on_loopback_a_name_is_enough(settings: Settings) -> None:
    with TestClient(create_app(settings, with_pages=False), base_url="http://127.0.0.1") as client:
        me = client.get("/api/me").json()
        assert (me["needs_account"], me["name"], me["closed_pages"]) == (False, None, [])
        assert client.get("/login", follow_redirects=False).headers["location"] == "/"
        assert client.get("/api/corrections").status_code == 200


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*argv: str, typed: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        code = main(["people", *argv, "--data-dir", str(tmp_path)])
        return code, *capsys.readouterr()

    assert "Nobody has an account" in run("list")[1]
    assert run("add", "ann", "--role", "admin", typed=f"{PASSWORD}\n")[:2] == (0, "ann: admin, can log in\n")
    assert run("add", "bob", typed="short\n")[0] == 2
    assert run("add", "bob", typed=f"{PASSWORD}\n")[0] == 0
    assert run("add", "bob", typed=f"{PASSWORD}\n")[0] == 2
    code, said, _ = run("list", "--json")
    assert (code, [(p["name"], p["role"]) for p in json.loads(said)]) == (0, [("ann", "admin"), ("bob", "annotator")])
    assert run("role", "bob", "researcher")[0] == 0
    assert run("password", "bob", typed="another long one\n")[0] == 0
    assert run("password", "eve", typed="another long one\n")[0] == 1
    code, said, _ = run("token", "bob", "--days", "30")
    assert (code, said.startswith("rst_")) == (0, True)
    assert run("token", "bob", "--revoke")[1] == "bob: 1 tokens taken back\n"
    assert run("token", "bob", "--days", "0")[0] == 2
    code, said, _ = run("remove", "bob")
    assert (code, "kept as annotator-" in said) == (0, True)
    assert "bob" not in run("list")[1]
    with pytest.raises(SystemExit):  # a password is no argument
        main(["people", "add", "eve", "--password", PASSWORD])
