"""`verify`, `backup`, `restore`: the integrity of what the studio keeps."""

import argparse
import sys
from pathlib import Path
from typing import Any

from studio.cli.options import add_data_dir, add_json, example, open_store, read_settings
from studio.cli.output import Progress, print_json


def add_parser(commands: Any) -> None:
    """Add the three commands to the command line."""
    verify = commands.add_parser(
        "verify",
        help="check everything that is stored",
        description="Check the database (everything that it stores twice is derived again), the hashes of all models, and the files\n"
        "of evaluations.",
        epilog=example("verify"),
    )
    add_json(verify)
    verify.set_defaults(run=run_verify)

    backup = commands.add_parser(
        "backup",
        help="write the store to one file",
        description="Write the store (datasets, traces, corrections) and the evaluations of the page to one file; the studio may be\n"
        "running. Models and jobs are not in it.",
        epilog=example("backup studio-backup.zip"),
    )
    backup.add_argument("file", metavar="FILE", type=Path)
    backup.set_defaults(run=run_backup)

    restore = commands.add_parser(
        "restore",
        help="put a backup in the place of the store",
        description="Put a backup in the place of the store, once it is checked. The studio has to be closed; the store that\n"
        "was there is kept beside it.",
        epilog=example("restore studio-backup.zip"),
    )
    restore.add_argument("file", metavar="FILE", type=Path)
    restore.set_defaults(run=run_restore)
    for parser in (verify, backup, restore):
        add_data_dir(parser)


def run_verify(arguments: argparse.Namespace) -> int:
    """`verify`: 0 if nothing was found, else 1."""
    from studio.evaluationfiles import evaluations_in, verify_evaluations
    from trainer.registry import Registry

    settings = read_settings(arguments)
    progress = Progress()
    with open_store(settings) as store:
        progress("checking the database", None)
        problems = store.verify()
        num_datasets = len(store.datasets.list(include_deleted=True))
        num_traces = store.traces.search(limit=1).total
    registry = Registry(settings.models_dir)
    problems += registry.verify(progress)
    problems += verify_evaluations(settings.evaluations_dir)
    num_evaluations = len(evaluations_in(settings.evaluations_dir))
    progress.close()
    if arguments.json:
        print_json(
            {
                "problems": problems,
                "datasets": num_datasets,
                "traces": num_traces,
                "models": len(registry.cards()),
                "evaluations": num_evaluations,
            }
        )
    else:
        for problem in problems:
            print(problem, file=sys.stderr)
        found = f"{len(problems)} problems" if problems else "all is well"
        print(
            f"{settings.data_dir}: {num_datasets} datasets, {num_traces} traces, {len(registry.cards())} models, "
            f"{num_evaluations} evaluations: {found}"
        )
    return 1 if problems else 0


def run_backup(arguments: argparse.Namespace) -> int:
    """`backup`"""
    from studio.backup import make_backup

    backup = make_backup(read_settings(arguments), arguments.file)
    evaluations = f", {backup.num_evaluations} evaluations" if backup.num_evaluations else ""
    print(
        f"{backup.path}: written, {backup.database_bytes / 1e6:.1f} MB of database, sha256 {backup.sha256[:16]}..."
        f"{evaluations}"
    )
    return 0


def run_restore(arguments: argparse.Namespace) -> int:
    """`restore`"""
    from studio.backup import restore_backup

    settings = read_settings(arguments)
    before = restore_backup(settings, arguments.file)
    kept = f"; what was there is kept in {before}" if before else ""
    print(f"{settings.data_dir}: restored from {arguments.file}{kept}")
    return 0
