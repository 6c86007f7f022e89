"""Builders, by hand: histories and targets, ties of time and of score, which passages stay, splits and seeds."""

from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.datasets.building import BuildOptions, Built, Tally, keep_side, parse_options, query_group, side_of
from ranker.datasets.interactions import Interactions, Item, RecommendationOptions, build_recommendation
from ranker.datasets.passages import JudgedQuery, Judgements, Passage, PassageOptions, build_passages
from ranker.datasets.questions import Question, QuestionOptions, Questions, build_questions
from ranker.datasets.routing import Answer, RoutedQuery, RoutingOptions, RoutingTable, build_routing
from ranker.errors import DatasetError
from ranker.schema import RankingTask

CATALOGUE = {str(i): Item(f"Film {i}", {}) for i in range(30)}


def interactions(rows: list[tuple[str, str, float]], **changes: Any) -> Interactions:
    schema = {"user": pl.String, "item": pl.String, "time": pl.Float64}
    frame = pl.DataFrame(rows, schema=schema, orient="row").with_columns(rating=pl.lit(3.0))
    return Interactions(frame=frame, **{"items": CATALOGUE} | changes)


def recommend(raw: Interactions, **options: Any) -> tuple[list[RankingTask], Tally]:
    tally = Tally()
    values = {"history": 2, "num_candidates": 4} | options
    return [b.task for b in build_recommendation(raw, RecommendationOptions(**values), tally)], tally


def test_the_next_item_after_the_history_in_time_order_ties_in_file_order() -> None:
    rows = [("u", "3", 5), ("u", "1", 1), ("u", "2", 1), ("u", "0", 9), ("v", "4", 0), ("v", "5", 0), ("v", "6", 0)]
    (v, u), _ = recommend(interactions(rows))
    assert (u.history, dict(u.relevance)) == (("Film 1", "Film 2"), {"3": 1.0})
    assert (v.history, dict(v.relevance)) == (("Film 4", "Film 5"), {"6": 1.0})


def test_leave_one_out_keeps_the_last_ones() -> None:
    rows = [("u", str(i), i) for i in range(6)]
    (task,), _ = recommend(interactions(rows), target="last")
    assert (task.history, dict(task.relevance)) == (("Film 3", "Film 4"), {"5": 1.0})


def test_several_items_of_a_user_are_tasks_of_one_group() -> None:
    rows = [("u", str(i), i) for i in range(20)]
    raw, options = (
        interactions(rows),
        RecommendationOptions(history=3, num_candidates=4, target="random", min_history=2, items_per_task=3),
    )
    built = list(build_recommendation(raw, options, Tally()))
    assert {b.group for b in built} == {"u"}
    assert len(built) == len({b.task.task_id for b in built}) == 6, "18 items can be targets, one task for every three"
    for task in (b.task for b in built):
        (target,) = (int(i) for i in task.relevant_ids)
        assert task.task_id == f"user-u@{target}"
        assert task.history == tuple(f"Film {i}" for i in range(max(0, target - 3), target))


def test_several_targets_are_what_was_taken_in_a_row() -> None:
    """As many as there are; negatives fill the rest, and the pool never consists of targets alone."""
    rows = [("u", str(i), i) for i in range(9)]
    (task,), _ = recommend(interactions(rows), num_candidates=6, num_targets=4)
    assert (task.history, set(task.relevant_ids)) == (("Film 0", "Film 1"), {"2", "3", "4", "5"})
    assert {int(i) for i in task.candidate_ids} - {2, 3, 4, 5} <= set(range(9, 30)) and len(task.candidates) == 6
    (last,), _ = recommend(interactions(rows), num_candidates=6, num_targets=4, target="last")
    assert set(last.relevant_ids) == {"8"} and len(last.candidates) == 6
    (all_but_one,), _ = recommend(interactions(rows), num_candidates=3, num_targets=100)
    assert len(all_but_one.relevant_ids) == 2


def test_a_repeated_item_counts_once_so_the_target_is_never_in_the_history() -> None:
    rows = [("u", i, n) for n, i in enumerate(["1", "2", "1", "2", "7"])]
    (task,), tally = recommend(interactions(rows))
    assert (task.history, dict(task.relevance)) == (("Film 1", "Film 2"), {"7": 1.0})
    assert tally.counts["interactions_repeated"] == 2


def test_another_id_with_the_same_title_is_the_same_item() -> None:
    catalogue = CATALOGUE | {"1b": Item("film  1", {}), **{f"7{x}": Item("FILM 7", {}) for x in "abcdefghij"}}
    rows = [("u", i, n) for n, i in enumerate(["1", "2", "1b", "7"])]
    for seed in range(20):
        (task,), _ = recommend(interactions(rows, items=catalogue), seed=seed)
        titles = [c.text.casefold() for c in task.candidates]
        assert len(set(titles)) == 4
        assert task.history == ("Film 1", "Film 2")


def test_users_with_too_little_are_left_out_and_counted() -> None:
    rows = [("u", "1", 1), ("u", "2", 2), ("v", "1", 1), ("v", "2", 2), ("v", "3", 3), ("w", "zz", 1)]
    tasks, tally = recommend(interactions(rows))
    assert [t.task_id for t in tasks] == ["user-v"]
    assert tally.counts["users_read"] == 3
    assert tally.counts["users_left_out_short"] == 2
    assert tally.counts["interactions_without_title"] == 1
    _, tally = recommend(interactions(rows), num_candidates=30)
    assert tally.counts["users_left_out_few_negatives"] == 1


def test_low_ratings_can_be_ignored() -> None:
    raw = interactions([("u", str(i), i) for i in range(5)])
    frame = raw.frame.with_columns(rating=pl.Series([5.0, 1.0, 5.0, None, 5.0]))
    (task,), _ = recommend(Interactions(frame=frame, items=CATALOGUE), min_rating=3)
    assert (task.history, dict(task.relevance)) == (("Film 0", "Film 2"), {"3": 1.0})


def test_popular_negatives_are_drawn_more_often() -> None:
    rows = [("u", str(i), i) for i in range(3)] + [(f"x{n}", "9", n) for n in range(500)] + [("y", "10", 1)]
    tasks = [recommend(interactions(rows), num_candidates=3, negatives="popularity", seed=s)[0][0] for s in range(10)]
    assert all("9" in t.candidate_ids for t in tasks)
    assert tasks[0].candidate("9").metadata["popularity"] == 500


users = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 29).map(str), st.integers(0, 3)), min_size=1, max_size=60
)


@given(rows=users, seed=st.integers(0, 5), target=st.sampled_from(["next", "last"]))
@settings(max_examples=50, deadline=None)
def test_properties_of_every_recommendation_task(rows: list[tuple[str, str, float]], seed: int, target: str) -> None:
    tasks, _ = recommend(interactions(rows), seed=seed, target=target)
    again, _ = recommend(interactions(rows), seed=seed, target=target)
    assert tasks == again
    for task in tasks:
        (relevant,) = task.relevant_ids
        taken = {i for u, i, _ in rows if f"user-{u}" == task.task_id}
        assert relevant in taken
        assert taken.isdisjoint(set(task.candidate_ids) - {relevant})
        assert task.candidate(relevant).text not in task.history
        assert len(task.candidates) == 4


def routed(rows: list[tuple[str, dict[str, Answer]]], **options: Any) -> tuple[list[RankingTask], Tally]:
    tally = Tally()
    queries = [RoutedQuery(q, q, answers, "qa", None, "t.csv:2") for q, answers in rows]
    table = RoutingTable(queries=lambda: iter(queries), models={"a": "About a."})
    return [b.task for b in build_routing(table, RoutingOptions(**options), tally)], tally


def test_scenarios_weigh_score_and_scaled_cost() -> None:
    """Costs 0, 5 and 10 scale to 0, .5 and 1. balance: a .3, b .2, c 0; cost: a .12, b -.22, c -.6."""
    answers = {"a": Answer(0.6, 0), "b": Answer(0.9, 5), "c": Answer(1.0, 10)}
    for scenario, best, gain in (("performance", "c", 1.0), ("balance", "a", 0.3), ("cost", "a", 0.12)):
        (task,), _ = routed([("q", answers)], scenario=scenario)
        assert task.relevance == {best: 1.0}
        assert task.candidate(best).metadata["gain"] == pytest.approx(gain)
    (task,), _ = routed([("q", answers)], a=1, b=0.5)
    assert task.relevance == {"b": 1.0}
    assert task.criterion is None


def test_ties_make_several_models_relevant_whatever_the_column_order() -> None:
    answers = {"z": Answer(1), "a": Answer(1), "m": Answer(0)}
    (task,), tally = routed([("q", answers)])
    (turned,), _ = routed([("q", dict(reversed(answers.items())))])
    assert task == turned
    assert task.relevance == {"a": 1.0, "z": 1.0}
    assert tally.counts["queries_best_tied"] == 1
    assert task.candidate("a").text == "a: About a."


def test_queries_without_signal_are_left_out_unless_kept() -> None:
    rows = [("q", {"a": Answer(1), "b": Answer(1)}), ("r", {"a": Answer(0.2), "b": Answer(0)})]
    tasks, tally = routed(rows)
    assert [t.query for t in tasks] == ["r"]
    assert tally.counts["queries_all_tied"] == 1
    kept, _ = routed(rows, keep_tied=True)
    assert [dict(t.relevance) for t in kept] == [{}, {"a": 1.0}]


def test_graded_relevance_and_excluded_benchmarks() -> None:
    rows = [("q", {"a": Answer(0.2), "b": Answer(0.4), "c": Answer(1.0)})]
    (task,), _ = routed(rows, relevance="graded")
    assert task.relevance == {"b": 0.25, "c": 1.0}
    tasks, tally = routed(rows, exclude_tasks="mmlu, qa")
    assert not tasks
    assert tally.counts["queries_left_out_task"] == 1


def test_typical_relevance_is_how_often_a_model_is_best_on_the_training_sides_queries_of_a_benchmark() -> None:
    """On `code` c is best, on `chat` a is; b never is. What is on the test side decides nothing."""

    def winner(kind: str, query: str) -> str:
        return "b" if side_of(query_group(query), 0, 0.2) == "test" else {"code": "c", "chat": "a"}[kind]

    queries = [
        RoutedQuery(q, q, {m: Answer(float(m == winner(kind, q))) for m in "abc"}, kind)
        for kind in ("code", "chat")
        for q in (f"{kind} {i}" for i in range(60))
    ]

    def build(**options: Any) -> dict[str, RankingTask]:
        table = RoutingTable(queries=lambda: iter(queries))
        built = build_routing(table, RoutingOptions(relevance="typical", **options), Tally())
        return {b.task.task_id: b.task for b in built}

    for task_id, task in build().items():
        first, second = ("c", "a") if task_id.startswith("code") else ("a", "c")
        assert set(task.relevance) == {first, second}
        assert 0 < task.relevance[second] < 0.5 < task.relevance[first] == 1.0
    with_all = build(test_share=0.0)  # now those are on the training side too
    assert all("b" in task.relevance for task in with_all.values())


def test_a_cost_scenario_without_costs_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"^t\.csv:2: field 'cost': none for model 'a': use scenario=performance"):
        routed([("q", {"a": Answer(1), "b": Answer(0)})], scenario="cost")


def judged(
    gains: list[float | None], *, texts: list[str] | None = None, **options: Any
) -> tuple[list[RankingTask], Tally]:
    tally = Tally()
    texts = texts or [f"passage {i}" for i in range(len(gains))]
    passages = [Passage(str(i), t, g) for i, (t, g) in enumerate(zip(texts, gains, strict=True))]
    raw = Judgements(queries=lambda: iter([JudgedQuery("q", "query", passages)]))
    return [b.task for b in build_passages(raw, PassageOptions(**options), tally)], tally


@pytest.mark.parametrize(
    ("gains", "options", "kept"),
    [
        ([0, 1, 0, 0], {}, ["0", "1", "2", "3"]),
        ([0, 0, 0, 1], {"num_passages": 2}, ["0", "3"]),
        ([1, 1, 1, 0, 0], {"num_passages": 3}, ["0", "1", "3"]),
        ([0, 1, 0], {"num_passages": 3, "fit": "exact"}, ["0", "1", "2"]),
    ],
)
def test_which_passages_stay(gains: list[float | None], options: dict[str, Any], kept: list[str]) -> None:
    (task,), _ = judged(gains, shuffle=False, **options)
    assert list(task.candidate_ids) == kept


@pytest.mark.parametrize(
    ("gains", "options", "reason"),
    [
        ([0, 1, 0, 0], {"num_passages": 3, "fit": "exact"}, "other_length"),
        ([1, 1, 0], {"relevant": "one"}, "not_one_relevant"),
        ([0, None, 0], {}, "no_relevant"),
        ([1], {}, "one_passage"),
        ([1, 0], {"max_chars": 17}, "too_long"),
        ([1, 0], {"min_gain": 2}, "no_relevant"),
    ],
)
def test_why_a_query_is_left_out(gains: list[float | None], options: dict[str, Any], reason: str) -> None:
    tasks, tally = judged(gains, **options)
    assert not tasks
    assert tally.counts[f"queries_left_out_{reason}"] == 1


def test_grades_are_kept_or_folded_and_copies_merge() -> None:
    (task,), tally = judged([3, 1, None, 0], texts=["a", "b", "c", " a "], min_gain=2, shuffle=False)
    assert task.relevance == {"0": 3.0, "1": 0.0}
    assert tally.counts["passages_same_text"] == 1
    (task,), _ = judged([3, 1, 0], binary=True)
    assert dict(sorted(task.relevance.items())) == {"0": 1.0, "1": 1.0, "2": 0.0}


def test_long_passages_are_cut_before_they_are_counted() -> None:
    (task,), _ = judged([1, 0], texts=["x" * 50, "y" * 50], max_passage_chars=10, max_chars=20)
    assert {c.text for c in task.candidates} == {"x" * 10, "y" * 10}


def test_wrong_answers_are_of_the_same_size_where_the_solution_has_none() -> None:
    questions = [Question(f"q{i}", f"question {i}", str(10 * i)) for i in range(1, 9)]
    raw = Questions(questions=lambda: iter(questions))
    tasks = [b.task for b in build_questions(raw, QuestionOptions(num_options=3), Tally())]
    assert {c.text for c in tasks[3].candidates} == {"30", "40", "50"}
    assert all(len(t.relevant_ids) == 1 for t in tasks)


def built(groups: list[str]) -> Iterator[Built]:
    for number, group in enumerate(groups):
        candidates = [{"candidate_id": c, "text": c} for c in "ab"]
        values = {"task_id": str(number), "domain": "other", "query": group, "candidates": candidates}
        yield Built(group, RankingTask.model_validate(values), "test" if number % 2 else "train")


@given(st.lists(st.sampled_from("abcdefgh"), max_size=40), st.integers(0, 3))
def test_a_group_is_on_one_side_only_and_the_sides_add_up(groups: list[str], seed: int) -> None:
    sides = {}
    for split in ("all", "train", "test"):
        tally = Tally()
        sides[split] = list(keep_side(built(groups), BuildOptions(split=split, seed=seed, test_share=0.5), tally))
        assert tally.counts["train_tasks"] + tally.counts["test_tasks"] == len(groups)
    assert {t.query for t in sides["train"]}.isdisjoint({t.query for t in sides["test"]})
    assert sorted(t.task_id for t in sides["train"] + sides["test"]) == sorted(t.task_id for t in sides["all"])


def test_the_share_of_the_split_and_its_seed() -> None:
    names = [f"user {i}" for i in range(4000)]
    share = sum(side_of(n, 0, 0.2) == "test" for n in names) / len(names)
    assert share == pytest.approx(0.2, abs=0.02)
    assert [side_of(n, 0, 0.2) for n in names] != [side_of(n, 1, 0.2) for n in names]
    assert {side_of(n, 0, 0.0) for n in names} == {"train"}
    assert {side_of(n, 0, 1.0) for n in names} == {"test"}


def test_a_published_split_and_a_limit() -> None:
    groups = ["a", "b", "c", "d"]
    options = BuildOptions(split="test", published_split=True)
    assert [t.query for t in keep_side(built(groups), options, Tally())] == ["b", "d"]
    assert len(list(keep_side(built(groups), BuildOptions(limit=3), Tally()))) == 3


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"colour": "red"}, "options: colour: no such option here: use one of seed, split"),
        ({"history": "many"}, "options: field 'history': 'many'"),
        ({"num_candidates": "1"}, "options: field 'num_candidates'"),
        ({"split": "dev"}, "options: field 'split': 'dev'"),
    ],
)
def test_options_that_do_not_exist_or_fit(values: dict[str, str], says: str) -> None:
    with pytest.raises(DatasetError, match=says):
        parse_options(RecommendationOptions, values)
