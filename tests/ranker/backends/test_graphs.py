"""Decoding steps in few shapes: the same as without, whatever runs beside, and steps one by one where capturing fails."""

import asyncio
from functools import partial
from pathlib import Path

import pytest
import torch
from fixedshapes import FixedShapes

from ranker.backends import GenerateRequest, Prompt, ScoreRequest
from ranker.backends.graphs import GraphedForward, round_up
from ranker.backends.limits import EngineLimits
from ranker.backends.local import LocalBackend, load_local

load_tiny = partial(load_local, name="tiny", dtype=torch.float32, is_graphed=False)
REQUESTS = [
    GenerateRequest(prompt=Prompt("a film " * (1 + i % 4), f"[{i}] one"), max_tokens=4 + 3 * (i % 5)) for i in range(20)
]


async def texts(backend: LocalBackend, requests: list[GenerateRequest]) -> list[str]:
    async def one(request: GenerateRequest) -> str:
        return "".join([chunk.text async for chunk in backend.generate(request)])

    return await asyncio.gather(*(one(request) for request in requests))


def test_few_shapes_give_the_same_and_are_captured_again_when_rows_grow(tiny_model_dir: Path) -> None:
    limits = EngineLimits(max_rows=6, live_rows=1, start_rows=4)
    plain, shaped = (load_tiny(tiny_model_dir, limits=limits) for _ in range(2))
    shapes = shaped._engine._forward = FixedShapes(shaped._engine._forward)  # type: ignore[attr-defined]
    assert asyncio.run(texts(shaped, REQUESTS)) == asyncio.run(texts(plain, REQUESTS))
    before = shapes.num_captured
    assert 0 < before <= 4  # 1, 2, 4 and 7 rows, all of them short
    asyncio.run(texts(shaped, REQUESTS))
    assert shapes.num_captured == before
    long = [GenerateRequest(prompt=Prompt("one two " * 100, "a film"), max_tokens=3)]
    assert asyncio.run(texts(shaped, long)) == asyncio.run(texts(plain, long))
    assert shapes.num_captured == before + 1


def test_where_capturing_fails_steps_are_taken_one_by_one(
    tiny_model_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backend = load_tiny(tiny_model_dir)
    expected = asyncio.run(texts(backend, REQUESTS))

    class Failing(GraphedForward):
        def _capture(self, *_: object) -> object:  # type: ignore[override]
            raise RuntimeError("no graph\nlong explanation")

    backend._engine._forward = Failing(backend._engine._forward)  # type: ignore[attr-defined]
    assert asyncio.run(texts(backend, REQUESTS)) == expected
    assert [r.message for r in caplog.records] == [
        "a decoding step cannot be captured as a CUDA graph: no graph: going on without"
    ]


def test_batches_are_rounded_up_but_never_beyond_the_rows_that_exist() -> None:
    assert [round_up(n, 300) for n in (1, 3, 5, 17, 100, 256, 257)] == [1, 4, 8, 24, 128, 256, 300]
    assert round_up(5, 7) == 7


def test_what_is_started_together_scores_as_alone(tiny_model_dir: Path) -> None:
    """Prefixes new and kept, prompts and continuations of different lengths, more calls than a batch takes."""
    requests = [
        ScoreRequest(
            prompt=Prompt("a film " * (i % 3), f"then {i}" + " two" * (i % 4)), continuations=("one", "a [1]", "film")
        )
        for i in range(9)
    ]

    async def ask(limits: EngineLimits) -> tuple[list[tuple[float, ...]], list[tuple[int, int, int]]]:
        backend = load_tiny(tiny_model_dir, limits=limits)
        found = await asyncio.gather(*(backend.score(request) for request in requests))
        await backend.aclose()
        return [scores.log_probs for scores in found], [scores.usage for scores in found]

    alone, batched = (asyncio.run(ask(EngineLimits(start_rows=n))) for n in (1, 4))
    assert batched[1] == alone[1]
    for one, other in zip(alone[0], batched[0], strict=True):
        assert other == pytest.approx(one, abs=1e-4)
