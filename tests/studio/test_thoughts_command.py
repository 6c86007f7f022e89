"""The thought bank from the command line: rank, keep, rank again with it, and a row of `eval`; zero-shot jobs; mistakes."""

import json
from pathlib import Path

import pytest

from ranker.elimination import AnswerFormat
from ranker.tracefile import read_traces
from studio.cli import main
from trainer.config import read_config
from trainer.modelcards import ModelCard, write_card

ROOT = Path(__file__).resolve().parents[2]
TASKS = str(ROOT / "assets" / "samples" / "passage.jsonl")
DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(autouse=True)
def _rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of rules, and words instead of embeddings, which take long to load."""
    monkeypatch.setenv("STUDIO_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr("ranker.thoughtbank.has_packaged_model", lambda: False)
    card = ModelCard(name="rules", engine="scripted", answer_format=AnswerFormat.FREE, sha256="ab" * 32)
    write_card(tmp_path / "data" / "models", card)


def test_thoughts_are_kept_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    traces, bank, guided = (tmp_path / name for name in ("traces.jsonl", "bank.jsonl", "guided.jsonl"))
    assert main(["rank", TASKS, "--model", "rules", "--out", str(traces)]) == 0
    capsys.readouterr()
    assert main(["thoughts", TASKS, str(traces), "--out", str(bank), "--json"]) == 0
    kept = json.loads(capsys.readouterr().out)
    assert 0 < kept["thoughts"] < kept["traces"]
    assert kept["embedder"] is None
    words = ["rank", TASKS, "--model", "rules", "--limit", "3", "--thoughts", str(bank), "--out", str(guided)]
    assert main(words) == 0
    assert "found by bm25" in capsys.readouterr().err
    found = list(read_traces(guided))
    assert len({t.prompt_version for t in found}) == 1
    assert all("+thoughts-1." in t.prompt_version and "  Thought: " in t.steps[0].prompt for t in found)
    assert main(words) == 0, "goes on with the same bank"
    assert main([w for w in words if w not in ("--thoughts", str(bank))]) == 2, "without it, it is another run"

    assert main([*words[:-1], str(tmp_path / "other.jsonl"), "--answer", "likelihood"]) == 2
    assert "answers by likelihood and reads none" in capsys.readouterr().err

    out = tmp_path / "r.json"
    words = ["eval", "--datasets", TASKS, "--models", "rules", "--think-tokens", "0,64", "--limit", "6", "--seeds", "1"]
    assert main([*words, "--thoughts", str(bank), "--row-minutes", "5", "--out", str(out)]) == 0
    results = json.loads(out.read_text())
    names = {s["name"] for s in results["systems"]}
    assert names == {"random", "rules/iterative", "rules/iterative@64", "rules/iterative@64+thoughts"}
    families = {d["family"] for d in results["differences"]}
    assert families == {"against", "thinking", "thought bank"}
    assert "### Thought bank" in out.with_suffix(".md").read_text()


def test_a_plan_runs_as_one_command(tmp_path: Path) -> None:
    plan, out = tmp_path / "plan.yaml", tmp_path / "r.json"
    plan.write_text(
        "sections:\n"
        f"  - {{baselines: [random, overlap], datasets: [{TASKS}, routing]}}\n"
        f"  - {{models: given, modes: [first-token, pointwise, pairwise, setwise], datasets: [{TASKS}], limit: 3}}\n"
    )
    words = ["eval", "--plan", str(plan), "--models", "rules", "--limit", "5", "--seeds", "2", "--out", str(out)]
    assert main(words) == 0
    results = json.loads(out.read_text())
    assert len(results["commands"]) == 1
    sizes = {(r["dataset"], r["system"]): r["n"] for r in results["rows"]}
    assert len(sizes) == 8
    assert (sizes["routing", "overlap"], sizes["passage", "rules/setwise"]) == (5, 3)


def test_a_model_asked_in_another_format_is_another_row(tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    words = ["eval", "--datasets", TASKS, "--models", "rules", "--modes", "iterative,first-token", "--limit", "5"]
    words += ["--think-tokens", "0,8", "--seeds", "1", "--baselines", "none", "--out", str(out)]
    assert main(words) == 0
    assert main([*words, "--answer", "likelihood"]) == 0
    systems = {s["name"]: s["answer_format"] for s in json.loads(out.read_text())["systems"]}
    assert systems["rules/iterative@8"] == "free"
    assert systems["rules/iterative:likelihood"] == systems["rules/first-token:likelihood"] == "likelihood"
    assert "rules/iterative:likelihood@8" not in systems, "it does not think"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["eval", "--datasets", "routing"], "--out: missing"),
        (["eval", "--configs", "jobs"], "--configs: needs --protocol zero-shot and --from DIR"),
        (["eval", "--trained-on", "a=films", "--out", "r.json"], "--trained-on: 'films': choose from"),
        (["eval", "--row-minutes", "0", "--out", "r.json"], "--row-minutes: 0.0: give a number above 0"),
        (["eval", "--plan", "nowhere.yaml", "--out", "r.json"], "--plan: nowhere.yaml: No such file"),
        (["eval", "--datasets", "routing", "--models", "rules", "--thoughts", "no", "--out", "r.json"], "no: file: "),
        (["thoughts", TASKS, "nowhere.jsonl", "--out", "b.jsonl"], "nowhere.jsonl: file: not found"),
        (
            ["reasoning", "--from", ".", "--sets", "magic", "--out", "r.json"],
            "--sets: 'magic': choose from gsm8k, mathqa",
        ),
    ],
)
def test_wrong_words_are_named_in_one_line(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert said in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="the public data sets are not here")
def test_zero_shot_jobs_miss_one_domain_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ranker.datasets import load_tasks
    from ranker.evaluation import open_preset

    words = ["eval", "--protocol", "zero-shot", "--from", str(DATA), "--configs", str(tmp_path), "--limit", "20"]
    assert main([*words, "--datasets", "rec-movie-100k,router-cost,passage-5,passage-7"]) == 0
    said = capsys.readouterr().out
    assert "models add CHECKPOINT --as without-passage" in said
    assert "--modes first-token --answer likelihood" in said
    assert "--models smollm2-135m-instruct,without-recommendation," in said, (
        "beside the model that has seen none of them"
    )
    config = read_config(tmp_path / "without-passage.yaml")
    assert [Path(p).name for p in config.data.tasks] == ["train-recommendation.jsonl", "train-routing.jsonl"]
    trained = list(load_tasks(tmp_path / "train-passage.jsonl"))
    assert len(trained) == 40
    asked = {t.query for name in ("passage-5", "passage-7") for t in open_preset(name, DATA, split="test").tasks}
    assert asked
    assert not asked & {t.query for t in trained}, "a query is on the same side in every set"
