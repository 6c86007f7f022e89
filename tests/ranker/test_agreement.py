"""Agreement of orders: worked by hand, against brute force, and properties."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.agreement import (
    as_order,
    count_pairs,
    first_divergent_step,
    kendall_tau_b,
    krippendorff_alpha,
    preference_alpha,
    rank_biased_overlap,
    top_1_agreement,
)
from ranker.consensus import borda, bradley_terry, consensus, plackett_luce, reliability_weights

IDS = "abcdef"


@st.composite
def orders(draw: st.DrawFn) -> tuple[tuple[str, ...], ...]:
    """Partial orders with ties of up to six candidates, at least one named."""
    ids = draw(st.permutations(IDS))[: draw(st.integers(1, 6))]
    cuts = sorted(draw(st.sets(st.integers(1, len(ids)), max_size=len(ids))))
    return tuple(tuple(ids[a:b]) for a, b in itertools.pairwise([0, *cuts, len(ids)]) if a < b)


@pytest.mark.parametrize(
    ("left", "right", "tau"),
    [
        ("a b c d", "a b c d", 1.0),
        ("a b c d", "d c b a", -1.0),
        ("a b c", "a c b", 1 / 3),  # 2 alike, 1 not, of 3 pairs
        ("a b c", "b x c", 1.0),  # only b and c are in both
        ("a bc d", "a b c d", 5 / 30**0.5),  # 5 pairs alike, sqrt((6 - 1) * 6)
        ("ab cd", "ac bd", 0.0),  # ad alike, bc the other way round, all others tied on one side
        ("abc", "a b c", None),
        ("a", "a b", None),
        ("a b", "c d", None),
        ("", "a b", None),
    ],
)
def test_tau_b_by_hand(left: str, right: str, tau: float | None) -> None:
    found = kendall_tau_b(left.split(), right.split())
    assert found == (None if tau is None else pytest.approx(tau))


@pytest.mark.parametrize(
    ("left", "right", "p", "rbo"),
    [
        ("a b", "a b", 0.5, 1.0),
        ("a b", "c d", 0.5, 0.0),
        # agreements 0, 1: (1-p)/p * (0 p + 1 p^2) + 1 p^2 = .25 + .25
        ("a b", "b a", 0.5, 0.5),
        # s = 1, l = 3: agreements 1, (1 + 1)/2, (1 + 2)/3
        ("a", "a b c", 0.5, 1.0),
        # s = 1, l = 3: agreements 0, 1 / 2, 1 / 3
        ("b", "a b c", 0.5, 0.5 * 0.25 + 2 * 0.125 / 3),
        ("ab", "ab", 0.5, 1.0),
        # overlap .5, 2; own .5, 2 and 1, 2: agreements .5 / sqrt(.5), 1
        ("ab", "a b", 0.5, 0.5 * 0.5**0.5 + 0.25 + 0.25),
        ("", "a", 0.5, None),
    ],
)
def test_rank_biased_overlap_by_hand(left: str, right: str, p: float, rbo: float | None) -> None:
    found = rank_biased_overlap(left.split(), right.split(), p=p)
    assert found == (None if rbo is None else pytest.approx(rbo))


def test_rank_biased_overlap_is_that_of_the_source() -> None:
    """Equation 32 of Webber et al. written out, on lists without ties."""
    rng = random.Random(0)
    for _ in range(20):
        long = rng.sample("abcdefghijkl", rng.randint(1, 9))
        short = rng.sample("abcdefghijkl", rng.randint(1, len(long)))
        p, s, n = 0.8, len(short), len(long)
        x = [len(set(short[:d]) & set(long[:d])) for d in range(n + 1)]
        sums = sum(x[d] / d * p**d for d in range(1, n + 1))
        sums += sum(x[s] * (d - s) / (s * d) * p**d for d in range(s + 1, n + 1))
        expected = (1 - p) / p * sums + ((x[n] - x[s]) / n + x[s] / s) * p**n
        assert rank_biased_overlap(as_order(short), as_order(long), p=p) == pytest.approx(expected)


@given(left=orders(), right=orders())
def test_agreement_is_symmetric_bounded_and_full_with_oneself(
    left: tuple[tuple[str, ...], ...], right: tuple[tuple[str, ...], ...]
) -> None:
    for measure, lowest in ((kendall_tau_b, -1.0), (rank_biased_overlap, 0.0), (top_1_agreement, 0.0)):
        value = measure(left, right)
        assert value == (None if value is None else pytest.approx(measure(right, left)))
        assert value is None or lowest <= value <= 1
        assert measure(left, left) in (None, pytest.approx(1.0))
    assert first_divergent_step(left, left[:0:-1]) is None


@given(order=orders())
def test_the_reverse_has_the_opposite_tau(order: tuple[tuple[str, ...], ...]) -> None:
    tau = kendall_tau_b(order, order[::-1])
    assert (tau is None) == (len(order) < 2)
    assert tau is None or tau == pytest.approx(-1)


def test_top_1() -> None:
    assert top_1_agreement(["a", "b"], ["a", "c"]) == 1
    assert top_1_agreement(["a", "b"], ["b", "a"]) == 0
    assert top_1_agreement([["a", "b"], ["c"]], ["a", "b", "c"]) == 0.5
    assert top_1_agreement([], ["a"]) is None


@pytest.mark.parametrize(
    ("order", "exclusions", "step"),
    [
        ("a b c d", ["d", "c", "b"], None),
        ("a b c d", ["d", "b", "c"], 1),
        ("a b c d", ["a", "b", "c"], 0),
        ("ab cd", ["d", "c", "a"], None),
        ("ab cd", ["d", "b", "c"], 1),
        ("a d", ["c", "b", "a"], 2),  # b and c were not judged
        ("a", ["a", "b"], None),
        ("a b c d", ["dc", "b"], None),
        ("a b c d", ["db"], 0),
    ],
)
def test_first_divergence(order: str, exclusions: list[str], step: int | None) -> None:
    assert first_divergent_step(order.split(), exclusions) == step


def test_alpha_by_hand() -> None:
    """Two people, three pairs: they agree on a > b and a > c and differ on b, c. Seen from both sides: 12 values."""
    counted = count_pairs([["a", "b", "c"], ["a", "c", "b"]])
    assert sorted(counted.counts) == [(0, 0, 2), (0, 0, 2), (1, 0, 1), (1, 0, 1), (2, 0, 0), (2, 0, 0)]
    # observed 4 of 12 values paired with the opposite; expected 2 * 6 * 6 / 11; distances are all 4
    assert krippendorff_alpha(counted.counts) == pytest.approx(1 - 4 / (72 / 11))
    assert krippendorff_alpha(count_pairs([["a", "b"], ["a", "b"]]).counts) == 1
    assert krippendorff_alpha([]) is None
    assert krippendorff_alpha(count_pairs([["ab"], ["ab"]]).counts) is None  # nobody ever told anything apart


def test_alpha_and_its_interval() -> None:
    rng = random.Random(1)
    same = {task: [as_order(rng.sample(IDS, 6))] * 3 for task in range(8)}
    assert preference_alpha(same) == (1, 1, 1)
    by_chance = {task: [as_order(rng.sample(IDS, 6)) for _ in range(3)] for task in range(60)}
    interval = preference_alpha(by_chance)
    assert interval is not None
    assert interval.low < 0.05 and abs(interval.mean) < 0.15 and interval.low <= interval.mean <= interval.high
    assert preference_alpha(by_chance) == interval
    assert preference_alpha({1: [as_order("abc")]}) is None
    # the interval's own formula is the package's
    one = preference_alpha({1: by_chance[0]})
    assert one is not None and np.allclose(one, one.mean)


def test_consensus_by_hand() -> None:
    votes = [["a", "b", "c"], ["a", "c", "b"], ["b", "a", "c"]]
    assert borda(votes) == pytest.approx({"a": 2 / 3, "b": 0.0, "c": -2 / 3})
    for method in ("borda", "bradley-terry", "plackett-luce"):
        assert consensus(votes, method=method) == (("a",), ("b",), ("c",)), method
    assert consensus([["a", "b"], ["b", "a"]]) == (("a", "b"),)
    assert consensus([["a", "b"], ["b", "a"]], weights=[1, 3]) == (("b",), ("a",))
    assert consensus([["a", "b"], ["b", "a"]], method="bradley-terry", weights=[3, 1]) == (("a",), ("b",))
    assert consensus([["ab", "c"]], method="bradley-terry") == (("a", "b"), ("c",))
    assert consensus([]) == ()
    assert consensus([["a", "b"], ["b", "a"]], method="plackett-luce", weights=[0.05, 0.1]) == (("b",), ("a",))
    for wrong in ([1.0, 2.0], [-1.0]):
        for method in ("borda", "bradley-terry", "plackett-luce"):
            with pytest.raises(ValueError, match="weights"):
                consensus([["a", "b"]], method=method, weights=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no ties"):
        plackett_luce([["ab"]])


def test_strengths_are_those_that_the_choices_came_from() -> None:
    """a wins 3 of 4 against b: log(3) apart, but for what every pair has for free."""
    strength = bradley_terry([["a", "b"]] * 300 + [["b", "a"]] * 100)
    assert strength["a"] - strength["b"] == pytest.approx(np.log(3), abs=0.01)
    luce = plackett_luce([["a", "b"]] * 3 + [["b", "a"]])
    assert luce["a"] - luce["b"] == pytest.approx(np.log(61 / 21), abs=1e-4)
    long = [chr(97 + i) for i in range(20)]
    assert consensus([long], method="bradley-terry") == as_order(long)
    assert consensus([long] * 3, method="plackett-luce") == as_order(long)


@given(votes=st.lists(orders(), min_size=1, max_size=4))
def test_a_consensus_names_everything_once(votes: list[tuple[tuple[str, ...], ...]]) -> None:
    named = sorted({i for order in votes for tier in order for i in tier})
    for method in ("borda", "bradley-terry"):
        assert sorted(i for tier in consensus(votes, method=method) for i in tier) == named  # type: ignore[arg-type]


def test_reliability_is_never_negative() -> None:
    assert reliability_weights({"a": 0.8, "b": -0.4, "c": None}) == {"a": 0.8, "b": 0.05, "c": 1.0}
