"""The command: traces with thoughts in, shares with intervals out; mistakes in one line."""

import json
from pathlib import Path
from typing import Any

import pytest

import ranker.faithfulness
from ranker.elimination import AnswerFormat
from ranker.errors import BackendError
from ranker.faithfulness import ChecksFile, ThoughtCheck
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


def test_two_rankings_of_the_same_task_are_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    traces = tmp_path / "traces.jsonl"
    assert main(["rank", TASKS, "--model", "rules", "--limit", "2", "--out", str(traces)]) == 0
    num_steps = sum(len(json.loads(line)["steps"]) for line in traces.read_text().splitlines())
    traces.write_text(traces.read_text() * 2)
    capsys.readouterr()
    assert main(["faithfulness", TASKS, str(traces), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_steps"] == 2 * num_steps


def test_a_run_that_was_stopped_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    traces, out, part = tmp_path / "traces.jsonl", tmp_path / "f.json", tmp_path / "f.json.checks"
    assert main(["rank", TASKS, "--model", "rules", "--limit", "3", "--out", str(traces)]) == 0
    command = ["faithfulness", TASKS, str(traces), "--limit", "9", "--out", str(out)]
    decide, made = ranker.faithfulness._check, []

    async def check(one: Any, backend: Any) -> Any:
        if len(made) == 4:
            raise BackendError("engine: gone")
        made.append(one.task.task_id)
        return await decide(one, backend)

    monkeypatch.setattr(ranker.faithfulness, "_check", check)
    assert main(command) != 0
    assert not out.exists()
    kept = part.read_text().splitlines()
    num_kept = len(kept) - 1
    assert 1 <= num_kept <= 4
    part.write_text("\n".join([*kept, '5 {"task_id": "torn']))
    made[:] = []
    monkeypatch.setattr(ranker.faithfulness, "NUM_IN_FLIGHT", 1)
    assert main(command) != 0
    assert len(part.read_text().splitlines()) - 1 == num_kept + 4
    monkeypatch.setattr(ranker.faithfulness, "_check", decide)
    assert main(command) == 0
    assert not part.exists()
    whole = tmp_path / "whole.json"
    assert main([*command[:-1], str(whole)]) == 0
    assert out.read_text() == whole.read_text(), "as if it had never been stopped"


def test_of_other_traces_nothing_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "f.json.checks"
    check = ThoughtCheck(
        task_id="t",
        step_index=0,
        pool_size=2,
        reasoning="r",
        answer_id="a",
        names_answer=False,
        answers={},
        distances={},
    )
    ChecksFile.open(path, "these").add(7, check)
    assert ChecksFile.open(path, "these").checks == {7: check}
    assert ChecksFile.open(path, "others").checks == {}
    assert ChecksFile.open(path, "these").checks == {}


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
