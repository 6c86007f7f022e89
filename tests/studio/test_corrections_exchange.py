"""Corrections out of the store and back, and what is measured of them, through the services and the command line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ranker.errors import DatasetError, UsageError
from ranker.evaluation.trec import load_qrels
from ranker.parsing import parse_exclusion
from ranker.schema import (
    Candidate,
    Correction,
    CorrectionKind,
    Domain,
    EliminationStep,
    Mode,
    Outcome,
    RankingTask,
    RankingTrace,
    Totals,
    make_ranking,
)
from studio.cli import main
from studio.corrections import Corrections, Submission
from studio.exchange import export_corrections, import_corrections
from studio.quality import make_report
from studio.store import Store
from trainer.corrections import load_corrections
from trainer.examples import ExampleConfig, make_training_examples

IDS = tuple("abcd")
MODELS_ORDER = ("a", "b", "c", "d")


def task(task_id: str) -> RankingTask:
    candidates = tuple(Candidate(candidate_id=i, text=f"film {i}") for i in IDS)
    return RankingTask(task_id=task_id, domain=Domain.OTHER, query="q", candidates=candidates)


def steps() -> tuple[EliminationStep, ...]:
    return tuple(
        EliminationStep(
            step_index=n, pool=MODELS_ORDER[: 4 - n], excluded_id=MODELS_ORDER[3 - n], outcome=Outcome.PARSED
        )
        for n in range(3)
    )


def fill(store: Store) -> int:
    """Three tasks with a trace each; ann agrees with the model, bob always reverses it, eve says a little of everything."""
    dataset_id = store.datasets.add("films", [task(f"t{n}") for n in range(3)], source="test").id
    corrections = Corrections(store)

    def say(author: str, task_id: str, kind: str, payload: dict[str, Any], **fields: Any) -> Correction:
        return corrections.submit(
            dataset_id, Submission(task_id=task_id, kind=CorrectionKind(kind), payload=payload, author=author, **fields)
        )

    for n in range(3):
        trace_id = f"trace-{n}"
        store.traces.create(trace_id, dataset_id, f"t{n}", model="m", mode=Mode.ITERATIVE, seed=0, config={})
        for step in steps():
            store.traces.add_step(trace_id, step)
        trace = RankingTrace(
            task_id=f"t{n}", model="m", mode=Mode.ITERATIVE, prompt_version="p", ranking=make_ranking(steps()),
            steps=steps(), totals=Totals.of(steps()),
        )  # fmt: skip
        store.traces.finish(trace_id, trace)
        order = [[i] for i in MODELS_ORDER]
        say("ann", f"t{n}", "ranking", {"order": order}, trace_id=trace_id, duration_s=2.0 + n)
        say("bob", f"t{n}", "ranking", {"order": order[::-1]}, trace_id=trace_id)
    verdict = {"step_index": 0, "verdict": "exclude", "exclude_ids": ["b"]}
    say("eve", "t0", "step", verdict, trace_id="trace-0", reason="b is worse\nby far ✓")
    withdrawn = say("eve", "t1", "label", {"relevant": ["a"]})
    corrections.withdraw(withdrawn.correction_id, author="eve")
    say("eve", "t2", "ranking", {"order": [["a"], ["b", "c"], ["d"]]}, is_gold=True, guideline_version=2)
    say("eve", "t2", "flag", {"flag": "spoiler"})
    return dataset_id


@pytest.fixture
def filled(store: Store) -> tuple[Store, int]:
    return store, fill(store)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Store]:
    """Another studio that has the same tasks, but no trace."""
    opened = Store(tmp_path / "elsewhere.db")
    opened.datasets.add("films", [task(f"t{n}") for n in range(3)], source="test")
    yield opened
    opened.close()


@pytest.mark.parametrize("file_format", ["jsonl", "parquet"])
def test_nothing_is_lost_on_the_way_out_and_back(
    filled: tuple[Store, int], elsewhere: Store, tmp_path: Path, file_format: str
) -> None:
    store, _ = filled
    path = tmp_path / f"corrections.{file_format}"
    every = store.corrections.search().rows
    assert export_corrections(store, path, file_format=file_format) == len(every) == 11
    assert import_corrections(elsewhere, path) == (11, 0)
    assert elsewhere.corrections.search().rows == every
    assert import_corrections(elsewhere, path) == (0, 11)
    assert elsewhere.corrections.search().rows == every
    assert Corrections(elsewhere).effective() == Corrections(store).effective()
    assert elsewhere.verify() == []


def test_training_reads_what_was_exported(filled: tuple[Store, int], tmp_path: Path) -> None:
    store, dataset_id = filled
    path = tmp_path / "c.jsonl"
    export_corrections(store, path)
    tasks = list(store.datasets.iter_tasks(dataset_id))
    config = ExampleConfig(num_examples=200, held_out_share=0)
    made = make_training_examples(tasks, load_corrections(path), config).train
    current = {c.correction_id for c in Corrections(store).effective() if c.kind is not CorrectionKind.FLAG}
    assert {i for example in made for i in example.correction_ids} == current


def test_pairs_are_two_answers_to_the_rankers_own_prompt(filled: tuple[Store, int], tmp_path: Path) -> None:
    store, _ = filled
    path = tmp_path / "pairs.jsonl"
    number = export_corrections(store, path, file_format="pairs")
    pairs = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert number == len(pairs) == 6 * 3 + 1 + 3  # six whole orders of four, one step, three tiers of four
    assert [m["role"] for m in pairs[0]["prompt"] + pairs[0]["chosen"]] == ["system", "user", "assistant"]
    step = next(pair for pair in pairs if len(pair["prompt"]) == 2 and pair["correction_id"] == step_id(store))
    shown = [task("t0").candidate(i) for i in MODELS_ORDER]
    assert "[2] film b" in step["prompt"][1]["content"]
    chosen, rejected = (parse_exclusion(step[name][0]["content"], shown) for name in ("chosen", "rejected"))
    assert chosen.outcome is rejected.outcome is Outcome.PARSED
    assert (chosen.candidate_id, rejected.candidate_id) == ("b", "a")


def step_id(store: Store) -> str:
    return next(c.correction_id for c in store.corrections.search().rows if c.kind is CorrectionKind.STEP)


def test_qrels_are_the_consensus(filled: tuple[Store, int], tmp_path: Path) -> None:
    store, dataset_id = filled
    corrections = Corrections(store)
    for n in (0, 1):
        bob = next(c for c in corrections.effective(dataset_id, f"t{n}") if c.author == "bob")
        corrections.withdraw(bob.correction_id, author="bob")
    path = tmp_path / "films.qrels"
    export_corrections(store, path, file_format="qrels", dataset_id=dataset_id)
    judged = load_qrels(path)
    assert judged["t0"] == judged["t1"] == {"a": 3, "b": 2, "c": 1, "d": 0}
    assert judged["t2"]["a"] > judged["t2"]["d"]
    other = store.datasets.add("more", [task("t0")], source="test").id
    corrections.submit(
        other, Submission(task_id="t0", kind=CorrectionKind.RANKING, payload={"order": [["a"], ["b"]]}, author="ann")
    )
    with pytest.raises(UsageError, match="in several datasets"):
        export_corrections(store, path, file_format="qrels")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"task_id": "t9"}, r":1: correction x: task_id: 't9': is not in dataset films@1"),
        ({"dataset": "books@1"}, "is not in dataset books@1"),
        ({"payload": {"order": [["a"], ["z"]]}}, r"payload\.order: \['z'\]"),
        ({"supersedes": "nowhere"}, "'nowhere' is not there"),
        ({"created_at": "yesterday"}, "created_at: 'yesterday'"),
        ({"colour": 1}, "colour"),
    ],
)
def test_a_file_is_taken_in_whole_or_not_at_all(
    elsewhere: Store, tmp_path: Path, change: dict[str, Any], error: str
) -> None:
    good = {
        "correction_id": "x", "task_id": "t0", "kind": "ranking", "author": "ann", "dataset": "films@1",
        "created_at": "2026-11-23T00:00:00+00:00", "payload": {"order": [["a"], ["b"]]},
    }  # fmt: skip
    path = tmp_path / "c.jsonl"
    path.write_text(f"{json.dumps(good | change)}\n{json.dumps(good | {'correction_id': 'y'})}\n", encoding="utf-8")
    with pytest.raises(DatasetError, match=error) as caught:
        import_corrections(elsewhere, path)
    assert "\n" not in str(caught.value)
    assert elsewhere.corrections.search().total == 0


def test_what_is_measured(filled: tuple[Store, int]) -> None:
    store, dataset_id = filled
    report = make_report(store, dataset_id=dataset_id)
    assert (report.num_corrections, report.num_current, report.num_tasks) == (11, 9, 3)
    assert report.kinds == {"ranking": 7, "step": 1, "flag": 1}
    model = report.human_model["m"]
    assert model.tau_b is not None and model.tau_b.mean == pytest.approx(0)
    assert model.first_divergence is not None
    assert model.first_divergence.mean == pytest.approx(0.5)  # ann: never; bob: at the first step
    people = report.human_human
    assert people.tau_b is not None and people.alpha is not None
    assert people.tau_b.mean == pytest.approx(-1), "eve's gold answer is no vote"
    assert people.first_divergence is not None and people.first_divergence.mean == 0
    assert people.tau_b.low <= people.tau_b.mean <= people.tau_b.high
    assert people.alpha.mean < 0
    assert report.datasets == {"films@1": people}
    ann, bob, eve = report.annotators
    assert (ann.author, ann.median_duration_s, ann.gold_passed, ann.gold_seen) == ("ann", 3.0, 1, 1)
    assert (bob.gold_passed, bob.gold_seen, eve.gold_seen) == (0, 1, 0)
    assert ann.with_model is not None and ann.with_model.mean == pytest.approx(1)
    assert (report.gold_passed, report.gold_seen) == (1, 2)
    assert [(g.task_id, g.num_passed, g.num_seen) for g in report.gold] == [("t2", 1, 2)]
    assert report.dataset_models == {"films@1": model}
    (period,) = report.periods
    assert (period.num_corrections, period.human_human, period.human_model) == (6, people.tau_b, model.tau_b)


def test_an_empty_store_has_nothing_to_measure(store: Store) -> None:
    report = make_report(store)
    assert (report.num_corrections, report.annotators, report.human_human.tau_b) == (0, (), None)


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for directory in (here, there):
        directory.mkdir()
        store = Store(directory / "studio.db")
        fill(store) if directory is here else store.datasets.add(
            "films", [task(f"t{n}") for n in range(3)], source="test"
        )
        store.close()
    path = tmp_path / "c.jsonl"

    def run(*argv: object) -> tuple[int, str, str]:
        code = main(["corrections", *map(str, argv)])
        return code, *capsys.readouterr()

    assert run("export", "--out", path, "--data-dir", here)[:2] == (0, f"{path}: 11 written as jsonl\n")
    assert run("import", path, "--data-dir", there)[:2] == (0, f"{path}: 11 new, 0 were there already\n")
    code, said, _ = run("import", path, "--dataset", "films", "--data-dir", there, "--json")
    assert (code, json.loads(said)) == (0, {"new": 0, "known": 11})
    code, said, _ = run("stats", "--data-dir", here, "--json")
    assert (code, json.loads(said)["gold_seen"], json.loads(said)["num_current"]) == (0, 2, 9)
    code, said, _ = run("stats", "--data-dir", here)
    assert code == 0 and "people and m" in said and "1 of 2" in said
    code, said, _ = run("stats", "--data-dir", there)
    assert code == 0 and "people and m" not in said, "its traces are not there"
    code, _, error = run("import", tmp_path / "none.jsonl", "--data-dir", there)
    assert (code, error.count("\n")) == (2, 1)
    code, _, error = run("stats", "--dataset", "nope", "--data-dir", here)
    assert (code, "no such dataset" in error) == (2, True)
