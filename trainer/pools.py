"""The pools of a batch side by side, so that grading, drawing and comparing them are a few operations however many they are. Ours.

A batch has P pools of at most n candidates. What is known of them, and their scores, are laid into (P, n): a GPU would otherwise have to be told
hundreds of small steps. Imports torch.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch

from trainer.examples import TrainingExample
from trainer.rewards import Normalisation


class Known(NamedTuple):
    """What is known of each pool. nan = open, or no candidate."""

    levels: torch.Tensor
    """(P, n): number of the tier, 0 = best; nan throughout where only exclusions from the whole pool were judged."""
    grades: torch.Tensor
    """(P, n): of excluding each from the whole pool."""
    has_order: torch.Tensor
    """(P,)"""
    is_there: torch.Tensor
    """(P, n)"""

    @classmethod
    def of(cls, examples: Sequence[TrainingExample], device: torch.device | str = "cpu") -> Self:
        """Lay out what is known of each example's pool."""
        nothing = float("nan")
        levels, grades = list[float](), list[float]()
        for example in examples:
            level = {i: float(k) for k, tier in enumerate(example.tiers) for i in tier}
            levels += [level.get(i, nothing) for i in example.pool]
            grades += [nothing if (g := example.grades[i]) is None else g for i in example.pool]
        sizes = [len(example.pool) for example in examples]
        made = cls(
            lay_out(torch.tensor(levels), sizes, nothing),
            lay_out(torch.tensor(grades), sizes, nothing),
            torch.tensor([bool(example.tiers) for example in examples]),
            are_there(sizes),
        )
        return cls(*(x.to(device) for x in made))

    def better(self) -> torch.Tensor:
        """(P, n, n): whether the first is known to be better than the second."""
        ranks = torch.where(self.has_order[:, None], self.levels, self.grades)
        return ranks[:, :, None] < ranks[:, None]  # nan is neither

    def grade_left(self, is_left: torch.Tensor) -> torch.Tensor:
        """Grade of excluding each of those who are left, as `trainer.orders.grade_exclusions`; nan = open or gone.

        Args:
            is_left: (P, M, n), of M moments of each pool.

        Returns:
            (P, M, n).
        """
        left, better = is_left.float(), (self.levels[:, :, None] < self.levels[:, None]).float()
        num_better, num_worse = left @ better, left @ better.mT
        followed = num_better / (num_better + num_worse)
        grades = torch.where(self.has_order[:, None, None], followed, self.grades[:, None])
        return torch.where(is_left, grades, float("nan"))


def are_there(sizes: Sequence[int]) -> torch.Tensor:
    """(P, n): which places of the pools, whose sizes are given, have a candidate."""
    return torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]


def lay_out(values: torch.Tensor, sizes: Sequence[int], fill: float) -> torch.Tensor:
    """Values (N,) of all candidates, pool after pool, as (P, n) with `fill` behind the end of each pool. Keeps gradients."""
    places = are_there(sizes).to(values.device)
    return values.new_full(places.shape, fill).masked_scatter(places, values)


def mask(scores: torch.Tensor, are_meant: torch.Tensor) -> torch.Tensor:
    """Scores that make the probability of all others 0, with finite gradients."""
    return scores.masked_fill(~are_meant, -1e9)


def draw_orders(scores: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Positions in the order in which softmax(scores) over who is left would exclude them, one after another.

    All at once: the order of scores with Gumbel noise is distributed so (Yellott 1977; it is that of Plackett and Luce).

    Args:
        scores: (P, n).
        noise: (P, K, n), uniform in [0, 1).

    Returns:
        (P, K, n).
    """
    exponential = -noise.clamp(min=1e-20).log()
    return (scores[:, None] - exponential.clamp(min=1e-20).log()).argsort(-1, descending=True)


def normalise_grades(grades: torch.Tensor, normalisation: Normalisation) -> torch.Tensor:
    """As `trainer.rewards.normalise`, over the last dimension, in which nan is no candidate."""
    if normalisation is Normalisation.NONE:
        return grades
    floor = grades.nanmean(-1, keepdim=True)
    spread = (grades - floor).square().nanmean(-1, keepdim=True).sqrt()
    scale = 1 - floor if normalisation is Normalisation.SKILL else spread
    return torch.where(scale > 0, (grades - floor) / scale, grades - 1)
