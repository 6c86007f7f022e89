"""The library: files in and out, names, undo, samples."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ranker.errors import DatasetError, UsageError
from ranker.schema import RankingTask
from studio.library import Library
from studio.store import Store


@pytest.fixture
def library(store: Store, tmp_path: Path) -> Library:
    return Library(store, samples_dir=tmp_path / "samples")


def write_tasks(path: Path, tasks: list[RankingTask]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(task.model_dump_json() + "\n" for task in tasks), encoding="utf-8")
    return path


def test_a_file_comes_in_and_goes_out_the_same(
    library: Library, tmp_path: Path, make_task: Callable[..., RankingTask]
) -> None:
    tasks = [make_task(f"t{i}") for i in range(3)]
    info = library.import_file(write_tasks(tmp_path / "tasks.jsonl", tasks), "  my   tasks ")
    assert (info.name, info.version, info.num_tasks, info.source) == ("my tasks", 1, 3, "tasks.jsonl")
    assert library.import_file(tmp_path / "tasks.jsonl", "my tasks").id == info.id
    assert library.export_file(info.id, tmp_path / "out.jsonl") == 3
    assert library.import_file(tmp_path / "out.jsonl", "my tasks").id == info.id
    assert library.task(info.id, "t1") == tasks[1]


def test_a_bad_line_stops_the_whole_import(
    library: Library, tmp_path: Path, make_task: Callable[..., RankingTask]
) -> None:
    path = write_tasks(tmp_path / "tasks.jsonl", [make_task("a")])
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"task_id": "b", "domain": "other", "query": "q", "candidates": []}) + "\n")
    with pytest.raises(DatasetError, match=r"^tasks\.jsonl:2: ") as caught:
        library.import_file(path, "x")
    assert "\n" not in str(caught.value)
    assert library.datasets(include_deleted=True) == []


def test_delete_can_be_undone(library: Library, tmp_path: Path, make_task: Callable[..., RankingTask]) -> None:
    info = library.import_file(write_tasks(tmp_path / "tasks.jsonl", [make_task()]), "x")
    library.delete(info.id)
    assert library.datasets() == []
    assert library.dataset(info.id).deleted
    assert library.task(info.id, "t1") == make_task()
    assert library.restore(info.id) == info
    assert library.datasets() == [info]


@pytest.mark.parametrize("name", ["", "   ", "a\x1bb", "x" * 81])
def test_names_that_cannot_be_shown_are_refused(library: Library, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="dataset: name: "):
        library.import_file(tmp_path / "tasks.jsonl", name)


def test_samples_come_once_and_deleted_ones_stay_deleted(
    store: Store, tmp_path: Path, make_task: Callable[..., RankingTask]
) -> None:
    samples = tmp_path / "samples"
    write_tasks(samples / "films.jsonl", [make_task("a")])
    (samples / "broken.jsonl").write_text("{", encoding="utf-8")
    library = Library(store, samples_dir=samples)
    assert [info.name for info in library.seed_samples()] == ["films"]
    library.delete(library.datasets()[0].id)
    assert library.seed_samples() == []
    assert library.datasets() == []
