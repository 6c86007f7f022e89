"""From prompts to token ids, in the same pieces as the engine: prefix and suffix are tokenised each by itself.

Tokenised as one text, the ids at the seam could differ (two line ends may merge with what follows), and training would read
what inference never reads. This module knows tokenizers, not models.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ranker.asking import LENGTH_POWER
from ranker.backends.base import Prompt
from ranker.backends.chat import ChatFormat
from ranker.elimination import AnswerFormat
from ranker.prompts import close_thought, render_likelihoods
from ranker.schema import Mode
from trainer.examples import TrainingExample


class ScoredText(NamedTuple):
    """A prompt and the continuations that are scored behind it."""

    prompt_ids: list[int]
    continuation_ids: list[list[int]]

    @property
    def num_tokens(self) -> int:
        """Of the prompt and all continuations."""
        return len(self.prompt_ids) + sum(map(len, self.continuation_ids))


class TitleRow(NamedTuple):
    """One decision to score: its candidates, in the order of the pool, are the continuations of all texts in turn."""

    texts: list[ScoredText]
    weights: list[float]
    """For each candidate: summed log-probability x weight = score of *excluding* it."""
    example: TrainingExample

    @property
    def num_scored_tokens(self) -> int:
        """Tokens of all continuations."""
        return sum(len(ids) for text in self.texts for ids in text.continuation_ids)

    @property
    def num_tokens(self) -> int:
        """Of everything."""
        return sum(text.num_tokens for text in self.texts)


class Encoder:
    """A tokenizer, used as inference uses it, for one way of deciding."""

    def __init__(self, tokenizer: Any, answer_format: AnswerFormat = AnswerFormat.SCORED) -> None:
        self.tokenizer = tokenizer
        self.answer_format = answer_format
        self.chat_text = ChatFormat(tokenizer)
        self._known: dict[str, list[int]] = {}

    def ids(self, text: str) -> list[int]:
        """Ids of one piece of text, no special tokens added."""
        found: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
        return found

    def many(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many pieces of text at once, which is several times faster."""
        found: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
        return found

    def titles(self, texts: Sequence[str]) -> list[list[int]]:
        """As `many`, for pieces that come again and again: they are remembered."""
        new = list({text: None for text in texts if text not in self._known})
        if new:
            self._known.update(zip(new, self.tokenizer(new, add_special_tokens=False)["input_ids"], strict=True))
        return [self._known[text] for text in texts]

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Ids of a prompt in its two pieces."""
        return self.ids(prompt.prefix) + self.ids(prompt.suffix)

    def title_row(self, example: TrainingExample) -> TitleRow:
        """The ids of a decision as `ranker.decisions` takes it by scores: without a thought, or by likelihood.

        A likely title is excluded where the prompt asks for the worst, and stays where it asks for the best.
        """
        if self.answer_format is AnswerFormat.LIKELIHOOD:
            questions = render_likelihoods(example.task, example.candidates)
            texts = [ScoredText(self.prompt_ids(q.prompt), self.titles(q.continuations)) for q in questions]
            weights = [-(len(ids) ** -LENGTH_POWER) for text in texts for ids in text.continuation_ids]
            return TitleRow(texts, weights, example)
        prompt = close_thought(example.render(self.chat_text), "")
        titles = self.titles([c.title for c in example.candidates])
        sign = -1.0 if example.mode is Mode.DIRECT else 1.0
        return TitleRow([ScoredText(self.prompt_ids(prompt), titles)], [sign / len(ids) for ids in titles], example)

    def count_tokens(self, examples: Sequence[TrainingExample]) -> list[int]:
        """Tokens of each example's prompt."""
        return [len(self.prompt_ids(e.render(self.chat_text))) for e in examples]
