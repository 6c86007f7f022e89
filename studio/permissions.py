"""Who may do what: the one table behind every HTTP route, page, UI event and agent tool.

What is not in the table is for admins only, and a test fails until it is entered. Knows roles and names of things, but
neither people nor how a request is answered.
"""

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final


class Role(StrEnum):
    """What a person is to the studio; each may do everything that the one before may."""

    ANNOTATOR = "annotator"
    RESEARCHER = "researcher"
    ADMIN = "admin"


class Permission(StrEnum):
    """What can be allowed."""

    OPEN = "open"
    """Nothing has to be known about who asks."""
    VIEW = "view"
    RANK = "rank"
    CORRECT = "correct"
    IMPORT = "import"
    EVALUATE = "evaluate"
    """Quality and evaluation: what is measured of models, and of people by name."""
    TRAIN = "train"
    EXPORT = "export"
    """Everything that was said, whoever said it."""
    PEOPLE = "people"
    DELETE = "delete"
    PROMOTE = "promote"
    UNLISTED = "unlisted"
    """What nobody has entered here yet."""
    NOBODY = "nobody"
    """Parts of Gradio that the studio does not use: as if they were not there."""


_ANNOTATOR: Final = frozenset({Permission.OPEN, Permission.VIEW, Permission.RANK, Permission.CORRECT})
_RESEARCHER: Final = _ANNOTATOR | {Permission.IMPORT, Permission.EVALUATE, Permission.TRAIN, Permission.EXPORT}
_ADMIN: Final = _RESEARCHER | {Permission.PEOPLE, Permission.DELETE, Permission.PROMOTE, Permission.UNLISTED}
ROLES: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.ANNOTATOR: _ANNOTATOR,
    Role.RESEARCHER: _RESEARCHER,
    Role.ADMIN: _ADMIN,
}

PAGES: Final[Mapping[str, Permission]] = {
    "/": Permission.RANK,
    "/correct": Permission.CORRECT,
    "/traces": Permission.VIEW,
    "/data": Permission.VIEW,
    "/quality": Permission.EVALUATE,
    "/train": Permission.TRAIN,
    "/evaluate": Permission.EVALUATE,
}
"""By path."""

EVENTS: Final[Mapping[str, Permission]] = {
    "rank": Permission.RANK,
    "correct": Permission.CORRECT,
    "traces": Permission.VIEW,
    "data": Permission.VIEW,
    "data.delete": Permission.DELETE,
    "data.restore": Permission.DELETE,
    "diagnosis": Permission.VIEW,
    "importing": Permission.IMPORT,
    "quality": Permission.EVALUATE,
    "adjudicating": Permission.EVALUATE,
    "train": Permission.TRAIN,
    "train.promote": Permission.PROMOTE,
    "train.undo": Permission.PROMOTE,
    "jobform": Permission.TRAIN,
    "evaluate": Permission.EVALUATE,
    "evaluate.remove": Permission.DELETE,
    "evaluate.undo": Permission.DELETE,
    "evaluationform": Permission.EVALUATE,
}
"""UI events by `module` of the handler, or `module.handler` where one differs from the rest of its page."""

TOOLS: Final[Mapping[str, Permission]] = {
    "rank": Permission.RANK,
    "list_datasets": Permission.VIEW,
    "get_trace": Permission.VIEW,
    "submit_correction": Permission.CORRECT,
}
"""Tools of the MCP endpoint by name."""

ROUTES: Final[Mapping[str, Permission]] = {
    **{f"GET {path}": permission for path, permission in PAGES.items()},
    # Ours
    "GET /healthz": Permission.OPEN,
    "GET /login": Permission.OPEN,
    "POST /login": Permission.OPEN,
    "POST /logout": Permission.OPEN,
    "GET /api/me": Permission.OPEN,
    "GET /studio-assets/{path:path}": Permission.OPEN,
    "GET /vendor/{path:path}": Permission.VIEW,
    "GET /metrics": Permission.VIEW,
    "GET /api/people": Permission.PEOPLE,
    "DELETE /api/people/{name}": Permission.PEOPLE,
    "POST /v1/rank": Permission.RANK,
    "POST /v1/rerank": Permission.RANK,
    "GET /v1/rank/stream": Permission.RANK,
    "GET /api/traces/export": Permission.EXPORT,
    "GET /api/traces/{trace_id}": Permission.VIEW,
    "GET /api/traces/{trace_id}/events": Permission.VIEW,
    "GET /api/evaluations": Permission.EVALUATE,
    "GET /api/evaluations/{evaluation_id}": Permission.EVALUATE,
    "GET /api/evaluations/{evaluation_id}/export": Permission.EVALUATE,
    "POST /api/corrections": Permission.CORRECT,
    "GET /api/corrections": Permission.CORRECT,
    "GET /api/drafts": Permission.CORRECT,
    "PUT /api/drafts": Permission.CORRECT,
    "POST /api/desk/{action}": Permission.CORRECT,
    "PUT /api/desk/queue": Permission.EVALUATE,
    "GET /api/guidelines": Permission.CORRECT,
    "POST /api/guidelines": Permission.EVALUATE,
    "GET /api/jobs": Permission.TRAIN,
    "POST /api/jobs": Permission.TRAIN,
    "POST /api/jobs/estimate": Permission.TRAIN,
    "GET /api/jobs/{job_id}": Permission.TRAIN,
    "GET /api/jobs/{job_id}/live": Permission.TRAIN,
    "GET /api/jobs/{job_id}/rollouts/{number}": Permission.TRAIN,
    "GET /api/jobs/{job_id}/log": Permission.TRAIN,
    "GET /api/jobs/{job_id}/compare": Permission.TRAIN,
    "POST /api/jobs/{job_id}/stop": Permission.TRAIN,
    "POST /api/jobs/{job_id}/resume": Permission.TRAIN,
    "POST /api/jobs/{job_id}/clone": Permission.TRAIN,
    "PUT /api/jobs/{job_id}/priority": Permission.TRAIN,
    "POST /api/jobs/{job_id}/promote": Permission.PROMOTE,
    "POST /api/models/undo-promote": Permission.PROMOTE,
    "POST /api/rewards/inspect": Permission.TRAIN,
    "POST /mcp": Permission.VIEW,
    "GET /mcp": Permission.VIEW,
    # Gradio: what its pages are made of, and where their events arrive (each handler is asked again, see `EVENTS`)
    "GET /favicon.ico": Permission.OPEN,
    "GET /robots.txt": Permission.OPEN,
    "GET /config": Permission.VIEW,
    "GET /theme.css": Permission.VIEW,
    "GET /svelte/{path:path}": Permission.VIEW,
    "GET /static/{path:path}": Permission.VIEW,
    "GET /assets/{path:path}": Permission.VIEW,
    "GET /manifest.json": Permission.VIEW,
    "GET /pwa_icon": Permission.VIEW,
    "GET /pwa_icon/{size}": Permission.VIEW,
    "GET /gradio_api/theme.css": Permission.VIEW,
    "GET /gradio_api/app_id": Permission.VIEW,
    "GET /gradio_api/info": Permission.VIEW,
    "GET /gradio_api/openapi.json": Permission.VIEW,
    "GET /gradio_api/startup-events": Permission.VIEW,
    "GET /gradio_api/heartbeat/{session_hash}": Permission.VIEW,
    "POST /gradio_api/queue/join": Permission.VIEW,
    "GET /gradio_api/queue/data": Permission.VIEW,
    "GET /gradio_api/queue/status": Permission.VIEW,
    "POST /gradio_api/run/{api_name}": Permission.VIEW,
    "POST /gradio_api/api/{api_name}": Permission.VIEW,
    "POST /gradio_api/call/{api_name}": Permission.VIEW,
    "GET /gradio_api/call/{api_name}/{event_id}": Permission.VIEW,
    "POST /gradio_api/call/v2/{api_name}": Permission.VIEW,
    "GET /gradio_api/call/v2/{api_name}/{event_id}": Permission.VIEW,
    "POST /gradio_api/cancel": Permission.VIEW,
    "POST /gradio_api/reset": Permission.VIEW,
    "POST /gradio_api/upload": Permission.IMPORT,
    "GET /gradio_api/upload_progress": Permission.IMPORT,
    "GET /gradio_api/file={path_or_url:path}": Permission.IMPORT,
    "GET /gradio_api/file/{path:path}": Permission.IMPORT,
    # Gradio: what the studio does without
    "POST /login/": Permission.NOBODY,
    "GET /logout": Permission.NOBODY,
    "GET /openapi.json": Permission.NOBODY,
    "GET /monitoring": Permission.NOBODY,
    "GET /monitoring/{path:path}": Permission.NOBODY,
    "GET /gradio_api/user": Permission.NOBODY,
    "GET /gradio_api/token": Permission.NOBODY,
    "GET /gradio_api/login_check": Permission.NOBODY,
    "GET /gradio_api/deep_link": Permission.NOBODY,
    "GET /gradio_api/dev/reload": Permission.NOBODY,
    "GET /gradio_api/runs": Permission.NOBODY,
    "GET /gradio_api/custom_component/{path:path}": Permission.NOBODY,
    "GET /gradio_api/proxy={url_path:path}": Permission.NOBODY,
    "POST /gradio_api/stream/{path:path}": Permission.NOBODY,
    "GET /gradio_api/stream/{path:path}": Permission.NOBODY,
    "POST /gradio_api/component_server": Permission.NOBODY,
    "POST /gradio_api/process_recording": Permission.NOBODY,
    "POST /gradio_api/vibe-edit": Permission.NOBODY,
    "POST /gradio_api/undo-vibe-edit": Permission.NOBODY,
    "GET /gradio_api/vibe-code": Permission.NOBODY,
    "POST /gradio_api/vibe-code": Permission.NOBODY,
    "POST /gradio_api/vibe-starter-queries": Permission.NOBODY,
}
"""By method and path. A trailing slash is the same as none unless it is entered by itself."""

_PARAMETER: Final = re.compile(r"\\\{\w+(:path)?\\\}")


def _pattern(route: str) -> re.Pattern[str]:
    return re.compile(_PARAMETER.sub(lambda found: ".*" if found[1] else "[^/]+", re.escape(route)), re.DOTALL)


_PATTERNS: Final = tuple((_pattern(route), permission) for route, permission in ROUTES.items() if "{" in route)


def permission_of_route(method: str, path: str) -> Permission:
    """What one has to be allowed for a request, or for a route's own template."""
    wanted = f"{'GET' if method in ('HEAD', 'OPTIONS') else method} {path}"
    for name in (wanted, wanted.rstrip("/")):
        if name in ROUTES:
            return ROUTES[name]
    for name in (wanted, wanted.rstrip("/")):
        for pattern, permission in _PATTERNS:
            if pattern.fullmatch(name):
                return permission
    return Permission.UNLISTED


def permission_of_event(handler: Callable[..., Any]) -> Permission:
    """What one has to be allowed for a UI event, by the handler behind it."""
    module = handler.__module__.rpartition(".")[2]
    return EVENTS.get(f"{module}.{handler.__name__}") or EVENTS.get(module) or Permission.UNLISTED
