"""The public data sets that lie beside the project on some machines: every folder imports, and what rankers reach that read
nothing agrees with the figures that were measured independently when the sets were collected."""

from pathlib import Path
from typing import Any

import pytest

from ranker.datasets import Report, check, import_source

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
pytestmark = [pytest.mark.data, pytest.mark.skipif(not DATA.is_dir(), reason=f"no public data sets in {DATA}")]


def examine(folder: str, recipe: str | None = None, **options: Any) -> tuple[Report, dict[str, int]]:
    source = f"recipe:{recipe}" if recipe else DATA / folder
    plan = import_source(source, from_dir=DATA / folder if recipe else None, options=options)
    report = check(plan.tasks())
    assert not report.has_errors, report.errors
    return report, dict(plan.provenance.counts)


def baseline(report: Report, name: str) -> float:
    return next(b.mrr for b in report.baselines if b.name == name)


@pytest.mark.parametrize(
    ("folder", "options", "num_tasks", "popularity"),
    [
        ("movies/ml-100k", {}, 709, 0.50),
        ("movies/ml-1m", {"recipe": "rec-movie"}, 1345, 0.45),
        ("amazon/games_llmrank", {"target": "last", "min_history": 10, "negatives": "random"}, 1000, 0.42),
        ("amazon/games_llmrank", {"target": "last", "min_history": 10, "negatives": "bm25"}, 1000, 0.46),
        ("amazon/games_llmrank", {"target": "last", "min_history": 10, "negatives": "pop"}, 1000, 0.06),
        ("amazon/games_llmrank", {"target": "last", "min_history": 10, "negatives": "sasrec"}, 1000, 0.11),
        ("amazon/video_games_flower", {"history": 10, "recipe": "rec-game"}, 962, 0.41),
        ("amazon/cds_vinyl_flower", {"history": 10, "recipe": "rec-music"}, 1239, 0.33),
    ],
)
def test_recommendation(folder: str, options: dict[str, Any], num_tasks: int, popularity: float) -> None:
    report, _ = examine(folder, **options)
    assert report.num_tasks == num_tasks
    assert report.random_mrr == pytest.approx(0.18, abs=0.001)
    assert baseline(report, "popularity") == pytest.approx(popularity, abs=0.07)
    assert report.positions_p is not None
    assert report.positions_p > 0.001


@pytest.mark.parametrize(("number", "overlap", "floor"), [(5, 0.70, 0.457), (7, 0.59, 0.370), (9, 0.61, 0.314)])
def test_passage_lists(number: int, overlap: float, floor: float) -> None:
    report, counts = examine("passage/msmarco_dev_lists", recipe=f"passage-{number}", max_chars=3400)
    assert report.num_tasks == 450
    assert counts["queries_read"] == 1350
    assert report.random_mrr == pytest.approx(floor, abs=0.001)
    assert baseline(report, "overlap") == pytest.approx(overlap, abs=0.03)


@pytest.mark.parametrize(
    ("folder", "num_tasks", "overlap"),
    [("wikiqa", 240, 0.63), ("trec_dl", 70, None), ("noveleval", 14, None), ("cranfield", 143, None)],
)
def test_judged_passages(folder: str, num_tasks: int, overlap: float | None) -> None:
    report, _ = examine(f"passage/{folder}")
    assert report.num_tasks == num_tasks
    assert report.random_mrr is not None
    assert baseline(report, "overlap") > report.random_mrr + 0.1
    if overlap is not None:
        assert baseline(report, "overlap") == pytest.approx(overlap, abs=0.03)


def test_router_scores_and_their_ties() -> None:
    report, counts = examine("routing/llmrouter_9llm", recipe="router-performance")
    assert (counts["queries_read"], counts["queries_all_tied"], report.num_tasks) == (3750, 815, 2935)
    assert counts["queries_best_tied"] / counts["queries_read"] == pytest.approx(0.87, abs=0.005)


@pytest.mark.parametrize("scenario", ["balance", "cost"])
def test_one_cheap_model_wins_most_of_the_derived_cost_scenarios(scenario: str) -> None:
    plan = import_source(f"recipe:router-{scenario}", from_dir=DATA / "routing/llmrouter_9llm")
    tasks = list(plan.tasks())
    share = sum("gemma-2-9b-it" in t.relevant_ids for t in tasks) / len(tasks)
    assert share == pytest.approx(0.70, abs=0.08)
    assert any(note.startswith("cost:") for note in plan.provenance.notes)


@pytest.mark.parametrize(
    ("folder", "num_read", "num_tasks"), [("gsm8k_6llm", 1118, 960), ("routellm_mmlu_2llm", 1499, 335)]
)
def test_models_side_by_side(folder: str, num_read: int, num_tasks: int) -> None:
    report, counts = examine(f"routing/{folder}")
    assert (counts["queries_read"], report.num_tasks) == (num_read, num_tasks)


@pytest.mark.parametrize(("folder", "num_tasks"), [("gsm8k", 1118), ("mathqa", 1499)])
def test_reasoning_sets(folder: str, num_tasks: int) -> None:
    report, _ = examine(f"reasoning/{folder}")
    assert report.num_tasks == num_tasks
    assert report.relevant_per_task == {1: num_tasks}


@pytest.mark.parametrize(
    ("folder", "best_single", "oracle"), [("llmrouter_9llm", 0.620, 0.799), ("gsm8k_6llm", 0.855, 0.952)]
)
def test_scores_survive_the_import(folder: str, best_single: float, oracle: float) -> None:
    tasks = list(import_source(DATA / "routing" / folder, options={"keep_tied": True}).tasks())
    scores = [{c.candidate_id: c.metadata["score"] for c in t.candidates} for t in tasks]
    means = [sum(s[m] for s in scores) / len(scores) for m in scores[0]]
    assert max(means) == pytest.approx(best_single, abs=0.002)
    assert sum(max(s.values()) for s in scores) / len(scores) == pytest.approx(oracle, abs=0.002)
