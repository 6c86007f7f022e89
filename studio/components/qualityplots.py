"""The plots of the Quality page: agreement over time, per person, per dataset, and gold tasks. Values to draw, nothing else."""

import html
from collections.abc import Sequence
from typing import Any

from studio.components.figure import figure, no_figure
from studio.quality import AnnotatorQuality, Estimate, QualityReport

HEIGHT = 240
MAX_BARS = 12
MAX_NAME_CHARS = 24
PEOPLE, MODEL = "--rs-person", "--rs-accent"


def over_time(report: QualityReport) -> dict[str, Any]:
    """tau-b among people and to the model, by day or week."""
    if len(report.periods) < 2:
        return no_figure("Everything was said on one day. A second day makes a line.")
    series = [
        ("among people", PEOPLE, [(p.since, p.human_human) for p in report.periods]),
        ("people and model", MODEL, [(p.since, p.human_model) for p in report.periods]),
    ]
    drawn = [(name, colour, known) for name, colour, points in series if (known := _known(points))]
    if not drawn:
        return no_figure("No two orders of one task could be compared yet.")
    traces = [
        {
            **_dots([since for since, _ in known], [e for _, e in known], name, colour),
            "mode": "lines+markers",
            "line": {"color": colour, "width": 2},
        }
        for name, colour, known in drawn
    ]
    words = "; ".join(
        f"{name}: " + ", ".join(f"{since} {e.mean:.2f}" for since, e in known[-MAX_BARS:]) for name, _, known in drawn
    )
    layout = {**_layout(), "yaxis": _TAU_AXIS, "xaxis": {"type": "date", "tickformat": "%-d %b", "nticks": 6}}
    return figure(traces, layout, alt=f"Line chart of Kendall tau-b over time: {words}")


def per_annotator(report: QualityReport) -> dict[str, Any]:
    """tau-b of each person to the others and to the model."""
    people = sorted(report.annotators, key=lambda a: -a.num_corrections)[:MAX_BARS]
    rows = [(a.author, a.with_others, a.with_model) for a in people]
    return _comparison(
        rows, "person", "No two people have corrected one task, and no trace stands beside what was said."
    )


def per_dataset(report: QualityReport) -> dict[str, Any]:
    """tau-b of each dataset, among people and to the model."""
    names = list(dict.fromkeys([*report.datasets, *report.dataset_models]))[:MAX_BARS]
    rows = []
    for name in names:
        among, model = report.datasets.get(name), report.dataset_models.get(name)
        rows.append((name, among.tau_b if among else None, model.tau_b if model else None))
    return _comparison(rows, "dataset", "No two orders of one task could be compared yet.")


def gold(report: QualityReport) -> dict[str, Any]:
    """Share of gold tasks that each person passed."""
    asked = [a for a in report.annotators if a.gold_seen][:MAX_BARS]
    if not asked:
        return no_figure("No gold task was answered yet. A decision between versions makes one.")
    asked.reverse()  # plotly draws the first at the bottom
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": [a.gold_passed / a.gold_seen for a in asked],
        "y": [_name(a.author) for a in asked],
        "text": [f"{a.gold_passed} of {a.gold_seen}" for a in asked],
        "textposition": "auto",
        "marker": {"color": PEOPLE},
        "hovertemplate": "%{text} passed<extra>%{y}</extra>",
    }
    layout = {
        **_layout(len(asked)),
        "showlegend": False,
        "bargap": 0.5,
        "xaxis": {"range": [0, 1.04], "tickformat": ".0%", "title": {"text": "gold tasks passed"}, "nticks": 6},
        "yaxis": {"type": "category", "automargin": True},
    }
    words = ", ".join(f"{a.author} {_passed(a)}" for a in reversed(asked))
    return figure([bars], layout, alt=f"Bar chart of gold tasks passed: {words}")


def _comparison(rows: Sequence[tuple[str, Estimate | None, Estimate | None]], what: str, empty: str) -> dict[str, Any]:
    """Two dots with their intervals a row: among people, and to the model."""
    shown = [row for row in rows if row[1] or row[2]]
    if not shown:
        return no_figure(empty)
    shown.reverse()
    among = _known([(name, others) for name, others, _ in shown])
    model = _known([(name, estimate) for name, _, estimate in shown])
    traces = [
        _dots([_name(name) for name, _ in points], [e for _, e in points], label, colour, is_lying=True)
        for label, colour, points in (("among people", PEOPLE, among), ("people and model", MODEL, model))
        if points
    ]
    layout = {
        **_layout(len(shown)),
        "xaxis": {**_TAU_AXIS, "title": {"text": "Kendall tau-b"}},
        "yaxis": {"type": "category", "automargin": True},
    }
    said = [f"{n} among people {e.mean:.2f}" for n, e in among] + [f"{n} to the model {e.mean:.2f}" for n, e in model]
    return figure(traces, layout, alt=f"Kendall tau-b of each {what}: {', '.join(said)}")


_TAU_AXIS = {"range": [-1.05, 1.05], "zeroline": True, "nticks": 6}


def _dots(
    places: Sequence[str], estimates: Sequence[Estimate], name: str, colour: str, *, is_lying: bool = False
) -> dict[str, Any]:
    means = [e.mean for e in estimates]
    error = {
        "type": "data",
        "symmetric": False,
        "array": [e.high - e.mean for e in estimates],
        "arrayminus": [e.mean - e.low for e in estimates],
        "color": colour,
        "thickness": 1.5,
        "width": 3,
    }
    texts = [f"{e.mean:.2f} [{e.low:.2f}, {e.high:.2f}], {e.num_tasks} tasks" for e in estimates]
    x, y, bars = (means, places, "error_x") if is_lying else (places, means, "error_y")
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": list(x),
        "y": list(y),
        bars: error,
        "text": texts,
        "marker": {"color": colour, "size": 8},
        "hovertemplate": "%{text}<extra>" + name + "</extra>",
    }


def _layout(num_rows: int = 0) -> dict[str, Any]:
    return {
        "height": max(HEIGHT, 28 * num_rows + 90),
        "margin": {"l": 48, "r": 12, "t": 30, "b": 40},
        "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    }


def _known(points: Sequence[tuple[str, Estimate | None]]) -> list[tuple[str, Estimate]]:
    return [(name, estimate) for name, estimate in points if estimate is not None]


def _name(text: str) -> str:
    """A name for an axis: plotly reads a little HTML, so it is escaped."""
    shown = text if len(text) <= MAX_NAME_CHARS else text[: MAX_NAME_CHARS - 1] + "…"
    return html.escape(shown, quote=False)


def _passed(annotator: AnnotatorQuality) -> str:
    return f"{annotator.gold_passed} of {annotator.gold_seen}"
