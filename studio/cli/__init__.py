"""The command line. Standard library only until a command runs, so that `--help` works before anything is installed.

One file per group of commands; each has `add_parser(commands)` and the functions that it names. They read arguments, call
the same services as the pages and routes, and print. They hold no rules of their own.
"""

import os
import sys
import traceback
from types import TracebackType
from typing import Final

from ranker.errors import RankingStudioError
from studio.cli.offline import go_offline
from studio.cli.parser import parse

OWN_PACKAGES: Final = ("ranker", "trainer", "studio")


def main(argv: list[str]) -> int:
    """Run one command.

    Returns:
        0 = done, 2 = bad usage or bad input, 1 = anything else that went wrong, 130 = stopped by Ctrl-C.
    """
    arguments = parse(argv)
    go_offline(os.environ)
    is_debugging = os.environ.get("STUDIO_DEBUG") == "1"
    if not is_debugging:
        sys.excepthook = _one_line
    try:
        return int(arguments.run(arguments))
    except RankingStudioError as error:
        if is_debugging:
            traceback.print_exc()
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `... | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _one_line(kind: type[BaseException], error: BaseException, _where: TracebackType | None) -> None:
    """What a mistake in this program looks like from outside."""
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] not in OWN_PACKAGES:
        print(
            f"{error}: delete .venv and start again, or run `pip install -e .` in an environment of your own",
            file=sys.stderr,
        )
        return
    what = " ".join(f"{kind.__name__}: {error}".split())
    print(f"internal error: {what}: set STUDIO_DEBUG=1 and run it again to see where, then report it", file=sys.stderr)
