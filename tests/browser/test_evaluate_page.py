"""The Evaluate page: start, watch, reload, stop, resume, sort, compare, read both traces, export; what is kept and deleted."""

import json
import re
import zipfile
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hostile import HOSTILE
from playwright.sync_api import BrowserContext, Locator, Page, expect

NARROW = {"width": 390, "height": 844}
RUN_MS = 60_000
"""An evaluation is a process of its own, which loads the libraries first."""


def _open(page: Page, studio: str, query: str = "") -> None:
    page.goto(f"{studio}/evaluate{query}", wait_until="domcontentloaded")
    expect(page.locator("#evaluation h2")).to_be_visible()
    expect(page.locator("#estimate dl")).to_be_visible()


def _pick_only(page: Page, label: str, *names: str) -> None:
    """Choose these and nothing else in a field that takes several."""
    field = page.get_by_label(label, exact=True)
    box = page.locator(f"#evaluation-{label.lower()}")
    while box.locator(".token").count():
        field.click()
        field.press("Backspace")
    for name in names:
        field.fill(name)
        expect(page.get_by_role("option").first).to_contain_text(name)
        field.press("Enter")
        expect(box.locator(".token").last).to_contain_text(name)
    field.press("Escape")


def _start(page: Page, name: str, model: str, queries: int) -> Locator:
    """The state's chip of an evaluation on the passage sample."""
    page.get_by_label("Name", exact=True).fill(name)
    _pick_only(page, "Datasets", "passage")
    _pick_only(page, "Models", model)
    _pick_only(page, "Modes", "First-token", "Iterative")
    page.get_by_label("Queries a dataset").fill(str(queries))
    page.get_by_label("Queries a dataset").press("Tab")
    expect(page.locator("#estimate")).to_contain_text(f"{queries * 3 * 5:,}")
    page.get_by_role("button", name="Evaluate", exact=True).click()
    expect(page.locator("#evaluation h2")).to_have_text(name)
    return page.locator("#evaluation .rs-eval-title .rs-chip")


def _choose(page: Page, elem_id: str, option: str) -> None:
    """Choose in one of the page's dropdowns, once the list of another one has faded."""
    expect(page.get_by_role("listbox")).to_have_count(0)
    page.locator(f"#{elem_id} input").click()
    page.get_by_role("option", name=option, exact=True).click()


def _row(page: Page, system: str) -> Locator:
    return page.locator("#leaderboard tbody tr", has=page.locator(f".rs-row-text[title='{system}']"))


@pytest.fixture(scope="module")
def finished_id(profile: BrowserContext, studio: str) -> str:
    """An evaluation that has run to its end."""
    page = profile.new_page()
    _open(page, studio)
    expect(_start(page, "passages, quickly", "quick", 6)).to_have_text("Finished", timeout=RUN_MS)
    expect(page).to_have_url(re.compile(r"evaluation=\d{8}-\d{6}-"))
    evaluation_id = parse_qs(urlsplit(page.url).query)["evaluation"][0]
    page.close()
    return evaluation_id


@pytest.fixture
def finished(page: Page, studio: str, finished_id: str) -> Page:
    """The page on an evaluation at its end."""
    _open(page, studio, f"?evaluation={finished_id}")
    expect(page.locator("#evaluation h2")).to_have_text("passages, quickly")
    expect(page.locator("#leaderboard tbody tr")).to_have_count(5)
    return page


def test_the_example_is_there_from_the_start_and_can_only_be_read(page: Page, studio: str) -> None:
    _open(page, studio, "?evaluation=example")
    expect(page.locator("#evaluation")).to_contain_text("Read only")
    expect(page.locator("#evaluation").get_by_role("button", name="Delete")).to_have_count(0)
    published = page.locator("#leaderboard tr.is-published")
    expect(published.first).to_contain_text("published")
    assert published.count() == 9
    expect(page.locator("#leaderboard .is-floor")).to_have_count(page.locator("#leaderboard tbody tr").count() - 9)
    expect(page.locator("#frontier .main-svg").first).to_be_visible()
    expect(page.locator("#frontier [role=img]")).to_have_attribute("aria-label", re.compile(r"random floor \d+\.\d"))
    _choose(page, "dataset", "All datasets")
    expect(page.locator("#leaderboard thead")).to_contain_text("Dataset")
    expect(page.locator("#frontier")).to_contain_text("Choose one dataset")


def test_an_evaluation_is_watched_survives_a_reload_is_stopped_and_resumed(page: Page, studio: str) -> None:
    _open(page, studio)
    state = _start(page, "passages, slowly", "slow", 3)
    expect(state).to_have_text("Running", timeout=RUN_MS)
    expect(page.locator("#evaluation [role=status]")).to_contain_text("of 45 rankings", timeout=RUN_MS)
    expect(page).to_have_url(re.compile(r"evaluation=\d{8}-\d{6}-"))
    page.reload(wait_until="domcontentloaded")
    expect(page.locator("#evaluation h2")).to_have_text("passages, slowly")
    expect(_row(page, "random")).to_be_visible(timeout=RUN_MS)
    page.get_by_role("button", name="Evaluate", exact=True).click()
    expect(page.get_by_role("alert").first).to_contain_text("is running: wait for it or stop it")
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(state).to_have_text("Stopped", timeout=RUN_MS)
    expect(page.locator("#evaluation")).to_contain_text("of 45 rankings")
    page.get_by_role("button", name="Resume", exact=True).click()
    expect(state).to_have_text("Running", timeout=RUN_MS)
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(state).to_have_text("Stopped", timeout=RUN_MS)
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_role("status").first).to_contain_text("passages, slowly is deleted")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#evaluations")).to_contain_text("passages, slowly")
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_role("status").first).to_contain_text("is deleted")


def test_rows_are_sorted_by_the_keyboard_too(finished: Page) -> None:
    names = finished.locator("#leaderboard tbody .rs-row-text")
    means = [float(text) for text in finished.locator("#leaderboard td.is-value b").all_inner_texts()]
    assert means == sorted(means, reverse=True)
    heading = finished.get_by_role("columnheader", name="System")
    heading.get_by_role("button").focus()
    finished.keyboard.press("Enter")
    expect(heading).to_have_attribute("aria-sort", "ascending")
    assert names.all_inner_texts() == sorted(names.all_inner_texts())
    expect(heading.get_by_role("button")).to_be_focused()
    finished.keyboard.press("Enter")
    expect(heading).to_have_attribute("aria-sort", "descending")
    assert names.all_inner_texts() == sorted(names.all_inner_texts(), reverse=True)
    expect(_row(finished, "quick/iterative@48")).to_contain_text("100%")


def test_two_rows_are_compared_and_lead_to_both_traces(finished: Page) -> None:
    _choose(finished, "compare-a", "quick/iterative@48")
    _choose(finished, "compare-b", "bm25")
    expect(finished.locator("#comparison")).to_contain_text("A is quick/iterative@48")
    expect(finished.locator("#comparison")).to_contain_text("B is bm25")
    expect(finished.get_by_role("table", name="Difference on every dataset").locator("tbody tr")).to_have_count(1)
    expect(finished.locator("#comparison")).to_contain_text("Iteration gain")
    finished.get_by_role("link", name="Both traces").first.click()
    expect(finished.locator(".rs-trace .rs-side-name")).to_have_count(2)
    expect(finished.locator(".rs-side-name").first).to_contain_text("quick, iterative")
    expect(finished.locator(".rs-pair").first).to_contain_text("Exact prompt")
    finished.get_by_role("link", name="Back to the evaluation").click()
    expect(finished.locator("#evaluation h2")).to_have_text("passages, quickly")
    expect(finished.locator("#comparison")).to_contain_text("B is bm25")


def test_errors_are_drawn_beside_chance(finished: Page) -> None:
    _choose(finished, "analysed", "quick/iterative@48")
    for plot in ("losses", "positions", "lengths", "reliability"):
        expect(finished.locator(f"#{plot} .main-svg").first).to_be_visible()
        expect(finished.locator(f"#{plot} [role=img]")).to_have_attribute(
            "aria-label", re.compile("random|calibration")
        )
    expect(finished.locator("#analysis")).to_contain_text("chi-square")
    expect(finished.locator("#analysis")).to_contain_text("random 0")
    _choose(finished, "analysed", "bm25")
    expect(finished.locator("#analysis")).to_contain_text("A baseline orders in one go")


@pytest.mark.parametrize(
    ("name", "starts"),
    [("CSV", "dataset,system,metric"), ("LaTeX", "\\begin{tabular}"), ("Markdown", "# Evaluation"), ("JSON", "{")],
)
def test_each_format_is_downloaded(finished: Page, name: str, starts: str) -> None:
    with finished.expect_download() as caught:
        finished.locator("#evaluation").get_by_role("link", name=name, exact=True).click()
    text = Path(caught.value.path()).read_text(encoding="utf-8")
    assert text.startswith(starts)
    if name == "JSON":
        assert json.loads(text)["format"] == "ranking-studio-evaluation-1"


def test_trec_runs_are_downloaded_and_the_command_is_shown(finished: Page) -> None:
    with finished.expect_download() as caught:
        finished.get_by_role("link", name="TREC runs").click()
    with zipfile.ZipFile(Path(caught.value.path())) as runs:
        assert "passage.bm25.seed0.run" in runs.namelist()
    finished.get_by_text("Made by this command").click()
    expect(finished.locator(".rs-command")).to_contain_text("python launch.py eval --datasets passage --models quick")


def test_wrong_fields_are_said_before_it_starts(page: Page, studio: str) -> None:
    _open(page, studio)
    _pick_only(page, "Datasets", "rec-movie")
    expect(page.locator("#estimate")).to_contain_text("name their folder under More")
    page.get_by_role("button", name="Evaluate", exact=True).click()
    expect(page.get_by_role("alert").first).to_contain_text("folder of raw files: none")


def test_hostile_names_stay_text(page: Page, studio: str) -> None:
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    _open(page, studio)
    _pick_only(page, "Datasets", HOSTILE)
    page.get_by_label("Name", exact=True).fill(HOSTILE + "<img src=x onerror=alert(1)>")
    page.get_by_role("button", name="Evaluate", exact=True).click()
    expect(page.locator("#evaluation h2")).to_contain_text("<img src=x onerror=alert(1)>")
    state = page.locator("#evaluation .rs-eval-title .rs-chip")
    expect(state).to_have_text("Finished", timeout=RUN_MS)
    expect(page.locator("#comparison")).to_contain_text(
        "<b>task</b>" if page.locator("#comparison tbody tr").count() else ""
    )
    expect(page.locator("#leaderboard")).to_contain_text(HOSTILE)
    expect(page.locator("#frontier .main-svg").first).to_be_visible()
    assert page.locator(".rs-place :is(img, script, u, iframe)").count() == 0
    assert dialogs == []
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_role("status").first).to_contain_text("is deleted")


def test_nothing_sticks_out_of_a_narrow_screen(finished: Page) -> None:
    before = finished.viewport_size
    finished.set_viewport_size(NARROW)
    finished.reload(wait_until="domcontentloaded")
    expect(finished.locator("#leaderboard tbody tr").first).to_be_visible()
    assert finished.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    assert before is not None
    finished.set_viewport_size(before)
