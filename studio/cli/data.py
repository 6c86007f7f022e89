"""`data import`, `data list`, `data check`, `data export`."""

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.cli.options import add_data_dir, add_json, example, find_dataset, open_library, read_settings
from studio.cli.output import Progress, print_json, print_table

if TYPE_CHECKING:
    from ranker.backends.base import Backend
    from ranker.datasets import ImportPlan, Report
    from studio.settings import Settings

_IMPORT_ABOUT = """Take in a dataset: all of it or, if anything is wrong, nothing. The same content again changes nothing; other
content under a name that exists becomes its next version.

SOURCE is a file, a directory or a .zip / .gz: ranking tasks (JSON Lines, CSV, TSV, Parquet) or raw data that a reader
knows (RecBole, MovieLens, Amazon Reviews, GraphRouter, LLMRouter, RouterBench, RouteLLM, MS MARCO, TREC, BEIR, WikiQA,
rank_llm, GSM8K, MathQA). Or recipe:NAME with --from DIR, the paper's datasets: rec-movie rec-music rec-game
router-performance router-balance router-cost passage-5 passage-7 passage-9. Or hub:ID[:CONFIG[:SPLIT]] of the Hugging Face
hub, or ir:ID of ir-datasets. --plan shows reader, columns, options and first tasks without taking anything in."""


def add_parser(commands: Any) -> None:
    """Add the group to the command line."""
    group = commands.add_parser("data", help="datasets", description="Datasets.", epilog=example("data list"))
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_import(actions)

    listing = actions.add_parser(
        "list", help="show them", description="Show the datasets.", epilog=example("data list --json")
    )
    listing.set_defaults(run=list_datasets)

    checking = actions.add_parser(
        "check",
        help="have the dataset doctor look at one",
        description="Look for wrong labels, leaks, copies, skewed positions, tasks that are too long, and overlap with the\n"
        "other datasets; say what rankers reach that read nothing. Exit code 2 if there are errors.",
        epilog=example("data check films", "data check films --model smollm2-135m-instruct --json"),
    )
    checking.add_argument("name", metavar="NAME", help="its name (the newest version) or NAME@VERSION")
    checking.add_argument("--model", metavar="MODEL", help="count the tokens of this model (default: characters / 4)")
    checking.set_defaults(run=check_dataset)

    export = actions.add_parser(
        "export",
        help="write one to a file",
        description="Write a dataset to a file; the suffix says the format (.jsonl, .csv, .parquet).",
        epilog=example("data export films --out films.jsonl", "data export films@2 --out films.csv"),
    )
    export.add_argument("name", metavar="NAME", help="its name (the newest version) or NAME@VERSION")
    export.add_argument("--out", metavar="FILE", type=Path, required=True)
    export.set_defaults(run=export_dataset)
    for parser in (listing, checking, export):
        add_data_dir(parser)
        add_json(parser)


def _add_import(actions: Any) -> None:
    parser = actions.add_parser(
        "import",
        help="take in a file, a recipe of the paper, or a dataset of the hub",
        description=_IMPORT_ABOUT,
        epilog=example(
            "data import tasks.jsonl --as films",
            "data import recipe:rec-movie --from ml-1m --as rec-movie --option split=test",
            "data import answers.csv --as answers --option candidates=choices --option relevance=gold",
        ),
    )
    parser.add_argument("source", metavar="SOURCE", help="a path, recipe:NAME, hub:ID or ir:ID")
    parser.add_argument("--as", dest="name", metavar="NAME", required=True, help="what it is called here")
    parser.add_argument("--from", dest="from_dir", metavar="DIR", type=Path, help="the raw files of a recipe")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the reader's builder; repeatable",
    )
    parser.add_argument("--allow", action="store_true", help="take it in although the doctor finds errors")
    parser.add_argument("--plan", action="store_true", help="only show what would be done")
    parser.set_defaults(run=import_dataset)
    add_data_dir(parser)
    add_json(parser)


def import_dataset(arguments: argparse.Namespace) -> int:
    """`data import`"""
    options = parse_options(arguments.option)
    if arguments.plan:
        from ranker.datasets import import_source

        return _show_plan(import_source(arguments.source, from_dir=arguments.from_dir, options=options), arguments.json)
    progress = Progress()
    with open_library(read_settings(arguments)) as library:
        try:
            info = library.import_source(
                arguments.source,
                arguments.name,
                from_dir=arguments.from_dir,
                options=options,
                allow=arguments.allow,
                report=lambda n: progress(f"reading {arguments.source}: {n:,} tasks", None),
            )
        finally:
            progress.close()
    if arguments.json:
        print_json(info.model_dump(mode="json"))
        return 0
    print(f"{info.name}: version {info.version}, {info.num_tasks:,} tasks")
    left_out = {k: n for k, n in info.provenance.get("counts", {}).items() if "left_out" in k or "without" in k}
    for reason, number in left_out.items():
        print(f"  {reason.replace('_', ' ')}: {number:,}")
    if "report" in info.provenance:
        from ranker.datasets import Report

        _print_report(Report.model_validate(info.provenance["report"]))
    return 0


def parse_options(pairs: list[str]) -> dict[str, str]:
    """`["k=v", ...]` as a mapping.

    Raises:
        UsageError: for a pair without `=`.
    """
    from ranker.errors import UsageError

    options = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--option: {pair!r}: write KEY=VALUE")
        options[key.strip()] = value
    return options


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


def check_dataset(arguments: argparse.Namespace) -> int:
    """`data check`"""
    settings = read_settings(arguments)
    with open_library(settings) as library, _loaded(settings, arguments.model) as model:
        info = find_dataset(library, arguments.name)
        report = library.check(info.id, model=model)
    if arguments.json:
        print_json(report.model_dump(mode="json"))
    else:
        print(f"{info.name}: version {info.version}, {info.num_tasks:,} tasks")
        _print_report(report)
    return 2 if report.has_errors else 0


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


@contextmanager
def _loaded(settings: "Settings", name: str | None) -> Iterator["Backend | None"]:
    """The model whose tokens count, if one is named."""
    if name is None:
        yield None
        return
    import asyncio

    from trainer.registry import Registry

    backend = Registry(settings.models_dir).load(name)
    try:
        yield backend
    finally:
        asyncio.run(backend.aclose())


def _show_plan(plan: "ImportPlan", as_json: bool) -> int:
    about = plan.describe()
    if as_json:
        print_json(about.model_dump(mode="json"))
        return 0
    print(f"{about.source}: reader {about.reader} ({about.summary})")
    print(f"  files    {', '.join(about.files[:6])}{' ...' if len(about.files) > 6 else ''}")
    print(f"  options  {_pairs(about.options)}")
    if about.columns:
        print(f"  columns  {', '.join(about.columns)}")
        print(f"  mapping  {_pairs(about.mapping)}")
    for task in about.preview:
        words = " ".join((task.query or " · ".join(task.history)).split())
        print(f"  task     {task.task_id}: {words[:90]} ({len(task.candidates)} candidates)")
    return 0


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items() if value is not None)


def _print_report(report: "Report") -> None:
    if report.random_mrr is not None:
        baselines = "".join(f", {b.name} {b.mrr:.2f}" for b in report.baselines)
        print(f"  MRR of rankers that read nothing: random order {report.random_mrr:.2f}{baselines}")
    if report.budget is not None:
        budget = report.budget
        limit = f", {budget.num_over:,} over the limit of {budget.limit:,}" if budget.limit is not None else ""
        print(f"  prompts: {budget.mean:,.0f} {budget.unit} on average, longest {budget.longest:,}{limit}")
    if not report.findings:
        print("  the doctor found nothing")
    for finding in report.findings:
        print(f"  {finding.severity.value:8}{finding.message}")
        for line in finding.examples:
            print(f"          {line}")
        print(f"          -> {finding.fix}")
