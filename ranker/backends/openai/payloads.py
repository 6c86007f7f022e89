"""Bodies of requests: the fields that every server knows, and those that the capabilities of one call for."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ranker.backends.base import GenerateRequest
from ranker.backends.openai.chatlog import take_apart
from ranker.backends.openai.settings import Capabilities, Choices, Scoring, ServerSettings

CONTINUED: Final = {"add_generation_prompt": False, "continue_final_message": True}
"""vLLM and SGLang: go on with the assistant's message. Others do so unasked, or never, and ignore this."""
STOP_KEPT: Final = {"include_stop_str_in_output": True, "no_stop_trim": True}
"""vLLM, SGLang: leave the stop string in the text."""
_PLAIN: Final = {"add_special_tokens": False, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
"""vLLM: the template is in the prompt already; and no sampling habits of the model's own configuration."""
_JSON_ROOM_TOKENS: Final = 32


def complete_fields(settings: ServerSettings, prompt: str, max_tokens: int) -> dict[str, Any]:
    """Continue `prompt`, greedily unless something else is added."""
    can = settings.capabilities
    fields: dict[str, Any] = {"model": settings.model, "temperature": 0.0, "top_p": 1.0}
    fields[can.limit_field] = max_tokens
    if can.endpoint == "completions":
        fields["prompt"] = prompt
    else:
        fields["messages"] = take_apart(prompt)
        if can.is_continued and fields["messages"][-1]["role"] == "assistant":
            fields |= CONTINUED
    if can.is_vllm:
        fields |= _PLAIN if can.endpoint == "completions" else without(_PLAIN, "add_special_tokens")
    return fields


def score_fields(settings: ServerSettings, text: str | Sequence[int]) -> dict[str, Any]:
    """Ask for the log-probabilities of `text` itself: of its tokens where they are given (vLLM), else of an echo."""
    fields: dict[str, Any] = {"model": settings.model, "temperature": 0.0, "max_tokens": 1}
    if isinstance(text, str):
        return fields | {"prompt": text, "echo": True, "logprobs": 1}
    return fields | {"prompt": list(text), "prompt_logprobs": 0}


def top_fields(settings: ServerSettings, prompt: str) -> dict[str, Any]:
    """Ask for the likeliest next tokens behind `prompt` (`Scoring.TOP`)."""
    can = settings.capabilities
    fields = complete_fields(settings, prompt, 1)
    is_chat = can.endpoint == "chat"
    fields |= {"logprobs": True, "top_logprobs": can.num_top} if is_chat else {"logprobs": can.num_top}
    return without(fields, *can.refused)


def choice_fields(can: Capabilities, kind: Choices, request: GenerateRequest) -> dict[str, Any]:
    """Restrict the answer to the request's choices."""
    choices = list(request.choices)
    if kind is Choices.STRUCTURED:
        return {"structured_outputs": {"choice": choices}}
    if kind is Choices.GUIDED:
        return {"guided_choice": choices}
    if kind is Choices.REGEX:
        return {"regex": "(" + "|".join(re.escape(c) for c in choices) + ")"}
    if kind is Choices.GRAMMAR:
        return {"grammar": "root ::= " + " | ".join(json.dumps(c, ensure_ascii=False) for c in choices)}
    if kind is Choices.JSON_SCHEMA:
        schema = {
            "type": "object",
            "properties": {"answer": {"type": "string", "enum": choices}},
            "required": ["answer"],
            "additionalProperties": False,
        }
        wrapped = {"name": "answer", "strict": True, "schema": schema}
        limit = {can.limit_field: request.max_tokens + _JSON_ROOM_TOKENS}
        return {"response_format": {"type": "json_schema", "json_schema": wrapped}, **limit}
    return {}


def without(fields: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The fields but those of these names."""
    return {name: value for name, value in fields.items() if name not in names}


def can_list(can: Capabilities) -> list[str]:
    """What people are told of a server when it is added."""
    scoring = {
        Scoring.PROMPT_LOGPROBS: "scores any text",
        Scoring.ECHO: "scores any text",
        Scoring.TOP: f"scores labels (from the {can.num_top} likeliest tokens)",
        Scoring.NONE: "gives no log-probabilities: answers are asked for again instead",
    }
    return [
        f"{can.endpoint} endpoint" + (", the server's chat template" if can.template else ""),
        scoring[can.scoring],
        f"restricted answers by {can.choices.value}" if can.choices is not Choices.NONE else "no restricted answers",
    ]
