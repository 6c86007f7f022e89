"""Set-up from nothing, interrupted, damaged, offline: a tiny project with its own wheels stands in for the package index."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "tiny-studio"
version = "1"
dependencies = [{dependencies}]
optional-dependencies.test = ["tinytest==1"]
"""
STUDIO = """
import sys
def main(argv):
    import tinydep
    print(tinydep.ANSWER, sys.prefix, *argv)
    return 0
"""
PARSER = """
import argparse
def parse(argv):
    if argv[:1] == ["bogus"]:
        raise SystemExit(2)
    return argparse.Namespace(command=argv[0] if argv else "serve")
"""

backend = importlib.util.module_from_spec(
    spec := importlib.util.spec_from_file_location("tiny", HERE / "tinyproject/backend.py")
)
spec.loader.exec_module(backend)
posix = pytest.mark.skipif(os.name == "nt", reason="signals and locks of POSIX")


def obey_ctrl_c() -> None:
    """In the child: a test run that was started in the background ignores Ctrl-C, and would hand that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Tiny:
    """A project of our shape that installs in seconds: torch and tinydep are wheels of a few bytes."""

    def __init__(self, root: Path) -> None:
        self.root, self.wheels = root / "project", root / "wheels"
        self.wheels.mkdir()
        (self.root / "studio/cli").mkdir(parents=True)
        (self.root / "trainer").mkdir()
        shutil.copy(ROOT / "launch.py", self.root)
        shutil.copy(ROOT / "trainer/pip.py", self.root / "trainer")
        shutil.copy(HERE / "tinyproject/backend.py", self.root)
        for path, text in {"studio/__init__.py": "", "trainer/__init__.py": "", "studio/cli/parser.py": PARSER}.items():
            (self.root / path).write_text(text)
        (self.root / "studio/cli/__init__.py").write_text(STUDIO)
        for name in ("torch", "tinydep", "tinytest"):
            backend.make_wheel(self.wheels, name, "1", files={f"{name}.py": "ANSWER = 42\n"})
        self.require("torch==1", "tinydep==1")
        self.stamp_path = self.root / ".venv/studio-setup.json"

    def require(self, *lines: str) -> None:
        quoted = ", ".join(f'"{line}"' for line in lines)
        (self.root / "pyproject.toml").write_text(PYPROJECT.format(dependencies=quoted))

    def popen(self, *argv: str, **environment: str) -> "subprocess.Popen[str]":
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "STUDIO_"))}
        pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels), "PIP_CONFIG_FILE": os.devnull}
        return subprocess.Popen(
            [sys.executable, str(self.root / "launch.py"), *argv],
            env={**clean, **pip, **environment},
            cwd=self.root.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=None if os.name == "nt" else obey_ctrl_c,
        )

    def start(self, *argv: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        process = self.popen(*argv, **environment)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(argv, process.returncode, out, err)

    @property
    def stamp(self) -> dict:
        return json.loads(self.stamp_path.read_text())

    def unfinish(self) -> None:
        self.stamp_path.write_text(json.dumps({**self.stamp, "finished": False}))

    def module_file(self, name: str) -> Path:
        return next((self.root / ".venv").glob(f"**/site-packages/{name}"))


@pytest.fixture(scope="module")
def first_start(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tiny, "subprocess.CompletedProcess[str]"]:
    tiny = Tiny(tmp_path_factory.mktemp("launch"))
    return tiny, tiny.start("rank", "a file")


@pytest.fixture
def tiny(first_start: tuple[Tiny, "subprocess.CompletedProcess[str]"]) -> Tiny:
    """The project of the module, set up once, with one dependency less (which saves a second of pip a start)."""
    first_start[0].require("tinydep==1")
    return first_start[0]


@pytest.fixture
def launch() -> ModuleType:
    spec = importlib.util.spec_from_file_location("launch_under_test", ROOT / "launch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_first_start_makes_the_environment_and_hands_over(first_start) -> None:
    tiny, run = first_start
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["42", str(tiny.root / ".venv"), "rank", "a", "file"]
    assert [line.split(":")[0] for line in run.stderr.splitlines()] == [
        "Setting up Ranking Studio in .venv beside launch.py",
        "Making the environment",
        "Installing torch (the largest part)",
        "Installing everything else",
    ]
    assert tiny.stamp["finished"] is True


def test_second_start_is_quick_and_silent(tiny: Tiny) -> None:
    tiny.start()
    began = time.monotonic()
    run = tiny.start()
    assert (run.returncode, run.stderr) == (0, "")
    assert time.monotonic() - began < 1.0


def test_test_command_adds_its_extra_and_keeps_it(tiny: Tiny) -> None:
    assert tiny.start("test").returncode == 0
    assert tiny.stamp["extras"] == ["test"]
    assert tiny.module_file("tinytest.py").is_file()
    assert tiny.start().stderr == "", "a start without the extra must not set up again"


def test_bad_usage_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    tiny = Tiny(tmp_path)
    assert tiny.start("bogus").returncode == 2
    assert not (tiny.root / ".venv").exists()


def test_bootstrap_0_uses_the_python_at_hand(tmp_path: Path) -> None:
    tiny = Tiny(tmp_path)
    run = tiny.start(STUDIO_BOOTSTRAP="0", PYTHONPATH=str(tiny.wheels / "tinydep-1-py3-none-any.whl"))
    assert run.stdout.split() == ["42", sys.prefix]
    assert not (tiny.root / ".venv").exists()


def test_package_left_in_pieces_is_installed_again(tiny: Tiny) -> None:
    tiny.module_file("tinydep.py").write_text("AN")
    tiny.unfinish()
    run = tiny.start()
    assert run.stdout.startswith("42"), run.stderr
    assert tiny.stamp["finished"] is True


def test_interpreter_that_does_not_start_is_replaced(tiny: Tiny) -> None:
    python = tiny.root / ".venv/bin/python"
    if os.name == "nt":
        pytest.skip("links are POSIX")
    python.unlink()
    python.symlink_to(tiny.root / "gone")
    run = tiny.start()
    assert run.stdout.startswith("42"), run.stderr
    assert "Making the environment" in run.stderr


def test_broken_wheel_is_one_line_and_the_next_start_goes_on(tiny: Tiny) -> None:
    tiny.require("tinydep==2")
    wheel = tiny.wheels / "tinydep-2-py3-none-any.whl"
    wheel.write_bytes(b"PK\x03\x04 cut short")
    assert "tinydep" in only_error(tiny.start())
    assert tiny.stamp["finished"] is False
    backend.make_wheel(tiny.wheels, "tinydep", "2", files={"tinydep.py": "ANSWER = 43\n"})
    assert tiny.start().stdout.startswith("43")
    wheel.unlink()


def test_index_that_has_nothing_is_one_line(tiny: Tiny) -> None:
    tiny.require("tinydep==1", "tinygone==1")
    assert "connect to the network or check pip's index settings" in only_error(tiny.start())


def only_error(run: "subprocess.CompletedProcess[str]") -> str:
    """The one line that a failed start says, with the way out in it."""
    errors = [line for line in run.stderr.splitlines() if line.startswith("launch.py:")]
    assert (run.returncode, len(errors)) == (1, 1), run.stderr
    assert "start again" in errors[0] and "Traceback" not in run.stderr
    return errors[0]


@posix
def test_ctrl_c_stops_and_the_next_start_goes_on(tiny: Tiny) -> None:
    tiny.unfinish()
    never = tiny.root / "never"
    process = tiny.popen(TINY_BUILD_UNTIL=str(never))
    wait_for_build(never)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "start again" in err.lower() and "Traceback" not in err
    assert tiny.stamp["finished"] is False
    assert tiny.start().returncode == 0
    assert tiny.stamp["finished"] is True


@posix
def test_second_start_waits_for_a_pip_that_outlived_its_launcher(tiny: Tiny) -> None:
    tiny.unfinish()
    go_on = tiny.root / "go-on"
    killed = tiny.popen(TINY_BUILD_UNTIL=str(go_on))
    wait_for_build(go_on)
    killed.kill()
    killed.communicate(timeout=20)
    second = tiny.popen()
    assert second.stderr is not None
    assert "waiting for it" in second.stderr.readline()
    go_on.touch()
    _, said = second.communicate(timeout=60)
    assert second.returncode == 0, said
    assert tiny.stamp["finished"] is True


def wait_for_build(until: Path) -> None:
    """Until pip is in the middle of building the project, which lasts until there is a file `until`."""
    deadline = time.monotonic() + 30
    while not Path(f"{until}.waited-for").exists():
        assert time.monotonic() < deadline, "pip did not begin to build"
        time.sleep(0.02)


def test_help_needs_no_environment() -> None:
    run = subprocess.run([sys.executable, "-S", "launch.py", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert {"serve", "rank", "data", "models", "verify", "test"} <= set(run.stdout.split())


def test_old_python_is_told_so(
    launch: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launch.sys, "version_info", (3, 10, 4))
    assert launch.main([]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_full_disk_is_told_before_anything_is_made(launch: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(ROOT)
    monkeypatch.setattr(launch.shutil, "disk_usage", lambda _path: usage._replace(free=10**9))
    with pytest.raises(launch.SetupError, match=r"1\.0 GB free: set-up needs 6\.4 GB"):
        launch.check_disk(launch.FRESH_BYTES)


@posix
def test_python_without_venv_is_told_what_to_install(launch, monkeypatch, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\necho 'The virtual environment was not created because ensurepip is not available.'\nexit 1\n"
    )
    python.chmod(0o755)
    monkeypatch.setattr(launch.sys, "executable", str(python))
    monkeypatch.setattr(launch, "VENV", tmp_path / ".venv")
    with (
        (tmp_path / "lock").open("w") as lock,
        pytest.raises(launch.SetupError, match=r"apt install python3\.\d+-venv"),
    ):
        launch.make_venv(lock.fileno())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"finished": False}, False),
        ({"python": "3.10"}, False),
        ({"fingerprint": "another list of dependencies"}, False),
        ({"extras": []}, False),  # the extra that is wanted now was not installed
    ],
)
def test_stamp_counts_only_if_all_of_it_fits(launch: ModuleType, change: dict, expected: bool) -> None:
    project = {"dependencies": ["a==1"], "optional-dependencies": {"test": ["b==2"]}}
    stamp = {
        "finished": True,
        "python": "3.11",
        "extras": ["test"],
        "fingerprint": launch.fingerprint(project, ("test",)),
    }
    assert launch.is_current({**stamp, **change}, project, ("test",), "3.11") is expected


def test_repinned_dependency_changes_the_fingerprint(launch: ModuleType) -> None:
    assert launch.fingerprint({"dependencies": ["a==1"]}, ()) != launch.fingerprint({"dependencies": ["a==2"]}, ())
