"""One decision: a pool goes in, the model is asked in the way of the mode, and one step comes out.

Policy for a bad answer. The outcome of the written answer is recorded as it is (`no_answer`, `several_answers`,
`not_in_pool`), and the decision is then made by the model's log-probabilities of the pool's answers: `decided_by` is `score`.
With `AnswerFormat.SCORED`, and in the modes that restrict the answer to the pool, the model does not write an answer at all;
the outcome is `forced`. With `AnswerFormat.LIKELIHOOD` the same holds, without a thought. What happens with an engine that
has no log-probabilities: `ranker.fallback`. Nothing else ever decides: no default candidate, no likeness of texts.

Source: the paper, section 3, for `iterative` and `direct`; policy, scoring and the other modes are ours.
"""

import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import NamedTuple

from ranker.asking import Thought, labels_of, score_labels, score_likelihoods, score_titles, think
from ranker.backends.base import Backend, Prompt, Usage
from ranker.errors import ScoresUnavailableError
from ranker.events import AnswerFormat, RankConfig, RankEvent, StepFinished
from ranker.fallback import ask_again, parse_all, parse_one
from ranker.parsing import parse_exclusion, parse_order
from ranker.probabilities import SMALLEST, complement, softmax
from ranker.prompts import (
    close_thought,
    render_choice,
    render_exclusion,
    render_fixed_exclusion,
    render_likelihoods,
    render_order,
)
from ranker.schema import Ask, Candidate, Decider, EliminationStep, Mode, Outcome, RankingTask


class Turn(NamedTuple):
    """What one decision is about."""

    task: RankingTask
    candidates: Sequence[Candidate]
    """All of the task, in the order in which they are presented."""
    pool: Sequence[Candidate]
    """Who is left, in the same order."""
    step_index: int
    backend: Backend
    config: RankConfig


Decide = Callable[[Turn], AsyncIterator[RankEvent]]
"""Yields any number of ReasoningDelta, and at last StepFinished."""

_TOKENS_PER_LABEL = 8


async def exclude_one(turn: Turn) -> AsyncIterator[RankEvent]:
    """Modes `iterative` and `fixed-block`: one thought, one exclusion.

    `iterative` prints the pool anew and may let the model write its answer. `fixed-block` prints all candidates once, in a
    prefix that every step shares, names those still in play in the suffix, and restricts the answer to them. Where the best
    is asked for, the least probable answer goes, so the answer is scored and not written.
    """
    started = time.perf_counter()
    task, candidates, pool, index, backend, config = turn
    is_fixed = config.mode is not Mode.ITERATIVE
    is_free = config.answer_format is AnswerFormat.FREE and not is_fixed and config.ask is Ask.WORST
    if is_fixed:
        prompt = render_fixed_exclusion(task, candidates, pool, backend.chat_text, ask=config.ask)
    else:
        prompt = render_exclusion(task, pool, backend.chat_text, ask=config.ask)
    thought = Thought("", Usage())
    async for piece in think(prompt, index, backend, config, config.answer_tokens if is_free else None):
        if isinstance(piece, Thought):
            thought = piece
        else:
            yield piece
    parsed = parse_exclusion(thought.completion, pool)
    outcome, excluded_id = (parsed.outcome, parsed.candidate_id) if is_free else (Outcome.FORCED, None)
    answer, usages, probabilities, decided_by = parsed.answer, [thought.usage], None, None
    if excluded_id is None:
        shown = candidates if is_fixed else pool
        try:
            probabilities, usage = await score_titles(
                prompt, thought.completion, pool, backend, config, labels=labels_of(shown)
            )
            probabilities = probabilities if config.ask is Ask.WORST else complement(probabilities)
            excluded_id = max(probabilities, key=lambda i: probabilities[i])
            chosen = task.candidate(excluded_id).title
        except ScoresUnavailableError:
            if config.ask is Ask.BEST:  # without probabilities nobody is the least probable: ask for the worst
                worst = config.model_copy(update={"ask": Ask.WORST})
                async for event in exclude_one(turn._replace(config=worst)):
                    yield event
                return
            choices = [labels_of(shown)[c.candidate_id] for c in pool]
            closed, parse = close_thought(prompt, thought.completion), parse_one(pool, shown)
            (excluded_id, *_), decided_by, chosen, usage = await ask_again(
                closed, pool, parse, backend, config, choices
            )
        usages.append(usage)
        answer = answer if is_free else chosen
    step = _make_step(
        index, pool, [excluded_id], prompt, parsed.reasoning, answer, outcome, probabilities, usages, started
    )
    yield StepFinished(_decided_by(step, decided_by))


def adaptively() -> Decide:
    """Mode `adaptive` of one ranking: thought where it matters. Ours.

    While more than `last_pool` are in play, the question of `fixed-block` is answered without a thought (by the likelihoods, for
    a model that was trained so), and the clear tail goes at once. The last few, and pools without a clear tail, are decided as
    in `fixed-block`, whose prefix the first pass has computed. Each step follows from its pool alone, so a ranking can be
    resumed or branched anywhere.
    """
    looks = _Looks()

    async def decide(turn: Turn) -> AsyncIterator[RankEvent]:
        started = time.perf_counter()
        task, _, pool, index, _, config = turn
        spent: list[Usage] = []
        if len(pool) > config.last_pool:
            try:
                prompt, views = await looks.take(turn, spent)
            except ScoresUnavailableError:  # one by one, as `fixed-block`
                async for event in exclude_one(turn):
                    yield event
                return
            best = _mean(views)
            if tail := _clear_tail(best, config):
                tails = [frozenset(_clear_tail(view, config)) for view in views]
                disputed = frozenset[str]().union(*tails) - tails[0].intersection(*tails)
                answer = "; ".join(task.candidate(i).title for i in tail)
                odds = complement(best)
                step = _make_step(index, pool, tail, prompt, "", answer, Outcome.FORCED, odds, spent, started)
                yield StepFinished(step.model_copy(update={"disputed_ids": tuple(i for i in best if i in disputed)}))
                return
        async for event in exclude_one(turn):
            yield StepFinished(_with_usage(event.step, spent)) if isinstance(event, StepFinished) else event

    return decide


class _Looks:
    """P(best) of a pool without a thought, and once more with those near the border presented in the reversed order.

    Asked is what every other step asks: a model may never have learnt the other question, and the prefix is the same. The second
    look prints those near the border and not the whole pool again; they are the same, with the same labels, in every step of a
    ranking, so that they are read once.
    """

    def __init__(self) -> None:
        self._shown_again: Sequence[Candidate] = ()

    async def take(self, turn: Turn, spent: list[Usage]) -> tuple[Prompt, Sequence[Mapping[str, float]]]:
        """The prompt of the first look, and what each look says; `spent` gets what every call took."""
        task, candidates, pool, _, backend, config = turn
        if config.answer_format is AnswerFormat.LIKELIHOOD:  # shows no pool, so there is no order
            likelihoods, usage = await score_likelihoods(task, pool, backend, config)
            spent.append(usage)
            return _likelihood_prompt(task, pool), [softmax(likelihoods)]
        prompt, best = await _score_best(turn, spent)
        if not config.is_reshuffled:
            return prompt, [best]
        if not self._shown_again:
            whole = best
            if len(pool) < len(candidates):  # the ranking goes on behind its first steps
                _, whole = await _score_best(turn._replace(pool=candidates), spent)
            self._shown_again = _near_the_border(candidates, whole, config)
        asked = [c for c in self._shown_again if c.candidate_id in best]
        if len(asked) < 2:  # a person has excluded the others
            return prompt, [best]
        _, second = await _score_best(turn._replace(candidates=self._shown_again, pool=asked), spent)
        share = sum(best[i] for i in second)  # of all probability: what the second look distributes anew
        return prompt, [best, {**best, **{i: share * p for i, p in second.items()}}]


def _near_the_border(
    candidates: Sequence[Candidate], best: Mapping[str, float], config: RankConfig
) -> Sequence[Candidate]:
    """The last pool, and half as many behind it who could take a place in it, in the reversed order of presentation."""
    near = sorted(best, key=lambda i: -best[i])[: config.last_pool + config.last_pool // 2]
    return [c for c in reversed(candidates) if c.candidate_id in near]


async def _score_best(turn: Turn, spent: list[Usage]) -> tuple[Prompt, Mapping[str, float]]:
    task, shown, pool, _, backend, config = turn
    prompt = render_fixed_exclusion(task, shown, pool, backend.chat_text, ask=config.ask)
    answer, usage = await score_titles(prompt, "", pool, backend, config, labels=labels_of(shown))
    spent.append(usage)
    return prompt, complement(answer) if config.ask is Ask.WORST else answer


def _clear_tail(best: Mapping[str, float], config: RankConfig) -> list[str]:
    """Who is out of the question, worst first: behind the first `last_pool`, and less probable than `tail_share` of 1 / n."""
    order = sorted(best, key=lambda i: -best[i])
    return [i for i in order[: config.last_pool - 1 : -1] if best[i] * len(best) < config.tail_share]


def _mean(views: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """One distribution from several: the normalised geometric mean, which is the mean of their log-odds."""
    return softmax({i: sum(math.log(max(v[i], SMALLEST)) for v in views) / len(views) for i in views[0]})


def _with_usage(step: EliminationStep, spent: Sequence[Usage]) -> EliminationStep:
    """The step with the tokens of calls that went before it."""
    return step.model_copy(
        update={
            "prompt_tokens": step.prompt_tokens + sum(u.prompt_tokens for u in spent),
            "cached_prompt_tokens": step.cached_prompt_tokens + sum(u.cached_prompt_tokens for u in spent),
        }
    )


async def order_all(turn: Turn) -> AsyncIterator[RankEvent]:
    """Mode `direct`: one thought, the whole order.

    What a written order leaves out is appended in the order of the scores (or of what stands in for them: `ranker.fallback`);
    if it names nobody, they order everybody.
    """
    started = time.perf_counter()
    task, _, pool, index, backend, config = turn
    is_free = config.answer_format is AnswerFormat.FREE
    prompt = render_order(task, pool, backend.chat_text)
    thought = Thought("", Usage())
    answer_tokens = config.answer_tokens + _TOKENS_PER_LABEL * len(pool)
    async for piece in think(prompt, index, backend, config, answer_tokens if is_free else None):
        if isinstance(piece, Thought):
            thought = piece
        else:
            yield piece
    parsed = parse_order(thought.completion, pool)
    outcome, order = (parsed.outcome, list(parsed.candidate_ids)) if is_free else (Outcome.FORCED, [])
    answer, usages, probabilities, decided_by = parsed.answer if is_free else "", [thought.usage], None, None
    if outcome is not Outcome.PARSED:
        try:
            best, usage = await score_titles(prompt, thought.completion, pool, backend, config, labels=labels_of(pool))
            whole: Sequence[str] = sorted(best, key=lambda i: -best[i])
            probabilities = complement(best)
        except ScoresUnavailableError:
            closed = close_thought(prompt, thought.completion)
            whole, decided_by, _, usage = await ask_again(closed, pool, parse_all(pool), backend, config)
        usages.append(usage)
        order += [i for i in whole if i not in order]
        answer = answer or " > ".join(task.candidate(i).title for i in order)
    worst_first = order[:0:-1]
    step = _make_step(
        index, pool, worst_first, prompt, parsed.reasoning, answer, outcome, probabilities, usages, started
    )
    yield StepFinished(_decided_by(step, decided_by))


async def order_by_label(turn: Turn) -> AsyncIterator[RankEvent]:
    """Mode `first-token`: one call without a thought; the order is that of the probabilities of the labels as the answer.

    Labels close with a bracket, so none is the beginning of another and their summed log-probabilities compare.
    """
    started = time.perf_counter()
    task, _, pool, index, backend, config = turn
    prompt = close_thought(render_choice(task, pool, backend.chat_text), "")
    labels = labels_of(pool)
    probabilities: Mapping[str, float] | None = None
    decided_by: Decider | None = None
    try:
        best, usage = await score_labels(prompt, pool, labels, backend, config)
        order: Sequence[str] = sorted(best, key=lambda i: -best[i])
        probabilities = complement(best)
    except ScoresUnavailableError:
        parse = parse_one(pool, pool)
        order, decided_by, _, usage = await ask_again(prompt, pool, parse, backend, config, list(labels.values()))
    answer = " > ".join(labels[i] for i in order)
    step = _make_step(index, pool, order[:0:-1], prompt, "", answer, Outcome.FORCED, probabilities, [usage], started)
    yield StepFinished(_decided_by(step, decided_by))


def by_likelihood() -> Decide:
    """Every mode of one ranking with `AnswerFormat.LIKELIHOOD`: the least likely candidate goes; what decides is fixed in advance.

    The likelihoods do not hang on who else is in the pool, so `iterative` and `fixed-block`, which take one decision a step,
    give the order that the other modes give in one, and ask once: later steps remember. On a server that gives no
    log-probabilities the model is asked instead.
    """
    known: dict[str, float] = {}

    async def decide(turn: Turn) -> AsyncIterator[RankEvent]:
        started = time.perf_counter()
        task, _, pool, index, backend, config = turn
        is_one_by_one = config.mode in (Mode.ITERATIVE, Mode.FIXED_BLOCK)
        spent: list[Usage] = []
        try:
            if unknown := [c for c in pool if c.candidate_id not in known]:
                likelihoods, usage = await score_likelihoods(task, unknown, backend, config)
                known.update(likelihoods)
                spent = [usage]
        except ScoresUnavailableError:
            ask = exclude_one if is_one_by_one else order_all
            async for event in ask(turn):
                yield event
            return
        order = sorted((c.candidate_id for c in pool), key=lambda i: -known[i])
        worst_first = order[-1:] if is_one_by_one else order[:0:-1]
        answer = " > ".join(task.candidate(i).title for i in (worst_first if is_one_by_one else order))
        prompt = _likelihood_prompt(task, pool)
        probabilities = softmax({c.candidate_id: -known[c.candidate_id] for c in pool})
        yield StepFinished(
            _make_step(index, pool, worst_first, prompt, "", answer, Outcome.FORCED, probabilities, spent, started)
        )

    return decide


def _likelihood_prompt(task: RankingTask, pool: Sequence[Candidate]) -> Prompt:
    """What was asked, for the record of the step."""
    return Prompt("", "\n\n".join(question.prompt.text for question in render_likelihoods(task, pool)))


def _decided_by(step: EliminationStep, decider: Decider | None) -> EliminationStep:
    """The step with its decider, where that is not what its outcome implies."""
    return step if decider is None else step.model_copy(update={"decided_by": decider})


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
