"""The cost of one live ranking against the number of candidates, as an SVG file: both axes logarithmic, a panel a kind."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any, Final

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM, _LEGEND = 420, 300, 48, 34, 40, 22
_COLOURS: Final = ("#4f46e5", "#0d9488", "#d97706", "#dc2626", "#64748b", "#7c3aed")
_TICKS: Final = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000)


def make_plot(summary: dict[str, Any]) -> str:
    """SVG text; an empty drawing where nothing was measured live."""
    cases = [c for c in summary["cases"] if c["part"] == "live"]
    kinds = list(dict.fromkeys(c["kind"] for c in cases))
    methods = list(dict.fromkeys(r["method"] for c in cases for r in c["methods"] if "seconds" in r))
    lines = {
        (kind, method): [
            (c["size"], r["seconds"])
            for c in cases
            for r in c["methods"]
            if c["kind"] == kind and r["method"] == method and "seconds" in r
        ]
        for kind in kinds
        for method in methods
    }
    points = [point for line in lines.values() for point in line]
    if not points:
        return _svg(_WIDTH, _HEIGHT, [])
    box = (*_bounds([n for n, _ in points]), *_bounds([s for _, s in points]))
    parts = []
    for column, kind in enumerate(kinds):
        parts += _panel(column * _WIDTH, kind, {m: lines[kind, m] for m in methods}, box)
    for index, method in enumerate(methods):
        x, y = _LEFT + (index % 3) * 250, _HEIGHT + _LEGEND * (index // 3) + 4
        parts.append(f'<rect x="{x}" y="{y}" width="14" height="4" rx="2" fill="{_colour(index)}"/>')
        parts.append(f'<text x="{x + 20}" y="{y + 6}">{escape(method)}</text>')
    return _svg(_WIDTH * len(kinds), _HEIGHT + _LEGEND * (1 + (len(methods) - 1) // 3), parts)


def _panel(
    left: int, kind: str, lines: dict[str, list[tuple[int, float]]], box: tuple[float, float, float, float]
) -> list[str]:
    """Axes and one line a method."""
    n_low, n_high, s_low, s_high = box

    def x(n: float) -> float:
        return left + _LEFT + (_WIDTH - _LEFT - 16) * (math.log(n) - math.log(n_low)) / (math.log(n_high / n_low) or 1)

    def y(s: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * math.log(s / s_low) / (math.log(s_high / s_low) or 1)

    parts = [f'<text x="{left + _LEFT}" y="18" class="t">Seconds a ranking, {escape(kind)}</text>']
    for tick in (t for t in _TICKS if s_low <= t <= s_high):
        parts.append(f'<path class="g" d="M{left + _LEFT} {y(tick):.1f}H{left + _WIDTH - 16}"/>')
        parts.append(f'<text x="{left + _LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for n in sorted({n for line in lines.values() for n, _ in line}):
        parts.append(f'<text x="{x(n):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{n}</text>')
    parts.append(f'<text x="{left + (_LEFT + _WIDTH) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">candidates</text>')
    for index, line in enumerate(lines.values()):
        path = "L".join(f"{x(n):.1f} {y(s):.1f}" for n, s in sorted(line))
        if path:
            parts.append(f'<path d="M{path}" fill="none" stroke="{_colour(index)}" stroke-width="2"/>')
        parts += [f'<circle cx="{x(n):.1f}" cy="{y(s):.1f}" r="3" fill="{_colour(index)}"/>' for n, s in line]
    return parts


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    return min(values) / 1.2, max(values) * 1.2


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]


def _svg(width: int, height: int, parts: Sequence[str]) -> str:
    style = "text{font:12px sans-serif;fill:#475569}.t{font-weight:600;fill:#0f172a}.g{stroke:#e2e8f0}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    return "\n".join(
        [head, f"<style>{style}</style>", '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>\n"]
    )
