"""A mistake in a job's file is found before anything starts, and said in one line with its place and the way out."""

from pathlib import Path

import pytest

from ranker.errors import UsageError
from trainer.config import dump_config, make_config, read_config

MISTAKES = [
    ("kind: titels\ndata: {tasks: [a]}", "kind: 'titels': "),
    ("data: {tasks: [a]}", "kind: missing: add it"),
    ("kind: sft", "data: missing: add it"),
    ("kind: sft\ndata: {tasks: []}", "data.tasks: "),
    ("kind: sft\ndata: {tasks: [a]}\noptimiser: {}", "optimiser: '{}': no such field"),
    ("kind: sft\ndata: {tasks: [a]}\noptimizer: {learning_rate: 5}", "optimizer.learning_rate: '5': input should be"),
    ("kind: ppo\ndata: {tasks: [a]}\nppo: {rollout_size: 6}", "ppo.rollout_size: 6: make it a multiple"),
    ("kind: grpo\ndata: {tasks: [a]}\noptimizer: {batch_size: 2}", "optimizer.batch_size: 2: make it a multiple"),
    ("kind: [", ":1: "),
    ("- a\n- b", "write fields"),
    ("kind: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
    (
        "kind: sft\ndata: {tasks: [a]}\nsharding: zero2",
        "sharding: zero2: there is nothing to divide among one process: raise num_processes",
    ),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_mistakes(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_config(path)
    assert str(caught.value).startswith(str(path)) and message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_config(tmp_path / "no.yaml")


def test_the_preset_of_the_paper_yields_to_the_file() -> None:
    config = make_config(
        {"kind": "ppo", "preset": "paper", "data": {"tasks": ["a"]}, "optimizer": {"max_steps": 7}, "ppo": {"lam": 0.9}}
    )
    assert (config.optimizer.learning_rate, config.ppo.value_learning_rate, config.ppo.kl_coef) == (1e-6, 2e-6, 1e-3)
    assert (config.ppo.value_clip, config.ppo.gamma, config.ppo.epochs, config.optimizer.batch_size) == (0.5, 1, 1, 8)
    assert (config.optimizer.max_steps, config.ppo.lam) == (7, 0.9)
    assert config.lora is None and config.reward == "paper"


def test_paths_are_relative_to_the_file_and_names_stay(tmp_path: Path) -> None:
    (tmp_path / "films.jsonl").write_text("", encoding="utf-8")
    path = tmp_path / "job.yaml"
    path.write_text("kind: titles\ndata: {tasks: [films.jsonl, samples]}", encoding="utf-8")
    assert read_config(path).data.tasks == (str(tmp_path / "films.jsonl"), "samples")


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    config = make_config({"kind": "ppo", "data": {"tasks": ["a"]}, "lora": {"rank": 4}, "titles": {"loss": "right"}})
    path = tmp_path / "config.json"
    path.write_text(dump_config(config), encoding="utf-8")
    assert read_config(path) == config
