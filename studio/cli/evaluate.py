"""`eval`: baselines, models and modes on datasets, with intervals."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.cli.options import add_data_dir, add_json, example, read_settings, stored_tasks
from studio.cli.output import Progress, print_json, print_table

if TYPE_CHECKING:
    from ranker.evaluation import Plan, Results
    from ranker.evaluation.runner import Gather
    from studio.evaluations import EvaluationRequest
    from studio.settings import Settings
    from trainer.registry import Registry

_DEFAULTS = {
    "protocol": "paper",
    "modes": "iterative",
    "baselines": "random",
    "seeds": 3,
    "against": "random",
    "tables": "md",
    "answer": "auto",
    "batch": 32,
    "engine": "local",
    "workers": 2,
    "gpus_per_worker": 0.0,
}
_NOT_IN_COMMAND = ("command", "run", "rest", "json", "data_dir")


def add_parser(commands: Any) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "eval",
        help="evaluate models and baselines, with intervals",
        description="Evaluate baselines and models on datasets. Every answer is kept as it comes: a run that was stopped goes on\n"
        "where it was, and other systems or datasets can be added to the same file. Per-query values, intervals, paired tests,\n"
        "hashes and the command are in the results file; tables are written beside it.",
        epilog=example(
            "eval --datasets films --modes first-token,iterative --limit 100 --out results.json",
            "eval --protocol trec --from DATA --baselines all --runs runs/ --out trec.json",
            "eval --plan assets/results/plan.yaml --from DATA --models default --out evaluation.json",
        ),
    )
    _add_data(parser)
    _add_systems(parser)
    _add_run(parser)
    add_data_dir(parser)
    add_json(parser)
    parser.set_defaults(run=evaluate)


def _add_data(parser: argparse.ArgumentParser) -> None:
    """What is evaluated on."""
    parser.add_argument(
        "--plan", metavar="FILE.yaml", type=Path, help="run everything that a file lists (studio/evalplans.py)"
    )
    parser.add_argument(
        "--datasets", metavar="A,B", help="stored datasets, files of tasks, presets (default: the protocol's)"
    )
    parser.add_argument(
        "--protocol",
        choices=("paper", "hard", "trec", "zero-shot"),
        default=_DEFAULTS["protocol"],
        help="paper: random candidates, 5/7/9 passages, routers; hard: popular or retrieved candidates; trec: nDCG@10;\n"
        "zero-shot: models trained on two domains, asked about all, as a matrix",
    )
    parser.add_argument(
        "--configs", metavar="DIR", type=Path, help="with zero-shot: only write the training jobs of the three models"
    )
    parser.add_argument(
        "--trained-on", metavar="NAME=A+B,...", help="domains a model has seen (default: as --configs has it)"
    )
    parser.add_argument("--from", dest="from_dir", metavar="DIR", type=Path, help="where the raw files of presets are")
    parser.add_argument(
        "--split", choices=("test", "all"), help="the side of the split (default: the preset's; files: all)"
    )
    parser.add_argument("--qrels", metavar="FILE", type=Path, help="TREC judgements; query ids are task_ids")


def _add_systems(parser: argparse.ArgumentParser) -> None:
    """What is evaluated."""
    parser.add_argument("--models", metavar="X,Y", help="see `models list`; `default` is the default model")
    parser.add_argument(
        "--modes",
        metavar="M,N",
        default=_DEFAULTS["modes"],
        help="modes; pointwise, pairwise, setwise (default: iterative)",
    )
    parser.add_argument("--think-tokens", metavar="T,U", help="thinking budgets (default: as the model's card says)")
    parser.add_argument(
        "--answer",
        choices=("auto", "free", "scored", "likelihood"),
        default=_DEFAULTS["answer"],
        help="how a decision is taken from a model (default: as its card says)",
    )
    parser.add_argument(
        "--thoughts", metavar="BANK", type=Path, help="another row with a thought bank (see `thoughts`)"
    )
    parser.add_argument(
        "--baselines",
        metavar="B,C",
        default=_DEFAULTS["baselines"],
        help="names, `all`, `none`, NAME:MODEL for a model of yours, run:FILE for a TREC run (default: random)",
    )


def _add_run(parser: argparse.ArgumentParser) -> None:
    """How much of it, where, and into which files."""
    parser.add_argument("--limit", metavar="N", type=int, help="queries a dataset: a fixed sample that grows with N")
    parser.add_argument("--mode-limits", metavar="MODE=N,...", help="fewer queries for a mode")
    parser.add_argument("--row-minutes", metavar="M", type=float, help="end a row then; the next run goes on with it")
    parser.add_argument("--seeds", metavar="K", type=int, default=_DEFAULTS["seeds"], help="reshuffles (default: 3)")
    parser.add_argument("--early-stop", action="store_true", help="stop when the relevant ones are out; exact for MRR")
    parser.add_argument("--depth", metavar="N", type=int, help="models rank the first stage's first N only")
    parser.add_argument("--against", metavar="SYSTEM", default=_DEFAULTS["against"], help="test all against it")
    parser.add_argument("--compare", metavar="A:B,...", help="test these pairs too")
    parser.add_argument(
        "--batch", metavar="N", type=int, default=_DEFAULTS["batch"], help="tasks in flight (default: 32)"
    )
    parser.add_argument("--engine", choices=("local", "ray"), default=_DEFAULTS["engine"], help="ray: on a Ray cluster")
    parser.add_argument("--workers", metavar="N", type=int, default=_DEFAULTS["workers"], help="of Ray (default: 2)")
    parser.add_argument("--ray-address", metavar="A", help="of a running cluster, or `auto` (default: start one here)")
    parser.add_argument("--gpus-per-worker", metavar="G", type=float, default=_DEFAULTS["gpus_per_worker"])
    parser.add_argument("--out", metavar="RESULTS.json", type=Path)
    parser.add_argument(
        "--tables",
        "--format",
        metavar="md,csv,tex",
        default=_DEFAULTS["tables"],
        help="exports beside --out, which is JSON (default: md; TREC runs: --runs)",
    )
    parser.add_argument("--runs", metavar="DIR", type=Path, help="write TREC run files there")
    parser.add_argument("--traces", action="store_true", help="keep every step with its prompt beside --out")


def evaluate(arguments: argparse.Namespace) -> int:
    """`eval`"""
    from ranker.evaluation import read_results, run_evaluation
    from trainer.registry import Registry

    if arguments.configs is not None:
        return _write_configs(arguments)
    if arguments.out is None:
        raise _usage("--out: missing: name the results file")
    settings = read_settings(arguments)
    registry = Registry(settings.models_dir)
    request = read_request(arguments, registry)
    plans = _make_plans(request, registry, arguments, settings)
    gather = _read_engine(arguments)
    progress = Progress()
    is_stopped = False
    try:
        results = run_evaluation(
            plans,
            arguments.out,
            command=_command(arguments),
            gather=gather,
            report=lambda dataset, system, done, of: progress(f"{system} on {dataset}", done / of),
        )
    except KeyboardInterrupt:
        is_stopped, results = True, read_results(arguments.out)
    finally:
        progress.close()
    _write_beside(results, arguments)
    _print(results, plans, arguments)
    if is_stopped:
        print("Stopped; the same command goes on from here.", file=sys.stderr)
    return 130 if is_stopped else 0


def _make_plans(
    request: "EvaluationRequest", registry: "Registry", arguments: argparse.Namespace, settings: "Settings"
) -> "list[Plan]":
    """One plan, or those of a file."""
    from dataclasses import replace

    from studio.evalplans import make_requests, read_plan
    from studio.evaluations import Opened, make_plan

    requests = [request] if arguments.plan is None else make_requests(read_plan(arguments.plan), request)
    if not requests:
        raise _usage(f"--plan: {arguments.plan}: nothing to run: its sections need --models, or have other datasets")
    if arguments.engine == "ray" and any(one.row_minutes for one in requests):
        print("Rows are not bounded by minutes with --engine ray; --limit and --mode-limits hold.", file=sys.stderr)
        requests = [one.model_copy(update={"row_minutes": None}) for one in requests]
    opened: Opened = {}
    plans = [make_plan(one, registry, lambda name: stored_tasks(settings, name), opened) for one in requests]
    return [replace(plan, keep_traces=arguments.traces) for plan in plans]


def _read_engine(arguments: argparse.Namespace) -> "Gather | None":
    """Where answers are made, if not in this process."""
    from ranker.evaluation.cluster import gather_on_ray

    if arguments.engine != "ray":
        return None
    return gather_on_ray(arguments.workers, address=arguments.ray_address, num_gpus=arguments.gpus_per_worker)


def _write_configs(arguments: argparse.Namespace) -> int:
    """The jobs of the zero-shot protocol, and what to do with them."""
    from ranker.evaluation import ZERO_SHOT
    from studio.zeroshot import write_zero_shot_jobs
    from trainer.registry import BASE_MODEL

    if arguments.protocol != ZERO_SHOT or arguments.from_dir is None:
        raise _usage(f"--configs: needs --protocol {ZERO_SHOT} and --from DIR: the models are trained on those files")
    models = _split(arguments.models)
    if len(models) > 1:
        raise _usage(f"--models: {arguments.models}: name the one model that is trained")
    model = models[0] if models and models[0] != "default" else None
    presets = _split(arguments.datasets)
    jobs = write_zero_shot_jobs(
        arguments.from_dir, arguments.configs, model=model, presets=presets, limit=arguments.limit
    )
    if arguments.json:
        print_json([str(path) for path in jobs])
        return 0
    print("Written. Train each, take in its last checkpoint under the job's name, then evaluate all of them:")
    for path in jobs:
        print(f"  python launch.py train {shlex.quote(str(path))}")
        print(f"  python launch.py models add CHECKPOINT --as {path.stem}")
    names = ",".join([model or BASE_MODEL, *(path.stem for path in jobs)])
    words = [
        "python",
        "launch.py",
        "eval",
        "--protocol",
        ZERO_SHOT,
        "--from",
        str(arguments.from_dir),
        "--models",
        names,
    ]
    words += [
        "--modes",
        "first-token",
        "--answer",
        "likelihood",
    ]  # the untrained one is asked as the others were taught
    print(f"  {shlex.join([*words, '--out', 'zero-shot.json'])}")
    return 0


def _read_trained_on(arguments: argparse.Namespace) -> dict[str, str]:
    """Model -> domains, joined by a plus."""
    from ranker.evaluation.zeroshot import DOMAINS

    found = dict(_pairs(arguments.trained_on, "=", "--trained-on"))
    for domain in "+".join(found.values()).split("+") if found else ():
        if domain not in DOMAINS:
            raise _usage(f"--trained-on: {domain!r}: choose from {', '.join(DOMAINS)}")
    return found


def read_request(arguments: argparse.Namespace, registry: Any) -> "EvaluationRequest":
    from ranker.elimination import AnswerFormat
    from ranker.evaluation import FORMATS
    from studio.cli.models import ensure_model
    from studio.evaluations import EvaluationRequest

    for name in _split(arguments.tables):
        if f".{name}" not in FORMATS:
            raise _usage(f"--tables: {name!r}: choose from {', '.join(suffix[1:] for suffix in FORMATS)}")
    if arguments.row_minutes is not None and not arguments.row_minutes > 0:
        raise _usage(f"--row-minutes: {arguments.row_minutes}: give a number above 0")
    for flag in ("limit", "seeds", "depth", "batch", "workers"):
        value = getattr(arguments, flag)
        if value is not None and value < 1:
            raise _usage(f"--{flag}: {value}: give a number from 1")
    baselines = [b for b in _split(arguments.baselines) if b != "none"]
    models = _split(arguments.models)
    return EvaluationRequest(
        datasets=tuple(_split(arguments.datasets)),
        protocol=arguments.protocol,
        from_dir=arguments.from_dir,
        split=arguments.split,
        qrels=arguments.qrels,
        models=tuple(ensure_model(registry, None if name == "default" else name) for name in models),
        trained_on=_read_trained_on(arguments),
        modes=tuple(_split(arguments.modes)),
        answer=None if arguments.answer == "auto" else AnswerFormat(arguments.answer),
        thoughts=arguments.thoughts,
        row_minutes=arguments.row_minutes,
        think_tokens=tuple(_number("--think-tokens", text) for text in _split(arguments.think_tokens)),
        baselines=tuple(baselines),
        limit=arguments.limit,
        mode_limits={m: _number("--mode-limits", n) for m, n in _pairs(arguments.mode_limits, "=", "--mode-limits")},
        num_seeds=arguments.seeds,
        stop_early=arguments.early_stop,
        depth=arguments.depth,
        against=arguments.against,
        compare=tuple(_pairs(arguments.compare, ":", "--compare")),
        max_in_flight=arguments.batch,
    )


def _write_beside(results: "Results", arguments: argparse.Namespace) -> None:
    """Tables and run files."""
    from ranker.evaluation import FORMATS, journal_path
    from ranker.evaluation.answers import Journal
    from ranker.evaluation.trec import write_runs

    for name in _split(arguments.tables):
        arguments.out.with_suffix(f".{name}").write_text(FORMATS[f".{name}"](results), encoding="utf-8")
    if arguments.runs is not None:
        with Journal(journal_path(arguments.out)) as journal:
            write_runs(results, journal, arguments.runs)


def _print(results: "Results", plans: "Sequence[Plan]", arguments: argparse.Namespace) -> None:
    """The rows of this run."""
    datasets = {d.name: d.metric for plan in plans for d in plan.datasets}
    cells_of_run = {(d.name, s.info.name) for plan in plans for d in plan.datasets for s in plan.systems}
    rows = [r for r in results.rows if (r.dataset, r.system) in cells_of_run]
    if arguments.json:
        print_json([row.model_dump(mode="json", exclude={"values"}) for row in rows])
        return
    cells = []
    for row in rows:
        lead = row.metrics[datasets[row.dataset]]
        interval = f"{100 * lead.mean:.1f} [{100 * lead.low:.1f}, {100 * lead.high:.1f}]"
        skill = "-" if lead.skill is None else f"{100 * lead.skill:+.1f}"
        cells.append(
            (row.dataset, row.system, row.n, datasets[row.dataset], interval, skill, f"{100 * lead.spread:.1f}",
             f"{100 * row.usage.malformed:.0f}", f"{row.usage.seconds:.2f}")
        )  # fmt: skip
    header = ("dataset", "system", "n", "metric", "x 100 [95%]", "skill", "spread", "malformed %", "s")
    print_table(header, cells)
    print(f"\nAgain: {_command(arguments)}")


def _command(arguments: argparse.Namespace) -> str:
    """What makes the same file again; settings of this machine are left out."""
    words = ["python", "launch.py", "eval"]
    for name, value in vars(arguments).items():
        if name in _NOT_IN_COMMAND or value in (None, False) or _DEFAULTS.get(name) == value:
            continue
        flag = "--from" if name == "from_dir" else "--" + name.replace("_", "-")
        words += [flag] if value is True else [flag, str(value)]
    return shlex.join(words)


def _split(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def _pairs(text: str | None, mark: str, flag: str) -> list[tuple[str, str]]:
    pairs = [part.partition(mark) for part in _split(text)]
    for first, found, second in pairs:
        if not (first and found and second):
            raise _usage(f"{flag}: {first}: write A{mark}B")
    return [(first, second) for first, _, second in pairs]


def _number(flag: str, text: str) -> int:
    if not text.isdecimal():
        raise _usage(f"{flag}: {text!r}: give a number from 0")
    return int(text)


def _usage(message: str) -> Exception:
    from ranker.errors import UsageError

    return UsageError(message)
