"""The benchmark on a scripted backend: what is measured, that it goes on, and what the report makes of it."""

import asyncio
import itertools
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

from ranker.backends.base import Chunk, GenerateRequest, Prompt
from ranker.backends.scripted import ScriptedBackend
from ranker.bench.journal import Cost, Journal, Key, Measurement
from ranker.bench.machine import measure_shares
from ranker.bench.methods import measure_chain, shown_candidates
from ranker.bench.peers import Peer, open_vllm
from ranker.bench.plot import make_plot
from ranker.bench.report import make_summary, ratio, to_markdown
from ranker.bench.runner import Bench, run_bench
from ranker.bench.workload import Kind, make_speed_task, twin
from ranker.prompts import render_exclusion
from ranker.schema import Candidate, RankingTask

SETTING = {"parameters": 100, "bytes_per_parameter": 4}


def answered_tasks() -> list[RankingTask]:
    tasks = [make_speed_task("titles", 6, seed) for seed in range(3)]
    return [task.model_copy(update={"relevance": {"c1": 1.0}}) for task in tasks]


def make_bench(reported: list[str]) -> Bench:
    def slow(_prompt: Prompt, think_tokens: int) -> Cost:
        return Cost(seconds=1.0, num_steps=1, prompt_tokens=100, completion_tokens=think_tokens)

    def slow_batch(prompts: Sequence[Prompt], think_tokens: int) -> Cost:
        return Cost(seconds=1.0, num_steps=len(prompts), completion_tokens=len(prompts) * think_tokens)

    return Bench(
        backend=ScriptedBackend(),
        uncached=ScriptedBackend,
        unguessed=ScriptedBackend,
        reference=ScriptedBackend,
        peers=lambda: [Peer("slow", slow, ask_all=slow_batch), Peer("absent", None, "it is not installed")],
        rounds=2,
        sizes=(4, 20),
        bulk_tasks=3,
        bulk_pools=(("titles", 4), ("passages", 3)),
        quality_tasks=answered_tasks(),
        same_tasks=answered_tasks(),
        report=reported.append,
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    path, reported = tmp_path_factory.mktemp("bench") / "bench.journal.jsonl", list[str]()
    asyncio.run(run_bench(make_bench(reported), Journal(path), ("live", "bulk", "quality")))
    return path, reported


def test_one_method_is_measured_alone_with_its_variants(tmp_path: Path) -> None:
    reported, journal = list[str](), Journal(tmp_path / "bench.journal.jsonl")
    bench = replace(make_bench(reported), methods=["ours, adaptive", "slow"])
    asyncio.run(run_bench(bench, journal, ("live", "bulk")))
    live, bulk = ({m.method for m in journal if m.part == part and m.cost} for part in ("live", "bulk"))
    assert live == {"ours, adaptive", "ours, adaptive, one look", "ours, adaptive, nothing guessed", "slow"}
    assert bulk == {"ours, adaptive", "slow", "slow, in batches"}
    assert {(m.kind, m.size) for m in journal if m.part == "bulk"} == {("titles", 4), ("passages", 3)}


def test_a_run_that_was_stopped_goes_on(measured: tuple[Path, list[str]]) -> None:
    path, reported = measured
    assert any("slow, 20 passages, round 2" in line for line in reported)
    whole = path.read_text(encoding="utf-8")
    lines = whole.splitlines()
    torn = path.with_name("torn.jsonl")
    torn.write_text("\n".join(lines[:7]) + "\n" + lines[7][:20], encoding="utf-8")
    again: list[str] = []
    asyncio.run(run_bench(make_bench(again), Journal(torn), ("live",)))
    live = [line for line in reported if line.startswith("live")]
    num_costs = sum(m.cost is not None for m in map(Measurement.model_validate_json, lines[:7]))
    assert again == live[num_costs:]
    assert {m.key for m in Journal(torn)} == {m.key for m in Journal(path) if m.part == "live"}


def test_the_report_has_ratios_reasons_and_quality(measured: tuple[Path, list[str]]) -> None:
    summary = make_summary(list(Journal(measured[0])), SETTING)
    text = to_markdown(summary)
    assert "absent: it is not installed" in text and "rank_llm" in text
    assert "3 equal rankings; 15 of 15 exclusions" in text
    assert "Adaptive against one at a time on 3 tasks" in text
    bulk = next(c for c in summary["cases"] if c["part"] == "bulk")
    batches = next(row for row in bulk["methods"] if row["method"] == "slow, in batches")
    assert (batches["steps"], batches["decode_tokens"]) == (3, 3 * 48)
    headline = next(c for c in summary["cases"] if (c["kind"], c["size"], c["part"]) == ("titles", 20, "live"))
    slow = next(row for row in headline["methods"] if row["method"] == "slow")
    assert slow["seconds"] == pytest.approx(19)
    assert slow["is_sampled"] and slow["prefill_tokens"] == 1900
    assert slow["times"]["ours, fixed-block"]["middle"] > 1
    drawing = ET.fromstring(make_plot(summary))
    assert "slow" in [element.text for element in drawing.iter() if element.tag.endswith("text")]


def test_ratios_are_taken_within_a_round() -> None:
    def one(method: str, round_: int, seconds: float) -> Measurement:
        return Measurement.of(Key("live", method, "titles", 20, round_), cost=Cost(seconds=seconds))

    found = [one("a", 0, 10), one("b", 0, 1), one("a", 1, 40), one("b", 1, 2), one("a", 2, 99)]
    assert ratio(found, ("live", "titles", 20), "a", "b") == (15, 10, 20)
    assert ratio(found, ("live", "titles", 20), "a", "c") is None


@pytest.mark.parametrize(("size", "asked"), [(4, [4, 3, 2]), (20, [20, 10])])
def test_long_rankings_are_sampled_and_short_ones_are_not(size: int, asked: list[int]) -> None:
    pools: list[int] = []

    async def step(pool: Sequence[Candidate]) -> Cost:
        pools.append(len(pool))
        return Cost(seconds=float(len(pool)), num_steps=1, prompt_tokens=len(pool))

    task = make_speed_task("titles", size, 0)
    cost = asyncio.run(measure_chain(task, step))
    assert pools == asked
    exact = sum(range(2, size + 1))
    assert cost.num_steps == size - 1
    assert cost.seconds == pytest.approx(exact, rel=0.05)
    assert len(shown_candidates(task)) == size


def test_tasks_of_a_size_differ_by_seed_only() -> None:
    assert make_speed_task("passages", 5, 1) == make_speed_task("passages", 5, 1)
    assert make_speed_task("passages", 5, 1).candidates != make_speed_task("passages", 5, 2).candidates
    words = [len(c.text.split()) for c in make_speed_task("passages", 5, 1).candidates]
    assert min(words) > 80


@pytest.mark.parametrize("kind", ["titles", "passages"])
def test_twins_are_as_long_and_differ_before_their_candidates(kind: Kind) -> None:
    task = make_speed_task(kind, 5, 1)
    first, second = (render_exclusion(twin(task, n), task.candidates, lambda _, user: user) for n in (0, 1))
    assert first.suffix == second.suffix and first.prefix != second.prefix
    assert len(first.prefix) == len(second.prefix)


def test_no_method_finds_what_another_one_has_computed() -> None:
    """Every live ranking of ours starts with a prefix that no other one has."""
    backend = ScriptedBackend()
    seen: list[set[str]] = []
    plain = backend.generate

    def generate(request: GenerateRequest) -> AsyncIterator[Chunk]:
        seen[-1].add(request.prompt.prefix)
        return plain(request)

    backend.generate = generate  # type: ignore[method-assign]
    bench = replace(make_bench([]), backend=backend, sizes=(20,), rounds=1, report=lambda _: seen.append(set()))
    with TemporaryDirectory() as place:
        asyncio.run(run_bench(bench, Journal(Path(place) / "journal.jsonl"), ("live",)))
    thought = [prefixes for prefixes in seen if prefixes]
    assert len(thought) >= 8
    assert all(not a & b for a, b in itertools.combinations(thought, 2))


def test_a_peer_that_is_not_here_says_why_in_one_line(tmp_path: Path) -> None:
    peer = open_vllm(tmp_path)
    assert peer.ask is None
    assert peer.note.startswith(("it is not installed", "it does not start: "))
    assert "\n" not in peer.note


def test_a_step_reads_the_weights_and_what_its_streams_look_at() -> None:
    numbers = {"read_bytes_per_s": 1000.0, "float_ops_per_s": 1e9, "peak_rss_bytes": 2**20, "peak_gpu_bytes": 2**21}
    numbers |= {"decode_2": 1.0, "context_2": 50.0, "prefill": 5.0, "prefill_bulk": 50.0}
    measured = [Measurement.of(Key("machine", "limits"), numbers=numbers)]
    summary = make_summary(measured, SETTING | {"key_value_bytes_per_token": 6})
    assert summary["limits"]["decode_2_limit"] == pytest.approx(2 / ((100 * 4 + 2 * 50 * 6) / 1000))
    text = to_markdown(summary)
    assert "| decode, 2 streams | 1.0 | 2.0 | 2.00 | 50.0% |" in text
    assert "of the GPU 2 MiB" in text and "many prompts of 600 tokens at once" in text


def test_a_profile_says_what_the_time_went_on() -> None:
    async def multiply() -> None:
        weights = torch.ones(1200, 1200)
        for _ in range(8):
            torch.mm(weights, weights)

    async def wait() -> None:
        await asyncio.sleep(0.05)

    found = {name: asyncio.run(measure_shares(work)) for name, work in (("decode", multiply), ("wait", wait))}
    assert found["decode"]["products"] > 0.5 and found["wait"]["between"] > 0.9
    assert all(sum(shares.values()) == pytest.approx(1) for shares in found.values())
    measured = [Measurement.of(Key("profile", name), numbers=shares) for name, shares in found.items()]
    text = to_markdown(make_summary(measured, SETTING))
    assert "| | products | attention | copies | others | between |" in text and "| wait | 0% |" in text
