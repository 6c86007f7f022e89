"""Our figures on the public sets beside those that are known of them; skipped where the files are not."""

from pathlib import Path

import pytest

from ranker.baselines import make_baseline
from ranker.evaluation import BaselineSystem, Plan, open_preset, run_evaluation
from ranker.evaluation.results import Estimate

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not DATA.is_dir(), reason="the public data sets are not here"),
]


def _measure(preset: str, baseline: str, tmp_path: Path) -> Estimate:
    dataset = open_preset(preset, DATA)
    plan = Plan(datasets=[dataset], systems=[BaselineSystem(make_baseline(baseline), baseline)])
    return run_evaluation(plan, tmp_path / "r.json", command="test").rows[0].metrics[dataset.metric]


@pytest.mark.parametrize(
    ("preset", "baseline", "known"),
    [
        ("rec-movie-100k", "popularity", 0.50),
        ("rec-movie", "popularity", 0.45),
        ("rec-game-pop", "popularity", 0.06),
        ("rec-game-sasrec", "popularity", 0.11),
    ],
)
def test_popularity_is_strong_among_random_candidates_and_useless_among_popular_ones(
    preset: str, baseline: str, known: float, tmp_path: Path
) -> None:
    """Known for all users at once; ours learns from four fifths and is asked about one: the interval must reach it."""
    estimate = _measure(preset, baseline, tmp_path)
    assert estimate.low - 0.01 <= known <= estimate.high + 0.01


@pytest.mark.parametrize(("preset", "known"), [("passage-5", 0.70), ("passage-7", 0.59), ("passage-9", 0.61)])
def test_overlap_on_passages(preset: str, known: float, tmp_path: Path) -> None:
    assert _measure(preset, "overlap", tmp_path).mean == pytest.approx(known, abs=0.015)


def test_bm25_on_wikiqa(tmp_path: Path) -> None:
    assert _measure("wikiqa", "bm25", tmp_path).mean == pytest.approx(0.635, abs=0.02)


def test_first_stage_of_trec_dl19_is_the_published_bm25(tmp_path: Path) -> None:
    assert _measure("dl19", "first-stage", tmp_path).mean == pytest.approx(0.5058, abs=0.0002)
