"""`Backend` on an OpenAI-compatible server: what the server cannot do is done here or said, never guessed.

Departures from the local engine that no client can help: prefix and suffix are tokenised as one text, so a token may lie across
their border; lengths in tokens are estimates (`count_tokens`); which calls share a computed prefix is the server's affair. Live
calls go first among those that wait here; what the server has begun is not interrupted.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

from ranker.backends.base import Chunk, Finish, GenerateRequest, ScoreRequest, Scores, Usage
from ranker.backends.openai.chatlog import render
from ranker.backends.openai.labels import can_be_told, label_log_probs
from ranker.backends.openai.payloads import STOP_KEPT, choice_fields, complete_fields, score_fields, top_fields, without
from ranker.backends.openai.reading import Reading, answer_in_json, text_in, usage_of
from ranker.backends.openai.scoring import alternatives_in, echoed_log_probs, prompt_log_probs
from ranker.backends.openai.settings import Choices, Scoring, ServerSettings
from ranker.backends.openai.slots import Slots
from ranker.backends.openai.wire import CutError, Wire
from ranker.errors import BackendError, ScoresUnavailableError
from ranker.prompts import THINK_OPEN

_REUNIONS: Final = 3
"""How often a completion that was cut off is gone on with."""
_MAX_KNOWN_IDS: Final = 4096


class OpenAIBackend:
    """One model on one server."""

    def __init__(self, settings: ServerSettings, *, name: str, first_wait_s: float = 0.5) -> None:
        """
        Args:
            settings: of the server, its capabilities included.
            name: the name to write into traces.
            first_wait_s: seconds before the second try of a call that failed; doubled with every further one.
        """
        self._settings, self._name = settings, name
        self._can = settings.capabilities
        self._wire = Wire(settings, first_wait_s=first_wait_s)
        self._slots = Slots(settings.max_in_flight)
        self._known_ids: dict[str, list[int]] = {}

    @property
    def name(self) -> str:
        return self._name

    @property
    def context_tokens(self) -> int:
        return self._settings.context_tokens

    def chat_text(self, system: str, user: str) -> str:
        return render(self._can.template, system, user)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """An estimate, by the bytes per token that the server's tokenizer had for a sample when it was added."""
        return [math.ceil(len(text.encode()) / self._can.bytes_per_token) for text in texts]

    async def generate(self, request: GenerateRequest) -> AsyncIterator[Chunk]:
        async with self._slots.take(request.priority):
            is_whole = bool(request.choices) and self._can.choices is not Choices.NONE
            async with aclosing(self._choose(request) if is_whole else self._write(request)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def score(self, request: ScoreRequest) -> Scores:
        self._slots.check_open()
        if not all(request.continuations):
            raise BackendError("score: a continuation is empty. Give every candidate a title.")
        if self._can.scoring in (Scoring.PROMPT_LOGPROBS, Scoring.ECHO):
            return await self._score_exactly(request)
        if self._can.scoring is Scoring.TOP and can_be_told(request.continuations):
            return await self._score_labels(request)
        raise ScoresUnavailableError(
            f"{self._name}: score: the server gives no log-probabilities of such texts: its answers are asked for instead"
        )

    async def aclose(self) -> None:
        self._slots.close(f"{self._name}: closed: load it again")
        await self._wire.aclose()

    # ---- writing -----------------------------------------------------------------------------------------------------

    async def _write(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        """Stream a completion; what a broken connection lost is asked for behind what had arrived, where that is possible."""
        opening = request.prompt.suffix or request.prompt.prefix
        is_opened = not self._is_continuing and opening.rstrip().endswith(THINK_OPEN)
        reading = Reading(stop=request.stop, is_opened=is_opened)
        for attempt in range(_REUNIONS + 1):
            left = request.max_tokens - reading.num_pieces
            fields = self._fields(request, request.prompt.text + reading.text, left)
            try:
                async with aclosing(self._wire.stream(self._path, fields)) as events:
                    async for event in events:
                        if piece := reading.take(event):
                            yield Chunk(piece)
                        if reading.finish is not None and not self._waits_for_usage(reading):
                            break
                if reading.finish is not None:
                    break
                raise CutError(f"{self._settings.base_url}: cut off: the answer has no end: try again")
            except CutError:
                if attempt == _REUNIONS or left <= 1 or (reading.text and not self._is_continuing):
                    raise
        assert reading.finish is not None, "the loop ends with a finish or an error"
        yield Chunk("", reading.finish, self._usage(request, reading))

    async def _choose(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        """One of the request's choices, in one piece."""
        fields = self._fields(request, request.prompt.text, request.max_tokens) | choice_fields(
            self._can, self._can.choices, request
        )
        body = await self._wire.post(self._path, without(fields, "stream", "stream_options", "stop"))
        text = text_in(body)
        if self._can.choices is Choices.JSON_SCHEMA:
            text = answer_in_json(text)
        yield Chunk(text.strip() if text.strip() in request.choices else text)
        yield Chunk("", Finish.STOP, usage_of(body.get("usage") or {}))

    @property
    def _path(self) -> str:
        return "completions" if self._can.endpoint == "completions" else "chat/completions"

    @property
    def _is_continuing(self) -> bool:
        """Does the server go on from the last word of a prompt?"""
        return self._can.endpoint == "completions" or self._can.is_continued

    def _fields(self, request: GenerateRequest, prompt: str, max_tokens: int) -> dict[str, Any]:
        fields = complete_fields(self._settings, prompt, max_tokens)
        fields |= {"temperature": request.temperature, "seed": request.seed, "stream": True}
        if self._can.has_stream_usage:
            fields["stream_options"] = {"include_usage": True}
        if self._can.keeps_stop and request.stop:
            fields |= {"stop": list(request.stop), **STOP_KEPT}
        return without(fields, *self._can.refused)

    def _waits_for_usage(self, reading: Reading) -> bool:
        """The text is whole: do token counts follow soon? Not if the server writes on because it does not know our stop."""
        is_ours = reading.finish is Finish.STOP and not self._can.keeps_stop and not reading.has_ended
        return self._can.has_stream_usage and reading.usage is None and not is_ours

    def _usage(self, request: GenerateRequest, reading: Reading) -> Usage:
        """As the server counts; where we hung up before it did, an estimate."""
        if reading.usage is not None:
            return reading.usage
        return Usage(self.count_tokens([request.prompt.text])[0], 0, reading.num_pieces)

    # ---- scoring -----------------------------------------------------------------------------------------------------

    async def _score_exactly(self, request: ScoreRequest) -> Scores:
        """One call a continuation, all at once."""
        found = await asyncio.gather(*(self._score_one(request, text) for text in request.continuations))
        usage = Usage(*(sum(column) for column in zip(*(u for _, _, u in found), strict=True)))
        return Scores(tuple(p for p, _, _ in found), tuple(n for _, n, _ in found), usage)

    async def _score_one(self, request: ScoreRequest, text: str) -> tuple[float, int, Usage]:
        async with self._slots.take(request.priority):
            if self._can.scoring is Scoring.ECHO:
                prompt = request.prompt.text
                body = await self._wire.post("completions", score_fields(self._settings, prompt + text))
                log_probs = echoed_log_probs(body, prompt, text)
            else:
                before = [*await self._ids(request.prompt.prefix), *await self._ids(request.prompt.suffix)]
                ids = await self._ids(text)
                body = await self._wire.post("completions", score_fields(self._settings, [*before, *ids]))
                log_probs = prompt_log_probs(body, len(ids))
        total = math.fsum(log_probs)
        if not log_probs or not math.isfinite(total):
            raise BackendError(
                f"{self._settings.base_url}: score: no log-probabilities for {text[:40]!r}: add the model again, its server "
                "has changed"
            )
        usage = usage_of(body.get("usage") or {})
        return total, len(log_probs), Usage(usage.prompt_tokens, usage.cached_prompt_tokens, 0)

    async def _ids(self, text: str) -> list[int]:
        """Token ids by the server's own tokenizer (vLLM), remembered."""
        if not text:
            return []
        if text not in self._known_ids:
            fields = {"model": self._settings.model, "prompt": text, "add_special_tokens": False}
            body = await self._wire.post("tokenize", fields, at_root=True)
            if len(self._known_ids) >= _MAX_KNOWN_IDS:
                self._known_ids.clear()
            self._known_ids[text] = [int(i) for i in body.get("tokens") or []]
        return self._known_ids[text]

    async def _score_labels(self, request: ScoreRequest) -> Scores:
        usages: list[Usage] = []

        async def alternatives(written: str) -> Mapping[str, float]:
            fields = top_fields(self._settings, request.prompt.text + written)
            async with self._slots.take(request.priority):
                body = await self._wire.post(self._path, fields)
            usages.append(usage_of(body.get("usage") or {}))
            return alternatives_in(body)

        values = await label_log_probs(request.continuations, alternatives)
        if values is None:
            raise ScoresUnavailableError(
                f"{self._name}: score: no label is among the {self._can.num_top} likeliest tokens: its answers are asked for"
            )
        usage = Usage(*(sum(column) for column in zip(*usages, strict=True)))
        return Scores(tuple(values), (1,) * len(values), usage)
