"""Deciding between versions: which tasks, what is offered, and what a decision changes (nothing that was said)."""

from collections.abc import Callable

import pytest

from ranker.errors import UsageError
from ranker.schema import RankingTask
from studio.adjudication import Adjudication
from studio.context import Context
from studio.corrections import Submission
from studio.quality import make_report

Say = Callable[..., None]


@pytest.fixture
def dataset_id(context: Context, make_task: Callable[..., RankingTask]) -> int:
    """Three tasks: all agree on t0, two of three on t1 (who tie differently written), nobody on t2 but ann."""
    tasks = [make_task(f"t{n}", num_candidates=3) for n in range(3)]
    info = context.store.datasets.add("d", tasks, source="test")

    def say(author: str, task_id: str, *order: str, **fields: object) -> None:
        payload = {"order": [list(tier.split()) for tier in order]}
        said = {"task_id": task_id, "kind": "ranking", "payload": payload, "author": author, **fields}
        context.corrections.submit(info.id, Submission.model_validate(said))

    for author in ("ann", "bob", "cat"):
        say(author, "t0", "c0", "c1", "c2")
    say("ann", "t1", "c2", "c1", "c0", reason="older")
    say("bob", "t1", "c0", "c1 c2", reason="better")
    say("cat", "t1", "c0", "c2 c1")
    say("ann", "t2", "c0", "c1")
    return info.id


@pytest.fixture
def adjudication(context: Context) -> Adjudication:
    return Adjudication(context.store, context.corrections)


def test_the_least_agreed_come_first_and_the_most_common_is_offered_first(
    adjudication: Adjudication, dataset_id: int
) -> None:
    first, second = adjudication.disputes(dataset_id)
    assert (first.task_id, first.num_people, first.num_versions, first.is_decided) == ("t1", 3, 2, False)
    assert (second.task_id, second.num_versions, second.tau_b) == ("t0", 1, pytest.approx(1))
    shown = adjudication.versions(dataset_id, "t1")
    assert [(v.order, v.authors, v.reasons) for v in shown.versions] == [
        ((("c0",), ("c1", "c2")), ("bob", "cat"), ("better",)),
        ((("c2",), ("c1",), ("c0",)), ("ann",), ("older",)),
    ]
    assert set(shown.consensus) == {"borda", "bradley-terry"}, "Plackett-Luce knows no ties"
    assert shown.consensus["borda"][0] == ("c0",), "bob and cat agree with each other more than ann with them"
    assert set(adjudication.versions(dataset_id, "t0").consensus) == {"borda", "bradley-terry", "plackett-luce"}
    assert adjudication.versions(dataset_id, "t2").consensus == {}


def test_a_decision_is_a_gold_answer_that_supersedes_nobody(
    adjudication: Adjudication, context: Context, dataset_id: int
) -> None:
    before = context.corrections.effective(dataset_id)
    decided = adjudication.decide(
        dataset_id, "t1", [["c0"], ["c1", "c2"]], author="ann", reason=" as the guideline says "
    )
    assert (decided.is_gold, decided.supersedes, decided.reason) == (True, None, "as the guideline says")
    assert context.corrections.effective(dataset_id) == [*before, decided], "ann's own vote stands beside it"
    assert [d.is_decided for d in adjudication.disputes(dataset_id)] == [False, True]
    assert adjudication.versions(dataset_id, "t1").decision == decided
    report = make_report(context.store, dataset_id=dataset_id)
    assert {a.author: (a.gold_passed, a.gold_seen) for a in report.annotators} == {
        "ann": (0, 1), "bob": (1, 1), "cat": (1, 1),
    }  # fmt: skip
    again = adjudication.decide(dataset_id, "t1", [["c2"], ["c0"]], author="ann", reason="I was wrong")
    assert again.supersedes == decided.correction_id, "a later decision takes the place of the earlier one"
    voted = Submission.model_validate(
        {"task_id": "t1", "kind": "ranking", "payload": {"order": [["c1"], ["c0"]]}, "author": "ann"}
    )
    assert context.corrections.submit(dataset_id, voted).supersedes != again.correction_id
    assert context.store.verify() == []


@pytest.mark.parametrize(("order", "reason", "said"), [
    ([["c0"], ["c1"]], "  ", "reason: empty"), ([["c0"], ["zz"]], "so", "'zz'"), ([], "so", "says nothing"),
])  # fmt: skip
def test_a_decision_that_cannot_be_kept(
    adjudication: Adjudication, dataset_id: int, order: list[list[str]], reason: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        adjudication.decide(dataset_id, "t1", order, author="ann", reason=reason)
