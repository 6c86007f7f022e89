"""Builds wheels out of nothing: the build backend of the tiny project that `tests/test_launch.py` sets up, and its packages."""

import base64
import hashlib
import os
import time
import tomllib
import zipfile
from pathlib import Path


def make_wheel(directory, name, version, *, files=None, requires=(), extras=None):
    """Write `name-version-py3-none-any.whl` into `directory`; returns its file name."""
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata += [f"Requires-Dist: {line}" for line in requires]
    for extra, lines in (extras or {}).items():
        metadata += [f"Provides-Extra: {extra}", *(f"Requires-Dist: {line}; extra == '{extra}'" for line in lines)]
    members = {
        **(files or {}),
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = []
    for member, text in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record.append(f"{member},sha256={digest},{len(text.encode())}")
    members[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,"]) + "\n"
    wheel = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(Path(directory) / wheel, "w") as archive:
        for member, text in members.items():
            archive.writestr(member, text)
    return wheel


def get_requires_for_build_editable(config_settings=None):
    return []


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    """The hook that `pip install -e .` calls. If `TINY_BUILD_UNTIL` is set, it says so and waits until that file is there."""
    if until := os.environ.get("TINY_BUILD_UNTIL"):
        Path(f"{until}.waited-for").touch()
        deadline = time.monotonic() + 30
        while not Path(until).exists() and time.monotonic() < deadline:
            time.sleep(0.02)
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    return make_wheel(
        wheel_directory,
        project["name"],
        project["version"],
        requires=project["dependencies"],
        extras=project.get("optional-dependencies"),
    )


build_wheel = build_editable
get_requires_for_build_wheel = get_requires_for_build_editable
