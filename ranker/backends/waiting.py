"""Calls that wait for an engine, and which of them are started next.

In order of priority, and of these the oldest ranking first, so that rankings end one after the other and do not all need room for
their prefixes at once. On a GPU, where a pass over many costs hardly more than one over few, together. Ours.
"""

import itertools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from ranker.backends.base import LIVE, ScoreRequest
from ranker.errors import BackendError

if TYPE_CHECKING:
    from ranker.backends.calls import Job, Placed, Row
    from ranker.backends.kv import KeyValueRows
    from ranker.backends.limits import EngineLimits
    from ranker.backends.prefixes import PrefixCache

_MAX_AGES: Final = 1024
_START_TOKENS: Final = 8192  # padded tokens of one batch of starts


class Waiting:
    """See the module."""

    def __init__(
        self, limits: "EngineLimits", prefixes: "PrefixCache", rows: "KeyValueRows", place: "Callable[[Job], Placed]"
    ) -> None:
        """`place`: looks up what is kept of a call's prompt; raises BackendError if it cannot be computed."""
        self._limits, self._prefixes, self._rows, self._place = limits, prefixes, rows, place
        self.jobs: list[Job] = []
        self._numbers = itertools.count()
        self._ages: OrderedDict[str, int] = OrderedDict()  # of the heads, or prefixes, that rankings begin with
        self._steps_waited = 0  # for company, by the bulk calls that wait now

    def add(self, job: "Job") -> None:
        """The last of all calls so far, but as old as the ranking that it belongs to."""
        job.number = next(self._numbers)
        prompt = job.request.prompt
        beginning = prompt.head_text or prompt.prefix
        job.age = self._ages.setdefault(beginning, job.number) if beginning else job.number
        if len(self._ages) > _MAX_AGES:
            self._ages.popitem(last=False)
        self.jobs.append(job)

    def clear(self) -> None:
        self.jobs.clear()

    def drop_withdrawn(self) -> None:
        self.jobs = [job for job in self.jobs if not job.is_withdrawn]

    def has_waited(self) -> None:
        """What comes next has waited for company already."""
        self._steps_waited = self._limits.start_patience

    def expects_company(self, running: "Sequence[Row]") -> bool:
        """Whether what waits is to be started together with what comes in the next few steps."""
        is_worth_it = (
            running
            and 0 < len(self.jobs) < self._limits.start_rows
            and all(job.request.priority > LIVE for job in self.jobs)
            and self._steps_waited < self._limits.start_patience
        )
        self._steps_waited = self._steps_waited + 1 if is_worth_it else 0
        return bool(is_worth_it)

    def next_batch(self, running: "Sequence[Row]", *, is_idle: bool) -> "list[Placed]":
        """The calls to start next: of one kind, and none that would profit from what another one computes.

        In it, those whose prefix has to be computed come first, and of these those with a new head. `is_idle`: nothing runs and
        nothing was started, so that one has to be.
        """
        batch: list[Placed] = []
        left: list[Job] = []  # of the other kind, or without room: for the next batch
        self.jobs.sort(key=lambda job: (job.request.priority, job.age, job.number))
        is_crowded = False  # then what is kept goes on alone
        for index, job in enumerate(self.jobs):
            if len(batch) == self._limits.start_rows:
                left += self.jobs[index:]
                break
            is_other = bool(batch) and type(job.request) is not type(batch[0].job.request)
            prefix = job.request.prompt.prefix
            has_no_room = is_crowded and prefix and not self._prefixes.length(prefix)
            if is_other or has_no_room or not self._has_row(job, len(running) + len(batch)):
                left.append(job)
                continue
            try:
                placed = self._place(job)
            except BackendError as error:
                job.results.put_nowait(error)
                continue
            if batch and not self._goes_with(placed, batch, len(running)):
                left += self.jobs[index:]
                break
            if self._crowds_out(placed, batch, running) and (batch or not is_idle):
                left.append(job)
                is_crowded = True
                continue
            batch.append(placed)
        self.jobs = left
        return sorted(batch, key=lambda placed: (not placed.is_new, not placed.has_new_head))

    def _crowds_out(self, placed: "Placed", batch: "Sequence[Placed]", running: "Sequence[Row]") -> bool:
        """Whether the call's prefix would take the place of one that another ranking will ask for again. Nobody who watches waits."""
        job = placed.job
        if not placed.is_new or job.request.priority == LIVE:
            return False
        num_new = sum(max(p.job.num_tokens, len(p.prefix_ids)) for p in (*batch, placed) if p.is_new)
        kept = self._prefixes.length
        num_coming = sum(row.job.num_tokens - kept(row.request.prompt.prefix) for row in running)
        token_bytes = self._rows.bytes_per_token
        return not self._prefixes.make_room(num_new * token_bytes, num_coming * token_bytes, job.age)

    def _has_row(self, job: "Job", num_rows: int) -> bool:
        """Whether a call has room beside so many rows."""
        request = job.request
        if isinstance(request, ScoreRequest) or not num_rows:
            return True
        rows = self._limits.max_rows + (self._limits.live_rows if request.priority == LIVE else 0)
        needed_bytes = max(self._rows.capacity, job.num_tokens) * self._rows.bytes_per_token
        return num_rows < min(rows, self._limits.row_bytes // needed_bytes)

    def _goes_with(self, placed: "Placed", batch: "Sequence[Placed]", num_running: int) -> bool:
        """Whether a call can be started in the same pass."""
        prompt = placed.job.request.prompt
        if placed.is_new and any(p.job.request.prompt.prefix == prompt.prefix for p in batch):
            return False
        if placed.has_new_head and any(
            p.has_new_head and p.job.request.prompt.head_text == prompt.head_text for p in batch
        ):
            return False
        together = (*batch, placed)
        length = max(len(p.ids) - p.cached + len(p.line.ids) for p in together)
        is_small = len(together) * length <= _START_TOKENS
        return is_small and num_running + len(together) <= self._rows.rows_at(columns_of(together), num_running)


def columns_of(batch: "Sequence[Placed]") -> int:
    """That rows need for calls which start together: lines are padded to the longest one, behind the head and behind the prefix."""
    length = max(p.num_behind for p in batch)
    new = [(len(p.head_ids), len(p.prefix_ids)) for p in batch if p.is_new]
    longest = max((head for head, _ in new), default=0) + max((whole - head for head, whole in new), default=0)
    return max(longest, *(max(p.room, p.start + length) for p in batch))
