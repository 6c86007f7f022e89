"""What this machine could do at best: measured bandwidth of its memory and rate of its matrix products. Imports torch late."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ranker.backends.base import LIVE, Backend, GenerateRequest, Prompt, ScoreRequest

_BYTES = 256 << 20
_SIDE = 1536


class Limits(NamedTuple):
    """The better of several tries."""

    read_bytes_per_s: float
    """Reading memory, as decoding reads weights."""
    float_ops_per_s: float
    """A large matrix product in the precision of the engine: float32 on a CPU, bfloat16 on a GPU."""


def measure_limits() -> Limits:
    """A few seconds."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    numbers = torch.ones(_BYTES // 4, device=device)
    left, right = (torch.ones(_SIDE, _SIDE, dtype=dtype, device=device) for _ in range(2))
    read_s = _best(lambda: numbers.sum(), wait)
    product_s = _best(lambda: left @ right, wait)
    return Limits(_BYTES / read_s, 2 * _SIDE**3 / product_s)


def _best(work: Callable[[], object], wait: Callable[[], None], tries: int = 12) -> float:
    seconds = []
    for _ in range(tries):
        started = time.perf_counter()
        work()
        wait()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


async def measure_decode(backend: Backend, num_streams: int, num_tokens: int) -> float:
    """Tokens a second, all streams together, from the first token of the last one on."""
    import asyncio

    marks: list[tuple[float, int]] = []

    async def stream(number: int) -> tuple[float, float, int]:
        # counting goes on: a stream that ended early would end the measure
        prompt = Prompt("", "".join(f"{100 * number + i}, " for i in range(30)).rstrip())
        request = GenerateRequest(prompt=prompt, max_tokens=num_tokens, priority=LIVE)
        first, count = 0.0, 0
        async for chunk in backend.generate(request):
            first = first or time.perf_counter()
            marks.append((time.perf_counter(), number))
            count = chunk.usage.completion_tokens or count
        return first, time.perf_counter(), count

    done = await asyncio.gather(*(stream(i) for i in range(num_streams)))
    begin, end = max(first for first, _, _ in done), min(last for _, last, _ in done)
    inside = [number for at, number in marks if begin < at <= end]
    return len(inside) / (end - begin) if end > begin else 0.0


async def measure_prefill(backend: Backend, num_tokens: int, seeds: Sequence[int]) -> float:
    """Tokens a second over prompts of about `num_tokens` that were not seen before."""
    total, started = 0, time.perf_counter()
    for seed in seeds:
        words = " ".join(str((seed * 7919 + i * 104729) % 1000) for i in range(num_tokens // 4))
        scores = await backend.score(ScoreRequest(prompt=Prompt("", words), continuations=(" end",), priority=LIVE))
        total += scores.usage.prompt_tokens
    return total / (time.perf_counter() - started)
