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
from trainer.orders import random_floor
from trainer.packing import PackedTitles, pack_titles
from trainer.reference import HasReference
from trainer.scoring import score_titles
from trainer.trunk import Trunk

Loss = Literal["pairs", "reward", "right"]
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
        examples = [row.example for row in batch.rows]
        scores = self._scale * score_titles(model, batch, self._trunk)  # (N,)
        # a few dozen numbers: what follows is hundreds of small steps, each of which a GPU would have to be told
        by_pool = scores.cpu().split(batch.pool_sizes)
        losses = [title_loss(s, e, self._loss) for s, e in zip(by_pool, examples, strict=True)]
        loss = torch.stack(losses).mean()
        if self._kl_weight > 0:
            divergence = self._divergence(model, batch, by_pool)
            self.note("kl", float(divergence.detach()))
            loss = loss + self._kl_weight * divergence
        loss = loss.to(scores.device)
        self._note_accuracy(by_pool, examples)
        return (loss, {"scores": scores}) if return_outputs else loss

    def _divergence(self, model: Any, batch: PackedTitles, by_pool: Sequence[torch.Tensor]) -> torch.Tensor:
        """Mean KL(policy || reference) over the decisions that are replayed, exact: the actions are few."""
        replayed = [k for k, row in enumerate(batch.rows) if row.example.source == "base"]
        if not replayed:
            return by_pool[0].sum() * 0
        packed = pack_titles([batch.rows[k] for k in replayed]).to(batch.input_ids.device)
        with self.as_reference():
            reference = (self._scale * score_titles(model, packed, self._trunk)).cpu().split(packed.pool_sizes)
        terms = [
            functional.kl_div(r.log_softmax(-1), by_pool[k].log_softmax(-1), log_target=True, reduction="sum")
            for k, r in zip(replayed, reference, strict=True)
        ]
        return torch.stack(terms).mean()

    def _note_accuracy(self, by_pool: Sequence[torch.Tensor], examples: Sequence[TrainingExample]) -> None:
        for scores, example in zip(by_pool, examples, strict=True):
            grade = example.grades[example.pool[int(scores.argmax())]]
            if grade is not None:
                self.note("exclusion_grade", grade)
                self.note(f"exclusion_grade/pool_{len(example.pool)}", grade)
                self.note("exclusion_floor", random_floor(example.grades))


def title_loss(scores: torch.Tensor, example: TrainingExample, loss: Loss) -> torch.Tensor:
    """The loss of one decision from the scores (n,) of excluding each of its pool; 0 where nothing comparable is known."""
    grades = [example.grades[i] for i in example.pool]
    if loss == "pairs":
        pairs = known_pairs(example)
        if not pairs:
            return scores.sum() * 0
        better, worse = (torch.tensor(x, device=scores.device) for x in zip(*pairs, strict=True))
        return functional.softplus(scores[better] - scores[worse]).mean()
    if loss == "reward":
        known = torch.tensor([g or 0.0 for g in grades], device=scores.device)
        return -(scores.softmax(-1) * known).sum()
    right = [k for k, i in enumerate(example.pool) if i in example.right_ids]
    if not right:
        return scores.sum() * 0
    return -scores.log_softmax(-1)[right].logsumexp(-1)


def known_pairs(example: TrainingExample) -> list[tuple[int, int]]:
    """(position of the better, position of the worse) for every pair of the pool that is known."""
    if example.tiers:
        level = {i: k for k, tier in enumerate(example.tiers) for i in tier}
        places = [(p, level[i]) for p, i in enumerate(example.pool) if i in level]
        return [(p, q) for p, a in places for q, b in places if a < b]
    graded = [(p, g) for p, i in enumerate(example.pool) if (g := example.grades[i]) is not None]
    return [(p, q) for p, a in graded for q, b in graded if a < b]


def encode_titles(encoder: Encoder, examples: Sequence[TrainingExample], max_tokens: int) -> list[dict[str, TitleRow]]:
    """The rows of a title data set; decisions that are longer than `max_tokens` are left out."""
    rows = [encoder.title_row(example) for example in examples]
    return [{"row": r} for r in rows if r.num_tokens <= max_tokens]


def _collate(items: Sequence[dict[str, TitleRow]]) -> dict[str, PackedTitles]:
    return {"batch": pack_titles([item["row"] for item in items])}
