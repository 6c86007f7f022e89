"""The loops: from a task and a model to a ranking, one decision at a time.

`rank_events` is the one path that every caller takes (command line, studio, evaluation, tests). It is a generator: the
consumer stores a finished step before it asks for the next event, so no step starts before the last one is kept.

How a single decision is taken from the model, and the policy for a bad answer: `ranker.decisions`.

Source: the paper, section 3.
"""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Final

from ranker.backends.base import Backend
from ranker.decisions import (
    Decide,
    Turn,
    adaptively,
    by_likelihood,
    exclude_one,
    order_all,
    order_by_label,
)
from ranker.errors import UsageError
from ranker.events import (
    AnswerFormat,
    Guide,
    RankConfig,
    RankEvent,
    ReasoningDelta,
    StepFinished,
    StepStarted,
    TraceFinished,
)
from ranker.prompts import ADAPTIVE_VERSION, BLOCK_VERSION, PROMPT_VERSION
from ranker.schema import Ask, Decider, EliminationStep, Mode, Outcome, RankingTask, RankingTrace, Totals, make_ranking

__all__ = [
    "IN_FLIGHT",
    "MODES",
    "AnswerFormat",
    "Guide",
    "RankConfig",
    "RankEvent",
    "ReasoningDelta",
    "StepFinished",
    "StepStarted",
    "TraceFinished",
    "make_person_step",
    "make_presentation_order",
    "make_remaining",
    "make_trace",
    "prompt_version",
    "rank",
    "rank_events",
    "rank_tasks",
]

MODES: Final = (Mode.ITERATIVE, Mode.DIRECT, Mode.FIXED_BLOCK, Mode.ADAPTIVE, Mode.FIRST_TOKEN)
"""The modes, in the order in which they are offered."""

IN_FLIGHT: Final = 32
"""Rankings of bulk work that go on at once. Each decodes for a part of its time only, and a pass over many rows costs less a row."""

_DECIDERS: Final[Mapping[Mode, Callable[[], Decide]]] = {
    Mode.ITERATIVE: lambda: exclude_one,
    Mode.FIXED_BLOCK: lambda: exclude_one,
    Mode.ADAPTIVE: adaptively,
    Mode.DIRECT: lambda: order_all,
    Mode.FIRST_TOKEN: lambda: order_by_label,
}
"""What decides in one ranking: made anew for each, because it may remember what it has seen."""
_VERSIONS: Final[Mapping[Mode, str]] = {Mode.FIXED_BLOCK: BLOCK_VERSION, Mode.ADAPTIVE: ADAPTIVE_VERSION}


def make_presentation_order(task: RankingTask, seed: int) -> tuple[str, ...]:
    """The order in which the candidates are shown: a shuffle that depends on the task's id and the seed only.

    Files often list the relevant candidate first; a model that prefers a position must not profit from that. Ours.
    """
    ids = sorted(task.candidate_ids)
    digest = hashlib.sha256(f"{seed}\0{task.task_id}".encode()).digest()
    random.Random(digest).shuffle(ids)
    return tuple(ids)


def make_remaining(task: RankingTask, seed: int, steps: Sequence[EliminationStep]) -> tuple[str, ...]:
    """The pool that is left behind `steps`, in presentation order."""
    gone = {i for step in steps for i in step.exclusions}
    return tuple(i for i in make_presentation_order(task, seed) if i not in gone)


def make_person_step(
    task: RankingTask, seed: int, steps: Sequence[EliminationStep], excluded_id: str
) -> EliminationStep:
    """The step behind `steps` in which a person, not the model, says who is excluded (what-if).

    Raises:
        UsageError: if `excluded_id` is not in the pool that is left.
    """
    pool = make_remaining(task, seed, steps)
    if excluded_id not in pool or len(pool) < 2:
        raise UsageError(f"step {len(steps)}: {excluded_id!r} is not in the pool. Choose one that is still in play.")
    return EliminationStep(
        step_index=len(steps),
        pool=pool,
        excluded_id=excluded_id,
        answer=task.candidate(excluded_id).title,
        outcome=Outcome.FORCED,
        decided_by=Decider.PERSON,
    )


async def rank_events(
    task: RankingTask,
    backend: Backend,
    config: RankConfig,
    *,
    steps: Sequence[EliminationStep] = (),
    guide: Guide | None = None,
) -> AsyncIterator[RankEvent]:
    """Rank `task`, and tell of everything as it happens.

    Args:
        task: what to rank.
        backend: a loaded model.
        config: mode, seed and budgets. Temperature 0 and the same seed give the same steps again.
        steps: finished steps to continue behind (a run that was interrupted or branched).
        guide: puts similar cases in front of the prompts.

    Yields:
        StepStarted, ReasoningDelta (any number), StepFinished for each step; at last TraceFinished.

    Raises:
        BackendError: if a prompt does not fit into the model's context, or the engine fails.
    """
    thinks = config.mode is Mode.ADAPTIVE and config.think_tokens > 0
    is_thoughtless = config.answer_format is AnswerFormat.LIKELIHOOD and not thinks
    decide = by_likelihood() if is_thoughtless else _DECIDERS[config.mode]()
    asked = backend if guide is None else guide(task, backend)
    done = list(steps)
    candidates = [task.candidate(i) for i in make_presentation_order(task, config.seed)]
    while len(remaining := make_remaining(task, config.seed, done)) > 1:
        pool = [task.candidate(i) for i in remaining]
        yield StepStarted(len(done), remaining)
        async for event in decide(Turn(task, candidates, pool, len(done), asked, config)):
            if isinstance(event, StepFinished):
                done.append(event.step)
            yield event
    yield TraceFinished(make_trace(task, backend.name, config, done, guide))


def prompt_version(config: RankConfig, guide: Guide | None = None) -> str:
    """What traces say about the prompts: the renderer's version, what is asked if not for the worst, and the guide's."""
    version = _VERSIONS.get(config.mode, PROMPT_VERSION)
    asked = version if config.ask is Ask.WORST else f"{version}+{config.ask.value}"
    return asked if guide is None else f"{asked}+{guide.version}"


def make_trace(
    task: RankingTask,
    model: str,
    config: RankConfig,
    steps: Sequence[EliminationStep],
    guide: Guide | None = None,
) -> RankingTrace:
    """The trace of a full sequence of steps. Raises ValueError if it is not full."""
    return RankingTrace(
        task_id=task.task_id,
        model=model,
        mode=config.mode,
        seed=config.seed,
        prompt_version=prompt_version(config, guide),
        ranking=make_ranking(steps),
        steps=tuple(steps),
        totals=Totals.of(steps),
    )


def rank(task: RankingTask, backend: Backend, config: RankConfig) -> RankingTrace:
    """Rank one task and wait for it. Not to be called where an event loop runs."""

    async def first() -> RankingTrace:
        return await _rank_one(task, backend, config, None)

    return asyncio.run(first())


async def rank_tasks(
    tasks: Iterable[RankingTask],
    backend: Backend,
    config: RankConfig,
    *,
    max_in_flight: int = IN_FLIGHT,
    guide: Guide | None = None,
) -> AsyncIterator[RankingTrace]:
    """Rank many tasks, `max_in_flight` at a time, each as its own chain; yields traces in order of completion.

    `tasks` is read as places become free, so it may be longer than memory. One task's error ends all and is raised.
    """
    source = iter(tasks)
    running: set[asyncio.Task[RankingTrace]] = set()
    try:
        while True:
            while len(running) < max_in_flight and (task := next(source, None)) is not None:
                running.add(asyncio.create_task(_rank_one(task, backend, config, guide)))
            if not running:
                return
            finished, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for done in sorted(finished, key=lambda t: t.result().task_id):
                yield done.result()
    finally:
        for left in running:
            left.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _rank_one(task: RankingTask, backend: Backend, config: RankConfig, guide: Guide | None) -> RankingTrace:
    trace: RankingTrace | None = None
    async for event in rank_events(task, backend, config, guide=guide):
        if isinstance(event, TraceFinished):
            trace = event.trace
    assert trace is not None, "rank_events ends with TraceFinished"
    return trace
