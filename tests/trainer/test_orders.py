"""Hand-worked cases of the rule: what is right, wrong, open."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.errors import DatasetError
from ranker.schema import Candidate, Correction, CorrectionKind, Domain, RankingTask
from trainer.orders import grade_exclusions, grade_step, random_floor, tiers_of_correction, tiers_of_labels

TASK = RankingTask(
    task_id="t",
    domain=Domain.OTHER,
    query="q",
    candidates=tuple(Candidate(candidate_id=i, text=f"the {i}") for i in "abcde"),
    relevance={"b": 1},
)

CASES = [
    # (order, pool, expected grades), why
    ("a|bcde", "abcde", {"a": 0, "b": 1, "c": 1, "d": 1, "e": 1}),  # a label: the paper's +1 / 0
    ("a|b|c|d|e", "abcde", {"a": 0, "b": 0.25, "c": 0.5, "d": 0.75, "e": 1}),  # a full order
    ("a|b|c|d|e", "ce", {"c": 0, "e": 1}),  # only the pool counts
    ("a|bc|d", "abcd", {"a": 0, "b": 0.5, "c": 0.5, "d": 1}),  # ties say nothing of each other
    ("a|b", "abc", {"a": 0, "b": 1, "c": None}),  # c was left out: open
    ("ab", "ab", {"a": None, "b": None}),  # all tied: everything is open
    ("a|bc|d", "bc", {"b": None, "c": None}),  # tied within this pool
    ("a|b|c", "ax", {"a": None, "x": None}),  # nothing comparable with a in this pool
    ("ab|c", "abc", {"a": 0, "b": 0, "c": 1}),  # two good ones
    ("", "ab", {"a": None, "b": None}),  # nothing is known
]


def tiers(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(tier) for tier in text.split("|") if tier)


@pytest.mark.parametrize(("order", "pool", "expected"), CASES)
def test_grades_worked_by_hand(order: str, pool: str, expected: dict[str, float | None]) -> None:
    assert grade_exclusions(tiers(order), list(pool)) == expected


@given(
    st.permutations("abcdef"), st.lists(st.integers(0, 5), max_size=4), st.sets(st.sampled_from("abcdefgh"), min_size=2)
)
def test_something_right_and_something_wrong_or_all_open(order: list[str], cuts: list[int], pool: set[str]) -> None:
    """Wherever two candidates differ there is a best and a worst exclusion, and a random choice lies strictly between."""
    bounds = [0, *sorted(set(cuts)), 6]
    known = tuple(tuple(order[a:b]) for a, b in itertools.pairwise(bounds) if a < b)
    grades = grade_exclusions(known, sorted(pool))
    values = [g for g in grades.values() if g is not None]
    if values:
        assert min(values) == 0 and max(values) == 1
        assert 0 < random_floor(grades) < 1
    else:
        with pytest.raises(ValueError, match="open"):
            random_floor(grades)


def test_floor_of_one_relevant_is_that_of_the_paper() -> None:
    for n in range(2, 21):
        ids = [str(i) for i in range(n)]
        assert random_floor(grade_exclusions(((ids[0],), tuple(ids[1:])), ids)) == pytest.approx((n - 1) / n)


def test_labels_are_tiers() -> None:
    assert tiers_of_labels(TASK) == (("b",), ("a", "c", "d", "e"))
    graded = TASK.model_copy(update={"relevance": {"a": 2, "b": 1, "c": 1}})
    assert tiers_of_labels(graded) == (("a",), ("b", "c"), ("d", "e"))
    assert tiers_of_labels(TASK.model_copy(update={"relevance": {}})) == ()


def correction(kind: CorrectionKind, payload: dict[str, object]) -> Correction:
    return Correction(
        correction_id="c1", task_id="t", kind=kind, author="ann", created_at="2026-11-23T00:00:00Z", payload=payload
    )


STEPS = [
    ({"pool": ["c", "a", "b"], "exclude": ["c"]}, {"c": 1, "a": 0, "b": 0}),  # "exclude c"
    ({"pool": ["c", "a", "b"], "exclude": ["c", "a"]}, {"c": 1, "a": 1, "b": 0}),  # "any of these"
    ({"pool": ["c", "a", "b"], "keep": ["c"]}, {"c": 0, "a": None, "b": None}),  # "not this one"
    ({"pool": ["c", "a", "b"]}, {"c": None, "a": None, "b": None}),  # "cannot be decided"
]


@pytest.mark.parametrize(("payload", "expected"), STEPS)
def test_what_a_person_says_about_a_step(payload: dict[str, object], expected: dict[str, float | None]) -> None:
    assert grade_step(correction(CorrectionKind.STEP, payload), TASK) == (("c", "a", "b"), expected)


def test_corrections_of_rankings_and_labels() -> None:
    order = correction(CorrectionKind.RANKING, {"order": [["a"], ["b", "c"]]})
    assert tiers_of_correction(order, TASK) == (("a",), ("b", "c"))
    label = correction(CorrectionKind.LABEL, {"relevant": ["d"]})
    assert tiers_of_correction(label, TASK) == (("d",), ("a", "b", "c", "e"))
    assert tiers_of_correction(correction(CorrectionKind.FLAG, {}), TASK) == ()


@pytest.mark.parametrize(
    ("kind", "payload", "place"),
    [
        (CorrectionKind.RANKING, {"order": [["z"]]}, "payload.order: ['z']"),
        (CorrectionKind.RANKING, {"order": [["a"], ["a"]]}, "payload.order"),
        (CorrectionKind.RANKING, {"order": "a>b"}, "payload.order: a>b"),
        (CorrectionKind.RANKING, {"order": ["a"]}, "list of lists"),
        (CorrectionKind.LABEL, {}, "payload.relevant: None"),
        (CorrectionKind.STEP, {"pool": ["a", "b"], "exclude": ["c"]}, "payload.exclude"),
        (CorrectionKind.STEP, {"pool": ["a", "b"], "exclude": ["a"], "keep": ["a"]}, "payload.keep"),
    ],
)
def test_what_cannot_be_used_is_refused(kind: CorrectionKind, payload: dict[str, object], place: str) -> None:
    wrong = correction(kind, payload)
    with pytest.raises(DatasetError) as caught:
        grade_step(wrong, TASK) if kind is CorrectionKind.STEP else tiers_of_correction(wrong, TASK)
    assert place in str(caught.value) and "c1" in str(caught.value)


def test_a_line_below_the_top_says_no_more_to_training_than_its_order_does() -> None:
    payload = {"order": [["a"], ["b"], ["c", "d", "e"]], "top": 2, "start": "model", "keys": 1, "gestures": 1}
    said = Correction(
        correction_id="x", task_id="t", kind=CorrectionKind.RANKING, author="ann", created_at="", payload=payload
    )
    found = tiers_of_correction(said, TASK)
    assert found == tiers("a|b|cde")
    assert grade_exclusions(found, list("abcde")) == {"a": 0, "b": 0.25, "c": 1, "d": 1, "e": 1}
    assert grade_exclusions(found, list("cde")) == {"c": None, "d": None, "e": None}, "below the line all is open"
