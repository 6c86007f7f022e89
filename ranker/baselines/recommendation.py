"""Baselines for recommendation that need no library: popularity and item-kNN.

Items are counted by id (many records are called "Greatest Hits"); a history holds titles, so there an item is everything of
that title.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from math import sqrt
from typing import ClassVar, Final

from ranker.baselines.base import Training
from ranker.schema import Domain, RankingTask

RECOMMENDATION: Final = frozenset({Domain.RECOMMENDATION})


class Popularity:
    """How many users of the training side took the item."""

    name: ClassVar = "popularity"
    domains: ClassVar = RECOMMENDATION
    needs_training: ClassVar = True

    def fit(self, training: Training, unlabelled: Sequence[RankingTask]) -> None:
        self._count = Counter(item for sequence in training.sequences for item in set(sequence))

    def score(self, task: RankingTask) -> list[float]:
        return [float(self._count[i]) for i in task.candidate_ids]


class ItemKNN:
    """Sum of the cosine similarities (of user sets) between a candidate and what the user took.

    Source: Deshpande and Karypis 2004, without a cut to the nearest neighbours: the history is short.
    """

    name: ClassVar = "item-knn"
    domains: ClassVar = RECOMMENDATION
    needs_training: ClassVar = True

    def fit(self, training: Training, unlabelled: Sequence[RankingTask]) -> None:
        self._users: defaultdict[str, set[int]] = defaultdict(set)
        for user, sequence in enumerate(training.sequences):
            for item in sequence:
                self._users[item].add(user)
        self._items = items_by_title(training.titles)

    def score(self, task: RankingTask) -> list[float]:
        taken = [item for title in task.history for item in self._items.get(title, ())]
        return [sum(self._similarity(i, item) for item in taken) for i in task.candidate_ids]

    def _similarity(self, a: str, b: str) -> float:
        users_a, users_b = self._users.get(a), self._users.get(b)
        if not users_a or not users_b:
            return 0.0
        return len(users_a & users_b) / sqrt(len(users_a) * len(users_b))


def items_by_title(titles: Mapping[str, str]) -> dict[str, list[str]]:
    """Title -> ids of the items that are called so."""
    items: dict[str, list[str]] = {}
    for item, title in titles.items():
        items.setdefault(title, []).append(item)
    return items
