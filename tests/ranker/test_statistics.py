"""Intervals and tests against theory and brute force."""

import time
from itertools import product

import numpy as np
import pytest

from ranker.statistics import bootstrap_interval, compare, holm, paired_permutation_test, ratio_intervals


def test_bootstrap_interval_is_seeded_and_near_the_normal_one() -> None:
    values = np.random.default_rng(1).normal(0.4, 0.2, 400).tolist()
    interval = bootstrap_interval(values)
    assert interval == bootstrap_interval(values)
    half = 1.96 * np.std(values) / 20
    assert interval.low == pytest.approx(interval.mean - half, abs=0.1 * half)
    assert interval.high == pytest.approx(interval.mean + half, abs=0.1 * half)


def test_bootstrap_of_a_constant_has_no_width() -> None:
    assert tuple(bootstrap_interval([0.5] * 30)) == (0.5, 0.5, 0.5)


def test_ten_thousand_draws_of_a_thousand_queries_are_quick() -> None:
    started = time.perf_counter()
    bootstrap_interval(np.linspace(0, 1, 1000).tolist())
    assert time.perf_counter() - started < 5


def test_exact_permutation_test_is_the_share_of_all_sign_changes() -> None:
    a, b = [0.9, 0.5, 0.7, 0.2, 1.0], [0.4, 0.6, 0.1, 0.2, 0.5]
    differences = np.subtract(a, b)
    sums = [abs(np.dot(signs, differences)) for signs in product((1, -1), repeat=5)]
    expected = np.mean([s >= abs(differences.sum()) - 1e-12 for s in sums])
    assert paired_permutation_test(a, b) == pytest.approx(expected)


def test_equal_systems_have_p_of_one_and_different_ones_a_small_p() -> None:
    rng = np.random.default_rng(2)
    a = rng.random(80)
    assert paired_permutation_test(a.tolist(), a.tolist()) == 1
    assert paired_permutation_test((a + 0.2).tolist(), a.tolist()) == pytest.approx(1 / 10_001)


def test_p_values_are_uniform_where_nothing_differs() -> None:
    rng = np.random.default_rng(3)
    p_values = [
        paired_permutation_test(rng.random(40).tolist(), rng.random(40).tolist(), num_draws=500) for _ in range(300)
    ]
    assert 0.02 <= np.mean(np.array(p_values) <= 0.05) <= 0.09
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.06)


def test_comparison_is_paired() -> None:
    result = compare([1.0, 0.5, 0.75], [0.5, 0.25, 0.5])
    assert result.difference == pytest.approx(1 / 3)
    assert result.low > 0
    with pytest.raises(ValueError, match="3 and 2"):
        compare([1, 2, 3], [1, 2])


def test_ratios_resample_queries_and_not_what_a_query_has_several_of() -> None:
    parts = np.array([[4.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    wholes = np.array([[4.0, 1.0, 0.0], [4.0, 1.0, 0.0]])
    whole, half, nothing = ratio_intervals(parts, wholes, num_draws=500)
    assert whole == half == (0.0, 1.0), "two queries say nothing, however many steps they have"
    assert np.isnan(nothing).all()
    many = np.random.default_rng(4).random((400, 1))
    ((low, high),) = ratio_intervals(many, np.ones((400, 1)))
    interval = bootstrap_interval(many[:, 0].tolist())
    assert (low, high) == pytest.approx((interval.low, interval.high), abs=0.003)


def test_holm_by_hand() -> None:
    assert holm({"x": 0.04, "y": 0.01, "z": 0.03}) == pytest.approx({"x": 0.06, "y": 0.03, "z": 0.06})
    assert holm({"x": 0.9, "y": 0.8}) == {"x": 1.0, "y": 1.0}
