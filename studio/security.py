"""What every request has to pass before any route or page sees it, and what every answer carries.

A page in the user's browser can send requests to this server too. So: the Host must be ours (no DNS rebinding), requests that
change something or start work must come from our own pages or from no page at all, bodies are limited, and the page may load
nothing from elsewhere. Plain ASGI, so that streams are not held back. Knows no route's meaning.
"""

import ipaddress
import json
import socket
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ranker.errors import UsageError
from studio.settings import Settings

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",  # Gradio compiles templates in the browser
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "frame-src 'self'",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = tuple(
    (name.encode(), value.encode())
    for name, value in {
        "content-security-policy": CONTENT_SECURITY_POLICY,
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(), microphone=(), geolocation=()",
    }.items()
)
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_WORKING_PATHS = ("/api/", "/v1/", "/metrics", "/mcp", "/gradio_api/")
"""Where even a GET starts work or tells what is stored."""
_EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104  # told apart here, not listened on
_LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


def refuse_exposure(settings: Settings, *, has_admin: bool) -> None:
    """Raises UsageError if a login is needed and nobody could look after the accounts."""
    if settings.needs_accounts and not has_admin:
        why = "other machines could reach the studio" if settings.is_exposed else "a login is asked for"
        raise UsageError(
            f"serve: host: {settings.host}: {why}, and there is no admin yet: "
            "run `python launch.py people add NAME --role admin` first, or listen on 127.0.0.1"
        )


class _TooLargeError(Exception):
    """The body went over its limit while it was read."""


class _GuardedAnswer:
    """An answer on its way out, with the security headers. Once it is refused, what the application sends is dropped."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._is_started = False
        self.is_refused = False

    async def send(self, message: Message) -> None:
        if self.is_refused:
            return
        if message["type"] == "http.response.start":
            self._is_started = True
            message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
        await self._send(message)

    async def refuse(self, status: int, reason: str) -> None:
        """Answer with one line of JSON, unless an answer is on its way already."""
        if self._is_started or self.is_refused:
            return
        body = json.dumps({"error": reason}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})
        self.is_refused = True


class _LimitedBody:
    """A request's body that ends the request when it goes over its limit (a length need not be announced)."""

    def __init__(self, receive: Receive, limit: int, answer: _GuardedAnswer) -> None:
        self._receive = receive
        self._limit = limit
        self._answer = answer
        self._num_bytes = 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._num_bytes += len(message.get("body", b""))
        if self._num_bytes > self._limit:
            await self._answer.refuse(*_too_large(self._limit))
            raise _TooLargeError
        return message


class Guard:
    """The outermost layer of the server."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._hosts = _names_of(settings)
        self._any_address = settings.host.strip("[]") in _EVERY_ADDRESS
        self._max_upload_bytes = settings.max_upload_bytes
        self._max_request_bytes = settings.max_request_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with one line that says why not."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        answer = _GuardedAnswer(send)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await answer.refuse(*refusal)
            return
        body = _LimitedBody(receive, self._limit(scope), answer)
        try:
            await self._app(scope, body.receive, answer.send)
        except _TooLargeError:
            if not answer.is_refused:
                raise

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        """Status and reason, or None if the request may pass."""
        host = headers.get("host", "")
        if not self._is_ours(_host_name(host)):
            return (
                400,
                f"request: host: {host[:80]!r} is not this server: use its address, or start it with --public-name",
            )
        path: str = scope["path"]
        if (scope["method"] not in _SAFE_METHODS or path.startswith(_WORKING_PATHS)) and _is_cross_site(headers, host):
            return 403, "request: origin: another site may not use this server: open the studio itself"
        if "/file=http" in path or "/proxy=" in path:
            return 403, "request: path: this server fetches nothing from other servers"
        length = headers.get("content-length", "0")
        if not length.isdigit():
            return 400, "request: content-length: is not a number"
        limit = self._limit(scope)
        return _too_large(limit) if int(length) > limit else None

    def _is_ours(self, name: str) -> bool:
        """An address cannot be a name that somebody else has pointed here."""
        return name in self._hosts or (self._any_address and _is_address(name))

    def _limit(self, scope: Scope) -> int:
        is_upload = scope["path"].rstrip("/").endswith("/upload")
        return self._max_upload_bytes if is_upload else self._max_request_bytes


def _names_of(settings: Settings) -> frozenset[str]:
    """The names under which this server may be asked for."""
    names = {*settings.public_names, settings.host.strip("[]")}
    if settings.is_exposed:
        names |= {socket.gethostname(), socket.getfqdn()}
    return _LOOPBACK_HOSTS | {name.lower() for name in names}


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _host_name(host: str) -> str:
    """The name without the port; '' if it is malformed."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_cross_site(headers: dict[str, str], host: str) -> bool:
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    return origin is not None and origin.split("://", 1)[-1].lower() != host.lower()


def _too_large(limit: int) -> tuple[int, str]:
    return 413, f"request: body: is larger than {limit // 1024} KiB: send less at a time"
