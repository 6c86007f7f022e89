#!/usr/bin/env python3
"""Start here: `python launch.py` sets itself up, then opens the studio; `python launch.py test` runs every check.

Makes a private `.venv` beside this file, installs what `pyproject.toml` names, and runs the command line (`studio.cli`)
inside it. Safe to interrupt: a stamp is marked unfinished before the first change and finished after the last one, and
whatever is not finished is repaired by the next start. It knows pip, the disk and the stamp; it does not know the studio,
and nothing outside the standard library until the environment exists.

    STUDIO_BOOTSTRAP=0    use the Python that runs this, as it is
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

MIN_PYTHON = (3, 11)
ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
LOCK = ROOT / ".venv.lock"
STAMP = VENV / "studio-setup.json"
LOG = VENV / "studio-setup.log"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
FRESH_BYTES = 6 * 1024**3
"""Room asked for before the first installation: 1.5 GB with the CPU build of torch, about 5 GB with the CUDA build."""
REPAIR_BYTES = 1024**3
HEARTBEAT_S = 20.0
"""Seconds between two lines of progress where there is no terminal to redraw."""
AGAIN = "then start again: it goes on from here"


class SetupError(Exception):
    """One line: what, which value, and the way out."""


class Phase:
    """One line of progress: redrawn on a terminal, else repeated now and then, and closed with the seconds it took."""

    def __init__(self, title: str) -> None:
        self._title, self._started, self._said = title, time.monotonic(), time.monotonic()
        self._terminal = sys.stderr.isatty()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def tick(self, detail: str) -> None:
        """Show that it goes on."""
        line = f"{self._title} ... {self.seconds:.0f} s  {detail}"
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[2K{line[:width]}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self._said >= HEARTBEAT_S:
            self._said = time.monotonic()
            print(line, file=sys.stderr, flush=True)

    def done(self, detail: str = "done") -> None:
        start = "\r\x1b[2K" if self._terminal else ""
        print(f"{start}{self._title}: {detail}, {self.seconds:.1f} s", file=sys.stderr, flush=True)


# ---- what is wanted, and is it there? ----


def read_project() -> dict:
    """The `[project]` table: the one list of dependencies."""
    import tomllib

    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def wanted(project: dict, extras: tuple[str, ...]) -> list[str]:
    """Requirements of the project and of `extras`, as pyproject.toml writes them."""
    optional = project.get("optional-dependencies", {})
    return [*project.get("dependencies", ()), *(line for extra in extras for line in optional.get(extra, ()))]


def fingerprint(project: dict, extras: tuple[str, ...]) -> str:
    """Changes when the environment has to be brought up to date."""
    return hashlib.sha256(json.dumps(sorted(wanted(project, extras))).encode()).hexdigest()


def read_stamp() -> dict | None:
    """What the last set-up wrote; None = there was none, or it is unreadable."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return stamp if isinstance(stamp, dict) else None


def is_current(stamp: dict | None, project: dict, extras: tuple[str, ...], version: str | None) -> bool:
    """Did a set-up finish that covers this project, these extras and this Python?"""
    if not stamp or stamp.get("finished") is not True or stamp.get("python") != version:
        return False
    had = tuple(stamp.get("extras", ()))
    return set(extras) <= set(had) and stamp.get("fingerprint") == fingerprint(project, had)


def has_everything(project: dict, extras: tuple[str, ...]) -> bool:
    """Does the Python that runs this have every requirement already? (Someone manages it by hand.)"""
    from importlib import metadata

    try:
        from packaging.requirements import Requirement
    except ImportError:
        return False
    for line in wanted(project, extras):
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            return False
        if not requirement.specifier.contains(version, prereleases=True):
            return False
    return True


def version_of(python: Path, modules: str = "sys") -> str | None:
    """`3.11` if that interpreter starts and can import `modules`, else None."""
    code = f"import {modules}, sys; print('%d.%d' % sys.version_info[:2])"
    site = ["-S"] if modules == "sys" else []
    try:
        run = subprocess.run([str(python), "-I", *site, "-c", code], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.strip() if run.returncode == 0 else None


# ---- making and mending the environment ----


@contextlib.contextmanager
def setup_lock():
    """Only one set-up at a time. pip inherits the handle, so a pip that outlived its launcher still holds the lock."""
    with LOCK.open("a+") as handle:
        try:
            import fcntl
        except ImportError:
            import msvcrt

            msvcrt.locking(handle.fileno(), msvcrt.LK_LOCK, 1)
        else:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                print("Another start is setting up; waiting for it.", file=sys.stderr, flush=True)
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle.fileno()


def prepare(project: dict, extras: tuple[str, ...]) -> None:
    """Make, complete or repair `.venv` so that it has the requirements and `extras`."""
    with setup_lock() as lock:
        stamp = read_stamp()
        if is_current(stamp, project, extras, version_of(PYTHON)):
            return
        extras = tuple(sorted({*extras, *((stamp or {}).get("extras") or ())}))
        version = version_of(PYTHON, "pip")
        check_disk(REPAIR_BYTES if version else FRESH_BYTES)
        if version is None:
            make_venv(lock)
            version = version_of(PYTHON, "pip")
        else:
            print("Completing the environment in .venv.", file=sys.stderr, flush=True)
        write_stamp({"finished": False, "extras": extras})
        drop_incomplete()
        first = [line for line in wanted(project, extras) if re.match(r"torch\b(?!-)", line)]
        if first:
            run_pip(first, "Installing torch (the largest part)", lock)
        target = "." + (f"[{','.join(extras)}]" if extras else "")
        run_pip(["-e", target], "Installing everything else", lock)
        write_stamp(
            {"finished": True, "extras": extras, "python": version, "fingerprint": fingerprint(project, extras)}
        )


def check_disk(needed: int) -> None:
    free = shutil.disk_usage(ROOT).free
    if free < needed:
        raise SetupError(
            f"{ROOT}: {free / 1e9:.1f} GB free: set-up needs {needed / 1e9:.1f} GB. Free some space, {AGAIN}."
        )


def make_venv(lock: int) -> None:
    """A new `.venv`, in the place of a broken one."""
    print("Setting up Ranking Studio in .venv beside launch.py: once, some minutes.", file=sys.stderr, flush=True)
    if VENV.is_symlink() or VENV.is_file():
        VENV.unlink()
    elif VENV.exists():
        shutil.rmtree(VENV)
    phase = Phase("Making the environment")
    code, tail = run_quietly([sys.executable, "-m", "venv", str(VENV)], phase, lock)
    if code != 0:
        if "ensurepip" in tail or "No module named venv" in tail:
            name = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
            raise SetupError(
                f"{sys.executable}: has no venv module: install it (on Debian: apt install {name}), {AGAIN}."
            )
        raise SetupError(f"python -m venv: {last_line(tail)}: {AGAIN}.")
    phase.done()


def write_stamp(stamp: dict) -> None:
    part = STAMP.with_suffix(".part")
    part.write_text(json.dumps(stamp), encoding="utf-8")
    part.replace(STAMP)


def drop_incomplete() -> None:
    """Forget packages that an interrupted pip left in pieces, so that pip installs them anew.

    pip takes a package for installed as soon as its metadata is there. Ours: a package whose RECORD names a file that is
    missing or of another size, or that has no INSTALLER (pip writes it last), loses its metadata; `~name` folders are what
    pip had moved aside.
    """
    for site in [*VENV.glob("lib/python*/site-packages"), *VENV.glob("Lib/site-packages")]:
        for left in site.glob("~*"):
            shutil.rmtree(left, ignore_errors=True)
        for info in site.glob("*.dist-info"):
            if not is_complete(info):
                shutil.rmtree(info, ignore_errors=True)


def is_complete(info: Path) -> bool:
    """Is every file of an installed package there, with its size?"""
    import csv

    try:
        if not (info / "INSTALLER").is_file():
            return False
        with (info / "RECORD").open(encoding="utf-8", newline="") as rows:
            return all(
                (info.parent / name).stat().st_size == int(size)
                for name, _hash, size in csv.reader(rows)
                if size and not name.endswith(".pyc")
            )
    except (OSError, ValueError):
        return False


# ---- pip, with its noise in a log file ----


def run_pip(arguments: list[str], title: str, lock: int) -> None:
    """`pip install` with the user's own settings; one moving line, and one line if it fails."""
    phase = Phase(title)
    command = [str(PYTHON), "-m", "pip", "install", "--progress-bar=off", "--no-input", "--disable-pip-version-check"]
    code, tail = run_quietly([*command, *arguments], phase, lock)
    if code != 0:
        from trainer.pip import explain_failure

        raise SetupError(f"pip: {explain_failure(tail, ROOT)}, {AGAIN}. All that it said is in {LOG}.")
    phase.done()


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def run_quietly(command: list[str], phase: Phase, lock: int) -> tuple[int, str]:
    """Run `command`, all output into the log. Returns its exit code and the end of what it said."""
    from trainer.pip import describe_line

    inherit = {} if os.name == "nt" else {"pass_fds": (lock,)}
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **inherit
    )
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=forward, args=(process, lines), daemon=True).start()
    tail: deque[str] = deque(maxlen=40)
    detail, num_collected = "", 0
    try:
        while True:
            phase.tick(detail)
            try:
                line = lines.get(timeout=0.25)
            except queue.Empty:
                continue
            if line is None:
                return process.wait(), "\n".join(tail)
            tail.append(line)
            write_log(line)
            num_collected += line.startswith("Collecting ")
            detail = describe_line(line, num_collected) or detail
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def forward(process: subprocess.Popen[bytes], lines: queue.Queue[str | None]) -> None:
    """Hand on each line of the child's output, then None."""
    assert process.stdout is not None
    for raw in process.stdout:
        lines.put(raw.decode("utf-8", "replace").rstrip())
    lines.put(None)


def write_log(line: str) -> None:
    with contextlib.suppress(OSError), LOG.open("a", encoding="utf-8") as log:
        log.write(line + "\n")


# ---- the start ----


def ensure_environment(argv: list[str]) -> bool:
    """Make sure that there is an environment. Returns True if this process already runs in it."""
    extras = ("test",) if argv[:1] == ["test"] else ()
    project = read_project()
    inside = Path(sys.prefix).resolve() == VENV.resolve()
    version = f"{sys.version_info[0]}.{sys.version_info[1]}" if inside else version_of(PYTHON)
    stamp = read_stamp()
    if is_current(stamp, project, extras, version):
        return inside
    if (not inside or stamp is None) and has_everything(project, extras):
        return True
    check_usage(argv)
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        prepare(project, extras)
    finally:
        signal.signal(signal.SIGTERM, previous)
    return inside


def check_usage(argv: list[str]) -> None:
    """Ends with help, or with the line that says what is wrong, before minutes of set-up are spent on it."""
    from studio.cli.parser import parse

    parse(argv)


def hand_over(argv: list[str]) -> int:
    """Run this again with the Python of `.venv`."""
    command = [str(PYTHON), str(Path(__file__).resolve()), *argv]
    if os.name == "nt":
        return subprocess.call(command)
    sys.stdout.flush()
    os.execv(command[0], command)  # noqa: S606
    raise AssertionError("execv returns only by an error")


def main(argv: list[str]) -> int:
    if sys.version_info < MIN_PYTHON:
        print(
            f"launch.py: Python {sys.version.split()[0]}: too old: start it with Python 3.11 or newer.", file=sys.stderr
        )
        return 1
    if os.environ.get("STUDIO_BOOTSTRAP") != "0":
        try:
            if not ensure_environment(argv):
                return hand_over(argv)
        except SetupError as error:
            print(f"\nlaunch.py: {error}" if sys.stderr.isatty() else f"launch.py: {error}", file=sys.stderr)
            return 1
        except OSError as error:
            print(f"launch.py: {error.filename or ROOT}: {error.strerror}: mend that, {AGAIN}.", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print(f"\nStopped. {AGAIN.removeprefix('then ').capitalize()}.", file=sys.stderr)
            return 130
    from studio.cli import main as run_command

    return run_command(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
