"""Mode `adaptive`: what goes without a thought, what is thought about, and what is marked as disputed."""

import asyncio
import math
from collections.abc import Callable, Sequence

import pytest

from ranker.backends.base import GenerateRequest, ScoreRequest, Scores
from ranker.backends.scripted import ScriptedBackend
from ranker.elimination import AnswerFormat, RankConfig, TraceFinished, make_person_step, rank, rank_events
from ranker.prompts import ADAPTIVE_VERSION, BLOCK_VERSION, PROMPT_VERSION
from ranker.schema import Ask, Candidate, Domain, Mode, RankingTask, RankingTrace

Belief = Callable[[str, str], float]
"""(prompt, title) -> the probability of the title as the answer, up to a factor."""


class Believer(ScriptedBackend):
    """Thinks one word, and believes in titles as it is told; counts the thoughts."""

    def __init__(self, belief: Belief) -> None:
        super().__init__(script=lambda _: "hm</think>")
        self._belief = belief
        self.thoughts: list[str] = []
        self.scored: list[str] = []

    def generate(self, request: GenerateRequest):  # type: ignore[no-untyped-def]
        self.thoughts.append(request.prompt.text)
        return super().generate(request)

    async def score(self, request: ScoreRequest) -> Scores:
        self.scored.append(request.prompt.text)
        log_probs = [math.log(self._belief(request.prompt.text, t)) for t in request.continuations]
        return Scores(tuple(log_probs), (1,) * len(log_probs))


def likes_high_numbers(prompt: str, title: str) -> float:
    """What is good stays good whichever way the question is put."""
    number = int(title.split()[1])
    return 2.0**number if "most likely" in prompt else 2.0**-number


def likes_what_stands_first(prompt: str, title: str) -> float:
    place = prompt.index(title + "\n")
    return 1 / (1 + place)


def make_task(num_candidates: int) -> RankingTask:
    candidates = tuple(Candidate(candidate_id=f"c{i}", text=f"Film {i:03}") for i in range(num_candidates))
    return RankingTask(task_id="t", domain=Domain.OTHER, query="a film", candidates=candidates)


def adaptive(num_candidates: int, belief: Belief, **options: object) -> tuple[RankingTrace, Believer]:
    backend = Believer(belief)
    config = RankConfig.model_validate({"mode": Mode.ADAPTIVE, "answer_format": AnswerFormat.SCORED, **options})
    return rank(make_task(num_candidates), backend, config), backend


def ids(numbers: Sequence[int]) -> tuple[str, ...]:
    return tuple(f"c{i}" for i in numbers)


@pytest.mark.parametrize("ask", Ask)
def test_the_look_asks_what_every_step_asks(ask: Ask) -> None:
    """A model that was trained to name the worst is not asked for the best."""
    trace, backend = adaptive(12, likes_high_numbers, ask=ask)
    asked = {"most likely" in text for text in [trace.steps[0].prompt, *backend.thoughts]}
    assert asked == {ask is Ask.BEST}
    assert trace.prompt_version == ADAPTIVE_VERSION + ("+best" if ask is Ask.BEST else "")


@pytest.mark.parametrize("ask", Ask)
def test_the_clear_tail_goes_at_once_and_the_last_few_are_thought_about(ask: Ask) -> None:
    trace, backend = adaptive(20, likes_high_numbers, last_pool=4, ask=ask)
    assert trace.ranking == ids(range(19, -1, -1))
    first, *rest = trace.steps
    assert first.exclusions == ids(range(16))
    assert (first.reasoning, first.completion_tokens, first.is_disputed) == ("", 0, False)
    assert [s.exclusions for s in rest] == [ids([16]), ids([17]), ids([18])]
    assert len(backend.thoughts) == 3
    assert all(s.reasoning for s in rest)


def test_a_pool_of_the_last_few_is_only_thought_about() -> None:
    trace, backend = adaptive(5, likes_high_numbers)
    assert len(trace.steps) == len(backend.thoughts) == 4


def test_who_is_not_clearly_out_is_thought_about() -> None:
    """Twelve are alike, so nobody is below half of an even share: one thought each, and no end without a ranking."""
    trace, backend = adaptive(12, lambda _, __: 1.0, tail_share=0.5)
    assert len(backend.thoughts) == len(trace.steps) == 11


def test_what_hangs_on_the_order_of_presentation_is_marked() -> None:
    trace, _ = adaptive(7, likes_what_stands_first)
    shown = trace.steps[0].pool
    assert {shown[0], shown[-1]} <= set(trace.steps[0].disputed_ids)  # first in one order is last in the other
    assert not any(step.disputed_ids for step in trace.steps if step.reasoning)
    unchecked, _ = adaptive(7, likes_what_stands_first, is_reshuffled=False)
    assert unchecked.steps[0].exclusions[0] == shown[0]
    assert not unchecked.steps[0].is_disputed


@pytest.mark.parametrize("ask", Ask)
def test_only_who_is_near_the_border_is_shown_again(ask: Ask) -> None:
    trace, backend = adaptive(20, likes_high_numbers, last_pool=4, ask=ask)
    looks = [text for text in backend.scored if text.count("Film 0") > 4 and "hm" not in text]
    first, second = looks[:2]
    assert [f"Film {i:03}\n" in first for i in range(20)] == [True] * 20
    assert [i for i in range(20) if f"Film {i:03}\n" in second] == [14, 15, 16, 17, 18, 19]
    order = [first.index(f"Film {i:03}\n") for i in range(14, 20)]
    turned = [second.index(f"Film {i:03}\n") for i in range(14, 20)]
    assert sorted(range(6), key=order.__getitem__) == sorted(range(6), key=turned.__getitem__)[::-1]
    assert sum(trace.steps[0].probabilities.values()) == pytest.approx(1)
    alone, _ = adaptive(20, likes_high_numbers, last_pool=4, ask=ask, is_reshuffled=False)
    assert alone.ranking == trace.ranking


async def _rest_of(trace: RankingTrace, num_steps: int, belief: Belief, **options: object) -> RankingTrace:
    """The ranking that goes on behind the first steps of `trace`."""
    config = RankConfig.model_validate({"mode": Mode.ADAPTIVE, **options})
    task = make_task(len(trace.steps[0].pool))
    events = rank_events(task, Believer(belief), config, steps=trace.steps[:num_steps])
    return [event.trace async for event in events if isinstance(event, TraceFinished)][-1]


def test_a_ranking_goes_on_behind_its_first_steps() -> None:
    trace, _ = adaptive(20, likes_high_numbers)
    again = asyncio.run(_rest_of(trace, 2, likes_high_numbers))
    assert [s.exclusions for s in again.steps] == [s.exclusions for s in trace.steps]


def likes_others_once_somebody_is_gone(prompt: str, title: str) -> float:
    """Two are clearly out at first, and others near the border than later; all are alike among those who are shown again."""
    number = int(title.split()[1])
    if prompt.count("Film 0") < 12:
        return 1.0
    if "All are still" in prompt:
        return 1.2**-number if number not in (5, 6) else 1e6
    return 1.2**number if number != 9 else 1e6


def test_the_same_are_shown_again_in_every_step_so_that_they_are_read_once() -> None:
    trace, backend = adaptive(12, likes_others_once_somebody_is_gone, last_pool=4, tail_share=0.05)
    first, second = trace.steps[:2]
    assert (set(first.exclusions), second.exclusions) == ({"c5", "c6"}, ("c9",))
    again = [text for text in backend.scored if text.count("Film 0") == 6 and "hm" not in text]
    block, _ = again[0].split("All are still")
    assert [i for i in range(12) if f"Film {i:03}\n" in block] == [4, 7, 8, 9, 10, 11]
    assert len(again) > 2
    assert all(text.startswith(block) for text in again)
    assert "Still in play (5)" in again[2]

    alone = asyncio.run(_rest_of(trace, 1, likes_others_once_somebody_is_gone, last_pool=4, tail_share=0.05))
    assert [s.exclusions for s in alone.steps] == [s.exclusions for s in trace.steps]
    assert alone.steps[1].probabilities == trace.steps[1].probabilities


def test_who_is_shown_again_is_asked_about_only_where_two_are_left_of_them() -> None:
    """A person has excluded all but one of those whom the look at everybody would show again."""
    config = RankConfig(mode=Mode.ADAPTIVE, last_pool=4)
    task, steps = make_task(12), []
    for number in range(7, 12):
        steps.append(make_person_step(task, config.seed, steps, f"c{number}"))
    trace = RankingTrace.model_construct(steps=tuple(steps))
    rest = asyncio.run(_rest_of(trace, 5, likes_high_numbers, last_pool=4))
    assert rest.ranking == ids([*range(6, -1, -1), *range(11, 6, -1)])


def test_a_model_that_counts_by_likelihood_is_asked_so_for_the_tail() -> None:
    """Its prompt does not name the pool, so there is nothing to reshuffle."""

    def belief(prompt: str, title: str) -> float:
        return likes_high_numbers("most likely" if "Candidates" not in prompt else prompt, title)

    trace, backend = adaptive(12, belief, answer_format=AnswerFormat.LIKELIHOOD)
    assert trace.ranking == ids(range(11, -1, -1))
    assert "Candidates" not in trace.steps[0].prompt
    assert len(backend.thoughts) == 4


def test_asking_for_the_best_excludes_the_least_probable_one() -> None:
    for mode in (Mode.ITERATIVE, Mode.FIXED_BLOCK):
        trace, backend = adaptive(5, likes_high_numbers, mode=mode, ask=Ask.BEST, answer_format=AnswerFormat.FREE)
        assert trace.ranking == ids(range(4, -1, -1))
        assert trace.prompt_version == {Mode.ITERATIVE: PROMPT_VERSION, Mode.FIXED_BLOCK: BLOCK_VERSION}[mode] + "+best"
        assert all("most likely" in prompt for prompt in backend.thoughts)
