"""The engines that the conformance tests run against, and what each of them is known to offer."""

import asyncio
import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import torch

from ranker.backends import Backend
from ranker.backends.scripted import ScriptedBackend

NAMES = (
    "scripted",
    "transformers",
    "transformers-batched",
    "openai-vllm",
    "openai-echo",
    "openai-top",
    "openai-hosted",
    "openai-mute",
    "vllm",
)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A backend and its promises."""

    name: str
    backend: Backend
    is_model: bool = True
    """A model decides, not a rule: sampling samples, and scores can be computed directly."""
    scores: Literal["all", "labels", "none"] = "all"
    counts_exactly: bool = True
    counts_cached: bool = True
    restricts: bool = False
    capacity: int | None = None
    """Calls that run at once; others wait. None = no queue."""
    tolerance: float = 1e-3


@contextmanager
def open_subject(name: str, tiny_model_dir: Path) -> Iterator[Subject]:
    """The subject of that name; skips the test where its engine is not installed."""
    with ExitStack() as stack:
        if name == "scripted":
            yield Subject(name=name, backend=ScriptedBackend(), is_model=False, counts_cached=False)
        elif name == "transformers":
            yield Subject(name=name, backend=_local(tiny_model_dir), capacity=5)
        elif name == "transformers-batched":
            yield Subject(name=name, backend=_batched(tiny_model_dir), capacity=5)
        elif name == "vllm":
            if importlib.util.find_spec("vllm") is None:
                pytest.skip("vllm is not installed (extra `vllm`)")
            backend = _vllm(tiny_model_dir)
            stack.callback(lambda: asyncio.run(backend.aclose()))
            yield Subject(name=name, backend=backend, restricts=True, capacity=4, tolerance=2e-2)
        else:
            yield _served(name, tiny_model_dir, stack)


def _local(directory: Path) -> Backend:
    from ranker.backends.limits import EngineLimits
    from ranker.backends.local import load_local

    # on a GPU too in the precision in which results are compared
    return load_local(directory, name="tiny", limits=EngineLimits(max_rows=4, live_rows=1), dtype=torch.float32)


def _batched(directory: Path) -> Backend:
    """As on a GPU: what waits is started together, and steps have few shapes (captured there, computed again here)."""
    from fixedshapes import FixedShapes

    from ranker.backends.graphs import GraphedForward
    from ranker.backends.limits import EngineLimits
    from ranker.backends.local import load_local

    limits = EngineLimits(max_rows=4, live_rows=1, start_rows=3)
    backend = load_local(directory, name="tiny", limits=limits, dtype=torch.float32)
    if not isinstance(backend._engine._forward, GraphedForward):
        backend._engine._forward = FixedShapes(backend._engine._forward)
    return backend


def _vllm(directory: Path) -> Backend:
    from ranker.backends.vllm import load_vllm

    return load_vllm(directory, name="tiny", max_num_seqs=4, enforce_eager=True, dtype="float32")


def _served(name: str, directory: Path, stack: ExitStack) -> Subject:
    from fakeserver import KEY, serve

    from ranker.backends.openai import OpenAIBackend, ServerSettings, probe_server

    dialect = name.removeprefix("openai-")
    server = stack.enter_context(serve(directory, dialect))
    is_hosted = dialect == "hosted"
    patch = stack.enter_context(pytest.MonkeyPatch.context())
    patch.setenv("FAKE_KEY", KEY)
    settings = ServerSettings(
        base_url=server.url, model="tiny", key_env="FAKE_KEY" if is_hosted else None, max_in_flight=4, timeout_s=20
    )
    template = "chatml" if dialect == "echo" else "auto"
    probed = probe_server(settings, template=template, context_tokens=512, first_wait_s=0.001)
    scores: dict[str, Literal["all", "labels", "none"]] = {"vllm": "all", "echo": "all", "top": "labels"}
    return Subject(
        name=name,
        backend=OpenAIBackend(probed, name="tiny", first_wait_s=0.001),
        scores=scores.get(dialect, "none"),
        counts_exactly=dialect == "vllm",
        counts_cached=dialect in ("vllm", "top"),
        restricts=dialect in ("vllm", "top", "hosted"),
        capacity=4,
    )
