"""Hostile text of datasets and models stays text on every page: no dialog, no element, no request to elsewhere.

The `context` fixture fails a test whose pages ask for anything outside of the studio.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from correctpage import open_correct
from hostile import HOSTILE, TEXT, hostile_task
from playwright.sync_api import BrowserContext, Page, expect
from qualitypage import correct
from rankpage import choose, open_rank, see_finished

MARKUP = "Array.from(document.querySelectorAll('.rs-place :is(img, script, iframe, u, b, i:not(.rs-mark i), svg[onload])')).length"


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    opened = context.new_page()
    dialogs: list[str] = []
    opened.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    yield opened
    opened.wait_for_timeout(300)  # what would run, runs late
    assert dialogs == []
    assert opened.evaluate("document.body.hasAttribute('pwned')") is False
    assert opened.evaluate(MARKUP) == 0


def test_on_the_board_while_it_is_ranked(page: Page, studio: str) -> None:
    open_rank(page, studio, "?trace=hostile")
    expect(page.locator(".rs-board .rs-query")).to_contain_text("<img src=x onerror=")
    expect(page.locator(".rs-steps .rs-thought").first).to_have_text(TEXT)
    expect(page.locator(".rs-figures .js-plotly-plot")).to_have_count(2)
    choose(page, "Model", "quick")
    page.get_by_role("button", name="Rank", exact=True).click()
    expect(page).not_to_have_url(f"{studio}/?trace=hostile")
    see_finished(page)
    expect(page.locator(".rs-card").first).to_contain_text("pwned")
    page.locator(".rs-figures .js-plotly-plot").first.hover()


def test_in_the_task_list_and_the_search(page: Page, studio: str) -> None:
    open_rank(page, studio, "?trace=hostile")
    expect(page.locator("#tasks .rs-pick").first).to_contain_text("<img src=x")
    page.get_by_label("Find a task").fill(TEXT[:200])
    expect(page.locator("#tasks")).to_contain_text("pwned")


def test_on_the_traces_page(page: Page, studio: str) -> None:
    page.goto(f"{studio}/traces", wait_until="domcontentloaded")
    page.get_by_label("Find").fill("onerror")
    expect(page.locator("#traces tbody tr").first).to_contain_text(HOSTILE)
    page.goto(f"{studio}/traces?trace=hostile", wait_until="domcontentloaded")
    page.get_by_text("Exact prompt").first.click()
    expect(page.locator(".rs-prompt").first).to_have_text(TEXT)


def test_on_the_correct_page(page: Page, studio: str) -> None:
    open_correct(page, studio, HOSTILE, "?task=%3Cb%3Etask%3C%2Fb%3E&trace=hostile")
    expect(page.locator(".rs-row").first).to_contain_text("pwned")
    page.keyboard.press("]")
    expect(page.locator(".rs-review .rs-thought").first).to_have_text(TEXT)
    page.keyboard.press("l")
    page.keyboard.press("r")
    page.keyboard.type(TEXT[:200])
    page.locator(".rs-grip").first.focus()
    page.keyboard.press("Alt+ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator(".rs-strip")).to_contain_text(HOSTILE)
    page.keyboard.press("b")
    expect(page.get_by_label("Why (optional)")).to_have_value(TEXT[:200])
    page.goto(f"{studio}/correct?task=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E", wait_until="domcontentloaded")
    expect(page.locator(".rs-empty")).to_contain_text("<img src=x")


def test_in_an_upload_and_its_error(page: Page, studio: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    task = hostile_task().model_dump(mode="json")
    path.write_text(json.dumps(task) + "\n" + json.dumps({**task, "domain": TEXT}) + "\n", encoding="utf-8")
    page.goto(f"{studio}/data", wait_until="domcontentloaded")
    expect(page.locator("#dataset-summary h2")).to_be_visible()
    for text in (path.read_text(encoding="utf-8"), json.dumps(task) + "\n"):
        path.write_text(text, encoding="utf-8")
        page.locator("#upload input[type=file]").set_input_files(path)
        shown = page.get_by_role("region", name="Import")
        expect(shown.locator(".rs-first-tasks")).to_contain_text("<img src=x")
        if shown.get_by_role("alert").count():
            expect(shown.get_by_role("alert")).to_contain_text("x.jsonl:2")
            page.locator("#upload .top-panel").get_by_label("Clear").click()
            expect(shown).to_have_count(0)
    shown.get_by_label("Name").fill(HOSTILE + "2")
    shown.get_by_role("button", name="Import", exact=True).click()
    expect(page.locator("#dataset-summary h2")).to_have_text(HOSTILE + "2")
    expect(page.locator("#tasks tbody tr").first).to_contain_text("<img src=x")


def test_on_the_quality_page(page: Page, studio: str) -> None:
    ids = [c.candidate_id for c in hostile_task().candidates]
    for author, order in ((HOSTILE, ids), (f"{HOSTILE} 2", ids[::-1]), ("<script>alert(7)</script>", ids[::-1])):
        correct(studio, HOSTILE, "<b>task</b>", author, [[i] for i in order], reason=TEXT, trace_id="hostile")
    page.goto(f"{studio}/quality", wait_until="domcontentloaded")
    expect(page.locator("#people")).to_contain_text(HOSTILE)
    expect(page.locator("#per-annotator .js-plotly-plot .main-svg").first).to_be_visible()
    page.locator("#per-annotator .js-plotly-plot").hover()
    page.locator("#disputes .rs-pick", has_text="<b>task</b>").click()
    shown = page.get_by_role("form", name="Decide between versions")
    expect(shown.locator(".rs-version").first).to_contain_text("<img src=x")
    shown.get_by_label("Your name").fill("<i>judge</i>")
    shown.get_by_label("Reason").fill(TEXT)
    shown.get_by_role("button", name="Keep as the gold answer").click()
    expect(page.locator("#notice")).to_contain_text("<b>task</b>: decided")


def test_in_an_address(page: Page, studio: str) -> None:
    open_rank(page, studio, "?trace=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E")
    expect(page.get_by_role("alert").first).to_contain_text("<img src=x")
