"""The doctor on hand-made tasks whose diagnosis is known."""

import json
import math
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.datasets import Doctor, Report, check, fingerprint
from ranker.datasets.doctor import baselines, overlap
from ranker.datasets.doctor.baselines import expected_reciprocal_rank
from ranker.datasets.doctor.labels import chi_square_p, chi_square_tail
from ranker.datasets.doctor.report import Finding, Severity
from ranker.metrics import random_floor_mrr
from ranker.schema import RankingTask


def make(task_id: str = "t", texts: Sequence[str] = ("one", "two", "three"), **changes: Any) -> RankingTask:
    candidates = [{"candidate_id": str(i), "text": text} for i, text in enumerate(texts)]
    values = {"domain": "other", "query": f"query {task_id}", "candidates": candidates, "relevance": {"0": 1}}
    return RankingTask.model_validate({"task_id": task_id, **values, **changes})


def found(tasks: list[RankingTask], name: str, **options: Any) -> Finding | None:
    return next((f for f in check(tasks, **options).findings if f.check == name), None)


@pytest.mark.parametrize(
    ("name", "severity", "tasks", "count"),
    [
        ("empty", "error", [], 0),
        ("same_id", "error", [make("a"), make("b"), make("a", query="other")], 1),
        ("same_task", "warning", [make("a", query="q"), make("b", query="q", texts=("two", "one", "three"))], 1),
        ("same_text", "warning", [make(texts=("same", "other", " Same "))], 1),
        ("same_title", "warning", [make(texts=["word " * 16 + end for end in ("a", "b")])], 1),
        ("none_relevant", "warning", [make("a"), make("b", relevance={"0": 0})], 1),
        ("no_relevance", "warning", [make("a"), make("b", relevance={})], 1),
        ("no_relevance", "note", [make("a", relevance={}), make("b", relevance={})], 2),
        ("all_relevant", "warning", [make(relevance={"0": 1, "1": 1, "2": 1})], 1),
        ("several_relevant", "note", [make(relevance={"0": 2, "1": 1})], 1),
        ("router_ties", "note", [make(domain="routing", relevance={"0": 1, "1": 1})], 1),
        ("target_in_history", "error", [make(history=["zero", "ONE "])], 1),
        ("candidate_in_history", "warning", [make(history=["two"])], 1),
        ("empty_query", "warning", [make(query=" ")], 1),
        ("bidi", "warning", [make(query="abc\u202edef")], 1),
        ("control", "warning", [make(texts=("bell \x07", "x"))], 1),
        ("invisible", "note", [make(query="zero\u200bwidth")], 1),
        ("broken_characters", "note", [make(query="â€™ is wrong")], 1),
        ("html_entities", "note", [make(texts=("Tom &amp; Jerry", "x"))], 1),
        ("formula", "note", [make(query="=HYPERLINK(1)")], 1),
        ("scripts", "note", [make("a"), make("b"), make("c", query="вопрос", texts=("один", "два"))], 1),
    ],
)
def test_each_finding_has_severity_count_examples_and_a_fix(
    name: str, severity: str, tasks: list[RankingTask], count: int
) -> None:
    finding = found(tasks, name)
    assert finding is not None
    assert (finding.severity.value, finding.count) == (severity, count)
    assert finding.message.endswith(".")
    assert finding.fix
    assert len(finding.examples) == min(3, count)
    assert check(tasks).has_errors == (severity == "error")


def test_a_sound_dataset_has_no_findings() -> None:
    tasks = [make(f"t{i}", texts=[f"a {i}", f"b {i}", f"c {i}"], relevance={str(i % 3): 1}) for i in range(90)]
    report = check(tasks)
    assert report.findings == ()
    assert report.num_tasks == report.num_with_relevance == 90
    assert report.candidates_per_task == {3: 90}
    assert report.relevant_per_task == {1: 90}
    assert report.positions == (30.0, 30.0, 30.0)
    assert report.positions_p == 1.0
    assert report.random_mrr == round(random_floor_mrr(3), 4)


def test_plain_text_is_left_alone() -> None:
    tasks = [make(texts=("- a dash", "+1 for this", "@name", "a = b"), query="a & b; naïve café – ‘ok’ 你 \n\t")]
    assert check(tasks).findings == ()


def test_only_three_examples_are_kept() -> None:
    finding = found([make(f"t{i}", query="") for i in range(50)], "empty_query")
    assert finding is not None
    assert (finding.count, finding.examples) == (50, ("t0", "t1", "t2"))
    assert finding.summary.startswith("50 tasks have neither a query nor a history (t0): Map a column")


def test_a_relevant_candidate_that_is_always_first_is_noticed() -> None:
    finding = found([make(f"t{i}", texts=[f"{i} {c}" for c in "abcd"]) for i in range(40)], "position_skew")
    assert finding is not None
    assert finding.severity is Severity.WARNING
    assert finding.examples[0] == "position 1: 40 times, 10 expected"


@pytest.mark.parametrize(
    ("value", "degrees", "p"),
    [
        (3.841, 1, 0.05),
        (5.991, 2, 0.05),
        (7.815, 3, 0.05),
        (18.307, 10, 0.05),
        (30.144, 19, 0.05),
        (6.635, 1, 0.01),
        (0, 4, 1),
    ],
)
def test_the_chi_square_tail_against_published_tables(value: float, degrees: int, p: float) -> None:
    assert chi_square_tail(value, degrees) == pytest.approx(p, rel=1e-3)


def test_chi_square_pools_sparse_cells() -> None:
    """Two cells of 10 expected: (16 - 10)^2 / 10 * 2 = 7.2, one degree of freedom."""
    assert chi_square_p([(16, 10), (4, 10)]) == pytest.approx(math.erfc(math.sqrt(3.6)))
    assert chi_square_p([(16, 10), (1, 2), (3, 8)]) == pytest.approx(math.erfc(math.sqrt(3.6)))
    assert chi_square_p([(3, 2), (1, 2)]) is None


scored = st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=5).filter(
    lambda p: any(r for _, r in p)
)


@given(scored)
@settings(max_examples=60, deadline=None)
def test_expected_reciprocal_rank_is_the_mean_over_all_tie_breaks(pairs: list[tuple[int, bool]]) -> None:
    ranks = []
    for order in permutations(pairs):
        ranking = sorted(order, key=lambda pair: -pair[0])
        ranks.append(1 / (1 + [relevant for _, relevant in ranking].index(True)))
    scores, marks = zip(*pairs, strict=True)
    assert expected_reciprocal_rank(scores, marks) == pytest.approx(sum(ranks) / len(ranks))


def test_word_overlap_by_hand() -> None:
    """Overlaps 0, 2 and 1: the relevant one is second. Overlaps 1, 1, 0 with the first relevant: (1 + 1/2) / 2."""
    tasks = [
        make("a", query="red fish", texts=("bird", "red fish", "one fish"), relevance={"2": 1}),
        make("b", query="red fish", texts=("red car", "fish", "bird"), relevance={"0": 1}),
    ]
    (result,) = [b for b in check(tasks).baselines if b.name == "overlap"]
    assert result.mrr == pytest.approx((0.5 + 0.75) / 2)
    assert result.floor == round(random_floor_mrr(3), 4)


def test_popularity_counts_other_tasks_only() -> None:
    """From each task: `hit` is relevant in one other; so is `flop` from a and b, but not from c; `seen` is in one history."""
    tasks = [
        make("a", texts=("hit", "flop"), relevance={"0": 1}, history=["seen"]),
        make("b", texts=("flop", "hit"), relevance={"1": 1}),
        make("c", texts=("seen", "flop"), relevance={"1": 1}),
    ]
    (result,) = [b for b in check(tasks).baselines if b.name == "popularity"]
    assert result.mrr == pytest.approx((0.75 + 0.75 + 0.5) / 3, abs=1e-4)


def test_popularity_that_is_stored_with_the_candidates_is_used() -> None:
    def popular(counts: list[int], relevant: int) -> RankingTask:
        candidates = [
            {"candidate_id": str(i), "text": f"c{i}", "metadata": {"popularity": n}} for i, n in enumerate(counts)
        ]
        return make(str(counts), candidates=candidates, relevance={str(relevant): 1})

    report = check([popular([5, 9, 1], 0), popular([5, 5, 7], 2)])
    assert {b.name: b.mrr for b in report.baselines}["popularity"] == pytest.approx(0.75)


def test_sets_that_reading_nothing_solves_or_solves_backwards() -> None:
    easy = [make(f"t{i}", query=f"word{i}", texts=(f"word{i}", "x", "y", "z")) for i in range(20)]
    backwards = [make(f"t{i}", query=f"word{i}", texts=("x", *[f"word{i} {c}" for c in "abcdef"])) for i in range(20)]
    assert found(easy, "easy_overlap") is not None
    assert found(backwards, "backwards_overlap") is not None
    assert baselines.TOO_EASY < 1


def test_the_token_budget_of_a_model() -> None:
    tasks = [make("short"), make("long", query="many words " * 50)]

    def count(texts: Sequence[str]) -> list[int]:
        return [len(t.split()) for t in texts]

    report = check(tasks, count_tokens=count, max_tokens=120, chat_text=lambda system, user: f"{system} {user} ")
    assert report.budget is not None
    assert (report.budget.unit, report.budget.longest_task_id, report.budget.num_over) == ("tokens", "long", 1)
    assert report.budget.longest > 120
    assert sum(n for _, n in report.budget.histogram) == 2
    finding = next(f for f in report.findings if f.check == "too_long")
    assert finding.message == "1 tasks (50.0%) are longer than the model's 120 tokens."
    rough = check(tasks).budget
    assert rough is not None
    assert rough.limit is None
    assert rough.longest_task_id == "long"


def test_overlap_with_other_datasets() -> None:
    others = {
        "train": fingerprint([make("x", query="Query  A", texts=("one", "two"))]),
        "far": fingerprint([make("y", query="elsewhere", texts=("eins", "zwei"))]),
    }
    tasks = [make("t1", query="query a", texts=("three", "four", "five", "six")), make("t2", query="query b")]
    report = check(tasks, others=others)
    shared = [f for f in report.findings if f.check == "shared_queries"]
    assert [(f.count, f.examples) for f in shared] == [(1, ("t1",))]
    assert "1 of 2 queries" in shared[0].message
    texts = [f for f in report.findings if f.check == "shared_candidates"]
    assert [f.message for f in texts] == ["About 33% of the candidate texts are also in 'train'."]


def test_users_are_recognised_by_their_history() -> None:
    one, other = make("a", query="", history=["x", "y"]), make("b", query="", history=["y", "x"])
    assert fingerprint([one]).queries == fingerprint([make("z", query="", history=["X ", "y"])]).queries
    assert fingerprint([one]).queries != fingerprint([other]).queries


def test_large_sketches_estimate_the_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "MAX_CANDIDATE_HASHES", 400)
    mine = [make(f"m{i}", texts=[f"text {2 * i}", f"text {2 * i + 1}"]) for i in range(1000)]
    theirs = [make(f"o{i}", query="other", texts=[f"text {2 * i}", f"text {2 * i + 1}"]) for i in range(500, 1500)]
    finding = found(mine, "shared_candidates", others={"o": fingerprint(theirs)})
    assert finding is not None
    share = int(finding.message.split("%")[0].split()[-1])
    assert 40 <= share <= 60


def test_a_report_survives_json_and_streaming_changes_nothing() -> None:
    tasks = [make(f"t{i}", query="=1+1" if i == 3 else f"q{i}") for i in range(10)]
    doctor = Doctor()
    assert list(doctor.watch(iter(tasks))) == tasks
    assert doctor.report() == check(tasks)
    assert Report.model_validate(json.loads(doctor.report().model_dump_json())) == doctor.report()
    assert doctor.fingerprints() == fingerprint(tasks)


def test_errors_come_first() -> None:
    tasks = [make("a", query=""), make("a", query="=1+1")]
    severities = [f.severity for f in check(tasks).findings]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)
    assert [f.check for f in check(tasks).errors] == ["same_id"]
