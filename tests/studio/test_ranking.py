"""Rankings in the background: the states, stop, resume, branch, many at once, errors, shutdown."""

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from ranker.elimination import RankConfig
from ranker.errors import BackendError, UsageError
from ranker.schema import Decider, Mode, RankingTask
from studio.app import open_context
from studio.context import Context
from studio.settings import Settings
from studio.store import StoredTrace, TraceState
from trainer.modelcards import ModelCard, write_card
from trainer.registry import Registry

Wait = Callable[[str], StoredTrace]
MakeTask = Callable[..., RankingTask]


def start(context: Context, task: RankingTask, model: str = "fast", **config: object) -> str:
    dataset_id, task_id = context.library.add_task(task)
    return context.rankings.start(dataset_id, task_id, model=model, config=RankConfig.model_validate(config))


def wait_for_steps(context: Context, trace_id: str, num_steps: int) -> None:
    deadline = time.monotonic() + 10
    while len(context.rankings.snapshot(trace_id)["steps"]) < num_steps:
        assert time.monotonic() < deadline, "no step within 10 s"
        time.sleep(0.002)


@pytest.mark.parametrize("mode", [Mode.ITERATIVE, Mode.DIRECT])
@pytest.mark.parametrize("answer_format", ["free", "scored"])
def test_a_ranking_is_a_permutation_and_is_stored_with_its_steps(
    context: Context, make_task: MakeTask, wait_for_end: Wait, mode: Mode, answer_format: str
) -> None:
    stored = wait_for_end(start(context, make_task(), mode=mode, answer_format=answer_format))
    assert stored.state is TraceState.FINISHED, stored.error
    assert sorted(stored.ranking or ()) == sorted(make_task().candidate_ids)
    assert (stored.model, stored.prompt_version != "") == ("fast", True)
    assert stored.rank_of_relevant == (stored.ranking or ()).index("c1") + 1
    assert stored.created_at <= (stored.started_at or "") <= (stored.finished_at or "")
    assert context.store.verify() == []


def test_stop_is_quick_keeps_finished_steps_and_resume_goes_on_behind_them(
    context: Context, make_task: MakeTask, wait_for_end: Wait
) -> None:
    whole = wait_for_end(start(context, make_task()))
    trace_id = start(context, make_task(), "slow")
    wait_for_steps(context, trace_id, 2)
    began = time.monotonic()
    context.rankings.stop(trace_id)
    assert time.monotonic() - began < 0.5
    stopped = context.store.traces.get(trace_id)
    assert (stopped.state, stopped.ranking) == (TraceState.STOPPED, None)
    assert 2 <= len(stopped.steps) < 4
    context.rankings.resume(trace_id)
    finished = wait_for_end(trace_id)
    assert finished.steps[: len(stopped.steps)] == stopped.steps
    assert finished.ranking == whole.ranking
    with pytest.raises(UsageError, match="finished: only one that ended early"):
        context.rankings.resume(trace_id)
    context.rankings.stop(trace_id)
    assert context.store.traces.get(trace_id).state is TraceState.FINISHED
    assert context.store.verify() == []


def test_a_branch_shares_the_steps_before_it_and_knows_its_parent(
    context: Context, make_task: MakeTask, wait_for_end: Wait
) -> None:
    parent = wait_for_end(start(context, make_task()))
    other = parent.steps[2].pool[0]
    child = wait_for_end(context.rankings.branch(parent.trace_id, 2, other))
    assert (child.parent_trace_id, child.branch_step_index) == (parent.trace_id, 2)
    assert child.steps[:2] == parent.steps[:2]
    assert (child.steps[2].excluded_id, child.steps[2].decided_by) == (other, Decider.PERSON)
    assert sorted(child.ranking or ()) == sorted(parent.ranking or ())
    assert context.store.traces.get(parent.trace_id) == parent
    assert context.store.verify() == []


@pytest.mark.parametrize(("step_index", "excluded_id"), [(9, "c1"), (-1, "c1"), (0, "nobody"), (2, None)])
def test_a_branch_must_start_at_a_step_and_exclude_one_of_its_pool(
    context: Context, make_task: MakeTask, wait_for_end: Wait, step_index: int, excluded_id: str | None
) -> None:
    parent = wait_for_end(start(context, make_task()))
    gone = parent.steps[0].excluded_id
    with pytest.raises(UsageError):
        context.rankings.branch(parent.trace_id, step_index, excluded_id or gone)
    assert context.store.traces.search().total == 1


def test_the_last_step_can_be_branched_too(context: Context, make_task: MakeTask, wait_for_end: Wait) -> None:
    parent = wait_for_end(start(context, make_task()))
    last = parent.steps[-1]
    (winner,) = set(last.pool) - {last.excluded_id}
    child = wait_for_end(context.rankings.branch(parent.trace_id, last.step_index, winner))
    assert child.ranking == (last.excluded_id, winner, *(parent.ranking or ())[2:])


def test_many_run_at_once_and_one_can_be_stopped(context: Context, make_task: MakeTask, wait_for_end: Wait) -> None:
    began = time.monotonic()
    trace_ids = [start(context, make_task(f"t{i}"), "slow") for i in range(8)]
    wait_for_steps(context, trace_ids[0], 1)
    assert context.hub.num_live() == 8
    context.rankings.stop(trace_ids[3])
    states = [wait_for_end(trace_id).state for trace_id in trace_ids]
    elapsed_s = time.monotonic() - began
    assert states == [TraceState.FINISHED] * 3 + [TraceState.STOPPED] + [TraceState.FINISHED] * 4
    one_s = context.store.traces.get(trace_ids[0]).totals.latency_s
    assert elapsed_s < 4 * one_s


def test_the_live_snapshot_has_the_partial_thought(context: Context, make_task: MakeTask) -> None:
    trace_id = start(context, make_task(), "slow", think_tokens=48)
    deadline = time.monotonic() + 5
    while not (current := context.rankings.snapshot(trace_id)["current"]) or len(current["reasoning"]) < 20:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    trace = context.rankings.snapshot(trace_id)
    assert trace["state"] == "running"
    assert current["reasoning"].startswith("There are 5")
    assert (trace["relevant"], trace["random_mrr"]) == (["c1"], pytest.approx(0.45666, abs=1e-4))
    assert [c["id"] for c in trace["candidates"]] == ["c0", "c1", "c2", "c3", "c4"]
    context.rankings.stop(trace_id)


def test_a_model_that_cannot_be_loaded_fails_the_ranking_in_one_line(
    context: Context, make_task: MakeTask, wait_for_end: Wait, settings: Settings
) -> None:
    write_card(settings.models_dir, ModelCard(name="hollow", engine="transformers"))
    stored = wait_for_end(start(context, make_task(), "hollow"))
    assert stored.state is TraceState.FAILED
    assert stored.error
    assert "\n" not in stored.error
    with pytest.raises(UsageError, match="no such model"):
        start(context, make_task(), "unknown")
    assert wait_for_end(start(context, make_task())).state is TraceState.FINISHED


def test_a_failed_ranking_can_be_resumed(
    context: Context, make_task: MakeTask, wait_for_end: Wait, settings: Settings
) -> None:
    write_card(settings.models_dir, ModelCard(name="late", engine="transformers"))
    trace_id = start(context, make_task(), "late")
    assert wait_for_end(trace_id).state is TraceState.FAILED
    write_card(settings.models_dir, ModelCard(name="late", engine="scripted"))
    context.rankings.resume(trace_id)
    finished = wait_for_end(trace_id)
    assert (finished.state, finished.error) == (TraceState.FINISHED, None)


def test_closing_interrupts_and_the_next_start_resumes(settings: Settings, make_task: MakeTask) -> None:
    context = open_context(settings)
    trace_id = start(context, make_task(), "slow")
    wait_for_steps(context, trace_id, 1)
    context.close()
    again = open_context(settings)
    stored = again.store.traces.get(trace_id)
    assert stored.state is TraceState.INTERRUPTED
    assert len(stored.steps) >= 1
    again.rankings.resume(trace_id)
    wait_for_steps(again, trace_id, len(stored.steps) + 1)
    again.close()


def test_at_most_two_models_stay_loaded(
    context: Context, make_task: MakeTask, wait_for_end: Wait, settings: Settings
) -> None:
    for name in ("m1", "m2", "m3"):
        write_card(settings.models_dir, ModelCard(name=name, engine="scripted"))
        wait_for_end(start(context, make_task(), name))
    assert context.rankings.loaded_models() == ["m2", "m3"]


def test_an_unstored_ranking_leaves_no_trace_and_its_errors_reach_the_caller(
    context: Context, make_task: MakeTask, settings: Settings
) -> None:
    config = RankConfig()
    trace = asyncio.run(context.rankings.rank(make_task(), config=config))
    assert sorted(trace.ranking) == sorted(make_task().candidate_ids)
    assert context.store.traces.search().total == 0
    write_card(settings.models_dir, ModelCard(name="hollow", engine="transformers"))
    expected = _error_of(context.registry, "hollow")
    with pytest.raises(type(expected)):
        asyncio.run(context.rankings.rank(make_task(), model="hollow", config=config))


def test_two_studios_cannot_use_one_data_directory(context: Context, settings: Settings) -> None:
    with pytest.raises(UsageError, match="another studio is using it"):
        open_context(settings)


def test_a_studio_closed_by_another_thread_frees_its_data_directory(settings: Settings) -> None:
    context = open_context(settings)
    closing = threading.Thread(target=context.close)
    closing.start()
    closing.join(10)
    open_context(settings).close()


def _error_of(registry: Registry, name: str) -> Exception:
    try:
        registry.load(name)
    except Exception as error:  # noqa: BLE001 - whichever it is, the caller must get the same
        return error
    return BackendError("expected an error")
