"""A tokenizer's chat template around task text that nobody vouches for. Used by the engine and by the trainer alike."""

from typing import Any


class ChatFormat:
    """Renders one system and one user message up to where the assistant begins to write."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        special = {str(t) for t in tokenizer.all_special_tokens}
        special |= {str(t.content) for t in tokenizer.added_tokens_decoder.values() if t.special}
        self._special_tokens = sorted((t for t in special if len(t) > 1), key=len, reverse=True)

    def __call__(self, system: str, user: str) -> str:
        messages = [
            {"role": "system", "content": self._as_plain_text(system)},
            {"role": "user", "content": self._as_plain_text(user)},
        ]
        text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert isinstance(text, str)
        return text

    def _as_plain_text(self, text: str) -> str:
        """Break up control tokens that stand in the text of a task, so that it cannot end its own message."""
        for token in self._special_tokens:
            text = text.replace(token, f"{token[0]} {token[1:]}")
        return text
