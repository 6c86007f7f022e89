"""All commands and flags, as argparse knows them."""

import argparse
from typing import Final, NoReturn

PROGRAM: Final = "python launch.py"
HELP_FLAGS: Final = ("-h", "--help")


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and never guesses what an abbreviation means."""

    def __init__(self, **options: object) -> None:
        super().__init__(**{"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter, **options})  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}: see `{self.prog} --help`\n")


def make_parser() -> Parser:
    """The whole command line."""
    from studio.cli import (
        bench,
        check,
        corrections,
        data,
        evaluate,
        faithfulness,
        models,
        people,
        rank,
        reasoning,
        serve,
        thoughts,
        train,
        upkeep,
    )

    parser = Parser(
        prog=PROGRAM,
        description="Ranking Studio: rank with a language model by iterative elimination, and watch it reason.",
        epilog=f"Without a command the studio starts. Help on one: `{PROGRAM} rank --help`.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for group in (
        serve,
        rank,
        thoughts,
        data,
        corrections,
        people,
        train,
        models,
        evaluate,
        reasoning,
        faithfulness,
        bench,
        upkeep,
        check,
    ):
        group.add_parser(commands)
    return parser


def parse(argv: list[str]) -> argparse.Namespace:
    """The command in `argv`, `serve` if none is named; `run` of the result carries it out.

    Raises:
        SystemExit: 0 after `--help`, 2 for bad usage (one line on standard error).
    """
    if not argv or (argv[0].startswith("-") and argv[0] not in HELP_FLAGS):
        argv = ["serve", *argv]
    parser = make_parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and arguments.command != "test":
        parser.error(f"{rest[0]}: not an argument of {arguments.command}")
    arguments.rest = rest
    return arguments
