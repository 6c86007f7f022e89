"""How much an engine does at once, and what memory it may take for that. Imports torch. Ours."""

from dataclasses import dataclass
from typing import Final

import psutil
import torch

from ranker.backends.device import product_dtype

_LEAST_PREFIX_BYTES, _MOST_PREFIX_BYTES = 512 << 20, 4 << 30
_PREFIX_SHARE: Final = 8
"""Of the memory that is free, one part in so many for kept prefixes. 16 rankings of 20 passages want 2.5 GiB of a model of 30 layers and
3 heads that keep keys."""


@dataclass(frozen=True, kw_only=True)
class EngineLimits:
    """How much an engine takes on."""

    max_rows: int = 16
    """Sequences that decode together."""
    watched_rows: int = 16
    """While somebody watches, no more than so many decode together (but all that are watched do), so that their tokens come soon; the others
    wait with what they have computed."""
    live_rows: int = 4
    """Rows beyond `max_rows` that only requests of priority 0 may take, so that a watched ranking never waits for bulk."""
    start_rows: int = 1
    """Prompts that are computed together before their rows decode, and calls that are scored together."""
    start_patience: int = 0
    """Decoding steps that calls of bulk work wait for others to start with: where a pass costs the same for few tokens and many,
    starting each by itself costs more than the rows that stand idle meanwhile."""
    pass_tokens: int = 4
    """Of a decoding pass, guesses included (`ranker.backends.lookup`): as many as cost hardly more than one each row, because reading the
    weights takes the time. 0 = nothing is guessed."""
    row_bytes: int = 3 << 30
    """Memory for the rows; longer prompts mean fewer rows."""
    prefix_bytes: int = _LEAST_PREFIX_BYTES
    """Memory for kept prefixes. Where the rankings in flight want more, fewer go on at once."""


def default_limits() -> EngineLimits:
    """For the device that a model would be loaded on, by the memory that is free there now.

    Rows are copied when they get longer, so twice `row_bytes` must fit beside the prefixes and what a forward pass needs.
    """
    if not torch.cuda.is_available():
        share = psutil.virtual_memory().available // _PREFIX_SHARE
        return EngineLimits(
            max_rows=32,
            pass_tokens=4 if product_dtype() is torch.float32 else 24,
            prefix_bytes=min(max(share, _LEAST_PREFIX_BYTES), _MOST_PREFIX_BYTES),
        )
    free, _ = torch.cuda.mem_get_info()
    return EngineLimits(
        max_rows=256,
        watched_rows=256,
        live_rows=16,
        start_rows=32,
        start_patience=8,
        pass_tokens=0,  # a captured step is several times faster than a pass over several tokens
        row_bytes=int(0.35 * free),
        prefix_bytes=int(0.15 * free),
    )
