"""Before and after, on decisions that training never saw. Imports torch.

Agreement of one decision: the share of its known pairs that the scores of the pool's titles order rightly (ties count half).
A random policy has .5. Ours.
"""

import json
from collections.abc import Sequence
from typing import Any

import torch

from ranker.statistics import bootstrap_interval, compare
from trainer.checkpoints import write_whole
from trainer.encoding import Encoder
from trainer.examples import TrainingExample
from trainer.jobs import Job
from trainer.packing import pack_titles
from trainer.scoring import score_titles
from trainer.titles import known_pairs


def measure_agreement(model: Any, encoder: Encoder, examples: Sequence[TrainingExample]) -> list[float]:
    """Agreement on each example in which a pair is known, in order."""
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    values = []
    with torch.no_grad():
        for example in examples:
            pairs = known_pairs(example)
            if pairs:
                scores = score_titles(model, pack_titles([encoder.title_row(example)]).to(device))
                values.append(agreement_of(scores.tolist(), pairs))
    model.train(was_training)
    return values


def agreement_of(scores: Sequence[float], pairs: Sequence[tuple[int, int]]) -> float:
    """Share of (better, worse) pairs whose worse one has the higher score of being excluded."""
    return sum((scores[w] > scores[b]) + 0.5 * (scores[w] == scores[b]) for b, w in pairs) / len(pairs)


def measure_before(job: Job, model: Any, encoder: Encoder, examples: Sequence[TrainingExample]) -> list[float]:
    """The agreement before the first step; remembered, so that a resumed job compares with the same."""
    path = job.directory / "before.json"
    if path.exists():
        before: list[float] = json.loads(path.read_text(encoding="utf-8"))
        return before
    before = measure_agreement(model, encoder, examples)
    write_whole(path, json.dumps(before))
    return before


def compare_held_out(before: Sequence[float], after: Sequence[float]) -> dict[str, Any] | None:
    """Means with 95% intervals, and the paired difference; None if nothing could be measured."""
    if not before:
        return None
    return {
        "num_decisions": len(before),
        "before": bootstrap_interval(before)._asdict(),
        "after": bootstrap_interval(after)._asdict(),
        "after_minus_before": compare(after, before)._asdict(),
    }
