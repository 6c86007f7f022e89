"""The objective `titles`: learn to decide by the log-probabilities of the pool's titles, exactly as `scored` decisions and
those by `likelihood` are made.

Ours, not the paper's. A model of 135M learns to decide over candidate *texts* in minutes on a CPU, where it does not begin
to learn lettered labels (see our notes on models), and its untrained free-form answers are too seldom valid for a reward to
work on. A decision is then a draw from softmax(score of excluding each candidate): a bandit whose actions can all be
scored, so nothing has to be sampled and the gradient of the expected reward is exact. Losses, per decision:

    pairs    mean of softplus(-(s_worse - s_better)) over all pairs that are known, s = scaled score of *excluding*: the
             likelihood of Bradley and Terry 1952; every known pair of a partial order teaches, ties and open ones do not
    reward   minus the expected grade of the exclusion: what PPO climbs to with this action space, without sampling
             (`trainer.eliminations` samples)
    right    minus log of the probability of all right exclusions together

Where the model is asked for the best, `trainer.encoding` has turned the signs round. Departs from Schulman 2017 in everything
but the reward: no ratio, no clipping, no critic. `kl_weight` keeps the decisions about base data, which are replayed against
forgetting, near those of the policy that the job began with; what corrections say may change as far as it must.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal

import torch
from torch.nn import functional
from transformers import Trainer

from ranker.elimination import AnswerFormat
from trainer.checkpoints import AsideCheckpoints
from trainer.encoding import Encoder, TitleRow
from trainer.examples import TrainingExample
from trainer.logmeans import Notes
from trainer.packing import PackedTitles, pack_titles
from trainer.pools import Known, are_there, lay_out, mask
from trainer.reference import HasReference
from trainer.scoring import score_titles
from trainer.trunk import Trunk

Loss = Literal["pairs", "reward", "right"]
_AT_ONCE: Final = 2_048
"""Decisions whose prompts are tokenised together."""
DEFAULT_SCALES: Final = {AnswerFormat.SCORED: 4.0, AnswerFormat.LIKELIHOOD: 1.0}
"""Mean log-probabilities per token differ little; likelihoods, divided by less than their number of tokens, differ more."""


class TitleTrainer(HasReference, Notes, AsideCheckpoints, Trainer):  # type: ignore[misc]
    """transformers' Trainer (optimizer, accelerate, resume) with a loss over the titles of a pool."""

    def __init__(
        self, *args: Any, loss: Loss, scale: float, kl_weight: float, trunk: Trunk | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, data_collator=_collate, **kwargs)
        self._loss, self._scale, self._kl_weight, self._trunk = loss, scale, kl_weight, trunk
        if kl_weight > 0:
            self.remember_start()

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        batch: PackedTitles = inputs["batch"]
        return {"batch": batch.to(self.accelerator.device)}

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        batch: PackedTitles = inputs["batch"]
        sizes = batch.pool_sizes
        known = Known.of([row.example for row in batch.rows], batch.input_ids.device)
        scores = self._scale * score_titles(model, batch, self._trunk)  # (N,)
        laid = lay_out(scores, sizes, 0.0)  # (P, n)
        loss = title_losses(laid, known, self._loss).mean()
        if self._kl_weight > 0:
            divergence = self._divergence(model, batch, laid)
            self.note("kl", divergence)
            loss = loss + self._kl_weight * divergence
        self._note_accuracy(laid.detach(), known)
        return (loss, {"scores": scores}) if return_outputs else loss

    def _divergence(self, model: Any, batch: PackedTitles, scores: torch.Tensor) -> torch.Tensor:
        """Mean KL(policy || reference) over the decisions that are replayed, exact: the actions are few."""
        replayed = [k for k, row in enumerate(batch.rows) if row.example.source == "base"]
        if not replayed:
            return scores.sum() * 0
        packed = pack_titles([batch.rows[k] for k in replayed]).to(scores.device)
        with self.as_reference():
            reference = lay_out(self._scale * score_titles(model, packed, self._trunk), packed.pool_sizes, 0.0)
        are_meant = are_there(packed.pool_sizes).to(scores.device)
        own = scores[replayed][:, : reference.shape[1]]
        log_probs, start = (mask(x, are_meant).log_softmax(-1) for x in (own, reference))
        return (log_probs.exp() * (log_probs - start)).sum(-1).mean()

    def _note_accuracy(self, scores: torch.Tensor, known: Known) -> None:
        excluded = mask(scores, known.is_there).argmax(-1)
        grades = known.grades.gather(1, excluded[:, None])[:, 0]
        is_known, sizes = ~grades.isnan(), known.is_there.sum(1)
        self.note("exclusion_grade", grades[is_known])
        self.note("exclusion_floor", known.grades.nanmean(1)[is_known])
        for size in sizes[is_known].unique().tolist():
            self.note(f"exclusion_grade/pool_{size}", grades[is_known & (sizes == size)])


def title_losses(scores: torch.Tensor, known: Known, loss: Loss) -> torch.Tensor:
    """The losses (P,) of decisions from the scores (P, n) of excluding each of their pools; 0 where nothing comparable is known."""
    if loss == "pairs":
        pairs = known.better().float()
        terms = functional.softplus(scores[:, :, None] - scores[:, None]) * pairs
        return terms.sum((1, 2)) / pairs.sum((1, 2)).clamp(min=1)
    log_probs = mask(scores, known.is_there).log_softmax(-1)
    grades = known.grades.nan_to_num()
    if loss == "reward":
        return -(log_probs.exp() * grades).sum(-1)
    highest = grades.amax(-1, keepdim=True)
    are_right = known.is_there & (grades == highest) & (highest > 0)
    return torch.where(are_right.any(-1), -mask(log_probs, are_right).logsumexp(-1), 0.0)


def known_pairs(example: TrainingExample) -> list[tuple[int, int]]:
    """(position of the better, position of the worse) for every pair of the pool that is known."""
    pairs: list[list[int]] = Known.of([example]).better()[0].nonzero().tolist()
    return [(better, worse) for better, worse in pairs]


def encode_titles(encoder: Encoder, examples: Sequence[TrainingExample], max_tokens: int) -> list[dict[str, TitleRow]]:
    """The rows of a title data set; decisions that are longer than `max_tokens` are left out."""
    parts = (examples[k : k + _AT_ONCE] for k in range(0, len(examples), _AT_ONCE))
    rows = (row for part in parts for row in encoder.title_rows(part))
    return [{"row": r} for r in rows if r.num_tokens <= max_tokens]


def _collate(items: Sequence[dict[str, TitleRow]]) -> dict[str, PackedTitles]:
    return {"batch": pack_titles([item["row"] for item in items])}
