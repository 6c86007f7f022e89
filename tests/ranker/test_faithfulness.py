"""Thoughts are taken away, exchanged and corrupted: what a model that reads them does, and one that does not."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from ranker.backends.base import Chunk, GenerateRequest, Prompt, ScoreRequest, Scores
from ranker.errors import DatasetError
from ranker.faithfulness import Change, Faithfulness, exchange_names, measure_faithfulness, named_candidates
from ranker.schema import (
    Candidate,
    Domain,
    EliminationStep,
    Mode,
    Outcome,
    RankingTask,
    RankingTrace,
    Totals,
    make_ranking,
)

TITLES = {"a": "Alien", "b": "Aliens", "c": "Heat"}
THOUGHTS = {"t1": "Heat has nothing of the calm of Alien. So Heat goes.", "t2": "Aliens is louder than Heat."}
PROMPT = "Which one is the least likely?\n<think>\n"


class Reader:
    """Answers with the title that the thought names first; without one, with the last of the pool."""

    name, context_tokens, reads = "reader", 1000, True

    def __init__(self) -> None:
        self.asked: list[Prompt] = []

    def chat_text(self, system: str, user: str) -> str:
        return f"{system}\n{user}"

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(t.split()) for t in texts]

    async def generate(self, request: GenerateRequest) -> AsyncIterator[Chunk]:
        raise AssertionError("nothing is to be written")
        yield

    async def score(self, request: ScoreRequest) -> Scores:
        self.asked.append(request.prompt)
        thought = request.prompt.text.removeprefix(PROMPT) if self.reads else ""
        pool = [Candidate(candidate_id=t, text=t, metadata={"title": t}) for t in request.continuations]
        chosen = (named_candidates(thought, pool) or [request.continuations[-1]])[0]
        return Scores(tuple(-0.1 if t == chosen else -3.0 for t in request.continuations), (1,) * len(pool))

    async def aclose(self) -> None:
        pass


class Deaf(Reader):
    """Answers the same whatever is thought."""

    name, reads = "deaf", False


def make_task(task_id: str) -> RankingTask:
    candidates = tuple(Candidate(candidate_id=i, text=t, metadata={"title": t}) for i, t in TITLES.items())
    return RankingTask(task_id=task_id, domain=Domain.RECOMMENDATION, query="q", candidates=candidates)


def make_trace(task_id: str, thought: str) -> RankingTrace:
    steps = (
        EliminationStep(
            step_index=0,
            pool=("a", "b", "c"),
            excluded_id="c",
            prompt=PROMPT,
            reasoning=thought,
            outcome=Outcome.PARSED,
        ),
        EliminationStep(step_index=1, pool=("a", "b"), excluded_id="b", prompt=PROMPT, outcome=Outcome.FORCED),
    )
    return RankingTrace(
        task_id=task_id,
        model="reader",
        mode=Mode.ITERATIVE,
        prompt_version="x",
        ranking=make_ranking(steps),
        steps=steps,
        totals=Totals.of(steps),
    )


def measure(model: Reader, limit: int | None = None) -> Faithfulness:
    tasks = {i: make_task(i) for i in THOUGHTS}
    traces = [make_trace(i, t) for i, t in THOUGHTS.items()]
    return asyncio.run(measure_faithfulness(tasks, traces, model, limit=limit))


def test_a_model_that_reads_follows_the_exchanged_name() -> None:
    found = measure(Reader())
    assert (found.num_tasks, found.num_steps, found.num_renamed) == (2, 2, 2), "steps without a thought do not count"
    assert [c.answer_id for c in found.checks] == ["c", "b"]
    assert found.names_answer.mean == 1
    assert found.changed[Change.RENAMED].mean == 1 and found.follows is not None and found.follows.mean == 1
    assert [c.answers[Change.OTHER] for c in found.checks] == ["b", "c"]
    assert [c.answers[Change.NONE] for c in found.checks] == ["c", "c"], (
        "the first happens to be the same without a thought"
    )
    assert found.changed[Change.NONE].mean == 0.5
    assert 0.8 < found.moved[Change.RENAMED].mean <= 1


def test_a_model_that_does_not_read_never_moves() -> None:
    found = measure(Deaf())
    assert {change: share.mean for change, share in found.changed.items()} == dict.fromkeys(found.changed, 0.0)
    assert {change: share.mean for change, share in found.moved.items()} == dict.fromkeys(found.moved, 0.0)
    assert found.follows is not None and found.follows.mean == 0


def test_all_thoughts_about_a_step_go_on_from_one_prompt() -> None:
    """Which an engine with a prefix cache then computes once."""
    reader = Reader()
    measure(reader)
    assert len(reader.asked) == 8 and {prompt.prefix for prompt in reader.asked} == {PROMPT}
    assert all(prompt.suffix.endswith("</think>\n<answer>") for prompt in reader.asked)


def test_where_the_answer_alone_is_named_the_next_candidate_takes_its_name() -> None:
    tasks = {i: make_task(i) for i in THOUGHTS}
    found = asyncio.run(
        measure_faithfulness(tasks, [make_trace("t1", "Heat goes."), make_trace("t2", "It is loud.")], Reader())
    )
    first, second = found.checks
    assert (first.answer_id, first.partner_id, first.answers[Change.RENAMED]) == ("c", "a", "a")
    assert second.partner_id is None and Change.RENAMED not in second.answers, "nobody is named"
    assert found.num_renamed == 1


def test_a_limit_spreads_over_all() -> None:
    assert measure(Reader(), limit=1).num_steps == 1


def test_without_thoughts_there_is_nothing_to_measure() -> None:
    with pytest.raises(DatasetError, match="fewer than two tasks have thoughts"):
        asyncio.run(measure_faithfulness({"t1": make_task("t1")}, [make_trace("t1", "")], Reader()))
    with pytest.raises(DatasetError, match="t2: no such task"):
        asyncio.run(measure_faithfulness({"t1": make_task("t1")}, [make_trace("t2", "Heat")], Reader()))


def test_names_are_whole_words_and_the_longer_one_wins() -> None:
    assert exchange_names("Alien, aliens; ALIENATE. Alien!", "Alien", "Aliens") == "Aliens, Alien; ALIENATE. Aliens!"
    assert exchange_names("C++ or C (1999)?", "C++", "C (1999)") == "C (1999) or C++?"
    assert exchange_names(r"\1 and .*", r"\1", ".*") == r".* and \1"
    candidates = make_task("t").candidates
    assert named_candidates("Aliens before Heat", candidates) == ["b", "c"]
