"""The loops: from a task and a model to a ranking, one decision at a time.

`rank_events` is the one path that every caller takes (command line, studio, evaluation, tests). It is a generator: the
consumer stores a finished step before it asks for the next event, so no step starts before the last one is kept.

Policy for a bad answer. The outcome of the written answer is recorded as it is (`no_answer`, `several_answers`,
`not_in_pool`), and the decision is then made by the model's length-normalised log-probabilities of the candidates' titles:
`decided_by` is `score`. With `AnswerFormat.SCORED` the model is not asked to write an answer at all; the outcome is `forced`.

Source: the paper, section 3, for `iterative` and `direct`; the policy and the scoring are ours.
"""

import asyncio
import hashlib
import math
import random
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Final, NamedTuple

from pydantic import Field

from ranker.backends.base import BULK, Backend, GenerateRequest, Prompt, ScoreRequest, Usage
from ranker.errors import UsageError
from ranker.parsing import parse_exclusion, parse_order, split_reasoning
from ranker.prompts import (
    ANSWER_CLOSE,
    PROMPT_VERSION,
    THINK_CLOSE,
    close_thought,
    render_exclusion,
    render_order,
)
from ranker.schema import (
    Candidate,
    Decider,
    EliminationStep,
    Mode,
    Outcome,
    RankingTask,
    RankingTrace,
    Record,
    Totals,
    make_ranking,
)

MODES: Final = (Mode.ITERATIVE, Mode.DIRECT)
"""The modes that run."""


class AnswerFormat(StrEnum):
    """How a decision is taken from the model."""

    FREE = "free"
    """The model writes its thought and its answer; the answer is parsed."""
    SCORED = "scored"
    """The model thinks within the budget; then the titles of the pool are scored. For models that do not keep the format."""


class RankConfig(Record):
    """Everything that decides how a task is ranked, apart from the model."""

    mode: Mode = Mode.ITERATIVE
    seed: int = 0
    """Sets the order in which candidates are presented, and sampling where the temperature is not 0."""
    think_tokens: Annotated[int, Field(ge=0, le=8192)] = 48
    """Budget of one thought, in tokens."""
    answer_tokens: Annotated[int, Field(ge=1, le=8192)] = 32
    """Room for a written answer behind the thought, in tokens (in `direct`: eight more for each candidate)."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    answer_format: AnswerFormat = AnswerFormat.SCORED
    priority: int = BULK


class StepStarted(NamedTuple):
    """A decision begins. `pool`: candidate_ids in the order in which the prompt shows them."""

    step_index: int
    pool: tuple[str, ...]


class ReasoningDelta(NamedTuple):
    """The model wrote a piece of text."""

    step_index: int
    text: str


class StepFinished(NamedTuple):
    """A decision is made."""

    step: EliminationStep


class TraceFinished(NamedTuple):
    """One candidate is left."""

    trace: RankingTrace


RankEvent = StepStarted | ReasoningDelta | StepFinished | TraceFinished


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
    task: RankingTask, backend: Backend, config: RankConfig, *, steps: Sequence[EliminationStep] = ()
) -> AsyncIterator[RankEvent]:
    """Rank `task`, and tell of everything as it happens.

    Args:
        task: what to rank.
        backend: a loaded model.
        config: mode, seed and budgets. Temperature 0 and the same seed give the same steps again.
        steps: finished steps to continue behind (a run that was interrupted or branched).

    Yields:
        StepStarted, ReasoningDelta (any number), StepFinished for each step; at last TraceFinished.

    Raises:
        UsageError: if the mode does not run.
        BackendError: if a prompt does not fit into the model's context, or the engine fails.
    """
    if config.mode not in MODES:
        raise UsageError(f"mode: {config.mode.value!r} does not run yet. Choose one of: {', '.join(MODES)}.")
    done = list(steps)
    while len(remaining := make_remaining(task, config.seed, done)) > 1:
        pool = [task.candidate(i) for i in remaining]
        yield StepStarted(len(done), remaining)
        decide = _exclude_one if config.mode is Mode.ITERATIVE else _order_all
        async for event in decide(task, pool, len(done), backend, config):
            if isinstance(event, StepFinished):
                done.append(event.step)
            yield event
    yield TraceFinished(make_trace(task, backend.name, config, done))


def make_trace(task: RankingTask, model: str, config: RankConfig, steps: Sequence[EliminationStep]) -> RankingTrace:
    """The trace of a full sequence of steps. Raises ValueError if it is not full."""
    return RankingTrace(
        task_id=task.task_id,
        model=model,
        mode=config.mode,
        seed=config.seed,
        prompt_version=PROMPT_VERSION,
        ranking=make_ranking(steps),
        steps=tuple(steps),
        totals=Totals.of(steps),
    )


def rank(task: RankingTask, backend: Backend, config: RankConfig) -> RankingTrace:
    """Rank one task and wait for it. Not to be called where an event loop runs."""

    async def first() -> RankingTrace:
        return await _rank_one(task, backend, config)

    return asyncio.run(first())


async def rank_tasks(
    tasks: Iterable[RankingTask], backend: Backend, config: RankConfig, *, max_in_flight: int = 16
) -> AsyncIterator[RankingTrace]:
    """Rank many tasks, `max_in_flight` at a time, each as its own chain; yields traces in order of completion.

    `tasks` is read as places become free, so it may be longer than memory. One task's error ends all and is raised.
    """
    source = iter(tasks)
    running: set[asyncio.Task[RankingTrace]] = set()
    try:
        while True:
            while len(running) < max_in_flight and (task := next(source, None)) is not None:
                running.add(asyncio.create_task(_rank_one(task, backend, config)))
            if not running:
                return
            finished, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for done in sorted(finished, key=lambda t: t.result().task_id):
                yield done.result()
    finally:
        for left in running:
            left.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _rank_one(task: RankingTask, backend: Backend, config: RankConfig) -> RankingTrace:
    trace: RankingTrace | None = None
    async for event in rank_events(task, backend, config):
        if isinstance(event, TraceFinished):
            trace = event.trace
    assert trace is not None, "rank_events ends with TraceFinished"
    return trace


class _Thought(NamedTuple):
    """What a generation left behind."""

    completion: str
    usage: Usage


async def _exclude_one(
    task: RankingTask, pool: Sequence[Candidate], index: int, backend: Backend, config: RankConfig
) -> AsyncIterator[RankEvent]:
    """Mode `iterative`: one thought, one exclusion."""
    started = time.perf_counter()
    prompt = render_exclusion(task, pool, backend.chat_text)
    thought = _Thought("", Usage())
    async for piece in _think(prompt, index, backend, config, config.answer_tokens):
        if isinstance(piece, _Thought):
            thought = piece
        else:
            yield piece
    if config.answer_format is AnswerFormat.FREE:
        outcome, excluded_id, reasoning, answer = parse_exclusion(thought.completion, pool)
    else:
        outcome, excluded_id = Outcome.FORCED, None
        reasoning, answer = split_reasoning(thought.completion), ""
    probabilities, usages = None, [thought.usage]
    if excluded_id is None:
        probabilities, usage = await _score_titles(prompt, thought.completion, pool, backend, config)
        usages.append(usage)
        excluded_id = max(probabilities, key=lambda i: probabilities[i])
        answer = answer if config.answer_format is AnswerFormat.FREE else task.candidate(excluded_id).title
    yield StepFinished(
        EliminationStep(
            step_index=index,
            pool=tuple(c.candidate_id for c in pool),
            excluded_id=excluded_id,
            prompt=prompt.text,
            reasoning=reasoning,
            answer=answer,
            outcome=outcome,
            decided_by=Decider.MODEL if outcome is Outcome.PARSED else Decider.SCORE,
            probabilities=probabilities,
            latency_s=round(time.perf_counter() - started, 6),
            **_token_counts(usages),
        )
    )


async def _order_all(
    task: RankingTask, pool: Sequence[Candidate], index: int, backend: Backend, config: RankConfig
) -> AsyncIterator[RankEvent]:
    """Mode `direct`: one thought, the whole order.

    What a written order leaves out is appended in the order of the scores; if it names nobody, the scores order everybody.
    `probabilities` are those of being the worst of the pool, as in `iterative`.
    """
    started = time.perf_counter()
    prompt = render_order(task, pool, backend.chat_text)
    thought = _Thought("", Usage())
    async for piece in _think(prompt, index, backend, config, config.answer_tokens + 8 * len(pool)):
        if isinstance(piece, _Thought):
            thought = piece
        else:
            yield piece
    if config.answer_format is AnswerFormat.FREE:
        outcome, named, reasoning, answer = parse_order(thought.completion, pool)
    else:
        outcome, named, reasoning, answer = Outcome.FORCED, (), split_reasoning(thought.completion), ""
    probabilities, usages, order = None, [thought.usage], list(named)
    if outcome is not Outcome.PARSED:
        best, usage = await _score_titles(prompt, thought.completion, pool, backend, config)
        usages.append(usage)
        by_score = sorted(best, key=lambda i: -best[i])
        order += [i for i in by_score if i not in named]
        probabilities = _softmax({i: -math.log(max(p, 1e-12)) for i, p in best.items()})
        answer = answer or " > ".join(task.candidate(i).title for i in order)
    yield StepFinished(
        EliminationStep(
            step_index=index,
            pool=tuple(c.candidate_id for c in pool),
            excluded_id=order[-1],
            excluded_ids=tuple(reversed(order[1:])),
            prompt=prompt.text,
            reasoning=reasoning,
            answer=answer,
            outcome=outcome,
            decided_by=Decider.MODEL if outcome is Outcome.PARSED else Decider.SCORE,
            probabilities=probabilities,
            latency_s=round(time.perf_counter() - started, 6),
            **_token_counts(usages),
        )
    )


async def _think(
    prompt: Prompt, index: int, backend: Backend, config: RankConfig, answer_tokens: int
) -> AsyncIterator[ReasoningDelta | _Thought]:
    """Let the model write; yields the pieces and at last the whole."""
    is_free = config.answer_format is AnswerFormat.FREE
    max_tokens = config.think_tokens + (answer_tokens if is_free else 0)
    text, usage = "", Usage()
    if max_tokens > 0:
        request = GenerateRequest(
            prompt=prompt,
            max_tokens=max_tokens,
            stop=(ANSWER_CLOSE,) if is_free else (THINK_CLOSE,),
            temperature=config.temperature,
            seed=config.seed + index,
            priority=config.priority,
        )
        async for chunk in backend.generate(request):
            text += chunk.text
            if chunk.finish is not None:
                usage = chunk.usage
            if chunk.text:
                yield ReasoningDelta(index, chunk.text)
    yield _Thought(text, usage)


class _Scored(NamedTuple):
    probabilities: Mapping[str, float]
    usage: Usage


async def _score_titles(
    prompt: Prompt, completion: str, pool: Sequence[Candidate], backend: Backend, config: RankConfig
) -> _Scored:
    """Probabilities of the pool's titles as the answer: softmax of the mean log-probability per token. Ours.

    The thought is kept as far as it went; what the model wrote behind it is dropped and the answer block opened for it.
    """
    request = ScoreRequest(
        prompt=close_thought(prompt, completion),
        continuations=tuple(c.title for c in pool),
        priority=config.priority,
    )
    scores = await backend.score(request)
    means = [total / n for total, n in zip(scores.log_probs, scores.num_tokens, strict=True)]
    return _Scored(_softmax(dict(zip((c.candidate_id for c in pool), means, strict=True))), scores.usage)


def _softmax(logits: Mapping[str, float]) -> dict[str, float]:
    highest = max(logits.values())
    weights = {i: math.exp(x - highest) for i, x in logits.items()}
    total = sum(weights.values())
    return {i: w / total for i, w in weights.items()}


def _token_counts(usages: Sequence[Usage]) -> dict[str, int]:
    return {
        "prompt_tokens": sum(u.prompt_tokens for u in usages),
        "cached_prompt_tokens": sum(u.cached_prompt_tokens for u in usages),
        "completion_tokens": sum(u.completion_tokens for u in usages),
    }
