"""The HTTP routes of corrections and drafts: for the Correct page's script, for other programs, and for many people at once."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from ranker.schema import Record
from studio.context import Context
from studio.corrections import Submission
from studio.identity import ForbiddenError, author_of, visitor_of
from studio.permissions import Permission

FindDataset = Callable[[str], int]
"""Name or id of a dataset -> its id."""
_MAX_PAGE = 1000


class SubmitRequest(Submission):
    """The body of `POST /api/corrections`."""

    dataset: str
    """Name (its newest version) or id."""


class DraftRequest(Record):
    """The body of `PUT /api/drafts`."""

    dataset: str
    task_id: str
    author: str
    payload: Mapping[str, Any]
    revision: Annotated[int, Field(ge=0)]
    """That it was made from; 0 = the first one."""


def add_correction_routes(router: APIRouter, context: Context, find_dataset: FindDataset) -> None:
    """Add them to `router`."""

    @router.post("/api/corrections", status_code=201)
    def submit(body: SubmitRequest, request: Request, response: Response) -> dict[str, Any]:
        """201 = stored; 200 = this correction_id was stored before (a repeated request)."""
        body = body.model_copy(update={"author": author_of(request, body.author)})
        return _submit(context, find_dataset, body, response)

    @router.get("/api/corrections")
    def listing(
        request: Request,
        dataset: str | None = None,
        task: str | None = None,
        author: str | None = None,
        current: bool = False,
        offset: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=0, le=_MAX_PAGE)] = 100,
    ) -> dict[str, Any]:
        author = _whose(request, author)
        page = context.store.corrections.search(
            dataset_id=None if dataset is None else find_dataset(dataset),
            task_id=task,
            author=author,
            current=current,
            offset=offset,
            limit=limit,
        )
        return {"corrections": [said.model_dump(mode="json") for said in page.rows], "total": page.total}

    @router.get("/api/drafts")
    def draft(dataset: str, task: str, author: str, request: Request) -> dict[str, Any]:
        author = author_of(request, author)
        return context.corrections.draft(author, find_dataset(dataset), task).model_dump(mode="json")

    @router.put("/api/drafts")
    def save_draft(body: DraftRequest, request: Request) -> dict[str, Any]:
        dataset_id = find_dataset(body.dataset)
        saved = context.corrections.save_draft(
            author_of(request, body.author), dataset_id, body.task_id, body.payload, revision=body.revision
        )
        return saved.model_dump(mode="json")


def _whose(request: Request, asked: str | None) -> str | None:
    """Whose corrections are listed: an annotator's own only; None = everybody's."""
    visitor = visitor_of(request)
    if visitor.may(Permission.EXPORT):
        return asked
    if asked not in (None, visitor.name):
        raise ForbiddenError(f"corrections: author: {asked[:80]!r}: is not you: leave it out to see your own")
    return visitor.name


def _submit(context: Context, find_dataset: FindDataset, body: SubmitRequest, response: Response) -> dict[str, Any]:
    submission = Submission.model_validate(body.model_dump(exclude={"dataset"}))
    added = context.corrections.hand_in(find_dataset(body.dataset), submission)
    if not added.is_new:
        response.status_code = 200
    change = context.corrections.change(added.correction)
    return {
        "correction": added.correction.model_dump(mode="json"),
        "change": None if change is None else change._asdict(),
    }
