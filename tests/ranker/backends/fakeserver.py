"""A server that speaks the OpenAI protocol around the tiny model, over real HTTP, in the dialects of servers that exist.

The edge is faked (somebody else's server), the model behind it is not: what it answers can be computed directly.
"""

import asyncio
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from transformers import AutoModelForCausalLM, AutoTokenizer

from ranker.backends import GenerateRequest, Prompt
from ranker.backends.local import LocalBackend, load_local

DIALECTS = ("vllm", "echo", "top", "hosted", "mute")
"""vllm: everything. echo: as llama-cpp-python's server. top: as llama.cpp's own. hosted: chat alone, with a key, restricted answers
by JSON schema, no log-probabilities. mute: chat alone, and nothing else."""
KEY = "sk-fake-0123456789"


@dataclass(eq=False)
class FakeServer:
    """Runs in a thread; `faults` are used up, one a completion."""

    directory: Path
    dialect: str
    faults: list[Any] = field(default_factory=list)
    """An int: answer with that status. `("cut", n)`: break the connection behind n events. `("end", n)`: end there without
    a word. "garbage": no JSON. `("say", status, text)`. An `asyncio.Event`-like `threading.Event`: wait for it."""
    requests: list[tuple[str, dict[str, Any], dict[str, str]]] = field(default_factory=list)
    num_hung_up: int = 0
    """Streams whose reader went away before the end."""
    url: str = ""
    seen: set[str] = field(default_factory=set)
    """Prompts that were there before: their tokens count as cached."""

    def start(self) -> None:
        self.num_threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the model is tiny; the client wants a core as well
        self.model: LocalBackend = load_local(self.directory, name="served")
        self.tokenizer = AutoTokenizer.from_pretrained(self.directory)
        self.reference = AutoModelForCausalLM.from_pretrained(self.directory, dtype=torch.float32)
        routes = [
            Route("/v1/models", self.models),
            Route("/v1/chat/completions", self.complete, methods=["POST"]),
        ]
        if self.dialect in ("vllm", "echo", "top"):
            routes.append(Route("/v1/completions", self.complete, methods=["POST"]))
        if self.dialect == "vllm":
            routes.append(Route("/tokenize", self.tokenize, methods=["POST"]))
            routes.append(Route("/detokenize", self.detokenize, methods=["POST"]))
        if self.dialect == "top":
            routes.append(Route("/apply-template", self.apply_template, methods=["POST"]))
        config = uvicorn.Config(Starlette(routes=routes), host="127.0.0.1", port=0, log_level="error")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.005)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"

    def stop(self) -> None:
        self.server.should_exit = self.server.force_exit = True
        self.thread.join(10)
        torch.set_num_threads(self.num_threads)

    # ---- routes ------------------------------------------------------------------------------------------------------

    async def models(self, request: Request) -> Response:
        if refusal := self._refuse(request):
            return refusal
        names = {"vllm": "vllm", "echo": "me", "top": "llamacpp"}
        about = {"id": "tiny", "object": "model", "owned_by": names.get(self.dialect, "somebody")}
        if self.dialect == "vllm":
            about["max_model_len"] = self.model.context_tokens
        return JSONResponse({"object": "list", "data": [about]})

    async def tokenize(self, request: Request) -> Response:
        body = await request.json()
        text = self._template(body["messages"]) if "messages" in body else body["prompt"]
        return JSONResponse({"tokens": self._ids(text), "count": 0, "max_model_len": 512})

    async def detokenize(self, request: Request) -> Response:
        return JSONResponse({"prompt": self.tokenizer.decode((await request.json())["tokens"])})

    async def apply_template(self, request: Request) -> Response:
        return JSONResponse({"prompt": self._template((await request.json())["messages"])})

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append((request.url.path, body, dict(request.headers)))
        if refusal := self._refuse(request, body):
            return refusal
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, int):
            return JSONResponse({"error": {"message": "not now", "code": fault}}, fault, {"Retry-After": "0"})
        if fault == "garbage":
            return PlainTextResponse("<html>a proxy's page</html>")
        if isinstance(fault, tuple) and fault[0] == "say":
            return JSONResponse({"error": {"message": fault[2]}}, fault[1])
        is_chat = "messages" in body
        prompt = self._template(body["messages"], body) if is_chat else body["prompt"]
        ids = prompt if isinstance(prompt, list) else self._ids(prompt)
        max_tokens = body.get("max_tokens") or body.get("max_completion_tokens")
        if len(ids) + max_tokens > self.model.context_tokens:
            said = f"This model's maximum context length is {self.model.context_tokens} tokens."
            return JSONResponse({"object": "error", "message": said, "code": 400}, 400)
        if body.get("stream"):
            return StreamingResponse(self._stream(body, prompt, is_chat, fault), media_type="text/event-stream")
        return JSONResponse(await self._whole(body, prompt, ids, is_chat))

    # ---- answers -----------------------------------------------------------------------------------------------------

    async def _stream(self, body: dict[str, Any], prompt: str, is_chat: bool, fault: Any) -> AsyncIterator[str]:
        num_events, usage, is_over = 0, None, False
        try:
            async for text, reason, counts in self._pieces(body, prompt):
                if isinstance(fault, threading.Event):
                    await asyncio.to_thread(fault.wait, 20)
                if isinstance(fault, tuple) and num_events == fault[1]:
                    if fault[0] == "end":
                        is_over = True
                        return
                    raise ConnectionError("the cable was pulled")
                piece = {"delta": {"content": text}} if is_chat else {"text": text}
                num_events, usage = num_events + 1, counts
                yield _event({"choices": [{"index": 0, **piece, "finish_reason": reason}]})
            if (body.get("stream_options") or {}).get("include_usage"):
                yield _event({"choices": [], "usage": usage})
            yield "data: [DONE]\n\n"
            is_over = True
        finally:
            self.num_hung_up += not is_over

    async def _pieces(self, body: dict[str, Any], prompt: str) -> AsyncIterator[tuple[str, str | None, Any]]:
        stop = [body["stop"]] if isinstance(body.get("stop"), str) else body.get("stop") or []
        keeps = self.dialect == "vllm" and body.get("include_stop_str_in_output")
        request = GenerateRequest(
            prompt=Prompt("", prompt),
            max_tokens=body.get("max_tokens") or body.get("max_completion_tokens"),
            stop=tuple(stop) if keeps else (),
            temperature=body.get("temperature", 1.0),
            seed=body.get("seed") or 0,
        )
        text = ""
        async for chunk in self.model.generate(request):
            piece = chunk.text
            cut = min(((text + piece).index(s) for s in stop if s in text + piece), default=None) if not keeps else None
            reason = str(chunk.finish) if chunk.finish else None
            if cut is not None:
                piece, reason = (text + piece)[len(text) : max(cut, len(text))], "stop"
            text += piece
            counts = self._counts(chunk.usage, prompt)
            yield piece, reason, counts
            if reason:
                return

    def _counts(self, usage: Any, prompt: str) -> dict[str, Any]:
        counts: dict[str, Any] = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
        if self.dialect in ("vllm", "top") and usage.prompt_tokens:
            counts["prompt_tokens_details"] = {"cached_tokens": usage.prompt_tokens - 1 if prompt in self.seen else 0}
            self.seen.add(prompt)
        return counts

    async def _whole(self, body: dict[str, Any], prompt: Any, ids: list[int], is_chat: bool) -> dict[str, Any]:
        counts = {"prompt_tokens": len(ids), "completion_tokens": 1}
        choices = self._choices(body)
        if choices:
            best = max(choices, key=lambda c: sum(self._log_probs([*ids, *self._ids(c)])[-len(self._ids(c)) :]))
            text = json.dumps({"answer": best}) if "response_format" in body else best
        elif isinstance(prompt, list) or body.get("echo"):
            text = ""
        else:
            text = ""
            async for piece, _, _ in self._pieces(body, prompt):
                text += piece
        piece = {"message": {"role": "assistant", "content": text}} if is_chat else {"text": text}
        choice: dict[str, Any] = {"index": 0, **piece, "finish_reason": "length"}
        if self.dialect == "vllm" and body.get("prompt_logprobs") is not None:
            rows = [{str(i): {"logprob": p, "rank": 1}} for i, p in zip(ids[1:], self._log_probs(ids), strict=True)]
            choice["prompt_logprobs"] = [None, *rows]
        if self.dialect == "echo" and body.get("echo"):
            tokens = [self.tokenizer.decode([i]) for i in ids]
            offsets = [len(self.tokenizer.decode(ids[:k])) for k in range(len(ids))]
            log_probs = [None, *self._log_probs(ids)]
            choice["logprobs"] = {"tokens": tokens, "text_offset": offsets, "token_logprobs": log_probs}
        if self.dialect == "top" and body.get("logprobs"):
            choice["logprobs"] = {"content": [{"top_logprobs": self._top(ids)}]}
        return {"choices": [choice], "usage": counts}

    def _choices(self, body: dict[str, Any]) -> list[str]:
        if self.dialect == "vllm" and "structured_outputs" in body:
            return list(body["structured_outputs"]["choice"])
        if self.dialect == "top" and "grammar" in body:
            return [json.loads(c) for c in re.findall(r'"(?:[^"\\]|\\.)*"', body["grammar"])]
        if self.dialect == "hosted" and "response_format" in body:
            return list(body["response_format"]["json_schema"]["schema"]["properties"]["answer"]["enum"])
        return []

    def _refuse(self, request: Request, body: dict[str, Any] | None = None) -> Response | None:
        if self.dialect == "hosted":
            if request.headers.get("authorization") != f"Bearer {KEY}":
                given = request.headers.get("authorization", "none").removeprefix("Bearer ")
                return JSONResponse({"error": {"message": f"Incorrect API key provided: {given}."}}, 401)
            if body is not None and "max_tokens" in body:
                said = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
                return JSONResponse({"error": {"message": said}}, 400)
        return None

    # ---- the model ---------------------------------------------------------------------------------------------------

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []

    def _template(self, messages: list[dict[str, str]], body: dict[str, Any] | None = None) -> str:
        return str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    @torch.inference_mode()
    def _log_probs(self, ids: list[int]) -> list[float]:
        """Of every token but the first."""
        logits = self.reference(torch.tensor([ids])).logits[0].log_softmax(-1)
        return [logits[k, i].item() for k, i in enumerate(ids[1:])]

    @torch.inference_mode()
    def _top(self, ids: list[int]) -> list[dict[str, Any]]:
        """More than was asked for: among the few likeliest tokens of a random model there is no label."""
        found = self.reference(torch.tensor([ids])).logits[0, -1].log_softmax(-1).topk(300)
        pairs = zip(found.values.tolist(), found.indices.tolist(), strict=True)
        return [{"token": self.tokenizer.decode([i]), "logprob": p} for p, i in pairs]


@contextmanager
def serve(directory: Path, dialect: str) -> Iterator[FakeServer]:
    """A running server."""
    server = FakeServer(directory, dialect)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"
