"""`data import`, `data list`, `data export`."""

import argparse
from pathlib import Path
from typing import Any

from studio.cli.options import add_data_dir, add_json, example, find_dataset, open_library, read_settings
from studio.cli.output import Progress, print_json, print_table


def add_parser(commands: Any) -> None:
    """Add the group to the command line."""
    group = commands.add_parser("data", help="datasets", description="Datasets.", epilog=example("data list"))
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)

    importing = actions.add_parser(
        "import",
        help="take in a file of tasks",
        description="Take in a file of tasks: all of it or, if anything is wrong, nothing. The same content again changes\n"
        "nothing; other content under a name that exists becomes its next version.",
        epilog=example("data import tasks.jsonl --as films"),
    )
    importing.add_argument(
        "source", metavar="SOURCE", type=Path, help="a file of tasks, or a directory or archive of them"
    )
    importing.add_argument("--as", dest="name", metavar="NAME", required=True, help="what it is called here")
    importing.set_defaults(run=import_dataset)

    listing = actions.add_parser(
        "list", help="show them", description="Show the datasets.", epilog=example("data list --json")
    )
    listing.set_defaults(run=list_datasets)

    export = actions.add_parser(
        "export",
        help="write one to a file",
        description="Write a dataset to a file; the suffix says the format (.jsonl, .csv, .parquet).",
        epilog=example("data export films --out films.jsonl", "data export films@2 --out films.csv"),
    )
    export.add_argument("name", metavar="NAME", help="its name (the newest version) or NAME@VERSION")
    export.add_argument("--out", metavar="FILE", type=Path, required=True)
    export.set_defaults(run=export_dataset)
    for parser in (importing, listing, export):
        add_data_dir(parser)
        add_json(parser)


def import_dataset(arguments: argparse.Namespace) -> int:
    """`data import`"""
    progress = Progress()
    with open_library(read_settings(arguments)) as library:
        try:
            info = library.import_file(
                arguments.source,
                arguments.name,
                report=lambda n: progress(f"reading {arguments.source.name}: {n:,} tasks", None),
            )
        finally:
            progress.close()
    if arguments.json:
        print_json(info.model_dump(mode="json"))
    else:
        print(f"{info.name}: version {info.version}, {info.num_tasks:,} tasks")
    return 0


def list_datasets(arguments: argparse.Namespace) -> int:
    """`data list`"""
    with open_library(read_settings(arguments)) as library:
        datasets = library.datasets()
    if arguments.json:
        print_json([info.model_dump(mode="json") for info in datasets])
    elif not datasets:
        print("No dataset yet: `python launch.py data import FILE --as NAME` takes one in.")
    else:
        rows = [
            (
                info.name,
                info.version,
                info.num_tasks,
                ", ".join(sorted(info.domains)),
                info.created_at[:16],
                info.source,
            )
            for info in datasets
        ]
        print_table(("name", "version", "tasks", "domains", "imported (UTC)", "from"), rows)
    return 0


def export_dataset(arguments: argparse.Namespace) -> int:
    """`data export`"""
    with open_library(read_settings(arguments)) as library:
        info = find_dataset(library, arguments.name)
        num_tasks = library.export_file(info.id, arguments.out)
    if arguments.json:
        print_json({"dataset": info.name, "version": info.version, "tasks": num_tasks, "out": str(arguments.out)})
    else:
        print(f"{info.name}: version {info.version}, {num_tasks:,} tasks written to {arguments.out}")
    return 0
