"""`bench`: how fast a ranking is here, beside peers on the same model, and how far from the machine's limit."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.cli.options import add_data_dir, add_json, example, read_settings
from studio.cli.output import print_json

if TYPE_CHECKING:
    from ranker.backends import Backend
    from ranker.bench.peers import Peer
    from ranker.bench.runner import Bench
    from ranker.bench.workload import Kind
    from ranker.schema import RankingTask
    from trainer.modelcards import ModelCard

_SAMPLE = Path(__file__).parents[2] / "assets" / "samples" / "recommendation.jsonl"


def add_parser(commands: Any) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "bench",
        help="measure speed beside peers",
        description="Measure rankings on this machine: ours beside the re-prompting loop on the same engine, transformers'\n"
        "generate, llama.cpp and vLLM, on the same model and in the same rounds. Measurements are kept as they are taken: a run that\n"
        "was stopped goes on. Writes JSON, and a table (.md) and a plot (.svg) beside it.",
        epilog=example("bench --out bench.json --rounds 3 --gguf model.gguf", "bench --only machine,live --sizes 5,20"),
    )
    parser.add_argument("--out", metavar="FILE", type=Path, default=Path("bench.json"), help="(default: bench.json)")
    parser.add_argument("--model", metavar="NAME", help="see `models list` (default: the default model)")
    parser.add_argument("--only", metavar="A,B", help="parts: machine, live, bulk, quality (default: all)")
    parser.add_argument(
        "--rounds", metavar="N", type=int, default=3, help="of the machine, 20 candidates and bulk (default: 3)"
    )
    parser.add_argument("--sizes", metavar="N,M", default="5,10,20,50,100", help="candidates (default: 5,10,20,50,100)")
    parser.add_argument(
        "--bulk-tasks",
        metavar="N",
        type=int,
        help="rankings in flight at once in part bulk (default: 12, on a GPU 256)",
    )
    parser.add_argument(
        "--bulk-pools",
        metavar="KIND:N,...",
        default="titles:10",
        help="what is ranked in part bulk: titles or passages, and how many (default: titles:10)",
    )
    parser.add_argument(
        "--method",
        metavar="NAME",
        action="append",
        default=[],
        help="measure only this one of the tables and its variants, such as 'ours, adaptive'; may be given again (default: all)",
    )
    parser.add_argument("--think-tokens", metavar="T", type=int, default=48, help="budget of a thought (default: 48)")
    parser.add_argument("--tasks", metavar="N", type=int, default=20, help="of part quality (default: 20)")
    parser.add_argument("--gguf", metavar="FILE", type=Path, help="the same model for llama.cpp, if that is installed")
    parser.add_argument(
        "--vllm-eager", action="store_true", help="start vLLM, where it is installed, without compiling"
    )
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    add_data_dir(parser)
    add_json(parser)
    parser.set_defaults(run=bench)


def bench(arguments: argparse.Namespace) -> int:
    """Measure what is missing, then write the results."""
    import asyncio

    from ranker.bench.journal import Journal
    from ranker.bench.plot import make_plot
    from ranker.bench.report import make_summary, to_markdown
    from ranker.bench.runner import journal_path, run_bench
    from trainer.registry import Registry

    parts, sizes, pools = _parts(arguments.only), _sizes(arguments.sizes), _pools(arguments.bulk_pools)
    _check_methods(arguments.method)
    settings = read_settings(arguments)
    registry = Registry(settings.models_dir)
    card = registry.card(arguments.model)
    out: Path = arguments.out
    if arguments.fresh:
        journal_path(out).unlink(missing_ok=True)
    journal = Journal(journal_path(out))
    backend = registry.load(card.name)
    plan = _plan(arguments, card, backend, sizes, pools)

    async def run() -> None:
        try:
            await run_bench(plan, journal, parts)
        finally:
            await backend.aclose()

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        print(f"\nStopped. Run it again to go on; {journal_path(out)} keeps what was measured.", file=sys.stderr)
        return 130
    summary = make_summary(list(journal), _setting(arguments, card))
    out.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    text = to_markdown(summary)
    out.with_suffix(".md").write_text(text, encoding="utf-8")
    out.with_suffix(".svg").write_text(make_plot(summary), encoding="utf-8")
    if arguments.json:
        print_json(summary)
    else:
        print(text)
    return 0


def _parts(only: str | None) -> tuple[str, ...]:
    from ranker.bench.runner import PARTS
    from ranker.errors import UsageError

    wanted = PARTS if only is None else tuple(part.strip() for part in only.split(","))
    for part in wanted:
        if part not in PARTS:
            raise UsageError(f"--only: {part!r}: choose from {', '.join(PARTS)}")
    return wanted


def _sizes(text: str) -> tuple[int, ...]:
    from ranker.errors import UsageError
    from ranker.schema import MAX_CANDIDATES, MIN_CANDIDATES

    try:
        sizes = tuple(int(size) for size in text.split(","))
    except ValueError as error:
        raise UsageError(f"--sizes: {text!r}: give numbers such as 5,20") from error
    for size in sizes:
        if not MIN_CANDIDATES <= size <= MAX_CANDIDATES:
            raise UsageError(f"--sizes: {size}: choose {MIN_CANDIDATES} to {MAX_CANDIDATES}")
    return sizes


def _pools(text: str) -> "Sequence[tuple[Kind, int]]":
    from ranker.bench.workload import KINDS
    from ranker.errors import UsageError

    pools: list[tuple[Kind, int]] = []
    for part in text.split(","):
        name, _, size = part.strip().partition(":")
        kind = next((k for k in KINDS if k == name), None)
        if kind is None:
            raise UsageError(f"--bulk-pools: {part!r}: give a kind, one of {', '.join(KINDS)}, and a size: titles:10")
        pools += [(kind, n) for n in _sizes(size)]
    return pools


def _check_methods(names: Sequence[str]) -> None:
    from ranker.bench.peers import PEERS
    from ranker.bench.runner import METHODS
    from ranker.errors import UsageError

    for name in names:
        if name not in (known := (*METHODS, *PEERS)):
            raise UsageError(f"--method: {name!r}: choose from {'; '.join(known)}")


def _plan(
    arguments: argparse.Namespace,
    card: "ModelCard",
    backend: "Backend",
    sizes: Sequence[int],
    pools: "Sequence[tuple[Kind, int]]",
) -> "Bench":
    """Engines are loaded when they are needed, so that the memory of ours is taken alone."""
    from dataclasses import replace

    import torch

    from ranker.backends.limits import default_limits
    from ranker.backends.local import LocalBackend, load_local
    from ranker.bench.runner import Bench
    from ranker.datasets import load_tasks
    from ranker.errors import UsageError

    if not isinstance(backend, LocalBackend):
        raise UsageError(f"--model: {card.name}: its engine is {card.engine}: choose a model with files of its own")
    directory, adapter = Path(card.directory), Path(card.adapter) if card.adapter else None
    tasks: list[RankingTask] = list(load_tasks(_SAMPLE))
    opened: list[Peer] = []
    is_gpu = torch.cuda.is_available()

    def peers() -> "Sequence[Peer]":
        if not opened:
            opened.extend(_open_peers(arguments, directory))
        return opened

    return Bench(
        backend=backend,
        uncached=lambda: backend.with_limits(replace(default_limits(), prefix_bytes=0)),
        unguessed=lambda: backend.with_limits(replace(default_limits(), pass_tokens=0)),
        reference=lambda: load_local(
            directory, name=card.name, adapter=adapter, is_reference=True, dtype=torch.float32
        ),
        peers=peers,
        think_tokens=arguments.think_tokens,
        rounds=arguments.rounds,
        sizes=sizes,
        streams=(1, 16, 64, 256) if is_gpu else (1, 8, 16, 32),
        is_gpu=is_gpu,
        bulk_tasks=arguments.bulk_tasks or (256 if is_gpu else 12),
        bulk_pools=pools,
        methods=arguments.method,
        quality_tasks=tasks[: arguments.tasks],
        same_tasks=tasks[:20],
        report=lambda what: print(what, file=sys.stderr, flush=True),
    )


def _open_peers(arguments: argparse.Namespace, directory: Path) -> "list[Peer]":
    import torch

    from ranker.bench.peers import GENERATE, LLAMA_CPP, VLLM, open_generate, open_llama_cpp, open_vllm

    openers: dict[str, Callable[[], Peer]] = {
        GENERATE: lambda: open_generate(directory),
        LLAMA_CPP: lambda: open_llama_cpp(arguments.gguf, torch.get_num_threads()),
        VLLM: lambda: open_vllm(directory, is_eager=arguments.vllm_eager),
    }
    return [opener() for name, opener in openers.items() if not arguments.method or name in arguments.method]


def _setting(arguments: argparse.Namespace, card: "ModelCard") -> dict[str, Any]:
    import os
    import platform
    from datetime import UTC, datetime
    from importlib.metadata import version

    import torch

    from ranker.backends.device import device_words

    has_gpu = torch.cuda.is_available()
    weight_bytes, kept_bytes = _bytes_a_step_reads(card)
    return {
        "made": datetime.now(UTC).isoformat(timespec="minutes"),
        "model": card.name,
        "parameters": card.num_parameters or 0,
        "bytes_per_parameter": weight_bytes,
        "key_value_bytes_per_token": kept_bytes,
        "thought": f"{arguments.think_tokens} tokens",
        "in flight in bulk": arguments.bulk_tasks or (256 if has_gpu else 12),
        "device": device_words(),
        "threads": torch.get_num_threads(),
        "load at the end": f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores",
        "versions": f"Python {platform.python_version()}, torch {version('torch')}, transformers {version('transformers')}",
    }


def _bytes_a_step_reads(card: "ModelCard") -> tuple[int, int]:
    """Of a weight, and of the keys and values of one token: on a CPU only the matrices are narrow."""
    import torch
    from transformers import AutoConfig

    from ranker.backends.device import matrix_dtype

    config = AutoConfig.from_pretrained(card.directory, local_files_only=True).get_text_config()
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    narrow = matrix_dtype().itemsize
    kept = narrow if torch.cuda.is_available() else torch.float32.itemsize
    return narrow, int(2 * config.num_hidden_layers * config.num_key_value_heads * head_dim * kept)
