"""The HTTP routes of the Correct page: the queue, the task on the desk, handing in, and the guidelines."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field

from ranker.schema import CorrectionKind, Identifier, Record
from studio.context import Context
from studio.corrections import OrderBy, Submission
from studio.desk import Desk, Desks, Start
from studio.identity import author_of

FindDataset = Callable[[str], int]
"""Name or id of a dataset -> its id."""
MAX_SAID = 256
"""Words in one submission: a ranking, a label, and one for each step."""


class Whose(Record):
    """Every request says who asks, about which dataset."""

    author: str
    dataset: str
    """Name (its newest version) or id."""


class NextRequest(Whose):
    """The body of `POST /api/desk/next`."""

    order_by: OrderBy = OrderBy.UNCERTAINTY
    start: Start = Start.MODEL


class TaskRequest(Whose):
    """The body of what is about one task."""

    task_id: str


class OpenRequest(Record):
    """The body of `POST /api/desk/open`."""

    author: str
    dataset: str | None = None
    """None = the one that has the task."""
    task_id: str
    trace_id: str | None = None
    start: Start = Start.MODEL


class Word(Record):
    """One of the things that a submission says."""

    correction_id: Identifier
    """Made by the page, so that what is sent twice is stored once."""
    kind: CorrectionKind
    payload: Mapping[str, Any]
    duration_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class SubmitRequest(TaskRequest):
    """The body of `POST /api/desk/submit`."""

    trace_id: str | None = None
    reason: str = ""
    guideline_version: int | None = None
    words: Annotated[tuple[Word, ...], Field(min_length=1, max_length=MAX_SAID)]
    draft: Mapping[str, Any]
    """What the page showed when it was handed in: kept beside, if something newer is there."""
    draft_revision: Annotated[int, Field(ge=0)]


class TakeBackRequest(Record):
    """The body of `POST /api/desk/take-back`."""

    author: str
    correction_ids: Annotated[tuple[Identifier, ...], Field(min_length=1, max_length=MAX_SAID)]


class QueueRequest(Record):
    """The body of `PUT /api/desk/queue`."""

    author: str
    dataset: str
    overlap: int


class GuidelineRequest(Record):
    """The body of `POST /api/guidelines`."""

    author: str
    dataset: str | None = None
    """None = for all datasets."""
    text: str


def add_desk_routes(router: APIRouter, context: Context, find_dataset: FindDataset) -> None:
    """Add them to `router`."""
    desks = Desks(context.store, context.corrections)
    _add_queue_routes(router, context, desks, find_dataset)
    _add_word_routes(router, context, desks, find_dataset)
    _add_guideline_routes(router, context, desks, find_dataset)


def _add_queue_routes(router: APIRouter, context: Context, desks: Desks, find_dataset: FindDataset) -> None:
    def answer(author: str, dataset_id: int, desk: Desk | None) -> dict[str, Any]:
        return {
            "desk": None if desk is None else desk.model_dump(mode="json"),
            "standing": desks.standing(author, dataset_id).model_dump(mode="json"),
        }

    @router.post("/api/desk/next")
    def next_task(body: NextRequest, request: Request) -> dict[str, Any]:
        author, dataset_id = author_of(request, body.author), find_dataset(body.dataset)
        return answer(author, dataset_id, desks.next(author, dataset_id, order_by=body.order_by, start=body.start))

    @router.post("/api/desk/open")
    def open_task(body: OpenRequest, request: Request) -> dict[str, Any]:
        author = author_of(request, body.author)
        dataset_id = None if body.dataset is None else find_dataset(body.dataset)
        desk = desks.open(author, dataset_id, body.task_id, trace_id=body.trace_id, start=body.start)
        return answer(author, desk.dataset_id, desk)

    @router.post("/api/desk/skip", status_code=204)
    def skip(body: TaskRequest, request: Request) -> None:
        context.corrections.skip(author_of(request, body.author), find_dataset(body.dataset), body.task_id)

    @router.post("/api/desk/release", status_code=204)
    def release(body: TaskRequest, request: Request) -> None:
        context.corrections.release(author_of(request, body.author), find_dataset(body.dataset), body.task_id)

    @router.post("/api/desk/renew", status_code=204)
    def renew(body: TaskRequest, request: Request) -> None:
        context.corrections.renew(author_of(request, body.author), find_dataset(body.dataset), body.task_id)

    @router.put("/api/desk/queue")
    def set_queue(body: QueueRequest, request: Request) -> dict[str, Any]:
        author, dataset_id = author_of(request, body.author), find_dataset(body.dataset)
        context.corrections.set_overlap(dataset_id, body.overlap)
        return desks.standing(author, dataset_id).model_dump(mode="json")


def _add_word_routes(router: APIRouter, context: Context, desks: Desks, find_dataset: FindDataset) -> None:
    @router.post("/api/desk/submit", status_code=201)
    def submit(body: SubmitRequest, request: Request, response: Response) -> dict[str, Any]:
        """201 = stored; 200 = it was stored before (a repeated request)."""
        author = author_of(request, body.author)
        submissions = [
            Submission(
                task_id=body.task_id,
                author=author,
                trace_id=body.trace_id,
                reason=body.reason,
                guideline_version=body.guideline_version,
                **word.model_dump(),
            )
            for word in body.words
        ]
        dataset_id = find_dataset(body.dataset)
        answer = desks.hand_in(author, dataset_id, submissions, draft_revision=body.draft_revision, draft=body.draft)
        if not answer["is_new"]:
            response.status_code = 200
        return answer

    @router.post("/api/desk/take-back")
    def take_back(body: TakeBackRequest, request: Request) -> dict[str, int]:
        author = author_of(request, body.author)
        return {"num_withdrawn": context.corrections.take_back(body.correction_ids, author=author)}

    @router.post("/api/desk/settle", status_code=204)
    def settle(body: TaskRequest, request: Request) -> None:
        """Somebody has looked at the drafts that came too late, and chosen."""
        author, dataset_id = author_of(request, body.author), find_dataset(body.dataset)
        context.store.drafts.discard_conflicts(author, dataset_id, body.task_id)


def _add_guideline_routes(router: APIRouter, context: Context, desks: Desks, find_dataset: FindDataset) -> None:
    def name_of(dataset: str) -> str:
        return context.store.datasets.get(find_dataset(dataset)).name

    @router.get("/api/guidelines")
    def guidelines(dataset: str | None = None) -> dict[str, Any]:
        found = desks.guidelines(None if dataset is None else name_of(dataset))
        return {"guidelines": [guideline.model_dump(mode="json") for guideline in found]}

    @router.post("/api/guidelines", status_code=201)
    def add_guideline(body: GuidelineRequest, request: Request) -> dict[str, Any]:
        author_of(request, body.author)
        dataset = None if body.dataset is None else name_of(body.dataset)
        return desks.add_guideline(body.text, dataset).model_dump(mode="json")
