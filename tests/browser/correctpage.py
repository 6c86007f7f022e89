"""The tasks that the Correct page is tested on, and what a person does there."""

import json
from typing import Any

import httpx
from playwright.sync_api import Locator, Page, expect

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
from studio.store import Store

TO_CORRECT = "4"
"""Id of the dataset: the samples come first."""
NAMES = ("Alpha", "Bravo", "Charlie", "Delta", "Echo")
IDS = tuple(name.lower() for name in NAMES)
"""As the model ranks them."""
NUM_TASKS = 8
BETWEEN_TOUCHES_MS = 400


def fill_to_correct(store: Store, num_tasks: int = NUM_TASKS) -> int:
    """Tasks that a model has ranked, which any number of people may correct. Returns the dataset's id."""
    tasks = [_task(number) for number in range(num_tasks)]
    dataset_id = store.datasets.add("to-correct", tasks, source="test").id
    store.assignments.set_overlap(dataset_id, 100)
    for task in tasks:
        trace = _trace(task)
        store.traces.create(
            f"trace-{task.task_id}", dataset_id, task.task_id, model="tester", mode=Mode.ITERATIVE, seed=0,
            config={"think_tokens": 8}, steps=trace.steps,
        )  # fmt: skip
        store.traces.finish(f"trace-{task.task_id}", trace)
    return dataset_id


def _task(number: int) -> RankingTask:
    return RankingTask(
        task_id=f"c-{number}",
        domain=Domain.OTHER,
        query=f"Which one comes first, in round {number}?",
        candidates=tuple(
            Candidate(candidate_id=i, text=f"What is known about {name}.", metadata={"title": name})
            for i, name in zip(IDS, NAMES, strict=True)
        ),
        relevance={"bravo": 1},
    )


def _trace(task: RankingTask) -> RankingTrace:
    pools = [IDS[: len(IDS) - index] for index in range(len(IDS) - 1)]
    steps = tuple(
        EliminationStep(
            step_index=index, pool=pool, excluded_id=pool[-1], prompt="Which one goes?", reasoning=f"{pool[-1]} is weakest.",
            answer=pool[-1], outcome=Outcome.PARSED, completion_tokens=4,
        )
        for index, pool in enumerate(pools)
    )  # fmt: skip
    return RankingTrace(
        task_id=task.task_id, model="tester", mode=Mode.ITERATIVE, prompt_version="1", ranking=make_ranking(steps),
        steps=steps, totals=Totals.of(steps),
    )  # fmt: skip


def open_correct(page: Page, studio: str, name: str, query: str = "?task=c-0", **choice: str) -> None:
    """Open the page as somebody, with a task on the desk."""
    kept = json.dumps({"name": name, "dataset": TO_CORRECT, "order_by": "dataset", "start": "model"} | choice)
    page.add_init_script(
        "if (!sessionStorage.getItem('begun')) {sessionStorage.setItem('begun', '1');"
        f"localStorage.setItem('ranking-studio.queue', {json.dumps(kept)})}}"
    )
    page.goto(f"{studio}/correct{query}", wait_until="domcontentloaded")
    expect(page.locator(".rs-row").first).to_be_visible()


def titles(page: Page) -> list[str]:
    """The rows as they stand, the line as "---"."""
    words = "rows => rows.map(row => row.querySelector('.rs-row-title')?.textContent ?? '---')"
    found: list[str] = page.locator(".rs-sort > li").evaluate_all(words)
    return found


def see_order(page: Page, *names: str) -> None:
    """Wait until the rows stand like this; initials will do, "-" is the line."""
    expect(page.locator(".rs-sort > li")).to_have_count(len(names))
    for index, name in enumerate(names):
        row = page.locator(".rs-sort > li").nth(index)
        expect(row).to_contain_text("Below:" if name == "-" else next(n for n in NAMES if n.startswith(name)))


def ranks(page: Page) -> list[str]:
    return page.locator(".rs-row > .rs-rank").all_text_contents()


def row(page: Page, name: str) -> Locator:
    return page.locator(".rs-row").filter(has=page.locator(".rs-row-title", has_text=name))


def grip(page: Page, name: str) -> Locator:
    return row(page, name).locator(".rs-grip")


def see_task(page: Page, number: int) -> None:
    """Wait until this task is on the desk, and no other is being asked for."""
    expect(page.locator(".rs-desk-task[inert]")).to_have_count(0)
    expect(page.locator(".rs-desk-task .rs-query")).to_have_text(f"Which one comes first, in round {number}?")


def see_said(page: Page, words: str) -> None:
    """Wait for the line about what became of the last one."""
    expect(page.locator(".rs-strip")).to_contain_text(words)


def draft_state(page: Page) -> Locator:
    return page.locator(".rs-draft-state")


def stored(studio: str, author: str, task_id: str | None = None) -> list[dict[str, Any]]:
    """The current words of a person."""
    params = {"author": author, "current": "true", **({"task": task_id} if task_id else {})}
    return list(httpx.get(f"{studio}/api/corrections", params=params, trust_env=False).json()["corrections"])


def tiers(words: list[dict[str, Any]]) -> list[list[str]]:
    """The order that somebody has said, by initials."""
    (said,) = [word for word in words if word["kind"] == "ranking"]
    return [[i[0] for i in tier] for tier in said["payload"]["order"]]


def drag(page: Page, name: str, over: str, *, pointer: str = "mouse", drop: bool = True) -> None:
    """Drag a row by its grip to where another one is, with a mouse, a pen or a finger."""
    devtools = page.context.new_cdp_session(page)
    start, end = centre(grip(page, name)), centre(grip(page, over))
    beyond = 6 if end[1] > start[1] else -6
    points = [(start[0], start[1] + (end[1] + beyond - start[1]) * part / 8) for part in range(9)]
    if pointer == "touch":
        for index, (x, y) in enumerate(points):
            kind = "touchMove" if index else "touchStart"
            devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
        if drop:
            devtools.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        return
    common = {"button": "left", "pointerType": pointer, "clickCount": 1}
    for index, (x, y) in enumerate(points):
        kind = "mouseMoved" if index else "mousePressed"
        devtools.send("Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y, "buttons": 1, **common})
    if drop:
        release(page, points[-1], pointer)


def release(page: Page, at: tuple[float, float] | None = None, pointer: str = "mouse") -> None:
    """Let go of what is dragged."""
    x, y = at or centre(page.locator(".is-dragged .rs-grip"))
    event = {"type": "mouseReleased", "x": x, "y": y, "button": "left", "pointerType": pointer, "clickCount": 1}
    page.context.new_cdp_session(page).send("Input.dispatchMouseEvent", event)


def tap(found: Locator) -> None:
    """Tap with a finger, no sooner after another touch than a person could: within 300 ms of the end of a drag Chromium itself
    takes a touch for part of the same gesture (pointerdown and pointerup arrive, no click)."""
    found.scroll_into_view_if_needed()
    found.page.wait_for_timeout(BETWEEN_TOUCHES_MS)
    found.tap()


def centre(found: Locator) -> tuple[float, float]:
    box = found.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
