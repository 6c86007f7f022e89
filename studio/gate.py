"""The gate behind the guard: finds out who asks, and lets through what the table of permissions allows them.

It stands before every route, ours and Gradio's, so that none can be forgotten. Plain ASGI, so that streams are not held back.
Knows no route's meaning.
"""

import asyncio
import json
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote

from starlette.types import ASGIApp, Receive, Scope, Send

from studio.accounts import Accounts
from studio.identity import ANONYMOUS, LOCAL, VISITOR, Visitor, refusal
from studio.loginpage import refusal_page
from studio.permissions import PAGES, Permission, permission_of_route

COOKIE = "ranking_studio"
BEARER = "bearer "


class Gate:
    """Where accounts are needed, nobody passes without one; where they are not, everybody is the person at this machine."""

    def __init__(self, app: ASGIApp, accounts: Accounts, needs_accounts: bool) -> None:
        self._app = app
        self._accounts = accounts
        self._needs_accounts = needs_accounts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its visitor, or answer why not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        permission = permission_of_route(scope["method"], scope["path"])
        visitor = await self._visitor(scope) if self._needs_accounts else LOCAL
        if permission is Permission.NOBODY:
            await _answer(send, 404, "request: path: is not part of the studio")
        elif visitor.may(permission):
            await self._app({**scope, VISITOR: visitor}, receive, send)
        elif scope["method"] == "GET" and (scope["path"].rstrip("/") or "/") in PAGES:
            await _turn_away(scope, send, visitor, permission)
        else:
            status = 401 if visitor.role is None else 403
            await _answer(send, status, f"request: {refusal(visitor, permission)}")

    async def _visitor(self, scope: Scope) -> Visitor:
        token, cookie = bearer_of(scope), cookie_of(scope)
        if token is not None:
            account = await asyncio.to_thread(self._accounts.of_token, token)
        elif cookie is not None:
            account = await asyncio.to_thread(self._accounts.of_cookie, cookie)
        else:
            account = None
        return ANONYMOUS if account is None else Visitor(account.name, account.role)


def cookie_of(scope: Scope) -> str | None:
    """The session that a browser sent."""
    sent = SimpleCookie()
    for value in _headers(scope, b"cookie"):
        try:
            sent.load(value)
        except CookieError:
            continue
    return sent[COOKIE].value if COOKIE in sent else None


def bearer_of(scope: Scope) -> str | None:
    """The token that a program sent."""
    for value in _headers(scope, b"authorization"):
        if value.lower().startswith(BEARER):
            return value[len(BEARER) :].strip()
    return None


def _headers(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


async def _turn_away(scope: Scope, send: Send, visitor: Visitor, permission: Permission) -> None:
    """A person who opens a page: to the login, or to a page that says why not."""
    if visitor.role is None:
        query = scope.get("query_string", b"").decode("latin-1")
        wanted = scope["path"] + (f"?{query}" if query else "")
        await _send(send, 303, b"", [(b"location", f"/login?next={quote(wanted, safe='')}".encode())])
        return
    body = refusal_page(refusal(visitor, permission)).encode()
    await _send(send, 403, body, [(b"content-type", b"text/html; charset=utf-8")])


async def _answer(send: Send, status: int, reason: str) -> None:
    headers = [(b"content-type", b"application/json")]
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="Ranking Studio"'))
    await _send(send, status, json.dumps({"error": reason}).encode(), headers)


async def _send(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    more = [(b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *more]})
    await send({"type": "http.response.body", "body": body})
