"""What a training job is told: one file of YAML or JSON, every field checked before anything starts.

    kind: titles                  # titles | sft | dpo | ppo | ppo-exclusions | grpo
    model: smollm2-135m-instruct
    data: {tasks: [films.jsonl], corrections: [corrections.jsonl]}

Every other field has a default that learns at 135M on a CPU or one GPU; `preset: paper` takes the values of the paper. This
module imports no torch, so that a mistake is found in a tenth of a second.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from ranker.elimination import AnswerFormat
from ranker.errors import UsageError
from ranker.schema import Record
from trainer.examples import ExampleConfig

Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, le=1)]
MAX_CONFIG_BYTES: Final = 1_000_000


class DataFiles(Record):
    """Where the data is: files; a name that is no file is a dataset of the studio (the command line exports it)."""

    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    corrections: tuple[str, ...] = ()
    traces: tuple[str, ...] = ()
    """Rankings whose good steps are imitated (kind `sft`)."""
    evaluation: tuple[str, ...] = ()
    """Tasks that are ranked before and after, and never trained on."""


class Lora(Record):
    """The adapter that is trained (Hu et al. 2021)."""

    rank: Annotated[int, Field(ge=1, le=512)] = 16
    alpha: Annotated[float, Field(gt=0)] = 32.0
    modules: str = "all-linear"
    last_layers: Annotated[int, Field(ge=0)] | None = None
    """Train only so many of the last layers, of a new adapter or of one to start from, which saves the backward pass through the
    others; 0 or None = all."""
    kept_gb: Annotated[float, Field(ge=0)] = 2.0
    """Most memory of a process for what leaves the layers below, which is computed once for each text (kinds that decide over titles, and
    the model families that our own forward pass knows); what does not fit is computed anew each time, 0 = everything."""


class Titles(Record):
    """Options of the kinds that decide over titles: `titles` (see `trainer.titles`), and `answer` and `scale` of `ppo-exclusions`."""

    loss: Literal["pairs", "reward", "right"] = "pairs"
    answer: Literal["auto", "scored", "likelihood"] = "auto"
    """How the result decides; `auto`: by likelihood if the model that is trained on does, else scored."""
    scale: Annotated[float, Field(gt=0, le=100)] | None = None
    """Factor on the scores; None = 4 for scored ones (means per token, whose differences are small), 1 for likelihoods."""
    kl_weight: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Of KL(policy || policy at the start) on examples of the base data (kind `titles`)."""


class Sft(Record):
    """Options of kind `sft` (see `trainer.sft`)."""

    teach: Literal["rationales", "likelihood"] = "rationales"
    """`rationales`: short reasons and the answer; `likelihood`: what follows what, for decisions by likelihood."""
    demonstration_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of corrected reasoning and of traces that ended well, where there are any; the rest are our rationales."""


class Dpo(Record):
    """Options of kind `dpo` (Rafailov et al. 2023): the better exclusion against the worse one, both with a reason."""

    beta: Annotated[float, Field(gt=0, le=10)] = 0.1
    loss: Literal["sigmoid", "ipo", "hinge"] = "sigmoid"


class Ppo(Record):
    """Options of kinds `ppo`, `ppo-exclusions` (an episode is an elimination there, not a completion) and `grpo`."""

    rollout_size: Positive = 16
    """Completions of one rollout, of all processes together; `optimizer.batch_size` of each process make a minibatch."""
    epochs: Positive = 2
    """Passes over a rollout."""
    group_size: Annotated[int, Field(ge=2)] = 4
    """Completions a prompt (`grpo`), eliminations a pool (`ppo-exclusions`, where more cost next to nothing)."""
    max_completion_tokens: Positive = 64
    rollouts: Literal["auto", "studio", "transformers", "vllm"] = "auto"
    """What writes the completions: `studio` = our own forward pass (`trainer.rollouts`), `transformers` = its `generate`, `vllm` = vLLM
    in the same process, which has to be installed; `auto` = `studio` where it knows the model, else `transformers`."""
    vllm_memory: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of a GPU's memory that vLLM takes for weights and cache of its own."""
    temperature: Annotated[float, Field(gt=0, le=2)] = 1.0
    clip: Annotated[float, Field(gt=0, lt=1)] = 0.2
    entropy_coef: Annotated[float, Field(ge=0, le=1)] = 0.001
    kl_coef: Annotated[float, Field(gt=0, le=10)] = 0.02
    kl_in_loss: bool = False
    gamma: Annotated[float, Field(ge=0, le=1)] = 1.0
    """0 = an action answers for its own reward alone, as exclusions from large pools should."""
    lam: Annotated[float, Field(ge=0, le=1)] = 0.95
    """0 = what is earned later is taken from the critic alone, which drifts where `gamma` is 1 (see `trainer/NOTES.md`)."""
    value_weight: Annotated[float, Field(ge=0)] = 0.1
    value_clip: Annotated[float, Field(gt=0)] = 0.2
    value_learning_rate: Rate = 1e-3


class Optimizer(Record):
    """AdamW, and how the examples are gone through."""

    learning_rate: Rate = 3e-4
    schedule: Literal["constant_with_warmup", "linear", "cosine", "constant"] = "constant_with_warmup"
    warmup_steps: Annotated[int, Field(ge=0)] = 8
    """Adam's first steps are too large without."""
    batch_size: Positive = 4
    """Examples of one forward pass on one device."""
    accumulation: Positive = 1
    max_steps: Positive = 100
    """Optimizer steps."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0


class JobConfig(Record):
    """One job. `preset` fills in what the file does not say."""

    kind: Literal["titles", "sft", "dpo", "ppo", "ppo-exclusions", "grpo"]
    name: Annotated[str, Field(max_length=80)] = ""
    preset: Literal["studio", "paper"] = "studio"
    model: str | None = None
    """A registered model; None = the default."""
    start_from: str | None = None
    """A checkpoint of an earlier job whose adapter is trained on."""
    data: DataFiles
    examples: ExampleConfig = ExampleConfig()
    reward: Literal["studio", "paper", "reference"] = "studio"
    lora: Lora | None = Lora()
    """null = all weights."""
    titles: Titles = Titles()
    sft: Sft = Sft()
    dpo: Dpo = Dpo()
    ppo: Ppo = Ppo()
    optimizer: Optimizer = Optimizer()
    max_prompt_tokens: Positive = 1400
    """Longer examples are left out, and counted."""
    save_every: Positive = 25
    """Optimizer steps between two checkpoints."""
    keep_checkpoints: Positive = 2
    log_every: Positive = 1
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    gradient_checkpointing: bool = False
    num_threads: Annotated[int, Field(ge=0)] = 0
    """Of a CPU, for each process; 0 = all there are. Where others compute too, 1 is faster than 2."""
    num_processes: Annotated[int, Field(ge=1, le=64)] = 1
    """Of this machine: one a GPU, or some on its cores. Each takes its own `optimizer.batch_size` examples, and a step learns from all."""
    sharding: Literal["none", "zero2"] = "none"
    """`zero2`: gradients and Adam's state are divided among the processes (DeepSpeed, extra `deepspeed`; Rajbhandari et al. 2020), which is
    what large models need that are trained in all weights."""
    priority: Annotated[int, Field(ge=0, le=100)] = 10
    """Of the queue: lower goes first."""
    measured: Annotated[int, Field(ge=0, le=10_000)] = 40
    """Held-out decisions that are measured before and after (kinds `titles` and `ppo-exclusions`); 0 = none."""
    compared: Annotated[int, Field(ge=0, le=10_000)] = 20
    """Tasks of each set (held-out corrections, held-out labels, `data.evaluation`) that are ranked before and after; 0 = none."""
    ignore_memory: bool = False
    """Start even where the estimate does not fit."""
    placebo: Literal["none", "shuffled-corrections", "random-reward"] = "none"
    """Learn from nothing in just the same way, to compare with: candidates exchanged, or (rollouts) a reward by lot."""

    @property
    def is_over_titles(self) -> bool:
        """Whether it reads the scores of whole pools."""
        return self.kind in ("titles", "ppo-exclusions")

    def num_backward_layers(self, num_layers: int) -> int:
        """How many layers of so many a backward pass goes through: those that are trained, at the end."""
        return min(num_layers, (self.lora and self.lora.last_layers) or num_layers)

    def trunk_bytes(self, num_layers: int, num_tokens: float, token_bytes: int) -> int:
        """At most so much is kept of what leaves the layers that are not trained (`trainer.trunk`).

        Args:
            num_layers: of the model.
            num_tokens: of all examples.
            token_bytes: of one token's state.
        """
        if not self.is_over_titles or self.lora is None or self.num_backward_layers(num_layers) == num_layers:
            return 0
        return int(min(self.lora.kept_gb * 1e9, num_tokens * token_bytes))

    def copies_inputs(self, bytes_per_weight: int) -> bool:
        """Whether an adapter's layers read copies in float32; else its products are in bfloat16 (`trainer.loading.keep_inputs`)."""
        return not (self.is_over_titles and bytes_per_weight == 2)

    @property
    def writes(self) -> bool:
        """Whether the model writes completions that are scored."""
        return self.kind in ("ppo", "grpo")

    @property
    def num_shards(self) -> int:
        """Among how many processes gradients and the optimizer's state are divided."""
        return self.num_processes if self.sharding == "zero2" else 1

    @property
    def rollout_rows(self) -> int:
        """Completions that one process writes for a rollout."""
        return self.ppo.rollout_size // self.num_processes if self.writes else 0

    @property
    def has_reward(self) -> bool:
        """Whether something is drawn and rewarded."""
        return self.writes or self.kind == "ppo-exclusions"

    @property
    def has_reference(self) -> bool:
        """Whether the policy is compared with what it was at the start: a second copy of all weights, where all are trained."""
        return self.has_reward or self.kind == "dpo" or (self.kind == "titles" and self.titles.kl_weight > 0)

    @property
    def answer_format(self) -> AnswerFormat:
        """How a model decides that was trained so."""
        if self.is_over_titles:
            return AnswerFormat.LIKELIHOOD if self.titles.answer == "likelihood" else AnswerFormat.SCORED
        is_likelihood = self.kind == "sft" and self.sft.teach == "likelihood"
        return AnswerFormat.LIKELIHOOD if is_likelihood else AnswerFormat.FREE

    def asked_as(self, answer_format: AnswerFormat) -> Self:
        """The same for a model that decides so: what `titles.answer` leaves open is filled in."""
        if self.titles.answer != "auto":
            return self
        answer = "likelihood" if answer_format is AnswerFormat.LIKELIHOOD else "scored"
        return self.model_copy(update={"titles": self.titles.model_copy(update={"answer": answer})})

    @property
    def think_tokens(self) -> int:
        """Budget of a thought for a model that was trained so; 0 = it was not taught to think."""
        return self.ppo.max_completion_tokens if self.answer_format is AnswerFormat.FREE else 0

    @model_validator(mode="after")
    def _check_rollout(self) -> Self:
        step = self.optimizer.batch_size * self.num_processes
        factor = "" if self.num_processes == 1 else f" x {self.num_processes} processes"
        if self.kind == "ppo-exclusions" and self.optimizer.accumulation > 1:
            step, factor = step * self.optimizer.accumulation, f" x optimizer.accumulation{factor}"
        if self.has_reward and self.ppo.rollout_size % step:
            raise ValueError(
                f"ppo.rollout_size: {self.ppo.rollout_size}: make it a multiple of optimizer.batch_size{factor}"
            )
        if self.kind == "grpo" and self.optimizer.batch_size % self.ppo.group_size:
            raise ValueError(f"optimizer.batch_size: {self.optimizer.batch_size}: make it a multiple of ppo.group_size")
        if self.sharding != "none" and self.num_processes == 1:
            raise ValueError(
                f"sharding: {self.sharding}: there is nothing to divide among one process: raise num_processes"
            )
        if self.placebo == "random-reward" and not self.has_reward:
            raise ValueError(f"placebo: random-reward: kind {self.kind} has no reward: use shuffled-corrections")
        return self


PAPER: Final[Mapping[str, Any]] = {
    "reward": "paper",
    "examples": {"small_pools": 0.0, "hard_share": 0.0},
    "optimizer": {
        "learning_rate": 1e-6,
        "schedule": "constant",
        "warmup_steps": 0,
        "batch_size": 8,
        "max_steps": 1501,
        "max_grad_norm": 1.0,
    },
    "ppo": {
        "rollout_size": 8,
        "epochs": 1,
        "max_completion_tokens": 1024,
        "temperature": 1.0,
        "clip": 0.2,
        "entropy_coef": 0.001,
        "kl_coef": 0.001,
        "gamma": 1.0,
        "lam": 1.0,
        "value_clip": 0.5,
        "value_learning_rate": 2e-6,
    },
    "lora": None,
    "max_prompt_tokens": 1400,
}
"""Hyper-parameters of the paper. Not in it: the weight of the value loss (ours), KL in reward *and* loss (reward only)."""


def read_config(path: Path) -> JobConfig:
    """Read a job's file. Paths in it are relative to it.

    Raises:
        UsageError: `file: field: value: fix`.
    """
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise UsageError(f"{path}: is larger than {MAX_CONFIG_BYTES:,} bytes: give a job's configuration")
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise UsageError(f"{path}: {reason}: give a readable YAML or JSON file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "cannot be read"
        raise UsageError(f"{path}{line}: {problem}: write YAML, such as `kind: titles`") from error
    return make_config(raw, place=str(path), base=path.parent)


def make_config(raw: Any, *, place: str = "config", base: Path | None = None) -> JobConfig:
    """Check what a file or a page says; the preset fills in what it does not say.

    Raises:
        UsageError: `place: field: value: fix`.
    """
    if not isinstance(raw, dict):
        raise UsageError(f"{place}: {str(raw)[:40]!r}: write fields, such as `kind: titles`")
    merged = overlay(PAPER, raw) if raw.get("preset") == "paper" else raw
    try:
        config = JobConfig.model_validate(merged)
    except ValidationError as error:
        raise UsageError(f"{place}: {_explain(error)}") from error
    return config if base is None else config.model_copy(update={"data": _resolve(config.data, base)})


def dump_config(config: JobConfig) -> str:
    """As JSON, which `read_config` reads again."""
    return json.dumps(config.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


def overlay(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`below` with what `above` says instead; mappings are merged."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = overlay(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _resolve(data: DataFiles, base: Path) -> DataFiles:
    """Relative paths that exist beside the file become absolute; anything else stays (it may be a dataset's name)."""

    def absolute(name: str) -> str:
        path = (base / Path(name).expanduser()).resolve()
        return str(path) if path.exists() else name

    return DataFiles(**{name: tuple(map(absolute, getattr(data, name))) for name in DataFiles.model_fields})


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if not field:
        return message
    if first["type"] == "extra_forbidden":
        return f"{field}: {str(first['input'])[:60]!r}: no such field: remove it or correct its name"
    if first["type"] == "missing":
        return f"{field}: missing: add it"
    return f"{field}: {str(first['input'])[:60]!r}: {message[:1].lower() + message[1:]}"
