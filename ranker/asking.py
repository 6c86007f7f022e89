"""What a decision asks a backend for: a thought, the probabilities of a pool's titles or labels, the likelihoods.

`ranker.decisions` says what is made of the answers. Ours.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, NamedTuple

from ranker.backends.base import Backend, GenerateRequest, Prompt, ScoreRequest, Usage
from ranker.errors import ScoresUnavailableError
from ranker.events import RankConfig, ReasoningDelta
from ranker.probabilities import softmax
from ranker.prompts import ANSWER_CLOSE, THINK_CLOSE, close_thought, label_of, render_likelihoods
from ranker.schema import Candidate, RankingTask


class Thought(NamedTuple):
    """What a generation left behind."""

    completion: str
    usage: Usage


class Scored(NamedTuple):
    """Probabilities over a pool, which sum to 1."""

    probabilities: Mapping[str, float]
    usage: Usage


LENGTH_POWER: Final = 0.75
"""Likelihoods are log P / tokens ** this: 0 would favour short titles, 1 (the mean per token) common words in long ones. Chosen among
0, .25, .5, .75 and 1 on training users and queries that the shipped adapter has not read: `trainer/NOTES.md`. Ours."""


class LikelihoodScores(NamedTuple):
    """How likely each candidate of a pool is as the best."""

    values: Mapping[str, float]
    """candidate_id -> log P of its text over (its number of tokens) ** `LENGTH_POWER`, in nats; at most 0."""
    usage: Usage


async def think(
    prompt: Prompt, index: int, backend: Backend, config: RankConfig, answer_tokens: int | None
) -> AsyncIterator[ReasoningDelta | Thought]:
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
    yield Thought(text, usage)


async def score_titles(
    prompt: Prompt,
    completion: str,
    pool: Sequence[Candidate],
    backend: Backend,
    config: RankConfig,
    *,
    labels: Mapping[str, str] | None = None,
) -> Scored:
    """Probabilities of the pool's titles as the answer: softmax of the mean log-probability per token. Ours.

    The thought is kept as far as it went; what the model wrote behind it is dropped and the answer block opened for it. An
    engine that cannot score titles may be able to score `labels` (candidate_id -> label), if they are given.

    Raises:
        ScoresUnavailableError: if it can score neither.
    """
    return await score_behind(close_thought(prompt, completion), pool, backend, config, labels=labels)


async def score_behind(
    closed: Prompt,
    pool: Sequence[Candidate],
    backend: Backend,
    config: RankConfig,
    *,
    labels: Mapping[str, str] | None = None,
) -> Scored:
    """The same behind a prompt that ends where the answer begins."""
    request = ScoreRequest(prompt=closed, continuations=tuple(c.title for c in pool), priority=config.priority)
    try:
        scores = await backend.score(request)
    except ScoresUnavailableError:
        if labels is None:
            raise
        return await score_labels(closed, pool, labels, backend, config)
    means = [total / n for total, n in zip(scores.log_probs, scores.num_tokens, strict=True)]
    return Scored(softmax(dict(zip((c.candidate_id for c in pool), means, strict=True))), scores.usage)


async def score_labels(
    prompt: Prompt, pool: Sequence[Candidate], labels: Mapping[str, str], backend: Backend, config: RankConfig
) -> Scored:
    """Probabilities of the pool's labels as the answer: softmax of the summed log-probabilities."""
    ids = [c.candidate_id for c in pool]
    answers = tuple(labels[i] for i in ids)
    scores = await backend.score(ScoreRequest(prompt=prompt, continuations=answers, priority=config.priority))
    return Scored(softmax(dict(zip(ids, scores.log_probs, strict=True))), scores.usage)


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
    values = {
        i: total / num_tokens**LENGTH_POWER
        for question, scores in zip(questions, answers, strict=True)
        for i, total, num_tokens in zip(question.candidate_ids, scores.log_probs, scores.num_tokens, strict=True)
    }
    totals = zip(*(scores.usage for scores in answers), strict=True)
    return LikelihoodScores(values, Usage(*(sum(counts) for counts in totals)))


def labels_of(candidates: Sequence[Candidate]) -> dict[str, str]:
    """candidate_id -> label in a prompt that shows `candidates`."""
    return {c.candidate_id: label_of(i) for i, c in enumerate(candidates)}
