"""A backend without a model: answers by a rule, so that everything around a model can be tested without one.

The default rule excludes the last candidate of the pool and says so in the expected format; `script` replaces it. Titles are
scored by a hash of their text, so scores are arbitrary but the same on every machine. Tokens are words. Ours.
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Sequence

from ranker.backends.base import Chunk, Finish, GenerateRequest, ScoreRequest, Scores, Usage
from ranker.backends.stops import end_of_stop
from ranker.errors import BackendError
from ranker.prompts import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, label_of

Script = Callable[[str], str]
"""Prompt text -> completion text."""

_PIECES = re.compile(r"\s*\S+|\s+$")
_COUNT = re.compile(r"^Candidates \((\d+)\):$", re.MULTILINE)


class ScriptedBackend:
    """Completes prompts by `script`, word by word, `delay_s` seconds apart."""

    def __init__(self, *, name: str = "scripted", script: Script | None = None, delay_s: float = 0.0) -> None:
        self._name = name
        self._script = script or exclude_last
        self._delay_s = delay_s
        self._is_closed = False

    @property
    def name(self) -> str:
        return self._name

    @property
    def context_tokens(self) -> int:
        return 1_000_000

    def chat_text(self, system: str, user: str) -> str:
        return f"system: {system}\nuser: {user}\nassistant: "

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    async def generate(self, request: GenerateRequest) -> AsyncIterator[Chunk]:
        self._check_open()
        prompt_tokens = self.count_tokens([request.prompt.text])[0]
        pieces = _PIECES.findall(self._script(request.prompt.text))
        text, finish = "", Finish.STOP
        num_tokens = 0
        for piece in pieces:
            if num_tokens == request.max_tokens:
                finish = Finish.LENGTH
                break
            await asyncio.sleep(self._delay_s)
            self._check_open()
            cut = end_of_stop(text, piece, request.stop)
            piece = piece[:cut]
            text, num_tokens = text + piece, num_tokens + 1
            yield Chunk(piece)
            if cut is not None:
                break
        yield Chunk("", finish, Usage(prompt_tokens, 0, num_tokens))

    async def score(self, request: ScoreRequest) -> Scores:
        await asyncio.sleep(0)
        self._check_open()
        num_tokens = [max(1, n) for n in self.count_tokens(request.continuations)]
        log_probs = [-_fraction(text) * n for text, n in zip(request.continuations, num_tokens, strict=True)]
        prompt_tokens = self.count_tokens([request.prompt.text])[0] + sum(num_tokens)
        return Scores(tuple(log_probs), tuple(num_tokens), Usage(prompt_tokens, 0, 0))

    async def aclose(self) -> None:
        self._is_closed = True

    def _check_open(self) -> None:
        if self._is_closed:
            raise BackendError(f"{self._name}: closed: load the model again")


def exclude_last(prompt: str) -> str:
    """The default script: name the last label of the pool (in `direct`: the order of the prompt)."""
    counts = _COUNT.findall(prompt)
    num_candidates = int(counts[-1]) if counts else 1
    if "Order all" in prompt:
        answer = " > ".join(label_of(i) for i in range(num_candidates))
        return (
            f"I keep the order in which the candidates were listed.{THINK_CLOSE}\n{ANSWER_OPEN}{answer}{ANSWER_CLOSE}"
        )
    answer = label_of(num_candidates - 1)
    thought = f"There are {num_candidates} candidates, and the last one, {answer}, comes last for no better reason."
    return f"{thought}{THINK_CLOSE}\n{ANSWER_OPEN}{answer}{ANSWER_CLOSE}"


def _fraction(text: str) -> float:
    """A number in (0, 1] that only depends on `text`."""
    digest = hashlib.sha256(text.encode()).digest()
    return (int.from_bytes(digest[:6], "big") + 1) / 2**48
