"""What the Evaluate page makes of a results file and of what the browser sends."""

import shutil
from collections.abc import Iterator

import pytest

from ranker.errors import UsageError
from ranker.evaluation import Results, read_results
from studio.app import open_context
from studio.components.evaluationplots import COSTS, frontier_plot
from studio.components.offer import Offer
from studio.context import Context
from studio.evaluationruns import EXAMPLE
from studio.pages.evaluationform import EvaluationForm
from studio.pages.evaluationviews import (
    ALL,
    Choice,
    analysis_views,
    comparison_view,
    differences,
    frontier_view,
    head_view,
    leaderboard_view,
    settle,
)
from studio.settings import ASSETS_DIR, Settings

MODEL = "smollm2-135m-instruct"


@pytest.fixture(scope="module")
def opened(module_settings: Settings) -> Iterator[Context]:
    (module_settings.assets_dir / "results").mkdir()
    shutil.copy(ASSETS_DIR / "results" / "evaluation.json", module_settings.example_results)
    shutil.copytree(ASSETS_DIR / "samples", module_settings.assets_dir / "samples")
    context = open_context(module_settings)
    yield context
    context.close()


@pytest.fixture(scope="module")
def results() -> Results:
    return read_results(ASSETS_DIR / "results" / "evaluation.json")


def test_what_was_not_chosen_is_filled_in_and_what_is_not_there_replaced(results: Results) -> None:
    choice = settle(Choice(), results)
    assert choice.dataset in {d.name for d in results.datasets}
    assert choice.a != choice.b
    assert settle(Choice("<b>", "money", "nobody", "x", "y"), results) == choice
    kept = Choice("wikiqa", "tokens", "bm25", "bm25", "overlap")
    assert settle(kept, results) == kept


def test_every_row_has_its_floor_and_published_ones_are_named(results: Results) -> None:
    board = leaderboard_view(results, "passage-5")
    ours = [row for row in board["rows"] if not row["published"]]
    assert all(0 < row["floor"] < 1 and row["low"] <= row["mean"] <= row["high"] for row in ours)
    assert len(board["rows"]) - len(ours) == 9
    assert {row["calls"] is None for row in ours if "/" not in row["system"]} == {True}
    assert len(leaderboard_view(results, ALL)["rows"]) > len(results.rows)
    assert leaderboard_view(results, "dl19")["metric"] == "nDCG@10"


def test_the_frontier_has_a_floor_and_escaped_names(results: Results) -> None:
    drawn = frontier_view(results, settle(Choice("passage-5"), results))
    assert drawn["layout"]["shapes"][0]["y0"] == pytest.approx(45.7, abs=0.1)
    assert "random floor 45.7" in drawn["alt"]
    assert "empty" in frontier_view(results, Choice(ALL))
    row = results.rows[0].model_copy(update={"system": "<b>bold</b>"})
    named = frontier_plot([row], "mrr", COSTS[1], None)
    assert "<b>" not in str([trace.get("text") for trace in named["data"]]) + str(named["layout"])


def test_a_comparison_covers_all_datasets_and_lists_where_two_part(opened: Context, results: Results) -> None:
    choice = Choice("passage-5", a="bm25", b="overlap")
    tests = differences(results, "bm25", "overlap")
    view = comparison_view(opened, EXAMPLE, results, choice, tests)
    assert {row["dataset"] for row in view["rows"]} == {d.name for d in results.datasets}
    assert all(row["p"] <= row["p_holm"] <= 1 for row in view["rows"])
    gaps = [abs(task["a"] - task["b"]) for task in view["tasks"]]
    assert gaps == sorted(gaps, reverse=True)
    assert len(gaps) == 10
    assert all(task["href"] is None for task in view["tasks"]), "the example keeps no traces"
    assert view["contrasts"][0]["family"] == "Iteration gain"
    assert differences(results, "bm25", "bm25") == ()


def test_files_of_before_show_what_they_have(opened: Context, results: Results) -> None:
    rows = [row.model_copy(update={"analysis": None}) for row in results.rows]
    before = results.model_copy(update={"rows": rows})
    _, losses, positions, _, _ = analysis_views(before, settle(Choice("passage-5"), before))
    assert "random" in losses["alt"]
    assert "empty" in positions
    top = head_view(opened, opened.evaluations.info(EXAMPLE), results, "s")
    assert [link["text"] for link in top["exports"]] == ["CSV", "LaTeX", "Markdown", "JSON"]
    assert top["progress"] is None
    assert len(top["commands"]) == len(results.commands)


GOOD = ("name", ["passage"], ["fast"], ["iterative"], ["random"], 20, 3, "0, 8", "iterative=4", True, "")


@pytest.fixture(scope="module")
def form(opened: Context) -> EvaluationForm:
    import gradio as gr

    with gr.Blocks():
        return EvaluationForm(opened)


def test_the_form_asks_for_what_it_says(form: EvaluationForm) -> None:
    name, request = form.request(*GOOD)
    assert (name, request.datasets, request.models, request.think_tokens) == ("name", ("passage",), ("fast",), (0, 8))
    assert (request.mode_limits, request.stop_early, request.limit) == ({"iterative": 4}, True, 20)
    (foreseen,) = form.foresee(*GOOD)
    assert dict(foreseen["facts"])["Rankings"] == str(3 * (20 + 2 * 4))


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (1, [], "datasets: none"),
        (1, ["../secret"], "datasets: '../secret': is not there"),
        (1, "passage", "datasets: none"),
        (1, ["rec-movie"], "folder of raw files: none"),
        (2, ["/etc/passwd"], "models: '/etc/passwd'"),
        (3, ["<script>"], "modes: '<script>'"),
        (4, ["run:/etc/passwd"], "baselines: 'run:/etc/passwd'"),
        (5, 0, "queries a dataset: '0'"),
        (5, None, "queries a dataset: 'None'"),
        (6, 1e99, "reshuffles: '1e+99'"),
        (7, "many", "thinking budgets: 'many'"),
        (8, "iterative", "fewer queries: ''"),
        (8, "magic=3", "fewer queries: 'magic=3'"),
        (10, "/no/such/folder", "is no folder"),
    ],
)
def test_whatever_is_sent_is_checked(form: EvaluationForm, place: int, value: object, said: str) -> None:
    values = list(GOOD)
    values[place] = value  # type: ignore[call-overload]
    with pytest.raises(UsageError) as caught:
        form.request(*values)
    assert said in str(caught.value)
    (foreseen,) = form.foresee(*values)
    assert foreseen["words"] == str(caught.value)


def test_a_choice_that_is_not_offered_any_more_is_left_to_the_page() -> None:
    field = Offer(["random", "bm25"])
    assert field.preprocess("popularity") == "popularity" and field.preprocess(None) is None
    assert field.preprocess(["a", "list"]) is None and field.get_block_name() == "dropdown"
