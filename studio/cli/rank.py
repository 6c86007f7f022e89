"""`rank`: every task of a file or dataset, resumable."""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.cli.options import add_data_dir, add_json, example, find_dataset, open_library, read_settings
from studio.cli.output import print_json

if TYPE_CHECKING:
    from ranker.backends import Backend
    from ranker.elimination import Guide, RankConfig
    from ranker.schema import RankingTask, RankingTrace
    from studio.runsummary import RunSummary
    from studio.settings import Settings
    from trainer.modelcards import ModelCard
    from trainer.registry import Registry

INTERRUPTED = 130
_FLAGS = {"last_pool": "--last", "tail_share": "--tail"}


def add_parser(commands: Any) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "rank",
        help="rank every task of a file",
        description="Rank every task of a file or of a stored dataset. Traces are written as they are finished; with --out a\n"
        "run that was stopped goes on where it was. Without --out the traces go to standard output.",
        epilog=example(
            "rank assets/samples/passage.jsonl --out traces.jsonl", "rank films --limit 10 --think-tokens 0 --json"
        ),
    )
    parser.add_argument("tasks", metavar="TASKS", help="a file of tasks, or the name of a stored dataset")
    parser.add_argument("--model", metavar="NAME", help="see `models list` (default: the default model)")
    parser.add_argument("--mode", default="iterative", help="how a ranking is made (default: iterative, the paper's)")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write the traces here, and skip tasks that it has")
    parser.add_argument("--limit", metavar="N", type=_positive, help="only the first N tasks")
    parser.add_argument(
        "--seed", metavar="S", type=int, default=0, help="order in which candidates are shown (default: 0)"
    )
    parser.add_argument(
        "--think-tokens", metavar="T", type=int, help="budget of one thought (default: the model's own, else 48)"
    )
    parser.add_argument(
        "--answer",
        choices=("auto", "free", "scored", "likelihood"),
        default="auto",
        help="free: the model writes its answer; scored: the titles' log-probabilities decide; likelihood: the same without "
        "naming the pool or thinking; auto: as its card says",
    )
    parser.add_argument(
        "--thoughts", metavar="BANK", type=Path, help="show thoughts about similar queries (see `thoughts`)"
    )
    parser.add_argument(
        "--ask",
        choices=("worst", "best"),
        default="worst",
        help="worst: each step names the worst (default); best: it asks for the best, the least probable one goes",
    )
    parser.add_argument(
        "--last", metavar="M", type=_positive, default=5, help="adaptive: think about the last M (default: 5)"
    )
    parser.add_argument(
        "--tail",
        metavar="SHARE",
        type=float,
        default=1.0,
        help="adaptive: drop who is less probable than this share of an even chance (default: 1)",
    )
    parser.add_argument(
        "--no-reshuffle", action="store_true", help="adaptive: do not check the clear tail in a second order"
    )
    parser.add_argument(
        "--batch", metavar="N", type=_positive, default=32, help="tasks in flight at once (default: 32)"
    )
    add_data_dir(parser)
    add_json(parser)
    parser.set_defaults(run=rank)


def rank(arguments: argparse.Namespace) -> int:
    """`rank`"""
    from ranker.elimination import AnswerFormat
    from ranker.errors import UsageError
    from ranker.tracefile import drop_torn_line
    from studio.cli.models import ensure_model
    from studio.runsummary import RunSummary
    from trainer.registry import Registry

    _check_mode(arguments.mode)
    settings = read_settings(arguments)
    guide = _read_thoughts(arguments.thoughts)
    with ExitStack() as stack:
        tasks = read_tasks(arguments.tasks, arguments.limit, settings, stack)
        registry = Registry(settings.models_dir)
        config = _make_config(arguments)
        card = registry.card(ensure_model(registry, arguments.model))
        own = card.ranking_defaults()
        if arguments.answer == "auto":
            config = config.model_copy(update={"answer_format": own["answer_format"]})
        if arguments.think_tokens is None and "think_tokens" in own:
            config = config.model_copy(update={"think_tokens": own["think_tokens"]})
        if arguments.out and (dropped := drop_torn_line(arguments.out)):
            print(f"{arguments.out}: the last line was torn: {dropped} bytes dropped", file=sys.stderr)
        if guide is not None and config.answer_format is AnswerFormat.LIKELIHOOD:
            raise UsageError(
                f"--thoughts: {arguments.thoughts}: {card.name} answers by likelihood and reads none: add --answer scored"
            )
        done = _read_done(arguments.out, card.name, config, guide)
        summary, pending = RunSummary(card.server.cost if card.server else None), []
        for task in tasks:
            if (trace := done.get(task.task_id)) is None:
                pending.append(task)
            else:
                summary.add(task, trace, is_new=False)
        is_complete = not pending or _rank_pending(pending, registry, card, config, guide, arguments, summary)
    _print_summary(summary, arguments)
    return 0 if is_complete else INTERRUPTED


def _check_mode(mode: str) -> None:
    from ranker.elimination import MODES
    from ranker.errors import UsageError

    if mode not in MODES:
        raise UsageError(f"--mode: {mode!r}: does not run: choose one of {', '.join(MODES)}")


def read_tasks(source: str, limit: int | None, settings: "Settings", stack: ExitStack) -> "Sequence[RankingTask]":
    """All tasks that are wanted; the whole source is checked before the first one is ranked.

    Raises:
        DatasetError: `file:line: field: value: fix`.
        UsageError: if there is neither a file nor a dataset of that name.
    """
    from ranker.errors import DatasetError

    if Path(source).exists():
        from ranker.datasets import load_tasks

        found: Iterable[RankingTask] = load_tasks(Path(source))
    elif "/" in source or Path(source).suffix in (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".zip", ".gz"):
        raise DatasetError(f"{source}: file: not found: check the path")
    else:
        library = stack.enter_context(open_library(settings))
        found = library.iter_tasks(find_dataset(library, source).id)
    tasks, seen = list(islice(found, limit)), set[str]()
    for task in tasks:
        if task.task_id in seen:
            raise DatasetError(f"{source}: task_id: {task.task_id!r}: appears twice: rename one")
        seen.add(task.task_id)
    return tasks


def _make_config(arguments: argparse.Namespace) -> "RankConfig":
    """What the flags say; checked before a model is fetched or loaded."""
    from pydantic import ValidationError

    from ranker.elimination import AnswerFormat, RankConfig
    from ranker.errors import UsageError
    from ranker.schema import Ask, Mode

    answer_format = AnswerFormat.SCORED if arguments.answer == "auto" else AnswerFormat(arguments.answer)
    try:
        return RankConfig(
            mode=Mode(arguments.mode),
            seed=arguments.seed,
            think_tokens=48 if arguments.think_tokens is None else arguments.think_tokens,
            answer_format=answer_format,
            ask=Ask(arguments.ask),
            last_pool=arguments.last,
            tail_share=arguments.tail,
            is_reshuffled=not arguments.no_reshuffle,
        )
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        flag = _FLAGS.get(field, "--" + field.replace("_", "-"))
        raise UsageError(f"{flag}: {first['input']}: {first['msg']}") from error


def _read_thoughts(path: Path | None) -> "Guide | None":
    """The thought bank, where one is named."""
    from ranker.thoughtbank import read_bank

    if path is None:
        return None
    bank = read_bank(path)
    print(f"Thoughts about similar queries are found by {bank.retriever}.", file=sys.stderr)
    return bank


def _read_done(out: Path | None, model: str, config: "RankConfig", guide: "Guide | None") -> "dict[str, RankingTrace]":
    """Traces that an earlier run of the same settings left in `out`, by task."""
    from ranker.elimination import prompt_version
    from ranker.tracefile import RunKey, check_same_run, read_traces

    if out is None or not out.exists():
        return {}
    key = RunKey(model, config.mode, config.seed, prompt_version(config, guide))
    done = {}
    for number, trace in enumerate(read_traces(out), 1):
        check_same_run(trace, key, f"{out}:{number}")
        done[trace.task_id] = trace
    return done


def _rank_pending(
    pending: "Sequence[RankingTask]",
    registry: "Registry",
    card: "ModelCard",
    config: "RankConfig",
    guide: "Guide | None",
    arguments: argparse.Namespace,
    summary: "RunSummary",
) -> bool:
    """Rank and write; returns False if Ctrl-C ended it early."""
    import asyncio

    with _open_sink(arguments.out) as keep:
        print(f"Loading {card.name} ...", file=sys.stderr, flush=True)
        backend = registry.load(card.name)
        started = time.perf_counter()
        try:
            asyncio.run(_rank_all(pending, backend, config, guide, arguments.batch, summary, keep))
        except KeyboardInterrupt:
            kept = f"; run it again to go on, {arguments.out} keeps what is finished" if arguments.out else ""
            print(f"\nStopped after {summary.num_now} of {len(pending)} tasks{kept}.", file=sys.stderr)
            return False
        finally:
            summary.wall_s = time.perf_counter() - started
    return True


async def _rank_all(
    pending: "Sequence[RankingTask]",
    backend: "Backend",
    config: "RankConfig",
    guide: "Guide | None",
    max_in_flight: int,
    summary: "RunSummary",
    keep: "Callable[[RankingTrace], None]",
) -> None:
    from tqdm import tqdm

    from ranker.elimination import rank_tasks

    by_id = {task.task_id: task for task in pending}
    try:
        with tqdm(total=len(pending), unit="task", file=sys.stderr, disable=None, dynamic_ncols=True) as bar:
            async for trace in rank_tasks(pending, backend, config, max_in_flight=max_in_flight, guide=guide):
                keep(trace)
                summary.add(by_id[trace.task_id], trace, is_new=True)
                bar.update()
    finally:
        await backend.aclose()


@contextmanager
def _open_sink(out: Path | None) -> "Iterator[Callable[[RankingTrace], None]]":
    """Where finished traces go: the file, or standard output."""
    from ranker.tracefile import TraceWriter

    if out is None:
        yield lambda trace: print(trace.model_dump_json(), flush=True)
        return
    with TraceWriter(out) as writer:
        yield writer.add


def _print_summary(summary: "RunSummary", arguments: argparse.Namespace) -> None:
    if arguments.json and arguments.out:
        print_json(summary.as_dict())
        return
    stream = sys.stdout if arguments.out else sys.stderr
    for name, text in summary.lines():
        print(f"{name:<13} {text}", file=stream)


def _positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number
