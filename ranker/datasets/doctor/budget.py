"""Token budget: how long the first prompt of each task is, under the chosen model or by a rule of thumb."""

from collections import Counter
from collections.abc import Callable, Sequence

from ranker.datasets.doctor.report import Budget, Finding, Hits, Severity
from ranker.prompts import ChatText, render_exclusion
from ranker.schema import RankingTask

CHARS_PER_TOKEN = 4
_FRAME_CHARS = 600
"""About what instruction and labels add to a task's own text."""
_BATCH_TASKS = 256

CountTokens = Callable[[Sequence[str]], Sequence[int]]
"""Lengths of texts in tokens, as `Backend.count_tokens` gives them."""


class Lengths:
    """Measures prompts in batches."""

    def __init__(self, count_tokens: CountTokens | None, limit: int | None, chat_text: ChatText | None) -> None:
        self._count = count_tokens
        self._limit = limit
        self._chat_text = chat_text or (lambda system, user: f"{system}\n{user}\n")
        self._batch: list[tuple[str, str]] = []
        self._histogram: Counter[int] = Counter()
        self._over = Hits()
        self._sum = self._num = self._longest = 0
        self._longest_id = ""

    def add(self, task: RankingTask) -> None:
        """Measure one task."""
        if self._count is None:
            self._add_length(task.task_id, _roughly(task))
            return
        self._batch.append((task.task_id, render_exclusion(task, task.candidates, self._chat_text).text))
        if len(self._batch) == _BATCH_TASKS:
            self._measure()

    def _measure(self) -> None:
        if self._count is not None and self._batch:
            lengths = self._count([text for _, text in self._batch])
            for (task_id, _), length in zip(self._batch, lengths, strict=True):
                self._add_length(task_id, length)
            self._batch = []

    def _add_length(self, task_id: str, length: int) -> None:
        self._num += 1
        self._sum += length
        self._histogram[1 << max(0, length - 1).bit_length()] += 1
        if length > self._longest:
            self._longest, self._longest_id = length, task_id
        if self._limit is not None and length > self._limit:
            self._over.add(f"{task_id}: {length:,} tokens")

    def result(self) -> Budget | None:
        """None for an empty dataset."""
        self._measure()
        if not self._num:
            return None
        return Budget(
            unit="tokens" if self._count else f"tokens (characters / {CHARS_PER_TOKEN})",
            mean=round(self._sum / self._num, 1),
            longest=self._longest,
            longest_task_id=self._longest_id,
            limit=self._limit,
            num_over=self._over.count,
            histogram=tuple(sorted(self._histogram.items())),
        )

    def findings(self) -> list[Finding]:
        """Tasks that do not fit."""
        self._measure()
        share = self._over.count / self._num if self._num else 0
        return self._over.finding(
            "too_long",
            Severity.WARNING,
            f"{{n}} tasks ({share:.1%}) are longer than the model's {self._limit or 0:,} tokens.",
            "Cut the passages (max_passage_chars), show fewer candidates, or choose a model with a longer context.",
        )


def _roughly(task: RankingTask) -> int:
    texts = (task.query, *task.history, *(c.text for c in task.candidates))
    return (_FRAME_CHARS + sum(map(len, texts)) + 6 * len(texts)) // CHARS_PER_TOKEN
