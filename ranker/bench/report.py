"""From measurements to ratios, tables, aims and a plot."""

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any, Final, NamedTuple

from ranker.bench.journal import Measurement
from ranker.statistics import compare

FIXED: Final = "ours, fixed-block"
ADAPTIVE: Final = "ours, adaptive"

_PARTS: Final = ("reading_s", "writing_s", "scoring_s")

_Case = tuple[str, str, int]
"""part, kind, size"""


class Ratio(NamedTuple):
    """How many times ours, round by round."""

    middle: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.middle:.2f} [{self.low:.2f}, {self.high:.2f}]"


def ratio(measurements: Sequence[Measurement], case: _Case, peer: str, ours: str) -> Ratio | None:
    """Seconds of `peer` over seconds of `ours` in the same rounds: median, lowest, highest."""
    theirs, own = (_by_round(measurements, case, name) for name in (peer, ours))
    values = [theirs[r] / own[r] for r in sorted(theirs.keys() & own.keys())]
    return Ratio(median(values), min(values), max(values)) if values else None


def make_summary(measurements: Sequence[Measurement], setting: dict[str, Any]) -> dict[str, Any]:
    """The results file."""
    return {
        "setting": setting,
        "cases": [_case_summary(measurements, case) for case in _cases(measurements)],
        "limits": _limits(measurements, setting),
        "profiles": {m.method: m.numbers for m in measurements if m.part == "profile"},
        "quality": _quality(measurements),
        "not_run": {m.method: m.note for m in measurements if m.note and not m.size},
        "measurements": [m.model_dump(exclude_defaults=True) for m in measurements],
    }


def to_markdown(summary: dict[str, Any]) -> str:
    """The tables that people read."""
    lines = ["# Speed", "", *(f"- {name}: {value}" for name, value in summary["setting"].items()), ""]
    for case in summary["cases"]:
        lines += _case_lines(case)
    lines += _time_lines(summary["cases"]) + _limit_lines(summary["limits"]) + _profile_lines(summary["profiles"])
    lines += _quality_lines(summary["quality"])
    if summary["not_run"]:
        lines += ["## Not run", "", *(f"- {name}: {why}" for name, why in summary["not_run"].items()), ""]
    return "\n".join(lines)


def _cases(measurements: Sequence[Measurement]) -> list[_Case]:
    found = {(m.part, m.kind, m.size): None for m in measurements if m.part in ("live", "bulk") and m.size}
    return list(found)


def _by_round(measurements: Sequence[Measurement], case: _Case, method: str) -> dict[int, float]:
    return {
        m.round: m.cost.seconds
        for m in measurements
        if (m.part, m.kind, m.size) == case and m.method == method and m.cost is not None
    }


def _case_summary(measurements: Sequence[Measurement], case: _Case) -> dict[str, Any]:
    here = [m for m in measurements if (m.part, m.kind, m.size) == case]
    rows: list[dict[str, Any]] = []
    for method in dict.fromkeys(m.method for m in here):
        costs = [m.cost for m in here if m.method == method and m.cost is not None]
        if not costs:
            rows.append({"method": method, "note": next(m.note for m in here if m.method == method)})
            continue
        firsts = [c.first_token_s for c in costs if c.first_token_s is not None]
        against = {ours: ratio(measurements, case, method, ours) for ours in (FIXED, ADAPTIVE) if ours != method}
        rows.append(
            {
                "method": method,
                "rounds": len(costs),
                "seconds": median(c.seconds for c in costs),
                "seconds_low": min(c.seconds for c in costs),
                "seconds_high": max(c.seconds for c in costs),
                "first_token_s": median(firsts) if firsts else None,
                "steps": costs[0].num_steps,
                "prefill_tokens": round(fmean(c.prefill_tokens for c in costs)),
                "cached_tokens": round(fmean(c.cached_tokens for c in costs)),
                "decode_tokens": round(fmean(c.completion_tokens for c in costs)),
                **{part: median(getattr(c, part) for c in costs) for part in _PARTS},
                "is_sampled": costs[0].is_sampled,
                "times": {ours: found._asdict() for ours, found in against.items() if found},
            }
        )
    return {"part": case[0], "kind": case[1], "size": case[2], "methods": rows}


def _case_lines(case: dict[str, Any]) -> list[str]:
    title = f"{case['part'].capitalize()}: {case['size']} {case['kind']}"
    lines = [
        f"## {title}",
        "",
        "| method | rounds | s a ranking [low, high] | a minute | first token s | steps | prefill | cached | decode "
        "| times fixed-block | times adaptive |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in case["methods"]:
        if "note" in row:
            lines.append(f"| {row['method']} | 0 | {row['note']} | | | | | | | | |")
            continue
        first = "" if row["first_token_s"] is None else f"{row['first_token_s']:.3f}"
        times = [str(Ratio(**row["times"][ours])) if ours in row["times"] else "" for ours in (FIXED, ADAPTIVE)]
        digits = 1 if row["seconds"] >= 2 else 3
        seconds = f"{row['seconds']:.{digits}f} [{row['seconds_low']:.{digits}f}, {row['seconds_high']:.{digits}f}]"
        mark = " *" if row["is_sampled"] else ""
        lines.append(
            f"| {row['method']} | {row['rounds']} | {seconds}{mark} | {60 / row['seconds']:.2f} | {first} | {row['steps']} "
            f"| {row['prefill_tokens']} | {row['cached_tokens']} | {row['decode_tokens']} | {times[0]} | {times[1]} |"
        )
    if any(row.get("is_sampled") for row in case["methods"]):
        lines += [
            "",
            "\\* The first step and one of average size were measured; the others are taken to be like the second.",
        ]
    return [*lines, ""]


def _time_lines(cases: Sequence[dict[str, Any]]) -> list[str]:
    """Where a live ranking's time goes, of the methods that were taken apart."""
    lines = []
    for case in cases:
        for row in case["methods"]:
            if case["part"] != "live" or not any(row.get(part) for part in _PARTS):
                continue
            reading, writing, scoring = (row[part] for part in _PARTS)
            rest = max(0.0, row["seconds"] - reading - writing - scoring)
            speed = f"{row['decode_tokens'] / writing:.0f}" if writing else ""
            lines.append(
                f"| {case['size']} {case['kind']} | {row['method']} | {row['seconds']:.1f} | {reading:.1f} | {writing:.1f} "
                f"| {speed} | {scoring:.1f} | {rest:.1f} |"
            )
    if not lines:
        return []
    return [
        "## Where a live ranking's time goes",
        "",
        "Reading: prompts up to the first token of a thought. Scoring: all answers that are still in play; peers take none.",
        "",
        "| pool | method | s | reading | writing | tokens a second | scoring | rest |",
        "|---|---|---|---|---|---|---|---|",
        *lines,
        "",
    ]


def _limits(measurements: Sequence[Measurement], setting: dict[str, Any]) -> dict[str, float]:
    """Medians, and what would be possible: each step reads every weight and all keys and values once; each token costs two operations a weight."""
    rounds = [m.numbers for m in measurements if m.part == "machine"]
    if not rounds:
        return {}
    found = {name: median(r[name] for r in rounds) for name in rounds[0]}
    found["read_bytes_per_s"] = max(r["read_bytes_per_s"] for r in rounds)
    found["float_ops_per_s"] = max(r["float_ops_per_s"] for r in rounds)
    weights, width = float(setting["parameters"]), float(setting["bytes_per_parameter"])
    kept = float(setting.get("key_value_bytes_per_token", 0))
    for streams in [int(n.removeprefix("decode_")) for n in rounds[0] if n.startswith("decode_")]:
        contexts = kept * streams * found.get(f"context_{streams}", 0.0)
        reading = (weights * width + contexts) / found["read_bytes_per_s"]
        computing = 2 * weights * streams / found["float_ops_per_s"]
        found[f"decode_{streams}_limit"] = streams / max(reading, computing)
    for name in ("prefill", "prefill_bulk"):
        if name in found:
            found[f"{name}_limit"] = found["float_ops_per_s"] / (2 * weights)
    return found


def _limit_lines(limits: dict[str, float]) -> list[str]:
    if not limits:
        return []
    lines = [
        "## Distance to the limit",
        "",
        f"Memory is read at {limits['read_bytes_per_s'] / 1e9:.1f} GB/s and a large matrix product runs at "
        f"{limits['float_ops_per_s'] / 1e9:.0f} billion operations a second (best of all tries). A step reads all weights, "
        "and keys and values of what its streams look at. Peak memory of the process with ours alone: "
        f"{limits['peak_rss_bytes'] / 2**20:.0f} MiB{_gpu_words(limits)}.",
        "",
        "| | tokens a second | limit | limit / measured | share reached |",
        "|---|---|---|---|---|",
    ]
    prefills = {"prefill": "prefill, 600 tokens", "prefill_bulk": "prefill, many prompts of 600 tokens at once"}
    for name in [n.removesuffix("_limit") for n in limits if n.endswith("_limit")]:
        words = prefills.get(name) or f"decode, {name.removeprefix('decode_')} streams"
        measured, limit = limits[name], limits[f"{name}_limit"]
        lines.append(f"| {words} | {measured:.1f} | {limit:.1f} | {limit / measured:.2f} | {measured / limit:.1%} |")
    return [*lines, ""]


def _profile_lines(profiles: Mapping[str, Mapping[str, float]]) -> list[str]:
    if not profiles:
        return []
    names = list(next(iter(profiles.values())))
    return [
        "What such a pass spends its time on, under a profiler (decoding with the prompts before it): products with the weights, "
        "attention, copies and conversions, other operations (norms, activations, sums), and between operations.",
        "",
        f"| | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
        *(f"| {work} | {' | '.join(f'{found[n]:.0%}' for n in names)} |" for work, found in profiles.items()),
        "",
    ]


def _gpu_words(limits: dict[str, float]) -> str:
    peak = limits.get("peak_gpu_bytes")
    return "" if peak is None else f", of the GPU {peak / 2**20:.0f} MiB"


def _quality(measurements: Sequence[Measurement]) -> dict[str, Any]:
    by_method = {m.method: m.numbers for m in measurements if m.part == "quality"}
    found: dict[str, Any] = {"same": by_method.get("same as transformers")}
    if {"fixed-block", "adaptive"} <= by_method.keys():
        fixed, adaptive = by_method["fixed-block"], by_method["adaptive"]
        names = [n for n in fixed if n.startswith("rr ")]
        difference = compare([adaptive[n] for n in names], [fixed[n] for n in names])
        found["adaptive"] = {
            "tasks": len(names),
            "mrr_one_at_a_time": fmean(fixed[n] for n in names),
            "mrr_adaptive": fmean(adaptive[n] for n in names),
            "difference": difference.difference,
            "low": difference.low,
            "high": difference.high,
            "decode_ratio": fixed["completion_tokens"] / max(adaptive["completion_tokens"], 1.0),
            "disputed_steps": adaptive["disputed_steps"],
        }
    return found


def _quality_lines(quality: dict[str, Any]) -> list[str]:
    lines = []
    if same := quality.get("same"):
        lines.append(
            f"Our forward pass against the modules of transformers in float32 on {same['tasks']:.0f} tasks: {same['same_rankings']:.0f} "
            f"equal rankings; {same['same_exclusions']:.0f} of {same['steps']:.0f} exclusions and "
            f"{same['same_thoughts']:.0f} thoughts are equal."
        )
    if found := quality.get("adaptive"):
        lines.append(
            f"Adaptive against one at a time on {found['tasks']} tasks: MRR {found['mrr_adaptive']:.3f} against "
            f"{found['mrr_one_at_a_time']:.3f}, difference {found['difference']:+.3f} [{found['low']:+.3f}, "
            f"{found['high']:+.3f}] (95%, paired); {found['decode_ratio']:.1f} times fewer decode tokens; "
            f"{found['disputed_steps']:.0f} disputed steps."
        )
    return ["## Does it cost quality?", "", *(f"- {line}" for line in lines), ""] if lines else []
