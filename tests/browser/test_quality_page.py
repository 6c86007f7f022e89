"""The Quality page: what it measures, choosing a dataset, and deciding between versions with the keyboard alone."""

import httpx
import pytest
from playwright.sync_api import Page, expect
from qualitypage import ROUTING, correct_differently


@pytest.fixture(scope="module")
def disputed(studio: str) -> str:
    return correct_differently(studio)


def _open(page: Page, studio: str, query: str = "") -> None:
    page.goto(f"{studio}/quality{query}", wait_until="domcontentloaded")
    expect(page.locator("#quality-summary h2")).to_have_text("Corrections so far")


def test_it_measures_people_and_datasets(page: Page, studio: str, disputed: str) -> None:
    _open(page, studio, f"?dataset={ROUTING}")
    row = page.locator("#agreement tbody tr", has_text="All people").first
    expect(row).to_contain_text("3 tasks")
    expect(page.locator("#people tbody tr", has_text="cat")).to_contain_text("12 s")
    plot = page.locator("#per-annotator [data-figure]")
    expect(plot.locator(".main-svg").first).to_be_visible()
    assert "ann among people" in (plot.get_attribute("aria-label") or "")
    expect(page.locator("#over-time")).to_contain_text("one day")
    page.get_by_role("combobox", name="Dataset").click()
    page.get_by_role("option", name="All datasets").click()
    expect(page.locator("#per-dataset .main-svg").first).to_be_visible()


def test_a_decision_with_the_keyboard_becomes_a_gold_task(page: Page, studio: str, disputed: str) -> None:
    _open(page, studio, disputed)
    form = page.get_by_role("form", name="Decide between versions")
    versions = form.locator(".rs-version")
    expect(versions.first).to_contain_text("ann, bob")
    expect(versions.first).to_contain_text("most common")
    expect(versions.first.get_by_role("radio")).to_be_checked()
    expect(versions.locator(".rs-chip")).to_have_text(["ann, bob", "cat", "Borda", "Bradley-Terry"])
    expect(form).to_contain_text("cat thinks so")
    assert versions.nth(1).locator("li.is-apart").count() > 0, "what differs from the chosen one is marked"
    versions.first.get_by_role("radio").focus()
    page.keyboard.press("ArrowDown")
    expect(versions.nth(1).get_by_role("radio")).to_be_checked()
    assert versions.nth(1).locator("li.is-apart").count() == 0
    form.get_by_role("button", name="Keep as the gold answer").click()
    expect(form).to_be_visible()  # a name and a reason are asked for first
    form.get_by_label("Your name").fill("judge")
    page.keyboard.press("Tab")
    page.keyboard.type("The cheaper one is enough here")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#notice")).to_contain_text("decided. It is a gold task from now on")
    expect(form).to_have_count(0)
    expect(page.locator("#gold .main-svg").first).to_be_visible()
    expect(page.locator("#people tbody tr", has_text="ann").first).to_contain_text("0 of 1")
    kept = httpx.get(f"{studio}/api/corrections", params={"author": "judge"}, trust_env=False).json()["corrections"][-1]
    assert (kept["is_gold"], kept["reason"], kept["supersedes"]) == (True, "The cheaper one is enough here", None)
    _open(page, studio, disputed)
    expect(form).to_contain_text("by judge: The cheaper one is enough here")


def test_a_task_is_picked_from_the_list_and_a_bad_link_opens_the_page(page: Page, studio: str, disputed: str) -> None:
    _open(page, studio, f"?dataset={ROUTING}&task=gone")
    expect(page.get_by_role("alert").first).to_contain_text("'gone' is not there")
    page.locator("#disputes .rs-pick").first.click()
    form = page.get_by_role("form", name="Decide between versions")
    expect(form.locator(".rs-version").first).to_be_visible()
    form.get_by_role("button", name="Close").click()
    expect(form).to_have_count(0)
