"""Every page in light and dark, wide and narrow: nothing that axe-core finds, nothing that sticks out of a narrow screen."""

from pathlib import Path
from typing import Literal

import pytest
from correctpage import open_correct
from playwright.sync_api import Browser, Page, TimeoutError, expect
from qualitypage import correct_differently
from rankpage import open_rank, rank_to_the_end

axe_playwright = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is missing")

Scheme = Literal["light", "dark"]
NARROW = {"width": 390, "height": 844}
_STICKING_OUT = """width => [...document.querySelectorAll("*")]
    .filter((e) => e.getBoundingClientRect().right > width + 1 || e.scrollWidth > width + 1)
    .map((e) => `${e.tagName}.${e.getAttribute("class")} ${e.scrollWidth}`).slice(0, 20)"""
"""The elements that are to blame, for the message."""
WIDE = {"width": 1440, "height": 900}


@pytest.fixture(scope="module")
def trace_id(browser: Browser, studio: str, finished_job: Path) -> str:
    page = browser.new_page()
    trace_id = rank_to_the_end(page, studio, "?dataset=2")
    page.close()
    return trace_id


@pytest.fixture(scope="module")
def disputed(studio: str) -> str:
    return correct_differently(studio)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Browser, studio: str, trace_id: str, disputed: str, scheme: Scheme) -> None:
    page = browser.new_page(color_scheme=scheme, viewport=WIDE, reduced_motion="reduce")
    found = []
    for path, shown in _views(trace_id, disputed):
        page.goto(f"{studio}{path}", wait_until="domcontentloaded")
        expect(page.locator(shown).first).to_be_visible()
        results = axe_playwright.Axe().run(page)
        for violation in results.response["violations"]:
            nodes = [node["html"][:160] for node in violation["nodes"][:3]]
            found.append((path, violation["id"], violation["impact"], nodes))
    open_correct(page, studio, f"axe-{scheme}")
    for key, shown in (
        ("]", ".rs-review details[open]"),
        ("c", ".rs-line"),
        ("l", ".rs-label-box[open]"),
        ("g", ".rs-guidelines[open]"),
        ("?", "dialog[open]"),
    ):
        page.keyboard.press(key)
        expect(page.locator(shown).first).to_be_visible()
        for violation in axe_playwright.Axe().run(page).response["violations"]:
            nodes = [node["html"][:160] for node in violation["nodes"][:3]]
            found.append((f"/correct {key}", violation["id"], violation["impact"], nodes))
    page.close()
    assert found == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_of_a_narrow_screen(
    browser: Browser, studio: str, trace_id: str, disputed: str, scheme: Scheme
) -> None:
    page = browser.new_page(color_scheme=scheme, viewport=NARROW, reduced_motion="reduce")
    for path, shown in _views(trace_id, disputed):
        page.goto(f"{studio}{path}", wait_until="domcontentloaded")
        expect(page.locator(shown).first).to_be_visible()
        _settle_within(page, NARROW["width"], path)
    open_correct(page, studio, f"narrow-{scheme}")
    for key in ("c", "]", "l", "g", "?"):
        page.keyboard.press(key)
    _settle_within(page, NARROW["width"], "/correct")
    page.close()


def _settle_within(page: Page, width: int, path: str) -> None:
    """The page comes to rest no wider than the screen (while it is put together it may be, for a moment)."""
    try:
        page.wait_for_function("width => document.documentElement.scrollWidth <= width", arg=width)
    except TimeoutError:
        found = page.evaluate(_STICKING_OUT, width)
        pytest.fail(f"{path}: {page.evaluate('document.documentElement.scrollWidth')} wide: {found}")


def _views(trace_id: str, disputed: str) -> list[tuple[str, str]]:
    """(address, what is to be seen there)."""
    return [
        ("/?dataset=1", ".rs-card"),
        (f"/?trace={trace_id}", ".js-plotly-plot .main-svg"),
        ("/traces", "#traces tbody tr"),
        (f"/traces?trace={trace_id}", ".rs-step-card"),
        (f"/traces?left={trace_id}&right={trace_id}", ".rs-pair"),
        ("/data", "#tasks tbody tr"),
        ("/quality", "#per-annotator .main-svg"),
        (f"/quality{disputed}", ".rs-version"),
        ("/train?job=20260101-000000-aaaa", "[data-curve='Loss'] .main-svg"),
        ("/correct", "#rs-name"),
        ("/evaluate?evaluation=example", "#frontier .main-svg"),
    ]


def test_light_and_dark_can_be_switched_and_stay(browser: Browser, studio: str) -> None:
    page = browser.new_page()
    open_rank(page, studio, "?dataset=1")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Switch between light and dark").click()
    after = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert before != after
    page.reload(wait_until="domcontentloaded")
    expect(page.locator(".rs-card").first).to_be_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == after
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_form_of_a_new_job(browser: Browser, studio: str, finished_job: Path, scheme: Scheme) -> None:
    page = browser.new_page(color_scheme=scheme, viewport=NARROW, reduced_motion="reduce")
    page.goto(f"{studio}/train", wait_until="domcontentloaded")
    expect(page.locator("#jobs .rs-pick").first).to_be_visible()
    page.locator("#job-new").click()
    expect(page.locator("#job-start")).to_be_visible()
    expect(page.locator("#job-estimate h2")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    found = axe_playwright.Axe().run(page).response["violations"]
    page.close()
    assert [(v["id"], [n["html"][:160] for n in v["nodes"][:3]]) for v in found] == []
