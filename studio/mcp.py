"""The studio as tools for language-model agents: `POST /mcp`, the Model Context Protocol over plain HTTP.

Of the protocol this is the stateless part that tools need: initialize, ping, tools/list, tools/call, each request answered by
one JSON object. There are no sessions and no messages from the server, so GET is answered by 405 as the protocol says.
Source: modelcontextprotocol.io, specification 2025-06-18, "Streamable HTTP" and "Tools".
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ranker.errors import RankingStudioError
from ranker.schema import (
    MAX_CANDIDATES,
    MIN_CANDIDATES,
    Candidate,
    CorrectionKind,
    Domain,
    Identifier,
    Mode,
    RankingTask,
)
from studio.api import RankOptions, make_config
from studio.context import Context
from studio.corrections import Submission
from studio.identity import author_of, check_allowed
from studio.permissions import TOOLS, Permission
from studio.settings import VERSION

PROTOCOL_VERSIONS = ("2025-06-18", "2025-03-26")
"""Newest first; an older client gets the one it asks for, if we know it."""

_PARSE_ERROR, _INVALID_REQUEST, _NO_SUCH_METHOD, _INVALID_PARAMS = -32700, -32600, -32601, -32602


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RankArguments(_Arguments):
    """Arguments of the tool `rank`."""

    query: str = Field("", description="What the candidates are ranked for.")
    candidates: Annotated[list[str], Field(min_length=MIN_CANDIDATES, max_length=MAX_CANDIDATES)] = Field(
        description="The candidates' texts. The answer names them by their index here, from 0."
    )
    history: list[str] = Field(default_factory=list, description="What the user chose before, oldest first.")
    domain: Domain = Field(Domain.OTHER, description="What the candidates are; chooses the wording of the prompt.")
    criterion: str | None = Field(None, description="Words for what 'best' means.")
    model: str | None = Field(None, description="Name of a registered model. Default: the studio's.")
    mode: Mode | None = None


class ListDatasetsArguments(_Arguments):
    """Arguments of the tool `list_datasets`."""


class GetTraceArguments(_Arguments):
    """Arguments of the tool `get_trace`."""

    trace_id: str = Field(description="The id in the trace's permalink.")


class SubmitCorrectionArguments(_Arguments):
    """Arguments of the tool `submit_correction`."""

    dataset_id: int = Field(description="From `list_datasets`.")
    task_id: str
    author: Annotated[str, Field(min_length=1)] = Field(
        description="Who says it; an agent names itself. An account's name takes its place."
    )
    kind: CorrectionKind = CorrectionKind.RANKING
    payload: dict[str, Any] = Field(
        description="ranking: {order: [[candidate_id, ...], ...]} best first, tied ones in one list, may be partial. "
        "step: {step_index, verdict: exclude|any|not_this|right|right_wrong_reason|undecidable, exclude_ids} with trace_id. "
        "label: {relevant: [candidate_id, ...]}. flag: {}."
    )
    trace_id: str | None = Field(None, description="The trace that it is about.")
    reason: str = ""
    correction_id: Identifier | None = Field(None, description="Your own id: sent again, it is stored once.")


class Tool(NamedTuple):
    """One tool: what it is called, what it does, what it takes, and the function behind it."""

    name: str
    description: str
    arguments: type[BaseModel]
    call: Callable[[Any, Request], Awaitable[dict[str, Any]]]

    def describe(self) -> dict[str, Any]:
        """The entry of `tools/list`."""
        schema = self.arguments.model_json_schema()
        return {"name": self.name, "description": self.description, "inputSchema": schema}


class _RpcError(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def add_mcp(app: FastAPI, context: Context) -> None:
    """Add the endpoint to `app`."""
    tools = {tool.name: tool for tool in make_tools(context)}

    @app.post("/mcp")
    async def mcp(request: Request) -> Response:
        try:
            message = json.loads(await request.body())
        except ValueError:
            return _rpc_error(None, _PARSE_ERROR, "the body is not JSON", 400)
        if not isinstance(message, dict) or not isinstance(message.get("method", ""), str):
            return _rpc_error(None, _INVALID_REQUEST, "one request object is expected", 400)
        if "id" not in message or "method" not in message:  # a notification, or an answer to nothing
            return Response(status_code=202)
        params = message.get("params")
        try:
            result = await _answer(tools, request, message["method"], params if isinstance(params, dict) else {})
        except _RpcError as error:
            return _rpc_error(message["id"], error.code, str(error))
        return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "result": result})

    @app.get("/mcp")
    def no_stream() -> Response:
        return Response(status_code=405, headers={"Allow": "POST"})


def make_tools(context: Context) -> list[Tool]:
    """The tools of one studio."""

    async def rank(arguments: RankArguments, _request: Request) -> dict[str, Any]:
        task = RankingTask(
            task_id="mcp",
            domain=arguments.domain,
            query=arguments.query,
            history=tuple(arguments.history),
            candidates=tuple(Candidate(candidate_id=str(i), text=text) for i, text in enumerate(arguments.candidates)),
            criterion=arguments.criterion,
        )
        config = make_config(context, RankOptions(model=arguments.model, mode=arguments.mode))
        trace = await context.rankings.rank(task, model=arguments.model, config=config)
        steps = [step.model_dump(mode="json", exclude={"prompt"}) for step in trace.steps]
        return {
            "ranking": [int(i) for i in trace.ranking],
            "model": trace.model,
            "steps": steps,
            "totals": trace.totals.model_dump(mode="json"),
        }

    async def list_datasets(_arguments: ListDatasetsArguments, _request: Request) -> dict[str, Any]:
        infos = await asyncio.to_thread(context.library.datasets)
        return {"datasets": [info.model_dump(mode="json", exclude={"provenance"}) for info in infos]}

    async def get_trace(arguments: GetTraceArguments, _request: Request) -> dict[str, Any]:
        return await asyncio.to_thread(context.rankings.snapshot, arguments.trace_id)

    async def submit_correction(arguments: SubmitCorrectionArguments, request: Request) -> dict[str, Any]:
        given = arguments.model_dump(exclude={"dataset_id"})
        submission = Submission.model_validate(given | {"author": author_of(request, arguments.author)})
        said = await asyncio.to_thread(context.corrections.submit, arguments.dataset_id, submission)
        return said.model_dump(mode="json")

    return [
        Tool("rank", "Rank candidates with the studio's model, best first, with the reasoning of every exclusion.",
             RankArguments, rank),
        Tool("list_datasets", "The datasets of ranking tasks that the studio holds.", ListDatasetsArguments, list_datasets),
        Tool("get_trace", "One stored ranking with all its steps.", GetTraceArguments, get_trace),
        Tool("submit_correction", "Say how candidates should have been ranked. Nothing that was said is overwritten.",
             SubmitCorrectionArguments, submit_correction),
    ]  # fmt: skip


async def _answer(tools: dict[str, Tool], request: Request, method: str, params: dict[str, Any]) -> dict[str, Any]:
    match method:
        case "initialize":
            asked = params.get("protocolVersion")
            return {
                "protocolVersion": asked if asked in PROTOCOL_VERSIONS else PROTOCOL_VERSIONS[0],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "ranking-studio", "version": VERSION},
            }
        case "ping":
            return {}
        case "tools/list":
            return {"tools": [tool.describe() for tool in tools.values()]}
        case "tools/call":
            return await _call(tools, request, params)
    raise _RpcError(_NO_SUCH_METHOD, f"method: {method[:80]!r}: is not offered")


async def _call(tools: dict[str, Tool], request: Request, params: dict[str, Any]) -> dict[str, Any]:
    """A tool's own errors are results, so that the agent can read them."""
    tool = tools.get(str(params.get("name")))
    if tool is None:
        raise _RpcError(_INVALID_PARAMS, f"tool: {str(params.get('name'))[:80]!r}: choose one of {', '.join(tools)}")
    try:
        check_allowed(request, TOOLS.get(tool.name, Permission.UNLISTED))
        result = await tool.call(tool.arguments.model_validate(params.get("arguments") or {}), request)
    except ValidationError as error:
        first = error.errors()[0]
        return _tool_error(f"{tool.name}: {'.'.join(map(str, first['loc']))}: {first['msg']}")
    except RankingStudioError as error:
        return _tool_error(str(error))
    return {"content": [{"type": "text", "text": json.dumps(result, ensure_ascii=False)}], "structuredContent": result}


def _tool_error(reason: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": " ".join(reason.split())}], "isError": True}


def _rpc_error(request_id: Any, code: int, reason: str, status: int = 200) -> JSONResponse:
    body = {"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": reason}}
    return JSONResponse(body, status_code=status)
