"""From the events of a stream to the text of a completion as the seam defines it, and to its token counts."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ranker.backends.base import Finish, Usage
from ranker.backends.stops import end_of_stop
from ranker.prompts import THINK_CLOSE, THINK_OPEN


class Reading:
    """One completion while it arrives.

    A server may send a thought apart from the answer (`reasoning_content`); the two are joined as our format has them. One
    that does not go on from our opening begins with an opening of its own, which is dropped.
    """

    def __init__(self, *, stop: Sequence[str], is_opened: bool) -> None:
        """
        Args:
            stop: strings that end the completion and stay in it.
            is_opened: whether the prompt ends with a `<think>` that the server may write again.
        """
        self._stop, self._is_opened = stop, is_opened
        self._held = ""
        self._is_apart = False
        self.text = ""
        self.finish: Finish | None = None
        self.usage: Usage | None = None
        self.num_pieces = 0
        self.has_ended = False
        """Whether the server said that it is done."""

    def take(self, event: Mapping[str, Any]) -> str:
        """The text that an event adds; empty behind the end."""
        if isinstance(event.get("usage"), dict):
            self.usage = usage_of(event["usage"])
        choices = event.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        piece = self._joined(choice)
        self.num_pieces += bool(piece)
        reason = choice.get("finish_reason")
        self.has_ended = self.has_ended or reason is not None
        if self.finish is not None:
            return ""
        piece = self._without_opening(piece, is_last=reason is not None)
        end = end_of_stop(self.text, piece, self._stop)
        piece = piece[:end]
        self.text += piece
        if end is not None:
            self.finish = Finish.STOP
        elif reason is not None:
            self.finish = Finish.LENGTH if reason == "length" else Finish.STOP
        return piece

    def _joined(self, choice: Mapping[str, Any]) -> str:
        if isinstance(choice.get("text"), str):
            return str(choice["text"])
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return ""
        thought = delta.get("reasoning_content") or delta.get("reasoning") or ""
        content = delta.get("content") or ""
        piece = ""
        if isinstance(thought, str) and thought:
            self._is_apart = True
            piece = thought
        if isinstance(content, str) and content:
            if self._is_apart:
                self._is_apart = False
                piece += f"{THINK_CLOSE}\n"
            piece += content
        return piece

    def _without_opening(self, piece: str, *, is_last: bool) -> str:
        """Drop a `<think>` at the very beginning if the prompt wrote it already; hold back what may become one."""
        if not self._is_opened or self.text:
            return piece
        self._held += piece
        begun = self._held.lstrip()
        if begun.startswith(THINK_OPEN):
            self._is_opened = False
            return begun.removeprefix(THINK_OPEN)
        if THINK_OPEN.startswith(begun) and not is_last:
            return ""
        self._is_opened = False
        return self._held


def usage_of(found: Mapping[str, Any]) -> Usage:
    """Token counts of a response, whichever way the server names the cached ones."""
    details = found.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else found.get("prompt_cache_hit_tokens")
    prompt = _count(found.get("prompt_tokens"))
    return Usage(prompt, min(_count(cached), prompt), _count(found.get("completion_tokens")))


def text_in(body: Mapping[str, Any]) -> str:
    """The completion of a response that came in one piece."""
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else choice.get("text")
    return text if isinstance(text, str) else ""


def answer_in_json(text: str) -> str:
    """The `answer` of a JSON object; the text itself if it is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return text
    answer = found.get("answer") if isinstance(found, dict) else None
    return answer if isinstance(answer, str) else text


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
