"""One studio in its own process, one Chromium, for all browser tests: scripted models, the samples, and hostile data."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from correctpage import fill_to_correct
from hostile import HOSTILE, hostile_task, hostile_trace
from jobs import fill_training, make_finished_job, stop_jobs
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright

from ranker.schema import Mode
from studio.library import Library
from studio.settings import Settings
from studio.store import Store
from trainer.modelcards import ModelCard, write_card

START_S = 60
expect.set_options(timeout=15_000)
FEATURES_OFF = (
    "WebUIOmniboxPopup", "WebUIOmniboxAimPopup",
    "AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose", "HttpsUpgrades",
    "HttpsFirstBalancedModeAutoEnable", "LensOverlay", "MediaRouter", "PaintHolding", "ThirdPartyStoragePartitioning",
    "AvoidCorsURLLoaderRestartOnRedirect", "OptimizationHints", "NetworkTimeServiceQuerying", "AimEnabled", "PreconnectToSearch",
)  # fmt: skip
"""The first two render what an address bar would drop down, beside every page: over a CPU second each. The others are those that
Playwright turns off: of two such lists Chromium takes the last."""
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    f"--disable-features={','.join(FEATURES_OFF)}",
)  # fmt: skip
SERVE = """
import sys
from pathlib import Path
from studio.server import serve
from studio.settings import Settings
settings = Settings(
    data_dir=Path(sys.argv[1]), port=int(sys.argv[2]), model="quick", open_browser=False, accounts="accounts" in sys.argv
)
serve(settings, on_ready=lambda url: print(url, flush=True))
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium_path() -> str:
    found = os.environ.get("STUDIO_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        reason = "no chromium on the path: install it, or set STUDIO_CHROMIUM to one"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return found


@pytest.fixture(scope="session")
def browser(chromium_path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium_path, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the running studio keeps its things."""
    return tmp_path_factory.mktemp("browser") / "data"


@pytest.fixture(scope="session")
def studio(data_dir: Path, chromium_path: str, toy_model_dir: Path) -> Iterator[str]:
    """The address of a running studio, without the last slash."""
    _fill(data_dir)
    fill_training(data_dir, toy_model_dir)
    with run_studio(data_dir) as address:
        yield address
        stop_jobs(data_dir)


@contextmanager
def run_studio(data_dir: Path, *flags: str) -> Iterator[str]:
    """A studio in its own process; its address. The flag `accounts` asks for a login. Its log must be clean."""
    with run_server(data_dir, *flags) as (_, address):
        yield address
    log = data_dir / "server.log"
    assert "Traceback" not in log.read_text(), log.read_text()


@contextmanager
def run_server(data_dir: Path, *flags: str, port: int = 0) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """The same with the process itself, for tests that kill it; the address has no last slash."""
    log = data_dir / "server.log"
    with log.open("a") as errors:
        server = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(data_dir), str(port), *flags],
            stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        if not address:
            pytest.fail(f"the studio did not start:\n{log.read_text()}")
        yield server, address.rstrip("/")
    finally:
        server.terminate()
        server.wait(START_S)


def _fill(data_dir: Path) -> None:
    settings = Settings(data_dir=data_dir)
    settings.make_directories()
    for name, delay_s in (("quick", 0.004), ("slow", 0.3)):
        card = ModelCard(name=name, engine="scripted", answer_format="scored", options={"delay_s": delay_s})
        write_card(settings.models_dir, card)
    write_card(settings.models_dir, ModelCard(name="trained", engine="scripted", think_tokens=96))
    write_card(settings.models_dir, ModelCard(name="wordless", engine="scripted", answer_format="likelihood"))
    store = Store(settings.database_path)
    library = Library(store)
    library.seed_samples()
    fill_to_correct(store)
    dataset_id, task_id = library.add_task(hostile_task(), HOSTILE)
    trace = hostile_trace()
    config = {"mode": "iterative", "answer_format": "scored", "think_tokens": 8}
    store.traces.create(
        "hostile", dataset_id, task_id, model=HOSTILE, mode=Mode.ITERATIVE, seed=0, config=config, steps=trace.steps
    )
    store.traces.finish("hostile", trace)
    store.close()


@pytest.fixture(scope="session")
def finished_job(studio: str, data_dir: Path) -> Path:
    """The folder of a PPO job that is over, its texts hostile."""
    return make_finished_job(data_dir)


@pytest.fixture(scope="session")
def profile(browser: Browser) -> Iterator[BrowserContext]:
    """One profile for the session, so that a page's files are fetched once, as they are for a person."""
    opened = browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    opened.set_default_timeout(15_000)
    yield opened
    opened.close()


@pytest.fixture
def context(profile: BrowserContext, studio: str) -> Iterator[BrowserContext]:
    """The profile without open pages; a request to anywhere else than the studio fails the test."""
    elsewhere: list[str] = []

    def note(request: Request) -> None:
        if not request.url.startswith((studio, "data:", "blob:")):
            elsewhere.append(request.url)

    profile.on("request", note)
    yield profile
    for opened in profile.pages:
        opened.close()
    profile.remove_listener("request", note)
    assert elsewhere == []


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()
