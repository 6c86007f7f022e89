"""The way in: plans, recipes, provenance, the same bytes for the same seed, and no crash on any bytes."""

import json
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ranker.datasets import RECIPES, dump_tasks, import_source, load_tasks, task_line
from ranker.datasets.readers import READERS
from ranker.errors import DatasetError
from ranker.schema import RankingTask

LINE = {
    "task_id": "t",
    "domain": "other",
    "query": "which is it?",
    "candidates": [{"candidate_id": "a", "text": "this"}, {"candidate_id": "b", "text": "that"}],
    "relevance": {"a": 1},
}


def ratings(root: Path, *, num_users: int = 12, num_items: int = 60) -> Path:
    """A MovieLens-like directory in which every user saw half of the films."""
    root.mkdir(exist_ok=True)
    rng = random.Random(5)
    rows = ["userId,movieId,rating,timestamp"]
    for user in range(num_users):
        rows += [f"{user},{i},4.0,{rng.randrange(50)}" for i in rng.sample(range(num_items), num_items // 2)]
    (root / "ratings.csv").write_text("\n".join(rows))
    films = "".join(f"{i},Film {i} (2001),Drama\n" for i in range(num_items))
    (root / "movies.csv").write_text("movieId,title,genres\n" + films)
    return root


def routing(root: Path) -> Path:
    root.mkdir(exist_ok=True)
    rows = "".join(
        f"{task},question {q},m{m},{(q * 7 + m * 3) % 10 / 10},{m / 10}\n"
        for q, task in enumerate(["qa", "multi_news", "math"] * 4)
        for m in range(4)
    )
    (root / "router_data.csv").write_text("task_id,query,llm,effect,cost\n" + rows)
    return root


def qna(root: Path) -> Path:
    root.mkdir(exist_ok=True)
    lines = []
    for number in range(12):
        size = (5, 7, 9)[number % 3]
        passages = {
            "is_selected": [int(i == number % size) for i in range(size)],
            "passage_text": [f"p{i}" * 9 for i in range(size)],
        }
        lines.append(json.dumps({"query_id": number, "query": f"q {number}", "passages": passages}))
    (root / "dev.jsonl").write_text("\n".join(lines))
    return root


SOURCES = {"rec": ratings, "router": routing, "passage": qna}


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_builds_its_task_and_says_how(tmp_path: Path, name: str) -> None:
    root = SOURCES[name.split("-")[0]](tmp_path / "raw")
    plan = import_source(f"recipe:{name}", from_dir=root, options={"seed": "3"})
    tasks = list(plan.tasks())
    made = plan.provenance
    assert tasks
    assert made.recipe == name
    assert made.options["seed"] == 3
    assert made.counts["tasks"] == len(tasks) == made.counts["train_tasks"] + made.counts["test_tasks"]
    assert len(made.content_hash) == 64
    sizes = {"rec": 20, "router": 4}.get(name.split("-")[0]) or int(name[-1])
    assert {len(t.candidates) for t in tasks} == {sizes}
    if name.startswith("rec"):
        assert {len(t.history) for t in tasks} == {20}
    if name.startswith("router"):
        assert made.counts["queries_left_out_task"] == 4
    assert json.loads(made.model_dump_json())["recipe"] == name


@pytest.mark.parametrize("kind", sorted(SOURCES))
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path, kind: str) -> None:
    root = SOURCES[kind](tmp_path / "raw")

    def lines(seed: int) -> str:
        return "\n".join(task_line(t) for t in import_source(root, options={"seed": seed}).tasks())

    assert lines(1) == lines(1)
    assert lines(1) != lines(2)


def test_a_plan_can_be_run_twice_and_counts_afresh(tmp_path: Path) -> None:
    plan = import_source(ratings(tmp_path / "raw"))
    assert list(plan.tasks()) == list(plan.tasks())
    assert plan.provenance.counts["users_read"] == 12


def test_other_users_do_not_change_a_users_task(tmp_path: Path) -> None:
    few = {t.task_id: t for t in import_source(ratings(tmp_path / "few", num_users=4)).tasks()}
    many = {t.task_id: t for t in import_source(ratings(tmp_path / "many", num_users=9)).tasks()}
    assert {i: task.candidate_ids for i, task in few.items()} == {i: many[i].candidate_ids for i in few}


def test_a_plan_describes_columns_mapping_and_first_tasks(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("frage,antworten,gold\nwer?,ich|du,du\n")
    options = {"query": "frage", "candidates": "antworten"}
    about = import_source(tmp_path / "t.csv", options=options).describe()
    assert about.columns == ("frage", "antworten", "gold")
    assert about.mapping == {"query": "frage", "candidates": "antworten", "relevance": "gold"}
    assert [t.relevant_ids for t in about.preview] == [{"2"}]
    unmapped = import_source(tmp_path / "t.csv", options=options | {"relevance": ""})
    assert next(iter(unmapped.tasks())).relevance == {}
    assert unmapped.provenance.mapping == {"query": "frage", "candidates": "antworten"}


def test_files_and_reader_can_be_forced(tmp_path: Path) -> None:
    root = ratings(tmp_path / "raw")
    (root / "tasks.jsonl").write_text(json.dumps(LINE))
    assert import_source(root, options={"files": "tasks.*"}).reader.name == "tasks"
    assert import_source(root, options={"files": "tasks.*", "reader": "tasks"}).reader.name == "tasks"
    with pytest.raises(DatasetError, match="files=x: matches none of"):
        import_source(root, options={"files": "x"})
    with pytest.raises(DatasetError, match="reader: 'x' does not exist: use one of recbole"):
        import_source(root, options={"reader": "x"})


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("recipe:rec-film", "recipe:rec-film: does not exist: use one of rec-movie"),
        ("recipe:rec-movie", "recipe:rec-movie: needs the raw files: add --from DIR"),
        ("nothing-here.jsonl", "nothing-here.jsonl: path: does not exist"),
    ],
)
def test_sources_that_do_not_exist(source: str, says: str) -> None:
    with pytest.raises(DatasetError, match=says):
        import_source(source)


def test_a_recipe_considers_readers_of_its_own_kind_only(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no reader recognises it"):
        import_source("recipe:passage-5", from_dir=ratings(tmp_path / "raw"))


def test_task_ids_are_unique_over_all_files(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text(json.dumps(LINE))
    with pytest.raises(DatasetError, match="'t' appears twice: make ids unique"):
        list(import_source(tmp_path).tasks())


def test_a_zip_of_tables_is_one_dataset(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        for i in range(3):
            archive.writestr(f"part-{i}.jsonl", json.dumps(LINE | {"task_id": f"t{i}"}))
    assert [t.task_id for t in import_source(tmp_path / "t.zip").tasks()] == ["t0", "t1", "t2"]


def outcome(path: Path) -> list[RankingTask] | str:
    """The tasks, or the one line of why there are none."""
    try:
        plan = import_source(path)
        plan.describe()
        return list(plan.tasks())
    except DatasetError as error:
        return str(error)


SEEDS = (
    ("t.jsonl", json.dumps(LINE).encode() + b"\n" + json.dumps(LINE | {"task_id": "u"}).encode() + b"\n"),
    ("t.json", json.dumps([LINE]).encode()),
    ("t.csv", b'query,candidates,relevance\nwho?,"[""a"", ""b""]",1\n'),
    ("t.tsv", b"qid\tquery\tdocid\ttext\tlabel\n1\tq\ta\tx\t1\n1\tq\tb\ty\t0\n"),
    ("t.csv", b"task_id,query,llm,effect,cost\nqa,who?,a,1,0\nqa,who?,b,0.5,1\n"),
    ("t.inter", b"user_id:token\titem_id:token\ttimestamp:float\nu\t1\t2\n"),
    ("t.jsonl", b'{"query_id": 1, "query": "q", "passages": {"is_selected": [1, 0], "passage_text": ["a", "b"]}}\n'),
    ("t.json", b'[{"query": "q", "hits": [{"content": "a", "qid": 1, "docid": "1"}]}]'),
    ("t.jsonl", b'{"question": "q", "answer": "1 + 1\\n#### 2"}\n'),
)


@given(seed=st.sampled_from(SEEDS), data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
def test_no_bytes_make_an_import_crash(tmp_path: Path, seed: tuple[str, bytes], data: st.DataObject) -> None:
    name, content = seed
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(0, 4))):
        start = data.draw(st.integers(0, len(changed)))
        end = data.draw(st.integers(start, min(len(changed), start + 6)))
        changed[start:end] = data.draw(
            st.binary(max_size=4) | st.sampled_from([b'"', b"{", b"]", b",", b"\n", b"\t", b"\\u"])
        )
    path = tmp_path / name
    path.write_bytes(bytes(changed))
    result = outcome(path)
    assert isinstance(result, list) or "\n" not in result


@pytest.mark.parametrize("reader", [r.name for r in READERS])
@pytest.mark.parametrize(("name", "content"), SEEDS)
def test_a_reader_that_does_not_fit_says_so(tmp_path: Path, reader: str, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    try:
        list(import_source(tmp_path / name, options={"reader": reader}).tasks())
    except DatasetError as error:
        assert "\n" not in str(error)


def test_builders_tasks_survive_an_export(tmp_path: Path) -> None:
    written: list[Any] = []
    for kind, make in SOURCES.items():
        tasks = list(import_source(make(tmp_path / kind)).tasks())
        dump_tasks(tasks, tmp_path / f"{kind}.jsonl")
        assert list(load_tasks(tmp_path / f"{kind}.jsonl")) == tasks
        written += tasks
    assert len(written) == 36
