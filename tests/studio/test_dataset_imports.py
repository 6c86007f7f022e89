"""Datasets into the store: raw data, recipes, the doctor's veto, versions, and nothing by halves."""

import json
import threading
from pathlib import Path

import pytest

from ranker.backends.scripted import ScriptedBackend
from ranker.datasets import Report, load_tasks
from ranker.errors import DatasetError, UsageError
from studio.cli import main
from studio.library import Library
from studio.store import Store


@pytest.fixture
def library(store: Store, tmp_path: Path) -> Library:
    return Library(store, samples_dir=tmp_path / "no-samples")


def task_line(task_id: str, *, query: str = "which?", history: tuple[str, ...] = ()) -> str:
    candidates = [{"candidate_id": c, "text": f"candidate {c}"} for c in "abc"]
    values = {"task_id": task_id, "domain": "other", "query": query, "candidates": candidates, "relevance": {"a": 1}}
    return json.dumps(values | ({"history": history} if history else {})) + "\n"


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """Six users who each saw 25 of 60 films in the order of the file."""
    root = tmp_path / "ml"
    root.mkdir()
    seen = [f"{user},{(user * 7 + n * 3) % 60},4.0,{n}" for user in range(6) for n in range(20)]
    more = [f"{user},{(user * 7 + n * 3 + 1) % 60},4.0,{50 + n}" for user in range(6) for n in range(5)]
    (root / "ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *seen, *more]))
    (root / "movies.csv").write_text("movieId,title,genres\n" + "".join(f"{i},Film {i},Drama\n" for i in range(60)))
    return root


def test_a_recipe_is_stored_with_how_it_was_made_and_what_the_doctor_said(library: Library, films: Path) -> None:
    info = library.import_source("recipe:rec-movie", "films", from_dir=films, options={"seed": "1"})
    assert (info.num_tasks, info.domains) == (6, {"recommendation": 6})
    assert info.source == "recipe:rec-movie from ml"
    assert info.provenance["options"]["seed"] == 1
    assert info.provenance["counts"]["interactions_read"] == 150
    report = Report.model_validate(info.provenance["report"])
    assert report.num_tasks == 6
    assert report.random_mrr == pytest.approx(0.18, abs=0.001)


def test_the_same_content_is_recognised_and_other_content_is_the_next_version(library: Library, films: Path) -> None:
    first = library.import_source(films, "films")
    told: list[int] = []
    assert library.import_source(films, "films", report=told.append) == first
    assert told == []
    library.delete(first.id)
    assert not library.import_source(films, "films").deleted
    assert library.import_source(films, "films", options={"seed": 2}).version == 2
    with (films / "ratings.csv").open("a") as file:
        file.write("".join(f"\n77,{i},3.0,{i}" for i in range(30)))
    third = library.import_source(films, "films")
    assert (third.version, third.num_tasks) == (3, 7)
    assert library.dataset(first.id).num_tasks == 6


def test_the_doctors_errors_block_an_import_unless_allowed(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "leak.jsonl"
    path.write_text(task_line("t1") + task_line("t2", history=("candidate a",)))
    with pytest.raises(
        DatasetError, match=r"^leak\.jsonl: check: In 1 tasks a relevant candidate is already in the history"
    ) as e:
        library.import_source(path, "leak")
    assert "\n" not in str(e.value)
    assert library.datasets(include_deleted=True) == []
    info = library.import_source(path, "leak", allow=True)
    assert [f["check"] for f in info.provenance["report"]["findings"] if f["severity"] == "error"] == [
        "target_in_history"
    ]


@pytest.mark.parametrize(
    "bad",
    [b"{", b"\xff\xfe", task_line("t0").encode(), b'{"task_id": "x"}', b"[]", b'"\\ud800"', b"{}" * 5],
)
def test_a_bad_line_far_down_leaves_nothing_behind(library: Library, tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes("".join(task_line(f"t{i}") for i in range(1200)).encode() + bad + b"\n")
    with pytest.raises(DatasetError):
        library.import_source(path, "t")
    assert library.datasets(include_deleted=True) == []
    path.write_text(task_line("t0"))
    assert library.import_source(path, "t").version == 1


def test_a_cancelled_import_leaves_nothing_behind(library: Library, films: Path) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(UsageError, match="was cancelled"):
        library.import_source(films, "films", cancel=cancel)
    assert library.datasets(include_deleted=True) == []


def test_a_check_compares_with_the_other_datasets_and_counts_the_models_tokens(
    library: Library, tmp_path: Path
) -> None:
    for name, ids in (("train", "abc"), ("test", "cd")):
        (tmp_path / f"{name}.jsonl").write_text("".join(task_line(i, query=f"question {i}") for i in ids))
        library.import_file(tmp_path / f"{name}.jsonl", name)
    test, train = library.datasets()
    report = library.check(test.id, model=ScriptedBackend())
    assert [(f.check, f.count) for f in report.findings if f.check == "shared_queries"] == [("shared_queries", 1)]
    assert "'train@1'" in next(f.message for f in report.findings if f.check == "shared_queries")
    assert report.budget is not None
    assert report.budget.unit == "tokens"
    assert not [f for f in library.check(train.id, against=[]).findings if f.check == "shared_queries"]


def run(capsys: pytest.CaptureFixture[str], data_dir: Path, *argv: object) -> tuple[int, str, str]:
    code = main(["data", *[str(a) for a in argv], "--data-dir", str(data_dir)])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_commands_import_check_and_export(capsys: pytest.CaptureFixture[str], tmp_path: Path, films: Path) -> None:
    data_dir = tmp_path / "data"
    code, out, _ = run(
        capsys, data_dir, "import", "recipe:rec-movie", "--from", films, "--as", "films", "--option", "num_candidates=5"
    )
    assert code == 0
    assert out.startswith("films: version 1, 6 tasks\n")
    assert "random order 0.46" in out
    code, out, _ = run(capsys, data_dir, "check", "films", "--json")
    assert (code, json.loads(out)["num_tasks"]) == (0, 6)
    code, out, _ = run(capsys, data_dir, "export", "films", "--out", tmp_path / "out.csv")
    assert code == 0
    assert len(list(load_tasks(tmp_path / "out.csv"))) == 6


def test_a_plan_is_shown_and_stores_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("question,choices,gold\nwho?,you|me,me\n")
    arguments = ("import", tmp_path / "t.csv", "--as", "t", "--plan", "--option", "candidates=choices")
    code, out, _ = run(capsys, tmp_path / "data", *arguments)
    assert code == 0
    assert "mapping  query=question, candidates=choices, relevance=gold" in out
    _, out, _ = run(capsys, tmp_path / "data", "list", "--json")
    assert "t" not in [d["name"] for d in json.loads(out)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("import", "recipe:rec-movie", "--as", "x"), "recipe:rec-movie: needs the raw files: add --from DIR"),
        (("import", "no-such-file", "--as", "x"), "no-such-file: path: does not exist"),
        (("import", "x", "--as", "x", "--option", "seed"), "--option: 'seed': write KEY=VALUE"),
        (("check", "nothing"), "nothing"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    code, _, err = run(capsys, tmp_path / "data", *arguments)
    assert code == 2
    assert says in err
    assert len(err.strip().splitlines()) == 1


def test_check_says_2_where_there_are_errors(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "leak.jsonl"
    path.write_text(task_line("t", history=("Candidate A",)))
    code, _, err = run(capsys, tmp_path / "data", "import", path, "--as", "leak")
    assert code == 2
    assert "already in the history" in err
    assert run(capsys, tmp_path / "data", "import", path, "--as", "leak", "--allow")[0] == 0
    code, out, _ = run(capsys, tmp_path / "data", "check", "leak")
    assert code == 2
    assert "error   In 1 tasks" in out
