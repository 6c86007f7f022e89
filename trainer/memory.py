"""How much memory a job will need, before it takes it. An estimate from shapes, checked against measurements. Ours.

weights       parameters x bytes each
trained       parameters x (4 weight + 4 gradient + 8 Adam), float32; gradient and Adam divided where they are sharded
activations   tokens x trained layers x 34 x hidden x bytes / 2, kept for the backward pass (Korthikanti et al. 2022), and a token and layer
              36 x hidden more where adapters read every input in float32, else 16 x hidden where a model in bfloat16 has its norms in
              float32 (ours; a GPU with 96 pools of 406 tokens held 42 GB)
attention     trained layers x heads x row length squared x rows x bytes x 2: with a mask, scores and weights are kept; on a GPU
              the mask alone, once for all heads
logits        rows of the vocabulary that are there at once x vocabulary x 4 bytes x 3 (logits, log-softmax, gradient)
trunk         what leaves the layers below those that are trained, as far as it is kept (`trainer.trunk`)
rollout       a copy of the weights to write with, and keys and values of what is written: before the backward pass, so the larger
              of this and the three above counts
process       interpreter and libraries
"""

from typing import Final, NamedTuple

from ranker.errors import JobError

PROCESS_BYTES = 700_000_000
STATES_AT_ONCE: Final = 512
"""Whose logits are there at once where the vocabulary matrix is not trained (`trainer.scoring`)."""
_GB = 1e9


class ModelShape(NamedTuple):
    """What the estimate needs to know of a model."""

    num_parameters: int
    num_trained: int
    num_layers: int
    num_heads: int
    hidden_size: int
    vocabulary: int
    kv_size: int
    """Features of a token's keys in one layer; its values have as many."""
    num_backward_layers: int
    """Layers that a backward pass goes through: the last that are trained."""


class MemoryEstimate(NamedTuple):
    """Bytes."""

    weights: int
    trained: int
    activations: int
    attention: int
    logits: int
    rollout: int
    trunk: int
    process: int

    @property
    def total(self) -> int:
        """The peak."""
        backward = self.activations + self.attention + self.logits
        return self.weights + self.trained + max(backward, self.rollout) + self.trunk + self.process


def estimate_memory(
    shape: ModelShape,
    *,
    num_rows: int,
    row_tokens: int,
    logit_rows: int,
    bytes_per_weight: int,
    rollout_rows: int = 0,
    trunk_bytes: int = 0,
    num_scored_copies: int = 1,
    num_shards: int = 1,
    is_checkpointed: bool = False,
    copies_inputs: bool = True,
    is_on_gpu: bool = False,
) -> MemoryEstimate:
    """The peak of one optimizer step.

    Args:
        num_rows: rows of one forward pass.
        row_tokens: tokens of the longest row, padding included.
        logit_rows: positions whose next token is predicted, as many as are there at once.
        bytes_per_weight: 2 for bf16, 4 for fp32.
        rollout_rows: completions that are written at once, prompts included no longer than `row_tokens`; 0 = nothing is written.
        trunk_bytes: of what is kept.
        num_scored_copies: weights held at once (2 where a whole reference model stands beside the policy).
        num_shards: processes that divide gradients and Adam's state.
        is_checkpointed: activations are computed again in the backward pass.
        copies_inputs: an adapter's layers read copies in float32 (else see `trainer.loading.keep_inputs`).
        is_on_gpu: attention there keeps no scores.
    """
    has_adapter = shape.num_trained < shape.num_parameters
    in_float32 = 36 if copies_inputs and has_adapter else 16 if bytes_per_weight == 2 else 0
    per_layer = shape.hidden_size * (34 * bytes_per_weight / 2 + in_float32)
    kept_scores = 1 if is_on_gpu else 2 * shape.num_heads
    layers = min(2, shape.num_backward_layers) if is_checkpointed else shape.num_backward_layers
    rows_bytes = rollout_rows * row_tokens * shape.num_layers * 2 * shape.kv_size * bytes_per_weight
    return MemoryEstimate(
        weights=shape.num_parameters * bytes_per_weight * num_scored_copies,
        trained=shape.num_trained * (4 + 12 // num_shards),
        activations=int(num_rows * row_tokens * layers * per_layer),
        attention=layers * kept_scores * num_rows * row_tokens**2 * bytes_per_weight,
        logits=logit_rows * shape.vocabulary * 12,
        rollout=shape.num_parameters * bytes_per_weight + rows_bytes if rollout_rows else 0,
        trunk=trunk_bytes,
        process=PROCESS_BYTES,
    )


def check_memory(
    estimate: MemoryEstimate, available_bytes: int, *, where: str, is_ignored: bool, num_sharing: int = 1
) -> str:
    """Say what is needed and what is there.

    Args:
        num_sharing: processes that need as much of the same memory.

    Raises:
        JobError: if it does not fit, unless that is to be ignored.
    """
    needed = num_sharing * estimate.total
    needs = f"needs about {needed / _GB:.1f} GB; {where} has {available_bytes / _GB:.1f} GB free"
    if needed > available_bytes and not is_ignored:
        raise JobError(
            f"memory: {needs}: lower optimizer.batch_size or max_prompt_tokens, choose a smaller model, or set "
            "ignore_memory: true"
        )
    return needs
