"""What holds for every ranking, whatever the model says."""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.backends import Chunk, GenerateRequest, ScoreRequest, Scores
from ranker.backends.base import Usage
from ranker.backends.scripted import ScriptedBackend
from ranker.elimination import (
    MODES,
    AnswerFormat,
    RankConfig,
    RankEvent,
    ReasoningDelta,
    StepFinished,
    StepStarted,
    TraceFinished,
    make_person_step,
    make_presentation_order,
    rank,
    rank_events,
    rank_tasks,
)
from ranker.errors import ScoresUnavailableError, UsageError
from ranker.schema import Candidate, Decider, Domain, EliminationStep, Mode, Outcome, RankingTask, RankingTrace

FREE = AnswerFormat.FREE


def make_task(num_candidates: int, task_id: str = "t") -> RankingTask:
    candidates = tuple(Candidate(candidate_id=f"c{i}", text=f"Film number {i}") for i in range(num_candidates))
    return RankingTask(task_id=task_id, domain=Domain.OTHER, query="a film", candidates=candidates)


async def collect(
    task: RankingTask, backend: ScriptedBackend, config: RankConfig, steps: Sequence[EliminationStep] = ()
) -> list[RankEvent]:
    return [event async for event in rank_events(task, backend, config, steps=steps)]


@given(
    num_candidates=st.integers(2, 12),
    says=st.lists(
        st.text(max_size=60) | st.integers(0, 14).map(lambda n: f"x</think><answer>[{n}]</answer>"), min_size=1
    ),
    mode=st.sampled_from(MODES),
    answer_format=st.sampled_from(AnswerFormat),
    seed=st.integers(0, 5),
)
@settings(max_examples=80, deadline=None)
def test_ranking_is_a_permutation_whatever_the_model_says(
    num_candidates: int, says: list[str], mode: Mode, answer_format: AnswerFormat, seed: int
) -> None:
    words = iter(says * 20)
    task = make_task(num_candidates)
    config = RankConfig(mode=mode, answer_format=answer_format, seed=seed)
    trace = rank(task, ScriptedBackend(script=lambda _: next(words)), config)
    assert sorted(trace.ranking) == sorted(task.candidate_ids)
    assert sum(len(s.exclusions) for s in trace.steps) == num_candidates - 1
    if mode is not Mode.ADAPTIVE:
        assert len(trace.steps) == (num_candidates - 1 if mode in (Mode.ITERATIVE, Mode.FIXED_BLOCK) else 1)
    assert all((s.outcome is Outcome.PARSED) == (s.decided_by is Decider.MODEL) for s in trace.steps)
    for step in trace.steps:
        if step.probabilities is not None:
            assert set(step.probabilities) == set(step.pool)
            assert sum(step.probabilities.values()) == pytest.approx(1)
    assert RankingTrace.model_validate_json(trace.model_dump_json()) == trace


def test_a_written_answer_decides() -> None:
    """The default script names the last of the pool, so the ranking is the order of presentation."""
    task = make_task(6)
    trace = rank(task, ScriptedBackend(), RankConfig(answer_format=FREE))
    assert trace.ranking == make_presentation_order(task, 0)
    assert {s.outcome for s in trace.steps} == {Outcome.PARSED}
    assert trace.totals.outcomes == {Outcome.PARSED: 5}
    direct = rank(task, ScriptedBackend(), RankConfig(answer_format=FREE, mode=Mode.DIRECT))
    assert direct.ranking == make_presentation_order(task, 0)


@pytest.mark.parametrize(
    ("completion", "outcome"),
    [
        ("hm", Outcome.NO_ANSWER),
        ("x</think><answer>[1] [2]</answer>", Outcome.SEVERAL_ANSWERS),
        ("x</think><answer>[9]</answer>", Outcome.NOT_IN_POOL),
    ],
)
def test_a_bad_answer_is_recorded_and_the_scores_decide(completion: str, outcome: Outcome) -> None:
    trace = rank(make_task(4), ScriptedBackend(script=lambda _: completion), RankConfig(answer_format=FREE))
    for step in trace.steps:
        assert (step.outcome, step.decided_by) == (outcome, Decider.SCORE)
        assert step.probabilities is not None
        assert step.excluded_id == max(step.probabilities, key=lambda i: step.probabilities[i])  # type: ignore[index]


def test_events_come_in_order_and_reasoning_is_streamed_whole() -> None:
    events = asyncio.run(collect(make_task(3), ScriptedBackend(), RankConfig(answer_format=FREE)))
    assert [type(e) for e in events if not isinstance(e, ReasoningDelta)] == [
        StepStarted, StepFinished, StepStarted, StepFinished, TraceFinished,
    ]  # fmt: skip
    step = next(e.step for e in events if isinstance(e, StepFinished))
    streamed = "".join(e.text for e in events if isinstance(e, ReasoningDelta) and e.step_index == 0)
    assert streamed.startswith(step.reasoning) and streamed.endswith("</answer>")


def test_a_person_decides_one_step_and_the_model_goes_on() -> None:
    task, config = make_task(5), RankConfig(answer_format=FREE)
    first = rank(task, ScriptedBackend(), config)
    best = first.ranking[0]
    step = make_person_step(task, config.seed, first.steps[:1], best)
    events = asyncio.run(collect(task, ScriptedBackend(), config, [*first.steps[:1], step]))
    assert isinstance(events[-1], TraceFinished)
    branched = events[-1].trace
    assert branched.steps[:1] == first.steps[:1]
    assert branched.steps[1].decided_by is Decider.PERSON
    assert branched.ranking[-2:] == (best, first.steps[0].excluded_id)
    with pytest.raises(UsageError, match="not in the pool"):
        make_person_step(task, config.seed, first.steps[:1], first.steps[0].excluded_id)


def test_presentation_order_does_not_follow_the_file() -> None:
    """Over many tasks, the first candidate of the file stands first about 1 time in n, and a seed repeats its order."""
    tasks = [make_task(5, f"t{i}") for i in range(400)]
    first = sum(make_presentation_order(t, 0)[0] == "c0" for t in tasks)
    assert 50 <= first <= 110
    assert make_presentation_order(tasks[0], 3) == make_presentation_order(tasks[0], 3)


def test_many_tasks_at_once_give_what_each_gives_alone() -> None:
    tasks = [make_task(2 + i % 5, f"t{i}") for i in range(20)]
    config = RankConfig()

    async def all_at_once() -> dict[str, RankingTrace]:
        return {t.task_id: t async for t in rank_tasks(iter(tasks), ScriptedBackend(), config, max_in_flight=7)}

    together = asyncio.run(all_at_once())
    assert together.keys() == {t.task_id for t in tasks}
    for task in tasks:
        assert together[task.task_id].ranking == rank(task, ScriptedBackend(), config).ranking


@pytest.mark.parametrize("domain", [Domain.RECOMMENDATION, Domain.PASSAGE])
def test_by_likelihood_one_by_one_is_all_at_once_and_nothing_is_generated(domain: Domain) -> None:
    task = make_task(6).model_copy(update={"domain": domain})
    backend = ScriptedBackend(script=lambda _: pytest.fail("asked to write"))
    config = RankConfig(answer_format=AnswerFormat.LIKELIHOOD, think_tokens=48)
    one_by_one = rank(task, backend, config)
    at_once = rank(task, backend, config.model_copy(update={"mode": Mode.DIRECT}))
    assert len(one_by_one.steps) == 5 and len(at_once.steps) == 1
    assert one_by_one.ranking == at_once.ranking
    assert [step.prompt_tokens > 0 for step in one_by_one.steps] == [True, *[False] * 4], "it is asked once"
    for step in one_by_one.steps:
        assert step.probabilities is not None and not step.reasoning
        assert set(step.probabilities) == set(step.pool)
        assert step.probabilities[step.excluded_id] == max(step.probabilities.values())


class Known(ScriptedBackend):
    """Gives the log-probabilities and numbers of tokens that it was made with, in the order of the candidates' titles."""

    def __init__(self, known: dict[str, tuple[float, int]]) -> None:
        super().__init__()
        self.known = known

    async def score(self, request: ScoreRequest) -> Scores:
        found = [self.known[text.strip()] for text in request.continuations]
        return Scores(tuple(total for total, _ in found), tuple(tokens for _, tokens in found), Usage(1, 0, 0))


def test_a_long_title_is_not_unlikely_for_its_length() -> None:
    """Of 16 tokens -12 is -12 / 16 ** .75 = -1.5, and of one token -2 is -2: the short one goes, although its sum is higher."""
    task = make_task(3)
    titles = [c.title for c in task.candidates]
    backend = Known(dict(zip(titles, [(-12.0, 16), (-2.0, 1), (-1.0, 1)], strict=True)))
    trace = rank(task, backend, RankConfig(answer_format=AnswerFormat.LIKELIHOOD, think_tokens=0))
    ids = [c.candidate_id for c in task.candidates]
    assert trace.ranking == (ids[2], ids[0], ids[1])
    odds = trace.steps[0].probabilities
    assert odds is not None and odds[ids[1]] / odds[ids[0]] == pytest.approx(math.exp(0.5))


class Unscoring(ScriptedBackend):
    """Writes, and gives no log-probabilities: as some hosted servers are. Notes how often it was asked for choices."""

    def __init__(self, *, scores_labels: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.scores_labels, self.choices = scores_labels, list[tuple[str, ...]]()

    async def score(self, request: ScoreRequest) -> Scores:
        if self.scores_labels and all(text.startswith("[") for text in request.continuations):
            return await super().score(request)
        raise ScoresUnavailableError("no scores")

    async def generate(self, request: GenerateRequest) -> AsyncIterator[Chunk]:
        self.choices.append(request.choices)
        async for chunk in super().generate(request):
            yield chunk


@given(
    num_candidates=st.integers(2, 8),
    says=st.lists(
        st.text(max_size=30) | st.integers(0, 9).map(lambda n: f"[{n}]</answer>") | st.just("[1]"), min_size=1
    ),
    mode=st.sampled_from(MODES),
    answer_format=st.sampled_from(AnswerFormat),
)
@settings(max_examples=60, deadline=None)
def test_an_engine_without_scores_never_ends_a_ranking(
    num_candidates: int, says: list[str], mode: Mode, answer_format: AnswerFormat
) -> None:
    words = iter(says * 200)
    task = make_task(num_candidates)
    backend = Unscoring(script=lambda _: next(words))
    trace = rank(task, backend, RankConfig(mode=mode, answer_format=answer_format))
    assert sorted(trace.ranking) == sorted(task.candidate_ids)
    for step in trace.steps:
        wanted = {Decider.MODEL} if step.outcome is Outcome.PARSED else {Decider.ASKED_AGAIN, Decider.CHANCE}
        assert step.decided_by in wanted
        assert step.probabilities is None


def test_what_is_written_when_asked_again_decides() -> None:
    task = make_task(5)
    backend = Unscoring(script=lambda _: "[2]</answer>")
    trace = rank(task, backend, RankConfig(think_tokens=0))
    assert {(s.outcome, s.decided_by) for s in trace.steps} == {(Outcome.FORCED, Decider.ASKED_AGAIN)}
    assert all(s.excluded_id == s.pool[1] for s in trace.steps)
    assert backend.choices == [tuple(f"[{i + 1}]" for i in range(n)) for n in (5, 4, 3, 2)]


def test_labels_of_a_fixed_block_stay_those_of_the_block() -> None:
    """When asked again, `[2]` is the candidate that the block shows as 2, whoever has gone; one that has gone is no answer."""
    task = make_task(4)
    order = make_presentation_order(task, 0)
    backend = Unscoring(script=lambda prompt: "[2]</answer>" if "All are still in play" in prompt else "[4]</answer>")
    trace = rank(task, backend, RankConfig(mode=Mode.FIXED_BLOCK, think_tokens=0))
    assert [s.excluded_id for s in trace.steps[:2]] == [order[1], order[3]]
    assert trace.steps[2].decided_by is Decider.CHANCE
    assert backend.choices[1] == ("[1]", "[3]", "[4]")


def test_an_engine_that_scores_labels_alone_is_asked_for_them() -> None:
    for mode in (Mode.ITERATIVE, Mode.DIRECT):
        trace = rank(make_task(5), Unscoring(scores_labels=True), RankConfig(mode=mode, think_tokens=0))
        assert {s.decided_by for s in trace.steps} == {Decider.SCORE}
        assert all(s.probabilities is not None for s in trace.steps)


def test_chance_is_called_chance() -> None:
    backend = Unscoring(script=lambda _: "I cannot say.")
    trace = rank(make_task(3), backend, RankConfig(think_tokens=0, answer_format=FREE))
    assert {s.decided_by for s in trace.steps} == {Decider.CHANCE}
    assert trace.totals.completion_tokens > 0
