"""What is imitated: reasons that people wrote, good steps of rankings that ended well; never anything of a held-out task."""

from ranker.parsing import parse_exclusion
from ranker.schema import (
    Candidate,
    Correction,
    CorrectionKind,
    Domain,
    EliminationStep,
    Mode,
    Outcome,
    RankingTask,
    RankingTrace,
    Totals,
    make_ranking,
)
from trainer.demonstrations import Demonstration, find_demonstrations
from trainer.examples import ExampleConfig, is_held_out, make_training_examples
from trainer.preferences import turn_round
from trainer.rationales import make_rationale
from trainer.sft import MAX_REPEATS, mix

CONFIG = ExampleConfig(num_examples=40)
TASKS = [
    RankingTask(
        task_id=f"t{n}",
        domain=(Domain.ROUTING, Domain.PASSAGE)[n % 2],
        query="q",
        candidates=tuple(Candidate(candidate_id=c, text=f"item {c}") for c in "abc"),
        relevance={"a": 1},
    )
    for n in range(20)
]
TRAINED = [t for t in TASKS if not is_held_out(t.task_id, CONFIG.held_out_share)]
HELD_OUT = [t for t in TASKS if is_held_out(t.task_id, CONFIG.held_out_share)]


def make_trace(task: RankingTask, excluded: str, outcome: Outcome = Outcome.PARSED) -> RankingTrace:
    steps, pool = [], list(task.candidate_ids)
    for index, candidate_id in enumerate(excluded):
        answer = f"item {candidate_id}"
        steps.append(
            EliminationStep(
                step_index=index, pool=tuple(pool), excluded_id=candidate_id, reasoning=f"not {candidate_id}", answer=answer,
                outcome=outcome,
            )
        )  # fmt: skip
        pool.remove(candidate_id)
    return RankingTrace(
        task_id=task.task_id, model="m", mode=Mode.ITERATIVE, prompt_version="1", ranking=make_ranking(steps),
        steps=tuple(steps), totals=Totals.of(steps),
    )  # fmt: skip


def found(
    *traces: RankingTrace, corrections: tuple[Correction, ...] = (), config: ExampleConfig = CONFIG
) -> list[Demonstration]:
    return find_demonstrations(TASKS, corrections, traces, config)


def test_good_steps_of_a_ranking_that_ended_well() -> None:
    made = found(make_trace(TRAINED[0], "bc"))
    assert [d.completion for d in made] == [f"not {c}\n</think>\n<answer>item {c}</answer>" for c in "bc"]
    assert [len(d.example.pool) for d in made] == [3, 2] and {d.source for d in made} == {"trace"}
    parsed = parse_exclusion(made[0].completion, made[0].example.candidates)
    assert (parsed.outcome, parsed.candidate_id, parsed.reasoning) == (Outcome.PARSED, "b", "not b")


def test_what_is_not_imitated() -> None:
    assert found(make_trace(TRAINED[0], "ab")) == [], "it ended badly"
    assert found(make_trace(TRAINED[0], "bc", Outcome.FORCED)) == [], "the studio decided, not the model"
    assert found(make_trace(HELD_OUT[0], "bc")) == []


def test_reasons_that_people_wrote() -> None:
    def said(task: RankingTask, **payload: object) -> Correction:
        full = {"pool": list("abc"), **payload}
        return Correction(
            correction_id=f"c-{task.task_id}", task_id=task.task_id, kind=CorrectionKind.STEP, author="ann",
            created_at="2026-01-01", payload=full,
        )  # fmt: skip

    good = said(TRAINED[0], exclude=["c"], reasoning=" c is dear ")
    made = found(corrections=(good, said(TRAINED[1], exclude=["b"]), said(HELD_OUT[0], exclude=["b"], reasoning="x")))
    assert [(d.completion, d.example.correction_ids) for d in made] == [
        ("c is dear\n</think>\n<answer>item c</answer>", ("c-" + TRAINED[0].task_id,))
    ]


def test_zero_shot_trains_on_the_other_domains_and_measures_all() -> None:
    config = ExampleConfig(num_examples=40, domains=(Domain.ROUTING,))
    examples = make_training_examples(TASKS, [], config)
    assert {e.task.domain for e in examples.train} == {Domain.ROUTING}
    assert {t.task_id for t in examples.held_out} == {t.task_id for t in HELD_OUT}
    passage = next(t for t in TRAINED if t.domain is Domain.PASSAGE)
    assert found(make_trace(passage, "bc"), config=config) == []


def test_a_pair_is_two_reasons_for_opposite_exclusions() -> None:
    for example in make_training_examples(TASKS, [], CONFIG).train[:10]:
        chosen, rejected = make_rationale(example), make_rationale(turn_round(example))
        assert chosen is not None and rejected is not None
        assert chosen.excluded_id != "a" and rejected.excluded_id == "a"
        assert turn_round(turn_round(example)) == example


def test_the_mix_keeps_its_share_and_repeats_little() -> None:
    made, shown = [{"m": [n]} for n in range(10)], [{"s": [n]} for n in range(2)]
    assert mix(made, [], 0.5) == made and mix(made, shown, 0.0) == made
    assert mix(made, shown, 1.0) == shown
    assert len(mix(made, shown, 0.5)) == 10 + 2 * MAX_REPEATS, "10 are wanted, each is shown three times at most"
    assert len(mix(made, shown, 0.25)) == 13
