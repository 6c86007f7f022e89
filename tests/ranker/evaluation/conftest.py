"""Tasks whose relevant candidate a system can or cannot find."""

from collections.abc import Callable

import pytest

from ranker.schema import Candidate, Domain, RankingTask

MakeTask = Callable[..., RankingTask]


@pytest.fixture
def make_task() -> MakeTask:
    """A passage task: the relevant candidate repeats the query's word."""

    def make(number: int, num_candidates: int = 5) -> RankingTask:
        candidates = tuple(
            Candidate(
                candidate_id=f"c{i}", text=f"text about topic{number + i} and more", metadata={"source_rank": i + 1}
            )
            for i in range(num_candidates)
        )
        relevant = number % num_candidates
        return RankingTask(
            task_id=f"q{number}",
            domain=Domain.PASSAGE,
            query=f"what is topic{number + relevant}",
            candidates=candidates,
            relevance={f"c{relevant}": 1},
        )

    return make
