"""The hub: a snapshot and then every event exactly once, for any number of viewers, whenever they come."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from studio import hub as hub_module
from studio.hub import Hub, fold


def new_trace() -> dict[str, Any]:
    return {"state": "queued", "steps": [], "current": None, "ranking": None, "totals": {}, "error": None}


DONE = {"k": "done", "state": "finished", "ranking": ["a", "b"], "totals": {"num_steps": 1}, "error": None}


def decode(message: bytes) -> list[dict[str, Any]]:
    assert message.startswith(b"data: ")
    assert message.endswith(b"\n\n")
    assert message.count(b"\n") == 2
    return json.loads(message[6:])  # type: ignore[no-any-return]


async def replay(stream: AsyncIterator[bytes]) -> dict[str, Any]:
    """What a viewer has at the end, by folding as the client does; checks that the snapshot is the first event."""
    trace: dict[str, Any] | None = None
    async for message in stream:
        for event in decode(message):
            if event["k"] == "snapshot":
                assert trace is None
                trace = event["trace"]
            else:
                assert trace is not None
                fold(trace, event)
    assert trace is not None
    return trace


def publish_all(hub: Hub, num_steps: int, num_tokens: int, pause_s: float) -> None:
    for index in range(num_steps):
        hub.publish("x", {"k": "step", "step_index": index, "pool": ["a", "b"]})
        for token in range(num_tokens):
            hub.publish("x", {"k": "tok", "d": f" {index}.{token}", "t": time.time()})
            time.sleep(pause_s)
        step = {"step_index": index, "reasoning": "".join(f" {index}.{t}" for t in range(num_tokens))}
        hub.publish("x", {"k": "elim", "step": step, "totals": {"num_steps": index + 1}})
    hub.publish("x", DONE | {"totals": {"num_steps": num_steps}})


def test_viewers_that_come_at_any_time_all_end_with_the_same() -> None:
    async def scenario() -> list[dict[str, Any]]:
        hub = Hub()
        hub.open("x", new_trace())
        worker = threading.Thread(target=publish_all, args=(hub, 4, 40, 0.001))
        worker.start()
        viewers = []
        while worker.is_alive():
            stream = hub.follow("x")
            if stream is not None:
                viewers.append(asyncio.create_task(replay(stream)))
            await asyncio.sleep(0.01)
        assert hub.follow("x") is None
        assert hub.num_live() == hub.num_followers() == 0
        return await asyncio.gather(*viewers)

    ends = asyncio.run(asyncio.wait_for(scenario(), 20))
    assert len(ends) > 10
    assert all(end == ends[0] for end in ends)
    assert (ends[0]["state"], len(ends[0]["steps"]), ends[0]["current"]) == ("finished", 4, None)


def test_events_are_collected_and_encoded_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    encode = hub_module.encode

    def counting(events: Any) -> bytes:
        encoded.append(len(events))
        return encode(events)

    monkeypatch.setattr(hub_module, "encode", counting)

    async def scenario() -> None:
        hub = Hub()
        hub.open("x", new_trace())
        streams = [hub.follow("x") for _ in range(20)]
        viewers = [asyncio.create_task(replay(stream)) for stream in streams if stream is not None]
        worker = threading.Thread(target=publish_all, args=(hub, 1, 200, 0.001))
        worker.start()
        await asyncio.gather(*viewers)

    asyncio.run(asyncio.wait_for(scenario(), 20))
    batches = encoded[20:]
    assert sum(batches) == 203
    assert len(batches) < 40


def test_a_viewer_that_leaves_is_forgotten_and_closing_ends_the_rest() -> None:
    async def scenario() -> None:
        hub = Hub()
        hub.open("x", new_trace())
        first, second = hub.follow("x"), hub.follow("x")
        assert first is not None
        assert second is not None
        assert decode(await anext(first))[0]["k"] == "snapshot"
        await first.aclose()  # type: ignore[attr-defined]
        assert hub.num_followers() == 1
        viewer = asyncio.create_task(replay(second))
        await asyncio.sleep(0)
        hub.close()
        assert (await viewer)["state"] == "queued"

    asyncio.run(asyncio.wait_for(scenario(), 5))


def test_a_viewer_far_behind_is_cut_off_not_buffered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "MAX_BATCHES_BEHIND", 3)
    monkeypatch.setattr(hub_module, "COALESCE_S", 0.0)

    async def scenario() -> int:
        hub = Hub()
        hub.open("x", new_trace())
        stream = hub.follow("x")
        assert stream is not None
        hub.publish("x", {"k": "step", "step_index": 0, "pool": []})
        for _ in range(20):
            hub.publish("x", {"k": "tok", "d": "a", "t": 0.0})
            await asyncio.sleep(0.002)
        return len([message async for message in stream])

    assert asyncio.run(asyncio.wait_for(scenario(), 5)) == 3


def test_hostile_text_stays_on_one_line() -> None:
    text = "a\r\ndata: [1]\n\n\u2028</script>${1}"
    assert decode(hub_module.encode([{"k": "tok", "d": text, "t": 0.0}])) == [{"k": "tok", "d": text, "t": 0.0}]
