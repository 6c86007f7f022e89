"""Error analysis on cases that are worked by hand."""

import math

import pytest

from ranker.evaluation.analysis import (
    analyse,
    frontier,
    length_effect,
    losses,
    order_robustness,
    position_bias,
    reliability,
)
from ranker.evaluation.answers import Answer, StepFact
from ranker.schema import Outcome


def _fact(
    pool_size: int, position: int = 0, *, lost: bool = False, p: float | None = None, tokens: int = 0
) -> StepFact:
    return StepFact(pool_size, 1, position, lost, p, Outcome.PARSED, 1, tokens)


def _answer(task_id: str, *facts: StepFact, ranking: tuple[str, ...] = ("a", "b", "c"), seed: int = 0) -> Answer:
    return Answer(dataset_key="d", system_key="s", seed=seed, task_id=task_id, ranking=ranking, steps=facts)


def test_losses_say_at_which_pool_size_and_what_chance_would_lose() -> None:
    answers = [
        _answer("q1", _fact(3), _fact(2, lost=True)),
        _answer("q2", _fact(3, lost=True)),
        _answer("q3", _fact(3), _fact(2)),
        _answer("q4", _fact(3), _fact(2)),
    ]
    three, two = losses(answers, num_draws=500)
    assert (three.name, three.n, three.value, three.expected) == ("3", 4, 0.25, 0.3333)
    assert (two.name, two.n, two.value, two.expected) == ("2", 3, 0.3333, 0.5)
    assert (three.low, three.high) == (0.0, 0.75)


def test_pools_that_cannot_go_wrong_are_not_counted() -> None:
    none = StepFact(3, 0, 0, False, None, Outcome.PARSED, 1, 0)
    all_of_them = StepFact(2, 2, 0, True, None, Outcome.PARSED, 1, 0)
    several = StepFact(3, 1, 0, False, None, Outcome.PARSED, 2, 0)
    assert losses([_answer("q", none, all_of_them, several)], num_draws=50) == ()


def test_a_ranker_that_always_drops_the_last_one_is_caught() -> None:
    answers = [_answer(f"q{i}", _fact(4, 3), _fact(3, 2), _fact(2, 1)) for i in range(10)]
    bias = position_bias(answers, num_draws=500)
    assert bias is not None
    last = bias.places[-1]
    assert (last.name, last.n, last.value, last.expected) == ("last", 30, 1.0, round((1 / 4 + 1 / 3 + 1 / 2) / 3, 4))
    assert [p.name for p in bias.places] == ["1", "2", "3", "last"]
    assert [p.n for p in bias.places] == [30, 20, 10, 30], "a pool of two has a first place and a last one"
    expected = {"1": 10 * 13 / 12, "2": 10 * 7 / 12, "3": 10 / 4}
    chi_square = sum(expected.values()) + (30 - 10 * 13 / 12) ** 2 / (10 * 13 / 12)
    assert bias.chi_square == pytest.approx(chi_square, abs=1e-3)
    assert bias.p_value == pytest.approx(1 / 501, abs=1e-6)


def test_every_place_alike_is_no_bias() -> None:
    answers = [_answer(f"q{i}", _fact(4, i % 4)) for i in range(40)]
    bias = position_bias(answers, num_draws=500)
    assert bias is not None
    assert (bias.chi_square, bias.p_value, bias.num_steps) == (0, 1.0, 40)
    assert all(place.value == place.expected == 0.25 for place in bias.places)


def test_lengths_are_compared_in_quarters() -> None:
    lengths = [(10, True), (10, True), (20, True), (20, False), (30, False), (30, True), (40, False), (40, False)]
    answers = [_answer(f"q{i}", _fact(4, lost=lost, tokens=n)) for i, (n, lost) in enumerate(lengths)]
    found = length_effect(answers, num_draws=100)
    assert [(f.share.name, f.mean_tokens, f.share.n, f.share.value) for f in found] == [
        ("10", 10, 2, 0.0),
        ("20", 20, 2, 0.5),
        ("30", 30, 2, 0.5),
        ("40", 40, 2, 1.0),
    ]
    assert {f.share.expected for f in found} == {0.75}
    assert length_effect([_answer(f"q{i}", _fact(4)) for i in range(9)], num_draws=50) == ()


def test_calibration_error_is_the_weighted_gap() -> None:
    sure = [_fact(2, p=0.9, lost=i < 2) for i in range(10)]  # 80% right, 90% said
    unsure = [_fact(4, p=0.5, lost=i < 5) for i in range(10)]  # 50% right, 50% said; chance 75%
    result = reliability([_answer("q", *sure, *unsure)])
    assert result is not None
    assert [(b.n, b.confidence, b.accuracy, b.expected) for b in result.bins] == [
        (10, 0.5, 0.5, 0.75),
        (10, 0.9, 0.8, 0.5),
    ]
    assert (result.n, result.ece) == (20, 0.05)
    of_two = reliability([_answer("q", *sure, *unsure)], pool_size=2)
    assert of_two is not None
    assert (of_two.n, of_two.ece) == (10, 0.1)
    assert reliability([_answer("q", _fact(2, p=0.9))]) is None


def test_reshuffles_that_turn_a_ranking_round_have_tau_minus_one() -> None:
    turned = [
        _answer("q1", ranking=("a", "b", "c")),
        _answer("q1", ranking=("c", "b", "a"), seed=1),
        _answer("q2", ranking=("a", "b", "c")),
        _answer("q2", ranking=("a", "c", "b"), seed=1),
    ]
    result = order_robustness(turned, num_draws=100)
    assert result is not None
    assert result.tau == round((-1 + 1 / 3) / 2, 4)
    assert (result.top, result.top_random, result.num_queries) == (0.5, 0.3333, 2)
    assert order_robustness(turned[:1], num_draws=100) is None
    early = [a.model_copy(update={"is_stopped_early": True}) for a in turned]
    assert order_robustness(early, num_draws=100) is None


def test_the_frontier_has_what_nobody_beats() -> None:
    points = [(1, 0.2), (2, 0.5), (3, 0.4), (3, 0.6), (3, 0.6)]
    assert frontier(points) == [True, True, False, True, True]
    assert frontier([]) == []


def test_without_steps_only_the_order_is_analysed() -> None:
    baseline = [_answer("q", seed=0), _answer("q", seed=1)]
    result = analyse(baseline, num_draws=100)
    assert result.losses == result.lengths == ()
    assert result.positions is result.reliability is None
    assert result.order is not None
    assert result.order.tau == 1
    assert not math.isnan(result.order.tau_low)
