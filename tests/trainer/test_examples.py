"""Pools, shares, what is held out, and that training reads what inference reads."""

import asyncio

from ranker.backends.scripted import ScriptedBackend
from ranker.elimination import RankConfig, StepFinished, make_presentation_order, rank_events
from ranker.schema import Candidate, Correction, CorrectionKind, Domain, Mode, RankingTask
from trainer.examples import (
    ExampleConfig,
    count_by_size,
    is_held_out,
    latest_corrections,
    make_held_out_examples,
    make_training_examples,
)


def make_task(number: int, *, num_candidates: int = 8, is_labelled: bool = True) -> RankingTask:
    ids = [f"c{i}" for i in range(num_candidates)]
    return RankingTask(
        task_id=f"t{number}",
        domain=Domain.RECOMMENDATION,
        query="",
        history=("Alien (1979)", "Heat (1995)"),
        candidates=tuple(
            Candidate(candidate_id=i, text=f"Film {i} of {number} (19{70 + k})") for k, i in enumerate(ids)
        ),
        relevance={"c3": 1} if is_labelled else {},
    )


def make_correction(number: int, task_id: str, **changes: object) -> Correction:
    fields: dict[str, object] = {
        "correction_id": f"k{number}",
        "task_id": task_id,
        "kind": CorrectionKind.RANKING,
        "author": "ann",
        "created_at": "2026-11-23T00:00:00Z",
        "payload": {"order": [["c1"], ["c2", "c4"], ["c5"]]},
    }
    return Correction.model_validate({**fields, **changes})


TASKS = [make_task(n) for n in range(60)]


def test_every_pool_has_a_better_and_a_worse_candidate() -> None:
    made = make_training_examples(TASKS, [], ExampleConfig(num_examples=400))
    assert len(made.train) == 400
    for example in made.train:
        assert "c3" in example.pool and 2 <= len(example.pool) <= 8
        assert example.grades["c3"] == 0 and all(g == 1 for i, g in example.grades.items() if i != "c3")
        assert set(example.right_ids) == set(example.pool) - {"c3"}


def test_small_pools_are_drawn_more_often() -> None:
    counts = count_by_size(make_training_examples(TASKS, [], ExampleConfig(num_examples=3000)).train)
    assert set(counts) == set(range(2, 9))
    assert 2.5 < counts[2] / counts[8] < 6.5  # 4 on average
    even = count_by_size(make_training_examples(TASKS, [], ExampleConfig(num_examples=3000, small_pools=0)).train)
    assert 0.7 < even[2] / even[8] < 1.4


def test_hard_pools_take_what_is_most_alike() -> None:
    texts = {"c3": "Space War One", "near": "Space War Two", "x": "Tea", "y": "Coffee", "z": "Milk"}
    task = RankingTask(
        task_id="hard",
        domain=Domain.OTHER,
        query="q",
        candidates=tuple(Candidate(candidate_id=i, text=t) for i, t in texts.items()),
        relevance={"c3": 1},
    )
    config = ExampleConfig(num_examples=200, min_pool=3, max_pool=3, hard_share=1, held_out_share=0)
    assert all("near" in e.pool for e in make_training_examples([task], [], config).train)


def test_held_out_tasks_stay_out_whatever_is_said_of_them() -> None:
    corrections = [make_correction(n, f"t{n}") for n in range(60)]
    made = make_training_examples(TASKS, corrections, ExampleConfig(num_examples=500))
    held_out = {t.task_id for t in made.held_out}
    assert 4 <= len(held_out) <= 22
    assert held_out == {t.task_id for t in TASKS if is_held_out(t.task_id, 0.2)}
    assert not held_out & {e.task.task_id for e in made.train}
    assert {c.task_id for c in made.held_out_corrections} == held_out
    more = make_training_examples([*TASKS, make_task(99)], [], ExampleConfig())
    assert held_out <= {t.task_id for t in more.held_out}, "more data must not move a task to the other side"


def test_corrections_are_mixed_in_with_their_share() -> None:
    corrections = [make_correction(n, f"t{n}") for n in range(0, 60, 2)]
    for share in (0.0, 0.3, 1.0):
        made = make_training_examples(TASKS, corrections, ExampleConfig(num_examples=1000, correction_share=share))
        found = sum(e.source == "correction" for e in made.train) / 1000
        assert abs(found - share) < 0.06
    assert {e.correction_ids for e in made.train} <= {(c.correction_id,) for c in corrections}
    assert all(e.grades.get("c0") is None and e.tiers for e in made.train if "c0" in e.pool)


def test_a_later_word_counts_and_the_earlier_does_not() -> None:
    first, second = make_correction(1, "t1"), make_correction(2, "t1", supersedes="k1")
    assert latest_corrections([first, second]) == [second]


def test_a_judged_step_keeps_its_pool() -> None:
    step = make_correction(1, "t1", kind=CorrectionKind.STEP, payload={"pool": ["c2", "c0", "c7"], "exclude": ["c0"]})
    unlabelled = [make_task(1, is_labelled=False)]
    made = make_training_examples(unlabelled, [step], ExampleConfig(num_examples=5, held_out_share=0))
    assert {e.pool for e in made.train} == {("c2", "c0", "c7")}
    assert made.train[0].grades == {"c2": 0, "c0": 1, "c7": 0}


def test_nothing_known_gives_nothing() -> None:
    flag = make_correction(1, "t1", kind=CorrectionKind.FLAG, payload={})
    assert make_training_examples([make_task(1, is_labelled=False)], [flag], ExampleConfig()).train == []


def test_the_same_seed_gives_the_same_examples() -> None:
    config = ExampleConfig(num_examples=50, seed=7)
    assert make_training_examples(TASKS, [], config) == make_training_examples(TASKS, [], config)
    assert make_training_examples(TASKS, [], config.model_copy(update={"seed": 8})).train != (
        make_training_examples(TASKS, [], config).train
    )


def test_training_reads_the_bytes_that_inference_reads() -> None:
    """Every prompt of a whole ranking, against the example of the same pool, in every mode that is trained."""
    backend = ScriptedBackend()
    task = make_task(5)
    for mode in (Mode.ITERATIVE, Mode.FIXED_BLOCK, Mode.DIRECT):

        async def prompts(mode: Mode = mode) -> list[tuple[tuple[str, ...], str]]:
            events = rank_events(task, backend, RankConfig(mode=mode, seed=3))
            return [(e.step.pool, e.step.prompt) async for e in events if isinstance(e, StepFinished)]

        made = make_training_examples([task], [], ExampleConfig(num_examples=1, held_out_share=0)).train[0]
        for pool, prompt in asyncio.run(prompts()):
            shown = make_presentation_order(task, 3) if mode is Mode.FIXED_BLOCK else ()
            example = made.model_copy(update={"pool": pool, "mode": mode, "shown": shown})
            assert example.render(backend.chat_text).text == prompt


def test_a_share_asks_as_fixed_block_does() -> None:
    """What the prompt prints is the pool and some that are gone, in one presentation order."""
    config = ExampleConfig(num_examples=600, fixed_share=0.5, max_pool=6)
    made = make_training_examples(TASKS, [], config).train
    fixed = [e for e in made if e.mode is Mode.FIXED_BLOCK]
    assert 250 < len(fixed) < 350
    assert all(not e.shown for e in made if e.mode is not Mode.FIXED_BLOCK)
    for example in fixed:
        assert example.pool == tuple(i for i in example.shown if i in example.pool) and len(example.shown) <= 6
        assert set(example.grades) == set(example.pool)
    num_gone = [len(e.shown) - len(e.pool) for e in fixed if len(e.pool) == 2]
    assert set(num_gone) == {0, 1, 2, 3, 4}


def test_the_order_in_the_prompt_is_a_presentation_order() -> None:
    """As in inference a pool is the task's shuffled order with the excluded ones left out; the shuffle varies."""
    made = make_training_examples([TASKS[0]], [], ExampleConfig(num_examples=60, held_out_share=0, min_pool=8)).train
    assert len({e.pool for e in made}) > 50
    assert make_presentation_order(TASKS[0], 0) != make_presentation_order(TASKS[0], 1)


def test_what_is_held_out_is_measured_on_whole_pools() -> None:
    corrections = [make_correction(n, f"t{n}") for n in range(0, 60, 2)]
    made = make_training_examples(TASKS, corrections, ExampleConfig())
    measured = make_held_out_examples(made, 1000)
    assert len(measured) == len(made.held_out)
    num_corrected = len(made.held_out_corrections)
    assert 0 < num_corrected < len(measured)
    assert [e.source for e in measured] == ["correction"] * num_corrected + ["base"] * (len(measured) - num_corrected)
    assert all(len(e.pool) == 8 for e in measured)
    assert len(make_held_out_examples(made, 3)) == 3
