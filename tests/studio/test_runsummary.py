"""Figures of a run against figures worked out by hand."""

import pytest

from ranker.backends.scripted import ScriptedBackend
from ranker.elimination import RankConfig, rank
from ranker.schema import Candidate, Domain, RankingTask
from studio.runsummary import RunSummary


def make_task(num_candidates: int, relevance: dict[str, float] | None = None) -> RankingTask:
    candidates = tuple(Candidate(candidate_id=f"c{i}", text=f"thing {i}") for i in range(num_candidates))
    return RankingTask(task_id="t", domain=Domain.OTHER, query="?", candidates=candidates, relevance=relevance or {})


def test_mrr_stands_beside_the_floor_of_the_same_tasks() -> None:
    summary = RunSummary()
    trace = rank(make_task(3), ScriptedBackend(), RankConfig())
    summary.add(make_task(3, {trace.ranking[0]: 1}), trace, is_new=True)  # first: 1
    summary.add(make_task(3, {trace.ranking[2]: 1}), trace, is_new=False)  # third: 1/3
    summary.add(make_task(3), trace, is_new=True)  # not known: does not count
    figures = summary.as_dict()
    assert (figures["tasks"], figures["ranked_now"], figures["ranked_before"]) == (3, 2, 1)
    assert figures["num_with_relevance"] == 2
    assert figures["mrr"] == pytest.approx(2 / 3)
    assert figures["random_mrr"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert figures["skill"] == pytest.approx((2 / 3 - 11 / 18) / (7 / 18))
    assert figures["valid_permutations"] == 3
    assert figures["outcomes"] == {"forced": 6}


def test_ranking_of_other_candidates_is_not_valid() -> None:
    summary = RunSummary()
    summary.add(make_task(4), rank(make_task(3), ScriptedBackend(), RankConfig()), is_new=True)
    assert summary.as_dict()["valid_permutations"] == 0
    assert ("permutations", "0.0% valid") in summary.lines()


def test_nothing_ranked_is_shown_as_nothing() -> None:
    summary = RunSummary()
    assert summary.as_dict()["mrr"] is None
    assert [name for name, _ in summary.lines()] == ["tasks", "permutations", "outcomes"]
