"""The Data page: upload, see what was understood, map by hand, import or be refused; the doctor's report; delete, undo."""

import csv
import json
import re
from pathlib import Path

from hostile import TEXT
from playwright.sync_api import Locator, Page, expect


def _write_tasks(path: Path, num_tasks: int = 30, **changes: object) -> Path:
    """A file of tasks; `changes` are those of the third one."""
    lines = []
    for number in range(num_tasks):
        candidates = [{"candidate_id": str(i), "text": f"thing {i} of {number}"} for i in range(4)]
        task = {"task_id": f"t{number}", "domain": "other", "query": f"query {number}", "candidates": candidates}
        lines.append(json.dumps({**task, **(changes if number == 2 else {})}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _open(page: Page, studio: str) -> None:
    page.goto(f"{studio}/data", wait_until="domcontentloaded")
    expect(page.locator("#dataset-summary h2")).to_be_visible()


def _upload(page: Page, path: Path, name: str) -> Locator:
    """The preview of the file, named."""
    page.locator("#upload input[type=file]").set_input_files(path)
    shown = page.get_by_role("region", name="Import")
    expect(shown.get_by_label("Name")).to_have_value(path.stem)
    shown.get_by_label("Name").fill(name)
    return shown


def _import(page: Page, path: Path, name: str) -> None:
    _upload(page, path, name).get_by_role("button", name="Import", exact=True).click()
    expect(page.locator("#dataset-summary h2")).to_have_text(name)


def test_a_good_file_is_shown_imported_paged_searched_and_ranked(page: Page, studio: str, tmp_path: Path) -> None:
    _open(page, studio)
    shown = _upload(page, _write_tasks(tmp_path / "good.jsonl"), "good things")
    expect(shown.locator(".rs-first-tasks > li")).to_have_count(3)
    expect(shown).to_contain_text("30 tasks in all")
    shown.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_role("status").first).to_contain_text("good things: 30 tasks imported")
    expect(shown).to_have_count(0)
    expect(page.locator("#tasks .rs-pager")).to_contain_text("1–25 of 30")
    page.locator("#tasks").get_by_role("button", name="Next page").click()
    expect(page.locator("#tasks .rs-pager")).to_contain_text("26–30 of 30")
    page.get_by_label("Find a task").fill("query 17")
    expect(page.locator("#tasks tbody tr")).to_have_count(1)
    page.get_by_role("link", name="Rank this task").click()
    expect(page.locator(".rs-board .rs-query")).to_have_text("query 17")
    expect(page.locator(".rs-card")).to_have_count(4)


def test_odd_columns_are_mapped_by_hand(page: Page, studio: str, tmp_path: Path) -> None:
    path = tmp_path / "fluss.csv"
    with path.open("w", newline="", encoding="utf-8") as out:
        rows = csv.writer(out)
        rows.writerow(["Frage", "Fluss", "richtig"])
        rows.writerows([f"Frage {i}?", f"Fluss {j} von {i}", int(j == 1)] for i in range(6) for j in range(3))
    _open(page, studio)
    shown = _upload(page, path, "rivers")
    expect(shown.get_by_role("alert")).to_contain_text("fluss.csv:2: column 'candidates'")
    expect(shown).not_to_contain_text("--")
    expect(shown.get_by_role("button", name="Import", exact=True)).to_be_disabled()
    for label, column in (("Candidate text", "Fluss"), ("Query", "Frage"), ("Relevance", "richtig")):
        shown.get_by_label(label, exact=True).select_option(column)
        expect(shown).to_have_attribute("aria-busy", "false")
    expect(shown.locator(".rs-first-tasks > li").first).to_contain_text("Frage 0?")
    expect(shown.locator(".rs-first-tasks .rs-chip")).to_have_text(["relevant"] * 3)
    expect(shown.get_by_label("Name")).to_have_value("rivers")
    shown.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_role("status").first).to_contain_text("rivers: 6 tasks imported")
    expect(page.locator("#dataset-summary")).to_contain_text("6 of 6")


def test_a_broken_file_is_refused_in_one_line_that_says_where(page: Page, studio: str, tmp_path: Path) -> None:
    _open(page, studio)
    stored = page.locator("#datasets .rs-pick")
    before = stored.count()
    shown = _upload(page, _write_tasks(tmp_path / "broken.jsonl", relevance={"nobody": 1.0}), "broken")
    expect(shown.get_by_role("alert")).to_contain_text("broken.jsonl:3")
    expect(shown.get_by_role("alert")).to_contain_text("nobody")
    expect(shown.get_by_role("button", name="Import", exact=True)).to_be_disabled()
    shown.get_by_role("button", name="Cancel").click()
    expect(shown).to_have_count(0)
    again = _write_tasks(tmp_path / "again.jsonl", 1500)
    lines = again.read_text(encoding="utf-8").splitlines()
    again.write_text("\n".join([*lines, lines[0]]), encoding="utf-8")
    shown = _upload(page, again, "again")
    expect(shown).to_contain_text("the first 1,000 tasks")
    shown.get_by_role("button", name="Import", exact=True).click()
    expect(shown.get_by_role("alert")).to_contain_text("'t0' appears twice")
    page.reload(wait_until="domcontentloaded")
    expect(stored).to_have_count(before)


def test_what_the_doctor_blocks_can_be_imported_anyway(page: Page, studio: str, tmp_path: Path) -> None:
    _open(page, studio)
    path = _write_tasks(tmp_path / "leak.jsonl", history=["thing 1 of 2"], relevance={"1": 1.0})
    shown = _upload(page, path, "leaking")
    expect(shown.locator(".rs-finding").first).to_contain_text("already in the history")
    shown.get_by_role("button", name="Import anyway").click()
    expect(page.locator("#dataset-summary h2")).to_have_text("leaking")
    expect(page.locator("#report .rs-tally")).to_contain_text("1 error")
    page.get_by_role("button", name="Delete").click()  # the other tests do not expect it
    expect(page.get_by_role("status").first).to_contain_text("leaking is deleted")


def test_the_report_shows_findings_as_text_and_looks_again(page: Page, studio: str, tmp_path: Path) -> None:
    _open(page, studio)
    _import(page, _write_tasks(tmp_path / "odd.jsonl", task_id=TEXT[:150], relevance={"0": 0.0}), "odd things")
    finding = page.locator("#report .rs-finding", has_text="no candidate is relevant")
    expect(finding.locator(".rs-chip")).to_have_text("Warning")
    expect(finding.locator(".rs-examples li")).to_have_text(TEXT[:150])
    assert page.locator("#report :is(img, script, b, iframe)").count() == 0
    expect(page.locator("#pool-sizes .js-plotly-plot")).to_be_visible()
    expect(page.locator("#positions")).to_contain_text("Relevance is not known")
    page.get_by_role("button", name="Check again").click()
    expect(page.locator("#report")).to_contain_text("together with the other datasets")
    expect(page.locator("#report .rs-finding").first).to_be_visible()
    assert page.evaluate("document.body.hasAttribute('pwned')") is False
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("status").first).to_contain_text("odd things is deleted")


def test_a_dataset_of_the_samples_has_its_plots(page: Page, studio: str) -> None:
    page.goto(f"{studio}/data?dataset=1", wait_until="domcontentloaded")
    for plot in ("positions", "baselines", "pool-sizes", "lengths"):
        expect(page.locator(f"#{plot} .js-plotly-plot .main-svg").first).to_be_visible()
    expect(page.locator("#baselines [role=img]")).to_have_attribute("aria-label", re.compile("Random order 0"))


def test_delete_can_be_undone(page: Page, studio: str, tmp_path: Path) -> None:
    _open(page, studio)
    _import(page, _write_tasks(tmp_path / "brief.jsonl", 2), "short-lived")
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("status").first).to_contain_text("short-lived is deleted")
    expect(page.locator("#datasets")).not_to_contain_text("short-lived")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#datasets")).to_contain_text("short-lived")
    expect(page.locator("#dataset-summary h2")).to_have_text("short-lived")
