"""The seam between elimination and a model: two calls, `generate` and `score`.

Every engine (scripted, transformers, vLLM, an OpenAI-compatible server) implements `Backend`. The calls are
coroutines, and any number may be outstanding at once: each task is its own chain of awaits, and the engine batches whatever
is outstanding (continuous batching, no barrier). Cancelling the awaiting task, or closing the iterator, withdraws the call.

What the seam carries, and how:
  streaming            `generate` yields a `Chunk` per decoded piece of text
  prefix reuse         `Prompt(prefix, suffix)`: the prefix is tokenised by itself and its cache may be kept and forked, also that
                       of its head
  restricted answers   `score(prompt, continuations)`: the answer is the arg max, and the log-probabilities come with it;
                       an engine that cannot score raises ScoresUnavailableError, and is asked by `GenerateRequest.choices`
  live before bulk     `priority`: lower goes first
  token accounting     `Usage` on every result
It does not know tasks, pools or labels.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from ranker.errors import BackendError


class Prompt(NamedTuple):
    """The text that the model continues: `prefix + suffix`, tokenised as two parts so that the prefix can be shared."""

    prefix: str
    suffix: str
    head: int = 0
    """So many characters of the prefix stand in front of other prefixes of the same task too; 0 = none that is known."""

    @property
    def text(self) -> str:
        return self.prefix + self.suffix

    @property
    def head_text(self) -> str:
        return self.prefix[: self.head]

    def extended(self, text: str) -> "Prompt":
        """The same prompt with `text` written behind it (a thought, say)."""
        return self._replace(suffix=self.suffix + text)


class Usage(NamedTuple):
    """Token counts of one call."""

    prompt_tokens: int = 0
    """Prompt tokens, cached ones included; for `score` the tokens of the continuations too."""
    cached_prompt_tokens: int = 0
    """Of these, the ones that did not have to be computed."""
    completion_tokens: int = 0


class Finish(StrEnum):
    """Why a completion ended."""

    STOP = "stop"
    """A stop string or the model's end token."""
    LENGTH = "length"
    """`max_tokens`, or the end of the context window."""


class Chunk(NamedTuple):
    """A piece of a completion. Only the last has `finish` and `usage`."""

    text: str
    finish: Finish | None = None
    usage: Usage = Usage()


class Scores(NamedTuple):
    """Log-probabilities of continuations of one prompt, in the order in which they were asked for."""

    log_probs: tuple[float, ...]
    """Natural logarithm, summed over the continuation's tokens."""
    num_tokens: tuple[int, ...]
    """Tokens of each continuation, all at least 1."""
    usage: Usage = Usage()


LIVE = 0
"""Priority of a ranking that somebody is watching."""
BULK = 10
"""Priority of everything else."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateRequest:
    """Continue `prompt` by at most `max_tokens` tokens.

    The completion ends with the first of `stop` that occurs (which stays in the text), with the model's end token (which
    does not), or at `max_tokens`. `temperature` 0 is greedy; otherwise sampling is seeded by `seed`.
    """

    prompt: Prompt
    max_tokens: int
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    seed: int = 0
    priority: int = BULK
    choices: tuple[str, ...] = ()
    """If not empty, the completion is exactly one of these, where the engine can restrict it; others ignore this. Asked of
    engines that cannot score."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreRequest:
    """How likely is each of `continuations` after `prompt`? Continuations must not be empty."""

    prompt: Prompt
    continuations: tuple[str, ...]
    priority: int = BULK


class Backend(Protocol):
    """A loaded model. Use it from one event loop at a time."""

    @property
    def name(self) -> str:
        """The model's name as it is written into traces."""

    @property
    def context_tokens(self) -> int:
        """The longest prompt + completion, in tokens."""

    def chat_text(self, system: str, user: str) -> str:
        """The model's chat template around one system and one user message, up to where the assistant begins to write."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Length of each text in tokens, special tokens not added."""

    def generate(self, request: GenerateRequest) -> AsyncIterator[Chunk]:
        """Stream a completion. Raises BackendError if the prompt does not fit into the context window."""

    async def score(self, request: ScoreRequest) -> Scores:
        """How likely the continuations are.

        Raises:
            BackendError: if prompt and continuation do not fit into the context window.
            ScoresUnavailableError: if the engine has no log-probabilities of these continuations.
        """

    async def aclose(self) -> None:
        """Withdraw what is outstanding and free the memory; calls that wait, and later ones, raise BackendError."""


def too_long(num_prompt: int, num_new: int, num_context: int) -> BackendError:
    """The error of a prompt that does not fit."""
    return BackendError(
        f"prompt: {num_prompt} tokens and {num_new} to follow exceed the model's context of {num_context}. Shorten the "
        "candidates, rank fewer at once, or choose another model."
    )
