"""From a results file to what the Evaluate page shows: head, leaderboard, comparison, and the analysis of one row."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from ranker.evaluation import Results
from ranker.evaluation.keeping import KeptTraces
from ranker.evaluation.results import DatasetRecord, Difference, Row
from ranker.evaluation.scoring import find_differences
from ranker.schema import RankingTask
from studio.components.evaluation import facts, head
from studio.components.evaluationplots import (
    COSTS,
    METRIC_NAMES,
    accuracy_plot,
    frontier_plot,
    length_plot,
    loss_plot,
    position_plot,
    reliability_plot,
)
from studio.components.figure import no_figure
from studio.context import Context
from studio.evaluationruns import EvaluationInfo

ALL: Final = ""
"""In place of a dataset: all of them."""
NUM_TASKS: Final = 10
LAST_OF_HISTORY: Final = 3
_EXPORTS: Final = (("CSV", "csv"), ("LaTeX", "tex"), ("Markdown", "md"), ("JSON", "json"), ("TREC runs", "runs"))
_FAMILIES: Final = {
    "iteration gain": "Iteration gain",
    "thinking": "Thinking",
    "thought bank": "Thought bank",
    "models": "Models",
}


class Choice(NamedTuple):
    """What is looked at; names that are not in the results are replaced by a good one."""

    dataset: str | None = None
    cost: str = COSTS[0].name
    system: str | None = None
    """Whose errors are analysed."""
    a: str | None = None
    b: str | None = None


def settle(choice: Choice, results: Results) -> Choice:
    """Fill in what was not chosen: the dataset with most models, its models before its baselines."""
    names = [d.name for d in results.datasets]
    kinds = {s.name: s.kind for s in results.systems}
    dataset = choice.dataset
    if dataset is None or (dataset != ALL and dataset not in names):
        dataset = max(names, key=lambda d: sum(kinds[r.system] == "model" for r in results.rows if r.dataset == d))
    here = [r.system for r in results.rows if dataset in (ALL, r.dataset)]
    models_first = sorted(dict.fromkeys(here), key=lambda s: kinds[s] != "model")
    looked = [r.system for r in results.rows if dataset in (ALL, r.dataset) and r.exclusions]
    system = choice.system if choice.system in here else (looked or models_first)[0]
    a = choice.a if choice.a in here else models_first[0]
    others = [s for s in ("random", *models_first) if s in here and s != a]
    b = choice.b if choice.b in here and choice.b != a else (others[0] if others else a)
    return Choice(dataset, choice.cost if choice.cost in {c.name for c in COSTS} else COSTS[0].name, system, a, b)


def head_view(context: Context, info: EvaluationInfo, results: Results | None, stamp: str) -> dict[str, Any]:
    """Name, state, progress and exports."""
    status = info.status
    pairs = [("Made", info.created_at[:16].replace("T", " ") + " UTC")]
    if results is not None:
        pairs += [
            ("Datasets", f"{len(results.datasets):,}"),
            ("Systems", f"{len(results.systems):,}"),
            ("Rows", f"{len(results.rows):,}"),
            ("Bootstrap draws", f"{results.num_draws:,}"),
            ("Machine", results.machine),
        ]
        models = {s.model: s for s in results.systems if s.kind == "model"}
        pairs += [
            ("Model", f"{name}, weights {(s.model_sha256 or 'unknown')[:12]}, prompt version {s.prompt_version}")
            for name, s in models.items()
        ]
    progress = None
    if status.state.is_live:
        speed = status.num_done / status.seconds if status.seconds and status.num_done else 0.0
        left = (status.num_all - status.num_done) / speed if speed else 0.0
        words = f"{status.system} on {status.dataset}" if status.system else ""
        progress = {
            "done": status.num_done,
            "all": status.num_all,
            "seconds": status.seconds,
            "left": left,
            "words": words,
        }
    elif status.num_all and status.num_done < status.num_all:
        pairs.append(("Answered", f"{status.num_done:,} of {status.num_all:,} rankings"))
    kept = results is not None and context.evaluations.has_answers(info.evaluation_id)
    exports = [
        (words, f"/api/evaluations/{info.evaluation_id}/export?format={form}")
        for words, form in _EXPORTS
        if results is not None and (form != "runs" or kept)
    ]
    return head(
        evaluation_id=info.evaluation_id,
        name=info.name,
        state=status.state.value,
        message=status.message,
        is_example=info.is_example,
        stamp=stamp,
        progress=progress,
        pairs=pairs,
        commands=info.commands,
        exports=exports,
    )


def leaderboard_view(results: Results, dataset: str) -> dict[str, Any]:
    """Our rows, and the paper's where it has the dataset."""
    shown = [d for d in results.datasets if dataset in (ALL, d.name)]
    kinds = {s.name: s.kind for s in results.systems}
    rows: list[dict[str, Any]] = []
    for record in shown:
        of_this = [r for r in results.rows if r.dataset == record.name]
        rows += [_line(row, record, kinds[row.system] == "model") for row in of_this]
        if record.paper_name and record.metric == "mrr":
            rows += [
                _published(record, model, values[record.paper_name])
                for model, values in results.published.items()
                if record.paper_name in values
            ]
    metrics = dict.fromkeys(METRIC_NAMES.get(d.metric, d.metric) for d in shown)
    floors = [
        f for d in shown for r in results.rows if r.dataset == d.name and (f := r.metrics[d.metric].floor) is not None
    ]
    floor = f" Here: {100 * max(floors):.1f}." if len(shown) == 1 and floors else ""
    notes = [
        "The red tick is the random floor: what a random order of the same candidates is expected to reach. Intervals are "
        f"95% by bootstrap over queries ({results.num_draws:,} draws)." + floor,
    ]
    if any(row["published"] for row in rows):
        notes.append(
            "Published rows are the paper’s: other queries, splits and pools than ours, so they are not tested."
        )
    if dataset != ALL:
        notes += [_about(shown[0]), *shown[0].notes]
    return {
        "label": "Leaderboard",
        "rows": rows,
        "several": dataset == ALL,
        "metric": " / ".join(metrics),
        "notes": notes,
        "empty": {"title": "No row yet", "text": "The first row comes when one system has answered one dataset."},
    }


def frontier_view(results: Results, choice: Choice) -> dict[str, Any]:
    """Quality by cost on one dataset."""
    record = next((d for d in results.datasets if d.name == choice.dataset), None)
    if record is None:
        return no_figure("Choose one dataset: costs of different datasets do not compare.")
    rows = [r for r in results.rows if r.dataset == record.name]
    floor = max(rows, key=lambda r: r.n).metrics[record.metric].floor
    return frontier_plot(rows, record.metric, next(c for c in COSTS if c.name == choice.cost), floor)


def analysis_views(results: Results, choice: Choice) -> tuple[dict[str, Any], ...]:
    """(facts, losses, positions, lengths, reliability) of one row."""
    rows = [r for r in results.rows if r.system == choice.system and choice.dataset in (ALL, r.dataset)]
    row = rows[0] if rows else None
    found = row.analysis if row is not None else None
    pairs: list[tuple[str, str]] = []
    if row is not None and choice.dataset == ALL:
        pairs.append(("Dataset", row.dataset))
    if found is not None and found.positions is not None:
        test = found.positions
        pairs.append(
            ("Place in the prompt", f"chi-square {test.chi_square:.1f}, p {test.p_value:.4f}, {test.num_steps:,} steps")
        )
    if found is not None and found.reliability is not None:
        pairs.append(("Calibration error", f"{found.reliability.ece:.3f} over {found.reliability.n:,} steps"))
    if found is not None and found.last_choice is not None:
        pairs.append(("Of choices between two", f"{found.last_choice.ece:.3f} over {found.last_choice.n:,}"))
    if found is not None and found.order is not None:
        o = found.order
        pairs.append(("Order robustness (tau)", f"{o.tau:.2f} [{o.tau_low:.2f}, {o.tau_high:.2f}], random 0"))
        pairs.append(
            (
                "Same first after a reshuffle",
                f"{100 * o.top:.0f}% [{100 * o.top_low:.0f}, {100 * o.top_high:.0f}], random {100 * o.top_random:.0f}%",
            )
        )
    words = "An exclusion is right if what goes out is not relevant. Dotted: what a random exclusion would do."
    if found is not None and found.reliability is not None:
        words += (
            " In the reliability diagram blue dots are all decisions, green diamonds the choices between two: there the "
            "probability is the one of being right."
        )
    losses = loss_plot(found) if found is not None and found.losses else accuracy_plot(row)
    if row is not None and not row.usage.num_calls:
        words = "A baseline orders in one go; only its robustness to the order of candidates can be looked at."
    title = f"{choice.system}: where it goes wrong" if choice.system else "Where it goes wrong"
    return (facts(title, pairs, words), losses, position_plot(found), length_plot(found), reliability_plot(found))


def comparison_view(
    context: Context, evaluation_id: str, results: Results, choice: Choice, tests: Sequence[Difference]
) -> dict[str, Any]:
    """A less B everywhere, and where most."""
    a, b = choice.a or "", choice.b or ""
    rows = [_difference(d) for d in tests]
    dataset = choice.dataset if choice.dataset != ALL else (tests[0].dataset if tests else None)
    record = next((d for d in results.datasets if d.name == dataset), None)
    tasks = _tasks(context, evaluation_id, results, record, a, b) if record is not None else []
    words = (
        f"A is {a}, B is {b}. Permutation test by query, two-sided; Holm corrects over the datasets that both answered."
    )
    if a == b:
        words = "There is only one system here: nothing to compare it with."
    elif not rows:
        words = f"{a} and {b} have fewer than five queries in common on every dataset."
    task_words = "Means over the reshuffles; the traces are those of the first."
    if not context.evaluations.has_answers(evaluation_id):
        task_words = (
            "Means over the reshuffles. The traces of these results are not kept here; run the command to make them."
        )
    return {
        "words": words,
        "rows": rows,
        "tasks": tasks,
        "dataset": record.name if record else "",
        "task_words": task_words,
        "contrasts": [_difference(d) for d in results.differences if d.family in _FAMILIES],
        "contrast_words": "Systems that differ in one thing, on the same queries. Iteration gain: one at a time less the order by "
        "the first call’s labels. Thinking, thought bank: with less without. Models: another one less the first.",
    }


def differences(results: Results, a: str | None, b: str | None) -> tuple[Difference, ...]:
    """The paired tests of two systems on every dataset."""
    return find_differences(results, [("asked", a, b)]) if a and b and a != b else ()


def _line(row: Row, record: DatasetRecord, is_model: bool) -> dict[str, Any]:
    e, usage = row.metrics[record.metric], row.usage
    notes = [f"cut {100 * usage.cut:.0f}%"] if usage.cut else []
    notes += [f"stopped early {100 * usage.stopped_early:.0f}%"] if usage.stopped_early else []
    return {
        "dataset": row.dataset,
        "system": row.system,
        "note": ", ".join(notes),
        "published": False,
        "n": row.n,
        "wanted": max(row.num_wanted, len(record.task_ids)),
        "mean": e.mean,
        "low": e.low,
        "high": e.high,
        "floor": e.floor,
        "skill": e.skill,
        "spread": e.spread if len(row.seeds) > 1 else None,
        "seconds": usage.seconds,
        "calls": usage.num_calls if is_model else None,
        "tokens_in": usage.prompt_tokens if is_model else None,
        "tokens_out": usage.completion_tokens if is_model else None,
        "malformed": usage.malformed if is_model else None,
        "forced": usage.forced if is_model else None,
    }


def _published(record: DatasetRecord, model: str, value: float) -> dict[str, Any]:
    return {"dataset": record.name, "system": model, "published": True, "mean": value}


def _about(record: DatasetRecord) -> str:
    low, middle, high = record.pool_sizes
    pools = f"{low}" if low == high else f"{low} to {high} (median {middle})"
    left_out = f" ({record.num_unjudged:,} without were left out)" if record.num_unjudged else ""
    return (
        f"{record.name}: {record.num_tasks:,} queries with known relevance{left_out}, {len(record.task_ids):,} taken; "
        f"{pools} candidates, {record.mean_relevant:g} relevant on average; split {record.split}; SHA-256 {record.sha256[:12]}."
    )


def _difference(d: Difference) -> dict[str, Any]:
    return {
        "family": _FAMILIES.get(d.family, d.family),
        "a": d.a,
        "b": d.b,
        "dataset": d.dataset,
        "metric": METRIC_NAMES.get(d.metric, d.metric),
        "n": d.n,
        "difference": d.difference,
        "low": d.low,
        "high": d.high,
        "p": d.p_value,
        "p_holm": d.p_holm,
    }


def _tasks(
    context: Context, evaluation_id: str, results: Results, record: DatasetRecord, a: str, b: str
) -> list[dict[str, Any]]:
    """The tasks on which two rows differ most."""
    row_a, row_b = results.row(record.name, a), results.row(record.name, b)
    if row_a is None or row_b is None or a == b or row_a.dataset_key != row_b.dataset_key:
        return []
    both = [
        (task_id, x, y)
        for task_id, x, y in zip(
            record.task_ids, row_a.values[record.metric], row_b.values[record.metric], strict=False
        )
        if x is not None and y is not None and x != y
    ]
    most = sorted(both, key=lambda entry: -abs(entry[1] - entry[2]))[:NUM_TASKS]
    kept: Mapping[str, RankingTask] = {}
    if context.evaluations.has_answers(evaluation_id):
        kept = KeptTraces(context.evaluations.results_path(evaluation_id)).tasks(record.key, {t for t, _, _ in most})
    seeds = [seed for seed in row_a.seeds if seed in row_b.seeds]
    found = []
    for task_id, x, y in most:
        task = kept.get(task_id)
        query = {
            "evaluation": evaluation_id, "dataset": record.name, "task": task_id, "seed": seeds[0] if seeds else 0,
            "left": a, "right": b,
        }  # fmt: skip
        href = f"/traces?{urlencode(query)}" if task is not None and seeds else None
        name = _name(task) if task is not None else task_id
        found.append({"name": name, "sub": task_id if name != task_id else "", "a": x, "b": y, "href": href})
    return found


def _name(task: RankingTask) -> str:
    """What tells tasks apart."""
    if task.history and not task.query.strip():
        return "After " + ", ".join(task.history[-LAST_OF_HISTORY:])
    return task.query[:240] or task.task_id
