"""What people say about rankings: submitting, taking back, drafts, and who is given which task next. Knows no page.

Nothing that is said is ever changed. A later word of the same author about the same thing supersedes the earlier one, taking
back is a word that supersedes, and a correction never changes a trace.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from ranker.agreement import as_order, first_divergent_step, kendall_tau_b
from ranker.errors import UsageError
from ranker.schema import Correction, CorrectionKind, EliminationStep, Identifier, RankingTask, Record
from studio.payloads import checked_payload
from studio.store import Annotator, Draft, Store
from studio.store.assignments import Progress
from studio.store.corrections import WITHDRAWN, Added, CorrectionPage, is_withdrawal, new_correction_id, subject_of
from studio.store.people import checked_author
from studio.uncertainty import Uncertainty
from trainer.orders import tiers_of_correction

LEASE_S = 30 * 60
"""How long a task stays with the person it was given to, in seconds."""
MAX_REASON_CHARS = 20_000
MAX_OVERLAP = 100


class OrderBy(StrEnum):
    """In which order tasks are given out."""

    UNCERTAINTY = "uncertainty"
    """Where a correction teaches most first (see `studio.uncertainty`)."""
    RANDOM = "random"
    """An order of each author's own, always the same."""
    DATASET = "dataset"


class Submission(Record):
    """What a person hands in, before it is checked."""

    task_id: str
    kind: CorrectionKind
    payload: Mapping[str, Any]
    """See `studio.payloads`."""
    author: str
    trace_id: str | None = None
    """The trace that they had before them."""
    reason: str = ""
    duration_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    supersedes: str | None = None
    """None = the author's own current word about the same thing, if there is one."""
    correction_id: Identifier | None = None
    """Made by the client, so that a repeated request is recognised; None = made here."""
    draft_revision: int | None = None
    """Of the draft that it was made from; None = not from a draft."""
    guideline_version: int | None = None
    is_gold: bool = False


class Change(NamedTuple):
    """How far an order is from the model's ranking."""

    tau_b: float | None
    first_divergent_step: int | None
    """0-based; None = the order allows every exclusion."""


class Corrections:
    """Corrections of one store. Callable from any thread."""

    def __init__(
        self, store: Store, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC), lease_s: float = LEASE_S
    ) -> None:
        self._store = store
        self._clock = clock
        self._lease_s = lease_s
        self._uncertainty = Uncertainty(store)

    def submit(self, dataset_id: int, submission: Submission) -> Correction:
        """Store what a person says; the same submission again gives what is stored already.

        Raises:
            UsageError: if it does not fit its task.
            NotStoredError: if the dataset has no such task, or there is no such trace.
            StaleError: if its draft, or what it supersedes, is not the newest any more. Nothing is lost: the payload is kept
                in the draft's conflicts.
        """
        return self.hand_in(dataset_id, submission).correction

    def hand_in(self, dataset_id: int, submission: Submission) -> Added:
        """`submit`, and whether it is new."""
        return self.hand_in_all(dataset_id, [submission], draft_revision=submission.draft_revision)[0]

    def hand_in_all(
        self,
        dataset_id: int,
        submissions: Sequence[Submission],
        *,
        draft_revision: int | None = None,
        draft: Mapping[str, Any] | None = None,
    ) -> list[Added]:
        """Everything that a person says of one task at once: all of it is stored, or nothing.

        Args:
            dataset_id: where the task is.
            submissions: one at least, of one author and task; their own draft revisions are not looked at.
            draft_revision: of the draft that they were made from; None = not from a draft.
            draft: what to keep beside the newer draft if that came too late; None = the first payload.

        Raises:
            As `submit`.
        """
        if len({(checked_author(said.author), said.task_id) for said in submissions}) != 1:
            raise UsageError("corrections: author, task_id: several or none: hand in what one person says of one task")
        made = [self._made(dataset_id, said) for said in submissions]
        return self._store.corrections.add_all(dataset_id, made, draft_revision=draft_revision, draft=draft)

    def _made(self, dataset_id: int, submission: Submission) -> Correction:
        """The correction that a submission says, checked."""
        task = self._store.datasets.task(dataset_id, submission.task_id)
        fields: dict[str, Any] = {}
        steps: tuple[EliminationStep, ...] = ()
        if submission.trace_id is not None:
            trace = self._store.traces.get(submission.trace_id)
            if (trace.dataset_id, trace.task_id) != (dataset_id, submission.task_id):
                raise UsageError(
                    f"correction: trace_id: {submission.trace_id}: is of task {trace.task_id}: name one of this task"
                )
            steps, fields = trace.steps, {"model": trace.model, "prompt_version": trace.prompt_version}
        if submission.kind is CorrectionKind.FLAG and WITHDRAWN in submission.payload:
            raise UsageError("correction: payload.withdrawn: withdraw it with `withdraw`")
        fields |= submission.model_dump(exclude={"draft_revision", "payload", "correction_id"})
        return Correction(
            **fields
            | {
                "correction_id": submission.correction_id or new_correction_id(),
                "author": checked_author(submission.author),
                "created_at": self._now(),
                "reason": _checked_reason(submission.reason),
                "payload": checked_payload(submission.kind, submission.payload, task, steps),
            }
        )

    def withdraw(self, correction_id: str, *, author: str, reason: str = "") -> Correction:
        """Take back one's own current word (undo). What was said stays in the history.

        Raises:
            StaleError: if it has been superseded or withdrawn already.
            UsageError: if it is somebody else's.
        """
        said = self._store.corrections.get(correction_id)
        if is_withdrawal(said):
            raise UsageError(
                f"correction: correction_id: {correction_id}: takes something back itself: submit again instead"
            )
        taken_back = Correction(
            correction_id=new_correction_id(),
            task_id=said.task_id,
            trace_id=said.trace_id,
            kind=CorrectionKind.FLAG,
            author=checked_author(author),
            created_at=self._now(),
            reason=_checked_reason(reason),
            payload={WITHDRAWN: correction_id},
            supersedes=correction_id,
        )
        dataset_id = self._store.corrections.dataset_of(correction_id)
        return self._store.corrections.add(dataset_id, taken_back).correction

    def take_back(self, correction_ids: Sequence[str], *, author: str) -> int:
        """Withdraw those of one's words that still stand. Asked twice it does nothing the second time.

        Returns:
            How many were withdrawn.
        """
        mine = [self._store.corrections.get(correction_id) for correction_id in correction_ids]
        standing = {c.correction_id for said in mine for c in self.effective_of(said)}
        taken = [said for said in mine if said.correction_id in standing]
        for said in taken:
            self.withdraw(said.correction_id, author=author)
        return len(taken)

    def effective_of(self, said: Correction) -> list[Correction]:
        """The current words about the task of `said`."""
        return self.effective(self._store.corrections.dataset_of(said.correction_id), said.task_id)

    def effective(self, dataset_id: int | None = None, task_id: str | None = None) -> list[Correction]:
        """The current word of each author about each thing, oldest first; nothing superseded, nothing withdrawn."""
        newest: dict[tuple[str | None, str, str, str, bool], Correction] = {}
        for said in self._store.corrections.search(dataset_id=dataset_id, task_id=task_id, current=True).rows:
            key = (said.dataset, said.task_id, said.author, subject_of(said), said.is_gold)
            newest.pop(key, None)
            newest[key] = said
        return list(newest.values())

    def history(
        self, author: str, *, dataset_id: int | None = None, offset: int = 0, limit: int | None = 50
    ) -> CorrectionPage:
        """Everything that a person said, newest first, what was superseded and withdrawn included."""
        return self._store.corrections.search(
            author=checked_author(author), dataset_id=dataset_id, newest_first=True, offset=offset, limit=limit
        )

    def forget(self, author: str) -> Annotator:
        """Take a person's name away; their votes stay, under the made-up name that is returned. Cannot be undone."""
        return self._store.corrections.forget(author)

    def change(self, correction: Correction) -> Change | None:
        """What a correction changes about the ranking that its author had before them; None without a finished one."""
        if correction.trace_id is None or correction.kind is not CorrectionKind.RANKING:
            return None
        trace = self._store.traces.get(correction.trace_id)
        if trace.ranking is None:
            return None
        order = tiers_of_correction(correction, trace.task)
        divergent = first_divergent_step(order, [step.exclusions for step in trace.steps])
        return Change(kendall_tau_b(order, as_order(trace.ranking)), divergent)

    def next_task(
        self, author: str, dataset_id: int, *, order_by: OrderBy = OrderBy.UNCERTAINTY, overlap: int | None = None
    ) -> RankingTask | None:
        """The next task for a person, which is theirs for a while; None if nothing is left for them.

        Args:
            author: who asks; a task that they were given and have not finished comes back first.
            dataset_id: where from.
            order_by: which tasks come first.
            overlap: how many people may say something about the same task; 1 = nobody gets another's. None = as it is set
                for the dataset.
        """
        self._store.datasets.get(dataset_id)
        overlap = self.overlap(dataset_id) if overlap is None else _checked_overlap(overlap)
        wanted = self._in_order(checked_author(author), dataset_id, order_by)
        task_id = self._store.assignments.lease(
            author, dataset_id, wanted, overlap=overlap, now=self._now(), expires_at=self._now(self._lease_s)
        )
        return None if task_id is None else self._store.datasets.task(dataset_id, task_id)

    def overlap(self, dataset_id: int) -> int:
        """How many people are to say something about each task of a dataset."""
        return self._store.assignments.overlap(dataset_id)

    def set_overlap(self, dataset_id: int, overlap: int) -> None:
        """Set it for all versions of the dataset."""
        self._store.assignments.set_overlap(dataset_id, _checked_overlap(overlap))

    def num_others(self, author: str, dataset_id: int, task_id: str) -> int:
        """How many other people have spoken about a task or have it before them."""
        return self._store.assignments.num_others(author, dataset_id, task_id, now=self._now())

    def renew(self, author: str, dataset_id: int, task_id: str) -> None:
        """The person is still at it: the task stays theirs for a while longer."""
        self._store.assignments.renew(author, dataset_id, task_id, expires_at=self._now(self._lease_s))

    def skip(self, author: str, dataset_id: int, task_id: str) -> None:
        """Give a task back and do not be given it again."""
        self._store.assignments.skip(author, dataset_id, task_id, now=self._now())

    def release(self, author: str, dataset_id: int, task_id: str) -> None:
        """Give a task back; undoes a skip."""
        self._store.assignments.release(author, dataset_id, task_id)

    def progress(self, author: str, dataset_id: int) -> Progress:
        """How many tasks of the dataset a person has done and skipped."""
        return self._store.assignments.progress(author, dataset_id)

    def draft(self, author: str, dataset_id: int, task_id: str) -> Draft:
        """What a person has not submitted yet of a task, and what came too late beside it."""
        return self._store.drafts.get(author, dataset_id, task_id)

    def save_draft(
        self, author: str, dataset_id: int, task_id: str, payload: Mapping[str, Any], *, revision: int
    ) -> Draft:
        """Keep what is not submitted yet. Raises StaleError if `revision` is not the newest; both are kept then."""
        return self._store.drafts.save(author, dataset_id, task_id, payload, revision=revision)

    def _in_order(self, author: str, dataset_id: int, order_by: OrderBy) -> Iterable[str]:
        ids = self._store.assignments.task_ids(dataset_id)
        if order_by is OrderBy.DATASET:
            return ids
        if order_by is OrderBy.RANDOM:
            return sorted(ids, key=lambda i: hashlib.sha256(f"{author}\0{i}".encode()).digest())
        priorities = self._uncertainty.priorities(dataset_id, self.effective(dataset_id))
        return sorted(ids, key=lambda i: -priorities.get(i, -1.0))  # stable: the rest in the dataset's order

    def _now(self, later_s: float = 0.0) -> str:
        return (self._clock() + timedelta(seconds=later_s)).isoformat(timespec="microseconds")


def _checked_overlap(overlap: int) -> int:
    if not 1 <= overlap <= MAX_OVERLAP:
        raise UsageError(f"queue: overlap: {overlap}: is the number of people a task: choose 1 to {MAX_OVERLAP}")
    return overlap


def _checked_reason(reason: str) -> str:
    if len(reason) > MAX_REASON_CHARS:
        raise UsageError(f"correction: reason: {len(reason)} characters: at most {MAX_REASON_CHARS} are kept")
    return reason
