"""Whole jobs on a tiny model: every kind trains, stops, resumes, is promoted and ranks."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from wholejobs import TASKS, Studio, weights

from ranker.datasets import dump_tasks
from ranker.elimination import RankConfig, rank
from ranker.errors import CheckpointError, JobError
from trainer.checkpoints import newest_checkpoint, read_provenance
from trainer.examples import is_held_out
from trainer.failures import NotFiniteError, explain_failure
from trainer.jobs import Job, JobState
from trainer.learner import make_learner
from trainer.material import read_material
from trainer.modelcards import ModelCard, write_card

SMALL_ROLLOUTS = {"rollout_size": 8, "max_completion_tokens": 6, "group_size": 2}


def test_titles_learn_are_promoted_and_rank(studio: Studio) -> None:
    job = studio.job("titles", max_steps=12, titles={"kl_weight": 0.01})
    state, message = studio.run(job)
    assert (state, message) == (JobState.DONE, "done; checkpoint-12 is saved")
    rows = list(job.metrics())
    assert [row["optimizer_step"] for row in rows] == list(range(1, 13))
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-6), "before the first update the policy is the reference"
    assert sum(row["loss"] for row in rows[-3:]) < sum(row["loss"] for row in rows[:3])
    result = job.result()
    assert result is not None
    assert result["held_out"]["num_decisions"] == sum(is_held_out(t.task_id, 0.2) for t in TASKS) > 2
    assert -1 < result["held_out"]["after_minus_before"]["difference"] < 1
    checkpoint = newest_checkpoint(job.checkpoints)
    assert checkpoint is not None
    card = studio.registry.promote(str(checkpoint))
    assert studio.registry.default_name() == card.name
    assert card.ranking_defaults() == {"answer_format": "scored", "think_tokens": 0}
    trained = rank(TASKS[0], studio.registry.load(), RankConfig(think_tokens=0)).steps[0].probabilities
    plain = rank(TASKS[0], studio.registry.load("toy"), RankConfig(think_tokens=0)).steps[0].probabilities
    assert trained is not None and plain is not None
    assert max(abs(trained[i] - plain[i]) for i in plain) > 1e-3
    assert studio.registry.promote(str(checkpoint)) == card, "promoting again changes nothing"


def test_replayed_decisions_stay_near_those_that_it_began_with(studio: Studio) -> None:
    """A promoted model is its own reference, and corrections are free to change it."""
    first = studio.job("titles", max_steps=6)
    studio.run(first)
    model = studio.registry.promote(str(newest_checkpoint(first.checkpoints))).name
    ends = []
    for weight in (1e-6, 10.0):
        optimizer = {"max_steps": 16, "batch_size": 8, "learning_rate": 0.003}
        job = studio.job("titles", max_steps=16, model=model, titles={"kl_weight": weight}, optimizer=optimizer)
        studio.run(job)
        rows = list(job.metrics())
        assert rows[0]["kl"] == pytest.approx(0, abs=1e-5)
        ends.append(sum(row["kl"] for row in rows[-4:]))
    assert ends[1] < ends[0] / 3


def test_exclusions_are_drawn_rewarded_and_kept_for_reading(studio: Studio) -> None:
    job = studio.job("ppo-exclusions", max_steps=8, titles={"answer": "likelihood"})
    assert studio.run(job)[0] is JobState.DONE
    kept = list(job.rollouts())
    assert [line["optimizer_step"] for line in kept] == [0] * 4 + [4] * 4
    for line in kept:
        task = next(t for t in TASKS if t.task_id == line["task_id"])
        titles = [step["excluded"] for step in line["steps"]] + line["left"]
        assert set(titles) <= {c.title for c in task.candidates} and len(set(titles)) == len(titles) >= 2
        assert all(0 < step["probability"] < 1 and isinstance(step["advantage"], float) for step in line["steps"])
        assert line["asked"] == ["old"]
    assert any(len(line["steps"]) > 1 for line in kept)
    result = job.result()
    assert result is not None and result["held_out"]["num_decisions"] > 2
    card = studio.registry.promote(str(newest_checkpoint(job.checkpoints)))
    assert card.ranking_defaults() == {"answer_format": "likelihood", "think_tokens": 0}
    assert rank(TASKS[0], studio.registry.load(), RankConfig(**card.ranking_defaults())).model == card.name


def test_all_weights_can_be_trained_and_promoted(studio: Studio) -> None:
    job = studio.job("titles", max_steps=2, lora=None)
    studio.run(job)
    card = studio.registry.promote(str(newest_checkpoint(job.checkpoints)))
    assert card.adapter is None and card.num_parameters == studio.registry.card(card.name).num_parameters
    for left_over in ("optimizer.pt", "rng_state.pth"):
        assert not (Path(card.directory) / left_over).exists()
    assert rank(TASKS[0], studio.registry.load(), RankConfig(think_tokens=0)).model == card.name


def test_a_promoted_model_is_trained_further(studio: Studio) -> None:
    first = studio.job("titles", max_steps=2)
    studio.run(first)
    card = studio.registry.promote(str(newest_checkpoint(first.checkpoints)))
    second = studio.job("titles", max_steps=1, model=card.name)
    studio.run(second)
    before, after = weights(newest_checkpoint(first.checkpoints)), weights(newest_checkpoint(second.checkpoints))
    largest = max((after[name] - before[name]).abs().max().item() for name in before)
    assert 0 < largest < 0.05, "one step away from where the first job ended"
    checkpoint = newest_checkpoint(second.checkpoints)
    assert checkpoint is not None and read_provenance(checkpoint).base_model == "toy"


def test_an_adapter_is_trained_further_in_its_last_layers_alone(studio: Studio) -> None:
    first = studio.job("titles", max_steps=2)
    studio.run(first)
    before = newest_checkpoint(first.checkpoints)
    further = studio.job("titles", max_steps=2, start_from=str(before), lora={"rank": 4, "alpha": 8, "last_layers": 1})
    state, _ = studio.run(further)
    assert state is JobState.DONE
    old, new = weights(before), weights(newest_checkpoint(further.checkpoints))
    changed = {name for name in old if not old[name].equal(new[name])}
    assert old.keys() == new.keys() and changed
    assert all("layers.1." in name for name in changed), "the tiny model has two layers"
    assert any("layers.0." in name for name in old)


def test_a_new_adapter_can_be_on_the_last_layers_alone(studio: Studio) -> None:
    """What leaves the others is kept, which changes nothing of what is learnt."""
    learnt = []
    for kept_gb in (0.0, 1.0):
        job = studio.job("ppo-exclusions", max_steps=4, lora={"rank": 4, "last_layers": 1, "kept_gb": kept_gb})
        state, message = studio.run(job)
        assert state is JobState.DONE, message
        learnt.append(weights(newest_checkpoint(job.checkpoints)))
    anew, kept = learnt
    assert all("layers.1." in name for name in anew) and any("gate_proj" in name for name in anew)
    assert all(anew[name].allclose(kept[name], atol=1e-5) for name in anew)


def test_provenance_says_what_a_checkpoint_came_from(studio: Studio) -> None:
    job = studio.job("sft", max_steps=2)
    studio.run(job)
    checkpoint = newest_checkpoint(job.checkpoints)
    assert checkpoint is not None
    provenance = read_provenance(checkpoint)
    assert (provenance.job_id, provenance.base_sha256, provenance.optimizer_step) == (job.job_id, "toy-hash", 2)
    assert set(provenance.data_sha256) == {"0-tasks.jsonl", "0-corrections.jsonl"}
    assert all(i.startswith("simulated-older") for i in provenance.correction_ids) and provenance.correction_ids
    write_card(studio.directory / "models", ModelCard(name="toy", directory="elsewhere", sha256="other"))
    with pytest.raises(CheckpointError, match="has changed since the training"):
        studio.registry.promote(str(checkpoint))


@pytest.mark.parametrize(("kind", "rollouts"), [("ppo", "auto"), ("ppo", "transformers"), ("grpo", "studio")])
def test_rollouts_are_scored_component_by_component(studio: Studio, kind: str, rollouts: str) -> None:
    job = studio.job(kind, max_steps=4, ppo={**SMALL_ROLLOUTS, "rollouts": rollouts})
    assert studio.run(job)[0] is JobState.DONE
    first = next(iter(job.metrics()))
    for name in ("exclusion", "ranking", "format", "tags", "length"):
        assert f"rewards/{name}/mean" in first
    assert first["answers/parsed"] == 0 and first["rewards/exclusion/mean"] == -1, "it writes noise, not answers"
    assert 0 < first["exclusion/random_floor"] < 1
    rollout = json.loads((job.directory / "rollouts.jsonl").read_text(encoding="utf-8").split("\n")[0])
    assert rollout["prompt"].endswith("<think>") and rollout["parts"]["outcome"] == "no_answer"
    assert len(list(job.rollouts())) == 4 * len({r["optimizer_step"] for r in job.rollouts()})
    assert isinstance(rollout["advantage"], float) and 1 <= rollout["num_tokens"] <= 6


def test_vllm_writes_rollouts_and_leaves_in_peace(tmp_path: Path, toy_model_dir: Path) -> None:
    """In a process of its own: what vLLM says while that ends must not make a failure of the job."""
    pytest.importorskip("vllm", reason="vllm is not installed (extra `vllm`)")
    from transformers import LlamaConfig, LlamaForCausalLM

    wide = shutil.copytree(toy_model_dir, tmp_path / "wide")  # vLLM has no heads of 12
    LlamaForCausalLM(LlamaConfig.from_pretrained(wide, head_dim=32)).save_pretrained(wide)
    studio = Studio(tmp_path, wide)
    job = studio.job("ppo", max_steps=8, ppo={**SMALL_ROLLOUTS, "rollouts": "vllm"}, max_prompt_tokens=500)
    assert studio.jobs.start(job).wait(timeout=400) == 0, job.log_path.read_text()
    assert studio.jobs.status(job).state is JobState.DONE
    off = [row[name] for row in job.metrics() if (name := "sampling/sampling_logp_difference/mean") in row]
    assert len(off) == 2 and max(off) < 0.1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ppo": {"rollout_size": 8, "rollouts": "vllm"}}, r"ppo\.rollouts: vllm: is not installed: install the extra"),
        ({"sharding": "zero2", "num_processes": 2}, r"sharding: zero2: DeepSpeed is not installed: install the extra"),
    ],
)
def test_what_is_not_installed_fails_in_words(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], words: str
) -> None:
    monkeypatch.setattr("trainer.learner.find_spec", lambda name: None)
    job = studio.job("ppo", max_steps=4, **changes).config()
    with pytest.raises(JobError, match=words):
        make_learner(job, studio.toy_dir, read_material(job), studio.directory / "out", [])


def test_what_was_held_out_is_ranked_before_and_after(studio: Studio) -> None:
    dump_tasks(TASKS[:3], studio.directory / "others.jsonl")
    job = studio.job("titles", max_steps=8, compared=4)
    job = studio.jobs.clone(job, {"data": {"evaluation": [str(studio.directory / "others.jsonl")]}})
    state, message = studio.run(job)
    assert state is JobState.DONE and "held-out corrections (agreement, n=4, random 0.500)" in message
    comparison = job.comparison()
    assert comparison is not None
    assert [(s["name"], s["metric"], s["num_tasks"]) for s in comparison["sets"]] == [
        ("held-out corrections", "agreement", 4), ("held-out labels", "mrr", 4), ("others", "mrr", 3),
    ]  # fmt: skip
    first = comparison["sets"][0]
    gains = [task["after"] - task["before"] for task in first["tasks"]]
    assert first["after_minus_before"]["difference"] == pytest.approx(sum(gains) / 4)
    assert sorted(first["tasks"][0]["ranking_before"]) == sorted(first["tasks"][0]["ranking_after"])
    assert comparison["sets"][1]["floor"] == pytest.approx(25 / 48), "a random order of four has H_4 / 4"


def test_a_job_that_is_stopped_while_it_ranks_measures_again(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    job = studio.job("titles", max_steps=2, compared=3)
    monkeypatch.setattr("trainer.run.make_held_out_examples", lambda *_: job.stop_path.touch() or [])
    monkeypatch.setattr("trainer.callbacks.JobCallback._wants_to_stop", lambda *_: False)
    state, message = studio.run(job)
    assert state is JobState.STOPPED and "checkpoint-2 is saved; stopped while it ranked" in message
    monkeypatch.undo()
    job.stop_path.unlink()
    assert studio.run(job)[0] is JobState.DONE
    assert job.comparison() is not None and len(list(job.metrics())) == 2


def test_preferences_are_learnt_from_pairs(studio: Studio) -> None:
    job = studio.job("dpo", max_steps=6)
    assert studio.run(job)[0] is JobState.DONE
    rows = list(job.metrics())
    assert rows[0]["loss"] == pytest.approx(0.6931, abs=1e-3), "before the first update both are as likely as ever"
    assert rows[-1]["rewards/margins"] > rows[0]["rewards/margins"]


def test_a_reward_by_lot_has_nothing_to_do_with_the_answer(studio: Studio) -> None:
    job = studio.job("grpo", max_steps=2, placebo="random-reward")
    studio.run(job)
    parts = [rollout["parts"] for rollout in job.rollouts()]
    assert {p["exclusion"] for p in parts} == {1.0, -1.0}, "it writes noise, and some of it wins"
    assert all(p["total"] == pytest.approx(p["exclusion"] + p["format"] + p["tags"] + p["length"]) for p in parts)


@pytest.mark.parametrize("kind", ["titles", "ppo", "ppo-exclusions", "dpo"])
def test_stopped_and_resumed_is_the_run_that_was_not_stopped(
    studio: Studio, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = studio.job(kind, max_steps=6), studio.job(kind, max_steps=6)
    studio.run(whole)
    stop_after(parts, 3, monkeypatch)
    assert studio.run(parts) == (JobState.STOPPED, "stopped; checkpoint-3 is saved")
    parts.stop_path.unlink()
    monkeypatch.undo()
    assert studio.run(parts)[0] is JobState.DONE
    assert [r["loss"] for r in parts.metrics()] == [r["loss"] for r in whole.metrics()]
    left, right = weights(newest_checkpoint(parts.checkpoints)), weights(newest_checkpoint(whole.checkpoints))
    assert all(torch.equal(left[name], right[name]) for name in left)


def stop_after(job: Job, optimizer_step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody presses stop while this step is on its way."""
    from trainer.callbacks import JobCallback

    def press(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == optimizer_step - 1:
            job.stop_path.touch()

    monkeypatch.setattr(JobCallback, "on_step_begin", press)


def test_nan_ends_the_job_and_the_last_checkpoint_stays(studio: Studio) -> None:
    job = studio.job("titles", max_steps=20, save_every=1, optimizer={
        "max_steps": 20, "learning_rate": 1.0, "batch_size": 4, "warmup_steps": 0, "max_grad_norm": 1e30,
    }, titles={"scale": 100, "loss": "right"}, precision="fp32")  # fmt: skip
    poison(studio, job)
    with pytest.raises(NotFiniteError, match="optimizer step 1"):
        studio.run(job)


def poison(studio: Studio, job: Job) -> None:
    """A base model with a weight that is not a number."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = Path(studio.registry.card("toy").directory)
    model = AutoModelForCausalLM.from_pretrained(source)
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    target = studio.directory / "poisoned"
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(source).save_pretrained(target)
    write_card(studio.directory / "models", ModelCard(name="toy", directory=str(target)))


def test_a_full_disk_leaves_the_last_checkpoint_and_is_resumed(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third write of a checkpoint finds no room: what was saved stays, and the resumed run is the undisturbed one."""
    whole, parts = (studio.job("titles", max_steps=6, save_every=2) for _ in range(2))
    studio.run(whole)
    real, written = os.fsync, []

    def full(descriptor: int) -> None:
        name = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        written.append(name)
        if "checkpoint-4" in name:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        studio.run(parts)
    monkeypatch.undo()
    assert explain_failure(caught.value).startswith("the disk is full")
    assert newest_checkpoint(parts.checkpoints) == parts.checkpoints / "checkpoint-2"
    assert studio.run(parts)[0] is JobState.DONE
    left, right = weights(newest_checkpoint(parts.checkpoints)), weights(newest_checkpoint(whole.checkpoints))
    assert all(torch.equal(left[name], right[name]) for name in left)
