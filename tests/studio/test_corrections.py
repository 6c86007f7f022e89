"""Corrections: what is said is checked, kept, superseded and taken back; who is given which task; nothing is lost."""

import sqlite3
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ranker.errors import StoreError, UsageError
from ranker.schema import (
    Correction,
    CorrectionKind,
    EliminationStep,
    Mode,
    Outcome,
    RankingTask,
    RankingTrace,
    Totals,
    make_ranking,
)
from studio.corrections import Corrections, OrderBy, Submission
from studio.store import NotStoredError, StaleError, Store
from trainer.examples import latest_corrections
from trainer.orders import grade_step, tiers_of_correction

MakeTask = Callable[..., RankingTask]


class Clock:
    """Time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def corrections(store: Store, clock: Clock) -> Corrections:
    return Corrections(store, clock=clock, lease_s=60)


@pytest.fixture
def dataset_id(store: Store, make_task: MakeTask) -> int:
    return store.datasets.add("set", [make_task(f"t{i}") for i in range(4)], source="test").id


def said(author: str = "ann", task_id: str = "t1", order: object = None, **fields: Any) -> Submission:
    payload = {"order": order or [["c0"], ["c1", "c2"]]}
    return Submission(**{"task_id": task_id, "kind": "ranking", "payload": payload, "author": author, **fields})


def store_trace(
    store: Store, dataset_id: int, task: RankingTask, ranking: tuple[str, ...], *, sure: float = 0.5, model: str = "m"
) -> str:
    """A finished trace that ranks as told, excluding with the probability `sure` each time."""
    trace_id = f"{task.task_id}-{model}-{'-'.join(ranking)}"
    store.traces.create(trace_id, dataset_id, task.task_id, model=model, mode=Mode.ITERATIVE, seed=0, config={})
    steps = []
    for index in range(len(ranking) - 1):
        pool = ranking[: len(ranking) - index]
        rest = (1 - sure) / (len(pool) - 1)
        steps.append(
            EliminationStep(
                step_index=index,
                pool=pool,
                excluded_id=pool[-1],
                outcome=Outcome.PARSED,
                probabilities={i: sure if i == pool[-1] else rest for i in pool},
            )
        )
        store.traces.add_step(trace_id, steps[-1])
    trace = RankingTrace(
        task_id=task.task_id, model=model, mode=Mode.ITERATIVE, prompt_version="p-1", ranking=make_ranking(steps),
        steps=tuple(steps), totals=Totals.of(steps),
    )  # fmt: skip
    store.traces.finish(trace_id, trace)
    return trace_id


def test_a_later_word_supersedes_and_taking_back_ends_the_chain(
    store: Store, corrections: Corrections, dataset_id: int
) -> None:
    first = corrections.submit(dataset_id, said())
    second = corrections.submit(dataset_id, said(order=[["c2"], ["c0"]], reason="looked again", duration_s=4.5))
    other = corrections.submit(dataset_id, said("bob"))
    assert (first.dataset, first.supersedes, second.supersedes, other.supersedes) == (
        "set@1", None, first.correction_id, None,
    )  # fmt: skip
    assert corrections.effective(dataset_id, "t1") == [second, other]
    gone = corrections.withdraw(second.correction_id, author="ann")
    assert corrections.effective(dataset_id) == [other]
    assert corrections.history("ann").rows == [gone, second, first]
    again = corrections.submit(dataset_id, said())
    assert again.supersedes == gone.correction_id
    assert corrections.effective(dataset_id) == [other, again]
    every = store.corrections.search().rows
    flags = [c for c in latest_corrections(every) if c.kind is CorrectionKind.FLAG]
    assert [c for c in latest_corrections(every) if c not in flags] == [other, again], "training sees the same words"
    assert store.verify() == []
    for wrong, error in (
        (lambda: corrections.withdraw(again.correction_id, author="bob"), "another author's"),
        (lambda: corrections.withdraw(gone.correction_id, author="ann"), "submit again"),
        (lambda: corrections.submit(dataset_id, said("bob", supersedes=again.correction_id)), "another author's"),
        (lambda: corrections.submit(dataset_id, said(supersedes="nope")), "'nope' is not there"),
        (lambda: corrections.submit(dataset_id, said(supersedes=first.correction_id)), "was superseded by"),
        (lambda: corrections.submit(dataset_id, said(kind="flag", payload={"withdrawn": "x"})), "withdraw it with"),
    ):
        with pytest.raises((UsageError, StoreError), match=error):
            wrong()


def test_words_about_other_things_stand_beside_each_other(
    store: Store, corrections: Corrections, dataset_id: int, make_task: MakeTask
) -> None:
    trace_id = store_trace(store, dataset_id, make_task("t1"), ("c0", "c1", "c2", "c3", "c4"))
    step = {"verdict": "undecidable"}
    for payload in ({"step_index": 0, **step}, {"step_index": 1, **step}, {"step_index": 1, **step}):
        made = corrections.submit(dataset_id, said(kind="step", payload=payload, trace_id=trace_id))
        assert (made.model, made.prompt_version) == ("m", "p-1")
    corrections.submit(dataset_id, said(trace_id=trace_id))
    corrections.submit(dataset_id, said(kind="label", payload={"relevant": []}))
    corrections.submit(dataset_id, said(kind="flag", payload={"flag": "duplicate"}))
    assert [c.kind for c in corrections.effective(dataset_id)] == ["step", "step", "ranking", "label", "flag"]
    assert store.verify() == []


@pytest.mark.parametrize(
    ("payload", "grades"),
    [
        ({"verdict": "exclude", "exclude_ids": ["c2"]}, {"c0": 0, "c1": 0, "c2": 1, "c3": 0}),
        ({"verdict": "any", "exclude_ids": ["c2", "c3"]}, {"c0": 0, "c1": 0, "c2": 1, "c3": 1}),
        ({"verdict": "not_this"}, {"c0": None, "c1": None, "c2": None, "c3": 0}),
        ({"verdict": "right"}, {"c0": 0, "c1": 0, "c2": 0, "c3": 1}),
        ({"verdict": "right_wrong_reason", "rating": 2}, {"c0": 0, "c1": 0, "c2": 0, "c3": 1}),
        ({"verdict": "undecidable"}, {"c0": None, "c1": None, "c2": None, "c3": None}),
    ],
)
def test_a_verdict_on_a_step_means_to_training_what_the_person_meant(
    store: Store, corrections: Corrections, dataset_id: int, make_task: MakeTask, payload: dict[str, Any],
    grades: dict[str, float | None],
) -> None:  # fmt: skip
    task = make_task("t1")
    trace_id = store_trace(store, dataset_id, task, ("c0", "c1", "c2", "c3", "c4"))
    made = corrections.submit(
        dataset_id, said(kind="step", payload={"step_index": 1, **payload}, trace_id=trace_id, correction_id="x")
    )
    assert grade_step(made, task) == (("c0", "c1", "c2", "c3"), grades)
    assert (made.payload["verdict"], made.payload["step_index"]) == (payload["verdict"], 1)
    assert store.corrections.get("x") == made


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"payload": {"order": [["c0"], ["zz"]]}}, r"payload\.order: \['zz'\]: use ids of task t1"),
        ({"payload": {"order": [["c0"], ["c0"]]}}, r"payload\.order.*each once"),
        ({"payload": {"order": [["c0"], []]}}, "says nothing yet"),
        ({"payload": {"order": "c0>c1"}}, r"payload\.order: 'c0>c1'"),
        ({"payload": {"order": [["c0"], ["c1"]], "colour": 1}}, r"payload\.colour"),
        ({"payload": {"order": [["c0"], ["c1", "c2"]], "top": 2}}, r"payload\.top: 2: so many are to stand before"),
        ({"kind": "label", "payload": {"relevant": ["zz"]}}, r"payload\.relevant: \['zz'\]"),
        ({"kind": "step", "payload": {"step_index": 0, "verdict": "undecidable"}}, "name the trace"),
        ({"kind": "step", "payload": {"pool": ["c0", "c1"], "verdict": "any", "exclude_ids": ["c0"]}}, "two at least"),
        ({"kind": "step", "payload": {"pool": ["c0", "c1"], "verdict": "exclude"}}, "exactly one"),
        ({"kind": "step", "payload": {"pool": ["c0", "c1"], "verdict": "exclude", "exclude_ids": ["c2"]}}, "its pool"),
        ({"kind": "step", "payload": {"pool": ["c0", "c1"], "exclude_ids": ["c0"]}}, "needs a verdict"),
        ({"author": " "}, "author: ''"),
        ({"author": "a\nb\x00"}, "printable"),
        ({"task_id": "t9"}, "'t9' is not there"),
        ({"trace_id": "nope"}, "'nope' is not there"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    store: Store, corrections: Corrections, dataset_id: int, fields: dict[str, Any], error: str
) -> None:
    with pytest.raises((UsageError, NotStoredError), match=error) as caught:
        corrections.submit(dataset_id, said(**fields))
    assert "\n" not in str(caught.value)
    assert store.corrections.search().total == 0


def test_the_same_request_twice_is_one_correction(store: Store, corrections: Corrections, dataset_id: int) -> None:
    first = corrections.submit(dataset_id, said(correction_id="from-the-browser"))
    assert corrections.submit(dataset_id, said(correction_id="from-the-browser")) == first
    with pytest.raises(UsageError, match="is another correction already"):
        corrections.submit(dataset_id, said(correction_id="from-the-browser", reason="but"))
    assert store.corrections.search().total == 1


def test_an_old_tab_overwrites_nothing(corrections: Corrections, dataset_id: int) -> None:
    assert corrections.draft("ann", dataset_id, "t1").revision == 0
    first = corrections.save_draft("ann", dataset_id, "t1", {"order": [["c0"]]}, revision=0)
    second = corrections.save_draft("ann", dataset_id, "t1", {"order": [["c1"]]}, revision=first.revision)
    with pytest.raises(StaleError, match="revision 1 is not the newest"):
        corrections.save_draft("ann", dataset_id, "t1", {"order": [["c2"]]}, revision=first.revision)
    kept = corrections.draft("ann", dataset_id, "t1")
    assert (kept.revision, kept.payload) == (second.revision, {"order": [["c1"]]})
    assert [c.payload for c in kept.conflicts] == [{"order": [["c2"]]}]
    with pytest.raises(StaleError, match="is not the newest"):
        corrections.submit(dataset_id, said(draft_revision=first.revision))
    assert corrections.effective(dataset_id) == []
    assert corrections.draft("ann", dataset_id, "t1").conflicts[-1].payload == {"order": [["c0"], ["c1", "c2"]]}
    corrections.submit(dataset_id, said(draft_revision=second.revision))
    closed = corrections.draft("ann", dataset_id, "t1")
    assert closed.payload is None and closed.revision > second.revision
    with pytest.raises(StaleError):
        corrections.save_draft("ann", dataset_id, "t1", {"order": []}, revision=second.revision)
    assert corrections.draft("bob", dataset_id, "t1").revision == 0


def test_two_people_never_get_the_same_task_unless_that_is_wanted(
    corrections: Corrections, dataset_id: int, clock: Clock
) -> None:
    def ask(author: str, overlap: int = 1) -> str | None:
        task = corrections.next_task(author, dataset_id, order_by=OrderBy.DATASET, overlap=overlap)
        return task.task_id if task else None

    assert [ask("ann"), ask("bob"), ask("ann")] == ["t0", "t1", "t0"]
    corrections.submit(dataset_id, said("ann", "t0"))
    corrections.skip("bob", dataset_id, "t1")
    assert [ask("ann"), ask("bob")] == ["t1", "t2"]
    assert ask("eve", overlap=2) == "t0"
    assert corrections.progress("ann", dataset_id) == (1, 0, 4)
    assert corrections.progress("bob", dataset_id) == (0, 1, 4)
    clock.now += timedelta(seconds=61)
    assert ask("dan") == "t1", "a lease that is over blocks nobody"
    corrections.release("bob", dataset_id, "t1")
    clock.now += timedelta(seconds=61)
    assert ask("bob") == "t1"
    for task_id in ("t1", "t2", "t3"):
        corrections.submit(dataset_id, said("ann", task_id))
    assert [ask("ann"), ask("bob")] == [None, "t1"], "what was begun can be finished"
    corrections.submit(dataset_id, said("bob", "t1"))
    assert ask("bob") is None
    with pytest.raises(UsageError, match="overlap: 0"):
        ask("ann", overlap=0)
    random = corrections.next_task("zoe", dataset_id, order_by=OrderBy.RANDOM, overlap=9)
    assert random == corrections.next_task("zoe", dataset_id, order_by=OrderBy.RANDOM, overlap=9)


def test_the_most_uncertain_task_comes_first(
    store: Store, corrections: Corrections, dataset_id: int, make_task: MakeTask
) -> None:
    order = ("c1", "c0", "c2", "c3", "c4")
    store_trace(store, dataset_id, make_task("t0"), order, sure=0.98)
    store_trace(store, dataset_id, make_task("t2"), order, sure=0.4)
    for model, ranking in (("m", order), ("n", order[::-1])):
        store_trace(store, dataset_id, make_task("t3"), ranking, sure=0.4, model=model)
    given = [corrections.next_task(name, dataset_id) for name in "wxyz"]
    assert [task.task_id for task in given if task] == ["t3", "t2", "t0", "t1"]


def test_what_a_correction_changes(
    store: Store, corrections: Corrections, dataset_id: int, make_task: MakeTask
) -> None:
    trace_id = store_trace(store, dataset_id, make_task("t1"), ("c0", "c1", "c2", "c3", "c4"))
    made = corrections.submit(dataset_id, said(order=[["c0"], ["c1"], ["c3"], ["c2"], ["c4"]], trace_id=trace_id))
    change = corrections.change(made)
    assert change is not None
    assert (change.tau_b, change.first_divergent_step) == (pytest.approx(0.8), 1)
    assert corrections.change(corrections.submit(dataset_id, said("bob"))) is None
    assert store.traces.get(trace_id).ranking == ("c0", "c1", "c2", "c3", "c4")


def test_a_person_can_go_and_the_votes_stay(store: Store, corrections: Corrections, dataset_id: int) -> None:
    said_before = corrections.submit(dataset_id, said("Ann  Example", correction_id="one"))
    corrections.save_draft("Ann Example", dataset_id, "t2", {"order": []}, revision=0)
    gone = corrections.forget("Ann Example")
    (vote,) = corrections.effective(dataset_id)
    assert vote == said_before.model_copy(update={"author": gone.name})
    assert corrections.history("Ann Example").rows == []
    with store._database.connect() as connection:
        dump = "\n".join(connection.connection.iterdump())  # type: ignore[attr-defined]
    assert "Ann Example" not in dump
    assert store.corrections.add(dataset_id, said_before).is_new is False, "an old file does not bring the name back"
    assert [a.is_forgotten for a in store.corrections.annotators()] == [True]
    with pytest.raises(NotStoredError):
        corrections.forget("Ann Example")
    assert store.verify() == []


def test_guidelines_have_versions(store: Store) -> None:
    store.corrections.add_guideline("rank by taste")
    own = store.corrections.add_guideline("rank by year", "films")
    newest = store.corrections.add_guideline("rank by taste, *then* year")
    assert [g.version for g in store.corrections.guidelines("films")] == [own.version, newest.version, 1]
    assert store.corrections.guidelines()[0] == newest


def test_the_database_itself_keeps_what_was_said(store: Store, corrections: Corrections, dataset_id: int) -> None:
    corrections.submit(dataset_id, said())
    with sqlite3.connect(store.path) as connection:
        for statement in ("UPDATE correction SET payload = '{}'", "DELETE FROM correction"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement)


def test_verify_finds_what_was_tampered_with(store: Store, corrections: Corrections, dataset_id: int) -> None:
    first = corrections.submit(dataset_id, said())
    second = corrections.submit(dataset_id, said())
    corrections.submit(dataset_id, said("bob"))
    with sqlite3.connect(store.path) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(
            "UPDATE correction SET supersedes = ? WHERE correction_id = ?", (second.correction_id, first.correction_id)
        )
        connection.execute('UPDATE correction SET payload = \'{"order": [["zz"], ["c0"]]}\' WHERE annotator_pk = 2')
    problems = "\n".join(store.verify())
    assert problems.count("goes round in a circle") == 2
    assert "payload.order: ['zz']" in problems


def test_ten_people_at_once_lose_and_double_nothing(store: Store, make_task: MakeTask) -> None:
    """200 words each, every tenth sent twice, on tasks that all of them share."""
    dataset_id = store.datasets.add("set", [make_task(f"t{i}") for i in range(100)], source="test").id
    corrections = Corrections(store)
    errors: list[StoreError] = []

    def annotate(person: int) -> None:
        try:
            for n in range(200):
                one = said(f"person {person}", f"t{n % 100}", correction_id=f"{person}-{n}")
                corrections.submit(dataset_id, one)
                if n % 10 == 0:
                    corrections.submit(dataset_id, one)
        except StoreError as error:
            errors.append(error)

    threads = [threading.Thread(target=annotate, args=(person,)) for person in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    every = store.corrections.search().rows
    assert sorted(c.correction_id for c in every) == sorted(f"{p}-{n}" for p in range(10) for n in range(200))
    current = corrections.effective(dataset_id)
    assert sorted(c.correction_id for c in current) == sorted(f"{p}-{n}" for p in range(10) for n in range(100, 200))
    assert store.verify() == []


def test_people_who_ask_at_once_get_different_tasks(store: Store, make_task: MakeTask) -> None:
    dataset_id = store.datasets.add("set", [make_task(f"t{i}") for i in range(20)], source="test").id
    corrections = Corrections(store)
    given: dict[str, list[str]] = {f"person {n}": [] for n in range(5)}

    def ask(name: str) -> None:
        for _ in range(4):
            task = corrections.next_task(name, dataset_id, order_by=OrderBy.DATASET)
            assert task is not None
            given[name].append(task.task_id)
            corrections.submit(dataset_id, said(name, task.task_id))

    threads = [threading.Thread(target=ask, args=(name,)) for name in given]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(i for ids in given.values() for i in ids) == sorted(f"t{i}" for i in range(20))


def test_what_was_begun_comes_back_although_somebody_else_has_spoken(corrections: Corrections, dataset_id: int) -> None:
    held = corrections.next_task("ann", dataset_id, order_by=OrderBy.DATASET)
    assert held is not None
    corrections.submit(dataset_id, said("bob", held.task_id))
    assert corrections.next_task("ann", dataset_id, order_by=OrderBy.DATASET) == held


def test_records_survive_the_store(store: Store, dataset_id: int, make_task: MakeTask) -> None:
    whole = Correction(
        correction_id="all", task_id="t1", trace_id="of another machine", kind=CorrectionKind.RANKING, author="Zoë",
        created_at="2026-01-02T03:04:05+00:00", reason="because\nof ✓", payload={"order": [["c0", "c1"], ["c2"]]},
        dataset="set@1", duration_s=1.25, model="m", prompt_version="p", guideline_version=3, is_gold=True,
    )  # fmt: skip
    assert store.corrections.add(dataset_id, whole, follow=False).correction == whole
    assert tiers_of_correction(store.corrections.get("all"), make_task("t1")) == (("c0", "c1"), ("c2",))
