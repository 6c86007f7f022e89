"""Results as Markdown, CSV and LaTeX. Saturated columns are left out; the floor, n and the spread over reshuffles never are."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from ranker.evaluation.results import DatasetRecord, Estimate, Results, Row
from ranker.evaluation.zeroshot import zero_shot_matrix

_CSV_HEADER: Final = (
    *("dataset", "system", "metric", "n", "seeds", "mean", "low", "high", "floor", "skill", "spread"),
    *("calls", "prompt_tokens", "completion_tokens", "seconds", "malformed", "forced", "cut", "sha256", "system_key"),
)
_NAMES: Final = {
    "mrr": "MRR",
    "map": "MAP",
    "ndcg@10": "nDCG@10",
    "hit@1": "Hit@1",
    "hit@3": "Hit@3",
    "rank": "mean rank",
}
_NAMES_ROUTING: Final = {"reward": "reward", "regret": "regret", "effect": "effect", "cost": "cost"}

_FAMILIES: Final = {
    "asked": "What the command asked for.",
    "iteration gain": "One at a time, less the order of the first call's label probabilities, of the same model.",
    "thinking": "With thoughts, less the same mode without.",
    "thought bank": "With thoughts about similar queries in the prompt, less the same without.",
    "models": "A model, less the first one of the file in the same mode (each answers in its own format).",
    "against": "Every system, less one of them.",
}
"""Family of comparisons -> what it shows."""

_PLAIN: Final[Mapping[str, Callable[[float], str]]] = {"rank": "{:.2f}".format, "cost": "{:.3g}".format}
"""Metrics that are no shares: printed as they are."""


def to_markdown(results: Results) -> str:
    """The whole file for a reader: overview, one table a dataset, comparisons, and how to make it again."""
    parts = ["# Evaluation", _preface(results), "## Overview", _overview(results)]
    for dataset in results.datasets:
        parts += [f"## {dataset.name}", _about(dataset), _dataset_table(results, dataset)]
    if matrix := zero_shot_matrix(results):
        parts += ["## Zero-shot", matrix]
    if results.differences:
        parts += ["## Paired comparisons", _differences(results)]
    parts += (
        ["## Exclusion accuracy by pool size", _exclusions(results)] if any(r.exclusions for r in results.rows) else []
    )
    parts += ["## Made by", "```\n" + "\n".join(results.commands) + "\n```", _made_with(results)]
    return "\n\n".join(parts) + "\n"


def to_csv(results: Results) -> str:
    """A line for each metric of each row."""
    sha256 = {d.name: d.sha256 for d in results.datasets}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV_HEADER)
    for row in results.rows:
        usage = row.usage
        costs = (usage.num_calls, usage.prompt_tokens, usage.completion_tokens, usage.seconds)
        shares = (usage.malformed, usage.forced, usage.cut)
        seeds = " ".join(map(str, row.seeds))
        for name, e in row.metrics.items():
            numbers = (e.mean, e.low, e.high, e.floor, e.skill, round(e.spread, 5))
            writer.writerow(
                [
                    row.dataset,
                    row.system,
                    name,
                    row.n,
                    seeds,
                    *numbers,
                    *costs,
                    *shares,
                    sha256[row.dataset],
                    row.system_key,
                ]
            )
    return text.getvalue()


def to_latex(results: Results) -> str:
    """The overview as a `tabular` for `booktabs`: 100 x mean of the leading metric, interval below."""
    datasets = results.datasets
    lines = [
        r"\begin{tabular}{l" + "r" * len(datasets) + "}",
        r"\toprule",
        " & ".join(["", *(_tex(f"{d.name} ({_NAMES[d.metric]})") for d in datasets)]) + r" \\",
        r"\midrule",
    ]
    for system in [s.name for s in results.systems]:
        rows = [results.row(d.name, system) for d in datasets]
        means = [_percent(r.metrics[d.metric].mean) if r else "--" for r, d in zip(rows, datasets, strict=True)]
        ranges = [_range(r.metrics[d.metric]) if r else "" for r, d in zip(rows, datasets, strict=True)]
        lines.append(" & ".join([_tex(system), *means]) + r" \\")
        lines.append(" & ".join(["", *(rf"{{\scriptsize {r}}}" if r else "" for r in ranges)]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


FORMATS: Final[Mapping[str, Callable[[Results], str]]] = {".md": to_markdown, ".csv": to_csv, ".tex": to_latex}
"""Suffix -> writer."""


def _preface(results: Results) -> str:
    return (
        "All values x 100, but mean rank and cost. [low, high]: 95% bootstrap interval by query "
        f"({results.num_draws:,} draws). *skill*: (value - random floor) / (1 - floor). *spread*: best less worst mean over the "
        "reshuffles of candidate order. Lines in italics are the paper's published figures: other queries, splits and pools "
        "than ours. *s*: seconds a ranking as the clock ran, whatever else the machine did. A dagger marks a row of fewer queries than the others."
    )


def _overview(results: Results) -> str:
    header = ["system", *(f"{d.name}<br>{_NAMES[d.metric]}" for d in results.datasets)]
    floor_cells = [_floor(results, d) for d in results.datasets]
    lines = [["random floor", *floor_cells]]
    for system in results.systems:
        cells = []
        for dataset in results.datasets:
            row = results.row(dataset.name, system.name)
            cells.append(_overview_cell(row, dataset) if row else "")
        lines.append([system.name, *cells])
    return _table(header, lines)


def _overview_cell(row: Row, dataset: DatasetRecord) -> str:
    estimate = row.metrics[dataset.metric]
    mark = f" † n={row.n}" if row.n < len(dataset.task_ids) else ""
    return f"{_percent(estimate.mean)} [{_range(estimate)}]{mark}"


def _floor(results: Results, dataset: DatasetRecord) -> str:
    rows = [r for r in results.rows if r.dataset == dataset.name]
    largest = max(rows, key=lambda r: r.n, default=None)
    floor = largest.metrics[dataset.metric].floor if largest else None
    return "" if floor is None else _percent(floor)


def _about(dataset: DatasetRecord) -> str:
    low, middle, high = dataset.pool_sizes
    pools = f"{low}" if low == high else f"{low} to {high} (median {middle})"
    lines = [
        f"{dataset.source}. Split `{dataset.split}`: {dataset.num_tasks:,} queries with known relevance"
        + (f" ({dataset.num_unjudged:,} without were left out)" if dataset.num_unjudged else "")
        + f", {len(dataset.task_ids):,} taken; {pools} candidates, {dataset.mean_relevant:g} relevant on average"
        + (" (judged ones that are not listed included)" if dataset.metric == "ndcg@10" else "")
        + f". SHA-256 `{dataset.sha256[:16]}`.",
        *(f"- {note}" for note in dataset.notes),
    ]
    return "\n".join(lines)


def _dataset_table(results: Results, dataset: DatasetRecord) -> str:
    rows = [r for r in results.rows if r.dataset == dataset.name]
    columns = _columns(rows, dataset)
    header = ["system", "n", f"{_NAMES[dataset.metric]} [95%]", "skill", "spread", *columns]
    header += ["calls", "tokens in / out", "s", "malformed %", "forced %", "cut %"]
    lines = [_line(row, dataset, list(columns.values())) for row in rows]
    if dataset.paper_name and dataset.metric == "mrr":
        for model, values in results.published.items():
            if dataset.paper_name in values:
                cells = [f"*{model}, published*", "", f"*{_percent(values[dataset.paper_name])}*"]
                lines.append(cells + [""] * (len(header) - len(cells)))
    return _table(header, lines)


def _columns(rows: Sequence[Row], dataset: DatasetRecord) -> dict[str, str]:
    """Heading -> metric, of those that every row has, less the leading one and copies of it."""
    found = {}
    for metric, heading in {**_NAMES, **_NAMES_ROUTING}.items():
        is_copy = metric == "map" and dataset.mean_relevant == 1
        if metric != dataset.metric and not is_copy and all(metric in r.metrics for r in rows):
            found[heading] = metric
    return found


def _line(row: Row, dataset: DatasetRecord, columns: Sequence[str]) -> list[str]:
    lead, usage = row.metrics[dataset.metric], row.usage
    skill = "" if lead.skill is None else f"{100 * lead.skill:+.1f}"
    n = str(row.n) if row.n == row.num_wanted else f"{row.n} of {row.num_wanted}"
    cells = [row.system, n, f"{_percent(lead.mean)} [{_range(lead)}]", skill, f"{100 * lead.spread:.1f}"]
    for metric in columns:
        mean = row.metrics[metric].mean
        cells.append(_PLAIN.get(metric, _percent)(mean))
    if not usage.num_calls:
        return [*cells, "", "", f"{usage.seconds:.3f}", "", "", ""]
    tokens = f"{usage.prompt_tokens:,.0f} / {usage.completion_tokens:,.0f}"
    shares = [f"{100 * share:.0f}" for share in (usage.malformed, usage.forced, usage.cut)]
    shares = shares if usage.num_steps else ["", "", shares[-1]]  # a method that only scores has no steps
    return [*cells, f"{usage.num_calls:.1f}", tokens, f"{usage.seconds:.2f}", *shares]


def _differences(results: Results) -> str:
    header = ["family", "a", "b", "dataset", "metric", "n", "a - b [95%]", "p", "p (Holm over datasets)"]
    lines = [
        [
            *(d.family, d.a, d.b, d.dataset, _NAMES[d.metric], str(d.n)),
            f"{100 * d.difference:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]",
            _p(d.p_value),
            _p(d.p_holm),
        ]
        for d in results.differences
    ]
    families = list(dict.fromkeys(d.family for d in results.differences))
    parts = [_FAMILIES.get(family, family) for family in families]
    tables = [
        f"### {family[:1].upper()}{family[1:]}\n\n{about}\n\n"
        + _table(header[1:], [line[1:] for line in lines if line[0] == family])
        for family, about in zip(families, parts, strict=True)
    ]
    return "Permutation test by query, two-sided.\n\n" + "\n\n".join(tables)


def _exclusions(results: Results) -> str:
    lines = [
        [row.dataset, row.system, str(e.pool_size), str(e.num_steps), _percent(e.accuracy), _percent(e.floor)]
        for row in results.rows
        for e in row.exclusions
    ]
    return _table(["dataset", "system", "pool", "steps", "accuracy", "random floor"], lines)


def _made_with(results: Results) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in results.versions.items())
    models = [
        f"{s.name}: prompt version {s.prompt_version}, {_weights(s.model_sha256)}"
        for s in results.systems
        if s.kind == "model"
    ]
    models += [
        f"{s.name}: " + ", ".join(f"{k}={v}" for k, v in s.options.items())
        for s in results.systems
        if s.kind == "baseline" and s.options
    ]
    return "\n".join([f"{results.updated_at}, {results.machine}; {versions}.", *(f"- {line}" for line in models)])


def _weights(sha256: str | None) -> str:
    """A model without files here runs on another machine than the one that the results name."""
    return f"weights SHA-256 {sha256[:16]}" if sha256 else "on a server: its weights and its device are not known"


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _range(estimate: Estimate) -> str:
    return f"{100 * estimate.low:.1f}, {100 * estimate.high:.1f}"


def _p(value: float) -> str:
    return "< .001" if value < 0.001 else f"{value:.3f}"


def _tex(text: str) -> str:
    for plain in ("_", "%", "&", "#"):
        text = text.replace(plain, "\\" + plain)
    return text
