"""The studio's counts in the text format of Prometheus."""

from studio.context import Context
from studio.store import TraceState

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def metrics_text(context: Context) -> str:
    """All metrics, each with its help line."""
    by_state = context.store.traces.count_by_state()
    sums = context.store.traces.sums()
    lines: list[str] = []
    _add(lines, "studio_traces", "gauge", "Stored traces by state.", {
        f'{{state="{state.value}"}}': by_state.get(state, 0) for state in TraceState
    })  # fmt: skip
    _add(lines, "studio_live_traces", "gauge", "Traces that are queued or running.", {"": context.hub.num_live()})
    _add(lines, "studio_viewers", "gauge", "Open live views.", {"": context.hub.num_followers()})
    _add(lines, "studio_steps_total", "counter", "Stored elimination steps.", {"": sums.num_steps})
    _add(lines, "studio_prompt_tokens_total", "counter", "Prompt tokens of stored steps.", {"": sums.prompt_tokens})
    _add(
        lines, "studio_completion_tokens_total", "counter", "Decoded tokens of stored steps.",
        {"": sums.completion_tokens},
    )  # fmt: skip
    _add(lines, "studio_model_loaded", "gauge", "Models in memory.", {
        f'{{model="{name.translate(_ESCAPES)}"}}': 1 for name in context.rankings.loaded_models()
    })  # fmt: skip
    return "\n".join(lines) + "\n"


def _add(lines: list[str], name: str, kind: str, text: str, values: dict[str, int]) -> None:
    lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    lines += [f"{name}{labels} {value}" for labels, value in values.items()]
