"""The Rank page as a person uses it: rank, watch, leave, come back, stop, resume, replay, ask what if."""

import re

from playwright.sync_api import BrowserContext, Page, expect
from rankpage import choose, num_out, open_rank, rank_to_the_end, see_finished, see_more_out, start, state, thought


def test_first_visit_has_a_task_ready_to_go(page: Page, studio: str) -> None:
    open_rank(page, studio, "?dataset=1")
    expect(state(page)).to_have_text("Ready")
    expect(page.get_by_role("heading", level=1)).to_have_text("Rank")
    assert page.locator(".rs-card").count() >= 2


def test_rank_and_see_tokens_arrive(page: Page, studio: str) -> None:
    start(page, studio, "slow")
    expect(thought(page)).to_contain_text("There are")
    early = thought(page).inner_text()
    expect(thought(page)).to_contain_text("candidates, and the last")
    assert thought(page).inner_text().startswith(early)
    assert len(thought(page).inner_text()) > len(early)
    expect(page.locator(".rs-card.is-out").first).to_contain_text("out at step 1, decided by title scores")
    page.get_by_role("button", name="Stop").click()


def test_a_finished_ranking_shows_ranks_relevance_and_figures(page: Page, studio: str) -> None:
    rank_to_the_end(page, studio)
    num_cards = page.locator(".rs-card").count()
    ranks = page.locator(".rs-card .rs-rank").all_inner_texts()
    assert ranks == [f"#{rank}" for rank in range(1, num_cards + 1)]
    assert page.locator(".rs-card.is-out").count() == num_cards - 1
    expect(page.locator(".rs-stats")).to_contain_text(re.compile(r"rank \d of \d: MRR \d\.\d\d, random 0\.\d\d"))
    expect(page.locator(".rs-figures .js-plotly-plot")).to_have_count(2)
    expect(page.get_by_role("img", name=re.compile("Heat map"))).to_be_visible()
    page.locator(".rs-why summary").first.click()
    expect(page.locator(".rs-why p").first).to_contain_text("length-normalised log-probability")


def test_reload_in_mid_run_goes_on_where_it_is(page: Page, studio: str) -> None:
    start(page, studio, "slow")
    see_more_out(page, 0)
    page.reload(wait_until="domcontentloaded")
    expect(state(page)).to_have_text("Running")
    before = num_out(page)
    assert before >= 1
    see_more_out(page, before)
    page.get_by_role("button", name="Stop").click()


def test_leaving_and_coming_back_and_a_second_tab_show_the_run(
    context: BrowserContext, page: Page, studio: str
) -> None:
    start(page, studio, "slow")
    expect(thought(page)).to_contain_text("There are")
    trace = page.url.split("trace=")[1]
    second = context.new_page()
    open_rank(second, studio)
    expect(state(second)).to_have_text("Running")
    assert second.url.endswith(trace)
    page.get_by_role("link", name="Data").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Data")
    page.get_by_role("link", name="Rank", exact=True).click()
    expect(state(page)).to_have_text("Running")
    second.get_by_role("button", name="Stop").click()
    expect(state(page)).to_have_text("Stopped")
    expect(state(second)).to_have_text("Stopped")


def test_stop_and_resume(page: Page, studio: str) -> None:
    start(page, studio, "slow")
    see_more_out(page, 0)
    page.get_by_role("button", name="Stop").click()
    expect(state(page)).to_have_text("Stopped")
    out = num_out(page)
    assert out >= 1
    page.get_by_role("button", name="Resume").click()
    expect(state(page)).to_have_text("Running")
    see_more_out(page, out)
    page.get_by_role("button", name="Stop").click()
    expect(state(page)).to_have_text("Stopped")


def test_what_if_continues_as_a_new_trace_that_knows_its_parent(page: Page, studio: str) -> None:
    parent = rank_to_the_end(page, studio)
    first_step = page.locator(".rs-steps > li").last
    first_step.locator(".rs-step > summary").click()
    wanted = first_step.get_by_role("combobox").locator("option").first.inner_text()
    first_step.get_by_role("button", name="Branch").click()
    expect(page.locator(".rs-parent")).to_contain_text("Branched from", timeout=20_000)
    see_finished(page)
    assert parent not in page.url
    expect(page.locator(".rs-parent")).to_contain_text(f"{parent[:8]} at step 1")
    expect(page.locator(".rs-steps > li").last).to_contain_text(wanted[:20])
    expect(page.locator(".rs-steps > li").last).to_contain_text("chosen by you")


def test_replay_steps_through_what_was_stored(page: Page, studio: str) -> None:
    rank_to_the_end(page, studio)
    num_steps = page.locator(".rs-steps > li").count()
    page.get_by_role("slider", name=re.compile("Replay")).focus()
    page.keyboard.press("Home")
    expect(page.locator(".rs-card.is-out")).to_have_count(0)
    page.keyboard.press("ArrowRight")
    expect(page.locator(".rs-card.is-out")).to_have_count(1)
    expect(page.locator(".rs-card.is-just-out")).to_have_count(1)
    page.keyboard.press("End")
    expect(page.locator(".rs-card.is-out")).to_have_count(num_steps)
    expect(page.locator(".rs-scrub-label")).to_have_text("Result")


def test_find_a_task_and_go_to_the_next(page: Page, studio: str) -> None:
    open_rank(page, studio, "?dataset=1")
    first = page.locator(".rs-board .rs-query").inner_text()
    page.get_by_role("button", name="Next task").click()
    expect(page.locator(".rs-board .rs-query")).not_to_have_text(first)
    assert "task=" in page.url
    page.get_by_role("button", name="Previous task").click()
    expect(page.locator(".rs-board .rs-query")).to_have_text(first)
    page.get_by_label("Find a task").fill("xylophone unheard-of")
    expect(page.locator("#tasks")).to_contain_text("No task has all the words")


def test_a_handwritten_task_is_ranked_and_a_bad_one_is_explained(page: Page, studio: str) -> None:
    open_rank(page, studio, "?dataset=1")
    page.get_by_label("Write one").check(force=True)
    page.get_by_label("Query").fill("a tool to drive a nail")
    page.get_by_label("Candidates, one a line").fill("hammer")
    page.get_by_role("button", name="Rank", exact=True).click()
    expect(page.get_by_role("alert").first).to_contain_text("candidates: 1: write 2 to 200")
    page.get_by_label("Candidates, one a line").fill("hammer\nspoon\nviolin")
    page.get_by_role("button", name="Rank", exact=True).click()
    expect(page.locator(".rs-board .rs-query")).to_have_text("a tool to drive a nail")
    see_finished(page)
    expect(page.locator(".rs-card")).to_have_count(3)


def test_a_model_brings_the_budget_that_it_was_trained_with(page: Page, studio: str) -> None:
    open_rank(page, studio, "?dataset=1")
    budget = page.get_by_label("number input for Thinking budget, tokens a step")
    expect(budget).not_to_have_value("96")
    choose(page, "Model", "trained")
    expect(budget).to_have_value("96")
    choose(page, "Model", "quick")
    page.get_by_role("button", name="Rank", exact=True).click()
    see_finished(page)
    expect(budget).to_have_value("96")


def test_who_waits_for_a_thought_is_told_where_a_model_writes_none(page: Page, studio: str) -> None:
    open_rank(page, studio, "?dataset=1")
    told = page.get_by_text("decides by likelihood and writes nothing")
    choose(page, "Model", "wordless")
    expect(told).to_have_text(re.compile(r"wordless decides .*: choose quick to watch it think\."))
    choose(page, "Model", "slow")
    expect(told).to_have_count(0)


def test_keyboard_alone_ranks_and_stops(page: Page, studio: str) -> None:
    open_rank(page, studio, "?dataset=1")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('aria-label')") == "Next task":
            break
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("task="))
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Enter")
    see_finished(page)
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    page.keyboard.press("Tab")
    assert page.evaluate(outline) != "none"


def test_a_link_to_what_is_gone_still_opens_the_page(page: Page, studio: str) -> None:
    open_rank(page, studio, "?trace=0123456789abcdef")
    expect(page.get_by_role("alert").first).to_contain_text("'0123456789abcdef' is not there")
