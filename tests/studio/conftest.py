"""A studio in an empty directory, with scripted models: `fast` answers at once, `slow` a word every 10 ms."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ranker.schema import (
    Candidate,
    Domain,
    EliminationStep,
    Mode,
    Outcome,
    RankingTask,
    RankingTrace,
    Totals,
    make_ranking,
)
from studio.app import open_context
from studio.context import Context
from studio.settings import Settings
from studio.store import Store, StoredTrace
from trainer.modelcards import ModelCard, write_card


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_settings(tmp_path)


def make_settings(directory: Path) -> Settings:
    data_dir, assets_dir = directory / "data", directory / "assets"
    assets_dir.mkdir()
    for name, delay_s in (("fast", 0.0), ("slow", 0.01)):
        write_card(data_dir / "models", ModelCard(name=name, engine="scripted", options={"delay_s": delay_s}))
    return Settings(data_dir=data_dir, port=0, model="fast", open_browser=False, assets_dir=assets_dir)


@pytest.fixture(scope="module")
def module_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The same for a server that all tests of a module share."""
    return make_settings(tmp_path_factory.mktemp("module"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "studio.db")
    yield opened
    opened.close()


@pytest.fixture
def context(settings: Settings) -> Iterator[Context]:
    opened = open_context(settings)
    yield opened
    opened.close()


@pytest.fixture
def make_task() -> Callable[..., RankingTask]:
    def make(task_id: str = "t1", num_candidates: int = 5, query: str = "a rover on mars") -> RankingTask:
        candidates = tuple(Candidate(candidate_id=f"c{i}", text=f"thing number {i}") for i in range(num_candidates))
        return RankingTask(
            task_id=task_id, domain=Domain.OTHER, query=query, candidates=candidates, relevance={"c1": 1.0}
        )

    return make


@pytest.fixture
def add_trace() -> Callable[..., str]:
    """Store a finished trace that ranks a task as told. Returns its trace_id."""

    def add(store: Store, dataset_id: int, task: RankingTask, ranking: tuple[str, ...], *, model: str = "m") -> str:
        trace_id = f"{task.task_id}-{model}"
        store.traces.create(trace_id, dataset_id, task.task_id, model=model, mode=Mode.ITERATIVE, seed=0, config={})
        pools = [ranking[: len(ranking) - index] for index in range(len(ranking) - 1)]
        steps = [
            EliminationStep(step_index=i, pool=pool, excluded_id=pool[-1], reasoning="so", outcome=Outcome.PARSED)
            for i, pool in enumerate(pools)
        ]
        for step in steps:
            store.traces.add_step(trace_id, step)
        trace = RankingTrace(
            task_id=task.task_id, model=model, mode=Mode.ITERATIVE, prompt_version="p-1", ranking=make_ranking(steps),
            steps=tuple(steps), totals=Totals.of(steps),
        )  # fmt: skip
        store.traces.finish(trace_id, trace)
        return trace_id

    return add


@pytest.fixture
def wait_for_end(context: Context) -> Callable[[str], StoredTrace]:
    def wait(trace_id: str) -> StoredTrace:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            stored = context.store.traces.get(trace_id)
            if not stored.state.is_live and context.hub.snapshot(trace_id) is None:
                return stored
            time.sleep(0.005)
        raise AssertionError(f"{trace_id} did not end within 10 s: {context.rankings.snapshot(trace_id)}")

    return wait
