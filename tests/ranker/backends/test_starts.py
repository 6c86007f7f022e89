"""When calls are started: together where that is cheaper, at once where somebody watches."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ranker.backends import GenerateRequest, Prompt, ScoreRequest
from ranker.backends.base import BULK, LIVE
from ranker.backends.forward import Forward
from ranker.backends.limits import EngineLimits
from ranker.backends.local import load_local

load_tiny = partial(load_local, name="tiny", dtype=torch.float32, is_graphed=False)


class _Counted:
    """Passes on, and counts passes: those that start something, and decoding steps."""

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self.logits = forward.logits
        self.num_starts = self.num_steps = 0

    def step(self, *tensors: Any, is_ragged: bool) -> torch.Tensor:
        self.num_steps += 1
        return self._forward.step(*tensors, is_ragged=is_ragged)

    def extend(self, *tensors: Any) -> torch.Tensor:
        self.num_starts += 1
        return self._forward.extend(*tensors)


def _starts(directory: Path, patience: int, priority: int) -> tuple[int, list[str]]:
    """Chains of two calls whose first ends at different times: passes that started something, and what was written."""
    backend = load_tiny(directory, limits=EngineLimits(max_rows=32, start_rows=8, start_patience=patience))
    counted = backend._engine._forward = _Counted(backend._engine._forward)

    async def chain(number: int) -> str:
        text = ""
        for max_tokens in (4 + number, 12):
            request = GenerateRequest(prompt=Prompt("", f"one {text}"), max_tokens=max_tokens, priority=priority)
            text += "".join([c.text async for c in backend.generate(request)])
        return text

    async def together() -> list[str]:
        return await asyncio.gather(*(chain(n) for n in range(8)))

    texts = asyncio.run(together())
    asyncio.run(backend.aclose())
    return counted.num_starts, texts


def test_bulk_calls_wait_for_company_and_watched_ones_do_not(tiny_model_dir: Path) -> None:
    alone, texts = _starts(tiny_model_dir, 0, BULK)
    gathered, gathered_texts = _starts(tiny_model_dir, 4, BULK)
    assert gathered_texts == texts
    assert gathered < alone
    assert _starts(tiny_model_dir, 4, LIVE)[0] == _starts(tiny_model_dir, 0, LIVE)[0]


def test_who_got_a_score_asks_on_at_once(tiny_model_dir: Path) -> None:
    """A chain that waited with its score does not wait again with what follows on it."""
    limits = EngineLimits(max_rows=8, start_rows=8, start_patience=6)
    backend = load_tiny(tiny_model_dir, limits=limits)
    counted = backend._engine._forward = _Counted(backend._engine._forward)
    begun = asyncio.Event()

    async def other() -> None:
        async for _ in backend.generate(GenerateRequest(prompt=Prompt("", "film"), max_tokens=40)):
            begun.set()

    async def chain() -> None:
        await begun.wait()
        asked = counted.num_steps
        await backend.score(ScoreRequest(prompt=Prompt("", "one"), continuations=("two",)))
        scored = counted.num_steps
        async for _ in backend.generate(GenerateRequest(prompt=Prompt("", "one two"), max_tokens=3)):
            break
        assert scored - asked >= limits.start_patience
        assert counted.num_steps - scored < limits.start_patience

    async def together() -> None:
        await asyncio.gather(other(), chain())

    asyncio.run(together())
    asyncio.run(backend.aclose())
    assert counted.num_starts == 3
