"""One decision: a pool goes in, the model is asked in the way of the mode, and one step comes out.

Policy for a bad answer. The outcome of the written answer is recorded as it is (`no_answer`, `several_answers`,
`not_in_pool`), and the decision is then made by the model's log-probabilities of the pool's answers: `decided_by` is `score`.
With `AnswerFormat.SCORED`, and in the modes that restrict the answer to the pool, the model does not write an answer at all;
the outcome is `forced`. With `AnswerFormat.LIKELIHOOD` the same holds, without a thought. Nothing else ever decides: no default candidate, no likeness of texts.

Source: the paper, section 3, for `iterative` and `direct`; policy, scoring and the other modes are ours.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import NamedTuple

from ranker.backends.base import Backend, GenerateRequest, Prompt, ScoreRequest, Usage
from ranker.events import AnswerFormat, RankConfig, RankEvent, ReasoningDelta, StepFinished
from ranker.parsing import parse_exclusion, parse_order
from ranker.probabilities import complement, softmax
from ranker.prompts import (
    ANSWER_CLOSE,
    THINK_CLOSE,
    close_thought,
    label_of,
    render_choice,
    render_exclusion,
    render_fixed_exclusion,
    render_likelihoods,
    render_order,
)
from ranker.schema import Candidate, Decider, EliminationStep, Mode, Outcome, RankingTask

Decide = Callable[
    [RankingTask, Sequence[Candidate], Sequence[Candidate], int, Backend, RankConfig], AsyncIterator[RankEvent]
]
"""(task, all candidates in presentation order, pool, step_index, backend, config) -> ReasoningDelta*, StepFinished."""

_TOKENS_PER_LABEL = 8


class _Thought(NamedTuple):
    """What a generation left behind."""

    completion: str
    usage: Usage


class _Scored(NamedTuple):
    probabilities: Mapping[str, float]
    usage: Usage


class LikelihoodScores(NamedTuple):
    """How likely each candidate of a pool is as the best."""

    log_probs: Mapping[str, float]
    """candidate_id -> natural logarithm, not normalised over the pool."""
    usage: Usage


async def exclude_one(
    task: RankingTask,
    candidates: Sequence[Candidate],
    pool: Sequence[Candidate],
    index: int,
    backend: Backend,
    config: RankConfig,
) -> AsyncIterator[RankEvent]:
    """Modes `iterative` and `fixed-block`: one thought, one exclusion.

    `iterative` prints the pool anew and may let the model write its answer. `fixed-block` prints all candidates once, in a
    prefix that every step shares, names those still in play in the suffix, and restricts the answer to them.
    """
    started = time.perf_counter()
    is_fixed = config.mode is Mode.FIXED_BLOCK
    is_free = config.answer_format is AnswerFormat.FREE and not is_fixed
    if is_fixed:
        prompt = render_fixed_exclusion(task, candidates, pool, backend.chat_text)
    else:
        prompt = render_exclusion(task, pool, backend.chat_text)
    thought = _Thought("", Usage())
    async for piece in _think(prompt, index, backend, config, config.answer_tokens if is_free else None):
        if isinstance(piece, _Thought):
            thought = piece
        else:
            yield piece
    parsed = parse_exclusion(thought.completion, pool)
    outcome, excluded_id = (parsed.outcome, parsed.candidate_id) if is_free else (Outcome.FORCED, None)
    answer, usages, probabilities = parsed.answer, [thought.usage], None
    if excluded_id is None:
        probabilities, usage = await _score_titles(prompt, thought.completion, pool, backend, config)
        usages.append(usage)
        excluded_id = max(probabilities, key=lambda i: probabilities[i])
        answer = answer if is_free else task.candidate(excluded_id).title
    yield StepFinished(
        _make_step(
            index, pool, [excluded_id], prompt, parsed.reasoning, answer, outcome, probabilities, usages, started
        )
    )


async def order_all(
    task: RankingTask,
    candidates: Sequence[Candidate],
    pool: Sequence[Candidate],
    index: int,
    backend: Backend,
    config: RankConfig,
) -> AsyncIterator[RankEvent]:
    """Mode `direct`: one thought, the whole order.

    What a written order leaves out is appended in the order of the scores; if it names nobody, the scores order everybody.
    """
    started = time.perf_counter()
    is_free = config.answer_format is AnswerFormat.FREE
    prompt = render_order(task, pool, backend.chat_text)
    thought = _Thought("", Usage())
    answer_tokens = config.answer_tokens + _TOKENS_PER_LABEL * len(pool)
    async for piece in _think(prompt, index, backend, config, answer_tokens if is_free else None):
        if isinstance(piece, _Thought):
            thought = piece
        else:
            yield piece
    parsed = parse_order(thought.completion, pool)
    outcome, order = (parsed.outcome, list(parsed.candidate_ids)) if is_free else (Outcome.FORCED, [])
    answer, usages, probabilities = parsed.answer if is_free else "", [thought.usage], None
    if outcome is not Outcome.PARSED:
        best, usage = await _score_titles(prompt, thought.completion, pool, backend, config)
        usages.append(usage)
        order += [i for i in sorted(best, key=lambda i: -best[i]) if i not in order]
        answer = answer or " > ".join(task.candidate(i).title for i in order)
        probabilities = complement(best)
    worst_first = order[:0:-1]
    yield StepFinished(
        _make_step(index, pool, worst_first, prompt, parsed.reasoning, answer, outcome, probabilities, usages, started)
    )


async def order_by_label(
    task: RankingTask,
    candidates: Sequence[Candidate],
    pool: Sequence[Candidate],
    index: int,
    backend: Backend,
    config: RankConfig,
) -> AsyncIterator[RankEvent]:
    """Mode `first-token`: one call without a thought; the order is that of the probabilities of the labels as the answer.

    Labels close with a bracket, so none is the beginning of another and their summed log-probabilities compare.
    """
    started = time.perf_counter()
    prompt = close_thought(render_choice(task, pool, backend.chat_text), "")
    labels = tuple(label_of(i) for i in range(len(pool)))
    scores = await backend.score(ScoreRequest(prompt=prompt, continuations=labels, priority=config.priority))
    best = softmax(dict(zip((c.candidate_id for c in pool), scores.log_probs, strict=True)))
    order = sorted(best, key=lambda i: -best[i])
    position = {c.candidate_id: i for i, c in enumerate(pool)}
    answer = " > ".join(labels[position[i]] for i in order)
    yield StepFinished(
        _make_step(
            index, pool, order[:0:-1], prompt, "", answer, Outcome.FORCED, complement(best), [scores.usage], started
        )
    )


async def decide_by_likelihood(
    task: RankingTask,
    candidates: Sequence[Candidate],
    pool: Sequence[Candidate],
    index: int,
    backend: Backend,
    config: RankConfig,
) -> AsyncIterator[RankEvent]:
    """Every mode with `AnswerFormat.LIKELIHOOD`: the least likely candidate goes; what decides is fixed in advance.

    The likelihoods do not hang on who else is in the pool, so `iterative` and `fixed-block`, which take one decision a step,
    give the order that the other modes give in one.
    """
    started = time.perf_counter()
    log_probs, usage = await score_likelihoods(task, pool, backend, config)
    order = sorted(log_probs, key=lambda i: -log_probs[i])
    is_one_by_one = config.mode in (Mode.ITERATIVE, Mode.FIXED_BLOCK)
    worst_first = order[-1:] if is_one_by_one else order[:0:-1]
    answer = " > ".join(task.candidate(i).title for i in (worst_first if is_one_by_one else order))
    texts = [question.prompt.text for question in render_likelihoods(task, pool)]
    prompt = Prompt("", "\n\n".join(texts))
    probabilities = softmax({i: -value for i, value in log_probs.items()})
    yield StepFinished(
        _make_step(index, pool, worst_first, prompt, "", answer, Outcome.FORCED, probabilities, [usage], started)
    )


async def score_likelihoods(
    task: RankingTask, pool: Sequence[Candidate], backend: Backend, config: RankConfig
) -> LikelihoodScores:
    """Ask the model for the likelihood of each candidate of `pool` (see `ranker.prompts.render_likelihoods`). Ours."""
    questions = render_likelihoods(task, pool)
    answers = await asyncio.gather(
        *(
            backend.score(ScoreRequest(prompt=q.prompt, continuations=q.continuations, priority=config.priority))
            for q in questions
        )
    )
    log_probs = {
        i: value
        for question, scores in zip(questions, answers, strict=True)
        for i, value in zip(question.candidate_ids, scores.log_probs, strict=True)
    }
    totals = zip(*(scores.usage for scores in answers), strict=True)
    return LikelihoodScores(log_probs, Usage(*(sum(values) for values in totals)))


async def _think(
    prompt: Prompt, index: int, backend: Backend, config: RankConfig, answer_tokens: int | None
) -> AsyncIterator[ReasoningDelta | _Thought]:
    """Let the model write; yields the pieces and at last the whole. `answer_tokens` None: the thought alone."""
    max_tokens = config.think_tokens + (answer_tokens or 0)
    text, usage = "", Usage()
    if max_tokens > 0:
        request = GenerateRequest(
            prompt=prompt,
            max_tokens=max_tokens,
            stop=(THINK_CLOSE,) if answer_tokens is None else (ANSWER_CLOSE,),
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
    return _Scored(softmax(dict(zip((c.candidate_id for c in pool), means, strict=True))), scores.usage)


def _make_step(
    index: int,
    pool: Sequence[Candidate],
    worst_first: Sequence[str],
    prompt: Prompt,
    reasoning: str,
    answer: str,
    outcome: Outcome,
    probabilities: Mapping[str, float] | None,
    usages: Sequence[Usage],
    started: float,
) -> EliminationStep:
    return EliminationStep(
        step_index=index,
        pool=tuple(c.candidate_id for c in pool),
        excluded_id=worst_first[0],
        excluded_ids=tuple(worst_first) if len(worst_first) > 1 else None,
        prompt=prompt.text,
        reasoning=reasoning,
        answer=answer,
        outcome=outcome,
        decided_by=Decider.MODEL if outcome is Outcome.PARSED else Decider.SCORE,
        probabilities=probabilities,
        prompt_tokens=sum(u.prompt_tokens for u in usages),
        cached_prompt_tokens=sum(u.cached_prompt_tokens for u in usages),
        completion_tokens=sum(u.completion_tokens for u in usages),
        latency_s=round(time.perf_counter() - started, 6),
    )
