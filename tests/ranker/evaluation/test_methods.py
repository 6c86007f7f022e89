"""Pointwise, pairwise, setwise: the right order from a model that knows, a permutation from any, and every call counted."""

import asyncio
import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.backends.base import ScoreRequest, Scores, Usage
from ranker.backends.scripted import ScriptedBackend
from ranker.evaluation import MethodSystem, Plan, make_set, run_evaluation, to_markdown
from ranker.evaluation.methods import ALL_PAIRS_UP_TO, METHODS, Verdict, rank_by_method
from ranker.schema import Candidate, Domain, RankingTask


def make_numbers(num: int) -> RankingTask:
    """Candidates whose worth is their number; the last is the best."""
    candidates = tuple(Candidate(candidate_id=f"c{i}", text=f"worth {i}") for i in range(num))
    return RankingTask(task_id="t", domain=Domain.OTHER, query="worth the most", candidates=candidates)


class Knowing(ScriptedBackend):
    """Prefers what is worth more; `favourite` position gets a bonus whatever stands there."""

    def __init__(self, bonus: float = 0.0) -> None:
        super().__init__()
        self.prompts: list[str] = []
        self._bonus = bonus

    async def score(self, request: ScoreRequest) -> Scores:
        await asyncio.sleep(0)
        self.prompts.append(request.prompt.text)
        worth = [float(n) for n in re.findall(r"worth (\d+)", request.prompt.text)]
        if request.continuations == ("Yes", "No"):
            scores = (worth[-1], -worth[-1])
        else:
            assert len(worth) == len(request.continuations)
            scores = (worth[0] + self._bonus, *worth[1:])
        return Scores(scores, tuple(1 for _ in scores), Usage(10, 4, 0))


class Arbitrary(ScriptedBackend):
    """Answers by a hash of the prompt and a salt."""

    def __init__(self, salt: int) -> None:
        super().__init__()
        self._salt = salt

    async def score(self, request: ScoreRequest) -> Scores:
        texts = [f"{self._salt}{request.prompt.text}{c}" for c in request.continuations]
        scores = tuple(-float(hashlib.sha256(t.encode()).digest()[0]) for t in texts)
        return Scores(scores, tuple(1 for _ in scores), Usage())


def ask(name: str, task: RankingTask, backend: ScriptedBackend, seed: int = 0) -> Verdict:
    return asyncio.run(rank_by_method(name, task, backend, seed=seed, priority=10))


@pytest.mark.parametrize("num", [2, 3, 5, 8, 20])
@pytest.mark.parametrize("name", METHODS)
def test_a_model_that_knows_is_understood(name: str, num: int) -> None:
    backend = Knowing()
    verdict = ask(name, make_numbers(num), backend)
    best_first = tuple(f"c{i}" for i in reversed(range(num)))
    decided = 10 if name == "setwise" else num
    assert verdict.ranking[:decided] == best_first[:decided]
    assert sorted(verdict.ranking) == sorted(best_first)
    assert verdict.num_calls == len(backend.prompts)
    assert (verdict.prompt_tokens, verdict.cached_prompt_tokens) == (10 * verdict.num_calls, 4 * verdict.num_calls)
    bound = {
        "pointwise": num,
        "pairwise": num * (num - 1) if num <= ALL_PAIRS_UP_TO else 2 * num * 5,
        "setwise": 4 * num,
    }
    assert verdict.num_calls <= bound[name]


@given(st.integers(0, 1000), st.integers(2, 13), st.sampled_from(sorted(METHODS)))
def test_the_ranking_is_a_permutation_whatever_the_model_says(salt: int, num: int, name: str) -> None:
    task = make_numbers(num)
    assert sorted(ask(name, task, Arbitrary(salt), seed=salt).ranking) == sorted(task.candidate_ids)


def test_pairs_are_asked_both_ways_so_that_a_liking_for_a_place_cancels() -> None:
    task = make_numbers(5)
    assert ask("pairwise", task, Knowing(bonus=3.5)).ranking == tuple(f"c{i}" for i in reversed(range(5)))
    backend = Knowing()
    ask("pairwise", task, backend)
    pairs = [tuple(re.findall(r"worth (\d+)", p)) for p in backend.prompts]
    assert len(pairs) == 20
    assert {(b, a) for a, b in pairs} == set(pairs)


def test_one_candidate_is_shown_alone_behind_a_prefix_that_all_share() -> None:
    backend = Knowing()
    ask("pointwise", make_numbers(4), backend)
    assert all(len(re.findall(r"worth \d", p)) == 1 for p in backend.prompts)
    assert all(p.endswith("</think>\n<answer>") for p in backend.prompts)


def test_a_method_is_a_row_like_any_other(make_task: Callable[..., RankingTask], tmp_path: Path) -> None:
    dataset = make_set("made-up", [make_task(i) for i in range(6)], source="test")
    backend = ScriptedBackend()
    systems = [MethodSystem(lambda: backend, name, model="m", model_sha256="0" * 64) for name in METHODS]
    results = run_evaluation(Plan(datasets=[dataset], systems=systems), tmp_path / "r.json", command="c")
    calls = {row.system: row.usage.num_calls for row in results.rows}
    assert calls["m/pointwise"] == 5
    assert calls["m/pairwise"] == 20
    assert 0 < calls["m/setwise"] < 20
    assert all(row.usage.prompt_tokens > 0 == row.usage.completion_tokens for row in results.rows)
    assert len({s.key for s in results.systems}) == 3
    line = next(text for text in to_markdown(results).splitlines() if text.startswith("| m/setwise | 6"))
    assert line.endswith("|  |  | 0 |"), "malformed and forced do not apply"
