"""The Train page with a model that trains in seconds: start, watch, reload, stop, resume, compare, promote, undo, inspect."""

import json
import re
from pathlib import Path

import pytest
from hostile import TEXT
from jobs import make_drawn_job
from playwright.sync_api import Page, expect

SLOW_MS = 120_000
"""A job is a process of its own that loads PyTorch first."""
MANY_STEPS = "optimizer: {max_steps: 100000}\nexamples: {num_examples: 16, max_pool: 3}\nlora: {rank: 2}\nprecision: fp32\nmeasured: 2\nnum_threads: 1"


def _open(page: Page, studio: str, query: str = "") -> None:
    page.goto(f"{studio}/train{query}", wait_until="domcontentloaded")
    expect(page.locator("#jobs .rs-picker")).to_be_visible()


def _new(page: Page, studio: str) -> None:
    """The form, on the film tasks and the toy model."""
    _open(page, studio)
    if not page.locator("#job-start").is_visible():
        page.locator("#job-new").click()
    expect(page.locator("#job-start")).to_be_visible()
    page.get_by_label("Name").fill("browser job")
    _choose(page, "Model to train", "toy")
    _choose(page, "Learn from", "films, 24 tasks")
    page.keyboard.press("Escape")


def _choose(page: Page, label: str, option: str) -> None:
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=option, exact=True).click()


def _settings(page: Page, text: str) -> None:
    if not page.get_by_label("Settings as YAML").is_visible():
        page.get_by_role("button", name="Every other setting").click()
    page.get_by_label("Settings as YAML").fill(text)


def _see_state(page: Page, state: str) -> None:
    expect(page.locator(".rs-job-head .rs-chip").first).to_have_text(state, timeout=SLOW_MS)


def test_the_form_estimates_and_says_what_is_wrong(page: Page, studio: str) -> None:
    _new(page, studio)
    estimate = page.locator("#job-estimate")
    expect(estimate).to_contain_text(re.compile(r"Needs about \d\.\d GB; this machine has"))
    expect(estimate).to_contain_text("40 optimizer steps")
    expect(estimate).to_contain_text("12 corrections")
    page.get_by_label("Optimizer steps").fill("77")
    expect(estimate).to_contain_text("77 optimizer steps")
    layers = page.get_by_label("Last layers that learn")
    layers.fill("-1")
    expect(estimate).to_contain_text("lora.last_layers")
    layers.fill("0")
    expect(estimate).to_contain_text("77 optimizer steps")
    _settings(page, "steps: 3")
    expect(estimate).to_contain_text("job: steps: '3': no such field")
    page.locator("#job-start").click()
    expect(page.get_by_role("alert").first).to_contain_text("no such field")
    _choose(page, "Start from", "PPO with the exclusion reward")
    expect(page.get_by_label("Optimizer steps")).to_have_value("80")
    _choose(page, "Start from", "The paper’s PPO")
    expect(layers).to_have_value("0")


@pytest.mark.timeout(600)
def test_start_watch_reload_stop_resume_promote_and_undo(page: Page, studio: str) -> None:
    _new(page, studio)
    _settings(page, MANY_STEPS)
    expect(page.locator("#job-estimate")).to_contain_text("100,000 optimizer steps")
    page.locator("#job-start").click()
    expect(page.get_by_role("status").first).to_contain_text("browser job is started")
    _see_state(page, "Running")
    charts = page.locator(".rs-curves .js-plotly-plot")
    expect(charts.first).to_be_visible(timeout=SLOW_MS)
    expect(page.locator("[data-curve='Right exclusions'] .rs-key")).to_contain_text("random")
    expect(page).to_have_url(re.compile(r"job=\d{8}-"))
    page.reload(wait_until="domcontentloaded")
    _see_state(page, "Running")
    expect(charts.first).to_be_visible()
    expect(page.locator("#jobs .rs-pick[aria-pressed=true]")).to_contain_text("browser job")
    page.get_by_role("button", name="Stop", exact=True).click()
    _see_state(page, "Stopped")
    expect(page.locator("#jobs .rs-pick[aria-pressed=true]")).to_contain_text("stopped")
    stopped = page.locator(".rs-job-head").inner_text()
    page.get_by_role("button", name="Resume").click()
    _see_state(page, "Running")
    expect(page.locator(".rs-job-head")).not_to_contain_text(
        re.search(r"step [\d,]+ of", stopped).group(), timeout=SLOW_MS
    )  # type: ignore[union-attr]
    page.get_by_role("button", name="Stop", exact=True).click()
    _see_state(page, "Stopped")
    page.get_by_role("button", name="Promote").click()
    expect(page.get_by_role("status").first).to_contain_text("is the ranker now")
    expect(page.locator(".rs-job-head")).to_contain_text("This is the ranker")
    expect(page.locator(".rs-job")).to_contain_text("Corrections11: ")  # of twelve, one is held out
    page.locator("#notice").get_by_role("button", name="Undo").click()
    expect(page.get_by_role("status").first).to_contain_text("smollm2-135m-instruct is the ranker again")
    expect(page.get_by_role("button", name="Promote")).to_be_visible()


def test_a_finished_job_shows_what_came_of_it(page: Page, studio: str, finished_job: Path) -> None:
    _open(page, studio, f"?job={finished_job.name}")
    _see_state(page, "Done")
    table = page.get_by_role("table", name="Before and after")
    expect(table).to_contain_text("held-out corrections")
    expect(table).to_contain_text("+0.250")
    page.get_by_text("ranked differently").first.click()
    expect(page.locator(".rs-changed").first).to_contain_text("0.500 → 0.750")
    for curve in (
        "Reward",
        "Right exclusions",
        "KL to the reference",
        "Entropy",
        "Clip fraction",
        "Explained variance",
    ):
        expect(page.locator(f"[data-curve='{curve}'] .main-svg").first).to_be_visible()
    page.get_by_role("button", name="Older").click()
    expect(page.locator(".rs-rollout")).to_contain_text("advantage -0.500")
    expect(page.get_by_text("Completion 1 of 2")).to_be_visible()
    page.get_by_text("Log", exact=True).click()
    expect(page.get_by_label("Log")).to_contain_text("<script>")


def test_a_drawn_elimination_is_read_step_by_step(page: Page, studio: str, data_dir: Path) -> None:
    _open(page, studio, f"?job={make_drawn_job(data_dir)}")
    expect(page.get_by_role("heading", name="Eliminations", exact=True)).to_be_visible()
    expect(page.get_by_text("Elimination 1 of 1")).to_be_visible()
    rows = page.get_by_role("table", name="Who was excluded, step by step").locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.nth(0).locator("td")).to_have_text(["0.25", "1.00", "0.50", "1.34", "-0.13"])
    expect(rows.nth(1).locator("td").nth(1)).to_have_text("open")
    expect(page.locator(".rs-rollout")).to_contain_text("Left at the end: Ran / <")
    expect(page.get_by_role("button", name="Open in the inspector")).to_have_count(0)
    assert page.locator(".rs-job :is(img, script, iframe, b, i)").count() == 0


def test_zoom_is_kept_while_points_arrive(page: Page, studio: str, finished_job: Path) -> None:
    _open(page, studio, f"?job={finished_job.name}")
    chart = page.locator("[data-curve='Loss'] .js-plotly-plot")
    expect(chart.locator(".main-svg").first).to_be_visible()
    chart.evaluate("(box) => window.Plotly.relayout(box, {'xaxis.range[0]': 2, 'xaxis.range[1]': 3})")
    with (finished_job / "metrics.jsonl").open("a", encoding="utf-8") as metrics:
        metrics.write(json.dumps({"optimizer_step": 5, "time": 15.0, "loss": 0.1}) + "\n")
    page.wait_for_function("document.querySelector(\"[data-curve='Loss'] .js-plotly-plot\").data.at(-1).x.length === 5")
    assert chart.evaluate("(box) => box.layout.xaxis.range") == [2, 3]


def test_the_inspector_shows_components_as_it_is_typed(page: Page, studio: str, finished_job: Path) -> None:
    _open(page, studio, f"?job={finished_job.name}")
    inspector = page.get_by_role("region", name="Reward inspector")
    expect(inspector).to_contain_text("names one candidate")
    page.get_by_label("Completion", exact=True).fill("I do not know.")
    expect(inspector).to_contain_text("no answer")
    total = inspector.locator("tr.is-total td")
    expect(total).to_have_text(["−2.75", "−2.75", "−1.50"])
    page.get_by_role("button", name="Open in the inspector").click()
    expect(page.get_by_label("Completion", exact=True)).to_have_value(re.compile("<img src=x onerror="))


def test_hostile_text_in_completions_logs_and_names_stays_text(page: Page, studio: str, finished_job: Path) -> None:
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    _open(page, studio, f"?job={finished_job.name}")
    expect(page.locator(".rs-rollout .rs-thought").first).to_contain_text(TEXT[:60])
    expect(page.locator(".rs-job-head h2")).to_contain_text("<img src=x")
    page.get_by_text("Exact prompt and completion").click()
    page.get_by_text("All settings").click()
    page.wait_for_timeout(300)
    assert dialogs == []
    assert page.evaluate("document.body.hasAttribute('pwned')") is False
    assert page.locator(".rs-job :is(img, script, iframe, b, i)").count() == 0


def test_a_job_that_is_not_there_is_said_in_one_line(page: Page, studio: str) -> None:
    _open(page, studio, "?job=%3Cimg%20src%3Dx%3E")
    expect(page.get_by_role("alert").first).to_contain_text("no such job")
