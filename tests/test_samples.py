"""The sample tasks that ship with the studio: sound, and not solvable by tricks that need no understanding."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ranker.metrics import random_floor_mrr
from ranker.schema import Candidate, Domain, RankingTask

SAMPLES_DIR = Path(__file__).resolve().parents[1] / "assets" / "samples"
DOMAINS = {
    "recommendation": Domain.RECOMMENDATION,
    "routing": Domain.ROUTING,
    "passage": Domain.PASSAGE,
}
MAX_OVERLAP_MRR = {"recommendation": 0.45, "routing": 0.55, "passage": 0.6}
MIN_TASKS = 40
MAX_SHARE_OF_ONE_MODEL = 0.2
CHI_SQUARE_AT_1_PERCENT = (0.0, 6.63, 9.21, 11.34, 13.28, 15.09, 16.81, 18.48, 20.09, 21.67)  # by degrees of freedom
STOP_WORD_LIST = """
a about after all an and any are as at be been before but by can did do does for from had has have he her his how i if
in into is it its just me more most my no not of on one only or other our out over s she should so some such t than that
the their them then there they this those to up us was we were what when where which while who why will with would you
your
"""
STOP_WORDS = frozenset(STOP_WORD_LIST.split())

Score = Callable[[RankingTask, Candidate], float]


def load_sample(name: str) -> list[RankingTask]:
    """Every line of one sample file; a line that is not a task raises."""
    lines = (SAMPLES_DIR / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [RankingTask.model_validate(json.loads(line)) for line in lines]


def content_words(text: str) -> set[str]:
    """Lower-case words and numbers without stop words."""
    return set(re.findall(r"[^\W_]+", text.lower())) - STOP_WORDS


def best_id(task: RankingTask) -> str:
    """The candidate with the largest gain."""
    return max(task.relevance, key=lambda candidate_id: task.relevance[candidate_id])


def tied_reciprocal_rank(scores: Sequence[float], best: int) -> float:
    """1 / rank of `best` under descending scores, averaged over the orders of equal scores."""
    first = 1 + sum(score > scores[best] for score in scores)
    num_tied = sum(score == scores[best] for score in scores)
    return sum(1 / rank for rank in range(first, first + num_tied)) / num_tied


def mean_reciprocal_rank(tasks: Sequence[RankingTask], score: Score) -> float:
    """MRR of the best candidate when the candidates are ordered by `score`, highest first."""
    total = 0.0
    for task in tasks:
        scores = [score(task, candidate) for candidate in task.candidates]
        total += tied_reciprocal_rank(scores, task.candidate_ids.index(best_id(task)))
    return total / len(tasks)


def overlap(task: RankingTask, candidate: Candidate) -> float:
    """Number of distinct words that the candidate shares with the query and the history."""
    return len(content_words(" ".join((task.query, *task.history))) & content_words(candidate.text))


def least_overlap(task: RankingTask, candidate: Candidate) -> float:
    """The opposite trick: the candidate that repeats the fewest words."""
    return -overlap(task, candidate)


def length(_: RankingTask, candidate: Candidate) -> float:
    """Longest text first."""
    return len(candidate.text)


def brevity(_: RankingTask, candidate: Candidate) -> float:
    """Shortest text first."""
    return -len(candidate.text)


def price(candidate: Candidate) -> float:
    """US dollars per million output tokens of a routing candidate."""
    return float(candidate.metadata["output_usd_per_million"])


def floor(name: str) -> float:
    """Expected MRR of the best candidate in a random order."""
    tasks = load_sample(name)
    return sum(random_floor_mrr(len(task.candidates)) for task in tasks) / len(tasks)


def measure(name: str) -> dict[str, float]:
    """The figures of one row of the table in assets/samples/README.md."""
    tasks = load_sample(name)
    return {
        "random": floor(name),
        "overlap": mean_reciprocal_rank(tasks, overlap),
        "least overlap": mean_reciprocal_rank(tasks, least_overlap),
        "longest": mean_reciprocal_rank(tasks, length),
        "shortest": mean_reciprocal_rank(tasks, brevity),
    }


def test_ties_share_their_ranks() -> None:
    assert tied_reciprocal_rank([3, 1, 2], best=0) == 1
    assert tied_reciprocal_rank([3, 1, 2], best=1) == pytest.approx(1 / 3)
    assert tied_reciprocal_rank([2, 2, 1], best=1) == pytest.approx((1 + 1 / 2) / 2)
    assert tied_reciprocal_rank([0] * 5, best=4) == pytest.approx(random_floor_mrr(5))


@pytest.mark.parametrize("name", DOMAINS)
def test_every_line_is_a_judged_task_of_the_right_domain(name: str) -> None:
    tasks = load_sample(name)
    assert len(tasks) >= MIN_TASKS
    for task in tasks:
        assert task.domain is DOMAINS[name], task.task_id
        top = max(task.relevance.values())
        assert top > 0 and list(task.relevance.values()).count(top) == 1, task.task_id
        assert len(task.relevant_ids) < len(task.candidates), task.task_id


def test_task_ids_are_unique_over_all_files() -> None:
    ids = [task.task_id for name in DOMAINS for task in load_sample(name)]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", DOMAINS)
def test_candidates_of_a_task_differ_in_text_and_in_title(name: str) -> None:
    for task in load_sample(name):
        assert len({" ".join(c.text.lower().split()) for c in task.candidates}) == len(task.candidates), task.task_id
        assert len({c.title.lower() for c in task.candidates}) == len(task.candidates), task.task_id


@pytest.mark.parametrize("name", DOMAINS)
def test_no_two_tasks_ask_the_same(name: str) -> None:
    asked = Counter((task.query, task.history) for task in load_sample(name))
    assert max(asked.values()) == 1


@pytest.mark.parametrize("name", DOMAINS)
def test_position_says_nothing_about_relevance(name: str) -> None:
    expected: dict[int, float] = defaultdict(float)
    observed: Counter[int] = Counter()
    for task in load_sample(name):
        observed[task.candidate_ids.index(best_id(task))] += 1
        for position in range(len(task.candidates)):
            expected[position] += 1 / len(task.candidates)
    chi_square = sum((observed[k] - e) ** 2 / e for k, e in expected.items())
    assert chi_square < CHI_SQUARE_AT_1_PERCENT[len(expected) - 1]


@pytest.mark.parametrize("name", DOMAINS)
def test_neither_shared_words_nor_length_solve_the_file(name: str) -> None:
    figures = measure(name)
    for trick in ("overlap", "least overlap", "longest", "shortest"):
        assert figures[trick] <= MAX_OVERLAP_MRR[name], trick


def test_films_are_named_alike_everywhere() -> None:
    seen: dict[str, str] = {}
    for task in load_sample("recommendation"):
        assert 6 <= len(task.history) <= 12 and 8 <= len(task.candidates) <= 10, task.task_id
        assert all(re.fullmatch(r".+ \((19|20)\d\d\)", film) for film in task.history), task.task_id
        for candidate in task.candidates:
            known = candidate.metadata
            name = f"{known['title']} ({known['year']})"
            assert name not in task.history, (task.task_id, name)
            assert candidate.text.startswith(f"{name}. ") and candidate.text.endswith(f"{known['director']}.")
            assert seen.setdefault(candidate.candidate_id, candidate.text) == candidate.text


def test_most_relevant_films_are_distractors_elsewhere() -> None:
    tasks = load_sample("recommendation")
    distractors = {i for task in tasks for i in task.candidate_ids if i not in task.relevant_ids}
    relevant = {best_id(task) for task in tasks}
    assert len(relevant) == len(tasks)
    assert len(relevant & distractors) >= 0.75 * len(relevant)


def test_a_language_model_is_described_alike_in_every_routing_task() -> None:
    seen: dict[str, Candidate] = {}
    for task in load_sample("routing"):
        assert 6 <= len(task.candidates) <= 8, task.task_id
        assert task.criterion
        for candidate in task.candidates:
            assert seen.setdefault(candidate.candidate_id, candidate) == candidate
    assert 8 <= len(seen) <= 10


def test_no_language_model_price_or_criterion_settles_routing() -> None:
    tasks = load_sample("routing")
    wins = Counter(best_id(task) for task in tasks)
    assert max(wins.values()) <= MAX_SHARE_OF_ONE_MODEL * len(tasks)
    num_cheapest = sum(min(task.candidates, key=price).candidate_id == best_id(task) for task in tasks)
    num_dearest = sum(max(task.candidates, key=price).candidate_id == best_id(task) for task in tasks)
    assert num_cheapest and num_dearest
    assert num_cheapest + num_dearest <= len(tasks) / 2
    criteria = Counter(task.criterion for task in tasks)
    assert len(criteria) == 3 and min(criteria.values()) >= len(tasks) / 4


def test_the_best_language_model_can_hold_the_request() -> None:
    for task in load_sample("routing"):
        stated = [int(n.replace(",", "")) for n in re.findall(r"([\d,]+)(?:-| )tokens?", task.query)]
        context = task.candidate(best_id(task)).metadata["context_tokens"]
        assert context >= max(stated, default=0), task.task_id


def test_passages_have_the_length_of_a_paragraph() -> None:
    for task in load_sample("passage"):
        assert 5 <= len(task.candidates) <= 7, task.task_id
        for candidate in task.candidates:
            assert 40 <= len(candidate.text.split()) <= 80, (task.task_id, candidate.candidate_id)


def test_readme_states_the_measured_figures() -> None:
    readme = (SAMPLES_DIR / "README.md").read_text(encoding="utf-8")
    for name in DOMAINS:
        figures = " | ".join(f"{value:.2f}" for value in measure(name).values())
        assert f"| {name}.jsonl | {len(load_sample(name))} | {figures} |" in readme, figures
    routing = load_sample("routing")
    cheapest = mean_reciprocal_rank(routing, lambda task, candidate: -price(candidate))
    dearest = mean_reciprocal_rank(routing, lambda task, candidate: price(candidate))
    assert f"cheapest first gives {cheapest:.2f}, dearest first {dearest:.2f}." in readme


def test_rationale_names_the_best_of_every_film_and_routing_task() -> None:
    rationale = (SAMPLES_DIR / "RATIONALE.md").read_text(encoding="utf-8")
    for name in ("recommendation", "routing"):
        for task in load_sample(name):
            best = task.candidate(best_id(task))
            year = f" ({best.metadata['year']})" if "year" in best.metadata else ""
            assert f"| {task.task_id} | {best.title}{year} | " in rationale, task.task_id
