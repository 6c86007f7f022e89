"""The store: migrations, records that survive it, search, immutable versions, verification."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ranker.errors import DatasetError, StoreError, UsageError
from ranker.schema import (
    Candidate,
    Domain,
    EliminationStep,
    Mode,
    Outcome,
    RankingTask,
    RankingTrace,
    Totals,
    make_ranking,
)
from studio.store import NotStoredError, Store, TraceFilter, TraceState, new_trace_id
from studio.store.database import Database, known_versions
from studio.store.tables import SQLModel

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
SOME_TEXT = TEXT.filter(lambda text: text != "")
IDENTIFIERS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)


@st.composite
def tasks(draw: st.DrawFn) -> RankingTask:
    ids = draw(st.lists(IDENTIFIERS, min_size=2, max_size=6, unique=True))
    return RankingTask(
        task_id=draw(IDENTIFIERS),
        domain=draw(st.sampled_from(Domain)),
        query=draw(TEXT),
        history=tuple(draw(st.lists(TEXT, max_size=3))),
        candidates=tuple(
            Candidate(
                candidate_id=i, text=draw(SOME_TEXT), metadata=draw(st.dictionaries(TEXT, st.integers(), max_size=2))
            )
            for i in ids
        ),
        relevance={i: draw(st.floats(0, 5)) for i in ids[:2]},
        criterion=draw(st.none() | TEXT),
    )


@st.composite
def full_steps(draw: st.DrawFn, task: RankingTask) -> tuple[EliminationStep, ...]:
    pool = list(draw(st.permutations(task.candidate_ids)))
    steps = []
    while len(pool) > 1:
        gone = draw(st.sampled_from(pool))
        steps.append(
            EliminationStep(
                step_index=len(steps),
                pool=tuple(pool),
                excluded_id=gone,
                prompt=draw(TEXT),
                reasoning=draw(TEXT),
                answer=draw(TEXT),
                outcome=draw(st.sampled_from(Outcome)),
                probabilities=draw(st.none() | st.just({i: 1 / len(pool) for i in pool})),
                prompt_tokens=draw(st.integers(0, 9999)),
                completion_tokens=draw(st.integers(0, 9999)),
                latency_s=draw(st.floats(0, 100)),
            )
        )
        pool.remove(gone)
    return tuple(steps)


def add_dataset(store: Store, given: list[RankingTask], name: str = "set") -> int:
    return store.datasets.add(name, given, source="test").id


def create_trace(store: Store, dataset_id: int, task: RankingTask, **fields: object) -> str:
    trace_id = new_trace_id()
    defaults = {"model": "m", "mode": Mode.ITERATIVE, "seed": 0, "config": {"think_tokens": 4}}
    store.traces.create(trace_id, dataset_id, task.task_id, **{**defaults, **fields})  # type: ignore[arg-type]
    return trace_id


def finish_trace(store: Store, trace_id: str, task: RankingTask, steps: tuple[EliminationStep, ...]) -> None:
    for step in steps:
        store.traces.add_step(trace_id, step)
    trace = RankingTrace(
        task_id=task.task_id,
        model="m",
        mode=Mode.ITERATIVE,
        prompt_version="p-1",
        ranking=make_ranking(steps),
        steps=steps,
        totals=Totals.of(steps),
    )
    store.traces.finish(trace_id, trace)


def steps_in_order(task: RankingTask, reasoning: str = "because") -> tuple[EliminationStep, ...]:
    """Excludes the last candidate of the pool each time."""
    ids = task.candidate_ids
    return tuple(
        EliminationStep(
            step_index=i,
            pool=ids[: len(ids) - i],
            excluded_id=ids[-1 - i],
            reasoning=f"{reasoning} {i}",
            outcome=Outcome.PARSED,
            prompt_tokens=10,
        )
        for i in range(len(ids) - 1)
    )


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = Store(tmp_path_factory.mktemp("shared") / "studio.db")
    yield opened
    opened.close()


def test_migrations_make_what_the_tables_say(tmp_path: Path) -> None:
    path = tmp_path / "studio.db"
    database = Database(path)
    assert database.version() == known_versions()[-1]
    database.close()
    with sqlite3.connect(path) as connection:
        for table in SQLModel.metadata.sorted_tables:
            made = {row[1] for row in connection.execute(f"PRAGMA table_info({table.name})")}
            assert made == {column.name for column in table.columns}, table.name


def test_a_database_from_before_corrections_is_brought_up(
    tmp_path: Path, make_task: Callable[..., RankingTask]
) -> None:
    path = tmp_path / "old.db"
    store = Store(path)
    dataset_id = add_dataset(store, [make_task("t1")])
    store.close()
    with sqlite3.connect(path) as connection:
        for table in (
            "token",
            "session",
            "account",
            "queue",
            "guideline",
            "assignment",
            "draft",
            "correction",
            "annotator",
        ):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    store = Store(path)
    store.drafts.save("ann", dataset_id, "t1", {"order": []}, revision=0)
    assert (store.verify(), store.datasets.get(dataset_id).num_tasks) == ([], 1)
    assert (store.corrections.search().total, store.drafts.get("ann", dataset_id, "t1").revision) == (0, 1)
    store.close()


def test_migrations_are_numbered_without_gaps() -> None:
    assert known_versions() == [f"{i + 1:04d}" for i in range(len(known_versions()))]


def test_connections_are_set_up_for_many_readers(store: Store) -> None:
    with store._database.connect() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "busy_timeout", "foreign_keys", "synchronous")
        }
    assert found == {"journal_mode": "wal", "busy_timeout": 5000, "foreign_keys": 1, "synchronous": 1}


def test_a_database_newer_than_the_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "studio.db"
    Store(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match=r"studio\.db: version: 9999 is newer .* update the program$"):
        Store(path)


def test_a_file_that_is_no_database_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "studio.db"
    path.write_bytes(b"not a database at all " * 500)
    with pytest.raises(StoreError, match="not a database") as caught:
        Store(path)
    assert "\n" not in str(caught.value)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_tasks_and_traces_survive_the_store(shared_store: Store, data: st.DataObject) -> None:
    given_tasks = data.draw(st.lists(tasks(), min_size=1, max_size=3, unique_by=lambda t: t.task_id))
    dataset_id = add_dataset(shared_store, given_tasks)
    assert list(shared_store.datasets.iter_tasks(dataset_id)) == given_tasks
    task = given_tasks[0]
    steps = data.draw(full_steps(task))
    trace_id = create_trace(shared_store, dataset_id, task)
    finish_trace(shared_store, trace_id, task, steps)
    stored = shared_store.traces.get(trace_id)
    assert (stored.task, stored.steps, stored.ranking) == (task, steps, make_ranking(steps))
    assert RankingTrace.model_validate_json(stored.to_trace().model_dump_json()) == stored.to_trace()
    assert shared_store.verify() == []


def test_the_same_content_is_recognised_and_other_content_is_the_next_version(
    store: Store, make_task: Callable[..., RankingTask]
) -> None:
    first = store.datasets.add("set", [make_task("a")], source="a.jsonl")
    store.datasets.set_deleted(first.id, True)
    again = store.datasets.add("set", [make_task("a")], source="b.csv")
    assert again == first
    second = store.datasets.add("set", [make_task("a"), make_task("b")], source="a.jsonl")
    assert (second.version, second.num_tasks) == (2, 2)
    assert store.datasets.get(first.id).num_tasks == 1
    assert store.datasets.latest("set") == second
    assert store.datasets.add("other", [make_task("a")], source="a.jsonl").name == "other"


def test_an_import_that_fails_leaves_nothing(store: Store, make_task: Callable[..., RankingTask]) -> None:
    def broken() -> Iterator[RankingTask]:
        for i in range(700):
            yield make_task(f"t{i}")
        raise DatasetError("f.jsonl:701: query: 3: write text")

    with pytest.raises(DatasetError, match=r"f\.jsonl:701"):
        store.datasets.add("set", broken(), source="f.jsonl")
    with pytest.raises(DatasetError, match="'t0' appears twice"):
        store.datasets.add("set", [make_task("t0"), make_task("t0")], source="f.jsonl")
    with pytest.raises(DatasetError, match="there are none"):
        store.datasets.add("set", [], source="f.jsonl")
    assert store.datasets.list(include_deleted=True) == []
    assert store.datasets.add("set", [make_task("t0")], source="f.jsonl").version == 1


def test_an_import_can_be_cancelled_and_reports(store: Store, make_task: Callable[..., RankingTask]) -> None:
    cancel, reports = threading.Event(), []

    def report(num_tasks: int) -> None:
        reports.append(num_tasks)
        if num_tasks >= 1000:
            cancel.set()

    with pytest.raises(UsageError, match="cancelled: nothing was stored"):
        endless = (make_task(f"t{i}") for i in range(10**9))
        store.datasets.add("set", endless, source="f.jsonl", report=report, cancel=cancel)
    assert reports == [500, 1000]
    assert store.datasets.list() == []


def test_a_ranking_is_written_while_an_import_reads(store: Store, make_task: Callable[..., RankingTask]) -> None:
    """Reading a file takes long; writers must not wait for it."""
    task = make_task()
    dataset_id = add_dataset(store, [task])
    written = []

    def slow_source() -> Iterator[RankingTask]:
        yield make_task("a")
        written.append(create_trace(store, dataset_id, task))
        yield make_task("b")

    store.datasets.add("big", slow_source(), source="big.jsonl")
    assert store.traces.get(written[0]).state is TraceState.QUEUED


def test_tasks_are_paged_and_searched_by_all_words(store: Store, make_task: Callable[..., RankingTask]) -> None:
    given_tasks = [
        make_task(f"t{i}", query=f"query {i} about {'Zürich' if i % 10 == 0 else 'rome'}") for i in range(60)
    ]
    dataset_id = add_dataset(store, given_tasks)
    add_dataset(store, [make_task("t0", query="zurich elsewhere")], name="other")
    page = store.datasets.tasks(dataset_id, offset=55, limit=10)
    assert ([row.task_id for row in page.rows], page.total) == ([f"t{i}" for i in range(55, 60)], 60)
    found = store.datasets.tasks(dataset_id, query="ZURI", offset=1, limit=2)
    assert ([row.position for row in found.rows], found.total) == ([10, 20], 6)
    assert store.datasets.tasks(dataset_id, query='query AND "').total == 0
    assert store.datasets.tasks(dataset_id, query="?!").total == 0
    with pytest.raises(NotStoredError, match="dataset: 99"):
        store.datasets.tasks(99)


def test_handwritten_tasks_are_appended_and_recognised(store: Store, make_task: Callable[..., RankingTask]) -> None:
    dataset_id, _ = store.datasets.append("handwritten", make_task("t"))
    assert store.datasets.append("handwritten", make_task("t")) == (dataset_id, "t")
    other = make_task("t", query="something else")
    assert store.datasets.append("handwritten", other) == (dataset_id, "t~2")
    assert store.datasets.append("handwritten", other) == (dataset_id, "t~2")
    assert store.datasets.task(dataset_id, "t~2").query == "something else"
    info = store.datasets.get(dataset_id)
    assert (info.num_tasks, info.domains) == (2, {Domain.OTHER: 2})
    assert store.datasets.tasks(dataset_id, query="something").total == 1
    assert store.verify() == []


def test_an_imported_version_is_never_appended_to(store: Store, make_task: Callable[..., RankingTask]) -> None:
    imported = store.datasets.add("handwritten", [make_task("a")], source="a.jsonl")
    written, _ = store.datasets.append("handwritten", make_task("b"))
    assert store.datasets.get(imported.id) == imported
    assert store.datasets.get(written).version == 2
    store.datasets.set_deleted(written, True)
    again, _ = store.datasets.append("handwritten", make_task("c"))
    assert (store.datasets.get(again).version, store.datasets.get(again).num_tasks) == (3, 1)
    assert store.datasets.get(written).deleted


def test_traces_are_found_by_query_candidates_and_reasoning(
    store: Store, make_task: Callable[..., RankingTask]
) -> None:
    given_tasks = [make_task("a", query="mars"), make_task("b", query="venus")]
    dataset_id = add_dataset(store, given_tasks)
    first = create_trace(store, dataset_id, given_tasks[0])
    second = create_trace(store, dataset_id, given_tasks[1], model="n", mode=Mode.DIRECT)
    finish_trace(store, first, given_tasks[0], steps_in_order(given_tasks[0], "the <b>cheapest</b> one"))
    search = store.traces.search
    ids = lambda **kw: [row.trace_id for row in search(**kw).rows]  # noqa: E731
    assert ids() == [second, first]
    assert ids(text="mars") == ids(text="cheapest mars") == ids(text="cheap") == [first]
    assert ids(text="thing number 3") == [second, first]
    assert ids(text="venus cheapest") == []
    assert ids(model="n") == ids(mode=Mode.DIRECT) == ids(state=TraceState.QUEUED) == [second]
    assert ids(outcome=Outcome.PARSED) == ids(max_rank=2) == ids(min_rank=2) == [first]
    assert ids(max_rank=1) == ids(min_rank=3) == ids(dataset_id=99) == ids(since="2999") == []
    assert search(limit=1, offset=1).total == 2
    assert [row.trace_id for row in store.traces.of_task(dataset_id, "a")] == [first]
    lines = list(store.traces.export(TraceFilter(text="mars")))
    assert [RankingTrace.model_validate_json(line).trace_id for line in lines] == [first]
    assert store.traces.sums().prompt_tokens == 40


def test_a_step_is_stored_once(store: Store, make_task: Callable[..., RankingTask]) -> None:
    task = make_task()
    trace_id = create_trace(store, add_dataset(store, [task]), task)
    step = steps_in_order(task)[0]
    store.traces.add_step(trace_id, step)
    with pytest.raises(StoreError, match="UNIQUE"):
        store.traces.add_step(trace_id, step)
    assert store.traces.get(trace_id).totals.num_steps == 1
    assert store.verify() == []


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("UPDATE task SET record = replace(record, 'mars', 'moon')", "sha256"),
        ('UPDATE trace SET ranking = \'["c4","c3","c2","c1","c0"]\'', "reverse order of exclusion"),
        ("UPDATE trace SET rank_of_relevant = 5", "rank_of_relevant: 5 does not follow"),
        ("UPDATE trace SET totals = replace(totals, '\"num_steps\":4', '\"num_steps\":7')", "totals: differ"),
        ("UPDATE trace SET state = 'running'", "state: running, but it has a ranking"),
        ("DELETE FROM step WHERE step_index = 3", "2 candidates are left"),
        ("UPDATE step SET outcome = 'forced' WHERE step_index = 1", "step 1: its columns differ"),
        ("UPDATE step SET record = '{}' WHERE step_index = 1", "record: step_index: Field required"),
        ("UPDATE trace_text SET reasoning = ''", "search: its text"),
        ("DELETE FROM trace_text", "1 rows cannot be found by search"),
        ("INSERT INTO trace_text (rowid, query) VALUES (77, 'x')", "1 search entries have no row (first: 77)"),
        ("DELETE FROM task", "points at a row of task that is not there"),
    ],
)
def test_verify_finds_what_was_changed(
    tmp_path: Path, make_task: Callable[..., RankingTask], damage: str, expected: str
) -> None:
    store = Store(tmp_path / "damaged.db")
    task = make_task()
    trace_id = create_trace(store, add_dataset(store, [task]), task)
    finish_trace(store, trace_id, task, steps_in_order(task))
    assert store.verify() == []
    with sqlite3.connect(store.path) as connection:
        connection.execute(damage)
    problems = store.verify()
    store.close()
    assert any(expected in problem for problem in problems), problems
    assert all("\n" not in problem for problem in problems)
