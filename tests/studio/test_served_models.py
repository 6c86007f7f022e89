"""A model on a server, from `models add` to a ranking: the same commands and lists as for a model on this machine."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakeserver import KEY, serve
from tinymodel import make_tiny_model

from ranker.datasets import dump_tasks
from ranker.errors import JobError
from ranker.schema import Candidate, Domain, RankingTask
from studio.cli import main
from trainer.config import JobConfig
from trainer.registry import Registry
from trainer.run import _find_base


@pytest.fixture(scope="module")
def tiny_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("served")
    make_tiny_model(directory, context_tokens=1024)
    with serve(directory, "hosted") as server:
        yield server.url


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    candidates = tuple(Candidate(candidate_id=f"c{i}", text=f"thing {i}") for i in range(3))
    path = tmp_path / "tasks.jsonl"
    dump_tasks(
        [RankingTask(task_id="t", domain=Domain.OTHER, query="q", candidates=candidates, relevance={"c1": 1})], path
    )
    return path


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    try:
        code = main([str(argument) for argument in argv])
    except SystemExit as end:  # argparse
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("arguments", [("http://h/v1",), ("some/where", "--engine", "openai")])
def test_an_address_and_its_engine_go_together(capsys, data_dir: Path, arguments: tuple[str, ...]) -> None:
    code, _, error = run(capsys, "models", "add", *arguments, "--as", "x", "--data-dir", data_dir)
    assert code == 2
    assert "--engine: openai and an address go together" in error


def test_a_model_on_a_server_is_added_and_ranks(
    capsys, data_dir: Path, tasks: Path, tiny_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hosted server: a key, chat alone, no log-probabilities. The key is in no file and no output."""
    monkeypatch.setenv("HOST_KEY", KEY)
    added = run(
        capsys, "models", "add", tiny_server, "--as", "far", "--engine", "openai", "--key-env", "HOST_KEY",
        "--input-price", 2, "--output-price", 8, "--context-tokens", 1024, "--data-dir", data_dir,
    )  # fmt: skip
    assert added[0] == 0, added
    assert "answers are asked for again instead" in added[1]
    listed = run(capsys, "models", "list", "--data-dir", data_dir)
    assert "tiny at http://127.0.0.1" in listed[1]
    out = tasks.parent / "far.jsonl"
    ranked = run(
        capsys, "rank", tasks, "--model", "far", "--out", out, "--limit", 1, "--think-tokens", 4, "--json",
        "--data-dir", data_dir,
    )  # fmt: skip
    assert ranked[0] == 0, ranked
    figures = json.loads(ranked[1])
    assert figures["valid_permutations"] == 1
    assert set(figures["decided_by"]) == {"asked_again"}
    assert figures["cost"] > 0
    stored = [p.read_bytes() for p in data_dir.rglob("*") if p.is_file()] + [out.read_bytes()]
    shown = "".join(text for result in (added, listed, ranked) for text in result[1:])
    assert KEY not in shown and not any(KEY.encode() in content for content in stored)
    taken = run(capsys, "models", "add", tiny_server, "--as", "far", "--engine", "openai", "--data-dir", data_dir)
    assert taken[0] == 2 and "there is a model of that name" in taken[2]
    with pytest.raises(JobError, match="runs on a server"):
        _find_base(
            JobConfig.model_validate({"model": "far", "kind": "titles", "data": {"tasks": [str(tasks)]}}),
            Registry(data_dir / "models"),
        )
