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
        """That are read: of the prompt, and of each continuation all but the last, whose probability needs what stands before it."""
        return len(self.prompt_ids) + sum(len(ids) - 1 for ids in self.continuation_ids)


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
        """That are read of all texts."""
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
        """`title_rows` of one."""
        return self.title_rows([example])[0]

    def title_rows(self, examples: Sequence[TrainingExample]) -> list[TitleRow]:
        """The ids of decisions as `ranker.decisions` takes them by scores: without a thought, or by likelihood.

        A likely title is excluded where the prompt asks for the worst, and stays where it asks for the best.
        """
        asked = [self._asked(example) for example in examples]
        prompts = [prompt for texts in asked for prompt, _ in texts]
        ids = zip(self.many([p.prefix for p in prompts]), self.titles([p.suffix for p in prompts]), strict=True)
        prompt_ids = iter([prefix + suffix for prefix, suffix in ids])
        rows = []
        for example, texts in zip(examples, asked, strict=True):
            scored = [ScoredText(next(prompt_ids), self.titles(continuations)) for _, continuations in texts]
            lengths = (len(c) for text in scored for c in text.continuation_ids)
            if self.answer_format is AnswerFormat.LIKELIHOOD:
                weights = [-(length**-LENGTH_POWER) for length in lengths]
            else:
                sign = -1.0 if example.mode is Mode.DIRECT else 1.0
                weights = [sign / length for length in lengths]
            rows.append(TitleRow(scored, weights, example))
        return rows

    def _asked(self, example: TrainingExample) -> list[tuple[Prompt, Sequence[str]]]:
        """Each prompt of a decision, and what is scored behind it."""
        if self.answer_format is AnswerFormat.LIKELIHOOD:
            return [(q.prompt, q.continuations) for q in render_likelihoods(example.task, example.candidates)]
        prompt = close_thought(example.render(self.chat_text), "")
        return [(prompt, [c.title for c in example.candidates])]

    def count_tokens(self, examples: Sequence[TrainingExample]) -> list[int]:
        """Tokens of each example's prompt."""
        return [len(self.prompt_ids(e.render(self.chat_text))) for e in examples]
