"""The Correct page in a real browser: every gesture, everything that can be said, and the queue."""

import httpx
import pytest
from correctpage import (
    IDS,
    NUM_TASKS,
    TO_CORRECT,
    drag,
    grip,
    open_correct,
    ranks,
    row,
    see_order,
    see_said,
    see_task,
    stored,
    tap,
    tiers,
    titles,
)
from playwright.sync_api import Browser, Page, Route, expect

# ---------------------------------------------------------------- gestures


@pytest.mark.parametrize("pointer", ["mouse", "pen"])
def test_the_common_case_is_one_drag_and_one_key(page: Page, studio: str, pointer: str) -> None:
    author = f"by-{pointer}"
    open_correct(page, studio, author)
    drag(page, "Delta", "Bravo", pointer=pointer)
    see_order(page, "A", "D", "B", "C", "E")
    expect(row(page, "Delta").locator(".rs-moved")).to_have_text("▲2")
    page.keyboard.press("Enter")
    see_said(page, "Kendall τ-b to tester: 0.60")
    see_said(page, "They part at step 2: it excluded “Delta”.")
    see_said(page, "1 drag, 1 key")
    see_task(page, 1)
    (said,) = stored(studio, author)
    assert tiers([said]) == [["a"], ["d"], ["b"], ["c"], ["e"]]
    payload = said["payload"]
    assert (payload["gestures"], payload["keys"], payload["clicks"]) == (1, 1, 0)
    assert said["duration_s"] > 0
    assert (said["trace_id"], said["model"], payload["start"]) == ("trace-c-0", "tester", "model")
    assert ranks(page) == ["1", "2", "3", "4", "5"]


def test_by_finger(browser: Browser, studio: str) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, reduced_motion="reduce"
    )
    page = context.new_page()
    open_correct(page, studio, "by-finger")
    page.locator(".rs-sort").scroll_into_view_if_needed()
    drag(page, "Alpha", "Bravo", pointer="touch")
    see_order(page, "B", "A", "C", "D", "E")
    tap(row(page, "Echo").get_by_label("Move up: Echo"))
    see_order(page, "B", "A", "C", "E", "D")
    tap(page.get_by_role("button", name="Hand in"))
    see_said(page, "Handed in.")
    assert tiers(stored(studio, "by-finger")) == [["b"], ["a"], ["c"], ["e"], ["d"]]
    context.close()


def test_a_drag_that_is_cancelled_changes_nothing(page: Page, studio: str) -> None:
    open_correct(page, studio, "cancels")
    drag(page, "Alpha", "Charlie", drop=False)
    expect(page.locator(".rs-row.is-dragged")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator(".rs-row.is-dragged")).to_have_count(0)
    page.mouse.up()
    assert titles(page) == ["Alpha", "Bravo", "Charlie", "Delta", "Echo"]
    expect(page.get_by_text("Says: the order as it is")).to_be_visible()


def test_with_the_keyboard_alone(page: Page, studio: str) -> None:
    open_correct(page, studio, "by-key")
    press = page.keyboard.press
    expect(grip(page, "Alpha")).to_be_focused()
    press("Space")
    expect(page.locator(".rs-sort-box [role=status]")).to_contain_text("Alpha lifted, rank 1")
    press("ArrowDown")
    press("End")
    see_order(page, "B", "C", "D", "E", "A")
    press("Escape")
    see_order(page, "A", "B", "C", "D", "E")
    for key in ("Space", "ArrowDown", "Space"):  # B A C D E
        press(key)
    expect(page.locator(".rs-sort-box [role=status]")).to_contain_text("Alpha dropped, rank 2 of 5")
    press("End")
    expect(grip(page, "Echo")).to_be_focused()
    press("Alt+ArrowUp")
    see_order(page, "B", "A", "C", "E", "D")
    press("1")
    see_order(page, "E", "B", "A", "C", "D")
    press("z")
    see_order(page, "B", "A", "C", "E", "D")
    press("Home")
    press("ArrowDown")
    press("=")
    assert ranks(page) == ["1=", "1=", "3", "4", "5"]
    press("ArrowDown")
    press("c")
    see_order(page, "B", "A", "C", "-", "E", "D")
    expect(page.get_by_text("Only the top 3 matter. Below:")).to_be_visible()
    press("Enter")
    see_said(page, "Handed in.")
    see_task(page, 1)
    expect(grip(page, "Alpha")).to_be_focused()
    (said,) = stored(studio, "by-key")
    assert tiers([said]) == [["b", "a"], ["c"], ["e", "d"]]
    assert (said["payload"]["top"], said["payload"]["clicks"], said["payload"]["gestures"]) == (3, 0, 0)


def test_with_the_buttons_alone(page: Page, studio: str) -> None:
    open_correct(page, studio, "by-button")
    page.get_by_label("Move down: Alpha").click()
    page.get_by_label("Equal to the one above: Alpha").click()
    assert ranks(page) == ["1=", "1=", "3", "4", "5"]
    page.get_by_role("button", name="Only the top ones matter").click()
    see_order(page, "B", "A", "C", "-", "D", "E")
    drag(page, "Echo", "Alpha")
    see_order(page, "B", "E", "A", "C", "-", "D")
    assert ranks(page)[:3] == ["1=", "1=", "1="]
    page.get_by_label("What holds below the line").select_option("open")
    page.get_by_role("button", name="Hand in").click()
    see_said(page, "Handed in.")
    assert tiers(stored(studio, "by-button")) == [["b", "e", "a"], ["c"]]
    page.keyboard.press("b")
    see_task(page, 0)
    see_order(page, "B", "E", "A", "C", "-", "D")
    page.get_by_role("button", name="Rank all").click()
    with page.expect_response("**/api/desk/submit"):  # the words of the first time are still there
        page.keyboard.press("Control+Enter")
    assert tiers(stored(studio, "by-button")) == [["b", "e", "a"], ["c"], ["d"]]


_KEY_AT_ONCE = """desk => new MutationObserver(() => desk.inert && document.activeElement.dispatchEvent(
    new KeyboardEvent("keydown", {key: "ArrowUp", altKey: true, bubbles: true, cancelable: true})
)).observe(desk, {attributes: true, attributeFilter: ["inert"]})"""
"""A key that comes as soon as the desk is closed, before the next frame is drawn: until then browsers leave the focus where it was."""


def test_what_was_handed_in_takes_no_changes_while_the_next_task_is_asked_for(page: Page, studio: str) -> None:
    held: list[Route] = []
    page.route("**/api/desk/next", lambda route: held.append(route))
    open_correct(page, studio, "too-fast")
    expect(grip(page, "Alpha")).to_be_focused()
    page.keyboard.press("Alt+ArrowDown")
    see_order(page, "B", "A", "C", "D", "E")
    page.locator(".rs-desk-task").evaluate(_KEY_AT_ONCE)
    page.keyboard.press("Enter")
    see_said(page, "Handed in.")
    page.keyboard.press("Alt+ArrowUp")
    page.keyboard.press("c")
    see_order(page, "B", "A", "C", "D", "E")
    expect(page.locator(".rs-desk-task")).to_have_attribute("inert", "")
    for route in held:
        route.continue_()
    see_task(page, 1)
    expect(grip(page, "Alpha")).to_be_focused()
    assert tiers(stored(studio, "too-fast")) == [["b"], ["a"], ["c"], ["d"], ["e"]]


# ---------------------------------------------------------------- what can be said


def test_everything_that_can_be_said_of_a_step(page: Page, studio: str) -> None:
    open_correct(page, studio, "steps")
    press = page.keyboard.press
    for index, verdict in enumerate(("Right", "Right one, wrong reason", "Not this one", "Any of these")):
        press("]")
        step = page.locator(".rs-review > li").nth(index)
        expect(step.get_by_role("radio", name="Right", exact=True)).to_be_focused()
        step.get_by_label(verdict, exact=True).focus()
        press("Space")
        expect(step.locator("summary .rs-chip")).to_have_text(verdict)
    steps = page.locator(".rs-review > li")
    press("[")
    steps.nth(2).get_by_label("Exclude instead").select_option("bravo")
    steps.nth(2).get_by_label("2", exact=True).check()
    steps.nth(2).get_by_role("button", name="Edit the reasoning").click()
    steps.nth(2).get_by_label("As it should be").fill("Bravo is weakest.")
    press("Escape")
    press("]")
    steps.nth(3).get_by_label("Alpha", exact=True).check()
    press("r")
    page.keyboard.type("I was there.")
    press("Control+Enter")
    see_said(page, "Handed in.")
    words = stored(studio, "steps")
    assert {(w["kind"], w["reason"]) for w in words} == {("step", "I was there.")}, "nobody touched the order"
    said = [(w["payload"]["verdict"], w["payload"].get("exclude"), w["payload"].get("keep")) for w in words]
    assert said == [
        ("right", ["echo"], None),
        ("right_wrong_reason", ["delta"], None),
        ("exclude", ["bravo"], None),
        ("any", ["alpha", "bravo"], None),
    ]
    assert (words[2]["payload"]["rating"], words[2]["payload"]["reasoning"]) == (2, "Bravo is weakest.")
    assert [w["duration_s"] is None for w in words] == [False, True, True, True], "the time is said once"


def test_a_step_may_be_left_open_and_the_label_may_be_wrong(page: Page, studio: str) -> None:
    open_correct(page, studio, "label")
    page.keyboard.press("]")
    page.locator(".rs-review > li").first.get_by_label("Cannot be decided").check()
    page.keyboard.press("]")
    page.locator(".rs-review > li").nth(1).get_by_label("Not this one").check()
    page.keyboard.press("l")
    label = page.locator(".rs-label-box")
    expect(label.get_by_label("Bravo")).to_be_checked()
    label.get_by_label("Bravo").uncheck()
    label.get_by_label("Charlie").check()
    expect(page.get_by_text("Says: the label, 2 steps")).to_be_visible()
    page.keyboard.press("Enter")
    see_said(page, "Handed in.")
    words = {word["kind"]: word["payload"] for word in stored(studio, "label")}
    assert words["label"]["relevant"] == ["charlie"]
    assert {w["payload"]["verdict"] for w in stored(studio, "label") if w["kind"] == "step"} == {
        "undecidable",
        "not_this",
    }
    page.keyboard.press("b")
    see_task(page, 0)
    expect(label.get_by_label("Charlie")).to_be_checked()
    expect(page.locator(".rs-review summary .rs-chip:visible")).to_have_text(["Cannot be decided", "Not this one"])


def test_from_blank_only_what_stands_above_the_line_is_said(page: Page, studio: str) -> None:
    open_correct(page, studio, "blank", start="blank")
    assert titles(page)[0] == "---"
    page.keyboard.press("Enter")
    expect(page.locator(".rs-foot [role=alert]")).to_contain_text("put two candidates above the line, or skip")
    grip(page, "Echo").focus()
    page.keyboard.press("1")
    grip(page, "Bravo").focus()
    page.keyboard.press("9")
    assert titles(page)[:3] == ["Echo", "Bravo", "---"]
    page.keyboard.press("Enter")
    see_said(page, "Handed in.")
    assert tiers(stored(studio, "blank")) == [["e"], ["b"]]


def test_blind_the_model_is_hidden_until_the_order_is_handed_in(page: Page, studio: str) -> None:
    open_correct(page, studio, "blind", start="blind")
    expect(page.get_by_text("Hidden until you have handed in your own order.")).to_be_visible()
    assert "weakest" not in page.content()
    for name, key in (("Echo", "1"), ("Delta", "2"), ("Charlie", "3"), ("Bravo", "4"), ("Alpha", "5")):
        grip(page, name).focus()
        page.keyboard.press(key)
    see_order(page, "E", "D", "C", "B", "A", "-")
    page.keyboard.press("Enter")
    shown = page.get_by_role("region", name="What the model had said")
    expect(shown).to_contain_text("Kendall τ-b to tester: -1.00")
    expect(shown.locator(".rs-ranking").nth(1).locator("li")).to_contain_text(
        ["Alpha", "Bravo", "Charlie", "Delta", "Echo"]
    )
    page.keyboard.press("Enter")
    see_task(page, 1)
    assert stored(studio, "blind")[0]["payload"]["start"] == "blind"


def test_skip_flag_back_and_taking_back(page: Page, studio: str) -> None:
    open_correct(page, studio, "wanders", "")
    see_task(page, 0)
    page.keyboard.press("s")
    see_task(page, 1)
    see_said(page, "Skipped.")
    page.keyboard.press("f")
    page.keyboard.press("2")
    see_task(page, 2)
    see_said(page, "Flagged.")
    assert [w["payload"]["flag"] for w in stored(studio, "wanders")] == ["A candidate stands there twice"]
    page.keyboard.press("Alt+ArrowDown")
    page.keyboard.press("Enter")
    see_task(page, 3)
    page.keyboard.press("u")
    see_task(page, 2)
    see_order(page, "B", "A", "C", "D", "E")
    see_said(page, "Taken back.")
    assert [w["kind"] for w in stored(studio, "wanders")] == ["flag"]
    page.keyboard.press("u")
    see_task(page, 1)
    page.keyboard.press("u")
    see_task(page, 0)
    assert stored(studio, "wanders") == []
    page.keyboard.press("u")
    see_said(page, "Nothing to take back.")
    page.keyboard.press("Enter")
    expect(page.locator(".rs-progress")).to_contain_text(f"1 of {NUM_TASKS} tasks done")


# ---------------------------------------------------------------- the queue


def test_a_first_visit_asks_for_a_name_and_a_queue_ends(browser: Browser, studio: str) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    page = context.new_page()
    page.goto(f"{studio}/correct", wait_until="domcontentloaded")
    page.locator("#rs-name").fill("newcomer")
    page.keyboard.press("Enter")
    page.locator("#rs-queue-dataset").select_option(TO_CORRECT)
    page.locator("#rs-queue-order").select_option("dataset")
    see_task(page, 0)
    for number in range(1, NUM_TASKS):
        page.keyboard.press("Enter")
        see_task(page, number)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Nothing is left for you here")).to_be_visible()
    expect(page.locator(".rs-progress")).to_contain_text(f"{NUM_TASKS} of {NUM_TASKS} tasks done")
    assert len(stored(studio, "newcomer")) == NUM_TASKS
    page.keyboard.press("b")
    see_task(page, NUM_TASKS - 1)
    context.close()


def test_a_task_that_comes_after_another_dataset_was_chosen_does_not_undo_the_choice(
    browser: Browser, studio: str
) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    page = context.new_page()
    late: dict[str, Route] = {}

    def hold_first(route: Route) -> None:
        if late.setdefault(route.request.url, route) is not route:
            route.continue_()

    def wait_for_late(path: str) -> Route:
        while f"{studio}{path}" not in late:
            page.wait_for_timeout(20)
        return late[f"{studio}{path}"]

    page.route("**/api/desk/next", hold_first)
    page.goto(f"{studio}/correct", wait_until="domcontentloaded")
    page.locator("#rs-name").fill("hasty")
    page.keyboard.press("Enter")
    first = wait_for_late("/api/desk/next")
    page.route("**/api/me", hold_first)
    page.locator("#rs-queue-dataset").select_option(TO_CORRECT)
    me = wait_for_late("/api/me")
    with page.expect_response("**/api/desk/next"):
        first.continue_()
    page.wait_for_timeout(300)
    me.continue_()
    expect(page.locator(".rs-desk-task .rs-query")).to_contain_text("Which one comes first")
    expect(page.locator("#rs-queue-dataset")).to_have_value(TO_CORRECT)
    context.close()


def test_the_shortcut_sheet_and_letters_that_do_nothing(page: Page, studio: str) -> None:
    open_correct(page, studio, "sheet")
    page.keyboard.press("?")
    sheet = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(sheet).to_be_visible()
    sheet.get_by_label("Single letters do something").uncheck()
    page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()
    page.keyboard.press("s")
    page.keyboard.press("f")
    expect(page.get_by_role("dialog")).to_have_count(0)
    see_task(page, 0)
    page.keyboard.press("?")
    sheet.get_by_label("Single letters do something").check()


def test_guidelines_have_versions_and_are_text(page: Page, studio: str) -> None:
    open_correct(page, studio, "writes")
    page.keyboard.press("g")
    panel = page.locator(".rs-guidelines")
    panel.get_by_role("button", name="Write the next version").click()
    text = "# Best\n- **first** thing\n\n<img src=x onerror=alert(1)> [here](javascript:alert(2)) [rank](/traces)"
    panel.get_by_label("Guidelines in Markdown").fill(text)
    panel.get_by_role("button", name="Save as the next version").click()
    expect(panel.locator("h3")).to_have_text("Best")
    expect(panel.locator("li strong")).to_have_text("first")
    expect(panel).to_contain_text("<img src=x onerror=alert(1)> here (javascript:alert(2)")
    assert panel.locator("img").count() == 0
    assert panel.locator("a").evaluate_all("all => all.map(a => a.getAttribute('href'))") == ["/traces"]
    page.keyboard.press("Escape")
    page.locator(".rs-grip").first.focus()
    page.keyboard.press("Enter")
    see_said(page, "Handed in.")
    version = httpx.get(f"{studio}/api/guidelines?dataset={TO_CORRECT}", trust_env=False).json()["guidelines"][0][
        "version"
    ]
    assert stored(studio, "writes")[0]["guideline_version"] == version


def test_the_rank_and_traces_pages_lead_here(page: Page, studio: str) -> None:
    open_correct(page, studio, "comes")
    for address in ("/?trace=trace-c-3", "/traces?trace=trace-c-3"):
        page.goto(f"{studio}{address}", wait_until="domcontentloaded")
        page.get_by_role("link", name="Correct this ranking").click()
        see_task(page, 3)
        assert "trace=trace-c-3" in page.url
    page.goto(f"{studio}/correct?task=nope", wait_until="domcontentloaded")
    expect(page.get_by_role("heading", name="This cannot be opened")).to_be_visible()
    page.keyboard.press("Enter")
    see_task(page, 0)  # what was begun first comes first


# ---------------------------------------------------------------- the order itself


def test_orders_stay_orders_whatever_is_done_to_them(page: Page, studio: str) -> None:
    """Random moves, ties and lines: every candidate stands there once, and what is said of it can be read back."""
    open_correct(page, studio, "orders")
    wrong = page.evaluate(
        """async (ids) => {
          const order = await import("/studio-assets/js/order.js");
          let seed = 7;
          const random = (n) => (seed = (seed * 1103515245 + 12345) % 2147483648) % n;
          const wrong = [];
          for (let round = 0; round < 3000; round += 1) {
            let state = random(2) ? order.fromRanking(ids) : order.fromBlank(ids);
            for (let step = random(12); step >= 0; step -= 1) {
              const key = state.rows[random(state.rows.length)];
              const what = random(5);
              if (what < 2) state = order.move(state, key, random(state.rows.length));
              else if (what === 2 && key) state = order.toggleTie(state, key);
              else if (what === 3) state = order.setLine(state, random(ids.length + 1), random(2) ? "worse" : "open");
              else if (what === 4) state = order.dropLine(state);
            }
            const said = order.tiersOf(state);
            const once = [...state.rows].filter(Boolean).sort().join() === [...ids].sort().join();
            const known = new Set(said.flat());
            const again = order.tiersOf(order.fromTiers(said, ids, order.topOf(state)));
            const isSame = JSON.stringify(again) === JSON.stringify(said);
            const tied = state.ties.every((id) => order.places(state).get(id).tied);
            if (!once || known.size !== said.flat().length || !isSame || !tied) wrong.push([state, said, again]);
          }
          return wrong.slice(0, 3);
        }""",
        list(IDS),
    )
    assert wrong == []
