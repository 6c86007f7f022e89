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
        help="take in a model from a directory, the Hugging Face hub, or a server",
        description="Take in a model: a local directory in transformers' format, which is used where it is (a hash of its\n"
        "config and weights is recorded), a hub id, which is downloaded, or the address of a server that speaks the OpenAI API\n"
        "(vLLM, SGLang, llama.cpp, Ollama, hosted): it is asked once what it can do. Safetensors only; a model's own code is\n"
        "never run. A key is read from an environment variable or a file each time; it is not stored, shown or logged.",
        epilog=example(
            "models add ~/models/qwen --as qwen-3b",
            "models add Qwen/Qwen2.5-3B-Instruct --as qwen-3b --engine vllm",
            "models add http://127.0.0.1:8000/v1 --as served --engine openai",
            "models add https://host/v1 --as hosted --engine openai --api-model M --key-env HOST_API_KEY",
        ),
    )
    add.add_argument("source", metavar="PATH_OR_HUB_ID", help="or https://host/v1")
    add.add_argument("--as", dest="name", metavar="NAME", required=True, help="what it is called here")
    add.add_argument(
        "--answer-format",
        choices=("free", "scored", "likelihood"),
        default="free",
        help="free: it writes its answer (default); scored: it thinks, then the titles' log-probabilities decide; likelihood: how likely each candidate follows decides",
    )
    add.add_argument(
        "--engine",
        choices=("transformers", "vllm", "openai"),
        help="what runs it: transformers (default), vllm (in this process, extra `vllm`), openai (a server; needed for an address)",
    )
    _add_server_flags(add)
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


def _add_server_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("of a server")
    group.add_argument(
        "--api-model", metavar="M", help="what the server calls the model (default: the only one it has)"
    )
    key = group.add_mutually_exclusive_group()
    key.add_argument("--key-env", metavar="VAR", help="environment variable that holds the key")
    key.add_argument("--key-file", metavar="FILE", help="file that holds the key, readable by you only (chmod 600)")
    group.add_argument(
        "--context-tokens", metavar="N", type=int, help="longest prompt + answer, if the server does not say"
    )
    group.add_argument("--max-in-flight", metavar="N", type=int, help="calls at once (default: 32)")
    group.add_argument(
        "--chat-template",
        choices=("auto", "chatml", "server"),
        default="auto",
        help="auto: the server's own, as text where it shows it; chatml: as text, for a server that does not; server: messages",
    )
    group.add_argument(
        "--input-price", metavar="P", type=float, help="of a million prompt tokens, for the cost of a run"
    )
    group.add_argument("--output-price", metavar="P", type=float, help="of a million written tokens")


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
    from ranker.backends.openai.settings import is_address
    from ranker.elimination import AnswerFormat
    from ranker.errors import UsageError

    if (arguments.engine == "openai") != is_address(arguments.source):
        raise UsageError(
            f"--engine: openai and an address go together: models add https://host/v1 --as {arguments.name} --engine openai"
        )
    if arguments.engine == "openai":
        return _add_server(arguments)
    progress = Progress()
    try:
        card = _open(arguments).add(
            arguments.source,
            arguments.name,
            answer_format=AnswerFormat(arguments.answer_format),
            engine=arguments.engine or "transformers",
            report=progress,
        )
    finally:
        progress.close()
    if arguments.json:
        print_json(card.model_dump(mode="json"))
    else:
        print(f"{card.name}: added, {(card.num_parameters or 0) / 1e6:,.0f} M parameters, used from {card.directory}")
    return 0


def _add_server(arguments: argparse.Namespace) -> int:
    from pydantic import ValidationError

    from ranker.backends.openai import ServerSettings, probe_server
    from ranker.backends.openai.payloads import can_list
    from ranker.backends.openai.settings import check_base_url, without_none
    from ranker.elimination import AnswerFormat
    from ranker.errors import UsageError

    registry = _open(arguments)
    registry.check_name(arguments.name)
    has_key = arguments.key_env is not None or arguments.key_file is not None
    base_url = check_base_url(arguments.source, has_key=has_key)
    names = ("key_env", "key_file", "context_tokens", "max_in_flight", "input_price", "output_price")
    given = without_none({name: getattr(arguments, name) for name in names})
    try:
        settings = ServerSettings(base_url=base_url, model=arguments.api_model or "", **given)
    except ValidationError as error:
        first = error.errors()[0]
        flag = "--" + str(first["loc"][0]).replace("_", "-")
        raise UsageError(f"{flag}: {first['input']}: {first['msg']}") from error
    print(f"Asking {base_url} what it can do ...", file=sys.stderr, flush=True)
    probed = probe_server(settings, template=arguments.chat_template, context_tokens=arguments.context_tokens)
    card = registry.add_server(probed, arguments.name, answer_format=AnswerFormat(arguments.answer_format))
    if arguments.json:
        print_json(card.model_dump(mode="json"))
    else:
        able = "; ".join(can_list(probed.capabilities))
        print(f"{card.name}: added, {card.source}, {probed.context_tokens:,} tokens of context; {able}")
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
    """Make sure that the model that is asked for (None = the default) is here; fetches only what is built in.

    Returns:
        Its name.

    Raises:
        UsageError: if there is no such model.
        CheckpointError: if the default model cannot be set up.
    """
    from trainer.registry import BASE_MODEL, SHIPPED

    if (name or registry.default_name()) in (BASE_MODEL, *SHIPPED) and not registry.is_set_up():
        progress, started = Progress(), time.monotonic()
        print(f"Setting up the default model ({BASE_MODEL}), once.", file=sys.stderr, flush=True)
        try:
            registry.fetch_default(progress)
        finally:
            progress.close()
        print(f"Default model: done, {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
    return registry.card(name).name


def _open(arguments: argparse.Namespace) -> "Registry":
    from trainer.registry import Registry

    return Registry(read_settings(arguments).models_dir)
