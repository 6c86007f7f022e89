"""The parts of the benchmark. In a round every method takes a twin of the same task in turn, so that ratios are of the same minutes."""

import asyncio
import operator
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from typing import Final

from ranker.backends.base import LIVE, Backend, Prompt
from ranker.bench.journal import Cost, Journal, Key, Measurement
from ranker.bench.machine import measure_decode, measure_limits, measure_prefill, measure_shares
from ranker.bench.methods import (
    fixed_prompt,
    generate_cost,
    iterative_prompt,
    measure_chain,
    measure_mode,
    shown_candidates,
)
from ranker.bench.peers import NOT_RUN, AskAll, Peer
from ranker.bench.report import ADAPTIVE, FIXED
from ranker.bench.workload import KINDS, Kind, make_speed_task, twin
from ranker.elimination import RankConfig, rank_tasks
from ranker.errors import BackendError
from ranker.metrics import reciprocal_rank
from ranker.schema import Candidate, Mode, RankingTask, RankingTrace

PARTS: Final = ("machine", "live", "bulk", "quality")
HEADLINE: Final = 20
"""The size that is measured in every round, with every method."""
REPROMPT: Final = "re-prompt, same engine"
_UNGUESSED: Final = f"{ADAPTIVE}, nothing guessed"
_OURS: Final = {
    FIXED: RankConfig(mode=Mode.FIXED_BLOCK),
    ADAPTIVE: RankConfig(mode=Mode.ADAPTIVE),
    f"{ADAPTIVE}, one look": RankConfig(mode=Mode.ADAPTIVE, is_reshuffled=False),
    _UNGUESSED: RankConfig(mode=Mode.ADAPTIVE),
    "ours, iterative": RankConfig(mode=Mode.ITERATIVE),
}
_CURVE: Final = (FIXED, ADAPTIVE)
"""Those of `_OURS` that are measured everywhere; the others at the headline size only."""
METHODS: Final = (*_OURS, REPROMPT)
_SLOW_BEYOND: Final = 50
_WARM_UP_TOKENS: Final = 16
_PREFILL_AT_ONCE: Final = 64

Report = Callable[[str], None]
"""Is told what is being measured."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Everything that is measured, and with what."""

    backend: Backend
    """Ours."""
    uncached: Callable[[], Backend]
    """The same engine without its prefix cache."""
    unguessed: Callable[[], Backend]
    """The same engine that guesses no tokens: how fast it decodes what nobody can guess."""
    reference: Callable[[], Backend]
    """The modules of transformers behind the same engine."""
    peers: Callable[[], Sequence[Peer]]
    think_tokens: int = 48
    rounds: int = 3
    sizes: Sequence[int] = (5, 10, 20, 50, 100)
    streams: Sequence[int] = (1, 8, 16, 32)
    """How many decode together where decoding is measured."""
    is_gpu: bool = False
    """What comes first is done once before it is measured: kernels are chosen and graphs captured then."""
    bulk_tasks: int = 12
    """All in flight at once."""
    bulk_pools: Sequence[tuple[Kind, int]] = (("titles", 10),)
    methods: Sequence[str] = ()
    """Those that are measured, with their variants, by the names in the tables; none = all."""
    quality_tasks: Sequence[RankingTask] = ()
    same_tasks: Sequence[RankingTask] = ()
    report: Report

    def wants(self, method: str) -> bool:
        """Whether a method is to be measured."""
        return not self.methods or any(f"{method}, ".startswith(f"{name}, ") for name in self.methods)


async def run_bench(bench: Bench, journal: Journal, parts: Sequence[str]) -> None:
    """Measure what the journal does not have yet."""
    runs: dict[str, Callable[[Bench, Journal], Awaitable[None]]] = {
        "machine": _run_machine,
        "live": _run_live,
        "bulk": _run_bulk,
        "quality": _run_quality,
    }
    for part in PARTS:
        if part in parts:
            await runs[part](bench, journal)


async def _run_machine(bench: Bench, journal: Journal) -> None:
    unguessed = bench.unguessed()
    for round_ in range(bench.rounds):
        key = Key("machine", "limits", round=round_)
        if journal.has(key):
            continue
        bench.report(f"machine, round {round_ + 1}")
        limits = measure_limits()
        numbers = {"read_bytes_per_s": limits.read_bytes_per_s, "float_ops_per_s": limits.float_ops_per_s}
        for streams in bench.streams:
            for _ in range(2 if bench.is_gpu else 1):
                found = await measure_decode(unguessed, streams, 96 if bench.is_gpu else 32)
            numbers[f"decode_{streams}"] = found.tokens_per_s
            numbers[f"context_{streams}"] = found.mean_context
        numbers["prefill"] = await measure_prefill(bench.backend, 600, [1000 * round_, 1000 * round_ + 1])
        if bench.is_gpu:
            seeds = range(1000 * round_ + 2, 1000 * round_ + 2 + _PREFILL_AT_ONCE)
            numbers["prefill_bulk"] = await measure_prefill(bench.backend, 600, seeds, is_bulk=True)
            numbers["peak_gpu_bytes"] = _peak_gpu()
        numbers["peak_rss_bytes"] = _peak_rss()
        journal.add(Measurement.of(key, numbers=numbers))
    if not bench.is_gpu:
        most = max(bench.streams)
        works: dict[str, Callable[[], Awaitable[object]]] = {
            f"decode, {most} streams": partial(measure_decode, unguessed, most, 64),
            "prefill, 600 tokens": partial(measure_prefill, bench.backend, 600, range(-4, 0)),
        }
        for name, work in works.items():
            if not journal.has(key := Key("profile", name)):
                bench.report(f"profile: {name}")
                journal.add(Measurement.of(key, numbers=await measure_shares(work)))
    await unguessed.aclose()


async def _run_live(bench: Bench, journal: Journal) -> None:
    unguessed = bench.unguessed()
    for kind, size in [(k, s) for k in KINDS for s in bench.sizes]:
        is_headline = size == HEADLINE
        for round_ in range(bench.rounds if is_headline else 1):
            task = make_speed_task(kind, size, round_)
            # everybody ranks a twin, so that nobody finds another's prefix computed
            for number, name in enumerate(_OURS if is_headline else _CURVE):
                config = _OURS[name].model_copy(update={"think_tokens": bench.think_tokens, "priority": LIVE})
                key = Key("live", name, kind, size, round_)
                backend = unguessed if name == _UNGUESSED else bench.backend
                await _measure(bench, journal, key, partial(measure_mode, twin(task, number), backend, config))
            for peer in bench.peers():
                if peer.is_cached or size <= _SLOW_BEYOND:
                    key = Key("live", peer.name, kind, size, round_)
                    await _measure_peer(bench, journal, key, peer, twin(task, len(_OURS)))
    await unguessed.aclose()
    for name, reason in NOT_RUN.items():
        journal.add(Measurement(part="live", method=name, note=reason))


async def _measure(bench: Bench, journal: Journal, key: Key, work: Callable[[], Awaitable[Cost]]) -> None:
    if journal.has(key) or not bench.wants(key.method):
        return
    bench.report(f"{key.part}: {key.method}, {key.size} {key.kind}, round {key.round + 1}")
    try:
        journal.add(Measurement.of(key, cost=await work()))
    except BackendError as error:
        journal.add(Measurement.of(key, note=str(error)))


async def _measure_peer(bench: Bench, journal: Journal, key: Key, peer: Peer, task: RankingTask) -> None:
    if peer.ask is None and bench.wants(peer.name):
        absent = Key(key.part, key.method)
        if not journal.has(absent):
            journal.add(Measurement.of(absent, note=peer.note))
    if peer.ask is None:
        return
    ask, render = peer.ask, fixed_prompt if peer.is_cached else iterative_prompt

    async def step(pool: Sequence[Candidate]) -> Cost:
        prompt = render(task, pool, bench.backend)
        if bench.backend.count_tokens([prompt.text])[0] + bench.think_tokens > bench.backend.context_tokens:
            raise BackendError("the prompt does not fit into the model's context")
        return ask(prompt, bench.think_tokens)

    await _measure(bench, journal, key, partial(measure_chain, task, step))


async def _run_bulk(bench: Bench, journal: Journal) -> None:
    """Peers that take one ranking after the other are measured on one: their bulk is that, times the number of tasks."""
    uncached = bench.uncached()
    for kind, size in bench.bulk_pools:
        if bench.is_gpu:
            bench.report("bulk: warming up")
            warm = [make_speed_task(kind, size, seed) for seed in range(bench.bulk_tasks)]
            for name in filter(bench.wants, _CURVE):
                config = _OURS[name].model_copy(update={"think_tokens": _WARM_UP_TOKENS})
                await _rank_all(warm, bench.backend, config)
        for round_ in range(bench.rounds):
            seeds = range(100 * (round_ + 1), 100 * (round_ + 1) + bench.bulk_tasks)
            tasks = [make_speed_task(kind, size, seed) for seed in seeds]
            for number, name in enumerate(_CURVE):
                key = Key("bulk", name, kind, size, round_)
                config = _OURS[name].model_copy(update={"think_tokens": bench.think_tokens})
                twins = [twin(task, number) for task in tasks]
                await _measure(bench, journal, key, partial(_rank_all, twins, bench.backend, config))
            key = Key("bulk", REPROMPT, kind, size, round_)
            one_by_one = partial(_ask_engine, uncached, bench.think_tokens)
            await _measure(bench, journal, key, partial(_lock_step, tasks, uncached, one_by_one))
            for peer in bench.peers():
                if peer.ask_all is not None:
                    together = partial(_ask_peer, peer.ask_all, bench.think_tokens)
                    key = Key("bulk", f"{peer.name}, in batches", kind, size, round_)
                    await _measure(bench, journal, key, partial(_lock_step, tasks, bench.backend, together))
                await _measure_peer(bench, journal, Key("bulk", peer.name, kind, size, round_), peer, tasks[0])
    await uncached.aclose()


async def _rank_all(tasks: Sequence[RankingTask], backend: Backend, config: RankConfig) -> Cost:
    """All tasks together; cost of one = the whole over their number."""
    started = time.perf_counter()
    traces = [trace async for trace in rank_tasks(tasks, backend, config, max_in_flight=len(tasks))]
    seconds = (time.perf_counter() - started) / len(tasks)
    totals = [trace.totals for trace in traces]
    return Cost(
        seconds=seconds,
        num_steps=sum(t.num_steps for t in totals) // len(tasks),
        prompt_tokens=sum(t.prompt_tokens for t in totals) // len(tasks),
        cached_tokens=sum(t.cached_prompt_tokens for t in totals) // len(tasks),
        completion_tokens=sum(t.completion_tokens for t in totals) // len(tasks),
    )


async def _ask_engine(backend: Backend, think_tokens: int, prompts: Sequence[Prompt]) -> list[Cost]:
    return await asyncio.gather(*(generate_cost(backend, prompt, think_tokens) for prompt in prompts))


async def _ask_peer(ask_all: AskAll, think_tokens: int, prompts: Sequence[Prompt]) -> list[Cost]:
    return [ask_all(prompts, think_tokens)]


async def _lock_step(
    tasks: Sequence[RankingTask], backend: Backend, ask: Callable[[Sequence[Prompt]], Awaitable[list[Cost]]]
) -> Cost:
    """The loop of the paper's reference: all tasks take a step together, with a full prompt each, then the next step."""
    started, costs = time.perf_counter(), list[Cost]()
    shown = {task.task_id: shown_candidates(task) for task in tasks}
    for size in range(len(tasks[0].candidates), 1, -1):
        costs += await ask([iterative_prompt(task, shown[task.task_id][:size], backend) for task in tasks])
    whole = reduce(operator.add, costs)
    return whole.model_copy(
        update={
            "seconds": (time.perf_counter() - started) / len(tasks),
            "first_token_s": None,
            "num_steps": whole.num_steps // len(tasks),
            "prompt_tokens": whole.prompt_tokens // len(tasks),
            "completion_tokens": whole.completion_tokens // len(tasks),
        }
    )


async def _run_quality(bench: Bench, journal: Journal) -> None:
    """Does the speed cost anything? Same decisions as the reference; adaptive beside one-at-a-time on tasks with an answer."""
    if bench.same_tasks and not journal.has(Key("quality", "same as transformers")):
        bench.report(f"quality: the same {len(bench.same_tasks)} tasks on transformers' modules")
        config = RankConfig(mode=Mode.FIXED_BLOCK, think_tokens=16)
        ours = await _traces(bench.same_tasks, bench.backend, config)
        reference = bench.reference()
        theirs = await _traces(bench.same_tasks, reference, config)
        await reference.aclose()
        steps = [(a, b) for x, y in zip(ours, theirs, strict=True) for a, b in zip(x.steps, y.steps, strict=True)]
        numbers = {
            "tasks": float(len(ours)),
            "same_rankings": float(sum(x.ranking == y.ranking for x, y in zip(ours, theirs, strict=True))),
            "steps": float(len(steps)),
            "same_exclusions": float(sum(a.excluded_id == b.excluded_id for a, b in steps)),
            "same_thoughts": float(sum(a.reasoning == b.reasoning for a, b in steps)),
        }
        journal.add(Measurement(part="quality", method="same as transformers", numbers=numbers))
    for mode in (Mode.FIXED_BLOCK, Mode.ADAPTIVE):
        if bench.quality_tasks and not journal.has(Key("quality", mode.value)):
            bench.report(f"quality: {mode.value} on {len(bench.quality_tasks)} tasks with a known answer")
            config = RankConfig(mode=mode, think_tokens=bench.think_tokens)
            traces = await _traces(bench.quality_tasks, bench.backend, config)
            numbers = {"completion_tokens": float(sum(t.totals.completion_tokens for t in traces))}
            numbers["disputed_steps"] = float(sum(s.is_disputed for t in traces for s in t.steps))
            for task, trace in zip(bench.quality_tasks, traces, strict=True):
                numbers[f"rr {task.task_id}"] = reciprocal_rank(trace.ranking, task.relevance) or 0.0
            journal.add(Measurement(part="quality", method=mode.value, numbers=numbers))


async def _traces(tasks: Sequence[RankingTask], backend: Backend, config: RankConfig) -> list[RankingTrace]:
    found = {t.task_id: t async for t in rank_tasks(tasks, backend, config)}
    return [found[task.task_id] for task in tasks]


def _peak_rss() -> float:
    """Of this process so far; ours alone, as no peer is loaded yet when it is taken."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else peak * 1024)


def _peak_gpu() -> float:
    """Of this process so far."""
    import torch

    return float(torch.cuda.max_memory_allocated())


def journal_path(out: Path) -> Path:
    """Where the measurements of a results file are."""
    return out.with_suffix(".journal.jsonl")
