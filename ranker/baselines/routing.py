"""Baselines for routing: one model for all, or the models that did best on similar questions of the training side."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

import numpy as np

from ranker.baselines.base import Training
from ranker.baselines.words import WordIndex
from ranker.schema import Domain, RankingTask

ROUTING: Final = frozenset({Domain.ROUTING})
NUM_NEIGHBOURS: Final = 20


class Majority:
    """The model that is best most often on the training side, then the second, and so on."""

    name: ClassVar = "majority"
    domains: ClassVar = ROUTING
    needs_training: ClassVar = True

    def __init__(self) -> None:
        self._mean: Mapping[str, float] = {}

    def fit(self, training: Training, unlabelled: Sequence[RankingTask]) -> None:
        self._mean = mean_relevance(training.tasks)

    def score(self, task: RankingTask) -> list[float]:
        return [self._mean.get(c.candidate_id, 0.0) for c in task.candidates]


class KNNRouter:
    """Mean relevance on the 20 training questions with the most similar words (BM25)."""

    name: ClassVar = "knn-router"
    domains: ClassVar = ROUTING
    needs_training: ClassVar = True

    def fit(self, training: Training, unlabelled: Sequence[RankingTask]) -> None:
        self._training = training.tasks
        self._mean = mean_relevance(training.tasks)
        self._index = WordIndex([t.query for t in training.tasks])

    def score(self, task: RankingTask) -> list[float]:
        nearest = np.argsort(-self._index.scores(task.query), kind="stable")[:NUM_NEIGHBOURS]
        return vote([self._training[i] for i in nearest], task, self._mean)


class Cheapest:
    """The models in order of their mean cost on the training side, the cheapest first."""

    name: ClassVar = "cheapest"
    domains: ClassVar = ROUTING
    needs_training: ClassVar = True
    sign: ClassVar = -1.0

    def __init__(self) -> None:
        self._cost: Mapping[str, float] = {}

    def fit(self, training: Training, unlabelled: Sequence[RankingTask]) -> None:
        costs: defaultdict[str, list[float]] = defaultdict(list)
        for task in training.tasks:
            for candidate in task.candidates:
                cost = candidate.metadata.get("cost")
                if isinstance(cost, int | float):
                    costs[candidate.candidate_id].append(float(cost))
        self._cost = {name: sum(c) / len(c) for name, c in costs.items()}

    def score(self, task: RankingTask) -> list[float]:
        return [self.sign * self._cost.get(c.candidate_id, 0.0) for c in task.candidates]


class Dearest(Cheapest):
    """The models in order of their mean cost on the training side, the dearest first."""

    name: ClassVar = "dearest"
    sign: ClassVar = 1.0


def mean_relevance(tasks: Sequence[RankingTask]) -> dict[str, float]:
    """Candidate id -> its mean relevance over the tasks that have it."""
    gains: defaultdict[str, list[float]] = defaultdict(list)
    for task in tasks:
        for candidate_id in task.candidate_ids:
            gains[candidate_id].append(task.relevance.get(candidate_id, 0.0))
    return {name: sum(g) / len(g) for name, g in gains.items()}


def vote(neighbours: Sequence[RankingTask], task: RankingTask, prior: Mapping[str, float]) -> list[float]:
    """Mean relevance among neighbours; a thousandth of the prior decides between equals."""
    mean = mean_relevance(neighbours)
    return [mean.get(i, 0.0) + 0.001 * prior.get(i, 0.0) for i in task.candidate_ids]
