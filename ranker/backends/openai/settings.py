"""What is known of a server: where it is, which model it runs, what it can do. A key is never part of it, only its place."""

import ipaddress
import os
import stat
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field

from ranker.errors import BackendError, UsageError
from ranker.schema import Record

_MAX_KEY_BYTES: Final = 8192


class Scoring(StrEnum):
    """Where log-probabilities of given continuations come from, the best first."""

    PROMPT_LOGPROBS = "prompt_logprobs"
    """vLLM: those of the prompt's own tokens. Any continuation, exact."""
    ECHO = "echo"
    """Completions that repeat the prompt with its log-probabilities. Any continuation, exact."""
    TOP = "top"
    """The most likely alternatives of single tokens. Labels only (`labels`)."""
    NONE = "none"


class Choices(StrEnum):
    """How a server is told to write one of some texts and nothing else."""

    STRUCTURED = "structured_outputs"
    GUIDED = "guided_choice"
    REGEX = "regex"
    GRAMMAR = "grammar"
    JSON_SCHEMA = "json_schema"
    NONE = "none"


class Capabilities(Record):
    """What a server was found to do (`probe`)."""

    kind: str = ""
    """What the server calls itself in its list of models (`vllm`, `llamacpp`, ...)."""
    endpoint: Literal["completions", "chat"] = "chat"
    template: tuple[str, str, str] | None = None
    """The chat template around system and user message, as text. None = the server applies it (endpoint `chat`)."""
    is_continued: bool = False
    """Whether an assistant message at the end is gone on with. Always so where we write the template."""
    keeps_stop: bool = False
    """Whether the stop string can be left in the text; else we look for it and hang up."""
    scoring: Scoring = Scoring.NONE
    num_top: int = 0
    """Alternatives that are told for one token."""
    choices: Choices = Choices.NONE
    has_stream_usage: bool = False
    """Whether token counts come with a stream."""
    refused: tuple[str, ...] = ()
    """Fields of a request that this server does not take."""
    bytes_per_token: Annotated[float, Field(gt=0)] = 3.0
    """Of a sample text; lengths are estimated by it."""

    @property
    def is_vllm(self) -> bool:
        """Whether it takes vLLM's own fields."""
        return self.kind == "vllm"

    @property
    def limit_field(self) -> str:
        """What the number of tokens to write is called."""
        return "max_completion_tokens" if "max_tokens" in self.refused else "max_tokens"


class ServerSettings(Record):
    """A model on a server."""

    base_url: str
    """Up to and with the version: `https://host/v1`."""
    model: str
    """What the server calls the model."""
    key_env: str | None = None
    """Environment variable that holds the key."""
    key_file: str | None = None
    """File (readable by its owner only) that holds the key."""
    context_tokens: Annotated[int, Field(ge=256)] = 8192
    max_in_flight: Annotated[int, Field(ge=1, le=1024)] = 32
    timeout_s: Annotated[float, Field(gt=0)] = 120.0
    """How long the server may be silent."""
    input_price: Annotated[float, Field(ge=0)] | None = None
    """Of a million prompt tokens, in whatever currency the output price has."""
    output_price: Annotated[float, Field(ge=0)] | None = None
    capabilities: Capabilities = Capabilities()

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """What so many tokens cost; None where the prices are not known."""
        if self.input_price is None or self.output_price is None:
            return None
        return (prompt_tokens * self.input_price + completion_tokens * self.output_price) / 1e6

    def read_key(self) -> str | None:
        """The key, from where it is kept.

        Raises:
            BackendError: if it is not there, or others can read its file. The message does not contain it.
        """
        if self.key_env is not None:
            key = os.environ.get(self.key_env, "").strip()
            if not key:
                raise BackendError(f"--key-env: {self.key_env}: is not set: set it in the environment of this program")
        elif self.key_file is not None:
            key = _read_key_file(Path(self.key_file).expanduser())
        else:
            return None
        if not key.isascii() or not key.isprintable() or " " in key:
            raise BackendError(f"key: {self.key_env or self.key_file}: does not look like a key: one word, no spaces")
        return key


def check_base_url(url: str, *, has_key: bool) -> str:
    """The address without a slash at its end.

    Raises:
        UsageError: if it is no http address, carries credentials or a query, or would send a key unencrypted.
    """
    try:
        parts = urlsplit(url.strip())
        host = parts.hostname
        _ = parts.port  # ValueError if it is no number
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise UsageError(f"models: {_shown(url)}: not the address of a server: give https://host/v1")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise UsageError(
            f"models: {parts.scheme}://{host}...: has a user, a password or a query: leave them out; a key goes into --key-env"
        )
    if has_key and parts.scheme == "http" and not _is_loopback(host):
        raise UsageError(f"models: http://{host}: a key would travel unencrypted: use https, or a tunnel to 127.0.0.1")
    return url.strip().rstrip("/")


def is_address(source: str) -> bool:
    """Does `source` look like a server's address rather than a path?"""
    return source.startswith(("http://", "https://"))


def without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that were given."""
    return {name: value for name, value in fields.items() if value is not None}


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _shown(url: str) -> str:
    """An address that cannot be used, without what may be a password in it."""
    return repr(url.rsplit("@", 1)[-1][:60])


def _read_key_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            if os.name == "posix" and stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise BackendError(f"{path}: others can read it: run `chmod 600` on it")
            key = file.read(_MAX_KEY_BYTES).decode("utf-8", "replace").strip()
    except OSError as error:
        raise BackendError(f"{path}: {error.strerror}: give a file that holds the key") from error
    if not key:
        raise BackendError(f"{path}: is empty: write the key into it")
    return key
