"""The HTTP routes of corrections and drafts: for the Correct page's script, for other programs, and for many people at once."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import Field

from ranker.schema import Record
from studio.context import Context
from studio.corrections import Submission

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
    def submit(body: SubmitRequest, response: Response) -> dict[str, Any]:
        """201 = stored; 200 = this correction_id was stored before (a repeated request)."""
        return _submit(context, find_dataset, body, response)

    @router.get("/api/corrections")
    def listing(
        dataset: str | None = None,
        task: str | None = None,
        author: str | None = None,
        current: bool = False,
        offset: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=0, le=_MAX_PAGE)] = 100,
    ) -> dict[str, Any]:
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
    def draft(dataset: str, task: str, author: str) -> dict[str, Any]:
        return context.corrections.draft(author, find_dataset(dataset), task).model_dump(mode="json")

    @router.put("/api/drafts")
    def save_draft(body: DraftRequest) -> dict[str, Any]:
        dataset_id = find_dataset(body.dataset)
        saved = context.corrections.save_draft(
            body.author, dataset_id, body.task_id, body.payload, revision=body.revision
        )
        return saved.model_dump(mode="json")


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
