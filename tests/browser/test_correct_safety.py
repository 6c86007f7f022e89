"""The Correct page loses nothing and overwrites nothing: two tabs, two people, no connection, a server that is killed."""

import signal
from pathlib import Path

import httpx
import pytest
from conftest import run_server
from correctpage import (
    draft_state,
    drag,
    fill_to_correct,
    open_correct,
    release,
    see_order,
    see_said,
    see_task,
    stored,
    tiers,
)
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from studio.settings import Settings
from studio.store import Store
from trainer.modelcards import ModelCard, write_card


def test_a_draft_is_there_again_after_a_reload_and_in_another_browser(
    page: Page, browser: Browser, studio: str
) -> None:
    open_correct(page, studio, "drafts")
    page.keyboard.press("Alt+ArrowDown")
    page.keyboard.press("r")
    page.keyboard.type("not yet")
    page.reload(wait_until="domcontentloaded")
    see_order(page, "B", "A", "C", "D", "E")
    expect(page.get_by_label("Why (optional)")).to_have_value("not yet")
    expect(draft_state(page)).to_have_text("Draft saved")
    context = browser.new_context()
    other = context.new_page()
    open_correct(other, studio, "drafts")
    see_order(other, "B", "A", "C", "D", "E")
    context.close()
    assert stored(studio, "drafts") == []


def test_two_tabs_on_one_task_keep_both_versions(context: BrowserContext, studio: str) -> None:
    left, right = context.new_page(), context.new_page()
    for tab in (left, right):
        open_correct(tab, studio, "two-tabs")
    left.bring_to_front()
    left.keyboard.press("Alt+ArrowDown")
    expect(draft_state(left)).to_have_text("Draft saved")
    right.bring_to_front()
    right.keyboard.press("End")
    right.keyboard.press("1")
    panel = right.get_by_role("alert").filter(has_text="This task was changed in two places")
    expect(panel).to_contain_text("1 Bravo, 2 Alpha, 3 Charlie, 4 Delta, 5 Echo")
    expect(panel).to_contain_text("1 Echo, 2 Alpha, 3 Bravo, 4 Charlie, 5 Delta")
    mine = panel.locator("li").filter(has_text="1 Echo")
    mine.get_by_role("button", name="Go on with this one").click()
    see_order(right, "E", "A", "B", "C", "D")
    expect(draft_state(right)).to_have_text("Draft saved")
    left.bring_to_front()
    left.keyboard.press("Enter")
    panel = left.get_by_role("alert").filter(has_text="This task was changed in two places")
    expect(panel).to_contain_text("1 Echo")
    expect(panel).to_contain_text("1 Bravo")
    assert stored(studio, "two-tabs") == []
    panel.locator("li").filter(has_text="1 Bravo").get_by_role("button").click()
    left.keyboard.press("Enter")
    see_said(left, "Handed in.")
    assert tiers(stored(studio, "two-tabs")) == [["b"], ["a"], ["c"], ["d"], ["e"]]


def test_two_people_in_two_browsers_have_a_word_each(page: Page, browser: Browser, studio: str) -> None:
    context = browser.new_context()
    other = context.new_page()
    open_correct(page, studio, "left-one")
    open_correct(other, studio, "right-one")
    expect(other.locator(".rs-desk-task .rs-eyebrow")).to_contain_text("on it")
    page.keyboard.press("Alt+ArrowDown")
    other.keyboard.press("End")
    other.keyboard.press("1")
    other.keyboard.press("Enter")
    page.keyboard.press("Enter")
    see_said(page, "Handed in.")
    see_said(other, "Handed in.")
    assert [w["task_id"] for a in ("left-one", "right-one") for w in stored(studio, a)] == ["c-0", "c-0"]
    assert tiers(stored(studio, "left-one"))[0] == ["b"]
    assert tiers(stored(studio, "right-one"))[0] == ["e"]
    context.close()


def test_a_connection_that_is_cut_in_mid_drag_loses_nothing(browser: Browser, studio: str) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    page = context.new_page()
    open_correct(page, studio, "cut-off")
    drag(page, "Delta", "Bravo", drop=False)
    expect(page.locator(".rs-row.is-dragged")).to_have_count(1)
    context.set_offline(True)
    release(page)
    see_order(page, "A", "D", "B", "C", "E")
    expect(draft_state(page)).to_have_text("No connection: the draft is kept in this browser")
    page.keyboard.press("Enter")
    see_said(page, "Kept in this browser.")
    expect(page.locator(".rs-waiting")).to_contain_text("1 correction kept in this browser, not delivered yet")
    expect(page.get_by_role("heading", name="No connection to the studio")).to_be_visible()
    context.set_offline(False)
    see_said(page, "Kendall τ-b to tester: 0.60")
    see_task(page, 1)
    expect(page.locator(".rs-waiting")).to_be_hidden()
    assert tiers(stored(studio, "cut-off")) == [["a"], ["d"], ["b"], ["c"], ["e"]]
    assert page.evaluate("Object.keys(localStorage).filter(k => /outbox|draft/.test(k))") == []
    context.close()


def test_what_was_done_without_a_connection_is_there_when_the_page_is_opened_again(
    browser: Browser, studio: str
) -> None:
    context = browser.new_context()
    page = context.new_page()
    open_correct(page, studio, "closed")
    context.set_offline(True)
    page.keyboard.press("Alt+ArrowDown")
    expect(draft_state(page)).to_contain_text("kept in this browser")
    page.close()
    context.set_offline(False)
    page = context.new_page()
    open_correct(page, studio, "closed")
    see_order(page, "B", "A", "C", "D", "E")
    expect(draft_state(page)).to_have_text("Draft saved")
    page.keyboard.press("Enter")
    see_said(page, "Handed in.")
    assert tiers(stored(studio, "closed"))[0] == ["b"]
    context.close()


@pytest.mark.parametrize("arrives", [True, False], ids=["after it was stored", "before it was stored"])
def test_a_server_that_is_killed_before_it_answers_loses_and_doubles_nothing(
    browser: Browser, chromium_path: str, tmp_path: Path, arrives: bool
) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    settings.make_directories()
    write_card(settings.models_dir, ModelCard(name="quick", engine="scripted", answer_format="scored"))
    store = Store(settings.database_path)
    dataset_id = fill_to_correct(store, 2)
    store.close()
    context = browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    page = context.new_page()
    with run_server(settings.data_dir) as (server, address):

        def kill(route: Route) -> None:
            if arrives:
                assert route.fetch().status == 201
            server.send_signal(signal.SIGKILL)
            server.wait(10)
            route.abort()

        page.route("**/api/desk/submit", kill, times=1)
        open_correct(page, address, "survivor", dataset=str(dataset_id))
        page.keyboard.press("Alt+ArrowDown")
        page.keyboard.press("Enter")
        see_said(page, "Kept in this browser.")
        expect(page.locator(".rs-waiting")).to_be_visible()
    with run_server(settings.data_dir, port=int(address.rsplit(":", 1)[1])) as (_, address):
        see_said(page, "Kendall τ-b to tester: 0.80")
        expect(page.locator(".rs-waiting")).to_be_hidden()
        see_task(page, 1)
        every = httpx.get(f"{address}/api/corrections", trust_env=False).json()
        assert (every["total"], tiers(every["corrections"])[0]) == (1, ["b"])
    context.close()
    store = Store(settings.database_path)
    assert store.verify() == []
    store.close()
