"""The documents name the commands and flags that exist, all of them and no others."""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.cli.parser import make_parser, parse

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "AGENTS.md")
CALL = re.compile(r"python launch\.py((?: [^`\n#|]+)?)")


def commands(parser: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, set[str]]]:
    """Every command that can be called, with its flags."""
    groups = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
    if not groups:
        yield name.strip(), {flag for action in parser._actions for flag in action.option_strings}
    for choices in groups:
        for word, child in choices.items():
            yield from commands(child, f"{name} {word}")


COMMANDS = dict(commands(make_parser()))
FLAGS = {flag for flags in COMMANDS.values() for flag in flags}


def calls(document: str) -> list[str]:
    """What stands behind `python launch.py` in a document, each call once; `[...]` is taken as given."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return sorted({" ".join(re.sub(r"[\[\]]", " ", call).split()) for call in CALL.findall(text)})


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_that_is_named_exists(document: str) -> None:
    for call in calls(document):
        words = re.split(r" (?=-)", call)[0].split()
        if words:
            known = any(" ".join(words[:n]) in COMMANDS for n in (1, 2)) or words[0] in {"data", "models"}
            assert known, f"{document}: python launch.py {call}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_flag_that_is_named_with_a_command_is_one_of_its_flags(document: str) -> None:
    for call in calls(document):
        words = call.split()
        name = next((" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in COMMANDS), "serve")
        for flag in re.findall(r"(?<!\S)--?[a-z][a-z-]*", call):
            if name != "test":  # what it does not know goes to pytest
                assert flag in COMMANDS[name], f"{document}: python launch.py {call}: {flag} is no flag of {name}"


@pytest.mark.parametrize("name", COMMANDS)
def test_readme_shows_every_command(name: str) -> None:
    assert any(call == name or call.startswith(f"{name} ") for call in calls("README.md")), f"`python launch.py {name}`"


def test_agents_stays_short() -> None:
    assert len((ROOT / "AGENTS.md").read_text(encoding="utf-8").splitlines()) < 80


def test_both_commands_of_the_contract_parse() -> None:
    assert parse([]).command == "serve"
    assert parse(["test"]).command == "test"
