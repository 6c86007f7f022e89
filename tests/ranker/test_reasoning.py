"""Reasoning transfer: questions from files, numbers out of written solutions, and the run through lm-eval where it is installed."""

import json
from pathlib import Path

import pytest

from ranker.backends.base import ScoreRequest, Scores, Usage
from ranker.backends.scripted import ScriptedBackend
from ranker.errors import BackendError, DatasetError
from ranker.reasoning import (
    Accuracy,
    ReasoningResults,
    last_number,
    measure_reasoning,
    questions_sha256,
    read_questions,
    to_markdown,
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("gsm8k", "mathqa"):
        (tmp_path / "reasoning" / name).mkdir(parents=True)
    rows = [
        {"question": f"What is {n} plus {n}?", "answer": f"{n} and {n} is {2 * n}.\n#### {2 * n:,}"}
        for n in range(501, 513)
    ]
    (tmp_path / "reasoning" / "gsm8k" / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    problems = [
        {"Problem": f"what is {n} squared ?", "options": f"a ) {n} , b ) {n * n} , c ) 7 , d ) 8 , e ) 9", "correct": "b"}
        for n in range(11, 19)
    ]  # fmt: skip
    (tmp_path / "reasoning" / "mathqa" / "test.json").write_text(json.dumps(problems))
    return tmp_path


def test_a_smaller_sample_is_a_part_of_a_larger_one(data: Path) -> None:
    all_questions, few = read_questions("gsm8k", data), read_questions("gsm8k", data, 4)
    assert len(all_questions) == 12
    assert few == all_questions[:4]
    assert {q.answer for q in all_questions} == {str(2 * n) for n in range(501, 513)}
    assert questions_sha256(few) != questions_sha256(all_questions)
    assert all(len(q.options) == 5 for q in read_questions("mathqa", data / "reasoning" / "mathqa"))
    with pytest.raises(DatasetError, match="no file of mathqa is here"):
        read_questions("mathqa", data / "reasoning" / "gsm8k")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("She has 3 + 4 = 7 eggs. #### 7", "7"),
        ("It costs $1,234.50.", "1234.5"),
        ("The answer is -3.00", "-3"),
        ("So 18.", "18"),
        ("0.0", "0"),
        ("no idea", None),
        ("", None),
    ],
)
def test_the_last_number_is_the_answer(text: str, number: str | None) -> None:
    assert last_number(text) == number


class Able(ScriptedBackend):
    """Doubles numbers, and knows the square among options."""

    def __init__(self) -> None:
        super().__init__(
            name="able", script=lambda prompt: f"That makes {2 * int(prompt.split('plus ')[1].split('?')[0])}"
        )

    async def score(self, request: ScoreRequest) -> Scores:
        n = int(request.prompt.text.split("what is ")[1].split()[0])
        log_probs = tuple(-1.0 if c == str(n * n) else -9.0 for c in request.continuations)
        return Scores(log_probs, tuple(1 for _ in log_probs), Usage())


def test_lm_eval_asks_through_our_backend(data: Path) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed (extra `reasoning`)")
    sums, squares = read_questions("gsm8k", data), read_questions("mathqa", data)
    right = [measure_reasoning(name, q, Able()) for name, q in (("gsm8k", sums), ("mathqa", squares))]
    assert [(r.n, r.accuracy, r.answered) for r in right] == [(12, 1.0, 1.0), (8, 1.0, 1.0)]
    assert [r.floor for r in right] == [0.0, 0.2]
    mute = ScriptedBackend(name="mute", script=lambda prompt: "I do not know")
    wrong = measure_reasoning("gsm8k", sums, mute)
    assert (wrong.accuracy, wrong.answered) == (0.0, 0.0)
    results = ReasoningResults(command="made so", lm_eval="0")
    for row in (right[0], wrong):
        results = results.with_row(row)
    (transfer,) = results.transfers
    assert (transfer.a, transfer.b, transfer.difference) == ("mute", "able", -1.0)
    assert transfer.p_value < 0.01


def test_without_lm_eval_the_extra_is_named(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lm_eval", None)
    with pytest.raises(BackendError, match=r"pip install -e '\.\[reasoning\]'"):
        measure_reasoning("gsm8k", read_questions("gsm8k", data), Able())


def test_a_table_has_floor_interval_and_n() -> None:
    row = Accuracy(
        set_name="mathqa", model="m", n=10, accuracy=0.3, low=0.1, high=0.6, floor=0.2, answered=1.0, answer_tokens=0,
        sha256="0" * 64, question_ids=tuple(map(str, range(10))), values=(1.0,) * 3 + (0.0,) * 7,
    )  # fmt: skip
    results = ReasoningResults(command="made so", lm_eval="0.4").with_row(row).with_row(row)
    assert len(results.rows) == 1
    assert "| mathqa | m | 10 | 30.0 [10.0, 60.0] | 20.0 |" in to_markdown(results)
