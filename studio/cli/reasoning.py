"""`reasoning`: GSM8K and MathQA before and after training."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.cli.options import add_data_dir, add_json, example, read_settings
from studio.cli.output import Progress, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ranker.datasets.questions import Question
    from ranker.reasoning import Accuracy, ReasoningResults
    from trainer.modelcards import ModelCard
    from trainer.registry import Registry

_LIMIT = 100


def add_parser(commands: Any) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "reasoning",
        help="GSM8K and MathQA before and after training",
        description="Measure whether training for ranking changed what a model can do elsewhere: GSM8K and MathQA through lm-eval\n"
        "(extra `reasoning`), on files that you have. The first model is what the others are compared with. Rows that the file\n"
        "has of the same model and questions are not asked again.",
        epilog=example("reasoning --from DATA --models default,trained --out reasoning.json"),
    )
    parser.add_argument("--from", dest="from_dir", metavar="DIR", type=Path, required=True, help="where the files are")
    parser.add_argument(
        "--models", metavar="X,Y", default="default", help="see `models list` (default: the default model)"
    )
    parser.add_argument(
        "--sets", metavar="A=N,...", default="gsm8k,mathqa", help="gsm8k, mathqa; =N for fewer questions"
    )
    parser.add_argument("--limit", metavar="N", type=int, default=_LIMIT, help=f"questions a set (default: {_LIMIT})")
    parser.add_argument(
        "--answer-tokens", metavar="T", type=int, default=256, help="of a written solution (default: 256)"
    )
    parser.add_argument("--out", metavar="RESULTS.json", type=Path, required=True, help="a table is written beside it")
    add_data_dir(parser)
    add_json(parser)
    parser.set_defaults(run=reasoning)


def reasoning(arguments: argparse.Namespace) -> int:
    """`reasoning`"""
    from ranker.reasoning import ReasoningResults, import_lm_eval, read_questions, read_reasoning
    from studio.cli.models import ensure_model
    from trainer.registry import Registry

    limits = _read_sets(arguments)
    questions = {name: read_questions(name, arguments.from_dir, limit) for name, limit in limits.items()}
    registry = Registry(read_settings(arguments).models_dir)
    names = [n.strip() for n in arguments.models.split(",") if n.strip()]
    cards = [registry.card(ensure_model(registry, None if name == "default" else name)) for name in names]
    results = ReasoningResults(command=_command(arguments), lm_eval=import_lm_eval())
    if arguments.out.exists():
        old = read_reasoning(arguments.out)
        results = results.model_copy(update={"rows": old.rows, "transfers": old.transfers})
    for card in cards:
        results = _measure(card, registry, questions, results, arguments)
    _print(results, arguments)
    return 0


def _measure(
    card: "ModelCard",
    registry: "Registry",
    questions: "Mapping[str, Sequence[Question]]",
    results: "ReasoningResults",
    arguments: argparse.Namespace,
) -> "ReasoningResults":
    """Add the rows of one model; each is written before the next is asked for."""
    import asyncio

    from ranker.reasoning import measure_reasoning, questions_sha256

    wanted = {
        name: asked
        for name, asked in questions.items()
        if not any(
            (r.set_name, r.model, r.model_sha256, r.sha256)
            == (name, card.name, card.weights_sha256, questions_sha256(asked))
            and r.answer_tokens in (0, arguments.answer_tokens)
            for r in results.rows
        )
    }
    if not wanted:
        return results
    progress = Progress()
    backend = registry.load(card.name)
    try:
        for name, asked in wanted.items():
            row = measure_reasoning(
                name,
                asked,
                backend,
                model_sha256=card.weights_sha256,
                answer_tokens=arguments.answer_tokens,
                report=lambda share, name=name: progress(f"{card.name} on {name}", share),  # type: ignore[misc]
            )
            results = results.with_row(row)
            _write(results, arguments.out)
    finally:
        progress.close()
        asyncio.run(backend.aclose())
    return results


def _write(results: "ReasoningResults", out: Path) -> None:
    from ranker.reasoning import to_markdown

    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    part.write_text(results.model_dump_json(indent=1) + "\n", encoding="utf-8")
    part.replace(out)
    out.with_suffix(".md").write_text(to_markdown(results), encoding="utf-8")


def _print(results: "ReasoningResults", arguments: argparse.Namespace) -> None:
    if arguments.json:
        print_json(results.model_dump(mode="json", exclude={"rows": {"__all__": {"values", "question_ids"}}}))
        return
    tests = {(t.set_name, t.a): t for t in results.transfers}

    def change(row: "Accuracy") -> str:
        test = tests.get((row.set_name, row.model))
        if test is None:
            return "-"
        return f"{100 * test.difference:+.1f} [{100 * test.low:+.1f}, {100 * test.high:+.1f}] p {test.p_value:.3f}"

    cells = [
        (r.set_name, r.model, r.n, f"{100 * r.accuracy:.1f} [{100 * r.low:.1f}, {100 * r.high:.1f}]", f"{100 * r.floor:.1f}",
         f"{100 * r.answered:.0f}", change(r))
        for r in results.rows
    ]  # fmt: skip
    print_table(("set", "model", "n", "accuracy x 100 [95%]", "floor", "answered %", "against the first"), cells)
    print(f"\nAgain: {results.command}")


def _read_sets(arguments: argparse.Namespace) -> dict[str, int]:
    """Set -> number of questions."""
    from ranker.errors import UsageError
    from ranker.reasoning import SETS

    if min(arguments.limit, arguments.answer_tokens) < 1:
        raise UsageError("--limit, --answer-tokens: give numbers from 1")
    limits = {}
    for part in arguments.sets.split(","):
        name, _, number = (text.strip() for text in part.partition("="))
        if name not in SETS:
            raise UsageError(f"--sets: {name!r}: choose from {', '.join(SETS)}")
        if number and not (number.isdecimal() and int(number) > 0):
            raise UsageError(f"--sets: {part}: write {name}=N")
        limits[name] = min(int(number), arguments.limit) if number else arguments.limit
    return limits


def _command(arguments: argparse.Namespace) -> str:
    words = ["python", "launch.py", "reasoning", "--from", str(arguments.from_dir), "--models", arguments.models]
    words += [
        "--sets",
        arguments.sets,
        "--limit",
        str(arguments.limit),
        "--answer-tokens",
        str(arguments.answer_tokens),
    ]
    return shlex.join([*words, "--out", str(arguments.out)])
