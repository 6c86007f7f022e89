"""Live rankings, fanned out to any number of viewers. Knows no store, no model, no page: traces are dictionaries of JSON.

Each live trace is held as its snapshot, with every event folded in as it comes. A viewer is given the snapshot and then what
happens after it, so one that lost its connection simply asks again. Events are collected for `COALESCE_S` and encoded once
for all viewers of a trace. The same folding is done by the client script; `fold` is its definition. Ours.
"""

import asyncio
import copy
import json
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

COALESCE_S = 0.03
KEEP_ALIVE_S = 15.0
MAX_BATCHES_BEHIND = 512
"""A viewer that is further behind is cut off; its browser connects again and gets a snapshot."""

KEEP_ALIVE = b": keep-alive\n\n"

Event = Mapping[str, Any]
"""One of: step {step_index, pool}, tok {d, t}, elim {step, totals}, done {state, ranking, totals, error}; the kind is in "k"."""


def encode(events: Sequence[Event]) -> bytes:
    """One message of a `text/event-stream`: a JSON list on one line."""
    body = json.dumps(events, ensure_ascii=False, separators=(",", ":"))
    return b"data: " + body.encode("utf-8", "replace") + b"\n\n"


def snapshot_event(trace: Mapping[str, Any]) -> Event:
    """The event that every stream begins with."""
    return {"k": "snapshot", "trace": trace}


def done_event(trace: Mapping[str, Any]) -> Event:
    """The event that every stream ends with."""
    return {"k": "done"} | {key: trace[key] for key in ("state", "ranking", "totals", "error")}


def fold(trace: dict[str, Any], event: Event) -> None:
    """Bring the snapshot `trace` up to date with `event`."""
    match event["k"]:
        case "step":
            trace["state"] = "running"
            trace["current"] = {"step_index": event["step_index"], "pool": event["pool"], "reasoning": ""}
        case "tok":
            trace["current"]["reasoning"] += event["d"]
        case "elim":
            trace["steps"].append(event["step"])
            trace["totals"], trace["current"] = event["totals"], None
        case "done":
            trace.update({key: event[key] for key in ("state", "ranking", "totals", "error")}, current=None)
        case unknown:
            raise AssertionError(f"no such event: {unknown}")


class _Follower:
    """One viewer's queue. `None` in it is the end."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.is_cut_off = False

    def put(self, batch: bytes | None) -> None:
        if self.is_cut_off:
            return
        self.is_cut_off = self.queue.qsize() >= MAX_BATCHES_BEHIND
        self.queue.put_nowait(None if self.is_cut_off else batch)


class _LiveTrace:
    def __init__(self, trace: dict[str, Any]) -> None:
        self.trace = trace
        self.pending: list[Event] = []
        self.followers: set[_Follower] = set()
        self.is_flush_due = False


class Hub:
    """The live traces of one studio. `open`, `publish` and `snapshot` from any thread; `follow` from the server's loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: dict[str, _LiveTrace] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self, trace_id: str, trace: dict[str, Any]) -> None:
        """A trace goes live; `trace` is its snapshot, which the hub keeps."""
        with self._lock:
            self._live[trace_id] = _LiveTrace(trace)

    def publish(self, trace_id: str, event: Event) -> None:
        """Something happened. `done` ends the trace's life here."""
        with self._lock:
            live = self._live[trace_id]
            fold(live.trace, event)
            is_done = event["k"] == "done"
            if is_done:
                del self._live[trace_id]
            if not live.followers or self._loop is None:
                return
            live.pending.append(event)
            if is_done or not live.is_flush_due:
                live.is_flush_due = True
                self._loop.call_soon_threadsafe(self._schedule, live, 0.0 if is_done else COALESCE_S)

    def snapshot(self, trace_id: str) -> dict[str, Any] | None:
        """A copy of the live trace as it is now; None if it is not live."""
        with self._lock:
            live = self._live.get(trace_id)
            return None if live is None else copy.deepcopy(live.trace)

    def num_live(self) -> int:
        """Traces that are queued or running."""
        with self._lock:
            return len(self._live)

    def num_followers(self) -> int:
        """Viewers of live traces."""
        with self._lock:
            return sum(len(live.followers) for live in self._live.values())

    def follow(self, trace_id: str) -> AsyncIterator[bytes] | None:
        """The stream of a live trace: snapshot, then deltas, `done` at last. None if the trace is not live."""
        with self._lock:
            live = self._live.get(trace_id)
            if live is None:
                return None
            self._loop = asyncio.get_running_loop()
            self._send_pending(live)
            follower = _Follower()
            follower.put(encode([snapshot_event(live.trace)]))
            live.followers.add(follower)
        return self._batches(live, follower)

    def close(self) -> None:
        """End every stream."""
        with self._lock:
            followers = [follower for live in self._live.values() for follower in live.followers]
            if self._loop is None or self._loop.is_closed():
                return
            for follower in followers:
                self._loop.call_soon_threadsafe(follower.put, None)

    async def _batches(self, live: _LiveTrace, follower: _Follower) -> AsyncIterator[bytes]:
        try:
            while True:
                try:
                    batch = await asyncio.wait_for(follower.queue.get(), KEEP_ALIVE_S)
                except TimeoutError:
                    yield KEEP_ALIVE
                    continue
                if batch is None:
                    return
                yield batch
        finally:
            with self._lock:
                live.followers.discard(follower)

    def _schedule(self, live: _LiveTrace, delay_s: float) -> None:
        """Runs in the server's loop."""
        asyncio.get_running_loop().call_later(delay_s, self._flush, live)

    def _flush(self, live: _LiveTrace) -> None:
        with self._lock:
            live.is_flush_due = False
            self._send_pending(live)

    def _send_pending(self, live: _LiveTrace) -> None:
        """Encode once, hand to all. Runs in the server's loop, under the lock."""
        if not live.pending:
            return
        events, live.pending = live.pending, []
        batch = encode(events)
        for follower in live.followers:
            follower.put(batch)
            if events[-1]["k"] == "done":
                follower.put(None)
