"""A studio that is open to others: logging in and out in a real browser, what each role sees, and the page that says no."""

from collections.abc import Iterator

import pytest
from argon2 import PasswordHasher
from conftest import run_studio
from playwright.sync_api import Browser, Page, expect

from studio.accounts import Accounts
from studio.library import Library
from studio.permissions import Role
from studio.settings import Settings
from studio.store import Store

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, chromium_path: str) -> Iterator[str]:
    """A studio that asks for a login."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("guarded") / "data")
    settings.make_directories()
    store = Store(settings.database_path)
    Library(store).seed_samples()
    accounts = Accounts(store, settings.data_dir, hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    for name, role in (("ann", Role.ANNOTATOR), ("rob", Role.RESEARCHER), ("eve", Role.ADMIN)):
        accounts.add(name, role, PASSWORD)
    store.close()
    with run_studio(settings.data_dir, "accounts") as address:
        yield address


@pytest.fixture
def page(browser: Browser, guarded: str) -> Iterator[Page]:
    """A browser that knows nobody yet."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(15_000)
    yield context.new_page()
    context.close()


def log_in(page: Page, name: str, password: str = PASSWORD) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.keyboard.press("Enter")


def test_in_and_out(page: Page, guarded: str) -> None:
    page.goto(f"{guarded}/data?dataset=2")
    expect(page).to_have_title("Log in - Ranking Studio")
    expect(page.get_by_label("Name")).to_be_focused()
    log_in(page, "ann", "a wrong password")
    expect(page.get_by_role("alert")).to_have_text("Name or password is not right. Try again.")
    expect(page.get_by_label("Name")).to_have_value("ann")
    expect(page.get_by_label("Password")).to_be_focused()
    log_in(page, "ann")
    expect(page).to_have_url(f"{guarded}/data?dataset=2")
    expect(page.locator("#dataset-summary h2")).to_have_text("recommendation")
    cookie = next(c for c in page.context.cookies() if c["name"] == "ranking_studio")
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
    expect(page.locator(".rs-person")).to_contain_text("ann")
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_title("Log in - Ranking Studio")
    page.goto(f"{guarded}/traces")
    expect(page).to_have_title("Log in - Ranking Studio")


def test_an_annotator_ranks_but_neither_deletes_nor_measures_people(page: Page, guarded: str) -> None:
    page.goto(f"{guarded}/data")
    log_in(page, "ann")
    expect(page.locator("#dataset-summary h2")).to_be_visible()
    nav = page.get_by_role("navigation", name="Pages")
    expect(nav.get_by_role("link", name="Traces")).to_be_visible()
    expect(nav.get_by_role("link", name="Quality")).to_be_hidden()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("alert").first).to_contain_text("role: annotator: may not do this (delete)")
    page.goto(f"{guarded}/quality")
    expect(page.get_by_role("heading")).to_have_text("Not for this account")
    expect(page.get_by_role("alert")).to_contain_text("ask for the role researcher")
    page.get_by_role("button", name="Log in as somebody else").click()
    expect(page).to_have_title("Log in - Ranking Studio")


def test_a_researcher_finds_the_quality_page_empty_and_is_told_why(page: Page, guarded: str) -> None:
    page.goto(f"{guarded}/quality")
    log_in(page, "rob")
    expect(page.locator("#quality-summary h2")).to_have_text("Nothing was corrected yet")
    expect(page.locator("#quality-summary")).to_contain_text("Let two people correct the same tasks")
    expect(page.locator("#disputes")).to_contain_text("No task has been corrected by two people yet.")


def test_the_login_page_is_dark_before_its_modules_arrive(browser: Browser, guarded: str) -> None:
    """The dark does not flash light: what is drawn first has the colours."""
    page = browser.new_page(color_scheme="dark")
    page.route("**/login.js", lambda _: None)  # never answered
    page.goto(f"{guarded}/login", wait_until="commit")
    page.locator("main").wait_for()
    assert page.evaluate("document.body.classList.contains('dark') && document.readyState === 'interactive'")
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_the_login_page_and_it_fits_a_narrow_screen(
    browser: Browser, guarded: str, scheme: str
) -> None:
    axe_playwright = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is missing"
    )
    page = browser.new_page(color_scheme=scheme, viewport={"width": 390, "height": 844})  # type: ignore[arg-type]
    page.goto(f"{guarded}/login")
    log_in(page, "<b>nobody", "a wrong password")
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("Name")).to_have_value("<b>nobody")
    found = axe_playwright.Axe().run(page).response["violations"]
    assert [(v["id"], [n["html"][:120] for n in v["nodes"]]) for v in found] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()
