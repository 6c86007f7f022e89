"""A file of traces under a run that is killed, resumed, or given other settings."""

from pathlib import Path

import pytest

from ranker.backends.scripted import ScriptedBackend
from ranker.elimination import RankConfig, rank
from ranker.errors import DatasetError, UsageError
from ranker.schema import Candidate, Domain, Mode, RankingTask, RankingTrace
from ranker.tracefile import RunKey, TraceWriter, check_same_run, drop_torn_line, read_traces


def make_trace(task_id: str) -> RankingTrace:
    candidates = tuple(Candidate(candidate_id=f"c{i}", text=f"thing {i}\nwith a second line") for i in range(3))
    task = RankingTask(task_id=task_id, domain=Domain.OTHER, query="which?", candidates=candidates)
    return rank(task, ScriptedBackend(), RankConfig())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with TraceWriter(tmp_path / "new" / "traces.jsonl") as writer:
        for task_id in ("a", "b"):
            writer.add(make_trace(task_id))
    return tmp_path / "new" / "traces.jsonl"


def test_what_was_written_is_read(tmp_path: Path) -> None:
    traces = [make_trace("a"), make_trace("b")]
    with TraceWriter(tmp_path / "t.jsonl") as writer:
        for trace in traces:
            writer.add(trace)
    assert list(read_traces(tmp_path / "t.jsonl")) == traces


def test_trace_is_on_disk_before_the_next_one(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "t.jsonl") as writer:
        writer.add(make_trace("a"))
        assert [trace.task_id for trace in read_traces(tmp_path / "t.jsonl")] == ["a"]


def test_every_cut_of_the_last_line_leaves_the_first(path: Path) -> None:
    whole = path.read_bytes()
    end_of_first = whole.index(b"\n") + 1
    for cut in range(end_of_first, len(whole) - 1, 97):
        path.write_bytes(whole[:cut])
        assert drop_torn_line(path) == cut - end_of_first
        assert path.read_bytes() == whole[:end_of_first]


def test_line_that_only_lacks_its_end_is_kept(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert drop_torn_line(path) == 0
    assert path.read_bytes() == whole


def test_whole_file_and_no_file_are_left_alone(path: Path, tmp_path: Path) -> None:
    before = path.read_bytes()
    assert drop_torn_line(path) == 0 == drop_torn_line(tmp_path / "none")
    assert path.read_bytes() == before


def test_single_torn_line_leaves_an_empty_file(tmp_path: Path) -> None:
    torn = tmp_path / "t.jsonl"
    torn.write_text('{"task_id": "a')
    assert drop_torn_line(torn) == 14
    assert torn.read_bytes() == b""


def test_bad_line_in_the_middle_names_its_place(path: Path) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], '{"task_id": "x"}', lines[1]]) + "\n")
    with pytest.raises(DatasetError, match=r"traces\.jsonl:2: "):
        list(read_traces(path))


@pytest.mark.parametrize(
    ("field", "value"), [("model", "other"), ("mode", Mode.DIRECT), ("seed", 9), ("prompt_version", "old")]
)
def test_other_settings_are_refused(field: str, value: object) -> None:
    trace = make_trace("a")
    key = RunKey(trace.model, trace.mode, trace.seed, trace.prompt_version)
    check_same_run(trace, key, "t.jsonl:1")
    with pytest.raises(UsageError, match=rf"^t\.jsonl:1: {field}: "):
        check_same_run(trace, key._replace(**{field: value}), "t.jsonl:1")


def test_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--out"):
        TraceWriter(tmp_path / "file" / "t.jsonl")
