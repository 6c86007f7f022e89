"""What the pages work out before they show anything. What a person sees is tested in `tests/browser`."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.errors import UsageError
from ranker.schema import Domain, Mode, Outcome, RankingTask
from studio.components.board import branch_request
from studio.components.picker import Picked
from studio.components.view import number_of, text_of
from studio.context import Context
from studio.pages.handwritten import make_task as make_handwritten
from studio.pages.opening import open_rank_page
from studio.pages.tasklist import PAGE_TASKS, neighbour, task_list
from studio.pages.traces import export_path, make_filter
from studio.profile import profile_tasks
from studio.store import TraceFilter

NO_FILTER = dict.fromkeys(("text", "dataset", "model", "mode", "outcome", "state", "rank", "time"), "")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda x: st.lists(x) | st.dictionaries(st.text(), x),
)


@pytest.mark.parametrize(
    ("query", "history", "candidates", "domain", "said"),
    [
        ("", "  ", "a\nb", "other", "query: empty"),
        ("q", "", "a", "other", "candidates: 1: write 2 to 200"),
        ("q", "", "\n".join(str(i) for i in range(201)), "other", "candidates: 201: write 2 to 200"),
        ("q", "", "a\nb\n a ", "other", "'a' appears twice"),
        ("q", "", "a\n" + "b" * 4001, "other", "too long"),
        ("q", "", "a\nb", "<script>", "domain: '<script>': choose one of"),
    ],
)
def test_a_handwritten_task_that_cannot_be_ranked_is_refused(
    query: str, history: str, candidates: str, domain: str, said: str
) -> None:
    with pytest.raises(UsageError, match="your task: ") as caught:
        make_handwritten(query, history, candidates, domain)
    assert said in str(caught.value)


def test_a_handwritten_task_keeps_the_lines_and_has_an_id_of_its_content() -> None:
    task = make_handwritten(" nail ", "saw\n\n", "hammer\n spoon \n", "other", "cheapest")
    assert (task.query, task.history, task.criterion, task.domain) == ("nail", ("saw",), "cheapest", Domain.OTHER)
    assert [c.text for c in task.candidates] == ["hammer", "spoon"]
    assert task == make_handwritten("nail", "saw", "hammer\nspoon", "other", "cheapest")
    assert task.task_id != make_handwritten("nail", "saw", "hammer\nfork", "other", "cheapest").task_id


def test_filters_say_what_the_fields_say() -> None:
    assert make_filter(NO_FILTER) == TraceFilter()
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    fields = NO_FILTER | {"text": "heat", "dataset": 3, "outcome": "forced", "rank": "1-3", "time": "24"}
    filters = make_filter(fields, now=now)
    assert (filters.text, filters.dataset_id, filters.outcome) == ("heat", 3, Outcome.FORCED)
    assert (filters.min_rank, filters.max_rank) == (None, 3)
    assert filters.since == "2026-11-22T12:00:00.000000+00:00"
    assert (make_filter(NO_FILTER | {"rank": "4-"}).min_rank, make_filter(NO_FILTER | {"rank": "4-"}).max_rank) == (
        4,
        None,
    )


@pytest.mark.parametrize("field", ["dataset", "mode", "outcome", "state", "rank", "time"])
def test_a_filter_that_is_not_offered_is_refused(field: str) -> None:
    with pytest.raises(UsageError, match="filter: "):
        make_filter(NO_FILTER | {field: "x-y"})


def test_the_export_has_the_filters_of_the_list() -> None:
    assert export_path(TraceFilter()) == "/api/traces/export"
    path = export_path(TraceFilter(text="a b&c", dataset_id=2, outcome=Outcome.NO_ANSWER))
    assert path == "/api/traces/export?text=a+b%26c&dataset=2&outcome=no_answer"


@given(JSON)
def test_whatever_the_browser_sends_is_read_without_an_exception(sent: object) -> None:
    assert text_of(sent, "id") is None or isinstance(text_of(sent, "id"), str)
    number = number_of(sent, "offset")
    assert number is None or number >= 0
    assert len(branch_request(sent)) == 3


def test_next_and_previous_walk_through_all_tasks_across_pages(
    context: Context, make_task: Callable[..., RankingTask]
) -> None:
    tasks = [make_task(f"t{number}", query=f"task number {number}") for number in range(PAGE_TASKS + 2)]
    for task in tasks:
        dataset_id, _ = context.library.add_task(task, "walk")
    picked, seen = Picked("t0", 0), ["t0"]
    for _ in tasks:
        picked = Picked(*neighbour(context, dataset_id, "", picked, 1))
        seen.append(picked.selected or "")
        shown = task_list(context, dataset_id, "", picked.offset, picked.selected)
        assert picked.selected in [row["id"] for row in shown["rows"]]
    last = tasks[-1].task_id
    assert seen == [task.task_id for task in tasks] + [last]
    assert neighbour(context, dataset_id, "", picked, -1)[0] == tasks[-2].task_id
    with pytest.raises(UsageError, match="clear the search"):
        neighbour(context, dataset_id, "no such words", picked, 1)


def test_the_page_opens_with_a_task_then_with_the_newest_trace(
    context: Context, make_task: Callable[..., RankingTask]
) -> None:
    assert open_rank_page(context, None, None, None).board is None
    dataset_id, task_id = context.library.add_task(make_task(), "first")
    opening = open_rank_page(context, None, None, None)
    assert (opening.dataset_id, opening.task_id) == (dataset_id, task_id)
    assert opening.board is not None and "task" in opening.board
    context.store.traces.create(
        "newest", dataset_id, task_id, model="fast", mode=Mode.DIRECT, seed=0, config={"think_tokens": 7}
    )
    opening = open_rank_page(context, None, None, None)
    assert opening.board is not None and opening.board["trace_id"] == "newest"
    assert (opening.model, opening.mode, opening.think_tokens) == ("fast", "direct", 7)


def test_a_profile_counts_and_stops_in_time(make_task: Callable[..., RankingTask]) -> None:
    tasks = [make_task(f"t{number}", num_candidates=3 + number % 2) for number in range(10)]
    profile = profile_tasks(tasks, max_tasks=5)
    assert (profile.num_tasks, profile.num_with_relevance, profile.num_with_history) == (5, 5, 0)
    assert profile.pool_sizes == {3: 3, 4: 2}
