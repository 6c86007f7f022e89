"""Task files: every format gives back what was written; mappings; errors name file, line and field."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ranker.datasets import ColumnMapping, dump_tasks, guess_mapping, load_tasks
from ranker.errors import DatasetError
from ranker.schema import Candidate, Domain, RankingTask

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
metadata = st.dictionaries(names, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | text, max_size=2)


@st.composite
def tasks(draw: st.DrawFn) -> RankingTask:
    ids = draw(st.lists(names, min_size=2, max_size=5, unique=True))
    candidates = [Candidate(candidate_id=i, text=draw(names), metadata=draw(metadata)) for i in ids]
    gains = st.floats(0, 100, allow_nan=False)
    return RankingTask(
        task_id=draw(names),
        domain=draw(st.sampled_from(Domain)),
        query=draw(text),
        history=tuple(draw(st.lists(text, max_size=3))),
        candidates=tuple(candidates),
        relevance=draw(st.dictionaries(st.sampled_from(ids), gains, max_size=3)),
        criterion=draw(st.none() | names),
    )


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
@given(written=st.lists(tasks(), min_size=1, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
def test_import_of_an_export_gives_the_same_tasks(tmp_path: Path, suffix: str, written: list[RankingTask]) -> None:
    path = tmp_path / f"tasks.{suffix}"
    assert dump_tasks(written, path) == len(written)
    assert list(load_tasks(path)) == written
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def task_values(**changes: Any) -> dict[str, Any]:
    values = {
        "task_id": "t1",
        "domain": "other",
        "query": "q",
        "candidates": [{"candidate_id": "a", "text": "A"}, {"candidate_id": "b", "text": "B"}],
    }
    return {**values, **changes}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"candidates": [{"candidate_id": "a", "text": "A"}] * 2}, "field 'candidates': id 'a' appears twice"),
        ({"candidates": [{"candidate_id": "a", "text": "A"}]}, "field 'candidates': 1 given: at least 2 are needed"),
        ({"candidates": [{"candidate_id": "a"}, {"candidate_id": "b", "text": ""}]}, r"field 'candidates\.0\.text'"),
        ({"relevance": {"zz": 1}}, "field 'relevance': 'zz' is not a candidate"),
        ({"relevance": {"a": -1}}, r"field 'relevance\.a': -1"),
        ({"relevance": {"a": 1e999}}, "JSON: Infinity"),
        ({"domain": "films"}, "field 'domain': 'films'"),
        ({"task_id": ""}, "field 'task_id': empty: write a text"),
        ({"task_id": 7}, "field 'task_id': not a text: write it in quotes"),
        ({"histroy": []}, "field 'histroy': no such field: rename or remove it"),
    ],
)
def test_a_task_that_is_wrong_is_named_by_file_line_and_field(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(task_values()) + "\n" + json.dumps(task_values(**changes)) + "\n")
    with pytest.raises(DatasetError, match=rf"^t\.jsonl:2: {says}") as caught:
        list(load_tasks(path))
    assert "\n" not in str(caught.value)


def test_a_failed_export_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("old")
    task = RankingTask.model_validate(task_values())

    def broken() -> Any:
        yield task
        raise DatasetError("half way")

    with pytest.raises(DatasetError, match="half way"):
        dump_tasks(broken(), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(DatasetError, match="cannot be written: use one of"):
        dump_tasks([task], tmp_path / "out.txt")


def one(tmp_path: Path, name: str, content: str, **options: Any) -> RankingTask:
    (tmp_path / name).write_text(content, encoding="utf-8")
    (task,) = load_tasks(tmp_path / name, **options)
    return task


def test_a_long_table_has_one_row_a_candidate(tmp_path: Path) -> None:
    table = "qid\tquestion\tdocid\tpassage\tlabel\nq1\twho?\td1\tMe.\t0\nq1\twho?\td2\tYou.\t1\n"
    task = one(tmp_path, "t.tsv", table, domain=Domain.PASSAGE)
    assert (task.task_id, task.query, task.domain) == ("q1", "who?", Domain.PASSAGE)
    assert [(c.candidate_id, c.text) for c in task.candidates] == [("d1", "Me."), ("d2", "You.")]
    assert task.relevance == {"d1": 0.0, "d2": 1.0}


def test_the_rows_of_a_task_must_stand_together(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("query,text\na,1\na,2\nb,1\nb,2\na,3\n")
    with pytest.raises(DatasetError, match=r"^t\.csv:6: field 'query': 'a' appears again"):
        list(load_tasks(tmp_path / "t.csv"))


@pytest.mark.parametrize(
    ("relevance", "expected"),
    [
        ({"2": 3}, {"2": 3.0}),
        ([0, 1, 0], {"1": 0.0, "2": 1.0, "3": 0.0}),
        ("two", {"2": 1.0}),
        (["two", "three"], {"2": 1.0, "3": 1.0}),
        (0, {"1": 1.0}),
        (None, {}),
    ],
)
def test_a_wide_table_may_say_relevance_in_many_ways(
    tmp_path: Path, relevance: Any, expected: dict[str, float]
) -> None:
    row = {"prompt": "count", "options": ["one", "two", "three"], "gold": relevance}
    assert one(tmp_path, "t.jsonl", json.dumps(row)).relevance == expected


def test_ranking_bench_rows_are_understood_without_help(tmp_path: Path) -> None:
    row = {"problem": "Which film?", "candidates": ["Alien", "Heat"], "gt": "Heat", "task_name": "Rec-Movie"}
    task = one(tmp_path, "t.jsonl", json.dumps(row))
    assert task.domain is Domain.RECOMMENDATION
    assert task.relevance == {"2": 1.0}


def test_cells_of_a_csv_hold_lists_as_json_or_with_bars(tmp_path: Path) -> None:
    table = 'id,query,history,choices,answer\n7,next?,"[""x"", ""y""]",a|b|c,b\n'
    mapping = ColumnMapping(task_id="id", query="query", history="history", candidates="choices", relevance="answer")
    task = one(tmp_path, "t.csv", table, mapping=mapping)
    assert (task.task_id, task.history) == ("7", ("x", "y"))
    assert task.relevance == {"2": 1.0}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (("task_id", "domain", "query", "candidates"), {"candidates": "candidates", "task_id": "task_id"}),
        (("Query-ID", "Query", "Doc ID", "Text", "Grade"), {"candidate_text": "Text", "relevance": "Grade"}),
        (("question", "answer"), {"query": "question", "candidate_text": "answer"}),
        (("a", "b"), {}),
    ],
)
def test_columns_are_guessed_by_name(columns: tuple[str, ...], expected: dict[str, str]) -> None:
    assert expected.items() <= guess_mapping(columns).columns().items()


def test_a_mapping_is_edited_by_field_and_column() -> None:
    mapping = guess_mapping(["query", "text", "label"])
    assert mapping.edited({"relevance": ""}, ["query", "text", "label"]).relevance is None
    with pytest.raises(DatasetError, match="no such field"):
        mapping.edited({"colour": "text"}, ["text"])
    with pytest.raises(DatasetError, match="no column 'x'"):
        mapping.edited({"query": "x"}, ["text"])


def test_a_table_without_candidates_says_what_to_map(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DatasetError, match=r"^t\.csv:2: column 'candidates': not found among: a, b: name it with"):
        list(load_tasks(tmp_path / "t.csv"))
