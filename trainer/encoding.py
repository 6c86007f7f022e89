"""From prompts to token ids, in the same pieces as the engine: prefix and suffix are tokenised each by itself.

Tokenised as one text, the ids at the seam could differ (two line ends may merge with what follows), and training would read
what inference never reads. This module knows tokenizers, not models.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ranker.backends.base import Prompt
from ranker.backends.chat import ChatFormat
from ranker.prompts import close_thought
from trainer.examples import TrainingExample


class TitleRow(NamedTuple):
    """One decision to score: the prompt with an empty thought, and the titles of the pool behind it."""

    prompt_ids: list[int]
    title_ids: list[list[int]]
    example: TrainingExample


class Encoder:
    """A tokenizer, used as inference uses it."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.chat_text = ChatFormat(tokenizer)

    def ids(self, text: str) -> list[int]:
        """Ids of one piece of text, no special tokens added."""
        found: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
        return found

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Ids of a prompt in its two pieces."""
        return self.ids(prompt.prefix) + self.ids(prompt.suffix)

    def title_row(self, example: TrainingExample) -> TitleRow:
        """The ids of a decision that is scored without a thought."""
        prompt = close_thought(example.render(self.chat_text), "")
        return TitleRow(self.prompt_ids(prompt), [self.ids(c.title) for c in example.candidates], example)

    def count_tokens(self, examples: Sequence[TrainingExample]) -> list[int]:
        """Tokens of each example's prompt."""
        return [len(self.prompt_ids(e.render(self.chat_text))) for e in examples]
