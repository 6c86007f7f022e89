"""Rankings that run in the background: started, stopped, resumed, branched; each step stored before the next one starts.

One worker thread with its own event loop owns the models; every ranking is one asyncio task in it, so any number run at once
and the engine batches what they ask for. What happens goes to the store (the truth) and to the hub (the viewers).
"""

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, cast

from ranker.backends.base import LIVE
from ranker.elimination import (
    RankConfig,
    RankEvent,
    ReasoningDelta,
    StepFinished,
    StepStarted,
    TraceFinished,
    make_person_step,
    rank_events,
)
from ranker.errors import RankingStudioError, StoreError, UsageError
from ranker.schema import EliminationStep, Mode, RankingTask, RankingTrace
from studio.hub import Hub, done_event, encode, snapshot_event
from studio.loaded import LoadedModels
from studio.snapshot import step_json, trace_json
from studio.store import Store, StoredTrace, TraceState, new_trace_id
from trainer.registry import Registry

logger = logging.getLogger(__name__)

MAX_LIVE_TRACES = 200
STOP_TIMEOUT_S = 5.0

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(eq=False)
class _Run:
    """A ranking in progress. `end_state` is what a cancellation makes of it."""

    trace_id: str
    ended: threading.Event
    inner: asyncio.Task[None] | None = None
    end_state: TraceState = TraceState.STOPPED


class Rankings:
    """The rankings of one studio. Methods may be called from any thread; the coroutines from the server's loop."""

    def __init__(self, store: Store, registry: Registry, hub: Hub, *, default_model: str | None = None) -> None:
        """Start the worker thread, and mark what an earlier run of the program left unfinished as interrupted."""
        self._store, self._registry, self._hub = store, registry, hub
        self._default_model = default_model
        self._runs: dict[str, _Run] = {}
        self._lock = threading.Lock()
        interrupted = store.traces.interrupt_live()
        if interrupted:
            logger.warning("%d rankings were interrupted; they can be resumed", len(interrupted))
        self._models = LoadedModels(registry)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rankings", daemon=True)
        self._thread.start()

    def start(self, dataset_id: int, task_id: str, *, model: str | None = None, config: RankConfig) -> str:
        """Start ranking a stored task. Returns the trace_id at once.

        Raises:
            StoreError: if there is no such task.
            UsageError: if there is no such model, or too much runs already.
        """
        card = self._registry.card(model or self._default_model)
        trace_id = new_trace_id()
        self._create(trace_id, dataset_id, task_id, card.name, config)
        self._launch(trace_id)
        return trace_id

    def stop(self, trace_id: str) -> None:
        """Stop a ranking and wait until that is stored. Does nothing if it is not live."""
        with self._lock:
            run = self._runs.get(trace_id)
        if run is not None:
            self._loop.call_soon_threadsafe(self._cancel, run, TraceState.STOPPED)
            run.ended.wait(STOP_TIMEOUT_S)

    def resume(self, trace_id: str) -> None:
        """Go on with a stopped, interrupted or failed ranking behind its last finished step.

        Raises:
            UsageError: if it is finished, or runs.
        """
        state = self._store.traces.get(trace_id).state
        if state is TraceState.FINISHED or state.is_live:
            raise UsageError(f"trace {trace_id}: state: {state.value}: only one that ended early can be resumed")
        self._check_room()
        self._store.traces.set_state(trace_id, TraceState.QUEUED)
        self._launch(trace_id)

    def branch(self, trace_id: str, step_index: int, excluded_id: str) -> str:
        """What if `excluded_id` had been excluded in step `step_index`? Goes on from there as a new trace.

        Returns:
            trace_id of the new trace, whose parent is `trace_id`.

        Raises:
            UsageError: if the trace has no such step, or the candidate is not in its pool.
        """
        parent = self._store.traces.get(trace_id)
        config = _config_of(parent)
        is_whole = config.mode in (Mode.DIRECT, Mode.FIRST_TOKEN)  # one step says everything
        if not 0 <= step_index <= len(parent.steps) or (is_whole and parent.steps):
            raise UsageError(f"trace {trace_id}: step_index: {step_index}: choose a finished step of an elimination")
        kept = parent.steps[:step_index]
        steps = (*kept, make_person_step(parent.task, config.seed, kept, excluded_id))
        child_id = new_trace_id()
        self._create(
            child_id,
            parent.dataset_id,
            parent.task_id,
            parent.model,
            config,
            parent=(trace_id, step_index),
            steps=steps,
        )
        self._launch(child_id)
        return child_id

    def snapshot(self, trace_id: str) -> dict[str, Any]:
        """The trace as it is now (the `trace` of the live view's first event). Raises StoreError if there is none."""
        return self._hub.snapshot(trace_id) or trace_json(self._store.traces.get(trace_id))

    async def follow(self, trace_id: str) -> AsyncIterator[bytes]:
        """The trace as messages of an event stream, up to its end. Raises StoreError if there is none."""
        for _ in range(10):
            stream = self._hub.follow(trace_id)
            if stream is not None:
                return stream
            trace = await asyncio.to_thread(self.snapshot, trace_id)
            if not TraceState(trace["state"]).is_live:
                break
            await asyncio.sleep(0.05)  # it is about to go live
        return _stored_stream(trace)

    async def rank(self, task: RankingTask, *, model: str | None = None, config: RankConfig) -> RankingTrace:
        """Rank a task without storing anything. Cancelling this withdraws it from the model."""
        self._check_room()
        card = self._registry.card(model or self._default_model)
        future = asyncio.run_coroutine_threadsafe(self._rank_unstored(task, card.name, config), self._loop)
        return await asyncio.wrap_future(future)

    def loaded_models(self) -> list[str]:
        """Names of the models in memory."""
        return self._models.names()

    def close(self) -> None:
        """Interrupt what runs (it can be resumed), free the models, end the thread."""
        if not self._thread.is_alive():
            return
        with self._lock:
            runs = list(self._runs.values())
        for run in runs:
            self._loop.call_soon_threadsafe(self._cancel, run, TraceState.INTERRUPTED)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for run in runs:
            run.ended.wait(max(0.0, deadline - time.monotonic()))
        self._on_loop(self._free())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_TIMEOUT_S)

    def _create(
        self,
        trace_id: str,
        dataset_id: int,
        task_id: str,
        model: str,
        config: RankConfig,
        *,
        parent: tuple[str, int] | None = None,
        steps: Sequence[EliminationStep] = (),
    ) -> None:
        self._check_room()
        self._store.traces.create(
            trace_id,
            dataset_id,
            task_id,
            model=model,
            mode=config.mode,
            seed=config.seed,
            config=config.model_dump(mode="json", exclude={"priority"}),
            parent_trace_id=parent[0] if parent else None,
            branch_step_index=parent[1] if parent else None,
            steps=steps,
        )

    def _check_room(self) -> None:
        if self._hub.num_live() >= MAX_LIVE_TRACES:
            raise UsageError(f"rankings: {MAX_LIVE_TRACES} are running: wait until some have finished, or stop some")

    def _launch(self, trace_id: str) -> None:
        stored = self._store.traces.get(trace_id)
        run = _Run(trace_id, threading.Event())
        with self._lock:
            self._runs[trace_id] = run
        self._hub.open(trace_id, trace_json(stored))
        asyncio.run_coroutine_threadsafe(self._supervise(run, stored), self._loop)

    def _on_loop(self, coroutine: Coroutine[Any, Any, _T]) -> _T | None:
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(STOP_TIMEOUT_S)
        except concurrent.futures.TimeoutError:
            logger.warning("a model did not let go within %g s", STOP_TIMEOUT_S)
            return None

    async def _free(self) -> None:
        """Withdraw what is left (rankings that are not stored), then free the models."""
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._models.aclose()

    def _cancel(self, run: _Run, end_state: TraceState) -> None:
        """Runs in the worker's loop, as everything below."""
        if run.inner is not None and not run.inner.done():
            run.end_state = end_state
            run.inner.cancel()

    async def _supervise(self, run: _Run, stored: StoredTrace) -> None:
        """See a run to its end, whichever it is, and write that down."""
        run.inner = asyncio.create_task(self._run(stored))
        await asyncio.wait({run.inner})
        state, error = TraceState.FINISHED, None
        if run.inner.cancelled():
            state = run.end_state
        elif (exception := run.inner.exception()) is not None:
            state, error = TraceState.FAILED, _one_line(exception)
            logger.error("trace %s: %s", run.trace_id, error, exc_info=exception)
        try:
            if state is not TraceState.FINISHED:
                await asyncio.to_thread(self._store.traces.set_state, run.trace_id, state, error=error)
            trace = await asyncio.to_thread(lambda: trace_json(self._store.traces.get(run.trace_id)))
        except StoreError as store_error:
            logger.error("trace %s: %s", run.trace_id, store_error)
            trace = (self._hub.snapshot(run.trace_id) or {}) | {"state": "failed", "error": _one_line(store_error)}
        self._hub.publish(run.trace_id, done_event(trace))
        with self._lock:
            del self._runs[run.trace_id]
        run.ended.set()

    async def _run(self, stored: StoredTrace) -> None:
        """Rank behind the stored steps; store and publish what comes."""
        config = _config_of(stored).model_copy(update={"priority": LIVE})
        trace_id, traces = stored.trace_id, self._store.traces
        async with self._models.use(stored.model) as backend:
            await _finish_write(traces.set_state, trace_id, TraceState.RUNNING)
            events = cast("AsyncGenerator[RankEvent]", rank_events(stored.task, backend, config, steps=stored.steps))
            async with aclosing(events):
                async for event in events:
                    match event:
                        case StepStarted(step_index, pool):
                            self._hub.publish(trace_id, {"k": "step", "step_index": step_index, "pool": list(pool)})
                        case ReasoningDelta(_, text):
                            self._hub.publish(trace_id, {"k": "tok", "d": text, "t": time.time()})
                        case StepFinished(step):
                            totals = await _finish_write(traces.add_step, trace_id, step)
                            totals_json = totals.model_dump(mode="json")
                            self._hub.publish(trace_id, {"k": "elim", "step": step_json(step), "totals": totals_json})
                        case TraceFinished(trace):
                            await _finish_write(traces.finish, trace_id, trace)

    async def _rank_unstored(self, task: RankingTask, model: str, config: RankConfig) -> RankingTrace:
        async with self._models.use(model) as backend:
            events = cast("AsyncGenerator[RankEvent]", rank_events(task, backend, config))
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, TraceFinished):
                        return event.trace
        raise AssertionError("rank_events ends with TraceFinished")


async def _finish_write(write: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Write in another thread. A cancellation waits until the write is done, so that nothing is written after the end."""
    writing = asyncio.ensure_future(asyncio.to_thread(write, *args, **kwargs))
    try:
        return await asyncio.shield(writing)
    except asyncio.CancelledError:
        await writing
        raise


async def _stored_stream(trace: dict[str, Any]) -> AsyncIterator[bytes]:
    yield encode([snapshot_event(trace), done_event(trace)])


def _config_of(stored: StoredTrace) -> RankConfig:
    return RankConfig.model_validate(stored.config)


def _one_line(exception: BaseException) -> str:
    text = " ".join(str(exception).split())
    if isinstance(exception, RankingStudioError):
        return text
    return f"ranking: {type(exception).__name__}: {text[:300] or 'no message'}: see the log, then resume"
