"""Log-probabilities out of the bodies in which servers hide them."""

import math
from collections.abc import Mapping
from typing import Any


def prompt_log_probs(body: Mapping[str, Any], num_last: int) -> list[float]:
    """Log-probabilities of the last `num_last` tokens of the prompt (vLLM); empty if they are not there."""
    rows = _choice(body).get("prompt_logprobs") or body.get("prompt_logprobs")
    if not isinstance(rows, list) or len(rows) < num_last:
        return []
    entries = [next(iter(row.values()), None) if isinstance(row, dict) else None for row in rows[-num_last:]]
    return [float(e["logprob"]) for e in entries if isinstance(e, dict) and isinstance(e.get("logprob"), int | float)]


def echoed_log_probs(body: Mapping[str, Any], prompt: str, text: str) -> list[float]:
    """Log-probabilities of the tokens of `text`, of a completion that repeats `prompt + text`; empty if they are not there.

    A token that begins in the prompt and reaches into `text` counts as one of `text`.
    """
    found = _choice(body).get("logprobs")
    if not isinstance(found, dict):
        return []
    log_probs, offsets = found.get("token_logprobs"), found.get("text_offset")
    if not isinstance(log_probs, list) or not isinstance(offsets, list):
        return []
    begin, end = len(prompt), len(prompt) + len(text)
    spans = zip(log_probs, offsets, [*offsets[1:], math.inf], strict=False)
    return [float(p) for p, start, stop in spans if p is not None and start < end and stop > begin]


def alternatives_in(body: Mapping[str, Any]) -> dict[str, float]:
    """The likeliest first tokens of a completion, as text; two tokens of one text are taken together."""
    found = _choice(body).get("logprobs")
    if not isinstance(found, dict):
        return {}
    pairs: list[tuple[Any, Any]] = []
    if isinstance(content := found.get("content"), list) and content and isinstance(content[0], dict):
        pairs = [(t.get("token"), t.get("logprob")) for t in content[0].get("top_logprobs") or []]
    elif isinstance(top := found.get("top_logprobs"), list) and top and isinstance(top[0], dict):
        pairs = list(top[0].items())
    told: dict[str, float] = {}
    for token, log_prob in pairs:
        if isinstance(token, str) and isinstance(log_prob, int | float) and math.isfinite(log_prob):
            told[token] = _log_add(told[token], float(log_prob)) if token in told else float(log_prob)
    return told


def _choice(body: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = body.get("choices")
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}


def _log_add(a: float, b: float) -> float:
    high, low = max(a, b), min(a, b)
    return high + math.log1p(math.exp(low - high))
