"""`faithfulness`: does the reasoning of traces decide?"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.cli.options import add_data_dir, add_json, example, read_settings
from studio.cli.output import Progress, print_json, print_table

if TYPE_CHECKING:
    from ranker.faithfulness import Faithfulness
    from ranker.statistics import Interval


def add_parser(commands: Any) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "faithfulness",
        help="measure whether the reasoning of traces decides",
        description="Take the decisions of traces again without their thought, behind a thought about another task, and with two names of\n"
        "the thought exchanged: how often does the answer change, how far do the probabilities move, and does the answer follow\n"
        "the exchanged name? Intervals resample tasks. With --out, a run that was stopped is gone on with by the same command.",
        epilog=example("faithfulness films.jsonl traces.jsonl --limit 200 --out faithfulness.json"),
    )
    parser.add_argument("tasks", metavar="TASKS", help="the tasks of the traces: a file or a stored dataset")
    parser.add_argument("traces", metavar="TRACES", type=Path, help="what `rank --think-tokens T --out` wrote")
    parser.add_argument("--model", metavar="NAME", help="(default: the one that wrote the traces)")
    parser.add_argument("--limit", metavar="N", type=int, help="steps at most, spread over all")
    parser.add_argument("--out", metavar="FILE.json", type=Path, help="write every step's answers too")
    add_data_dir(parser)
    add_json(parser)
    parser.set_defaults(run=faithfulness)


def faithfulness(arguments: argparse.Namespace) -> int:
    """`faithfulness`"""
    import asyncio
    from contextlib import ExitStack
    from hashlib import sha256

    from ranker.datasets.taskfiles import task_line
    from ranker.errors import DatasetError, UsageError
    from ranker.faithfulness import ChecksFile, measure_faithfulness
    from ranker.tracefile import read_traces
    from studio.cli.rank import read_tasks
    from trainer.checkpoints import write_whole
    from trainer.modelfiles import hash_files
    from trainer.registry import Registry

    if arguments.limit is not None and arguments.limit < 1:
        raise UsageError(f"--limit: {arguments.limit}: give a number from 1")
    if not arguments.traces.is_file():
        raise DatasetError(f"{arguments.traces}: file: not found: give what `rank --out` wrote")
    if arguments.out is not None:  # before the work, not after it
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
    settings = read_settings(arguments)
    with ExitStack() as stack:
        tasks = {t.task_id: t for t in read_tasks(arguments.tasks, None, settings, stack)}
    traces = list(read_traces(arguments.traces))
    wrote = sorted({t.model for t in traces})
    if len(wrote) != 1 and arguments.model is None:
        raise UsageError(f"{arguments.traces}: written by {', '.join(wrote) or 'nobody'}: choose one with --model")
    name = arguments.model or wrote[0]
    registry, progress = Registry(settings.models_dir), Progress()
    backend = registry.load(name)
    lines = "\n".join(task_line(tasks[i]) for i in sorted(tasks))
    about = f"{name} {registry.card(name).weights_sha256} {hash_files([arguments.traces])} {sha256(lines.encode()).hexdigest()}"
    kept = None if arguments.out is None else ChecksFile.open(Path(f"{arguments.out}.checks"), about)

    async def run() -> "Faithfulness":
        try:
            return await measure_faithfulness(
                tasks,
                [t for t in traces if t.model == name],
                backend,
                limit=arguments.limit,
                done=kept.checks if kept else {},
                keep=kept.add if kept else lambda *_: None,
                report=lambda share: progress("deciding again", share),
            )
        finally:
            await backend.aclose()

    try:
        found = asyncio.run(run())
    finally:
        progress.close()
    if arguments.out is not None:
        write_whole(arguments.out, found.model_dump_json(indent=1) + "\n")
    if kept is not None:
        kept.path.unlink()
    if arguments.json:
        print_json(found.model_dump(mode="json", exclude={"checks"}))
    else:
        _print(found)
    return 0


def _print(found: "Faithfulness") -> None:
    from ranker.faithfulness import Change

    words = {
        Change.NONE: "taken away",
        Change.OTHER: "of another task",
        Change.RENAMED: f"two names exchanged (n = {found.num_renamed})",
    }
    print(f"{found.num_steps} steps of {found.num_tasks} tasks, decided again by {found.model}; x 100 [95%].")
    print(f"The thought names the answer: {_share(found.names_answer)}\n")
    rows = [(words[c], _share(share), _share(found.moved[c])) for c, share in found.changed.items()]
    print_table(("thought", "answer changes", "probabilities move"), rows)
    if found.follows is not None:
        print(f"\nThe answer follows the exchanged name: {_share(found.follows)}")


def _share(x: "Interval") -> str:
    return f"{100 * x.mean:.1f} [{100 * x.low:.1f}, {100 * x.high:.1f}]"
