"""Finds out once what a server can do, by asking it small things and looking at what comes back.

A server is believed by what it does, not by its name: one that ignores a field answers 200 all the same. A dozen requests of a
few tokens each, when a model is added; the answers are kept with its card. Ours.
"""

import asyncio
import json
from typing import Any, Final

from ranker.backends.base import GenerateRequest, Prompt
from ranker.backends.openai.chatlog import CHATML, marked_messages, split_template
from ranker.backends.openai.payloads import (
    CONTINUED,
    STOP_KEPT,
    choice_fields,
    complete_fields,
    score_fields,
    top_fields,
    without,
)
from ranker.backends.openai.reading import answer_in_json, text_in, usage_of
from ranker.backends.openai.scoring import alternatives_in, echoed_log_probs, prompt_log_probs
from ranker.backends.openai.settings import Capabilities, Choices, Scoring, ServerSettings
from ranker.backends.openai.wire import RefusedError, Wire
from ranker.errors import BackendError

TEMPLATES: Final = ("auto", "chatml", "server")
"""`auto`: the server's own as text if it shows it, else messages; `chatml`: ours, as text; `server`: messages."""

_COUNT: Final = "one two three four five six seven"
_OPTIONAL: Final = ("seed", "top_p", "temperature", "stream_options")
_ODD_CHOICES: Final = ("[4711]", "[1848]")  # nothing that a model would write of its own accord
_SAMPLE: Final = (
    "A quiet film about two brothers who repair a boat, leave the harbour at night and find, on an island that no map "
    "shows, the woman who had written them letters for eleven years. Directed in 1987; 104 minutes; [3] of the list."
)


def probe_server(
    settings: ServerSettings, *, template: str = "auto", context_tokens: int | None = None, first_wait_s: float = 0.5
) -> ServerSettings:
    """The settings with everything that the server was found to do; an empty `model` becomes the only one that it has.

    Args:
        settings: where the server is.
        template: one of `TEMPLATES`.
        context_tokens: the longest prompt + completion, if the server does not say.
        first_wait_s: seconds before the second try of a request.

    Raises:
        BackendError: if it cannot be reached, refuses the key, or has no such model.
    """

    async def probe() -> ServerSettings:
        wire = Wire(settings, first_wait_s=first_wait_s)
        try:
            return await _Probe(wire, settings).run(template, context_tokens)
        finally:
            await wire.aclose()

    return asyncio.run(probe())


class _Probe:
    """One look at one server; `_settings` gathers what is found."""

    def __init__(self, wire: Wire, settings: ServerSettings) -> None:
        self._wire, self._settings = wire, settings

    async def run(self, template: str, context_tokens: int | None) -> ServerSettings:
        length = await self._find_model()
        await self._find_endpoint(template)
        await self._find_refused_fields()
        if self._can.endpoint == "chat":
            await self._find_continuing()
        await self._find_stop()
        await self._find_scoring()
        await self._find_choices()
        length = context_tokens or length or await self._llama_context() or self._settings.context_tokens
        return self._settings.model_copy(update={"context_tokens": length})

    @property
    def _can(self) -> Capabilities:
        return self._settings.capabilities

    def _note(self, **found: Any) -> None:
        self._settings = self._settings.model_copy(update={"capabilities": self._can.model_copy(update=found)})

    @property
    def _path(self) -> str:
        return "completions" if self._can.endpoint == "completions" else "chat/completions"

    def _fields(self, prompt: str, max_tokens: int) -> dict[str, Any]:
        fields = complete_fields(self._settings, prompt, max_tokens)
        return without(fields, *self._can.refused)

    async def _try(self, path: str, fields: dict[str, Any], *, at_root: bool = False) -> dict[str, Any] | None:
        """The answer; None if the server does not take that."""
        try:
            return dict(await self._wire.post(path, fields, at_root=at_root))
        except RefusedError as error:
            if error.status in (401, 403):
                raise
            return None

    # ---- questions, in the order in which they are asked ----------------------------------------------------------------

    async def _find_model(self) -> int | None:
        """Check the name; returns the length of the context, where the list of models tells it."""
        try:
            listed = (await self._wire.get("models")).get("data")
        except RefusedError as error:
            if error.status in (401, 403) or not self._settings.model:
                raise
            return None  # a server without a list; the next request shows whether it has the model
        models = (
            [m for m in listed if isinstance(m, dict) and isinstance(m.get("id"), str)]
            if isinstance(listed, list)
            else []
        )
        if not self._settings.model:
            if len(models) != 1:
                known = ", ".join(m["id"] for m in models[:8]) or "none"
                raise BackendError(f"{self._settings.base_url}: --api-model: which one? It has: {known}")
            self._settings = self._settings.model_copy(update={"model": models[0]["id"]})
        about = next((m for m in models if m["id"] == self._settings.model), None)
        if about is None:
            return None
        self._note(kind=str(about.get("owned_by") or ""))
        meta = about.get("meta") if isinstance(about.get("meta"), dict) else {}
        lengths = (about.get("max_model_len"), about.get("context_length"), (meta or {}).get("n_ctx"))
        return next((n for n in lengths if isinstance(n, int) and n >= 256), None)

    async def _find_endpoint(self, template: str) -> None:
        """Text with the model's own template if the server shows it, else messages."""
        found = CHATML if template == "chatml" else await self._template() if template == "auto" else None
        if found is not None:
            self._note(endpoint="completions", template=found)
            if await self._try("completions", self._fields(_COUNT, 1)) is not None:
                return
            if template == "chatml":
                raise BackendError(f"{self._settings.base_url}: completions: not offered: leave --chat-template out")
        self._note(endpoint="chat", template=None)

    async def _template(self) -> tuple[str, str, str] | None:
        model = {"model": self._settings.model}
        shown = await self._try("apply-template", {"messages": marked_messages()}, at_root=True)  # llama.cpp
        if shown is not None and isinstance(shown.get("prompt"), str):
            return split_template(shown["prompt"])
        fields = {**model, "messages": marked_messages(), "add_generation_prompt": True}
        tokens = await self._try("tokenize", fields, at_root=True)  # vLLM
        if tokens is not None and tokens.get("tokens"):
            text = await self._try("detokenize", {**model, "tokens": tokens["tokens"]}, at_root=True)
            if text is not None and isinstance(text.get("prompt"), str):
                return split_template(text["prompt"])
        return None

    async def _find_refused_fields(self) -> None:
        """Leave out optional fields, one after the other, until the server is content."""
        for _ in range(len(_OPTIONAL) + 2):
            fields = {**self._fields(self._prompt(_SAMPLE), 16), "seed": 0}
            try:
                body = await self._wire.post(self._path, without(fields, *self._can.refused))
            except RefusedError as error:
                names = (*_OPTIONAL, "max_tokens")
                named = next((n for n in names if n in error.said and n not in self._can.refused), None)
                if named is None or error.status in (401, 403, 404, 429):
                    raise
                self._note(refused=(*self._can.refused, named))
                continue
            await self._find_lengths(body)
            return

    async def _find_lengths(self, body: dict[str, Any]) -> None:
        """Bytes per token of a sample, and whether a stream comes with counts."""
        tokens = usage_of(body.get("usage") or {}).prompt_tokens
        if tokens:
            num_bytes = len(self._prompt(_SAMPLE).encode())
            self._note(
                bytes_per_token=round(max(1.0, 0.9 * num_bytes / tokens), 2)
            )  # a tenth for texts that are denser
        fields = {**self._fields(self._prompt(_COUNT), 2), "stream": True, "stream_options": {"include_usage": True}}
        try:
            events = [event async for event in self._wire.stream(self._path, fields)]
        except RefusedError:
            return
        self._note(has_stream_usage=any(isinstance(e.get("usage"), dict) for e in events))

    async def _find_continuing(self) -> None:
        """Does it go on with an assistant's message?"""
        messages = [
            {"role": "user", "content": "Write the numbers from one to ten as words."},
            {"role": "assistant", "content": "one two three four five"},
        ]
        plain = {**self._fields("", 8), "messages": messages}
        for fields in ({**plain, **CONTINUED}, plain):
            body = await self._try(self._path, fields)
            if body is not None and text_in(body).strip(" ,\n").lower().startswith("six"):
                self._note(is_continued=True)
                return

    async def _find_stop(self) -> None:
        """Can a stop string stay in the text? Tried with a piece of what it would write anyway."""
        fields = self._fields(self._prompt(_COUNT), 12)
        free = await self._try(self._path, fields)
        text = text_in(free or {})
        middle = text.strip()[2:4]
        if len(middle) < 2:
            return
        body = await self._try(self._path, {**fields, "stop": [middle], **STOP_KEPT})
        wanted = text[: text.index(middle) + len(middle)]
        self._note(keeps_stop=body is not None and text_in(body).strip() == wanted.strip())

    async def _find_scoring(self) -> None:
        if self._can.endpoint == "completions":
            if await self._has_prompt_logprobs():
                self._note(scoring=Scoring.PROMPT_LOGPROBS)
                return
            body = await self._try("completions", score_fields(self._settings, _COUNT))
            if body is not None and echoed_log_probs(body, "one two", _COUNT.removeprefix("one two")):
                self._note(scoring=Scoring.ECHO)
                return
        elif not self._can.is_continued:
            return  # the first token of a new message says nothing about our answer
        for num_top in (20, 5):
            self._note(num_top=num_top)
            body = await self._try(self._path, top_fields(self._settings, self._prompt("") + _COUNT))
            if body is not None and len(alternatives_in(body)) > 1:
                self._note(scoring=Scoring.TOP)
                return
        self._note(num_top=0)

    async def _has_prompt_logprobs(self) -> bool:
        fields = {"model": self._settings.model, "prompt": _COUNT, "add_special_tokens": False}
        tokens = (await self._try("tokenize", fields, at_root=True) or {}).get("tokens")
        if not isinstance(tokens, list) or len(tokens) < 2:
            return False
        body = await self._try("completions", score_fields(self._settings, tokens))
        return body is not None and len(prompt_log_probs(body, 2)) == 2

    async def _find_choices(self) -> None:
        prompt = self._prompt("Say something nice.")
        request = GenerateRequest(prompt=Prompt("", prompt), max_tokens=16, choices=_ODD_CHOICES)
        for kind in Choices:
            if kind is Choices.NONE:
                return
            body = await self._try(self._path, self._fields(prompt, 16) | choice_fields(self._can, kind, request))
            text = text_in(body or {})
            if (
                answer_in_json(text) if kind is Choices.JSON_SCHEMA and _is_json(text) else text
            ).strip() in _ODD_CHOICES:
                self._note(choices=kind)
                return

    async def _llama_context(self) -> int | None:
        """llama.cpp's own page of properties."""
        try:
            body = await self._wire.get("props", at_root=True)
        except BackendError:
            return None
        found = (body.get("default_generation_settings") or {}).get("n_ctx")
        return found if isinstance(found, int) and found >= 256 else None

    def _prompt(self, user: str) -> str:
        before, between, after = self._can.template or CHATML
        return f"{before}You are helpful.{between}{user}{after}"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
