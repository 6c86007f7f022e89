"""Simulated annotators follow their rule, err as often as asked, and their placebo teaches nothing."""

import pytest

from ranker.errors import UsageError
from ranker.schema import Candidate, Domain, RankingTask
from studio.loop_bench import pair_agreement
from trainer.orders import tiers_of_correction
from trainer.simulate import RULES, order_by_rule, shuffle_corrections, simulate_corrections

TASKS = [
    RankingTask(
        task_id=f"t{n}",
        domain=Domain.RECOMMENDATION,
        query="",
        candidates=tuple(
            Candidate(candidate_id=str(k), text=f"F{k} ({1930 + (n * 7 + k * 13) % 70})") for k in range(6)
        ),
    )
    for n in range(120)
]
BY_ID = {t.task_id: t for t in TASKS}


def mean_agreement(corrections: list) -> float:
    """Of what annotators said with the rule, over the pairs that they told apart."""
    values = []
    for c in corrections:
        said = tiers_of_correction(c, BY_ID[c.task_id])
        ranking = [i for tier in order_by_rule(BY_ID[c.task_id], RULES["older"]) for i in tier]
        values.append(pair_agreement(ranking, said))
    return sum(values) / len(values)


def test_without_noise_they_follow_the_rule() -> None:
    made = simulate_corrections(TASKS, "older", noise=0)
    assert mean_agreement(made) == 1
    sizes = {len(c.payload["order"]) for c in made}
    assert 4 in sizes and 6 in sizes, "some are whole, some name the first three only"


def test_noise_and_placebo() -> None:
    noisy = simulate_corrections(TASKS, "older", noise=0.1)
    assert 0.85 < mean_agreement(noisy) < 0.99
    assert 0.42 < mean_agreement(shuffle_corrections(noisy, BY_ID, 1)) < 0.58
    assert {c.author for c in noisy} == {"simulated:older"}


def test_a_year_is_taken_from_the_title_or_the_metadata() -> None:
    texts = [("A (1950)", {}), ("B", {"year": 1940}), ("C", {})]
    task = RankingTask(
        task_id="t",
        domain=Domain.OTHER,
        query="",
        candidates=tuple(Candidate(candidate_id=t[0], text=t, metadata=m) for t, m in texts),
    )
    assert order_by_rule(task, RULES["older"]) == (("B",), ("A",))


def test_an_unknown_rule() -> None:
    with pytest.raises(UsageError, match="older, shorter-titles"):
        simulate_corrections(TASKS, "newer", noise=0)


def test_agreement_by_hand() -> None:
    order = (("a",), ("b", "c"), ("d",))
    assert pair_agreement(["a", "c", "b", "d"], order) == 1
    assert pair_agreement(["d", "c", "b", "a"], order) == 0
    assert pair_agreement(["b", "a", "c", "d"], order) == pytest.approx(4 / 5)
    assert pair_agreement(["a", "b"], (("a", "b"),)) is None
