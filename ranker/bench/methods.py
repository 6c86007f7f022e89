"""One ranking, measured: by our modes through the seam, and by the loop of the paper's reference on the same engine."""

import operator
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import reduce

from ranker.backends.base import LIVE, Backend, GenerateRequest, Prompt
from ranker.bench.journal import Cost
from ranker.bench.stopwatch import Stopwatch
from ranker.decisions import Turn, exclude_one
from ranker.elimination import RankConfig, RankEvent, ReasoningDelta, StepFinished, make_presentation_order, rank_events
from ranker.prompts import THINK_CLOSE, render_exclusion, render_fixed_exclusion
from ranker.schema import Candidate, Mode, RankingTask

WHOLE_SIZE = 5
"""Up to so many candidates every step is measured; beyond, the first one and one of average size."""

Step = Callable[[Sequence[Candidate]], Awaitable[Cost]]
"""Measures one decision over a pool."""


def shown_candidates(task: RankingTask) -> list[Candidate]:
    """The candidates in the order in which they are presented (seed 0)."""
    return [task.candidate(i) for i in make_presentation_order(task, 0)]


async def measure_chain(task: RankingTask, step: Step) -> Cost:
    """One ranking by n - 1 decisions that get cheaper with the pool. Long ones are sampled: the pool shrinks by one a step and
    every cost is linear in it, so the step of average size stands for all but the first."""
    pool = shown_candidates(task)
    if len(pool) <= WHOLE_SIZE:
        costs = [await step(pool[:size]) for size in range(len(pool), 1, -1)]
        return reduce(operator.add, costs)
    first, middle = await step(pool), await step(pool[: (len(pool) + 1) // 2])
    return (first + middle.repeated(len(pool) - 2)).model_copy(update={"is_sampled": True})


async def measure_mode(task: RankingTask, backend: Backend, config: RankConfig) -> Cost:
    """One live ranking in one of our modes, from a cold prefix."""
    if config.mode is Mode.ADAPTIVE:
        watch = Stopwatch(backend)
        return await _measure_events(rank_events(task, watch, config), watch)
    candidates = shown_candidates(task)

    async def step(pool: Sequence[Candidate]) -> Cost:
        watch = Stopwatch(backend)
        return await _measure_events(exclude_one(Turn(task, candidates, pool, 0, watch, config)), watch)

    return await measure_chain(task, step)


async def _measure_events(events: AsyncIterator[RankEvent], watch: Stopwatch) -> Cost:
    """What it cost to come to the end of `events`, whose calls go through `watch`."""
    started, first, steps = time.perf_counter(), None, []
    async for event in events:
        if isinstance(event, ReasoningDelta) and first is None:
            first = time.perf_counter() - started
        if isinstance(event, StepFinished):
            steps.append(event.step)
    return Cost(
        seconds=time.perf_counter() - started,
        first_token_s=first,
        num_steps=len(steps),
        prompt_tokens=sum(s.prompt_tokens for s in steps),
        cached_tokens=sum(s.cached_prompt_tokens for s in steps),
        completion_tokens=sum(s.completion_tokens for s in steps),
        reading_s=watch.seconds["reading"],
        writing_s=watch.seconds["writing"],
        scoring_s=watch.seconds["scoring"],
    )


async def generate_cost(backend: Backend, prompt: Prompt, think_tokens: int) -> Cost:
    """One thought and no decision: what a loop costs that reads its answer out of what was generated."""
    request = GenerateRequest(prompt=prompt, max_tokens=think_tokens, stop=(THINK_CLOSE,), priority=LIVE)
    started, first = time.perf_counter(), None
    async for chunk in backend.generate(request):
        first = first or time.perf_counter() - started
        usage = chunk.usage
    return Cost(
        seconds=time.perf_counter() - started,
        first_token_s=first,
        num_steps=1,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )


def iterative_prompt(task: RankingTask, pool: Sequence[Candidate], backend: Backend) -> Prompt:
    """The paper's prompt: the pool anew in every step."""
    return render_exclusion(task, pool, backend.chat_text)


def fixed_prompt(task: RankingTask, pool: Sequence[Candidate], backend: Backend) -> Prompt:
    """The prompt whose prefix every step shares; the best that an engine with a prefix cache can be given."""
    return render_fixed_exclusion(task, shown_candidates(task), pool, backend.chat_text)
