"""`eval` from the command line, with the scripted engine as the model."""

import json
from pathlib import Path

import pytest

from ranker.elimination import AnswerFormat
from studio.cli import main
from trainer.modelcards import ModelCard, write_card

SAMPLES = Path(__file__).resolve().parents[2] / "assets" / "samples"


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STUDIO_DATA_DIR", str(tmp_path / "data"))
    card = ModelCard(name="rules", engine="scripted", answer_format=AnswerFormat.FREE, sha256="ab" * 32)
    write_card(tmp_path / "data" / "models", card)
    return tmp_path / "data"


def test_models_and_baselines_on_a_file_and_a_stored_dataset(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results.json"
    words = ["eval", "--datasets", f"{SAMPLES / 'passage.jsonl'},routing", "--models", "rules"]
    words += ["--modes", "iterative,direct", "--mode-limits", "iterative=3", "--think-tokens", "0,8"]
    words += ["--baselines", "random,bm25", "--limit", "6", "--seeds", "2", "--out", str(out), "--tables", "md,csv,tex"]
    assert main([*words, "--runs", str(tmp_path / "runs"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    sizes = {(r["dataset"], r["system"]): r["n"] for r in rows}
    assert sizes["passage", "rules/iterative@8"] == 3
    assert sizes["routing", "rules/direct"] == 6
    assert len(sizes) == 12
    results = json.loads(out.read_text())
    model = next(s for s in results["systems"] if s["name"] == "rules/iterative")
    assert (model["model_sha256"], bool(model["prompt_version"])) == ("ab" * 32, True)
    (command,) = results["commands"]
    assert "--mode-limits iterative=3" in command
    assert str(data_dir) not in command
    for suffix in (".md", ".csv", ".tex"):
        assert out.with_suffix(suffix).stat().st_size > 500
    assert (tmp_path / "runs" / "passage.bm25.seed0.run").exists()
    pairs = {(d["family"], d["a"], d["b"]) for d in results["differences"]}
    assert ("against", "bm25", "random") in pairs


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--datasets", "nothing"], "--datasets: 'nothing': not a stored dataset, a file or a preset"),
        (["--datasets", "rec-movie"], "say where they are with --from DIR"),
        (["--datasets", "routing", "--baselines", "magic"], "baseline: 'magic': no such baseline"),
        (["--datasets", "routing", "--models", "rules", "--modes", "magic"], "--modes: 'magic': does not run"),
        (["--datasets", "routing", "--seeds", "0"], "--seeds: 0: give a number from 1"),
        (["--datasets", "routing", "--compare", "a"], "--compare: a: write A:B"),
        (["--datasets", "routing", "--tables", "docx"], "--tables: 'docx': choose from"),
    ],
)
@pytest.mark.usefixtures("data_dir")
def test_wrong_words_are_named_in_one_line(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", *words, "--out", str(tmp_path / "r.json")]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert said in error[-1]
    assert not (tmp_path / "r.json").exists()
