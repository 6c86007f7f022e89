"""Small plots of a dataset from the doctor's report. Only our own words and numbers go into them."""

from collections.abc import Mapping, Sequence
from typing import Any

from ranker.datasets import Report
from studio.components.figure import figure, no_figure

MAX_CATEGORIES = 24
FEW_CATEGORIES = 6
HEIGHT = 168
NOT_LOOKED = "Shown once the doctor has looked."
_BASELINES = {"popularity": "Popularity", "overlap": "Word overlap"}


def positions(report: Report | None) -> dict[str, Any]:
    """Where the relevant candidate stands, with the line of a random order."""
    if report is None:
        return no_figure(NOT_LOOKED)
    if not report.positions:
        return no_figure("Relevance is not known, so no position is.")
    places = list(range(1, len(report.positions) + 1))
    bars = _bars(places, report.positions, "%{y:.0f} tasks at position %{x}<extra></extra>")
    line = {
        "type": "scatter",
        "mode": "lines+markers" if len(places) <= FEW_CATEGORIES else "lines",
        "x": places,
        "y": list(report.positions_expected),
        "line": {"color": "--rs-heat-mark", "width": 2, "dash": "dot"},
        "marker": {"color": "--rs-heat-mark", "size": 5},
        "hovertemplate": "%{y:.1f} were the order random<extra></extra>",
    }
    pairs = list(zip(places, report.positions, report.positions_expected, strict=True))[:FEW_CATEGORIES]
    words = ", ".join(f"{number:.0f} at {place} (random {expected:.0f})" for place, number, expected in pairs)
    layout = _layout("position (dotted: random order)", "tasks", len(places))
    layout["xaxis"] |= {"type": "linear", "dtick": 1 if len(places) <= MAX_CATEGORIES else None, "tickformat": "d"}
    return figure([bars, line], layout, alt=f"Bar chart of the relevant candidate's position: {words}")


def pool_sizes(sizes: Mapping[int, int]) -> dict[str, Any]:
    """How many candidates the tasks have."""
    if not sizes:
        return no_figure("No tasks to count.")
    names, numbers = list(sizes), list(sizes.values())
    words = ", ".join(f"{number} with {size}" for size, number in list(sizes.items())[:12])
    bars = _bars(names, numbers, "%{y} tasks with %{x} candidates<extra></extra>")
    layout = _layout("candidates", "tasks", len(names))
    layout["xaxis"]["type"] = "category" if len(names) <= MAX_CATEGORIES else "linear"
    return figure([bars], layout, alt=f"Bar chart of candidates per task: {words}")


def lengths(report: Report | None) -> dict[str, Any]:
    """How long the first prompts are."""
    if report is None or report.budget is None:
        return no_figure(NOT_LOOKED)
    budget = report.budget
    names = [f"≤ {edge:,}" for edge, _ in budget.histogram]
    bars = _bars(names, [number for _, number in budget.histogram], "%{y} tasks with %{x} tokens<extra></extra>")
    alt = f"Bar chart of prompt lengths: {budget.mean:,.0f} {budget.unit} on average, longest {budget.longest:,}"
    title = budget.unit.replace("characters / 4", "estimated")
    layout = _layout(f"{title}, longest {budget.longest:,}", "tasks", len(names))
    layout["xaxis"]["type"] = "category"
    return figure([bars], layout, alt=alt)


def baselines(report: Report | None) -> dict[str, Any]:
    """What rankers that read nothing reach, beside the random floor."""
    if report is None:
        return no_figure(NOT_LOOKED)
    if report.random_mrr is None:
        return no_figure("Relevance is not known, so nothing can be scored.")
    rows = [("Random order", report.random_mrr), *((_BASELINES[b.name], b.mrr) for b in report.baselines)]
    rows.reverse()  # plotly draws the first at the bottom
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": [mrr for _, mrr in rows],
        "y": [name for name, _ in rows],
        "text": [f"{mrr:.2f}" for _, mrr in rows],
        "textposition": "auto",
        "marker": {"color": ["--rs-line-strong" if name == "Random order" else "--rs-accent" for name, _ in rows]},
        "hovertemplate": "MRR %{x:.3f}<extra>%{y}</extra>",
    }
    layout = {
        "height": HEIGHT,
        "bargap": 0.4,
        "margin": {"l": 96, "r": 12, "t": 4, "b": 40},
        "xaxis": {"title": {"text": "MRR"}, "range": [0, 1], "nticks": 6},
        "yaxis": {"type": "category"},
    }
    words = ", ".join(f"{name} {mrr:.2f}" for name, mrr in reversed(rows))
    return figure([bars], layout, alt=f"Bar chart of MRR: {words}")


def _bars(x: Sequence[Any], y: Sequence[float], hover: str) -> dict[str, Any]:
    return {"type": "bar", "x": list(x), "y": list(y), "marker": {"color": "--rs-accent"}, "hovertemplate": hover}


def _layout(x_title: str, y_title: str, num_bars: int) -> dict[str, Any]:
    return {
        "height": HEIGHT,
        "bargap": 0.4 if num_bars > FEW_CATEGORIES else 0.6,
        "margin": {"l": 48, "r": 12, "t": 4, "b": 40},
        "xaxis": {"title": {"text": x_title}},
        "yaxis": {"title": {"text": y_title}, "nticks": 4},
    }
