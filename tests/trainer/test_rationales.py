"""Reasons from real features: what decides is said, nothing is said that is not in the task, and the answer parses."""

import json
from pathlib import Path

import pytest

from ranker.parsing import parse_exclusion, parse_order
from ranker.schema import Candidate, Domain, Mode, Outcome, RankingTask
from trainer.examples import ExampleConfig, TrainingExample, make_training_examples
from trainer.orders import grade_exclusions
from trainer.rationales import explain_exclusion, make_rationale
from trainer.rewards import PRESETS, explain

SAMPLES = sorted((Path(__file__).parents[2] / "assets" / "samples").glob("*.jsonl"))


def make_example(task: RankingTask, relevant: str = "a", mode: Mode = Mode.ITERATIVE) -> TrainingExample:
    others = tuple(i for i in task.candidate_ids if i != relevant)
    tiers = ((relevant,), others)
    return TrainingExample(
        task=task, pool=task.candidate_ids, grades=grade_exclusions(tiers, task.candidate_ids), tiers=tiers, mode=mode
    )


def make_task(
    domain: Domain, query: str, history: tuple[str, ...], *candidates: tuple[str, dict[str, object]]
) -> RankingTask:
    made = tuple(
        Candidate(candidate_id="abcd"[k], text=text, metadata=data) for k, (text, data) in enumerate(candidates)
    )
    return RankingTask(task_id="t", domain=domain, query=query, history=history, candidates=made)


CASES = [
    (
        "words of the question",
        make_task(Domain.PASSAGE, "why is there no sound in space", (), ("Sound needs air.", {}), ("Sound in space", {}), ("Quiet streets", {})),
        "words",
        "Quiet streets has no word in common with the question; others share 'sound'.",
    ),
    (
        "the time of the history",
        make_task(
            Domain.RECOMMENDATION, "", ("Heat (1995)", "Fargo (1996)"), ("Seven (1995)", {}), ("Metropolis (1927)", {}), ("Casino (1995)", {})
        ),
        "time",
        "Metropolis (1927) is from 1927; the history is mostly from the 1990s.",
    ),
    (
        "the maker of the history",
        make_task(
            Domain.RECOMMENDATION, "", ("Nordlys Trail Pump", "Nordlys Cap"),
            ("Mug", {"brand": "Nordlys"}), ("Tent", {"brand": "Akka"}), ("Rope", {"brand": "Nordlys"}),
        ),
        "maker",
        "Tent is not by a maker from the history, as Mug is.",
    ),
    (
        "its kind",
        make_task(Domain.OTHER, "", (), ("X", {"genre": "jazz"}), ("Y", {"genre": "metal"}), ("Z", {"genre": "jazz"})),
        "kind",
        "Y is metal; the others are rather jazz.",
    ),
    (
        "a dear model for an easy question",
        make_task(
            Domain.ROUTING, "What is the capital of Peru?", (),
            ("small", {"usd_per_million": 0.1}), ("huge", {"usd_per_million": 20.0}), ("middle", {"usd_per_million": 1.0}),
        ),
        "price",
        "The question is easy, and huge costs more than it needs.",
    ),
    (
        "a cheap model for a hard question",
        make_task(
            Domain.ROUTING, "Prove the theorem in three steps.", (),
            ("huge", {"usd_per_million": 20.0}), ("small", {"usd_per_million": 0.1}), ("middle", {"usd_per_million": 1.0}),
        ),
        "price",
        "The question is hard, and small is a cheap model.",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("why", "task", "feature", "text"), CASES)
def test_the_deciding_reason_is_said(why: str, task: RankingTask, feature: str, text: str) -> None:
    rationale = make_rationale(make_example(task))
    assert rationale is not None, why
    assert rationale.feature == feature and rationale.completion.startswith(text + "\n</think>\n<answer>")


def test_without_a_feature_it_says_so_and_does_not_invent() -> None:
    task = make_task(Domain.OTHER, "", (), ("X", {}), ("Y", {}))
    assert explain_exclusion(make_example(task), "b") == ("none", 0.0, "Y fits least of these.")


def test_what_has_no_name_is_called_by_its_number_in_the_pool() -> None:
    """Nobody repeats the beginning of a passage as an answer."""
    long = " and".join(f" word{k}" for k in range(30))
    task = make_task(
        Domain.PASSAGE,
        "why is there no sound in space",
        (),
        ("Sound in space" + long, {}),
        ("Quiet streets" + long, {}),
        ("Loud streets" + long, {"title": "Loud streets"}),
    )
    for excluded, name in (("b", "[2]"), ("c", "Loud streets")):
        grades = {i: float(i == excluded) for i in "cba"}
        example = TrainingExample(task=task, pool=("c", "b", "a"), grades=grades)
        rationale = make_rationale(example)
        assert rationale is not None and rationale.completion.startswith(
            f"{name} has no word in common with the question"
        )
        parsed = parse_exclusion(rationale.completion, example.candidates)
        assert (parsed.candidate_id, parsed.answer) == (excluded, name)
    left = TrainingExample(
        task=task, pool=("b", "c"), shown=("a", "b", "c"), mode=Mode.FIXED_BLOCK, grades={"b": 1.0, "c": 0.0}
    )
    rationale = make_rationale(left)
    assert rationale is not None and rationale.completion.endswith("<answer>[2]</answer>"), "the second of the prompt"


def test_nothing_right_gives_no_rationale() -> None:
    task = make_task(Domain.OTHER, "", (), ("X", {}), ("Y", {}))
    kept = TrainingExample(task=task, pool=("a", "b"), grades={"a": 0.0, "b": None})
    assert make_rationale(kept) is None


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.stem)
def test_every_rationale_is_parsed_is_right_and_earns_the_full_reward(path: Path) -> None:
    tasks = [RankingTask.model_validate_json(line) for line in path.read_text(encoding="utf-8").splitlines()]
    made = make_training_examples(tasks, [], ExampleConfig(num_examples=150, direct_share=0.3)).train
    features = set()
    for example in made:
        rationale = make_rationale(example)
        assert rationale is not None
        features.add(rationale.feature)
        parts = explain(rationale.completion, example, PRESETS["paper"])
        assert (parts.format, parts.tags, parts.outcome) == (0, 0, Outcome.PARSED), json.dumps(rationale.completion)
        if example.mode is Mode.ITERATIVE:
            parsed = parse_exclusion(rationale.completion, example.candidates)
            assert parsed.candidate_id == rationale.excluded_id in example.right_ids
            assert parts.total == 1
        else:
            assert parse_order(rationale.completion, example.candidates).outcome is Outcome.PARSED
            assert parts.ranking == 1
        assert len(rationale.completion.split()) < 80
    assert len(features - {"none"}) >= 2, features
