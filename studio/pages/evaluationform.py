"""The form that starts an evaluation: its fields, what they ask for, and what that will take."""

from pathlib import Path
from typing import Any, Final

import gradio as gr

from ranker.baselines import BASELINES
from ranker.elimination import MODES, RankConfig
from ranker.errors import CheckpointError, UsageError
from ranker.evaluation import PRESETS, PROTOCOLS
from ranker.evaluation.methods import METHODS
from ranker.schema import Mode
from studio.components.evaluation import Facts, facts
from studio.components.static import hint, section_title
from studio.context import Context
from studio.evaluationestimate import Estimate, estimate, sizes_of
from studio.evaluationruns import EXAMPLE
from studio.evaluations import NOT_IN_ALL, EvaluationRequest
from studio.settings import is_loopback
from studio.store import DatasetInfo

MAX_QUERIES: Final = 100_000
MAX_SEEDS: Final = 20
MAX_BUDGET: Final = 8192
_MODES: Final = (*(mode.value for mode in MODES), *METHODS)
_START: Final = {
    "limit": 20,
    "num_seeds": 3,
    "baselines": ["random", "overlap", "bm25"],
    "modes": [Mode.FIRST_TOKEN.value],
}


class EvaluationForm:
    """The fields."""

    def __init__(self, context: Context) -> None:
        """Lay them out."""
        self._context = context
        with gr.Column(elem_classes=["rs-group", "rs-settings"], elem_id="evaluation-form"):
            section_title("New evaluation")
            self.name = gr.Textbox(
                label="Name", placeholder="What is compared?", max_length=80, elem_id="evaluation-name"
            )
            self.datasets = gr.Dropdown([], multiselect=True, label="Datasets", elem_id="evaluation-datasets")
            self.models = gr.Dropdown([], multiselect=True, label="Models", elem_id="evaluation-models")
            modes = [(mode.capitalize(), mode) for mode in _MODES]
            self.modes = gr.Dropdown(
                modes, value=_START["modes"], multiselect=True, label="Modes", elem_id="evaluation-modes"
            )
            names = [("All that suit", "all"), *((name, name) for name in BASELINES if name not in NOT_IN_ALL)]
            self.baselines = gr.Dropdown(
                names, value=_START["baselines"], multiselect=True, label="Baselines", elem_id="evaluation-baselines"
            )
            self.limit = gr.Number(
                _START["limit"], label="Queries a dataset", precision=0, minimum=1, maximum=MAX_QUERIES
            )
            self.num_seeds = gr.Number(
                _START["num_seeds"], label="Reshuffles of candidate order", precision=0, minimum=1, maximum=MAX_SEEDS
            )
            with gr.Accordion("More", open=False):
                self.think_tokens = gr.Textbox(
                    label="Thinking budgets, tokens", placeholder="0, 48 (empty: each model’s own)"
                )
                self.mode_limits = gr.Textbox(label="Fewer queries for a mode", placeholder="iterative=8, direct=20")
                self.stop_early = gr.Checkbox(False, label="Stop when the relevant ones are out (exact for MRR)")
                self.from_dir = gr.Textbox(
                    label="Folder of raw files", placeholder="For presets: where they lie on this machine"
                )
                hint(
                    "Presets are made from public raw files: name their folder, then choose presets among the datasets."
                )
            self.estimate = Facts(elem_id="estimate")
            self.start = gr.Button("Evaluate", variant="primary", elem_id="evaluate-button")

    @property
    def fields(self) -> list[Any]:
        """What `request` takes, in its order."""
        return [
            self.name, self.datasets, self.models, self.modes, self.baselines, self.limit, self.num_seeds,
            self.think_tokens, self.mode_limits, self.stop_early, self.from_dir,
        ]  # fmt: skip

    @property
    def choices(self) -> list[Any]:
        """What `offered` has values for."""
        return [self.datasets, self.models]

    def offered(self) -> tuple[Any, ...]:
        """Datasets and models that are there, the first and the default one chosen."""
        datasets = [name for _, name in self._datasets()][:1]
        models = [card.name for card in self._context.registry.cards()]
        default = self._default_model()
        return (
            gr.update(choices=[*self._datasets(), *_presets()], value=datasets),
            gr.update(choices=models, value=[default] if default in models else models[:1]),
        )

    def request(self, *values: Any) -> tuple[str, EvaluationRequest]:
        """(name, what the fields ask for).

        Raises:
            UsageError: if a field has a value that cannot be used; nothing that the browser sends is trusted.
        """
        (
            name, datasets, models, modes, baselines, limit, num_seeds, think_tokens, mode_limits, stop_early, from_dir,
        ) = values  # fmt: skip
        offered = {value for _, value in self._datasets()}
        chosen = _several("datasets", datasets, offered | set(PRESETS))
        if not chosen:
            raise UsageError("datasets: none: choose one")
        request = EvaluationRequest(
            datasets=chosen,
            from_dir=self._folder(from_dir, any(d not in offered for d in chosen)),
            models=_several("models", models, {card.name for card in self._context.registry.cards()}),
            modes=_several("modes", modes, set(_MODES)) or (Mode.ITERATIVE.value,),
            baselines=_several("baselines", baselines, {"all", *BASELINES}),
            limit=_number("queries a dataset", limit, 1, MAX_QUERIES),
            num_seeds=_number("reshuffles", num_seeds, 1, MAX_SEEDS),
            think_tokens=tuple(_number("thinking budgets", t, 0, MAX_BUDGET) for t in _words(think_tokens)),
            mode_limits=_limits(mode_limits),
            stop_early=stop_early is True,
        )
        if not request.models and not request.baselines:
            raise UsageError("models: none: choose a model or a baseline")
        if request.models and not modes:
            raise UsageError("modes: none: choose how the models are asked")
        return (name if isinstance(name, str) else ""), request

    def foresee(self, *values: Any) -> tuple[Any, ...]:
        """What that will take."""
        try:
            _, request = self.request(*values)
        except UsageError as error:
            return (facts("Before it starts", (), str(error)),)
        evaluations = self._context.evaluations
        past = [r for i in evaluations.infos() if (r := evaluations.results(i.evaluation_id)) is not None]
        example = evaluations.results(EXAMPLE) if any(i.is_example for i in evaluations.infos()) else None
        cards = self._context.registry.cards()
        budgets = {card.name: RankConfig(**card.ranking_defaults()).think_tokens for card in cards}
        return (_foreseen(estimate(request, sizes_of(self._context.library, example), past, budgets)),)

    def _folder(self, text: Any, is_needed: bool) -> Path | None:
        words = text.strip() if isinstance(text, str) else ""
        if not words:
            if is_needed:
                raise UsageError(
                    "folder of raw files: none: presets are made from raw files: name their folder under More"
                )
            return None
        if not is_loopback(self._context.settings.host):
            raise UsageError(
                "folder of raw files: only a studio that listens on this machine alone reads folders of it"
            )
        folder = Path(words).expanduser()
        if not folder.is_dir():
            raise UsageError(f"folder of raw files: {words[:120]!r}: is no folder: name one of this machine")
        return folder

    def _datasets(self) -> list[tuple[str, str]]:
        """(what is shown, NAME or NAME@VERSION) of the stored datasets."""
        infos = self._context.library.datasets()
        return [(_shown(info), _pinned(info)) for info in infos]

    def _default_model(self) -> str:
        try:
            return self._context.registry.card(self._context.settings.model).name
        except CheckpointError:
            return ""


def _shown(info: DatasetInfo) -> str:
    return f"{_pinned(info)} ({info.num_tasks:,})"


def _pinned(info: DatasetInfo) -> str:
    """A later version than the first is named, so that the command means the same tomorrow."""
    return info.name if info.version == 1 else f"{info.name}@{info.version}"


def _presets() -> list[tuple[str, str]]:
    """(what is shown, name) of the presets, by protocol."""
    return [
        (f"{name} (preset, {protocol})", name)
        for protocol in PROTOCOLS
        for name, preset in PRESETS.items()
        if protocol in preset.protocols
    ]


def _foreseen(found: Estimate) -> dict[str, Any]:
    pairs = [("Rankings", f"{found.num_rankings:,}"), ("Requests to models", f"{found.num_requests:,}")]
    if found.seconds is not None:
        pairs.append(("Time, as timed before", _duration(found.seconds)))
    words = []
    if found.untimed:
        words.append(f"Not timed before: {', '.join(found.untimed[:4])}{' …' if len(found.untimed) > 4 else ''}.")
    if found.unknown:
        words.append(f"Size not known before it is read: {', '.join(found.unknown[:4])}.")
    return facts("Before it starts", pairs, " ".join(words))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {round(seconds / 60)} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def _several(field: str, values: Any, known: set[str]) -> tuple[str, ...]:
    given = values if isinstance(values, list) else []
    for value in given:
        if value not in known:
            raise UsageError(f"{field}: {str(value)[:80]!r}: is not there: choose from the list")
    return tuple(dict.fromkeys(given))


def _words(text: Any) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()] if isinstance(text, str) else []


def _number(field: str, value: Any, least: int, most: int) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = least - 1
    if not least <= number <= most:
        raise UsageError(f"{field}: {str(value)[:40]!r}: give a number from {least} to {most:,}")
    return number


def _limits(text: Any) -> dict[str, int]:
    known, found = set(_MODES), {}
    for part in _words(text):
        mode, _, number = (piece.strip() for piece in part.partition("="))
        if mode not in known:
            raise UsageError(f"fewer queries: {part[:40]!r}: write MODE=NUMBER with a mode of the list")
        found[mode] = _number("fewer queries", number, 1, MAX_QUERIES)
    return found
