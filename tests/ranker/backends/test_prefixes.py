"""Kept prefixes: what a text stands behind is kept once and as long as the text, and rankings do not push each other out."""

import asyncio
import random
from functools import partial
from pathlib import Path

import pytest
import torch

from ranker.backends.base import GenerateRequest, Prompt
from ranker.backends.limits import EngineLimits
from ranker.backends.local import load_local
from ranker.backends.prefixes import PrefixCache
from ranker.elimination import RankConfig, rank_tasks
from ranker.schema import Candidate, Domain, Mode, RankingTask, RankingTrace

load_tiny = partial(load_local, name="tiny", dtype=torch.float32)
TOKEN_BYTES = 2 * 4


def read_from(numbers: list[float], begin: int, end: int) -> torch.Tensor:
    """Keys and values of one layer, head and feature that are the numbers themselves."""
    return torch.tensor(numbers[begin:end]).expand(1, 2, 1, -1)[..., None].clone()


def put(cache: PrefixCache, text: str, *, age: int = 0, behind: str = "", num_behind: int = 0) -> None:
    """A text has a token a character, whose keys and values are the character's code."""
    numbers = [float(ord(c)) for c in text]
    cache.put(text, range(len(text)), age, len(text), partial(read_from, numbers), behind=behind, num_behind=num_behind)


def spelled(cache: PrefixCache, text: str, length: int) -> str:
    pieces = cache.pieces(text, length)
    return "".join(chr(int(x)) for x in torch.cat(pieces, 3)[0, 0, 0, :, 0]) if pieces else ""


def test_a_text_is_kept_once_behind_another_and_comes_back_whole() -> None:
    cache = PrefixCache(23 * TOKEN_BYTES)
    put(cache, "head")
    put(cache, "heavy load", behind="head", num_behind=3)  # the head's last token was another one
    put(cache, "heavy load and thought", behind="heavy load", num_behind=10)
    assert spelled(cache, "heavy load and thought", 22) == "heavy load and thought"
    assert spelled(cache, "heavy load and thought", 12) == "heavy load a"
    assert spelled(cache, "heavy load", 2) == "he"
    put(cache, "x")  # 4 + 7 + 12 + 1 tokens are too many: the head was used more recently than what stands behind it
    assert cache.length("heavy load and thought") == 0
    assert spelled(cache, "heavy load", 10) == "heavy load"


def test_what_others_stand_behind_outlives_them() -> None:
    """Whatever is put and used in whatever order: a kept text can always be spelled."""
    draw = random.Random(5)
    cache, texts = PrefixCache(60 * TOKEN_BYTES), ["a"]
    for _ in range(400):
        behind = draw.choice(texts)
        text = behind + "".join(draw.choices("abc", k=draw.randint(1, 8)))
        num_behind = cache.length(behind)
        put(cache, text, behind=behind, num_behind=num_behind)
        texts = [*texts[-20:], text]
        cache.pieces(draw.choice(texts), 3)
        for kept in list(cache._kept):
            assert spelled(cache, kept, len(kept)) == kept
        assert sum(k.key_values.nbytes for k in cache._kept.values()) == cache._bytes <= 60 * TOKEN_BYTES


def test_room_is_made_of_what_nobody_waits_for() -> None:
    needed = list[str]()
    cache = PrefixCache(10 * TOKEN_BYTES, lambda: needed)
    put(cache, "older", age=1)
    put(cache, "young", age=7)
    assert not cache.make_room(6 * TOKEN_BYTES, 0, 9)  # both were used just now
    assert cache.make_room(5 * TOKEN_BYTES, 0, 3)  # an older one need not wait for a younger one
    assert cache.make_room(11 * TOKEN_BYTES, 0, 9)  # what is never kept waits for nothing
    for _ in range(20):
        cache.next_step()
    needed.append("older")
    assert not cache.make_room(6 * TOKEN_BYTES, 0, 9)  # what runs will ask again
    assert not cache.make_room(5 * TOKEN_BYTES, TOKEN_BYTES, 9)
    assert cache.make_room(5 * TOKEN_BYTES, 0, 9)
    put(cache, "third", age=9)
    assert (cache.length("older"), cache.length("young")) == (5, 0)


def _rank(directory: Path, prefix_bytes: int) -> "Bulk":
    """Ten rankings at once: what came out, and tokens that were computed."""
    backend = load_tiny(directory, limits=EngineLimits(prefix_bytes=prefix_bytes))
    candidates = tuple(Candidate(candidate_id=str(i), text=f"film {i} of {i * i}") for i in range(7))
    tasks = [
        RankingTask(task_id=f"t{i}", domain=Domain.OTHER, query=f"two {i}", candidates=candidates) for i in range(10)
    ]

    async def bulk() -> dict[str, RankingTrace]:
        config = RankConfig(mode=Mode.FIXED_BLOCK, think_tokens=12)
        return {t.task_id: t async for t in rank_tasks(tasks, backend, config, max_in_flight=10)}

    traces = asyncio.run(bulk())
    asyncio.run(backend.aclose())
    computed = sum(t.totals.prompt_tokens - t.totals.cached_prompt_tokens for t in traces.values())
    return traces, computed


Bulk = tuple[dict[str, RankingTrace], int]


@pytest.fixture(scope="module")
def free_and_uncached(tiny_model_dir: Path) -> tuple[Bulk, Bulk]:
    return _rank(tiny_model_dir, 1 << 30), _rank(tiny_model_dir, 0)


@pytest.mark.parametrize("num_kept", [700, 1300, 2500])
def test_more_rankings_than_prefixes_fit_compute_hardly_more(
    tiny_model_dir: Path, free_and_uncached: tuple[Bulk, Bulk], num_kept: int
) -> None:
    """Where few of ten rankings fit, a cache that only forgets the least recently used computes every prefix at every step."""
    (free, least), (_, most) = free_and_uncached
    token_bytes = load_tiny(tiny_model_dir)._engine._rows.bytes_per_token
    crowded, computed = _rank(tiny_model_dir, num_kept * token_bytes)
    for task_id, trace in free.items():
        assert crowded[task_id].ranking == trace.ranking
    assert computed < 1.2 * least < 0.3 * most


def test_what_brings_no_prefix_goes_on_while_prefixes_have_no_room(tiny_model_dir: Path) -> None:
    token_bytes = load_tiny(tiny_model_dir)._engine._rows.bytes_per_token
    backend = load_tiny(tiny_model_dir, limits=EngineLimits(prefix_bytes=150 * token_bytes))
    ended: list[str] = []

    async def run(name: str, prefix: str, max_tokens: int, begun: asyncio.Event) -> None:
        request = GenerateRequest(prompt=Prompt(prefix, " two"), max_tokens=max_tokens, priority=10)
        async for _ in backend.generate(request):
            begun.set()
        ended.append(name)

    async def scenario() -> None:
        begun = asyncio.Event()
        running = asyncio.create_task(run("running", "one film " * 20, 60, begun))
        await begun.wait()
        await asyncio.gather(
            running, run("waits", "a b " * 25, 2, asyncio.Event()), run("has none", "", 2, asyncio.Event())
        )

    asyncio.run(scenario())
    assert ended == ["has none", "running", "waits"]
