"""Rows out of every format, and what is refused, with file and line."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ranker.datasets import rows
from ranker.datasets.rows import iter_rows
from ranker.datasets.sources import open_source
from ranker.errors import DatasetError

cells = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def read(path: Path) -> list[dict[str, Any]]:
    return [row.values for row in iter_rows(open_source(path).files[0])]


def write(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"a": "1", "b": "x"}\n\n{"a": "2", "b": "y"}'),
        ("a.json", '[\n {"a": "1", "b": "x"},\n\n {"a": "2",\n "b": "y"}]\n'),
        ("b.json", '{"a": "1", "b": "x"}\n{"a": "2", "b": "y"}\n'),
        ("a.csv", 'a,b\r\n1,x\r\n\r\n"2","y"\r\n'),
        ("a.tsv", "a\tb\n1\tx\n2\ty\n"),
    ],
)
def test_the_same_rows_in_every_text_format(tmp_path: Path, name: str, text: str) -> None:
    assert read(write(tmp_path, name, text)) == [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}]


def test_places_are_the_lines_where_rows_begin(tmp_path: Path) -> None:
    array = write(tmp_path, "a.json", '[\n{"a": 1,\n"b": 2},\n\n{"a": 3}\n]')
    table = write(tmp_path, "a.csv", 'a,b\n"x\ny",1\nz,2\n')
    assert [row.place for row in iter_rows(open_source(array).files[0])] == ["a.json:2", "a.json:5"]
    assert [row.place for row in iter_rows(open_source(table).files[0])] == ["a.csv:2", "a.csv:4"]


def test_quotes_are_text_in_tsv(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.tsv", 'a\tb\n"Weird Al" \t"x\n')) == [{"a": '"Weird Al" ', "b": '"x'}]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.jsonl", '{"a": 1}\n{"a": }\n', r"^a\.jsonl:2: JSON: Expecting value at column 7"),
        ("a.jsonl", "[1, 2]\n", r"^a\.jsonl:1: JSON: list where an object is expected"),
        ("a.jsonl", '{"a": NaN}\n', r"^a\.jsonl:1: JSON: NaN is not a JSON number"),
        ("a.jsonl", '{"a": "\\ud800"}\n', r"^a\.jsonl:1: JSON: lone surrogate"),
        ("a.jsonl", "[" * 100_000, r"^a\.jsonl:1: JSON: nested too deep"),
        ("a.jsonl", '{"a": ' + "9" * 5000 + "}", r"^a\.jsonl:1: JSON: "),
        ("a.json", '[{"a": 1},\n{"a": ', r"^a\.json:2: JSON: the array is cut off"),
        ("a.json", '[{"a": 1}, 7]', r"^a\.json:1: JSON: int where an object"),
        ("a.json", '[{"a": Infinity}]', r"^a\.json:1: JSON: Infinity is not"),
        ("a.csv", "a,b\n1,2,3\n", r"^a\.csv:2: row: 3 cells under 2 columns"),
        ("a.csv", "a,a\n1,2\n", r"^a\.csv:1: header: column 'a' appears twice"),
        ("a.csv", 'a,b\n"x"y,1\n', r"^a\.csv:2: row: "),
        ("a.csv", 'a,b\n"never closed,1\n', r"^a\.csv:2: row: "),
        ("a.xyz", "?", r"^a\.xyz: suffix: \.xyz holds no rows"),
        ("a.parquet", "not parquet at all", r"^a\.parquet: Parquet: "),
    ],
)
def test_malformed_rows_are_refused(tmp_path: Path, name: str, text: str, says: str) -> None:
    with pytest.raises(DatasetError, match=says):
        read(write(tmp_path, name, text))


def test_formula_cells_stay_text(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.csv", 'a,b\n=1+1,"@SUM(A1)"\n')) == [{"a": "=1+1", "b": "@SUM(A1)"}]


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_whatever_csv_writes_is_read_back(tmp_path: Path, table: list[tuple[str, str]]) -> None:
    path = tmp_path / "t.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b"])
        writer.writerows([(f"k{a}", f"k{b}") for a, b in table])
    assert read(path) == [{"a": f"k{a}", "b": f"k{b}"} for a, b in table]


@given(st.lists(st.dictionaries(cells, cells | st.integers() | st.none(), max_size=3), max_size=6), st.integers(0, 3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_arrays_are_cut_at_any_block_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: list[dict[str, Any]], indent: int
) -> None:
    monkeypatch.setattr(rows, "_JSON_BLOCK_CHARS", 7)
    path = tmp_path / "t.json"
    path.write_text(json.dumps(values, indent=indent or None, ensure_ascii=False), encoding="utf-8")
    assert read(path) == values
