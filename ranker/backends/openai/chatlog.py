"""The chat template of a model that runs elsewhere.

Where the server tells its template, we write the prompt and the server continues it as it is. Where it does not, the prompt is
written in ChatML, which is what people see in traces, and taken apart again into the messages that a chat endpoint wants.

Words of a task that look like control tokens are broken up, as the local engine does; which tokens a remote model has is not
known, so every common form counts.
"""

import re
from typing import Any, Final

SYSTEM_MARK, USER_MARK = "Systemmarksevenfour", "Usermarkninetwo"
"""Words that stand for the messages while a template is looked at."""

CHATML: Final = (
    "<|im_start|>system\n",
    "<|im_end|>\n<|im_start|>user\n",
    "<|im_end|>\n<|im_start|>assistant\n",
)
_CONTROL: Final = re.compile(
    r"<[|｜][^<>\n]{1,60}[|｜]>|</?s>|<(?:bos|eos|pad|unk|end_of_turn|start_of_turn)>|\[/?(?:INST|SYS)\]|<</?SYS>>"
)


def render(template: tuple[str, str, str] | None, system: str, user: str) -> str:
    """The prompt up to where the assistant writes. None = ChatML."""
    before, between, after = template or CHATML
    return before + as_plain_text(system) + between + as_plain_text(user) + after


def split_template(rendered: str) -> tuple[str, str, str] | None:
    """The parts of a template around `SYSTEM_MARK` and `USER_MARK`; None if it does not show both once, in that order."""
    if rendered.count(SYSTEM_MARK) != 1 or rendered.count(USER_MARK) != 1:
        return None
    before, _, rest = rendered.partition(SYSTEM_MARK)
    between, found, after = rest.partition(USER_MARK)
    return (before, between, after) if found else None


def marked_messages() -> list[dict[str, str]]:
    """What is sent to have a template shown."""
    return [{"role": "system", "content": SYSTEM_MARK}, {"role": "user", "content": USER_MARK}]


def take_apart(text: str) -> list[dict[str, Any]]:
    """The messages of a prompt that `render(None, ...)` began; what stands behind the template is the assistant's beginning.

    A text that is not of that form is one message of the user.
    """
    before, between, after = CHATML
    if not text.startswith(before) or between not in text or after not in text:
        return [{"role": "user", "content": text}]
    system, _, rest = text.removeprefix(before).partition(between)
    user, _, opening = rest.partition(after)
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    return [*messages, {"role": "assistant", "content": opening}] if opening else messages


def as_plain_text(text: str) -> str:
    """Break up what a tokenizer might take for a control token."""
    return _CONTROL.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)
