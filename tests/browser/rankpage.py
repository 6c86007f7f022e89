"""What a person does on the Rank page, and what they see there."""

from playwright.sync_api import Locator, Page, expect

RUN_MS = 30_000
OPEN_MS = 60_000
"""A page and its first answers, on a machine that does other things too."""


def open_rank(page: Page, studio: str, query: str = "") -> None:
    """Open the page and wait for what it opens with."""
    page.goto(f"{studio}/{query}", wait_until="domcontentloaded")
    expect(page.locator(".rs-card").first).to_be_visible(timeout=OPEN_MS)


def choose(page: Page, label: str, option: str) -> None:
    """Choose in one of the page's dropdowns, once the list of another one has faded."""
    expect(page.get_by_role("listbox")).to_have_count(0)
    page.get_by_role("combobox", name=label).click()
    page.get_by_role("option", name=option, exact=True).click()


def start(page: Page, studio: str, model: str = "quick", query: str = "?dataset=1") -> None:
    """Rank the task that the page opens with."""
    open_rank(page, studio, query)
    choose(page, "Model", model)
    page.get_by_role("button", name="Rank", exact=True).click()


def state(page: Page) -> Locator:
    """Where the ranking stands: Queued, Running, Finished, ..."""
    return page.locator(".rs-status .rs-chip")


def thought(page: Page) -> Locator:
    """The reasoning of the running step."""
    return page.locator(".rs-live .rs-thought")


def num_out(page: Page) -> int:
    """How many candidates are excluded on the board."""
    return page.locator(".rs-card.is-out").count()


def see_more_out(page: Page, than: int) -> None:
    """Wait until more than `than` candidates are excluded."""
    page.wait_for_function("n => document.querySelectorAll('.rs-card.is-out').length > n", arg=than, timeout=RUN_MS)


def see_finished(page: Page) -> None:
    expect(state(page)).to_have_text("Finished", timeout=RUN_MS)


def rank_to_the_end(page: Page, studio: str, query: str = "?dataset=1") -> str:
    """Rank a task. Returns its trace_id."""
    start(page, studio, query=query)
    see_finished(page)
    return page.url.split("trace=")[1]
