"""The zero-shot matrix: models that were trained on some domains, by the domain that they are asked about.

A cell is the mean over the domain's datasets of the mean over queries; its interval resamples the queries of every dataset.
Cells of a domain that the model was not trained on are in bold. Beside each stands the paired difference to the model that was
not trained, asked the same way.

Source: the paper, zero-shot table (train on two domains, test on the third).
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from ranker.evaluation.results import DatasetRecord, Results, Row
from ranker.evaluation.systems import SystemInfo
from ranker.metrics import Floats
from ranker.statistics import NUM_DRAWS, Interval

DOMAINS: Final = ("recommendation", "routing", "passage")


class Cell(NamedTuple):
    """One model on one domain."""

    value: Interval
    change: Interval | None
    """Against the untrained model, on the queries that both answered in every dataset."""
    num_datasets: int
    num_queries: int
    is_zero_shot: bool


def zero_shot_cells(results: Results) -> dict[tuple[str, str], Cell]:
    """(system, domain) -> cell, for the systems that say what they were trained on and their untrained counterparts."""
    trained = [s for s in results.systems if s.options.get("trained_on")]
    cells: dict[tuple[str, str], Cell] = {}
    for system in trained:
        base = next((s for s in results.systems if _is_untrained(s) and _asked(s) == _asked(system)), None)
        for domain in DOMAINS:
            is_zero_shot = domain not in system.options["trained_on"]
            for name, against, mark in ((base.name if base else None, None, False), (system.name, base, is_zero_shot)):
                if name and (cell := _cell(results, name, against.name if against else None, domain, mark)):
                    cells[name, domain] = cell
    return cells


def _is_untrained(system: SystemInfo) -> bool:
    return system.kind == "model" and not system.options.get("trained_on")


def _asked(system: SystemInfo) -> tuple[object, ...]:
    """How a model is asked."""
    return system.mode, system.answer_format, system.think_tokens, "thoughts" in system.options


def zero_shot_matrix(results: Results) -> str:
    """The matrix in Markdown; empty if no system says what it was trained on."""
    cells = zero_shot_cells(results)
    if not cells:
        return ""
    names = list(dict.fromkeys(name for name, _ in cells))
    trained = {s.name: ", ".join(s.options.get("trained_on", ())) or "nothing" for s in results.systems}
    lines = [
        "Mean over the datasets of a domain x 100, [95% interval by query], and the paired change against the untrained model. "
        "**Bold**: the model was not trained on that domain.",
        "",
        "| system | trained on | " + " | ".join(DOMAINS) + " |",
        "| --- | --- | " + " | ".join("---" for _ in DOMAINS) + " |",
    ]
    for name in names:
        shown = [_show(cells.get((name, domain))) for domain in DOMAINS]
        lines.append(f"| {name} | {trained[name]} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def _cell(results: Results, name: str, against: str | None, domain: str, is_zero_shot: bool) -> Cell | None:
    datasets = [d for d in results.datasets if d.domain == domain]
    pairs = [(d, row) for d in datasets if (row := results.row(d.name, name)) is not None]
    if not pairs:
        return None
    values = [_values(row, d) for d, row in pairs]
    changes: list[Floats] = []
    for dataset, row in pairs:
        other = results.row(dataset.name, against) if against else None
        if other is not None and other.dataset_key == row.dataset_key:
            num = min(len(row.values[dataset.metric]), len(other.values[dataset.metric]))
            changes.append(_values(row, dataset)[:num] - _values(other, dataset)[:num])
    has_change = len(changes) == len(pairs) and all((~np.isnan(c)).any() for c in changes)
    return Cell(
        value=_stratified(values),
        change=_stratified(changes) if has_change else None,
        num_datasets=len(pairs),
        num_queries=sum(int((~np.isnan(v)).sum()) for v in values),
        is_zero_shot=is_zero_shot,
    )


def _values(row: Row, dataset: DatasetRecord) -> Floats:
    """By query, NaN = not answered."""
    return np.array([np.nan if v is None else v for v in row.values[dataset.metric]], dtype=float)


def _stratified(groups: Sequence[Floats], seed: int = 0) -> Interval:
    """Mean of the groups' means; queries are resampled within their group."""
    rng = np.random.default_rng(seed)
    known = [group[~np.isnan(group)] for group in groups]
    draws = np.mean([g[rng.integers(0, g.size, (NUM_DRAWS, g.size))].mean(axis=1) for g in known], axis=0)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(float(np.mean([g.mean() for g in known])), float(low), float(high))


def _show(cell: Cell | None) -> str:
    if cell is None:
        return ""
    value = f"{100 * cell.value.mean:.1f} [{100 * cell.value.low:.1f}, {100 * cell.value.high:.1f}]"
    text = f"**{value}**" if cell.is_zero_shot else value
    if cell.change is not None:
        text += f"<br>{100 * cell.change.mean:+.1f} [{100 * cell.change.low:+.1f}, {100 * cell.change.high:+.1f}]"
    return f"{text}<br>{cell.num_datasets} sets, n={cell.num_queries}"
