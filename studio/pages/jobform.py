"""The form of a new training job: presets, the settings that matter with what they do, everything else as YAML; an estimate."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Final

import gradio as gr
import yaml

from ranker.errors import RankingStudioError, UsageError
from studio.components.notice import Notice
from studio.components.static import hint, section_title
from studio.components.summary import Summary, summary
from studio.context import Context
from studio.jobmaterial import MaterialRequest
from studio.jobpresets import PRESETS, find_preset
from studio.pages.wiring import wire
from studio.training import JobRequest, Plan, describe_plan
from trainer.config import JobConfig, make_config, overlay

DEFAULT_PRESET: Final = "titles"
MAX_YAML_CHARS: Final = 20_000
YAML_EXAMPLE: Final = "examples: {hard_share: 0.5, domains: [recommendation]}\nlora: {rank: 32}"
_PLACEBOS: Final = [
    ("No, learn", "none"),
    ("Shuffled corrections", "shuffled-corrections"),
    ("A reward by lot (rollouts)", "random-reward"),
]
_NUMBERS: Final = (
    ("optimizer.max_steps", "Optimizer steps", "How long it learns."),
    ("optimizer.learning_rate", "Learning rate", "How far each step goes."),
    ("optimizer.batch_size", "Examples of one pass", "More need more memory."),
    ("examples.num_examples", "Examples", "Drawn from tasks and corrections."),
    ("examples.max_pool", "Largest pool", "Candidates in an example, at most."),
    ("examples.correction_share", "Share of corrections", "The rest replays tasks with labels, against forgetting."),
    ("ppo.max_completion_tokens", "Tokens of a completion", "PPO and GRPO; and the thought when it is compared."),
    ("compared", "Tasks to compare", "Of each held-out set, ranked before and after."),
    ("lora.last_layers", "Last layers that learn", "Of the adapter; 0 = all. Fewer are faster."),
)
"""(field of the config, label, help)."""


class JobForm:
    """The form. `components` is what `show` has values for."""

    def __init__(self, context: Context) -> None:
        """Lay it out."""
        self._context = context
        config = _config_of(DEFAULT_PRESET)
        presets = [(preset.label, name) for name, preset in PRESETS.items()]
        with gr.Column(elem_classes=["rs-panel", "rs-job-form"], visible=False) as self.column:
            section_title("New job")
            self.preset = gr.Dropdown(
                presets, value=DEFAULT_PRESET, label="Start from", filterable=False, elem_id="job-preset",
                info=PRESETS[DEFAULT_PRESET].words,
            )  # fmt: skip
            with gr.Row(elem_classes=["rs-fields"]):
                self.name = gr.Textbox(label="Name", max_length=80, info="As the list shows it.", elem_id="job-name")
                self.model = gr.Dropdown(
                    [], label="Model to train", info="A promoted model is trained on.", elem_id="job-model"
                )
            self._lay_out_material()
            self.numbers = []
            for start in (0, 4):
                with gr.Row(elem_classes=["rs-fields", "is-four"]):
                    self.numbers += self._lay_out_numbers(config, _NUMBERS[start : start + 4])
            with gr.Row(elem_classes=["rs-fields"]):
                self.numbers += self._lay_out_numbers(config, _NUMBERS[8:])
                self.placebo = gr.Dropdown(
                    _PLACEBOS,
                    value="none",
                    label="Placebo",
                    filterable=False,
                    info="Learns from nothing, to compare with.",
                )
                self.reward = gr.Dropdown(
                    ["studio", "paper", "reference"], value="studio", label="Reward", filterable=False,
                    info="PPO and GRPO. `reference` has the released code’s faults.",
                )  # fmt: skip
            with gr.Accordion("Every other setting", open=False):
                hint("YAML that wins over the fields above; names and defaults are in trainer/config.py.")
                self.more = gr.Textbox(
                    label="Settings as YAML", lines=4, max_lines=16, placeholder=YAML_EXAMPLE, elem_id="job-yaml"
                )
            self.estimate = Summary(elem_id="job-estimate")
            self.start = gr.Button("Start", variant="primary", elem_id="job-start")

    def _lay_out_numbers(self, config: JobConfig, fields: Sequence[tuple[str, str, str]]) -> list[gr.Number]:
        return [
            gr.Number(value=_value(config, field), label=label, info=words, elem_id=f"job-{field.replace('.', '-')}")
            for field, label, words in fields
        ]

    def _lay_out_material(self) -> None:
        with gr.Row(elem_classes=["rs-fields"]):
            self.datasets = gr.Dropdown(
                [], multiselect=True, label="Learn from", elem_id="job-datasets",
                info="Datasets; none = all that somebody has corrected.",
            )  # fmt: skip
            self.authors = gr.Dropdown(
                [], multiselect=True, label="Whose corrections", info="None = everybody’s.", elem_id="job-authors"
            )
            self.evaluation = gr.Dropdown(
                [], multiselect=True, label="Evaluate on", elem_id="job-evaluation",
                info="Further datasets that are ranked before and after.",
            )  # fmt: skip
        with gr.Row(elem_classes=["rs-fields"]):
            self.use_corrections = gr.Checkbox(
                value=True, label="Use corrections", info="A fixed fifth of the tasks is held out for measuring."
            )
            self.use_traces = gr.Checkbox(
                value=False, label="Imitate rankings that ended well", info="Warm start only."
            )

    @property
    def fields(self) -> list[Any]:
        """What a request is made of, in the order of `request`."""
        return [
            self.preset, self.name, self.model, self.datasets, self.authors, self.evaluation, self.use_corrections,
            self.use_traces, self.placebo, self.reward, self.more, *self.numbers,
        ]  # fmt: skip

    @property
    def components(self) -> list[Any]:
        """What `show` has values for."""
        return [self.column, self.model, self.datasets, self.authors, self.evaluation, self.estimate]

    def show(self) -> tuple[Any, ...]:
        """Open, with what there is to choose now."""
        context = self._context
        models = [card.name for card in context.registry.cards() if card.engine == "transformers"]
        default = context.registry.default_name()
        infos = context.library.datasets()
        datasets = [
            (
                f"{d.name}, {d.num_tasks:,} tasks" + ("" if d.version == 1 else f" (version {d.version})"),
                f"{d.name}@{d.version}",
            )
            for d in infos
        ]
        authors = [a.name for a in context.store.corrections.annotators()]
        return (
            gr.update(visible=True),
            gr.update(choices=models, value=default if default in models else next(iter(models), None)),
            gr.update(choices=datasets, value=[]),
            gr.update(choices=authors, value=[]),
            gr.update(choices=datasets, value=[]),
            summary("What will it need?", "Choose what to learn from; the estimate appears here."),
        )

    def hide(self) -> tuple[Any, ...]:
        """Out of the way of a job."""
        return (gr.update(visible=False), *[gr.skip()] * (len(self.components) - 1))

    def wire(self, notice: Notice) -> None:
        """Let the preset fill the fields, and every change the estimate."""
        wire(
            self.preset.input, self._fill, [self.preset], [self.preset, self.reward, *self.numbers], notice,
            trigger_mode="always_last",
        )  # fmt: skip
        changes = [field.change for field in self.fields if field is not self.name]
        wire(
            functools.partial(gr.on, changes), self._estimate, self.fields, [self.estimate], notice, queue=True,
            trigger_mode="always_last",
        )  # fmt: skip

    def request(self, *values: Any) -> JobRequest:
        """The fields as a request.

        Raises:
            UsageError: `job: field: value: fix`.
        """
        preset, name, model, datasets, authors, evaluation, corrections, traces, placebo, reward, more, *numbers = (
            values
        )
        config = _config_of(str(preset))
        settings: dict[str, Any] = {"placebo": placebo, "reward": reward}
        if name:
            settings["name"] = str(name)
        if model:
            settings["model"] = str(model)
        for (field, label, _), value in zip(_NUMBERS, numbers, strict=True):
            if value is None:
                raise UsageError(f"job: {label.lower()}: empty: write a number")
            if value != _value(config, field):
                settings = overlay(settings, _nested(field, _number(value, _value(config, field))))
        return JobRequest(
            preset=str(preset),
            material=MaterialRequest(
                datasets=_texts(datasets),
                authors=_texts(authors),
                evaluation=_texts(evaluation),
                use_corrections=bool(corrections),
                use_traces=bool(traces),
            ),
            settings=overlay(settings, _read_yaml(str(more or ""))),
        )

    def _fill(self, preset: str) -> tuple[Any, ...]:
        config = _config_of(preset)
        numbers = [_value(config, field) for field, _, _ in _NUMBERS]
        return (gr.update(info=find_preset(preset).words), config.reward, *numbers)

    def _estimate(self, *values: Any) -> tuple[Any, ...]:
        try:
            plan = self._context.training.plan(self.request(*values))
        except RankingStudioError as error:
            return (summary("Not ready to start", str(error)),)
        return (_shown(plan),)


def _shown(plan: Plan) -> dict[str, Any]:
    words = describe_plan(plan)
    needs, rest = words.split(". ", 1) if ". " in words else (words, "")
    if not plan.fits:
        return summary(needs, f"That does not fit: choose fewer examples of one pass, or a smaller model. {rest}")
    return summary(needs, rest)


def _config_of(preset: str) -> JobConfig:
    """The preset with the defaults filled in."""
    return make_config({**find_preset(preset).settings, "data": {"tasks": ["-"]}}, place="job")


def _value(config: JobConfig, field: str) -> Any:
    value: Any = config
    for name in field.split("."):
        value = getattr(value, name, None)
    return value or 0  # None: of layers all, and all weights where there is no adapter


def _number(value: float, like: Any) -> Any:
    """Gradio sends 40.0 for 40."""
    return int(value) if isinstance(like, int) and float(value).is_integer() else value


def _nested(field: str, value: Any) -> dict[str, Any]:
    head, _, rest = field.partition(".")
    return {head: _nested(rest, value) if rest else value}


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(str(value)[:200] for value in values or ())[:200]


def _read_yaml(text: str) -> Mapping[str, Any]:
    if len(text) > MAX_YAML_CHARS:
        raise UsageError(f"job: settings: {len(text):,} characters: at most {MAX_YAML_CHARS:,}")
    try:
        found = yaml.safe_load(text) if text.strip() else {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        raise UsageError(f"job: settings:{line} is not YAML: write such as `lora: {{rank: 32}}`") from error
    if not isinstance(found, dict):
        raise UsageError(f"job: settings: {text[:40]!r}: write fields, such as `lora: {{rank: 32}}`")
    return found
