"""The Traces page: find, read in full, compare, export."""

import json

import pytest
from playwright.sync_api import Browser, Page, expect
from rankpage import rank_to_the_end


@pytest.fixture(scope="module")
def pair(browser: Browser, studio: str) -> tuple[str, str]:
    """Two traces of one task; the second is a what-if of the first."""
    page = browser.new_page()
    parent = rank_to_the_end(page, studio, "?dataset=3")
    page.locator(".rs-steps > li").last.locator(".rs-step > summary").click()
    page.locator(".rs-steps > li").last.get_by_role("button", name="Branch").click()
    expect(page.locator(".rs-parent")).to_contain_text("Branched from", timeout=20_000)
    expect(page.locator(".rs-status .rs-chip")).to_have_text("Finished", timeout=30_000)
    child = page.url.split("trace=")[1]
    page.close()
    return parent, child


def test_search_finds_candidates_and_filters_narrow(page: Page, studio: str, pair: tuple[str, str]) -> None:
    page.goto(f"{studio}/traces", wait_until="domcontentloaded")
    rows = page.locator("#traces tbody tr")
    expect(rows.first).to_be_visible()
    page.get_by_label("Find").fill("lyrebird")
    expect(page.locator("#traces .rs-pager")).to_have_text("1–2 of 2")
    page.get_by_label("Find").fill("nothing has this word zzz")
    expect(page.locator("#traces")).to_contain_text("No trace fits")


def test_a_trace_is_shown_with_prompt_reasoning_and_probabilities(
    page: Page, studio: str, pair: tuple[str, str]
) -> None:
    page.goto(f"{studio}/traces?trace={pair[0]}", wait_until="domcontentloaded")
    step = page.locator(".rs-step-card").first
    expect(step).to_contain_text("There are")
    step.get_by_text("Exact prompt").click()
    expect(step.locator(".rs-prompt")).to_contain_text("assistant:")
    shares = [float(text.rstrip("%")) for text in step.locator(".rs-bars .rs-num").all_inner_texts()]
    assert sum(shares) == pytest.approx(100, abs=3)
    assert shares == sorted(shares, reverse=True)
    expect(page.locator("#filters")).not_to_be_visible()


def test_two_traces_of_a_task_are_compared_where_they_part(page: Page, studio: str, pair: tuple[str, str]) -> None:
    page.goto(f"{studio}/traces", wait_until="domcontentloaded")
    page.get_by_label("Find").fill("lyrebird")
    expect(page.locator("#traces .rs-pager")).to_have_text("1–2 of 2")
    for box in page.get_by_role("checkbox", name="Compare").all():
        box.check()
    page.get_by_role("link", name="Compare").click()
    expect(page.locator(".rs-pair.is-parting")).to_have_count(1)
    expect(page.locator(".rs-headline")).to_contain_text("They part at step 1")
    expect(page.locator(".rs-pair").first).to_contain_text("They part here")


def test_export_gives_the_finished_traces_as_lines(page: Page, studio: str, pair: tuple[str, str]) -> None:
    page.goto(f"{studio}/traces", wait_until="domcontentloaded")
    page.get_by_label("Find").fill("lyrebird")
    expect(page.locator("#traces .rs-pager")).to_have_text("1–2 of 2")
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as JSON Lines").click()
    lines = download.value.path().read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["trace_id"] for line in lines} == set(pair)
