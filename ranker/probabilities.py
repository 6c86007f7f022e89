"""From log-probabilities of answers to probabilities over a pool."""

import math
from collections.abc import Mapping
from typing import Final

SMALLEST: Final = 1e-12


def softmax(logits: Mapping[str, float]) -> dict[str, float]:
    """exp(x) / sum exp(x); keys and their order stay."""
    highest = max(logits.values())
    weights = {i: math.exp(x - highest) for i, x in logits.items()}
    total = sum(weights.values())
    return {i: w / total for i, w in weights.items()}


def complement(probabilities: Mapping[str, float]) -> dict[str, float]:
    """From probabilities of being the best to ones of being excluded first, or back: proportional to 1 / p. Ours.

    It is the reversed order on the same scale of log-odds, which is all that one call for the best can say of the worst.
    """
    return softmax({i: -math.log(max(p, SMALLEST)) for i, p in probabilities.items()})
