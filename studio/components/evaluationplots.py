"""The charts of the Evaluate page. The random floor is drawn in every one. Names come from people, so they are escaped."""

import html
import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from ranker.evaluation.analysis import Analysis, Reliability, Share, frontier
from ranker.evaluation.results import Row
from studio.components.figure import figure, no_figure

HEIGHT: Final = 260
OLD_FILE: Final = "These results are of before this was measured, or hold no such steps."
METRIC_NAMES: Final = {"mrr": "MRR", "ndcg@10": "nDCG@10"}


class Cost(NamedTuple):
    """What stands on the cost axis."""

    name: str
    words: str
    unit: str


COSTS: Final = (
    Cost("seconds", "Seconds", "seconds a ranking"),
    Cost("tokens", "Tokens", "tokens a ranking, read and written"),
    Cost("calls", "Requests", "requests to the model a ranking"),
)


def cost_of(row: Row, name: str) -> float:
    """What one ranking took."""
    usage = row.usage
    return {
        "seconds": usage.seconds,
        "tokens": usage.prompt_tokens + usage.completion_tokens,
        "calls": usage.num_calls,
    }[name]


def frontier_plot(rows: Sequence[Row], metric: str, cost: Cost, floor: float | None) -> dict[str, Any]:
    """Quality by cost, the ones that nothing beats joined by a line."""
    if not rows:
        return no_figure("No row of this dataset yet.")
    costs = [cost_of(row, cost.name) for row in rows]
    estimates = [row.metrics[metric] for row in rows]
    values = [100 * e.mean for e in estimates]
    best = frontier(list(zip(costs, values, strict=True)))
    names = [html.escape(row.system, quote=False) for row in rows]
    is_log = cost.name == "seconds" and min(costs) > 0
    data: list[dict[str, Any]] = []
    for wanted, colour, words in ((True, "--rs-accent", "on the frontier"), (False, "--rs-ink-3", "")):
        points = [i for i, is_best in enumerate(best) if is_best is wanted]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [costs[i] for i in points],
                "y": [values[i] for i in points],
                "error_y": _bars([values[i] for i in points], [estimates[i] for i in points], colour),
                "marker": {
                    "color": colour,
                    "size": 9 if wanted else 7,
                    "symbol": "circle" if wanted else "circle-open",
                },
                "text": [names[i] for i in points],
                "hovertemplate": f"%{{text}}<br>%{{y:.1f}}, %{{x:.3g}} {cost.unit}<extra>{words}</extra>",
            }
        )
    line = sorted((costs[i], values[i]) for i, is_best in enumerate(best) if is_best)
    data.insert(0, _line([c for c, _ in line], [v for _, v in line], "--rs-accent", "solid", shape="hv"))
    annotations = [
        {
            "x": _log(costs[i]) if is_log else costs[i],
            "y": values[i],
            "text": names[i],
            "showarrow": False,
            "xanchor": "left",
            "xshift": 8,
            "yshift": 8,
            "font": {"size": 11},
        }
        for i, is_best in enumerate(best)
        if is_best
    ]
    layout = _layout(cost.unit, f"{METRIC_NAMES.get(metric, metric)} × 100", height=320)
    layout["xaxis"] |= {"type": "log", "dtick": 1, "exponentformat": "power"} if is_log else {"rangemode": "tozero"}
    layout["annotations"] = annotations
    layout["shapes"] = [] if floor is None else [_level(100 * floor)]
    if floor is not None:
        layout["annotations"].append(_level_name(100 * floor))
    words = ", ".join(
        f"{row.system} {value:.1f} at {c:.3g}" for row, value, c, b in zip(rows, values, costs, best, strict=True) if b
    )
    random = "" if floor is None else f"; random floor {100 * floor:.1f}"
    return figure(data, layout, alt=f"Quality by {cost.unit}. On the frontier: {words}{random}")


def loss_plot(analysis: Analysis | None) -> dict[str, Any]:
    """At which pool size a relevant candidate goes out, against what a random exclusion would lose."""
    if analysis is None or not analysis.losses:
        return no_figure(OLD_FILE)
    shares = analysis.losses
    layout = _layout("candidates in the pool (dotted: random exclusion)", "relevant one lost, %")
    layout["xaxis"] |= {"type": "linear", "autorange": "reversed"}
    return _share_plot(
        shares, [int(s.name) for s in shares], layout, "of steps lose a relevant candidate", "Loss by pool size"
    )


def accuracy_plot(row: Row | None) -> dict[str, Any]:
    """Losses of files that hold exclusion accuracy only: no intervals."""
    if row is None or not row.exclusions:
        return no_figure("One call orders everything: there are no steps to look at.")
    sizes = [e.pool_size for e in row.exclusions]
    lost = [100 * (1 - e.accuracy) for e in row.exclusions]
    random = [100 * (1 - e.floor) for e in row.exclusions]
    data = [
        _dots(sizes, lost, "%{y:.1f}% of steps lose a relevant candidate in pools of %{x}<extra></extra>"),
        _line(sizes, random, "--rs-heat-mark", "dot"),
    ]
    layout = _layout("candidates in the pool (dotted: random exclusion)", "relevant one lost, %")
    layout["xaxis"] |= {"autorange": "reversed"}
    words = ", ".join(f"{s}: {v:.0f}% (random {r:.0f}%)" for s, v, r in zip(sizes, lost, random, strict=True))
    return figure(data, layout, alt=f"Loss by pool size: {words}")


def position_plot(analysis: Analysis | None) -> dict[str, Any]:
    """Exclusions by place in the prompt."""
    if analysis is None or analysis.positions is None:
        return no_figure(OLD_FILE)
    shares = analysis.positions.places
    layout = _layout("place in the prompt (dotted: every place alike)", "excluded, %")
    layout["xaxis"] |= {"type": "category"}
    return _share_plot(shares, [s.name for s in shares], layout, "of exclusions fall here", "Exclusions by place")


def length_plot(analysis: Analysis | None) -> dict[str, Any]:
    """Right exclusions by tokens that were written."""
    if analysis is None or not analysis.lengths:
        return no_figure("Nothing was written before these decisions, so there is no length to compare.")
    shares = [length.share for length in analysis.lengths]
    layout = _layout("tokens written for a step (dotted: random exclusion)", "right exclusions, %")
    layout["xaxis"] |= {"type": "category"}
    return _share_plot(
        shares, [s.name for s in shares], layout, "of exclusions are right", "Right exclusions by length"
    )


def reliability_plot(analysis: Analysis | None) -> dict[str, Any]:
    """Stated probability against right exclusions."""
    if analysis is None or analysis.reliability is None:
        return no_figure("No probabilities were computed for these decisions.")
    every, last = analysis.reliability, analysis.last_choice
    data = [
        _line([0, 100], [0, 100], "--rs-line-strong", "solid"),
        _line(
            [100 * b.confidence for b in every.bins], [100 * b.expected for b in every.bins], "--rs-heat-mark", "dot"
        ),
        _calibration(every, "--rs-accent", "circle"),
    ]
    if last is not None:
        data.append(_calibration(last, "--rs-good", "diamond"))
    layout = _layout("stated probability of the exclusion, %", "right exclusions, %")
    layout["xaxis"] |= {"range": [-3, 103]}
    layout["yaxis"] |= {"range": [-3, 103]}
    words = ", ".join(f"said {100 * b.confidence:.0f}%, right {100 * b.accuracy:.0f}%" for b in every.bins)
    return figure(data, layout, alt=f"Reliability diagram: {words}; expected calibration error {every.ece:.3f}")


def _calibration(result: Reliability, colour: str, symbol: str) -> dict[str, Any]:
    largest = max(b.n for b in result.bins)
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [100 * b.confidence for b in result.bins],
        "y": [100 * b.accuracy for b in result.bins],
        "text": [f"{b.n:,} steps" for b in result.bins],
        "marker": {"color": colour, "symbol": symbol, "size": [6 + 6 * b.n / largest for b in result.bins]},
        "line": {"color": colour, "width": 1.5},
        "hovertemplate": "said %{x:.1f}%, right %{y:.1f}%<br>%{text}<extra></extra>",
    }


def _share_plot(
    shares: Sequence[Share], x: Sequence[int | str], layout: dict[str, Any], words: str, title: str
) -> dict[str, Any]:
    values = [100 * s.value for s in shares]
    dots = _dots(x, values, f"%{{y:.1f}}% {words}<br>%{{text}}<extra></extra>")
    dots["text"] = [f"{s.n:,} steps, 95% [{100 * s.low:.1f}, {100 * s.high:.1f}]" for s in shares]
    dots["error_y"] = {
        "type": "data",
        "symmetric": False,
        "array": [100 * (s.high - s.value) for s in shares],
        "arrayminus": [100 * (s.value - s.low) for s in shares],
        "color": "--rs-accent",
        "thickness": 1.5,
        "width": 3,
    }
    random = _line(x, [100 * s.expected for s in shares], "--rs-heat-mark", "dot")
    said = ", ".join(f"{s.name}: {100 * s.value:.0f}% (random {100 * s.expected:.0f}%)" for s in shares)
    return figure([dots, random], layout, alt=f"{title}: {said}")


def _dots(x: Sequence[Any], y: Sequence[float], hover: str) -> dict[str, Any]:
    marker = {"color": "--rs-accent", "size": 8}
    return {"type": "scatter", "mode": "markers", "x": list(x), "y": list(y), "marker": marker, "hovertemplate": hover}


def _line(x: Sequence[Any], y: Sequence[float], colour: str, dash: str, *, shape: str = "linear") -> dict[str, Any]:
    line = {"color": colour, "width": 2 if dash == "dot" else 1.25, "dash": dash, "shape": shape}
    mode = "lines+markers" if dash == "dot" and len(x) == 1 else "lines"
    marker = {"color": colour, "size": 6}
    return {
        "type": "scatter",
        "mode": mode,
        "x": list(x),
        "y": list(y),
        "line": line,
        "marker": marker,
        "hoverinfo": "skip",
    }


def _bars(values: Sequence[float], estimates: Sequence[Any], colour: str) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [100 * e.high - v for v, e in zip(values, estimates, strict=True)],
        "arrayminus": [v - 100 * e.low for v, e in zip(values, estimates, strict=True)],
        "color": colour,
        "thickness": 1,
        "width": 3,
    }


def _level(value: float) -> dict[str, Any]:
    line = {"color": "--rs-heat-mark", "width": 2, "dash": "dot"}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": value, "y1": value, "line": line}


def _level_name(value: float) -> dict[str, Any]:
    font = {"color": "--rs-heat-mark", "size": 11}
    place = {"xref": "paper", "x": 0.62, "xanchor": "center", "y": value, "yshift": 9, "showarrow": False}
    return {**place, "text": "random order", "font": font}


def _layout(x_title: str, y_title: str, *, height: int = HEIGHT) -> dict[str, Any]:
    return {
        "height": height,
        "margin": {"l": 52, "r": 16, "t": 12, "b": 44},
        "xaxis": {"title": {"text": x_title, "standoff": 8}, "zeroline": False},
        "yaxis": {"title": {"text": y_title}, "nticks": 6, "rangemode": "tozero", "zeroline": False},
    }


def _log(value: float) -> float:
    return math.log10(value)
