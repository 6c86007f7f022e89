"""Log-probabilities of titles with gradients: the training side of `Backend.score`, equal to it (tested).

Only the rows of the vocabulary matrix that predict a title's tokens are computed. Imports torch: load it only where something is
trained.
"""

from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from trainer.loading import products_in_bf16
from trainer.memory import STATES_AT_ONCE
from trainer.packing import PackedTitles, tree_mask
from trainer.trunk import Trunk


def score_titles(model: Any, packed: PackedTitles, trunk: Trunk | None = None) -> torch.Tensor:
    """Score of excluding each candidate of the batch: (N,), float32, with gradients.

    The rule is that of `ranker.asking`: its softmax over a pool is the probability of each exclusion.
    """
    return read_titles(model, packed, trunk)[0]


def read_titles(model: Any, packed: PackedTitles, trunk: Trunk | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """`score_titles`, and for each candidate (N, E) the mean hidden state, float32 and without gradients, that its tokens follow.

    Args:
        trunk: what leaves the first layers is taken from there instead of being computed.
    """
    inputs = {"input_ids": packed.input_ids} if trunk is None else {"inputs_embeds": trunk.read(model, packed)}
    with trunk.cut_off(model) if trunk else nullcontext(), products_in_bf16(model):
        states = model(
            **inputs,
            position_ids=packed.position_ids,
            attention_mask=tree_mask(packed.prompts, packed.titles),
            logits_to_keep=1,
            output_hidden_states=True,
            use_cache=False,
        ).hidden_states[-1]  # (R, L, E), behind the last norm
    before = states.flatten(0, 1)  # (R * L, E)
    head = getattr(model, "module", model).get_output_embeddings()
    log_probs = log_probs_of(head, before, packed.sources, packed.targets)  # (T,)
    totals = log_probs.new_zeros(len(packed.weights)).index_add(0, packed.owners, log_probs)
    sums = before.new_zeros(len(packed.weights), before.shape[1], dtype=torch.float32)
    sums = sums.index_add(0, packed.owners, before.detach()[packed.sources].float())
    means = sums / packed.owners.bincount(minlength=len(packed.weights))[:, None]
    return totals * packed.weights, means


def log_probs_of(head: nn.Module, states: torch.Tensor, sources: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Log-probabilities (T,) of tokens, float32.

    Args:
        head: from states to logits.
        states: (M, E).
        sources: (T,): the state that predicts each token. Titles behind one prompt begin at one state, which is computed once.
        targets: (T,): the tokens.
    """
    used, which = sources.unique(return_inverse=True)
    is_plain = type(head) is nn.Linear and head.bias is None and not head.weight.requires_grad
    if is_plain:
        found: torch.Tensor = _FrozenHead.apply(states[used], head.weight, which, targets)
        return found
    return head(states[used]).float().log_softmax(-1)[which, targets]


class _FrozenHead(torch.autograd.Function):  # type: ignore[misc]
    """Log-probabilities behind a vocabulary matrix that is not trained.

    d log p(token) / d state = W[token] - softmax(W state) W is known as soon as the logits are, so that it is computed in the forward pass, a few
    states at a time: neither logits nor probabilities of a batch are ever there at once, which is most of the memory and much of
    the time of a small model with a large vocabulary. The idea of cut cross-entropy (Wijmans et al. 2024); for log-probabilities, whose weights
    in a loss are not known yet, ours.
    """

    @staticmethod
    def forward(
        ctx: Any, states: torch.Tensor, weight: torch.Tensor, which: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        """states (U, E), weight (V, E), which and targets (T,): log-probabilities (T,)."""
        wants_gradient = ctx.needs_input_grad[0]
        expected = torch.empty_like(states) if wants_gradient else None  # (U, E): softmax(W state) W
        log_probs = states.new_empty(len(targets), dtype=torch.float32)
        logits = states.new_empty(min(STATES_AT_ONCE, len(states)), len(weight))
        for start in range(0, len(states), STATES_AT_ONCE):
            stop = start + STATES_AT_ONCE
            some = states[start:stop]
            scores = torch.mm(some, weight.T, out=logits[: len(some)]).float()  # on a CPU in float32: no copy
            scores -= scores.logsumexp(-1, keepdim=True)
            here = ((which >= start) & (which < stop)).nonzero()[:, 0]
            log_probs[here] = scores[which[here] - start, targets[here]]
            if expected is not None:
                torch.mm(scores.exp_().to(weight.dtype), weight, out=expected[start:stop])
        if expected is not None:
            ctx.save_for_backward(weight[targets] - expected[which], which)
            ctx.num_states = len(states)
        return log_probs

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        """gradient (T,)."""
        slopes, which = ctx.saved_tensors  # (T, E), (T,)
        summed = slopes.new_zeros(ctx.num_states, slopes.shape[1], dtype=torch.float32)
        summed = summed.index_add(0, which, gradient[:, None] * slopes.float())
        return summed.to(slopes.dtype), None, None, None
