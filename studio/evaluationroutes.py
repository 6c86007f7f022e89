"""HTTP: an evaluation's results as a file, in each format."""

import io
import zipfile
from collections.abc import Callable
from typing import Any, Final, Literal

from fastapi import APIRouter, FastAPI
from starlette.responses import Response

from ranker.errors import UsageError
from ranker.evaluation import FORMATS, Results, journal_path
from ranker.evaluation.answers import read_answers
from ranker.evaluation.results import to_text
from ranker.evaluation.trec import run_files
from studio.context import Context

Format = Literal["json", "csv", "md", "tex", "runs"]
_TYPES: Final = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "md": "text/markdown; charset=utf-8",
    "tex": "application/x-tex; charset=utf-8",
    "runs": "application/zip",
}


def add_evaluation_routes(app: FastAPI, context: Context) -> None:
    """Add `GET /api/evaluations`, `/api/evaluations/{id}` and `/api/evaluations/{id}/export`."""
    router = APIRouter()

    @router.get("/api/evaluations")
    def evaluations() -> list[dict[str, Any]]:
        return [info.model_dump(mode="json") for info in context.evaluations.infos()]

    @router.get("/api/evaluations/{evaluation_id}")
    def evaluation(evaluation_id: str) -> dict[str, Any]:
        return context.evaluations.info(evaluation_id).model_dump(mode="json")

    @router.get("/api/evaluations/{evaluation_id}/export")
    def export(evaluation_id: str, format: Format = "json") -> Response:
        results = context.evaluations.results(evaluation_id)
        if results is None:
            raise UsageError(f"evaluation: {evaluation_id}: has no results yet: wait for the first row")
        name = "runs.zip" if format == "runs" else f"evaluation.{format}"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        body = _runs(context, evaluation_id, results) if format == "runs" else _text(results, format).encode()
        return Response(body, media_type=_TYPES[format], headers=headers)

    app.include_router(router)


def _text(results: Results, form: str) -> str:
    write: Callable[[Results], str] = to_text if form == "json" else FORMATS[f".{form}"]
    return write(results)


def _runs(context: Context, evaluation_id: str, results: Results) -> bytes:
    if not context.evaluations.has_answers(evaluation_id):
        raise UsageError(f"evaluation: {evaluation_id}: its single rankings are not kept here: export another format")
    archive = io.BytesIO()
    path = journal_path(context.evaluations.results_path(evaluation_id))
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as files:
        for name, text in run_files(results, read_answers(path)):
            files.writestr(name, text)
    return archive.getvalue()
