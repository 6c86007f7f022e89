"""The HTTP routes beside the pages: for scripts, for clients of the common rerank shape, and for the live view."""

import asyncio
import secrets
from collections.abc import Coroutine, Iterator
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from ranker.elimination import RankConfig
from ranker.errors import (
    BackendError,
    CheckpointError,
    DatasetError,
    JobError,
    RankingStudioError,
    StoreError,
    UsageError,
)
from ranker.schema import MAX_CANDIDATES, Candidate, Domain, Mode, Outcome, RankingTask, RankingTrace
from studio.context import Context
from studio.correctionroutes import add_correction_routes
from studio.deskroutes import add_desk_routes
from studio.identity import ForbiddenError, visitor_of
from studio.jobroutes import add_job_routes
from studio.metrics import metrics_text
from studio.store import NotStoredError, StaleError, TraceFilter, TraceState

_T = TypeVar("_T")
_STATUS: dict[type[RankingStudioError], int] = {
    ForbiddenError: 403,
    NotStoredError: 404,
    StaleError: 409,
    UsageError: 400,
    DatasetError: 400,
    JobError: 409,
    CheckpointError: 503,
    BackendError: 500,
    StoreError: 500,
}
CLIENT_CLOSED_REQUEST = 499
STREAM_HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}


class Document(BaseModel):
    """A document of a rerank request; further fields are allowed and come back unchanged."""

    model_config = ConfigDict(extra="allow")

    text: Annotated[str, Field(min_length=1)]


class RerankRequest(BaseModel):
    """The shape that Cohere, Jina, vLLM and LangChain clients send; fields that we do not know are ignored."""

    model: str | None = None
    query: str
    documents: Annotated[
        list[Annotated[str, Field(min_length=1)] | Document], Field(min_length=1, max_length=MAX_CANDIDATES)
    ]
    top_n: Annotated[int, Field(ge=1)] | None = None
    return_documents: bool = False


class RankOptions(BaseModel):
    """How to rank: the query string of `/v1/rank` and `/v1/rank/stream`."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = None
    mode: Mode | None = None
    seed: int | None = None
    think_tokens: Annotated[int, Field(ge=0, le=8192)] | None = None


def add_api(app: FastAPI, context: Context) -> None:
    """Add every route, and one-line errors, to `app`."""
    router = APIRouter()
    _add_status_routes(router, context)
    _add_rank_routes(router, context)
    _add_trace_routes(router, context)
    add_correction_routes(router, context, lambda dataset: _dataset_id(context, dataset))
    add_job_routes(router, context)
    add_desk_routes(router, context, lambda dataset: _dataset_id(context, dataset))
    app.include_router(router)
    app.add_exception_handler(RankingStudioError, _on_studio_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)


def make_config(context: Context, options: RankOptions) -> RankConfig:
    """The model's own way of answering, and what was asked for."""
    card = context.registry.card(options.model or context.settings.model)
    asked = options.model_dump(exclude={"model"}, exclude_none=True)
    return RankConfig.model_validate({**card.ranking_defaults(), **asked})


def relevance_score(rank: int, num_documents: int) -> float:
    """A score for a 1-based rank: 1 for the first, then down in equal parts to 1 / n. A ranking has no finer scale. Ours."""
    return (num_documents - rank + 1) / num_documents


def _add_status_routes(router: APIRouter, context: Context) -> None:
    @router.get("/healthz")
    def healthz(request: Request) -> dict[str, Any]:
        context.store.traces.count_by_state()  # the store answers
        if visitor_of(request).role is None:
            return {"status": "ok"}
        return {"status": "ok", "live_traces": context.hub.num_live(), "models": context.rankings.loaded_models()}

    @router.get("/metrics")
    def metrics() -> PlainTextResponse:
        return PlainTextResponse(metrics_text(context), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_rank_routes(router: APIRouter, context: Context) -> None:
    @router.post("/v1/rank")
    async def rank(task: RankingTask, options: Annotated[RankOptions, Query()], request: Request) -> dict[str, Any]:
        config = make_config(context, options)
        ranking = context.rankings.rank(task, model=options.model, config=config)
        return (await _while_connected(request, ranking)).model_dump(mode="json")

    @router.post("/v1/rerank")
    async def rerank(body: RerankRequest, request: Request) -> dict[str, Any]:
        config = make_config(context, RankOptions(model=body.model))
        texts = [d if isinstance(d, str) else d.text for d in body.documents]
        if len(texts) == 1:
            return _rerank_answer(body, [0], None)
        task = RankingTask(
            task_id="rerank",
            domain=Domain.PASSAGE,
            query=body.query,
            candidates=tuple(Candidate(candidate_id=str(i), text=text) for i, text in enumerate(texts)),
        )
        trace = await _while_connected(request, context.rankings.rank(task, model=body.model, config=config))
        return _rerank_answer(body, [int(i) for i in trace.ranking], trace)

    @router.get("/v1/rank/stream")
    async def rank_stream(
        options: Annotated[RankOptions, Query()],
        trace: str | None = None,
        dataset: str | None = None,
        task: str | None = None,
    ) -> StreamingResponse:
        if trace is None:
            if dataset is None or task is None:
                raise UsageError("stream: query: name a stored task with dataset= and task=, or a trace with trace=")
            config = make_config(context, options)
            dataset_id = await asyncio.to_thread(_dataset_id, context, dataset)
            trace = await asyncio.to_thread(
                context.rankings.start, dataset_id, task, model=options.model, config=config
            )
        return await _event_stream(context, trace)


def _add_trace_routes(router: APIRouter, context: Context) -> None:
    @router.get("/api/traces/export")
    def export(
        text: str = "",
        dataset: str | None = None,
        model: str | None = None,
        mode: Mode | None = None,
        outcome: Outcome | None = None,
        max_rank: int | None = None,
        min_rank: int | None = None,
        since: str | None = None,
    ) -> StreamingResponse:
        filters = TraceFilter(
            text=text,
            dataset_id=None if dataset is None else _dataset_id(context, dataset),
            model=model,
            mode=mode,
            outcome=outcome,
            max_rank=max_rank,
            min_rank=min_rank,
            since=since,
        )
        lines: Iterator[str] = context.store.traces.export(filters)
        headers = {"Content-Disposition": 'attachment; filename="traces.jsonl"'}
        return StreamingResponse(lines, media_type="application/x-ndjson", headers=headers)

    @router.get("/api/traces/{trace_id}")
    def trace(trace_id: str) -> dict[str, Any]:
        stored = context.store.traces.get(trace_id)
        if stored.state is TraceState.FINISHED:
            return stored.to_trace().model_dump(mode="json")
        return context.rankings.snapshot(trace_id)

    @router.get("/api/traces/{trace_id}/events")
    async def events(trace_id: str) -> StreamingResponse:
        return await _event_stream(context, trace_id)


async def _event_stream(context: Context, trace_id: str) -> StreamingResponse:
    stream = await context.rankings.follow(trace_id)
    return StreamingResponse(stream, media_type="text/event-stream", headers=STREAM_HEADERS)


async def _while_connected(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """The result of `work`, which is cancelled when the client goes away."""
    working = asyncio.create_task(work)
    try:
        while not (await asyncio.wait({working}, timeout=0.5))[0]:
            if await request.is_disconnected():
                raise HTTPException(CLIENT_CLOSED_REQUEST, "request: the client went away")
        return working.result()
    finally:
        working.cancel()


def _rerank_answer(body: RerankRequest, order: list[int], trace: RankingTrace | None) -> dict[str, Any]:
    results = []
    for position, index in enumerate(order[: body.top_n]):
        result: dict[str, Any] = {"index": index, "relevance_score": relevance_score(position + 1, len(order))}
        if body.return_documents:
            document = body.documents[index]
            result["document"] = {"text": document} if isinstance(document, str) else document.model_dump()
        results.append(result)
    prompt = trace.totals.prompt_tokens if trace else 0
    completion = trace.totals.completion_tokens if trace else 0
    return {
        "id": f"rerank-{secrets.token_hex(8)}",
        "model": trace.model if trace else body.model,
        "results": results,
        "usage": {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion},
    }


def _dataset_id(context: Context, dataset: str) -> int:
    """The id that `dataset` is, or the id of the newest version of that name."""
    found = context.store.datasets.latest(dataset)
    if found is not None:
        return found.id
    if not dataset.isdigit():
        raise NotStoredError(f"store: dataset: {dataset[:80]!r} is not there: choose one from the list")
    return context.store.datasets.get(int(dataset)).id


def _error(status: int, reason: str) -> JSONResponse:
    return JSONResponse({"error": " ".join(reason.split())}, status_code=status)


async def _on_studio_error(_request: Request, error: Exception) -> JSONResponse:
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    return _error(status, str(error))


async def _on_invalid_request(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ": ".join(str(part) for part in first["loc"][:1]) + ": " + ".".join(str(part) for part in first["loc"][1:])
    given = first.get("input")
    shown = f"{given!r}: " if isinstance(given, str | int | float) and len(repr(given)) <= 80 else ""
    return _error(400, f"{place}: {shown}{first['msg']}")


async def _on_http_exception(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, str(error.detail))
