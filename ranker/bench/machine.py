"""What this machine could do at best: measured bandwidth of its memory and rate of its matrix products. Imports torch late."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple

from ranker.backends.base import LIVE, Backend, GenerateRequest, Prompt, ScoreRequest

_BYTES, _GPU_BYTES = 256 << 20, 4 << 30  # beyond every cache
_SIDE, _GPU_SIDE = 1536, 8192
_KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "products": ("linear", "::mm", "addmm"),
    "attention": ("bmm", "attention", "_softmax", "loop: attend"),
    "copies": ("copy", "::cat", "::index"),
}
"""Of operations, and of compiled loops (`ranker.backends.kernels`): parts of their names, the first that fits."""


class Limits(NamedTuple):
    """The better of several tries."""

    read_bytes_per_s: float
    """Reading memory, as decoding reads weights."""
    float_ops_per_s: float
    """A large matrix product in the precision of the engine (`ranker.backends.device.product_dtype`)."""


def measure_limits() -> Limits:
    """A few seconds. Random numbers: zeros are multiplied faster. On a GPU, memory is copied, and both ways count."""
    import torch

    from ranker.backends.device import product_dtype

    is_gpu = torch.cuda.is_available()
    device, dtype = "cuda" if is_gpu else "cpu", product_dtype()
    num_bytes, side = (_GPU_BYTES, _GPU_SIDE) if is_gpu else (_BYTES, _SIDE)
    numbers = torch.ones(num_bytes // 4, device=device)
    left, right = (torch.randn(side, side, dtype=dtype, device=device) for _ in range(2))
    if is_gpu:
        target = torch.empty_like(numbers)
        read_s = _best(lambda: target.copy_(numbers)) / 2
    else:
        read_s = _best(lambda: numbers.sum())
    product_s = _best(lambda: left @ right)
    return Limits(num_bytes / read_s, 2 * side**3 / product_s)


def wait_for_device() -> None:
    """Until everything that was launched on a GPU, if there is one, is done: before a clock is read."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _best(work: Callable[[], object], tries: int = 12) -> float:
    seconds = []
    for _ in range(tries):
        wait_for_device()
        started = time.perf_counter()
        work()
        wait_for_device()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


class Decoded(NamedTuple):
    """How fast several streams went on together."""

    tokens_per_s: float
    mean_context: float
    """Tokens that a stream looked at."""


async def measure_decode(backend: Backend, num_streams: int, num_tokens: int) -> Decoded:
    """All streams together, from the first token of the last one on."""
    import asyncio

    marks: list[float] = []

    async def stream(number: int) -> tuple[float, float, float]:
        # counting goes on: a stream that ended early would end the measure
        prompt = Prompt("", "".join(f"{100 * number + i}, " for i in range(30)).rstrip())
        request = GenerateRequest(prompt=prompt, max_tokens=num_tokens, priority=LIVE)
        first, context = 0.0, 0.0
        async for chunk in backend.generate(request):
            first = first or time.perf_counter()
            marks.append(time.perf_counter())
            context = chunk.usage.prompt_tokens + chunk.usage.completion_tokens / 2
        return first, time.perf_counter(), context

    done = await asyncio.gather(*(stream(i) for i in range(num_streams)))
    begin, end = max(first for first, _, _ in done), min(last for _, last, _ in done)
    num_inside = sum(begin < at <= end for at in marks)
    mean_context = sum(context for _, _, context in done) / len(done)
    return Decoded(num_inside / (end - begin) if end > begin else 0.0, mean_context)


async def measure_prefill(backend: Backend, num_tokens: int, seeds: Sequence[int], *, is_bulk: bool = False) -> float:
    """Tokens a second over prompts of about `num_tokens` that were not seen before: one by one, or all at once."""
    import asyncio

    requests = []
    for seed in seeds:
        words = " ".join(str((seed * 7919 + i * 104729) % 1000) for i in range(num_tokens // 4))
        requests.append(ScoreRequest(prompt=Prompt("", words), continuations=(" end",), priority=LIVE))
    started = time.perf_counter()
    if is_bulk:
        scores = await asyncio.gather(*(backend.score(request) for request in requests))
    else:
        scores = [await backend.score(request) for request in requests]
    return sum(s.usage.prompt_tokens for s in scores) / (time.perf_counter() - started)


async def measure_shares(work: Callable[[], Awaitable[object]]) -> dict[str, float]:
    """Where the time of some work on a CPU goes: shares of what a profiler, which slows small operations down, sees of it.

    `products`: with the weights. `attention`: with keys and values. `copies`: laying out and conversions. `others`: norms, activations,
    sums. `between`: outside of operations.
    """
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        started = time.perf_counter()  # starting a profiler takes time too
        await work()
        seconds = time.perf_counter() - started
    spent = dict.fromkeys([*_KINDS, "others"], 0.0)
    for event in profiled.key_averages():
        kind = next((k for k, parts in _KINDS.items() if any(part in event.key for part in parts)), "others")
        spent[kind] += event.self_cpu_time_total / 1e6
    shares = {kind: s / seconds for kind, s in spent.items()}
    return {**shares, "between": max(0.0, 1 - sum(shares.values()))}
