"""What lies on an annotator's desk, and what becomes of what they hand in: over HTTP, as the Correct page does it."""

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from starlette.testclient import TestClient

from ranker.schema import Mode, RankingTask
from studio.app import create_app
from studio.context import Context
from studio.settings import Settings
from studio.store import Store

MODEL = ("c0", "c1", "c2", "c3", "c4")
Json = dict[str, Any]


class Studio(NamedTuple):
    """A studio with a dataset of three tasks, of which the model has ranked the first."""

    client: TestClient
    context: Context
    dataset: str
    trace_id: str

    def post(self, path: str, expect: int = 200, **body: Any) -> Json:
        answer = self.client.post(path, json={"author": "ann", "dataset": self.dataset} | body)
        assert answer.status_code == expect, answer.text
        return answer.json() if answer.content else {}

    def open(self, task_id: str = "t0", **body: Any) -> Json:
        desk: Json = self.post("/api/desk/open", task_id=task_id, **body)["desk"]
        return desk

    def submit(self, *words: Json, expect: int = 201, **body: Any) -> Json:
        sent = {"task_id": "t0", "trace_id": self.trace_id, "words": words, "draft": {"order": []}, "draft_revision": 0}
        return self.post("/api/desk/submit", expect, **sent | body)


def word(correction_id: str = "w1", kind: str = "ranking", payload: Json | None = None, **more: Any) -> Json:
    order = {"order": [["c1"], ["c0"], ["c2"], ["c3"], ["c4"]]}
    return {"correction_id": correction_id, "kind": kind, "payload": payload or order, **more}


@pytest.fixture
def studio(
    settings: Settings, make_task: Callable[..., RankingTask], add_trace: Callable[..., str]
) -> Iterator[Studio]:
    app = create_app(settings, with_pages=False)
    context: Context = app.state.context
    dataset_id = context.store.datasets.add("set", [make_task(f"t{i}") for i in range(3)], source="test").id
    trace_id = add_trace(context.store, dataset_id, make_task("t0"), MODEL)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield Studio(client, context, str(dataset_id), trace_id)


def test_the_desk_has_the_task_the_models_ranking_and_an_order_that_says_nothing(studio: Studio) -> None:
    first = studio.post("/api/desk/next", order_by="dataset")["desk"]
    assert (first["task"]["task_id"], first["start"], first["trace"]["ranking"]) == ("t0", "model", list(MODEL))
    assert [step["excluded_id"] for step in first["trace"]["steps"]] == ["c4", "c3", "c2", "c1"]
    assert sorted(first["pool"]) == sorted(MODEL)
    assert studio.open(author="bob")["pool"] != first["pool"] or studio.open(author="cid")["pool"] != first["pool"]
    unranked = studio.open("t1")
    assert (unranked["start"], unranked["trace"], unranked["trace_id"]) == ("blank", None, None)
    blank = studio.open(start="blank")
    assert (blank["start"], blank["trace"]["ranking"]) == ("blank", list(MODEL))


def test_blind_keeps_the_model_on_the_server_until_something_is_handed_in(studio: Studio) -> None:
    answer = studio.post("/api/desk/open", task_id="t0", start="blind")
    assert (answer["desk"]["trace"], answer["desk"]["trace_id"]) == (None, studio.trace_id)
    assert "excluded_id" not in str(answer)
    said = studio.submit(word(duration_s=4.0))
    assert said["trace"]["ranking"] == list(MODEL)
    assert said["change"]["tau_b"] == pytest.approx(0.8)
    assert said["change"]["first_divergent_step"] == 3
    assert (said["standing"]["num_done"], said["standing"]["median_s"], said["standing"]["num_today"]) == (1, 4.0, 1)


def test_what_a_person_says_of_a_task_is_stored_whole_or_not_at_all(studio: Studio) -> None:
    step = word("w2", "step", {"step_index": 0, "verdict": "right"})
    broken = word("w3", "step", {"step_index": 9, "verdict": "right"})
    assert "has 4 steps" in studio.submit(word(), step, broken, expect=400)["error"]
    assert studio.context.store.corrections.search().total == 0
    label = word("w3", "label", {"relevant": ["c2"]})
    stored = studio.submit(word(), step, label, reason="because", guideline_version=None)["corrections"]
    assert [said["kind"] for said in stored] == ["ranking", "step", "label"]
    assert {said["reason"] for said in stored} == {"because"}
    assert {said["model"] for said in stored} == {"m"}
    desk = studio.open()
    assert [said["correction_id"] for said in desk["said"]] == ["w1", "w2", "w3"]
    assert studio.open(author="bob")["said"] == []
    assert studio.context.store.verify() == []


def test_a_submission_that_is_sent_again_is_stored_once(studio: Studio) -> None:
    words = (word(), word("w2", "label", {"relevant": ["c2"]}))
    first, again = studio.submit(*words), studio.submit(*words, expect=200)
    assert (first["is_new"], again["is_new"]) == (True, False)
    assert first["corrections"] == again["corrections"]
    assert studio.context.store.corrections.search().total == 2


def test_of_two_tabs_neither_overwrites_the_other(studio: Studio) -> None:
    studio.open()
    studio.submit(word("from-a"))
    error = studio.submit(word("from-b"), draft={"order": [["c4"], ["c0"]], "reason": "b"}, expect=409)["error"]
    assert "both" in error
    desk = studio.open()
    assert [said["correction_id"] for said in desk["said"]] == ["from-a"]
    assert desk["draft"]["conflicts"][0]["payload"] == {"order": [["c4"], ["c0"]], "reason": "b"}
    assert (
        studio.submit(word("from-b"), draft_revision=desk["draft"]["revision"])["corrections"][0]["supersedes"]
        == "from-a"
    )
    studio.post("/api/desk/settle", 204, task_id="t0")
    assert studio.open()["draft"]["conflicts"] == []


def test_two_people_on_one_task_have_a_word_each(studio: Studio) -> None:
    studio.open()
    assert studio.open(author="bob")["num_others"] == 1
    studio.submit(word("a"))
    studio.submit(word("b"), author="bob")
    assert {said.author for said in studio.context.corrections.effective(int(studio.dataset))} == {"ann", "bob"}


def test_taking_back_twice_is_taking_back_once_and_the_task_comes_back(studio: Studio) -> None:
    studio.submit(word(), word("w2", "label", {"relevant": ["c2"]}))
    assert studio.post("/api/desk/take-back", correction_ids=["w1"], author="bob", expect=400)["error"]
    for number in (2, 0):
        answer = studio.client.post("/api/desk/take-back", json={"author": "ann", "correction_ids": ["w1", "w2"]})
        assert answer.json() == {"num_withdrawn": number}
    assert studio.open()["said"] == []
    assert studio.post("/api/desk/next", order_by="dataset")["desk"]["task"]["task_id"] == "t0"
    assert studio.context.store.verify() == []


def test_skipping_and_its_undo(studio: Studio) -> None:
    first = studio.post("/api/desk/next", order_by="dataset")["desk"]["task"]["task_id"]
    studio.post("/api/desk/skip", 204, task_id=first)
    answer = studio.post("/api/desk/next", order_by="dataset")
    assert (answer["desk"]["task"]["task_id"], answer["standing"]["num_skipped"]) == ("t1", 1)
    studio.post("/api/desk/release", 204, task_id=first)
    studio.post("/api/desk/skip", 204, task_id="t1")
    assert studio.post("/api/desk/next", order_by="dataset")["desk"]["task"]["task_id"] == first


def test_how_many_people_a_task_gets_is_set_for_the_dataset(studio: Studio) -> None:
    assert studio.post("/api/desk/next", order_by="dataset")["standing"]["overlap"] == 1
    assert studio.post("/api/desk/next", order_by="dataset", author="bob")["desk"]["task"]["task_id"] == "t1"
    body = {"author": "ann", "dataset": studio.dataset, "overlap": 2}
    assert studio.client.put("/api/desk/queue", json=body).json()["overlap"] == 2
    assert studio.post("/api/desk/next", order_by="dataset", author="cid")["desk"]["task"]["task_id"] == "t0"
    for wrong in (0, 101):
        answer = studio.client.put("/api/desk/queue", json=body | {"overlap": wrong})
        assert (answer.status_code, f"overlap: {wrong}" in answer.json()["error"]) == (400, True)
    for author in ("dot", "eve", "fay", "gil"):
        studio.post("/api/desk/next", order_by="dataset", author=author)
    assert studio.post("/api/desk/next", order_by="dataset", author="hal")["desk"] is None


def test_a_link_opens_a_task_by_its_id_alone_and_refuses_what_does_not_fit(
    studio: Studio, make_task: Callable[..., RankingTask]
) -> None:
    assert studio.open("t2", dataset=None)["dataset"] == "set"
    assert studio.open(dataset=None, trace_id=studio.trace_id)["trace_id"] == studio.trace_id
    for body, status, said in (
        ({"task_id": "nope", "dataset": None}, 404, "'nope' is not there"),
        ({"task_id": "t0", "trace_id": "nope"}, 404, "'nope' is not there"),
        ({"task_id": "t1", "trace_id": studio.trace_id}, 400, "is of another task"),
        ({"task_id": "t0", "author": "a\nb\0"}, 400, "printable"),
        ({"task_id": "t0", "start": "anything"}, 400, "start"),
    ):
        assert said in studio.post("/api/desk/open", status, **body)["error"]
    store = studio.context.store
    store.traces.create("running", int(studio.dataset), "t0", model="m", mode=Mode.ITERATIVE, seed=0, config={})
    assert "has no ranking yet" in studio.post("/api/desk/open", 400, task_id="t0", trace_id="running")["error"]


def test_a_draft_comes_back_with_the_trace_that_it_was_made_from(
    studio: Studio, make_task: Callable[..., RankingTask], add_trace: Callable[..., str]
) -> None:
    newer = add_trace(studio.context.store, int(studio.dataset), make_task("t0"), MODEL[::-1], model="newer")
    assert studio.open()["trace_id"] == newer
    draft = {"order": [["c1"], ["c0"]], "trace_id": studio.trace_id}
    body = {"author": "ann", "dataset": studio.dataset, "task_id": "t0", "payload": draft, "revision": 0}
    assert studio.client.put("/api/drafts", json=body).status_code == 200
    desk = studio.open()
    assert (desk["trace_id"], desk["draft"]["payload"]) == (studio.trace_id, draft)
    assert studio.open(trace_id=newer)["trace_id"] == newer


def test_guidelines_are_versioned_and_go_with_what_is_said(studio: Studio) -> None:
    first = studio.post("/api/guidelines", 201, dataset=None, text="# Rule\nbest first")
    assert (studio.open()["guideline"], first["dataset"]) == (first, None)
    second = studio.post("/api/guidelines", 201, text="for this set")
    assert (second["version"], second["dataset"]) == (first["version"] + 1, "set")
    listed = studio.client.get("/api/guidelines", params={"dataset": studio.dataset}).json()["guidelines"]
    assert [one["version"] for one in listed] == [second["version"], first["version"]]
    said = studio.submit(word(), guideline_version=second["version"])["corrections"][0]
    assert said["guideline_version"] == second["version"]
    assert "at most" in studio.post("/api/guidelines", 400, text="x" * 50_001)["error"]


def test_another_site_can_say_nothing(studio: Studio) -> None:
    body = {"author": "ann", "dataset": studio.dataset, "task_id": "t0"}
    answer = studio.client.post("/api/desk/open", json=body, headers={"origin": "http://evil.example"})
    assert answer.status_code == 403


def test_the_counts_of_a_correction_are_kept_with_it(studio: Studio) -> None:
    payload = word()["payload"] | {"start": "model", "keys": 1, "clicks": 0, "gestures": 1}
    stored = studio.submit(word(payload=payload, duration_s=3.2))["corrections"][0]
    assert (stored["payload"], stored["duration_s"]) == (payload, 3.2)


def test_a_database_from_before_the_queue_is_brought_up(studio: Studio, settings: Settings) -> None:
    with sqlite3.connect(settings.database_path) as connection:
        for table in ("token", "session", "account", "queue"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("UPDATE alembic_version SET version_num = '0002'")
    store = Store(settings.database_path)
    store.assignments.set_overlap(int(studio.dataset), 3)
    assert (store.assignments.overlap(int(studio.dataset)), store.verify()) == (3, [])
    store.close()
