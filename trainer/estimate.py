"""What a job will need, before it starts: memory, steps, tokens, time. Reads a model's config.json, loads nothing.

Memory is `trainer.memory`'s estimate on lengths that are guessed from characters (the job itself counts tokens and checks
again). Time is floating-point operations (2 a parameter and token for a forward pass, twice that again for a backward pass)
over the speed of this machine's cores, which small matrix products measure, and, where the model writes, one pass over the
weights for each token that is decoded. Where an earlier job of the same kind and model has run here, its own seconds a token are taken
instead. Rough by nature: within a factor of two. Ours.
"""

import json
import os
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from ranker.elimination import AnswerFormat
from ranker.prompts import render_likelihoods
from trainer.config import JobConfig
from trainer.examples import TrainingExample
from trainer.memory import STATES_AT_ONCE, MemoryEstimate, ModelShape, estimate_memory

CHARACTERS_A_TOKEN: Final = 3.6
THOUGHT_TOKENS: Final = 40
"""Of a rationale with its answer."""
EFFICIENCY: Final = 0.5
"""Share of a small matrix product's speed that training reaches (measured: titles, 135M, one core, float32)."""
BF16_GAIN: Final = 2.9
"""How much faster it is in bfloat16 where the cores multiply it (measured as above, AVX512-BF16)."""
DECODE_BYTES_PER_S: Final = 8e9
LAYER_OVERHEAD_S: Final = 4e-4
"""Of one layer and decoded token, whatever its size."""


class JobEstimate(NamedTuple):
    """What is known before the start."""

    memory: MemoryEstimate
    num_examples: int
    prompt_tokens: int
    """Of a typical example; `longest_tokens` of the longest that was looked at."""
    longest_tokens: int
    optimizer_steps: int
    seconds_per_step: float
    is_from_earlier_job: bool

    @property
    def seconds(self) -> float:
        """Of all optimizer steps."""
        return self.optimizer_steps * self.seconds_per_step


class Work(NamedTuple):
    """Tokens of one optimizer step, which time is roughly proportional to."""

    trained: float
    """Through a forward and a backward pass."""
    scored: float
    """Through a forward pass alone."""
    decode_steps: float
    """Sequential passes for one token of each row."""

    @property
    def weight(self) -> float:
        """In tokens of a forward pass."""
        return 3 * self.trained + self.scored + 20 * self.decode_steps


def read_shape(directory: Path, num_parameters: int, config: JobConfig) -> ModelShape:
    """Shape of the model in `directory`, and how much of it is trained."""
    raw: dict[str, Any] = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    raw = raw.get("text_config", raw)
    hidden, layers = int(raw["hidden_size"]), int(raw["num_hidden_layers"])
    heads = int(raw.get("num_attention_heads", max(1, hidden // 64)))
    head_size = int(raw.get("head_dim") or hidden // heads)
    inner = int(raw.get("intermediate_size", 4 * hidden))
    keys = int(raw.get("num_key_value_heads") or heads) * head_size
    sizes = {
        "q_proj": hidden + heads * head_size,
        "k_proj": hidden + keys,
        "v_proj": hidden + keys,
        "o_proj": heads * head_size + hidden,
        "gate_proj": hidden + inner,
        "up_proj": hidden + inner,
        "down_proj": inner + hidden,
    }
    if config.lora is None:
        num_trained = num_parameters
    else:
        wanted = sizes if config.lora.modules == "all-linear" else config.lora.modules.split(",")
        adapted = config.num_backward_layers(layers)
        num_trained = adapted * config.lora.rank * sum(sizes.get(name.strip(), 2 * hidden) for name in wanted)
    vocabulary = int(raw.get("vocab_size", 32_000))
    backward = config.num_backward_layers(layers)
    return ModelShape(num_parameters, num_trained, layers, heads, hidden, vocabulary, keys, backward)


def estimate_job(
    config: JobConfig,
    shape: ModelShape,
    examples: Sequence[TrainingExample],
    *,
    bytes_per_weight: int,
    is_on_gpu: bool = False,
    seconds_per_weight: float | None = None,
) -> JobEstimate:
    """What a job with these settings needs.

    Args:
        examples: a sample of what it will learn from, at least one.
        bytes_per_weight: 2 for bf16, 4 for fp32.
        is_on_gpu: where it will run.
        seconds_per_weight: of an earlier job (see `Work.weight`); None = measured by a matrix product.
    """
    lengths = [_count_tokens(example, config) for example in examples]
    typical, longest = sum(map(sum, lengths)) / len(lengths), max(map(sum, lengths))
    titles = max(title for _, title in lengths)
    batch = config.optimizer.batch_size
    rows = 2 * batch if config.kind == "dpo" else batch
    logits = batch * titles if config.is_over_titles or config.writes else rows * longest
    if config.is_over_titles and config.lora is not None:
        logits = min(logits, STATES_AT_ONCE)
    num_tokens = config.examples.num_examples * typical
    memory = estimate_memory(
        shape,
        num_rows=rows,
        row_tokens=longest,
        logit_rows=logits,
        bytes_per_weight=bytes_per_weight,
        rollout_rows=config.rollout_rows,
        trunk_bytes=config.trunk_bytes(shape.num_layers, num_tokens, shape.hidden_size * bytes_per_weight),
        num_scored_copies=2 if config.lora is None and config.has_reference else 1,
        num_shards=config.num_shards,
        is_checkpointed=config.gradient_checkpointing,
        copies_inputs=config.copies_inputs(bytes_per_weight),
        is_on_gpu=is_on_gpu,
    )
    work = work_of_step(config, typical, shape.num_backward_layers / shape.num_layers)
    if seconds_per_weight is None:
        num_threads = config.num_threads or (os.cpu_count() or 1) // config.num_processes or 1
        speed = EFFICIENCY * num_threads * core_speed() * (BF16_GAIN if bytes_per_weight == 2 else 1)
        seconds = 2 * shape.num_parameters * (3 * work.trained + work.scored) / speed
        one_pass = shape.num_parameters * bytes_per_weight / DECODE_BYTES_PER_S + LAYER_OVERHEAD_S * shape.num_layers
        seconds += work.decode_steps * one_pass
    else:
        seconds = work.weight * seconds_per_weight
    examples_a_step = batch * config.optimizer.accumulation * config.num_processes
    num_examples = min(config.examples.num_examples, config.optimizer.max_steps * examples_a_step)
    return JobEstimate(
        memory,
        num_examples,
        round(typical),
        longest,
        config.optimizer.max_steps,
        seconds,
        seconds_per_weight is not None,
    )


def work_of_step(config: JobConfig, typical_tokens: float, trained_share: float) -> Work:
    """The tokens of one optimizer step and process on examples of this length (prompt and completion).

    Args:
        trained_share: of the layers. A token that goes through the others once, or through these alone, counts by their share: where whole pools are
            scored, the others are computed once for a rollout (`trainer.trunk`; an example that comes again later costs less than this).
    """
    examples, below = config.optimizer.batch_size * config.optimizer.accumulation, 1 - trained_share
    tokens = examples * typical_tokens
    if not config.has_reward:
        copies = 2 if config.kind == "dpo" else 1
        reference = copies * tokens if config.kind == "dpo" else 0.0
        return Work(copies * tokens * trained_share, reference + copies * tokens * below, 0.0)
    own = config.ppo.rollout_size // config.num_processes
    steps = max(1, own * config.ppo.epochs // examples)
    rollout = own * typical_tokens / steps  # of one step
    if not config.writes:  # the policy's pass and the reference's
        return Work(tokens * trained_share, rollout * (2 * trained_share + below), 0.0)
    return Work(tokens * trained_share, 3 * rollout + tokens * below, config.ppo.max_completion_tokens / steps)


def typical_tokens(config: JobConfig, examples: Sequence[TrainingExample]) -> float:
    """Mean tokens of an example, prompt and completion, guessed from characters."""
    return sum(sum(_count_tokens(example, config)) for example in examples) / len(examples)


@cache
def core_speed() -> float:
    """Floating-point operations a second of one core, by matrices so small that no library shares them out (hundredths of a second)."""
    size, repeats = 64, 20
    left = np.ones((size, size), dtype=np.float32)
    fastest = float("inf")
    for _ in range(40):  # the fastest one: others may compute beside us just now
        started = time.perf_counter()
        for _ in range(repeats):
            left @ left
        fastest = min(fastest, time.perf_counter() - started)
    return 2 * repeats * size**3 / max(1e-7, fastest)


def _count_tokens(example: TrainingExample, config: JobConfig) -> tuple[int, int]:
    """(tokens of the prompt, tokens behind it), guessed from characters; prompts that are too long are left out later."""
    if config.answer_format is AnswerFormat.LIKELIHOOD:
        questions = render_likelihoods(example.task, example.candidates)
        prompts = sum(len(q.prompt.text) for q in questions)
        continuations = sum(len(text) for q in questions for text in q.continuations)
        return round(prompts / CHARACTERS_A_TOKEN), round(continuations / CHARACTERS_A_TOKEN)
    text = example.render(lambda system, user: f"{system}\n{user}").text
    prompt = min(config.max_prompt_tokens, round(len(text) / CHARACTERS_A_TOKEN) + 10)
    if config.is_over_titles:
        return prompt, round(sum(len(c.title) for c in example.candidates) / CHARACTERS_A_TOKEN) + len(example.pool)
    return prompt, config.ppo.max_completion_tokens if config.writes else THOUGHT_TOKENS
