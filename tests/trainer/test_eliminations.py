"""PPO over exclusions on a tiny model: it learns, begins on policy, and an episode is what a ranking would be."""

import math
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from ranker.elimination import AnswerFormat
from ranker.errors import UsageError
from ranker.schema import Candidate, Domain, RankingTask
from trainer.config import make_config
from trainer.eliminations import (
    Draw,
    EliminationArguments,
    EliminationTrainer,
    RolloutSampler,
)
from trainer.encoding import Encoder
from trainer.examples import TrainingExample
from trainer.orders import Tiers, grade_exclusions
from trainer.pools import Known, draw_orders, normalise_grades
from trainer.rewards import Normalisation, normalise

TITLES = ("Alien", "Heat (1995)", "Rope (1948)", "Ran (1985)")


def example(number: int, tiers: Tiers = (("2",), ("0",), ("3",), ("1",)), **changes: Any) -> TrainingExample:
    candidates = tuple(Candidate(candidate_id=str(k), text=title) for k, title in enumerate(TITLES))
    task = RankingTask(task_id=f"t{number}", domain=Domain.OTHER, query=f"q{number}", candidates=candidates)
    pool = tuple(task.candidate_ids)
    values = {"task": task, "pool": pool, "grades": grade_exclusions(tiers, pool), "tiers": tiers}
    return TrainingExample(**{**values, **changes})


def make_trainer(model_dir: Path, out: Path, examples: list[TrainingExample], **changes: Any) -> EliminationTrainer:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32, attn_implementation="sdpa")
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    encoder = Encoder(tokenizer, AnswerFormat.LIKELIHOOD)
    own = {name: changes.pop(name) for name in ("is_whole", "normalisation", "lot") if name in changes}
    options: dict[str, Any] = {
        "per_device_train_batch_size": 4,
        "rollout_size": 8,
        "max_steps": 4,
        "learning_rate": 1e-2,
        "value_learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "remove_unused_columns": False,
    }
    return EliminationTrainer(
        model=get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")),
        args=EliminationArguments(output_dir=str(out), **{**options, **changes}),
        processing_class=tokenizer,
        rows=[encoder.title_row(e) for e in examples],
        scale=1.0,
        **{"is_whole": True, "normalisation": Normalisation.NONE, **own},
    )


def history(trainer: EliminationTrainer) -> list[dict[str, float]]:
    return [row for row in trainer.state.log_history if "loss" in row]


@pytest.fixture(scope="module")
def learned(toy_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    trainer = make_trainer(
        toy_model_dir, tmp_path_factory.mktemp("ppo"), [example(n) for n in range(16)], max_steps=48, kl_coef=0.01
    )
    trainer.train()
    return history(trainer)


def test_exclusions_get_better_on_a_rule_that_can_be_learnt(learned: list[dict[str, float]]) -> None:
    grades = [row["exclusion/grade"] for row in learned if "exclusion/grade" in row]
    assert len(grades) == 12, "a rollout serves four steps"
    assert grades[0] < 0.62 and learned[0]["exclusion/random_floor"] == pytest.approx(0.5)
    assert sum(grades[-3:]) / 3 > grades[0] + 0.2


def test_the_first_epoch_is_on_policy_and_the_second_is_not(learned: list[dict[str, float]]) -> None:
    first, third = learned[0], learned[2]
    assert first["policy/ratio"] == pytest.approx(1, abs=1e-6) and first["clip_ratio/region_mean"] == 0
    assert first["objective/kl"] == pytest.approx(0, abs=1e-6) and first["value/mean"] == 0
    assert abs(third["policy/ratio"] - 1) > 1e-4
    assert max(row["objective/kl"] for row in learned) > 0.01


def test_an_episode_is_a_whole_elimination(toy_model_dir: Path, tmp_path: Path) -> None:
    """Grades and probabilities are of who is left; the KL penalty is 0 at the start; advantages by hand."""
    trainer = make_trainer(toy_model_dir, tmp_path, [example(0)], gamma=0.5, lam=0.5, group_size=1)
    scores = torch.tensor([0.1, 0.7, -0.3, 0.2])
    [episode] = trainer._go_through([Draw(0, 0)], scores, scores, torch.zeros(4))
    pool = ["0", "1", "2", "3"]
    assert episode.is_left.sum(1).tolist() == [4, 3, 2]
    left = list(range(4))
    for t, excluded in enumerate(episode.excluded.tolist()):
        grades = grade_exclusions(example(0).tiers, [pool[k] for k in left])
        assert episode.rewards[t] == pytest.approx(grades[pool[excluded]], abs=1e-6)
        total = sum(math.exp(scores[k]) for k in left)
        assert episode.log_probs[t].exp() == pytest.approx(math.exp(scores[excluded]) / total, abs=1e-6)
        left.remove(excluded)
    a, b, c = episode.rewards.tolist()
    assert episode.advantages.tolist() == pytest.approx([a + 0.25 * b + 0.0625 * c, b + 0.25 * c, c], abs=1e-6)


def test_what_is_drawn_for_a_pool_does_not_depend_on_its_neighbours(toy_model_dir: Path, tmp_path: Path) -> None:
    """Pools of 4, 2 and 3, with and without an order, in one batch and each alone."""
    judged = example(2, (), pool=("0", "1", "2"), grades={"0": 1.0, "1": 0.0, "2": None})
    small = example(1, (("2",), ("0",)), pool=("0", "2"))
    for lot in (None, 5):
        trainer = make_trainer(toy_model_dir, tmp_path, [example(0), small, judged], lot=lot, group_size=6)
        scores, start, values = torch.randn(3, 9, generator=torch.Generator().manual_seed(1))
        draws = [Draw(7, number) for number in range(3)]
        together = trainer._go_through(draws, scores, start, values)
        parts = zip(*(x.split([4, 2, 3]) for x in (scores, start, values)), strict=True)
        for draw, episodes, part in zip(draws, together, parts, strict=True):
            [alone] = trainer._go_through([draw], *part)
            for one, other in zip(episodes, alone, strict=True):
                assert one.shape == other.shape and torch.allclose(one.float(), other.float(), equal_nan=True)
        assert [len(e.excluded) for e in together][1:] == [6, 6] and len(together[0].excluded) > 12


LABEL: Tiers = (("1",), ("0", "2", "3"))
ENDS = [
    # tiers, whole elimination, changes, steps are over when
    (LABEL, False, {}, lambda gone: len(gone) == 1),
    (LABEL, True, {}, lambda gone: gone[-1] == 1 or len(gone) == 3),
    ((), True, {"grades": {"0": 1.0, "1": 0.0, "2": 0.0, "3": None}}, lambda gone: len(gone) == 1),
]


@pytest.mark.parametrize(("tiers", "is_whole", "changes", "is_over"), ENDS)
def test_an_episode_ends_when_nothing_is_known_of_who_is_left(
    toy_model_dir: Path, tmp_path: Path, tiers: Tiers, is_whole: bool, changes: dict[str, Any], is_over: Any
) -> None:
    trainer = make_trainer(toy_model_dir, tmp_path, [example(0, tiers, **changes)], is_whole=is_whole, group_size=1)
    lengths = set()
    for rollout in range(12):
        [episode] = trainer._go_through([Draw(rollout, 0)], torch.zeros(4), torch.zeros(4), torch.zeros(4))
        gone = episode.excluded.tolist()
        assert is_over(gone) and len(set(gone)) == len(gone)
        lengths.add(len(gone))
    assert len(lengths) > 1 or not (is_whole and tiers)


def test_the_penalty_holds_the_policy_near_where_it_began(toy_model_dir: Path, tmp_path: Path) -> None:
    """An adapter that is trained on is its own reference, not the base model beneath it."""
    ends = []
    for weight, in_loss in ((0.0, False), (3.0, True), (3.0, False)):
        trainer = make_trainer(
            toy_model_dir, tmp_path, [example(n) for n in range(8)], max_steps=16, kl_coef=weight, kl_in_loss=in_loss
        )
        with torch.no_grad():
            for parameter in trainer._trained():
                parameter.add_(0.05)
        trainer.remember_start()
        trainer.train()
        assert history(trainer)[0]["objective/kl"] == pytest.approx(0, abs=1e-6)
        ends.append(history(trainer)[-1]["objective/kl"])
    assert ends[1] < ends[0] / 2 and ends[2] < ends[0] / 2


def test_a_row_that_comes_again_is_compared_with_the_same_start(toy_model_dir: Path, tmp_path: Path) -> None:
    """Eight rows in rollouts of eight, so that each comes in every rollout; the policy has moved in between."""
    trainer = make_trainer(toy_model_dir, tmp_path, [example(n) for n in range(8)], max_steps=12)
    starts: list[torch.Tensor] = []
    scored: list[torch.Tensor] = []
    go_through = trainer._go_through

    def watch(draws: list[Draw], scores: torch.Tensor, reference: torch.Tensor, values: torch.Tensor) -> Any:
        of_row_3 = [slice(4 * k, 4 * k + 4) for k, draw in enumerate(draws) if draw.number == 3]
        starts.extend(reference[where].clone() for where in of_row_3)
        scored.extend(scores[where].clone() for where in of_row_3)
        return go_through(draws, scores, reference, values)

    trainer._go_through = watch
    trainer.train()
    assert len(starts) == 3
    assert torch.allclose(scored[0], starts[0], atol=1e-6) and not torch.allclose(scored[2], starts[0], atol=1e-2)
    assert torch.equal(starts[0], starts[1]) and torch.equal(starts[0], starts[2])


def test_orders_are_drawn_as_if_one_after_another() -> None:
    """Each order as often as the product of the softmaxes over who is left says."""
    scores, number = torch.tensor([1.0, 0.0, -0.5]), 60_000
    noise = torch.rand(1, number, 3, generator=torch.Generator().manual_seed(0))
    orders = draw_orders(scores[None], noise)[0]
    for order in permutations(range(3)):
        probability, left = 1.0, set(range(3))
        for k in order:
            probability *= math.exp(scores[k]) / sum(math.exp(scores[j]) for j in left)
            left.remove(k)
        found = (orders == torch.tensor(order)).all(1).float().mean()
        assert found == pytest.approx(probability, abs=4 * math.sqrt(probability / number))


@pytest.mark.parametrize("normalisation", list(Normalisation))
@pytest.mark.parametrize("tiers", [(("2",), ("0", "1")), (("2",), ("0",), ("3",), ("1",)), (("1", "2"), ("0", "3"))])
def test_grades_of_who_is_left_are_those_of_the_rewards(tiers: Tiers, normalisation: Normalisation) -> None:
    one = example(0, tiers)
    for size in (2, 3, 4):
        for pool in combinations(one.pool, size):
            is_left = torch.tensor([i in pool for i in one.pool])
            grades = Known.of([one]).grade_left(is_left[None, None])[0, 0]
            rewards = normalise_grades(grades, normalisation)
            expected = grade_exclusions(tiers, pool)
            for k, i in enumerate(one.pool):
                grade = expected.get(i)
                assert math.isnan(grades[k]) if grade is None else grades[k] == pytest.approx(grade)
                if grade is not None:
                    wanted = normalise(grade, expected, normalisation)
                    assert rewards[k] == pytest.approx(wanted, abs=1e-5)


def test_a_reward_by_lot_has_nothing_to_do_with_the_exclusion(toy_model_dir: Path, tmp_path: Path) -> None:
    trainer = make_trainer(toy_model_dir, tmp_path, [example(n) for n in range(8)], lot=3)
    trainer._get_train_sampler()
    trainer._roll_out(trainer.model, 0)
    rewards = torch.cat([e.rewards for e in trainer._episodes.values()])
    assert set(rewards.tolist()) == {1.0, -1.0}


def test_every_row_is_drawn_before_any_is_drawn_again() -> None:
    sampler = RolloutSampler(num_rows=10, rollout_size=4, num_epochs=2, num_draws=41, seed=1)
    draws = list(sampler)
    assert len(draws) == len(sampler) == 41 and draws == list(sampler)
    for rollout in range(5):
        own = [d.number for d in draws if d.rollout == rollout]
        assert len(own) == 8 and sorted(own[:4]) == sorted(own[4:]) == sorted(sampler.members(rollout))
    first = [n for rollout in range(5) for n in sampler.members(rollout)]
    assert sorted(first[:10]) == sorted(first[10:]) == list(range(10)) and first[:10] != first[10:]


def test_a_rollout_is_made_of_whole_steps() -> None:
    raw = {"kind": "ppo-exclusions", "data": {"tasks": ["a"]}, "ppo": {"rollout_size": 12}}
    assert make_config({**raw, "optimizer": {"batch_size": 4}}).answer_format is AnswerFormat.SCORED
    with pytest.raises(UsageError, match=r"12: make it a multiple of optimizer\.batch_size x optimizer\.accumulation"):
        make_config({**raw, "optimizer": {"batch_size": 4, "accumulation": 2}})
