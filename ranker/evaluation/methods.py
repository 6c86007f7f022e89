"""Other ways to rank with a language model, for comparison: pointwise, pairwise and setwise. They only score, never generate.

    pointwise   is this candidate the best one? order by the log-odds of Yes against No        n calls
    pairwise    which of these two? both orders, averaged; all pairs, or a merge sort          2 a comparison
    setwise     which of these four? a heap of which the best ten are taken                    about 3 n calls

Candidates that tie stay in presentation order. Pairwise and setwise ask with the prompt of mode `first-token` on a smaller
pool, so that methods differ in what is compared and not in the wording. This module does not know datasets or tables.

Source: Liang et al. 2022 (yes/no); Qin et al. 2023 (pairwise ranking prompting); Zhuang et al. 2024 (setwise, heap sort, label
logits). Departures: pairwise wins are probabilities, not votes of greedy answers.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple

from ranker.backends.base import Backend, Prompt, ScoreRequest, Usage
from ranker.elimination import make_presentation_order
from ranker.prompts import NO, YES, close_thought, label_of, render_choice, render_judgement
from ranker.schema import Candidate, RankingTask

ALL_PAIRS_UP_TO: Final = 6
"""Candidates of which every pair is compared; a longer list is sorted with fewer comparisons (n log n)."""
SET_SIZE: Final = 4
"""Candidates that one setwise prompt shows: a parent of the heap and its children."""
TOP: Final = 10
"""Places that setwise decides; what is left keeps the order of the heap."""


class Verdict(NamedTuple):
    """A ranking and what it took."""

    ranking: tuple[str, ...]
    num_calls: int
    prompt_tokens: int
    cached_prompt_tokens: int


class _Judge:
    """Asks the model about candidates of one task, and counts."""

    def __init__(self, task: RankingTask, backend: Backend, priority: int) -> None:
        self._task, self._backend, self._priority = task, backend, priority
        self.usages: list[Usage] = []

    async def log_odds(self, candidate: Candidate) -> float:
        """Of Yes against No."""
        yes, no = await self._score(render_judgement(self._task, candidate, self._backend.chat_text), (YES, NO))
        return yes - no

    async def choose(self, pool: Sequence[Candidate]) -> list[float]:
        """Log-probability of each label as the answer to: which is the best one?"""
        labels = tuple(label_of(i) for i in range(len(pool)))
        return await self._score(render_choice(self._task, pool, self._backend.chat_text), labels)

    async def prefers(self, a: Candidate, b: Candidate) -> float:
        """Probability that `a` is better than `b`, the mean of both orders of presentation."""
        forward, backward = await asyncio.gather(self.choose([a, b]), self.choose([b, a]))
        return (_sigmoid(forward[0] - forward[1]) + _sigmoid(backward[1] - backward[0])) / 2

    async def _score(self, prompt: Prompt, answers: tuple[str, ...]) -> list[float]:
        request = ScoreRequest(prompt=close_thought(prompt, ""), continuations=answers, priority=self._priority)
        scores = await self._backend.score(request)
        self.usages.append(scores.usage)
        return list(scores.log_probs)


async def _pointwise(judge: _Judge, pool: list[Candidate]) -> list[Candidate]:
    odds = await asyncio.gather(*(judge.log_odds(c) for c in pool))
    return [pool[i] for i in sorted(range(len(pool)), key=lambda i: -odds[i])]


async def _pairwise(judge: _Judge, pool: list[Candidate]) -> list[Candidate]:
    if len(pool) > ALL_PAIRS_UP_TO:
        return await _merge_sort(judge, pool)
    pairs = [(i, j) for i in range(len(pool)) for j in range(i + 1, len(pool))]
    preferences = await asyncio.gather(*(judge.prefers(pool[i], pool[j]) for i, j in pairs))
    wins = [0.0] * len(pool)
    for (i, j), preference in zip(pairs, preferences, strict=True):
        wins[i] += preference
        wins[j] += 1 - preference
    return [pool[i] for i in sorted(range(len(pool)), key=lambda i: -wins[i])]


async def _merge_sort(judge: _Judge, pool: list[Candidate]) -> list[Candidate]:
    """Best first; the halves are sorted beside each other."""
    if len(pool) < 2:
        return pool
    middle = len(pool) // 2
    left, right = await asyncio.gather(_merge_sort(judge, pool[:middle]), _merge_sort(judge, pool[middle:]))
    merged = []
    while left and right:
        is_left = await judge.prefers(left[0], right[0]) >= 0.5
        merged.append((left if is_left else right).pop(0))
    return [*merged, *left, *right]


async def _setwise(judge: _Judge, pool: list[Candidate]) -> list[Candidate]:
    """Heap sort with `SET_SIZE - 1` children a node: build the heap, then take the root `TOP` times."""
    heap, best_first = list(pool), list[Candidate]()
    for root in reversed(range((len(heap) - 2) // (SET_SIZE - 1) + 1)):
        await _sift_down(judge, heap, root)
    while len(heap) > 1 and len(best_first) < TOP:
        best_first.append(heap[0])
        last = heap.pop()
        heap[0] = last
        await _sift_down(judge, heap, 0)
    return [*best_first, *heap]


async def _sift_down(judge: _Judge, heap: list[Candidate], root: int) -> None:
    """Let the best of a node and its children rise, and go on where the node went."""
    while children := range((SET_SIZE - 1) * root + 1, min((SET_SIZE - 1) * (root + 1) + 1, len(heap))):
        members = [root, *children]
        scores = await judge.choose([heap[i] for i in members])
        best = members[max(range(len(members)), key=lambda i: scores[i])]
        if best == root:
            return
        heap[root], heap[best] = heap[best], heap[root]
        root = best


_Order = Callable[[_Judge, list[Candidate]], Awaitable[list[Candidate]]]


class Method(NamedTuple):
    """One way to rank by scores."""

    order: _Order
    num_shown: int
    """Candidates in one prompt."""
    options: Mapping[str, int]
    """What decides its answers, for the results file."""


METHODS: Final[Mapping[str, Method]] = {
    "pointwise": Method(_pointwise, 1, {}),
    "pairwise": Method(_pairwise, 2, {"all_pairs_up_to": ALL_PAIRS_UP_TO}),
    "setwise": Method(_setwise, SET_SIZE, {"set_size": SET_SIZE, "top": TOP}),
}
"""By the name that `--modes` takes."""


async def rank_by_method(name: str, task: RankingTask, backend: Backend, *, seed: int, priority: int) -> Verdict:
    """Rank `task` by `METHODS[name]`; the ranking is a permutation of the candidates whatever the model says."""
    judge = _Judge(task, backend, priority)
    pool = [task.candidate(i) for i in make_presentation_order(task, seed)]
    ranking = await METHODS[name].order(judge, pool)
    return Verdict(
        tuple(c.candidate_id for c in ranking),
        len(judge.usages),
        sum(u.prompt_tokens for u in judge.usages),
        sum(u.cached_prompt_tokens for u in judge.usages),
    )


def _sigmoid(x: float) -> float:
    """Without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
