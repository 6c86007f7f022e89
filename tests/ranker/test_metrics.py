"""Metrics by hand and by brute force."""

import random
from itertools import permutations
from math import log2
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.metrics import (
    average_precision,
    exclusion_accuracy,
    hit_rate,
    ndcg,
    random_floor_mrr,
    random_floor_ndcg,
    rank_of_relevant,
    reciprocal_rank,
    routing_outcome,
    skill_score,
)
from ranker.schema import Candidate, Domain, EliminationStep, Outcome, RankingTask


def test_rank_and_reciprocal_rank() -> None:
    assert rank_of_relevant(["a", "b", "c"], {"c": 2, "b": 1}) == 2
    assert reciprocal_rank(["a", "b", "c"], {"c": 1, "a": 0}) == pytest.approx(1 / 3)
    assert reciprocal_rank(["a", "b"], {}) is None


@pytest.mark.parametrize(("n", "r"), [(1, 1), (2, 1), (5, 1), (5, 2), (6, 3), (6, 6)])
def test_random_floor_is_the_mean_over_all_orders(n: int, r: int) -> None:
    orders = list(permutations(range(n)))
    mean = sum(1 / (1 + min(order.index(i) for i in range(r))) for order in orders) / len(orders)
    assert random_floor_mrr(n, r) == pytest.approx(mean)


def test_random_floor_of_the_paper() -> None:
    assert [round(100 * random_floor_mrr(n), 2) for n in (20, 10, 5, 7, 9)] == [17.99, 29.29, 45.67, 37.04, 31.43]


def test_skill_score() -> None:
    assert skill_score(0.18, 0.18) == 0
    assert skill_score(1.0, 0.18) == 1
    assert skill_score(0.1, 0.18) < 0


def test_graded_gains_by_hand() -> None:
    relevance = {"a": 3, "b": 1, "c": 0}
    order = ["b", "a", "c"]
    assert ndcg(order, relevance) == pytest.approx((1 + 3 / log2(3)) / (3 + 1 / log2(3)))
    assert ndcg(order, relevance, gain="exponential") == pytest.approx((1 + 7 / log2(3)) / (7 + 1 / log2(3)))
    assert ndcg(order, relevance, 1) == pytest.approx(1 / 3)
    assert average_precision(order, relevance) == 1
    assert [hit_rate(order[::-1], relevance, k) for k in (1, 2)] == [0, 1]


def test_judged_but_unlisted_documents_count_in_the_ideal() -> None:
    assert ndcg(["a"], {"a": 1, "z": 1}) == pytest.approx(1 / (1 + 1 / log2(3)))
    assert average_precision(["a"], {"a": 1, "z": 1}) == 0.5


def test_unknown_relevance_is_not_zero() -> None:
    assert ndcg(["a", "b"], {}) is None
    assert average_precision(["a", "b"], {"a": 0}) is None
    assert hit_rate(["a", "b"], {}, 1) is None


@pytest.mark.parametrize("gain", ["linear", "exponential"])
def test_random_floor_of_ndcg_is_the_mean_over_all_orders(gain: Literal["linear", "exponential"]) -> None:
    relevance = {"a": 3, "b": 1, "z": 2}
    orders = list(permutations("abcd"))
    mean = sum(ndcg(o, relevance, 2, gain=gain) or 0 for o in orders) / len(orders)
    assert random_floor_ndcg("abcd", relevance, 2, gain=gain) == pytest.approx(mean)


def test_metrics_agree_with_ir_measures() -> None:
    ir_measures = pytest.importorskip("ir_measures")
    rng = random.Random(5)
    qrels: dict[str, dict[str, int]] = {}
    run: dict[str, dict[str, float]] = {}
    for query in map(str, range(60)):
        listed = [f"d{i}" for i in range(rng.randint(2, 40))]
        judged = {d: rng.choice([0, 0, 0, 1, 2, 3]) for d in [*listed, "unlisted1", "unlisted2"]}
        judged[rng.choice(listed)] = 2
        rng.shuffle(listed)
        qrels[query], run[query] = judged, {d: -float(i) for i, d in enumerate(listed)}
    names = ("RR", "AP", "nDCG@10", "nDCG@5", "Success@3")
    theirs = {
        (str(value.measure), value.query_id): value.value
        for value in ir_measures.iter_calc([ir_measures.parse_measure(n) for n in names], qrels, run)
    }
    for query, scores in run.items():
        ranking = sorted(scores, key=lambda d: -scores[d])
        ours = {
            "RR": reciprocal_rank(ranking, qrels[query]),
            "AP": average_precision(ranking, qrels[query]),
            "nDCG@10": ndcg(ranking, qrels[query], 10),
            "nDCG@5": ndcg(ranking, qrels[query], 5),
            "Success@3": hit_rate(ranking, qrels[query], 3),
        }
        for name, value in ours.items():
            assert value == pytest.approx(theirs[name, query]), (name, query)


def _step(pool: str, excluded: str, index: int = 0) -> EliminationStep:
    return EliminationStep(step_index=index, pool=tuple(pool), excluded_id=excluded, outcome=Outcome.PARSED)


def test_exclusion_accuracy_counts_only_steps_that_can_go_wrong() -> None:
    steps = [_step("abc", "b"), _step("ac", "a", 1)]
    counts = exclusion_accuracy([(steps, {"a": 1}), ([_step("abc", "a"), _step("bc", "b", 1)], {"a": 1})])
    assert [(c.pool_size, c.num_steps, c.accuracy) for c in counts] == [(3, 2, 0.5), (2, 1, 0.0)]
    assert counts[0].floor == pytest.approx(2 / 3)


def test_routing_outcome_is_the_gain_that_was_missed() -> None:
    candidates = tuple(
        Candidate(candidate_id=name, text=name, metadata={"gain": gain, "score": score, "cost": 1.0})
        for name, gain, score in (("small", 0.2, 0.5), ("large", 0.6, 0.9))
    )
    task = RankingTask(task_id="t", domain=Domain.ROUTING, query="q", candidates=candidates, relevance={"large": 1})
    outcome = routing_outcome(task, ["small", "large"])
    assert outcome is not None
    assert (outcome.reward, outcome.regret, outcome.effect) == pytest.approx((0.2, 0.4, 0.5))


@given(st.permutations("abcdef"), st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 4)))
def test_metrics_stay_in_their_range(ranking: list[str], relevance: dict[str, float]) -> None:
    values = [
        reciprocal_rank(ranking, relevance),
        ndcg(ranking, relevance, 3),
        ndcg(ranking, relevance, gain="exponential"),
        average_precision(ranking, relevance),
    ]
    assert all(v is None or 0 <= v <= 1 + 1e-12 for v in values)
