"""`corrections export`, `corrections import`, `corrections stats`."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.cli.options import add_data_dir, add_json, example, find_dataset, open_store, read_settings
from studio.cli.output import print_json, print_table

if TYPE_CHECKING:
    from studio.quality import Agreement, Estimate, QualityReport
    from studio.store import Store

_FORMATS = ("jsonl", "parquet", "pairs", "qrels")
_IMPORT_FORMATS = (*_FORMATS, "argilla", "label-studio")


def add_parser(commands: Any) -> None:
    """Add the group to the command line."""
    group = commands.add_parser(
        "corrections",
        help="what people said about rankings",
        description="Corrections.",
        epilog=example("corrections stats"),
    )
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)

    export = actions.add_parser(
        "export",
        help="write them to a file",
        description="Write corrections to a file: everything that was ever said (jsonl, parquet), preference pairs as TRL\n"
        "reads them (pairs), or the consensus of each task as TREC judgements (qrels).",
        epilog=example(
            "corrections export --out corrections.jsonl", "corrections export --out pairs.jsonl --format pairs"
        ),
    )
    export.add_argument("--out", metavar="FILE", type=Path, required=True)
    export.add_argument("--format", choices=_FORMATS, default="jsonl")
    export.set_defaults(run=export_file)

    taking = actions.add_parser(
        "import",
        help="take in a file of them",
        description="Take in what `corrections export` wrote, a ranking export of Argilla or Label Studio (JSON), or TREC\n"
        "judgements. What is there already is left as it is. Records of other tools name the task by task_id in their\n"
        "metadata or data, else by their id, and candidates by candidate_id or by their text.",
        epilog=example(
            "corrections import corrections.jsonl", "corrections import project-1.json --tiers relevant,neutral,biased"
        ),
    )
    taking.add_argument("file", metavar="FILE", type=Path)
    taking.add_argument("--format", choices=_IMPORT_FORMATS, help="default: by the file's content")
    taking.add_argument("--author", default="qrels", metavar="NAME", help="who judged, for qrels (default: qrels)")
    taking.add_argument("--tiers", metavar="A,B,...", help="buckets of a Label Studio Ranker, best first")
    taking.set_defaults(run=import_file)

    stats = actions.add_parser(
        "stats",
        help="how far people agree, among themselves and with the models",
        description="Agreement among people and with the models, per annotator and dataset, with 95%% intervals over tasks;\n"
        "gold tasks passed. Kendall's tau-b, rank-biased overlap, same first candidate, Krippendorff's alpha.",
        epilog=example("corrections stats --json"),
    )
    stats.set_defaults(run=show_stats)
    for parser in (export, taking, stats):
        parser.add_argument("--dataset", metavar="NAME", help="only this one (its newest version) or NAME@VERSION")
        add_data_dir(parser)
        add_json(parser)


def export_file(arguments: argparse.Namespace) -> int:
    """`corrections export`"""
    from studio.exchange import export_corrections

    with _opened(arguments) as (store, dataset_id):
        number = export_corrections(store, arguments.out, file_format=arguments.format, dataset_id=dataset_id)
    if arguments.json:
        print_json({"written": number, "format": arguments.format, "out": str(arguments.out)})
    else:
        print(f"{arguments.out}: {number:,} written as {arguments.format}")
    return 0


def import_file(arguments: argparse.Namespace) -> int:
    """`corrections import`"""
    from studio.exchange import import_corrections

    with _opened(arguments) as (store, dataset_id):
        done = import_corrections(
            store,
            arguments.file,
            dataset_id=dataset_id,
            file_format=arguments.format,
            author=arguments.author,
            tiers=[name.strip() for name in (arguments.tiers or "").split(",") if name.strip()],
        )
    if arguments.json:
        print_json({"new": done.num_new, "known": done.num_known})
    else:
        print(f"{arguments.file}: {done.num_new:,} new, {done.num_known:,} were there already")
    return 0


def show_stats(arguments: argparse.Namespace) -> int:
    """`corrections stats`"""
    from studio.quality import make_report

    with _opened(arguments) as (store, dataset_id):
        report = make_report(store, dataset_id=dataset_id)
    if arguments.json:
        print_json(report.model_dump(mode="json"))
    else:
        _print_report(report)
    return 0


@contextmanager
def _opened(arguments: argparse.Namespace) -> Iterator[tuple["Store", int | None]]:
    """The store, and the dataset that `--dataset` names."""
    from studio.library import Library

    with open_store(read_settings(arguments)) as store:
        name = arguments.dataset
        yield store, None if name is None else find_dataset(Library(store), name).id


def _print_report(report: "QualityReport") -> None:
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(report.kinds.items()))
    print(f"{report.num_corrections:,} corrections, {report.num_current:,} of them current ({kinds or 'none'})")
    if not report.num_current:
        return
    print(f"{report.num_tasks:,} tasks, {len(report.annotators)} annotators", end="")
    print(f", gold tasks passed: {report.gold_passed} of {report.gold_seen}" if report.gold_seen else "")
    print("\nMean [95% interval] (tasks)")
    rows = [("all people", report.human_human), *((f"people, {n}", a) for n, a in report.datasets.items())]
    rows += [(f"people and {name}", agreement) for name, agreement in report.human_model.items()]
    rows += [(f"people and model, {name}", agreement) for name, agreement in report.dataset_models.items()]
    header = ("between", "tau-b", "RBO", "same first", "alpha", "share before parting")
    print_table(header, [(name, *_agreement_cells(agreement)) for name, agreement in rows])
    print()
    titles = ("annotator", "corrections", "tasks", "seconds each", "tau-b to others", "tau-b to model", "gold passed")
    people = [
        (
            a.author,
            a.num_corrections,
            a.num_tasks,
            "-" if a.median_duration_s is None else f"{a.median_duration_s:.1f}",
            _cell(a.with_others),
            _cell(a.with_model),
            f"{a.gold_passed} of {a.gold_seen}" if a.gold_seen else "-",
        )
        for a in report.annotators
    ]
    print_table(titles, people)
    if len(report.periods) > 1:
        print()
        over_time = [(p.since, p.num_corrections, _cell(p.human_human), _cell(p.human_model)) for p in report.periods]
        print_table(("since", "corrections", "tau-b among people", "tau-b to model"), over_time)
    if report.gold:
        print()
        gold = [(g.dataset, g.task_id, f"{g.num_passed} of {g.num_seen}") for g in report.gold]
        print_table(("gold task of", "task", "passed"), gold)


def _agreement_cells(agreement: "Agreement") -> tuple[str, ...]:
    estimates = (agreement.tau_b, agreement.rbo, agreement.top_1, agreement.alpha, agreement.first_divergence)
    return tuple(map(_cell, estimates))


def _cell(estimate: "Estimate | None") -> str:
    if estimate is None:
        return "-"
    return f"{estimate.mean:.2f} [{estimate.low:.2f}, {estimate.high:.2f}] ({estimate.num_tasks})"
