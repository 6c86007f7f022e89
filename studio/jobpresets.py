"""Starting points for training jobs: what a person chooses first and then edits. Knows settings, not data."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from ranker.errors import UsageError


class JobPreset(NamedTuple):
    """A name, what it is good for, and the settings that differ from the defaults of `trainer.config`."""

    label: str
    words: str
    settings: Mapping[str, Any]


PRESETS: Final[Mapping[str, JobPreset]] = {
    "titles": JobPreset(
        "Fold corrections in (title likelihood)",
        "Learns from every pair that somebody told apart, by the scores of the candidates’ titles. Minutes on a CPU.",
        {
            "kind": "titles",
            "examples": {"num_examples": 160, "small_pools": 0.5, "hard_share": 0.0, "correction_share": 0.8},
            "optimizer": {"max_steps": 40, "batch_size": 4, "learning_rate": 3e-4},
        },
    ),
    "ppo-exclusions": JobPreset(
        "PPO over exclusions",
        "The exclusion reward, without writing: eliminations are drawn candidate by candidate, and rewarded. Minutes on a CPU.",
        {
            "kind": "ppo-exclusions",
            "examples": {"num_examples": 400, "small_pools": 0.0, "hard_share": 0.0, "correction_share": 0.8},
            "ppo": {"rollout_size": 16, "group_size": 16, "epochs": 2},
            "optimizer": {"max_steps": 100, "batch_size": 8, "learning_rate": 3e-4},
        },
    ),
    "sft": JobPreset(
        "Warm start (imitate reasons)",
        "Teaches a small model the format and to reason about real features. Do this before PPO or DPO.",
        {
            "kind": "sft",
            "examples": {"num_examples": 160, "max_pool": 6},
            "optimizer": {"max_steps": 40, "batch_size": 4, "learning_rate": 5e-4},
        },
    ),
    "ppo": JobPreset(
        "PPO with the exclusion reward",
        "The paper’s way: thinks, answers, is rewarded for what it excludes. Start it from a warm start; slow on a CPU.",
        {
            "kind": "ppo",
            "examples": {"num_examples": 400, "max_pool": 6},
            "ppo": {"rollout_size": 16, "epochs": 2, "max_completion_tokens": 48},
            "optimizer": {"max_steps": 80, "batch_size": 4, "learning_rate": 1e-4},
        },
    ),
    "grpo": JobPreset(
        "GRPO, to compare with",
        "TRL’s own: no critic, groups of completions of one prompt.",
        {
            "kind": "grpo",
            "examples": {"num_examples": 400, "max_pool": 6},
            "ppo": {"rollout_size": 16, "epochs": 2, "max_completion_tokens": 48, "group_size": 4},
            "optimizer": {"max_steps": 80, "batch_size": 4, "learning_rate": 1e-4},
        },
    ),
    "dpo": JobPreset(
        "DPO from pairs, to compare with",
        "The better exclusion against the worse one, each with a reason. No rollouts.",
        {
            "kind": "dpo",
            "examples": {"num_examples": 160, "max_pool": 6, "correction_share": 0.8},
            "optimizer": {"max_steps": 40, "batch_size": 2, "accumulation": 2, "learning_rate": 1e-4},
        },
    ),
    "paper": JobPreset(
        "The paper’s PPO",
        "All weights, 1,024 tokens a completion, 1,501 steps, the paper’s rates. Needs a GPU or two.",
        {"kind": "ppo", "preset": "paper"},
    ),
}


def find_preset(name: str) -> JobPreset:
    """Raises UsageError if there is none of that name."""
    if name not in PRESETS:
        raise UsageError(f"job: preset: {name[:40]!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]
