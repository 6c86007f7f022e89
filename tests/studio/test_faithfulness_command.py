"""The command: traces with thoughts in, shares with intervals out; mistakes in one line."""

import json
from pathlib import Path

import pytest

from ranker.elimination import AnswerFormat
from studio.cli import main
from trainer.modelcards import ModelCard, write_card

TASKS = str(Path(__file__).resolve().parents[2] / "assets" / "samples" / "passage.jsonl")


@pytest.fixture(autouse=True)
def _rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_DATA_DIR", str(tmp_path / "data"))
    card = ModelCard(name="rules", engine="scripted", answer_format=AnswerFormat.FREE, sha256="ab" * 32)
    write_card(tmp_path / "data" / "models", card)


def test_the_rules_do_not_read_their_thoughts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    traces, out = tmp_path / "traces.jsonl", tmp_path / "f.json"
    assert main(["rank", TASKS, "--model", "rules", "--limit", "3", "--out", str(traces)]) == 0
    capsys.readouterr()
    assert main(["faithfulness", TASKS, str(traces), "--limit", "9", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "9 steps of 3 tasks, decided again by rules" in said
    assert "taken away" in said and "of another task" in said
    found = json.loads(out.read_text())
    assert len(found["checks"]) == found["num_steps"] == 9
    assert found["changed"]["none"][0] == 0, "the rules look at the prompt alone"
    assert main(["faithfulness", TASKS, str(traces), "--limit", "9", "--json"]) == 0
    assert "checks" not in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--limit", "0"], "--limit: 0: give a number from 1"),
        (["--model", "nobody"], "'nobody': no such model"),
        ([], "fewer than two tasks have thoughts"),
    ],
)
def test_mistakes_are_named(more: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    traces = tmp_path / "traces.jsonl"
    words = ["rank", TASKS, "--model", "rules", "--limit", "2", "--answer", "scored", "--think-tokens", "0"]
    assert main([*words, "--out", str(traces)]) == 0
    assert main(["faithfulness", TASKS, str(traces), *more]) == 2
    assert said in capsys.readouterr().err.strip().splitlines()[-1]
