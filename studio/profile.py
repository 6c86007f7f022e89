"""What a dataset is like, from a bounded look at its tasks: sizes of the pools, and how many tasks know what is relevant."""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ranker.schema import RankingTask

MAX_TASKS = 2000


class TaskProfile(NamedTuple):
    """Counts over the first tasks of a dataset."""

    num_tasks: int
    """Tasks that were looked at."""
    pool_sizes: Mapping[int, int]
    """Number of candidates -> tasks that have as many, by size."""
    num_with_relevance: int
    """Tasks with at least one relevant candidate."""
    num_with_history: int


def profile_tasks(tasks: Iterable[RankingTask], *, max_tasks: int = MAX_TASKS) -> TaskProfile:
    """Look at the first `max_tasks` tasks, so that a dataset of any length is described at once."""
    sizes: Counter[int] = Counter()
    relevance = history = 0
    for task in itertools.islice(tasks, max_tasks):
        sizes[len(task.candidates)] += 1
        relevance += bool(task.relevant_ids)
        history += bool(task.history)
    return TaskProfile(sizes.total(), dict(sorted(sizes.items())), relevance, history)
