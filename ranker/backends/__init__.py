"""Engines behind the one seam of `ranker.backends.base`."""

from pathlib import Path

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
from ranker.errors import BackendError

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
    "load_backend",
]


def load_backend(
    directory: Path,
    *,
    name: str,
    engine: str = "transformers",
    adapter: Path | None = None,
    delay_s: float = 0.0,
) -> Backend:
    """Load the model in `directory`.

    Args:
        directory: a model directory; not read by the engine `scripted`.
        name: the name to write into traces.
        adapter: of `transformers`: a directory with a LoRA adapter that is merged into the model while it is loaded.
        engine: `transformers`, or `scripted` (rules instead of a model; tests run on it).
        delay_s: of `scripted`: seconds between two words.

    Raises:
        BackendError: if the engine is not known or the model cannot be loaded.
    """
    if engine == "transformers":
        from ranker.backends.local import load_local

        return load_local(directory, name=name, adapter=adapter)
    if engine == "scripted":
        from ranker.backends.scripted import ScriptedBackend

        return ScriptedBackend(name=name, delay_s=delay_s)
    raise BackendError(f"engine: {engine!r} is not known. Choose transformers or scripted.")
