"""Requests to one server: retries, event streams, and errors as one line that never holds the key.

What is tried again, after a pause that doubles: no connection, 429, and 5xx. What the server refuses (any other 4xx) is raised
at once as `RefusedError`. An answer that has begun to arrive and then breaks off is a `CutError`; whether one can go on from there
is for the caller to know. Redirects are not followed: a key only goes where the user said.
"""

import asyncio
import json
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx

from ranker.backends.openai.settings import ServerSettings
from ranker.errors import BackendError

logger = logging.getLogger(__name__)

_TRIES: Final = 5
_LONGEST_WAIT_S: Final = 30.0
_MAX_LINE_CHARS: Final = 8 << 20
_MAX_BODY_BYTES: Final = 64 << 20
_MAX_SAID_CHARS: Final = 240
_CONTEXT_WORDS: Final = (
    "context length",
    "context window",
    "context size",
    "maximum context",
    "max_model_len",
    "too long",
)


class RefusedError(BackendError):
    """The server answered, and the answer is no."""

    def __init__(self, message: str, *, status: int, said: str) -> None:
        super().__init__(message)
        self.status, self.said = status, said


class CutError(BackendError):
    """The connection broke while an answer was arriving."""


class Wire:
    """HTTP to one server; bound to the event loop of the call, and to a new one when that is gone."""

    def __init__(self, settings: ServerSettings, *, first_wait_s: float = 0.5) -> None:
        """Raises BackendError if the key cannot be read."""
        self._settings, self._first_wait_s = settings, first_wait_s
        self._key = settings.read_key()
        self._is_closed = False
        self._client: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def get(self, path: str, *, at_root: bool = False) -> Any:
        """The JSON of a GET below the base address, or below its host."""
        return await self._whole("GET", path, None, at_root)

    async def post(self, path: str, payload: Mapping[str, Any], *, at_root: bool = False) -> Any:
        """The JSON that answers `payload`.

        Raises:
            RefusedError: if the server says no.
            BackendError: if it cannot be reached, or not understood.
        """
        return await self._whole("POST", path, payload, at_root)

    async def stream(self, path: str, payload: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The events of an event stream, up to `[DONE]`.

        Raises:
            RefusedError, BackendError: as `post` does.
            CutError: if it breaks off behind the first event.
        """
        has_begun = False
        async with self._answer("POST", path, payload, at_root=False) as response:
            try:
                async for data in _event_data(response):
                    if data == "[DONE]":
                        return
                    event = self._parse(data)
                    if isinstance(event.get("error"), dict | str):
                        said = self._clean(_message_of(event))
                        raise BackendError(f"{self._settings.base_url}: stopped in mid-answer: {said}: try again")
                    has_begun = True
                    yield event
            except httpx.HTTPError as error:
                raise self._cut(error) from error
        if not has_begun:
            raise CutError(f"{self._settings.base_url}: cut off: an empty answer: try again")

    async def aclose(self) -> None:
        """Cut the connections; whoever waits for an answer, or asks later, gets a BackendError."""
        self._is_closed = True
        if self._client is not None and self._loop is asyncio.get_running_loop():
            await self._client.aclose()
        self._client = None

    # ---- one exchange ------------------------------------------------------------------------------------------------

    async def _whole(self, method: str, path: str, payload: Mapping[str, Any] | None, at_root: bool) -> Any:
        for attempt in range(_TRIES):
            try:
                async with self._answer(method, path, payload, at_root=at_root) as response:
                    return self._parse(await self._body(response))
            except CutError:
                if attempt == _TRIES - 1:
                    raise
        raise AssertionError("unreachable")

    async def _body(self, response: httpx.Response) -> str:
        body = bytearray()
        try:
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > _MAX_BODY_BYTES:
                    raise BackendError(f"{self._settings.base_url}: answer: over {_MAX_BODY_BYTES >> 20} MiB: not read")
        except httpx.HTTPError as error:
            raise self._cut(error) from error
        return body.decode("utf-8", "replace")

    @asynccontextmanager
    async def _answer(
        self, method: str, path: str, payload: Mapping[str, Any] | None, *, at_root: bool
    ) -> AsyncIterator[httpx.Response]:
        """A response of status 200 whose body is still to be read; tried again until there is one."""
        for attempt in range(_TRIES):
            request = self._open().build_request(method, self._url(path, at_root), json=payload)
            try:
                response = await self._open().send(request, stream=True)
            except (httpx.HTTPError, RuntimeError) as error:  # RuntimeError: the client was closed meanwhile
                if self._is_closed:
                    raise self._closed() from error
                if attempt == _TRIES - 1 or isinstance(error, RuntimeError):
                    raise BackendError(
                        f"{self._settings.base_url}: not reachable: {self._reason(error)}: start the server, or correct the "
                        "address"
                    ) from error
                await self._pause(attempt, None)
                continue
            try:
                if response.status_code == 200:
                    yield response
                    return
                refusal = await self._refusal(response)
            finally:
                await response.aclose()
            if attempt == _TRIES - 1 or not _is_passing(refusal):
                raise refusal
            logger.info("%s; trying again", refusal)
            await self._pause(attempt, response.headers.get("retry-after"))

    async def _pause(self, attempt: int, retry_after: str | None) -> None:
        wait_s = self._first_wait_s * 2**attempt * random.uniform(0.75, 1.25)
        if retry_after is not None and retry_after.strip().isdecimal():
            wait_s = max(wait_s, float(retry_after))
        await asyncio.sleep(min(wait_s, _LONGEST_WAIT_S))

    def _open(self) -> httpx.AsyncClient:
        if self._is_closed:
            raise self._closed()
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
            silence = httpx.Timeout(self._settings.timeout_s, connect=min(10.0, self._settings.timeout_s), pool=None)
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=self._settings.max_in_flight)
            self._client = httpx.AsyncClient(headers=headers, timeout=silence, limits=limits, follow_redirects=False)
            self._loop = loop
        return self._client

    def _url(self, path: str, at_root: bool) -> str:
        base = self._settings.base_url
        if at_root:
            base = str(httpx.URL(base).copy_with(path="/")).rstrip("/")
        return f"{base}/{path}"

    # ---- words -------------------------------------------------------------------------------------------------------

    async def _refusal(self, response: httpx.Response) -> RefusedError:
        try:
            said = self._clean(_message_of(json.loads(await self._body(response))))
        except (CutError, ValueError):
            said = ""
        status, place = response.status_code, self._settings.base_url
        said = said or httpx.codes.get_reason_phrase(status) or "refused"
        if status in (401, 403):
            message = f"{place}: {status}: {said}: check the key (--key-env or --key-file)"
        elif any(word in said.lower() for word in _CONTEXT_WORDS):
            message = f"prompt: {said}: shorten the candidates, rank fewer at once, or choose another model"
        elif status == 404:
            message = f"{place}: 404: {said}: check the address and the model's name ({self._settings.model})"
        else:
            message = f"{place}: {status}: {said}: see the server's log"
        return RefusedError(message, status=status, said=said)

    def _cut(self, error: Exception) -> BackendError:
        if self._is_closed:
            return self._closed()
        return CutError(f"{self._settings.base_url}: cut off in mid-answer: {self._reason(error)}: try again")

    def _closed(self) -> BackendError:
        return BackendError(f"{self._settings.base_url}: closed: load the model again")

    def _parse(self, text: str) -> dict[str, Any]:
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise BackendError(
                f"{self._settings.base_url}: answer: {self._clean(text[:80])!r} is no JSON object: not an API?"
            )
        return found

    def _reason(self, error: Exception) -> str:
        if isinstance(error, httpx.ReadTimeout):
            return f"silent for {self._settings.timeout_s:g} s"
        return self._clean(str(error)) or type(error).__name__

    def _clean(self, text: str) -> str:
        """One line of printable text without the key."""
        if self._key:
            text = text.replace(self._key, "***")
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return line[:_MAX_SAID_CHARS].rstrip(" .:")


def _is_passing(refusal: RefusedError) -> bool:
    """Is it worth trying again? A prompt that does not fit will not fit later, though some servers call that a 500."""
    is_too_long = str(refusal).startswith("prompt:")
    return (refusal.status == 429 or refusal.status >= 500) and not is_too_long


def _message_of(body: Any) -> str:
    """The human words of an error body, whichever of the usual shapes it has."""
    while isinstance(body, dict):
        body = next((body[k] for k in ("error", "message", "detail", "msg") if k in body), "")
    return body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)


async def _event_data(response: httpx.Response) -> AsyncIterator[str]:
    """The `data` of each event. Lines end with LF only: JSON may hold every other kind of line end."""
    rest = ""
    async for piece in response.aiter_text():
        *lines, rest = (rest + piece).split("\n")
        if len(rest) > _MAX_LINE_CHARS:
            raise httpx.DecodingError("a line without an end")
        for line in lines:
            name, _, value = line.rstrip("\r").partition(":")
            if name in ("data", "error") and value.strip():
                yield value.strip()
    if rest.startswith("data:") and rest.removeprefix("data:").strip():
        yield rest.removeprefix("data:").strip()
