"""`test`: every check of the project, one line each. CI runs the same command."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studio.cli.options import add_data_dir, example, read_settings

ROOT = Path(__file__).resolve().parents[2]
MOST_PROCESSES = 4
"""Of pytest: every one of them has a studio and a browser of its own, about 2 GB. More only for who says `-n`."""
CHECKS: dict[str, tuple[str, ...]] = {
    "ruff check": ("ruff", "check", "."),
    "ruff format": ("ruff", "format", "--check", "."),
    "mypy": ("mypy",),
}


def add_parser(commands: Any) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "test",
        help="run every check of the project",
        description="Set up the test dependencies and the default model, then run ruff, mypy and pytest over everything.\n"
        "Arguments that are not known here go to pytest, which then runs in one process unless -n is among them; without\n"
        "arguments it runs in several, one a core.",
        epilog=example("test", "test -k launch -x", "test -n 8"),
    )
    add_data_dir(parser)
    parser.set_defaults(run=run_checks)


def run_checks(arguments: argparse.Namespace) -> int:
    """`test`: all phases run even if one fails; 0 only if all succeed."""
    from studio.cli.models import ensure_model
    from trainer.registry import BASE_MODEL, Registry

    started = time.monotonic()
    settings = read_settings(arguments)
    ensure_model(Registry(settings.models_dir), BASE_MODEL)
    _say("default model", True, started)
    environment = {**os.environ, "STUDIO_TEST_MODELS": str(settings.models_dir)}
    passed = [_run_quietly(name, command) for name, command in CHECKS.items()]
    began = time.monotonic()
    code = subprocess.call(  # noqa: S603  (an argument list; no shell)
        [sys.executable, "-m", "pytest", *pytest_arguments(arguments.rest)], cwd=ROOT, env=environment
    )
    passed.append(code == 0)
    _say("pytest", code == 0, began)
    _say("all checks", all(passed), started)
    return 0 if all(passed) else 1


def pytest_arguments(said: Sequence[str], num_cores: int | None = None) -> list[str]:
    """What pytest is called with: what was said, else all tests in as many processes as there are cores, 4 at most."""
    processes = min(num_cores or os.cpu_count() or 1, MOST_PROCESSES)
    return list(said) if said or processes == 1 else ["-n", str(processes)]


def _run_quietly(name: str, command: tuple[str, ...]) -> bool:
    """Run one check; its output is shown only if it fails."""
    began = time.monotonic()
    run = subprocess.run(  # noqa: S603  (an argument list; no shell)
        [sys.executable, "-m", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        print(run.stdout, end="", flush=True)
    _say(name, run.returncode == 0, began)
    return run.returncode == 0


def _say(name: str, is_good: bool, began: float) -> None:
    print(f"{name:<14} {'ok' if is_good else 'FAILED':<6} {time.monotonic() - began:7.1f} s", flush=True)
