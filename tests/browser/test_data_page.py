"""The Data page: upload, look, rank, delete, undo."""

import json
from pathlib import Path

from playwright.sync_api import Page, expect


def _write_tasks(path: Path, num_tasks: int = 30, *, break_line: int | None = None) -> Path:
    lines = []
    for number in range(num_tasks):
        candidates = [{"candidate_id": str(i), "text": f"thing {i} of {number}"} for i in range(4)]
        if number == break_line:
            candidates[1]["candidate_id"] = "0"
        task = {"task_id": f"t{number}", "domain": "other", "query": f"query {number}", "candidates": candidates}
        lines.append(json.dumps(task))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _open(page: Page, studio: str) -> None:
    page.goto(f"{studio}/data", wait_until="domcontentloaded")
    expect(page.locator("#dataset-summary h2")).to_be_visible()


def _import(page: Page, path: Path, name: str) -> None:
    page.locator("#upload input[type=file]").set_input_files(path)
    expect(page.get_by_label("Name")).to_have_value(path.stem)
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Import", exact=True).click()


def test_a_good_file_is_imported_paged_searched_and_ranked(page: Page, studio: str, tmp_path: Path) -> None:
    _open(page, studio)
    _import(page, _write_tasks(tmp_path / "good.jsonl"), "good things")
    expect(page.get_by_role("status").first).to_contain_text("good things: 30 tasks imported")
    expect(page.locator("#dataset-summary h2")).to_have_text("good things")
    expect(page.locator("#tasks .rs-pager")).to_contain_text("1–25 of 30")
    page.locator("#tasks").get_by_role("button", name="Next page").click()
    expect(page.locator("#tasks .rs-pager")).to_contain_text("26–30 of 30")
    page.get_by_label("Find a task").fill("query 17")
    expect(page.locator("#tasks tbody tr")).to_have_count(1)
    page.get_by_role("link", name="Rank this task").click()
    expect(page.locator(".rs-board .rs-query")).to_have_text("query 17")
    expect(page.locator(".rs-card")).to_have_count(4)


def test_a_broken_file_is_refused_in_one_line_that_says_where(page: Page, studio: str, tmp_path: Path) -> None:
    _open(page, studio)
    before = page.locator("#datasets .rs-pick").count()
    _import(page, _write_tasks(tmp_path / "broken.jsonl", break_line=2), "broken")
    alert = page.get_by_role("alert").first
    expect(alert).to_contain_text("broken.jsonl:3")
    expect(alert).to_contain_text("appears twice")
    assert page.locator("#datasets .rs-pick").count() == before


def test_delete_can_be_undone(page: Page, studio: str, tmp_path: Path) -> None:
    _open(page, studio)
    _import(page, _write_tasks(tmp_path / "brief.jsonl", 2), "short-lived")
    expect(page.locator("#dataset-summary h2")).to_have_text("short-lived")
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("status").first).to_contain_text("short-lived is deleted")
    expect(page.locator("#datasets")).not_to_contain_text("short-lived")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#datasets")).to_contain_text("short-lived")
    expect(page.locator("#dataset-summary h2")).to_have_text("short-lived")
