"""Metrics by hand and by brute force."""

from itertools import permutations

import pytest

from ranker.metrics import random_floor_mrr, rank_of_relevant, reciprocal_rank, skill_score


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
