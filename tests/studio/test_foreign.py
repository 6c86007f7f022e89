"""Ranking exports of other tools, in the shapes that their documentation shows, and judgements: what comes in, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from ranker.errors import DatasetError, UsageError
from ranker.schema import Candidate, Correction, Domain, RankingTask
from studio.cli import main
from studio.corrections import Corrections, Submission
from studio.exchange import export_corrections, guess_format, import_corrections
from studio.store import Store

USERS = ("2a1c-ann", "7b3d-bob")
Order = list[list[str]]


@pytest.fixture
def filled(store: Store) -> Store:
    """One task of three answers, `m-17`, whose ids no other tool knows."""
    texts = ("Rovers dig.", "Mars is\nfar away.", "Ice is there.")
    candidates = tuple(Candidate(candidate_id=f"c{n}", text=text) for n, text in enumerate(texts))
    task = RankingTask(task_id="m-17", domain=Domain.PASSAGE, query="water on mars?", candidates=candidates)
    store.datasets.add("mars", [task], source="test")
    return store


def write(path: Path, value: Any, *, as_lines: bool = False) -> Path:
    text = "\n".join(json.dumps(v) for v in value) if as_lines else json.dumps(value, indent=1)
    path.write_text(text, encoding="utf-8")
    return path


def said(store: Store) -> dict[str, Order]:
    return {c.author: c.payload["order"] for c in Corrections(store).effective()}


FIELDS = {
    "question": "water on mars?",
    "reply-1": "Rovers dig.",
    "reply-2": "Mars is far away.",
    "reply-3": "Ice is there.",
}


def argilla_1(**metadata: str) -> list[dict[str, Any]]:
    """As `FeedbackDataset` wrote it: ranks may be tied, some responses are drafts."""

    def response(user: str, ranks: list[int | None], status: str = "submitted") -> dict[str, Any]:
        value = [{"rank": rank, "value": f"reply-{n}"} for n, rank in enumerate(ranks, 1)]
        values = {"preference": {"value": value}, "reason": {"value": "ice is water"}, "quality": {"value": 4}}
        return {"values": values, "user_id": user, "status": status, "updated_at": "2026-11-02T10:00:00+01:00"}

    responses = [response(USERS[0], [2, 2, 1]), response(USERS[1], [1, None, 2]), response("c", [1, 2, 3], "draft")]
    return [{"id": "m-17", "fields": FIELDS, "metadata": metadata, "responses": responses, "suggestions": []}]


def argilla_2() -> list[dict[str, Any]]:
    """As `records.to_json` writes it: a ranking is a list of names."""
    answers = [
        {"value": [f"reply-{n}" for n in order], "user_id": user}
        for user, order in zip(USERS, ((3, 1, 2), (1, 3)), strict=True)
    ]
    labels = [{"value": ["clear", "short"], "user_id": USERS[0]}]
    return [{"id": "m-17", "fields": FIELDS, "metadata": {}, "suggestions": {}, "vectors": {}, "_server_id": "9f",
             "responses": {"preference": answers, "tags": labels}}]  # fmt: skip


def argilla_2_flat() -> list[dict[str, Any]]:
    record = {"id": "r-1", "task_id": "m-17", **FIELDS, "preference.responses.users": [*USERS, "c"],
              "preference.responses": [["reply-3", "reply-1", "reply-2"], ["reply-1", "reply-3"], ["reply-1"]],
              "preference.responses.status": ["submitted", "submitted", "discarded"]}  # fmt: skip
    return [record]


@pytest.mark.parametrize(
    ("records", "as_lines", "expected"),
    [
        (argilla_1(), False, {USERS[0]: [["c2"], ["c0", "c1"]], USERS[1]: [["c0"], ["c2"]]}),
        ({"records": argilla_1(task_id="m-17")}, False, {USERS[0]: [["c2"], ["c0", "c1"]], USERS[1]: [["c0"], ["c2"]]}),
        (argilla_2(), False, {USERS[0]: [["c2"], ["c0"], ["c1"]], USERS[1]: [["c0"], ["c2"]]}),
        ({"m-17": argilla_2()[0]}, False, {USERS[0]: [["c2"], ["c0"], ["c1"]], USERS[1]: [["c0"], ["c2"]]}),
        (argilla_2_flat(), True, {USERS[0]: [["c2"], ["c0"], ["c1"]], USERS[1]: [["c0"], ["c2"]]}),
    ],
    ids=["1.x", "1.x with task_id", "2.x", "2.x by id", "2.x flat, lines"],
)
def test_argilla(filled: Store, tmp_path: Path, records: Any, as_lines: bool, expected: dict[str, Order]) -> None:
    path = write(tmp_path / "a.json", records, as_lines=as_lines)
    assert guess_format(path) == "argilla"
    assert import_corrections(filled, path) == (2, 0)
    assert said(filled) == expected
    assert import_corrections(filled, path) == (0, 2), "the same answers have the same ids"
    assert filled.verify() == []


def test_argilla_keeps_reason_and_time_and_a_changed_answer_supersedes(filled: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", argilla_1())
    import_corrections(filled, path)
    first = filled.corrections.search(author=USERS[0]).rows[0]
    assert (first.reason, first.created_at) == ("ice is water", "2026-11-02T09:00:00.000000+00:00")
    changed = argilla_1()
    changed[0]["responses"][0]["values"]["preference"]["value"][0]["rank"] = 3
    assert import_corrections(filled, write(path, changed)) == (1, 1)
    assert said(filled)[USERS[0]] == [["c2"], ["c1"], ["c0"]]
    assert filled.corrections.search(author=USERS[0]).rows[1].supersedes == first.correction_id


ITEMS = [
    {"id": f"doc{n}", "title": f"Document {n}", "body": text}
    for n, text in enumerate(("Rovers dig.", "Mars is far away.", "Ice is there."))
]


def label_studio(*ranked: Any, data: dict[str, Any] | None = None, **annotation: Any) -> list[dict[str, Any]]:
    """As Label Studio exports JSON."""
    people: list[Any] = [10, {"id": 11, "email": "bob@example.org"}]
    annotations = [
        {"id": 1000 + n, "completed_by": people[n % 2], "was_cancelled": False, "ground_truth": False, "lead_time": 4.288,
         "created_at": "2021-03-09T22:16:08.728353Z", "result_count": 1, "task": 1,
         "result": [
             {"id": "Dx_a", "from_name": "rank", "to_name": "results", "type": "ranker", "value": {"ranker": value}},
             {"id": "Dx_b", "from_name": "reason", "to_name": "results", "type": "textarea", "value": {"text": ["ice", "!"]}},
         ], **annotation}
        for n, value in enumerate(ranked)
    ]  # fmt: skip
    shown = {"task_id": "m-17", "items": ITEMS} if data is None else data
    return [{"id": 1, "data": shown, "annotations": annotations, "predictions": [], "project": 83}]


def test_label_studio(filled: Store, tmp_path: Path) -> None:
    exported = label_studio({"rank": ["doc2", "doc0", "doc1"]}, {"rank": ["doc0", "doc2"]})
    path = write(tmp_path / "project-1.json", exported)
    assert guess_format(path) == "label-studio"
    assert import_corrections(filled, path) == (2, 0)
    assert said(filled) == {"label-studio 10": [["c2"], ["c0"], ["c1"]], "bob@example.org": [["c0"], ["c2"]]}
    kept = filled.corrections.search(author="bob@example.org").rows[0]
    assert (kept.reason, kept.duration_s, kept.created_at) == ("ice !", 4.288, "2021-03-09T22:16:08.728353+00:00")
    assert import_corrections(filled, path) == (0, 2)


def test_label_studio_buckets_are_ties_and_only_people_know_which_is_best(filled: Store, tmp_path: Path) -> None:
    exported = label_studio({"_": ["doc1"], "off": ["doc0"], "on": ["doc1", "doc2"]}, ground_truth=True)
    path = write(tmp_path / "p.json", exported)
    with pytest.raises(DatasetError, match=r"p\.json:1: result.value.ranker: \['off', 'on'\]: .* --tiers"):
        import_corrections(filled, path)
    with pytest.raises(DatasetError, match=r"\['off'\]: not in --tiers"):
        import_corrections(filled, path, tiers=["on"])
    assert import_corrections(filled, path, tiers=["on", "off"]) == (1, 0)
    (kept,) = filled.corrections.search().rows
    assert (kept.payload["order"], kept.is_gold) == ([["c1", "c2"], ["c0"]], True)


@pytest.mark.parametrize(
    ("exported", "error"),
    [
        (label_studio({"rank": ["doc9"]}), r":1: rank: 'doc9' is no candidate's id"),
        (label_studio({"rank": ["doc0"]}, was_cancelled=True), "holds no submitted answer to a Ranker"),
        (label_studio({"rank": ["doc0", "doc1"]}, data={"items": ITEMS}), "task_id: '1': is not in any dataset"),
        (label_studio({"rank": "doc0"}), "a dict of lists of ids is expected"),
        ([{"id": 1, "annotations": [], "rank": {}}], "not JSON_MIN"),
        ([*argilla_2()[:1], {"responses": {}, "fields": {}}], ":2: id: missing"),
        ([argilla_2()[0] | {"id": "m-18"}], "'m-18': is not in any dataset"),
        ([argilla_1()[0] | {"fields": {}}], "'reply-3' is no candidate's id"),
        ([argilla_2()[0] | {"fields": {}}], "holds no submitted answer to a RankingQuestion"),
        ([argilla_2()[0] | {"responses": {}}], "holds no submitted answer to a RankingQuestion"),
        (["a"], "is no list of records"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line_and_nothing_is_stored(
    filled: Store, tmp_path: Path, exported: Any, error: str
) -> None:
    path = write(tmp_path / "x.json", exported)
    with pytest.raises((DatasetError, UsageError), match=error) as caught:
        import_corrections(filled, path, file_format=None if isinstance(exported[0], dict) else "argilla")
    assert "\n" not in str(caught.value)
    assert filled.corrections.search().total == 0


def test_an_option_that_fits_two_candidates_is_refused(store: Store, tmp_path: Path) -> None:
    candidates = (Candidate(candidate_id="a", text="same"), Candidate(candidate_id="b", text="same "))
    task = RankingTask(task_id="m-17", domain=Domain.OTHER, query="q", candidates=candidates)
    store.datasets.add("twins", [task], source="test")
    items = {"task_id": "m-17", "items": [{"id": "x", "title": "same"}, {"id": "a", "title": "same"}]}
    with pytest.raises(DatasetError, match="'x' fits several candidates"):
        import_corrections(store, write(tmp_path / "x.json", label_studio({"rank": ["a", "x"]}, data=items)))


# ------------------------------------------------------------------------------------------------------- pairs, qrels


@pytest.fixture
def elsewhere(filled: Store, tmp_path: Path) -> Store:
    opened = Store(tmp_path / "elsewhere.db")
    opened.datasets.add("mars", filled.datasets.iter_tasks(1), source="test")
    return opened


def submit(store: Store, order: Order, author: str = "ann", **fields: Any) -> Correction:
    given = {"task_id": "m-17", "kind": "ranking", "payload": {"order": order}, "author": author, **fields}
    return Corrections(store).submit(1, Submission.model_validate(given))


def test_pairs_come_back_without_loss(filled: Store, elsewhere: Store, tmp_path: Path) -> None:
    submit(filled, [["c0"], ["c1"]], reason="superseded, so it is in no pair")
    submit(filled, [["c2"], ["c0", "c1"]], reason="ice ✓", duration_s=3.5)
    submit(filled, [["c1"], ["c2"]], "bob", is_gold=True)
    step = {"pool": ["c0", "c1", "c2"], "exclude": ["c1"], "keep": []}
    given = {"task_id": "m-17", "kind": "step", "payload": step, "author": "eve"}
    Corrections(filled).submit(1, Submission.model_validate(given))
    first, second = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    export_corrections(filled, first, file_format="pairs")
    assert guess_format(first) == "pairs"
    assert import_corrections(elsewhere, first) == (3, 0)
    export_corrections(elsewhere, second, file_format="pairs")
    assert first.read_bytes() == second.read_bytes()
    current = [c.model_copy(update={"supersedes": None}) for c in Corrections(filled).effective()]
    assert Corrections(elsewhere).effective() == current
    assert import_corrections(filled, first) == (0, 3), "they are known where they came from"
    row = json.loads(first.read_text(encoding="utf-8").splitlines()[0])
    del row["correction"]
    with pytest.raises(DatasetError, match=r":1: correction: missing: only pairs of `corrections export`"):
        import_corrections(elsewhere, write(tmp_path / "3.jsonl", [row], as_lines=True))


def test_judgements_come_back_as_they_were(filled: Store, elsewhere: Store, tmp_path: Path) -> None:
    submit(filled, [["c2"], ["c0", "c1"]])
    first, second = tmp_path / "1.qrels", tmp_path / "2.qrels"
    export_corrections(filled, first, file_format="qrels")
    assert guess_format(first) == "qrels"
    assert import_corrections(elsewhere, first, author="assessor") == (1, 0)
    assert said(elsewhere) == {"assessor": [["c2"], ["c0", "c1"]]}
    export_corrections(elsewhere, second, file_format="qrels")
    assert sorted(first.read_text().splitlines()) == sorted(second.read_text().splitlines())
    first.write_text("m-17 0 c9 1\nm-17 0 c1 0\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="'c9' is no candidate's id"):
        import_corrections(elsewhere, first)


def test_the_command(filled: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    store = Store(directory / "studio.db")
    store.datasets.add("mars", filled.datasets.iter_tasks(1), source="test")
    store.close()
    path = write(tmp_path / "p.json", label_studio({"on": ["doc2"], "off": ["doc0"]}))
    run = ["corrections", "import", str(path), "--data-dir", str(directory)]
    assert main(run) == 2
    assert "--tiers" in capsys.readouterr().err
    assert main([*run, "--tiers", "on, off", "--format", "label-studio"]) == 0
    assert capsys.readouterr().out == f"{path}: 1 new, 0 were there already\n"
