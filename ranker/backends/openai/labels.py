"""Probabilities of labels from the most likely alternatives of single tokens: all that most servers tell. Ours.

The labels form a tree of characters. At a node, the server is asked for the alternatives of the one token that comes next; each
alternative that agrees with some label leads on, to a leaf or to a deeper node. What all labels begin with cancels out and is put
into the prompt. An alternative that is not told is less likely than every one that is, so it gets the smallest that was told, or an
even share of the rest if that is less: an upper bound. The order of the labels that were told is exact up to the ways in
which a tokenizer may split a label; of the others it is not known.
"""

import asyncio
import math
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple

Alternatives = Callable[[str], Awaitable[Mapping[str, float]]]
"""Text behind the prompt -> the most likely next tokens, as text, with their log-probabilities."""

MAX_LABEL_CHARS: Final = 6
_LEAST: Final = -100.0


def can_be_told(continuations: Sequence[str]) -> bool:
    """Are these short enough to be labels?"""
    return all(0 < len(text) <= MAX_LABEL_CHARS for text in continuations) and len(set(continuations)) == len(
        continuations
    )


async def label_log_probs(labels: Sequence[str], alternatives: Alternatives) -> list[float] | None:
    """Log-probability of each label, all relative to what they begin with; None if the server told none of them."""
    shared = os.path.commonprefix(list(labels)) if len(labels) > 1 else ""  # noqa: RUF071  (of characters, as is wanted)
    found = await _below(shared, {label: label.removeprefix(shared) for label in labels}, alternatives)
    return [found[label].log_prob for label in labels] if any(f.is_told for f in found.values()) else None


class _Found(NamedTuple):
    log_prob: float
    is_told: bool


async def _below(written: str, rests: Mapping[str, str], alternatives: Alternatives) -> dict[str, _Found]:
    """Log-probabilities of labels given that `written` is written. `rests`: label -> what is left of it."""
    told = await alternatives(written)
    floor = _Found(_floor(told, len(rests)), is_told=False)
    found: dict[str, _Found] = {}
    branches: dict[str, list[str]] = {}
    for label, rest in rests.items():
        token = max((t for t in told if t and (rest.startswith(t) or t.startswith(rest))), key=_fit(rest), default=None)
        if token is None:
            found[label] = floor
        elif len(token) >= len(rest):
            found[label] = _Found(told[token], is_told=True)
        else:
            branches.setdefault(token, []).append(label)
    nodes = [(token, {k: rests[k].removeprefix(token) for k in labels}) for token, labels in branches.items()]
    deeper = await asyncio.gather(*(_below(written + token, inner, alternatives) for token, inner in nodes))
    for (token, _), below in zip(nodes, deeper, strict=True):
        found |= {label: _Found(told[token] + f.log_prob, is_told=f.is_told) for label, f in below.items()}
    return found


def _fit(rest: str) -> Callable[[str], tuple[bool, int]]:
    """The longest token within the label; one that goes beyond it only if there is none."""
    return lambda token: (rest.startswith(token), len(token) if rest.startswith(token) else -len(token))


def _floor(told: Mapping[str, float], num_labels: int) -> float:
    if not told:
        return _LEAST
    left = 1.0 - sum(math.exp(p) for p in told.values())
    share = math.log(left / num_labels) if left > 1e-9 else _LEAST
    return max(_LEAST, min(min(told.values()), share))
