"""A file is understood before it is stored."""

import json
from pathlib import Path

import pytest

from ranker.errors import DatasetError, UsageError
from studio.understanding import MAX_TASKS, understand

ODD = "Frage,Antwort,richtig\nwer?,ich,0\nwer?,du,1\nwo?,hier,1\nwo?,dort,0\n"


def _write_tasks(path: Path, num_tasks: int) -> Path:
    candidates = [{"candidate_id": i, "text": f"text {i}"} for i in "ab"]
    rows = ({"task_id": str(n), "domain": "other", "query": "q", "candidates": candidates} for n in range(num_tasks))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_columns_that_nobody_can_guess_are_shown_with_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_text(ODD, encoding="utf-8")
    understood = understand(path, {})
    assert understood.columns == ("Frage", "Antwort", "richtig")
    assert understood.error.startswith("odd.csv:2: column 'candidates'")
    assert understood.preview == ()
    mapped = understand(path, {"query": "Frage", "candidate_text": "Antwort", "relevance": "richtig"})
    assert mapped.error == ""
    assert [task.query for task in mapped.preview] == ["wer?", "wo?"]
    assert [task.relevant_ids for task in mapped.preview] == [{"2"}, {"1"}]


@pytest.mark.parametrize(("num_tasks", "is_complete"), [(5, True), (MAX_TASKS, True), (MAX_TASKS + 1, False)])
def test_the_look_is_bounded_and_says_so(tmp_path: Path, num_tasks: int, is_complete: bool) -> None:
    understood = understand(_write_tasks(tmp_path / "t.jsonl", num_tasks), {})
    assert understood.num_looked == min(num_tasks, MAX_TASKS)
    assert understood.is_complete is is_complete
    assert understood.report.num_tasks == understood.num_looked


def test_what_no_reader_takes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"\x00\x01")
    with pytest.raises(DatasetError, match=r"x\.bin: format"):
        understand(path, {})


def test_it_can_be_given_up(tmp_path: Path) -> None:
    def give_up(number: int) -> None:
        raise UsageError("work: was cancelled")

    with pytest.raises(UsageError):
        understand(_write_tasks(tmp_path / "t.jsonl", 3), {}, give_up)
