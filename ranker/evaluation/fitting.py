"""Make a task fit into a model's context window by cutting its candidates' texts, then its query; cuts are recorded. Ours.

Rerankers cut passages silently; here the answer says so, and tables show the share.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from ranker.backends.base import Backend
from ranker.elimination import RankConfig
from ranker.prompts import render_exclusion
from ranker.schema import Candidate, RankingTask

_TEXT_WORDS: Final = (512, 256, 192, 128, 96, 72, 56, 44, 36, 28, 22, 18)
_QUERY_WORDS: Final = (1024, 512, 256, 128, 64)
_SLACK_TOKENS: Final = 128
"""For the words that differ between the prompts of the modes."""
_TOKENS_PER_CANDIDATE: Final = 8


class FittedTask(NamedTuple):
    """A task that fits."""

    task: RankingTask
    is_cut: bool


def fit_task(task: RankingTask, backend: Backend, config: RankConfig, *, num_shown: int | None = None) -> FittedTask:
    """The task, its texts cut to as many words as fit with thought and answer; the shortest cut even if it does not fit.

    `num_shown`: candidates that one prompt shows at most, where that is not all of them.
    """
    num_shown = min(num_shown or len(task.candidates), len(task.candidates))
    budget = backend.context_tokens - config.think_tokens - config.answer_tokens - _SLACK_TOKENS
    budget -= _TOKENS_PER_CANDIDATE * num_shown
    if _num_tokens(task, backend, num_shown) <= budget:
        return FittedTask(task, False)
    cut = task
    for num_words in _TEXT_WORDS:
        cut = _cut_texts(task, num_words)
        if _num_tokens(cut, backend, num_shown) <= budget:
            return FittedTask(cut, True)
    for num_words in _QUERY_WORDS:
        shorter = cut.model_copy(update={"query": _first_words(task.query, num_words)})
        if _num_tokens(shorter, backend, num_shown) <= budget:
            return FittedTask(shorter, True)
    return FittedTask(shorter, True)


def _num_tokens(task: RankingTask, backend: Backend, num_shown: int) -> int:
    """Of the longest prompt that shows `num_shown` candidates."""
    longest = sorted(task.candidates, key=lambda c: -len(c.text))[:num_shown]
    return backend.count_tokens([render_exclusion(task, longest, backend.chat_text).text])[0]


def _cut_texts(task: RankingTask, num_words: int) -> RankingTask:
    candidates: Sequence[Candidate] = [
        c.model_copy(update={"text": _first_words(c.text, num_words)}) for c in task.candidates
    ]
    return task.model_copy(update={"candidates": tuple(candidates)})


def _first_words(text: str, num_words: int) -> str:
    words = text.split()
    return text if len(words) <= num_words else " ".join(words[:num_words])
