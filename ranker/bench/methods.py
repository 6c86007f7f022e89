"""One ranking, measured: by our modes through the seam, and by the loop of the paper's reference on the same engine."""

import time
from collections.abc import Awaitable, Callable, Sequence

from ranker.backends.base import LIVE, Backend, GenerateRequest, Prompt
from ranker.bench.journal import Cost
from ranker.decisions import exclude_one
from ranker.elimination import RankConfig, ReasoningDelta, StepFinished, make_presentation_order, rank_events
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
        return add_costs([await step(pool[:size]) for size in range(len(pool), 1, -1)])
    first, middle = await step(pool), await step(pool[: (len(pool) + 1) // 2])
    times = len(pool) - 2
    return Cost(
        seconds=first.seconds + times * middle.seconds,
        first_token_s=first.first_token_s,
        num_steps=1 + times,
        prompt_tokens=first.prompt_tokens + times * middle.prompt_tokens,
        cached_tokens=first.cached_tokens + times * middle.cached_tokens,
        completion_tokens=first.completion_tokens + times * middle.completion_tokens,
        is_sampled=True,
    )


def add_costs(costs: Sequence[Cost]) -> Cost:
    """The sum; the first token is that of the first."""
    return Cost(
        seconds=sum(c.seconds for c in costs),
        first_token_s=costs[0].first_token_s,
        num_steps=sum(c.num_steps for c in costs),
        prompt_tokens=sum(c.prompt_tokens for c in costs),
        cached_tokens=sum(c.cached_tokens for c in costs),
        completion_tokens=sum(c.completion_tokens for c in costs),
    )


async def measure_mode(task: RankingTask, backend: Backend, mode: Mode, think_tokens: int) -> Cost:
    """One live ranking by one of our modes, from a cold prefix."""
    config = RankConfig(mode=mode, think_tokens=think_tokens, priority=LIVE)
    if mode is Mode.ADAPTIVE:
        return await _measure_events(task, backend, config)
    candidates = shown_candidates(task)

    async def step(pool: Sequence[Candidate]) -> Cost:
        started, first = time.perf_counter(), None
        async for event in exclude_one(task, candidates, pool, 0, backend, config):
            if isinstance(event, ReasoningDelta) and first is None:
                first = time.perf_counter() - started
            if isinstance(event, StepFinished):
                done = event.step
        return Cost(
            seconds=time.perf_counter() - started,
            first_token_s=first,
            num_steps=1,
            prompt_tokens=done.prompt_tokens,
            cached_tokens=done.cached_prompt_tokens,
            completion_tokens=done.completion_tokens,
        )

    return await measure_chain(task, step)


async def _measure_events(task: RankingTask, backend: Backend, config: RankConfig) -> Cost:
    started, first, steps = time.perf_counter(), None, []
    async for event in rank_events(task, backend, config):
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
