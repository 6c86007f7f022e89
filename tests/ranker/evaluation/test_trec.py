"""Run files and judgements go out and come in, and another program computes the same numbers."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ranker.baselines import make_baseline
from ranker.errors import DatasetError
from ranker.evaluation import BaselineSystem, Plan, journal_path, make_set, run_evaluation
from ranker.evaluation.answers import Journal
from ranker.evaluation.trec import RunFile, load_qrels, write_runs
from ranker.schema import RankingTask


def test_our_run_file_scores_the_same_in_ir_measures(make_task: Callable[..., RankingTask], tmp_path: Path) -> None:
    ir_measures = pytest.importorskip("ir_measures")
    (tmp_path / "qrels.txt").write_text("".join(f"q{i} 0 c{i % 4} {1 + i % 3}\nq{i} 0 unlisted 2\n" for i in range(9)))
    qrels = load_qrels(tmp_path / "qrels.txt")
    tasks = [make_task(i).model_copy(update={"relevance": {}}) for i in range(9)]
    dataset = make_set("judged", tasks, source="test", qrels=qrels, metric="ndcg@10")
    out = tmp_path / "r.json"
    system = BaselineSystem(make_baseline("overlap"), "overlap")
    results = run_evaluation(Plan(datasets=[dataset], systems=[system], seeds=[0]), out, command="c")
    with Journal(journal_path(out)) as journal:
        (path,) = write_runs(results, journal, tmp_path / "runs")
    measures = [ir_measures.parse_measure(n) for n in ("nDCG@10", "RR", "AP")]
    theirs = ir_measures.calc_aggregate(
        measures, ir_measures.read_trec_qrels(str(tmp_path / "qrels.txt")), ir_measures.read_trec_run(str(path))
    )
    ours = results.rows[0].metrics
    for measure, name in zip(measures, ("ndcg@10", "mrr", "map"), strict=True):
        assert ours[name].mean == pytest.approx(theirs[measure], abs=1e-5)


def test_a_foreign_run_is_a_baseline(make_task: Callable[..., RankingTask], tmp_path: Path) -> None:
    path = tmp_path / "other.run"
    path.write_text("q1 Q0 c3 1 9.5 other\nq1 Q0 c0 2 3.5 other\n")
    scores = RunFile(path).score(make_task(1))
    assert scores[3] > scores[0] > scores[1] == scores[2]


def test_a_file_that_is_no_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.run"
    path.write_text("q1 Q0 c3 1 9.5 other\nq1 c0 3.5\n")
    with pytest.raises(DatasetError, match=r"bad.run:2: row"):
        RunFile(path)
