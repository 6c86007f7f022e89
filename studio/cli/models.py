"""`models list`, `models add`, `models promote`, and the default model's set-up."""

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from studio.cli.options import add_data_dir, add_json, example, read_settings
from studio.cli.output import Progress, print_json, print_table

if TYPE_CHECKING:
    from trainer.registry import Registry


def add_parser(commands: Any) -> None:
    """Add the group to the command line."""
    group = commands.add_parser(
        "models", help="the models at hand", description="The models at hand.", epilog=example("models list")
    )
    actions = group.add_subparsers(dest="action", metavar="ACTION", required=True)

    listing = actions.add_parser(
        "list",
        help="show them, the default first",
        description="Show the models.",
        epilog=example("models list --json"),
    )
    listing.set_defaults(run=list_models)

    add = actions.add_parser(
        "add",
        help="take in a model from a directory or the Hugging Face hub",
        description="Take in a model: a local directory in transformers' format, which is used where it is (a hash of its\n"
        "config and weights is recorded), or a hub id, which is downloaded. Safetensors only; a model's own code is never run.",
        epilog=example(
            "models add ~/models/qwen --as qwen-3b",
            "models add Qwen/Qwen2.5-3B-Instruct --as qwen-3b --answer-format free",
        ),
    )
    add.add_argument("source", metavar="PATH_OR_HUB_ID")
    add.add_argument("--as", dest="name", metavar="NAME", required=True, help="what it is called here")
    add.add_argument(
        "--answer-format",
        choices=("free", "scored", "likelihood"),
        default="free",
        help="free: it writes its answer (default); scored: it thinks, then the titles' log-probabilities decide; likelihood: how likely each candidate follows decides",
    )
    add.set_defaults(run=add_model)

    promote = actions.add_parser(
        "promote",
        help="make a model the default",
        description="Make a model the default: a name from `models list`, or a directory, which is added first.",
        epilog=example("models promote qwen-3b", "models promote --undo"),
    )
    what = promote.add_mutually_exclusive_group(required=True)
    what.add_argument("model", metavar="CHECKPOINT", nargs="?", help="a name or a directory")
    what.add_argument("--undo", action="store_true", help="take the last promotion back")
    promote.set_defaults(run=promote_model)
    for parser in (listing, add, promote):
        add_data_dir(parser)
        add_json(parser)


def list_models(arguments: argparse.Namespace) -> int:
    """`models list`"""
    registry = _open(arguments)
    cards = registry.cards()
    if arguments.json:
        default = registry.default_name()
        print_json([{**card.model_dump(mode="json"), "is_default": card.name == default} for card in cards])
    elif not cards:
        print("No model yet: `python launch.py` fetches the default one; `models add` takes in your own.")
    else:
        rows = [
            (
                card.name + (" *" if card.name == registry.default_name() else ""),
                card.engine,
                card.answer_format.value,
                f"{card.num_parameters / 1e6:,.0f} M" if card.num_parameters else "-",
                card.license or "-",
                card.source or card.directory,
            )
            for card in cards
        ]
        print_table(("name (* default)", "engine", "answers", "parameters", "license", "source"), rows)
    return 0


def add_model(arguments: argparse.Namespace) -> int:
    """`models add`"""
    from ranker.elimination import AnswerFormat

    progress = Progress()
    try:
        card = _open(arguments).add(
            arguments.source, arguments.name, answer_format=AnswerFormat(arguments.answer_format), report=progress
        )
    finally:
        progress.close()
    if arguments.json:
        print_json(card.model_dump(mode="json"))
    else:
        print(f"{card.name}: added, {(card.num_parameters or 0) / 1e6:,.0f} M parameters, used from {card.directory}")
    return 0


def promote_model(arguments: argparse.Namespace) -> int:
    """`models promote`"""
    if arguments.undo:
        name = _open(arguments).undo_promote()
        print_json({"model": name}) if arguments.json else print(f"{name}: is the default model again")
        return 0
    progress = Progress()
    try:
        card = _open(arguments).promote(arguments.model, report=progress)
    finally:
        progress.close()
    if arguments.json:
        print_json(card.model_dump(mode="json"))
    else:
        print(f"{card.name}: is the default model now")
    return 0


def ensure_model(registry: "Registry", name: str | None) -> str:
    """Make sure that the model that is asked for (None = the default) is here; fetches only the built-in default.

    Returns:
        Its name.

    Raises:
        UsageError: if there is no such model.
        CheckpointError: if the default model cannot be set up.
    """
    from trainer.registry import DEFAULT_MODEL

    wanted = name or registry.default_name()
    if wanted == DEFAULT_MODEL and not registry.has(wanted):
        progress, started = Progress(), time.monotonic()
        print(f"Setting up the default model {DEFAULT_MODEL}, once.", file=sys.stderr, flush=True)
        try:
            registry.fetch_default(progress)
        finally:
            progress.close()
        print(f"Default model: done, {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
    return registry.card(wanted).name


def _open(arguments: argparse.Namespace) -> "Registry":
    from trainer.registry import Registry

    return Registry(read_settings(arguments).models_dir)
