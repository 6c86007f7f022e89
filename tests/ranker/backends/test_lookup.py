"""Guessed tokens: what is proposed, and that a completion is the same with right guesses, wrong ones and none."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ranker.backends import GenerateRequest, Prompt
from ranker.backends.base import Chunk
from ranker.backends.engine import Engine
from ranker.backends.limits import EngineLimits
from ranker.backends.local import LocalBackend, load_local
from ranker.backends.lookup import LENGTHS, Lookup

IDS = st.lists(st.integers(0, 3), max_size=40)


@given(IDS, st.lists(IDS, max_size=4), st.integers(1, 5))
def test_a_guess_is_what_followed_the_longest_known_ending_last(
    start: list[int], more: list[list[int]], limit: int
) -> None:
    ids = list(start)
    lookup = Lookup(ids)
    for piece in [[], *more]:
        ids += piece
        expected: list[int] = []
        for length in LENGTHS:
            places = [end for end in range(length, len(ids)) if ids[end - length : end] == ids[len(ids) - length :]]
            if places and len(ids) >= length:
                expected = ids[places[-1] : places[-1] + limit]
                break
        assert lookup.guess(limit) == expected


PROMPTS = [
    Prompt("Think between a film and one", " then two then two then"),
    Prompt("", "[1] one [2]"),
    Prompt("Candidates (3)", ": one two one two one"),
]


async def complete(backend: LocalBackend, request: GenerateRequest) -> list[Chunk]:
    return [chunk async for chunk in backend.generate(request)]


def run(directory: Path, limits: EngineLimits, requests: Sequence[GenerateRequest]) -> list[tuple[Any, ...]]:
    """(text, finish, usage) of each, all in flight together."""

    async def ask() -> list[list[Chunk]]:
        backend = load_local(directory, name="tiny", limits=limits, dtype=torch.float32)
        chunks = await asyncio.gather(*(complete(backend, request) for request in requests))
        await backend.aclose()
        return chunks

    found = asyncio.run(ask())
    return [("".join(c.text for c in chunks), chunks[-1].finish, chunks[-1].usage) for chunks in found]


class Oracle:
    """Guesses what the model wrote without guesses, spoilt now and then."""

    def __init__(self, ids: list[int], written: list[list[int]], spoilt: float) -> None:
        self._ids, self._written, self._spoilt = ids, written, spoilt
        self._rng = random.Random(len(ids))

    def guess(self, limit: int) -> list[int]:
        whole = next((w for w in self._written if w[: len(self._ids)] == self._ids), [])
        guess = [*whole[len(self._ids) :], 5, 6, 7][:limit]
        return [(i + 1) % 300 if self._rng.random() < self._spoilt else i for i in guess]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Ids of all completions that end, in the order of their ends."""
    kept: list[list[int]] = []
    finish = Engine._finish

    def note(engine: Engine, row: Any, *args: Any) -> None:
        kept.append(list(row.ids))
        finish(engine, row, *args)

    monkeypatch.setattr(Engine, "_finish", note)
    return kept


@pytest.mark.parametrize("spoilt", [0.0, 0.3, 1.0], ids=["right", "mixed", "wrong"])
@pytest.mark.parametrize("num_together", [1, 3])
def test_guesses_change_the_number_of_passes_and_nothing_else(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch, written: list[list[int]], spoilt: float, num_together: int
) -> None:
    requests = [
        GenerateRequest(prompt=PROMPTS[0], max_tokens=24),
        GenerateRequest(prompt=PROMPTS[1], max_tokens=17, temperature=0.8, seed=3),  # is drawn: nothing to guess
        GenerateRequest(prompt=PROMPTS[2], max_tokens=30),
    ][-num_together:]
    plain = run(tiny_model_dir, replace(EngineLimits(), pass_tokens=0), requests)
    before = list(written)
    passes = {"steps": 0, "checks": 0}
    for name, method in (("steps", "_decode_step"), ("checks", "_check")):
        original = getattr(Engine, method)

        def counted(engine: Engine, *args: Any, name: str = name, original: Any = original) -> None:
            passes[name] += 1
            original(engine, *args)

        monkeypatch.setattr(Engine, method, counted)
    monkeypatch.setattr("ranker.backends.engine.Lookup", lambda ids: Oracle(ids, before, spoilt))
    assert run(tiny_model_dir, replace(EngineLimits(), pass_tokens=16), requests) == plain
    assert passes["checks"] > 0
    if spoilt == 0 and num_together == 1:
        assert passes["steps"] <= 30 / 5
    if spoilt == 1 and num_together == 1:
        assert passes["steps"] == 29, "a wrong guess costs no token"


def test_stops_and_ends_inside_a_guess_are_seen(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch, written: list[list[int]]
) -> None:
    free = GenerateRequest(prompt=PROMPTS[2], max_tokens=30)
    (text, *_), *_ = run(tiny_model_dir, replace(EngineLimits(), pass_tokens=0), [free])
    stop = text[8:11]
    request = GenerateRequest(prompt=PROMPTS[2], max_tokens=30, stop=(stop,))
    plain = run(tiny_model_dir, replace(EngineLimits(), pass_tokens=0), [request])
    before = [written[0]]
    monkeypatch.setattr("ranker.backends.engine.Lookup", lambda ids: Oracle(ids, before, 0.0))
    assert run(tiny_model_dir, replace(EngineLimits(), pass_tokens=16), [request]) == plain
    assert plain[0][0].endswith(stop) and len(plain[0][0]) < len(text)


def test_where_many_rows_run_nothing_is_guessed(tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("a pass over several tokens of many rows costs more than it saves")

    monkeypatch.setattr(Engine, "_check", fail)
    requests = [GenerateRequest(prompt=PROMPTS[2], max_tokens=12)] * 6
    assert len(run(tiny_model_dir, replace(EngineLimits(), pass_tokens=12), requests)) == 6
