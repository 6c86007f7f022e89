"""Datasets by id: the hub's child program on a local directory, and ir-datasets through a small stand-in package."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ranker.datasets import import_source
from ranker.errors import DatasetError

IR_PACKAGE = """
from collections import namedtuple
__version__ = "0"
Query = namedtuple("Query", "query_id text")
Query.default_text = lambda self: self.text
Qrel = namedtuple("Qrel", "query_id doc_id relevance")
Scored = namedtuple("Scored", "query_id doc_id score")
Doc = namedtuple("Doc", "doc_id text")
Doc.default_text = lambda self: self.text

class Dataset:
    def __init__(self, missing): self.missing = missing
    def has(self, part): return part != self.missing
    def queries_iter(self): return iter([Query("1", "text which"), Query("2", "unjudged")])
    def qrels_iter(self): return iter([Qrel("1", "b", 2), Qrel("1", "a", -1)])
    def scoreddocs_iter(self): return iter([Scored("1", d, s) for d, s in (("a", 1.0), ("b", 3.0), ("c", 2.0))])
    def docs_iter(self): return iter([Doc("x", "what is this"), Doc("b", "the which text"), Doc("y", "which which text")])
    def docs_store(self): return self
    def get_many(self, ids): return {i: Doc(i, f"text {i}") for i in ids}

def load(name):
    if name == "unknown": raise KeyError(name)
    return Dataset({"no-run": "scoreddocs", "no-qrels": "qrels"}.get(name))
"""


def test_the_catalogue_of_ir_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ir_datasets.py").write_text(IR_PACKAGE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "ir_datasets", raising=False)
    plan = import_source("ir:any/set", options={"shuffle": "false"})
    (task,) = plan.tasks()
    assert [c.text for c in task.candidates] == ["text b", "text c", "text a"]
    assert task.relevance == {"b": 2.0, "a": 0.0}
    assert (plan.provenance.source, plan.provenance.revision) == ("ir:any/set", "0")
    assert plan.content_hash != import_source("ir:other/set").content_hash
    with pytest.raises(DatasetError, match="ir:unknown: not in the catalogue"):
        import_source("ir:unknown")
    with pytest.raises(DatasetError, match="ir:no-qrels: has no qrels"):
        import_source("ir:no-qrels")
    (searched,) = import_source("ir:no-run", options={"shuffle": "false"}).tasks()
    assert sorted(searched.candidate_ids) == ["b", "y"]
    sys.modules.pop("ir_datasets", None)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    with pytest.raises(DatasetError, match=r"^ir:x: package ir-datasets is not installed: pip install ir-datasets$"):
        import_source("ir:x")


def test_a_hub_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DatasetError, match=r"^hub:nobody/nothing: .*: check the id and the network") as caught:
        import_source("hub:nobody/nothing")
    assert "\n" not in str(caught.value)


def test_the_child_program_streams_rows_as_json_lines(tmp_path: Path) -> None:
    rows = [{"problem": "which?", "candidates": ["a", "b"], "gt": "b"}] * 2
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    command = [sys.executable, "-m", "ranker.datasets.hubrows", "rows", str(tmp_path / "data"), "", "train", ""]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"HF_HOME": str(tmp_path), "PATH": ""}
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == rows
