"""The baseline that knows nothing: the order in which candidates happen to be shown."""

from collections.abc import Sequence
from typing import ClassVar

from ranker.baselines.base import Training
from ranker.baselines.words import ALL_DOMAINS
from ranker.schema import RankingTask


class RandomOrder:
    """All candidates tie; ties are broken by the seeded presentation order."""

    name: ClassVar = "random"
    domains: ClassVar = ALL_DOMAINS
    needs_training: ClassVar = False

    def fit(self, training: Training, unlabelled: Sequence[RankingTask]) -> None:
        """Nothing to learn."""

    def score(self, task: RankingTask) -> list[float]:
        return [0.0] * len(task.candidates)
