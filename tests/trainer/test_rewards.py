"""A string, why, and the parts that it must get."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.schema import Candidate, Domain, Mode, Outcome, RankingTask
from trainer.examples import TrainingExample
from trainer.orders import grade_exclusions
from trainer.rewards import PRESETS, Normalisation, RewardConfig, explain, normalise, score_format, score_tags

TITLES = ("Toy Story", "Heat", "Heat 2", "passage 10")
TASK = RankingTask(
    task_id="t",
    domain=Domain.OTHER,
    query="q",
    candidates=tuple(Candidate(candidate_id=str(i), text=t) for i, t in enumerate(TITLES)),
)
POOL = ("0", "1", "2", "3")


def example(*tiers: str, mode: Mode = Mode.ITERATIVE) -> TrainingExample:
    order = tuple(tuple(t) for t in tiers)
    return TrainingExample(task=TASK, pool=POOL, grades=grade_exclusions(order, POOL), tiers=order, mode=mode)


ONE_RELEVANT = example("1", "023")

EXCLUSIONS = [
    # completion, why, exclusion, format, tags, outcome
    ("It is a toy film.\n</think>\n<answer>Toy Story</answer>", "right and well formed", 1, 0, 0, "parsed"),
    ("no\n</think>\n<answer>[3]</answer>", "a label will do", 1, 0, 0, "parsed"),
    ("no\n</think>\n<answer>Heat</answer>", "the relevant one", 0, 0, 0, "parsed"),
    ("no\n</think>\n<answer>Cars</answer>", "nobody of the pool", -0.5, 0, 0, "not_in_pool"),
    ("no\n</think>\n<answer>passage 1</answer>", "not passage 10", -0.5, 0, 0, "not_in_pool"),
    ("no\n</think>\n<answer>[1] [2]</answer>", "two are not one", -0.5, 0, 0, "several_answers"),
    ("I cannot say", "no answer at all", -1, -1, -0.75, "no_answer"),
    ("no\n</think>\n<answer></answer>", "an empty answer", -1, -1, 0, "no_answer"),
    ("no\n</think>\n<answer>Heat 2</answer> I hope.", "words behind the answer", 1, -1, 0, "parsed"),
    ("<think>no\n</think>\n<answer>Heat 2</answer>", "opens the thought twice", 1, -1, -0.25, "parsed"),
    ("a</think>b</think><answer>Heat 2</answer>", "closes the thought twice", 1, -1, -0.25, "parsed"),
    ("no </think> but <answer>Heat 2</answer>", "words between", 1, -1, 0, "parsed"),
    ("<answer>Heat 2</answer>", "no thought", 1, -1, -0.25, "parsed"),
    ("</think><answer>Heat 2</answer>", "an empty thought is one", 1, 0, 0, "parsed"),
    ("", "nothing", -1, -1, -0.75, "no_answer"),
]


@pytest.mark.parametrize(("completion", "why", "exclusion", "form", "tags", "outcome"), EXCLUSIONS)
def test_paper(completion: str, why: str, exclusion: float, form: float, tags: float, outcome: str) -> None:
    parts = explain(completion, ONE_RELEVANT, PRESETS["paper"])
    assert (parts.exclusion, parts.format, parts.tags, parts.outcome) == (exclusion, form, tags, Outcome(outcome)), why
    assert parts.total == pytest.approx(exclusion + form + tags)
    assert parts.floor == 0.75


FIXED = [
    ("[4]", "the numbers are those of the prompt", 1, "parsed"),
    ("[2]", "the relevant one", 0, "parsed"),
    ("[1]", "is gone", -0.5, "not_in_pool"),
    ("Toy Story", "is gone, by its name", -0.5, "not_in_pool"),
]


@pytest.mark.parametrize(("answer", "why", "exclusion", "outcome"), FIXED)
def test_where_some_of_the_prompt_are_gone(answer: str, why: str, exclusion: float, outcome: str) -> None:
    pool = ("1", "3")
    left = ONE_RELEVANT.model_copy(
        update={
            "pool": pool,
            "shown": POOL,
            "mode": Mode.FIXED_BLOCK,
            "grades": grade_exclusions((("1",), ("3",)), pool),
        }
    )
    parts = explain(f"no\n</think>\n<answer>{answer}</answer>", left, PRESETS["paper"])
    assert (parts.exclusion, parts.outcome, parts.total) == (exclusion, Outcome(outcome), exclusion), why


REFERENCE = [
    ("no\n</think>\n<answer>Toy Story</answer>", "a perfect answer earns -0.5 there", -0.5, "0", False),
    ("no\n</think>\n<answer>The film Heat 2</answer>", "contained: Heat is listed before Heat 2", -1.5, "1", True),
    ("so I exclude Toy Story", "the tail is searched", -0.5, "0", True),
    ("no\n</think>\n<answer>zzz</answer>", "like nobody: the first listed", -0.5, "0", True),
]


@pytest.mark.parametrize(("completion", "why", "total", "excluded_id", "is_repaired"), REFERENCE)
def test_reference_faults(completion: str, why: str, total: float, excluded_id: str, is_repaired: bool) -> None:
    parts = explain(completion, ONE_RELEVANT, PRESETS["reference"])
    assert (parts.total, parts.excluded_id, parts.is_repaired) == (pytest.approx(total), excluded_id, is_repaired), why


def answer(title: str) -> str:
    return f"no\n</think>\n<answer>{title}</answer>"


def test_orders_grade_an_exclusion() -> None:
    full, tied, partial = example("0", "1", "2", "3"), example("0", "12", "3"), example("0", "1")
    paper = PRESETS["paper"]
    assert [explain(answer(t), full, paper).exclusion for t in TITLES] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert [explain(answer(t), tied, paper).exclusion for t in TITLES] == pytest.approx([0, 0.5, 0.5, 1])
    assert [explain(answer(t), partial, paper).grade for t in TITLES] == [0, 1, None, None]
    assert explain(answer("Heat 2"), partial, paper).exclusion == 0


def test_length_beyond_the_budget_costs() -> None:
    config = RewardConfig(length_weight=0.1, length_words=3)
    assert explain("one two</think><answer>Heat</answer>", ONE_RELEVANT, config).length == 0
    assert explain(
        "one two three four five</think> <answer>Heat</answer>", ONE_RELEVANT, config
    ).length == pytest.approx(-0.3)


@given(st.integers(2, 30))
def test_normalised_a_random_policy_earns_nothing(n: int) -> None:
    grades = grade_exclusions((("0",), tuple(str(i) for i in range(1, n))), [str(i) for i in range(n)])
    values = [float(g or 0) for g in grades.values()]
    standard = [normalise(g, grades, Normalisation.STANDARD) for g in values]
    assert sum(standard) == pytest.approx(0, abs=1e-9)
    assert sum(x * x for x in standard) / n == pytest.approx(1)
    skill = [normalise(g, grades, Normalisation.SKILL) for g in values]
    assert sum(skill) == pytest.approx(0, abs=1e-9) and max(skill) == pytest.approx(1)


ORDERS = [
    ("[2] > [1] > [3] > [4]", "the relevant one first", 1.0),
    ("[1] > [2] > [3] > [4]", "second", 0.5),
    ("[2] > [1]", "half of them missing", 1.0 - 0.5),
    ("[2] > [1] > [3] > Cars", "one missing, one invented", 1.0 - 0.25 - 0.25),
    ("", "nothing", -1.0),
]


@pytest.mark.parametrize(("text", "why", "ranking"), ORDERS)
def test_ranking_reward(text: str, why: str, ranking: float) -> None:
    direct = example("1", "023", mode=Mode.DIRECT)
    parts = explain(answer(text), direct, PRESETS["paper"])
    assert parts.ranking == pytest.approx(ranking), why
    assert parts.exclusion == 0


def test_ranking_reward_of_a_graded_order_counts_pairs() -> None:
    direct = example("0", "12", "3", mode=Mode.DIRECT)  # five known pairs: 0>1 0>2 0>3 1>3 2>3
    assert explain(answer("[1] > [3] > [2] > [4]"), direct).ranking == pytest.approx(1)
    assert explain(answer("[4] > [1] > [2] > [3]"), direct).ranking == pytest.approx(2 / 5)
    assert explain(answer("[1] > [2]"), direct).ranking == pytest.approx(4 / 5 - 0.5)


PIECES = ["a", " ", "[2]", "<", "<think>", "</think>", "<answer>", "</answer>", "Heat", "\n"]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_whatever_the_model_writes_gets_a_finite_reward(completion: str) -> None:
    for name, config in PRESETS.items():
        parts = explain(completion, ONE_RELEVANT, config)
        assert math.isfinite(parts.total), name
        assert -1 <= score_format(completion) <= 0 and -1 <= score_tags(completion) <= 0
        assert (parts.outcome is Outcome.PARSED) == (parts.excluded_id is not None) or config.has_reference_faults
