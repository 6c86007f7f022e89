"""Engines behind the one seam of `ranker.backends.base`."""

from ranker.backends.base import (
    BULK,
    LIVE,
    Backend,
    Chunk,
    Finish,
    GenerateRequest,
    Prompt,
    ScoreRequest,
    Scores,
    Usage,
)

__all__ = [
    "BULK",
    "LIVE",
    "Backend",
    "Chunk",
    "Finish",
    "GenerateRequest",
    "Prompt",
    "ScoreRequest",
    "Scores",
    "Usage",
]
