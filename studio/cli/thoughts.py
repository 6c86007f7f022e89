"""`thoughts`: a thought bank from traces."""

import argparse
from pathlib import Path
from typing import Any

from studio.cli.options import add_data_dir, add_json, example, read_settings
from studio.cli.output import print_json


def add_parser(commands: Any) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "thoughts",
        help="keep the reasoning of good traces, to be shown beside similar queries",
        description="Make a thought bank: of every trace that puts a relevant candidate first, what the model thought. `rank --thoughts`\n"
        "and `eval --thoughts` show a model the thoughts about the most similar queries (by embedding with the extra `baselines`,\n"
        "else by words). Make it from tasks of the training side: thoughts about a task are never shown for that task itself.",
        epilog=example("thoughts films.jsonl traces.jsonl --out bank.jsonl"),
    )
    parser.add_argument(
        "tasks", metavar="TASKS", help="the tasks of the traces, with relevance: a file or a stored dataset"
    )
    parser.add_argument("traces", metavar="TRACES", type=Path, help="what `rank --out` wrote")
    parser.add_argument("--out", metavar="BANK.jsonl", type=Path, required=True)
    add_data_dir(parser)
    add_json(parser)
    parser.set_defaults(run=thoughts)


def thoughts(arguments: argparse.Namespace) -> int:
    """`thoughts`"""
    from contextlib import ExitStack

    from ranker.errors import DatasetError
    from ranker.thoughtbank import collect_thoughts, write_bank
    from ranker.tracefile import read_traces
    from studio.cli.rank import read_tasks

    if not arguments.traces.is_file():
        raise DatasetError(f"{arguments.traces}: file: not found: give what `rank --out` wrote")
    with ExitStack() as stack:
        tasks = {t.task_id: t for t in read_tasks(arguments.tasks, None, read_settings(arguments), stack)}
    traces = list(read_traces(arguments.traces))
    kept = collect_thoughts(tasks, traces)
    head = write_bank(kept, arguments.out)
    found = {"traces": len(traces), "thoughts": head.num_thoughts, "embedder": head.embedder}
    if arguments.json:
        print_json(found)
        return 0
    how = (
        f"embeddings by {head.embedder}"
        if head.embedder
        else "no embeddings (the extra `baselines` is not installed): found by words"
    )
    print(f"{head.num_thoughts} thoughts of {len(traces)} traces kept; {how}.")
    return 0
