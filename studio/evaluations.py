"""Evaluation as the command line and the page ask for it: names become datasets, baselines and models; then `ranker.evaluation`.

A dataset is named by a stored dataset (`films`, `films@2`), a file of tasks, or a preset that is made of public raw files.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from ranker.backends import Backend
from ranker.baselines import BASELINES, make_baseline
from ranker.datasets import load_tasks
from ranker.elimination import IN_FLIGHT, MODES, AnswerFormat, RankConfig
from ranker.errors import UsageError
from ranker.evaluation import (
    PRESETS,
    ZERO_SHOT,
    BaselineSystem,
    EvaluationSet,
    MethodSystem,
    ModelSystem,
    Plan,
    System,
    open_preset,
    presets_of,
    split_set,
)
from ranker.evaluation.methods import METHODS
from ranker.evaluation.trec import RunFile, load_qrels
from ranker.schema import Mode, RankingTask, Record
from ranker.thoughtbank import ThoughtBank, read_bank
from studio.zeroshot import trained_on
from trainer.modelcards import ModelCard
from trainer.registry import Registry

FindTasks = Callable[[str], Sequence[RankingTask] | None]
"""Name -> the tasks of a stored dataset, or None if there is none."""

NOT_IN_ALL = ("cross-encoder", "sasrec")
"""What `all` leaves out: the one needs a model of the user's; the other trains for minutes a dataset."""


class EvaluationRequest(Record):
    """Everything that decides an evaluation."""

    datasets: tuple[str, ...] = ()
    """Empty = all presets of the protocol."""
    protocol: str = "paper"
    from_dir: Path | None = None
    """Where the raw files of presets are."""
    split: str | None = None
    """`test` or `all`; None = the preset's own; stored datasets and files: `all`."""
    qrels: Path | None = None
    models: tuple[str, ...] = ()
    trained_on: Mapping[str, str] = {}
    """Model -> the domains that it was trained on, joined by a plus, for the zero-shot matrix; beside those of `studio.zeroshot`."""
    modes: tuple[str, ...] = (Mode.ITERATIVE.value,)
    """Modes of ranking and the methods that they are compared with (`METHODS`)."""
    think_tokens: tuple[int, ...] = ()
    """Thinking budgets; empty = as the model's card says."""
    answer: AnswerFormat | None = None
    """Instead of each model's own; such rows have it in their names."""
    thoughts: Path | None = None
    """A thought bank: every model in every mode that thinks gets another row with it."""
    baselines: tuple[str, ...] = ("random",)
    """Names, `name:model`, `run:FILE`; `all` = all but `NOT_IN_ALL`."""
    limit: int | None = None
    mode_limits: Mapping[str, int] = {}
    """Mode -> queries, where it is fewer."""
    row_minutes: float | None = None
    """Time for one row in one run; what is not answered then is left for the next run."""
    num_seeds: int = 3
    stop_early: bool = False
    depth: int | None = None
    against: str = "random"
    compare: tuple[tuple[str, str], ...] = ()
    max_in_flight: int = IN_FLIGHT


Opened = dict[tuple[str, str | None], EvaluationSet]
"""(name, split) -> what was opened before, by several sections of a plan."""


def make_plan(
    request: EvaluationRequest, registry: Registry, find_tasks: FindTasks, opened: Opened | None = None
) -> Plan:
    """Open the datasets and name the systems; models are loaded when they are first asked.

    Raises:
        UsageError: for a name that is not known.
        DatasetError: for data that cannot be trusted.
    """
    systems: list[System] = [_baseline(spec) for spec in _baseline_names(request)]
    models = _Models(registry)
    limits: dict[str, int] = {}
    for name in request.models:
        for system in _model_systems(name, request, registry, models):
            systems.append(system)
            if (limit := request.mode_limits.get(system.info.mode or "")) is not None:
                limits[system.info.name] = limit
    return Plan(
        datasets=open_datasets(request, find_tasks, opened),
        systems=systems,
        seeds=tuple(range(request.num_seeds)),
        limit=request.limit,
        limits=limits,
        row_s=None if request.row_minutes is None else 60 * request.row_minutes,
        pairs=request.compare,
        against=request.against,
        close=models.close,
    )


def open_datasets(
    request: EvaluationRequest, find_tasks: FindTasks, opened: Opened | None = None
) -> list[EvaluationSet]:
    """The sets that a request names; those of `opened` are not read again."""
    names = request.datasets or tuple(presets_of(request.protocol))
    qrels = load_qrels(request.qrels) if request.qrels else None
    split = request.split or ("test" if request.protocol == ZERO_SHOT else None)
    opened = {} if opened is None else opened
    for name in names:
        if (name, split) not in opened:
            opened[name, split] = _open(name, request.from_dir, split, find_tasks)
    datasets = [opened[name, split] for name in names]
    return [d.with_qrels(qrels) for d in datasets] if qrels is not None else datasets


def _open(name: str, from_dir: Path | None, wanted_split: str | None, find_tasks: FindTasks) -> EvaluationSet:
    split = wanted_split or "all"
    if Path(name).is_file():
        return split_set(Path(name).stem, list(load_tasks(Path(name))), source=f"file {Path(name).name}", split=split)
    if name in PRESETS and from_dir is not None:
        return open_preset(name, from_dir, split=wanted_split)
    tasks = find_tasks(name)
    if tasks is not None:
        return split_set(name, tasks, source=f"stored dataset {name}", split=split)
    if name in PRESETS:
        raise UsageError(f"--datasets: {name}: is made of raw files: say where they are with --from DIR")
    raise UsageError(
        f"--datasets: {name!r}: not a stored dataset, a file or a preset: presets are {', '.join(PRESETS)}"
    )


def _baseline_names(request: EvaluationRequest) -> list[str]:
    names: list[str] = []
    for name in request.baselines:
        names += [b for b in BASELINES if b not in NOT_IN_ALL] if name == "all" else [name]
    return list(dict.fromkeys(names))


def _baseline(spec: str) -> BaselineSystem:
    if spec.startswith("run:"):
        path = Path(spec.removeprefix("run:"))
        return BaselineSystem(RunFile(path), f"run:{path.stem}")
    return BaselineSystem(make_baseline(spec), spec)


def _model_systems(name: str, request: EvaluationRequest, registry: Registry, models: "_Models") -> list[System]:
    """A model by every mode and method, with every budget; `first-token`, likelihoods and the methods never think."""
    card = registry.card(name)
    own = RankConfig(**card.ranking_defaults())
    own = own.model_copy(update={"answer_format": request.answer or own.answer_format})
    bank = read_bank(request.thoughts) if request.thoughts else None
    systems: list[System] = []
    for mode in request.modes:
        if mode in METHODS:
            systems.append(
                MethodSystem(
                    models.loader(name),
                    mode,
                    model=card.name,
                    model_sha256=card.weights_sha256,
                    depth=request.depth,
                    max_in_flight=request.max_in_flight,
                )
            )
            continue
        if mode not in MODES:
            raise UsageError(f"--modes: {mode!r}: does not run: choose from {', '.join((*MODES, *METHODS))}")
        for think_tokens in _budgets(Mode(mode), own, request):
            config = own.model_copy(update={"mode": Mode(mode), "think_tokens": think_tokens})
            guides: list[ThoughtBank | None] = [None, bank] if bank and think_tokens else [None]
            systems += [_mode_system(card, config, request, models.loader(name), guide) for guide in guides]
    return systems


def _budgets(mode: Mode, own: RankConfig, request: EvaluationRequest) -> tuple[int, ...]:
    """Thinking budgets of a mode; where it never thinks, 0."""
    if mode is Mode.FIRST_TOKEN or own.answer_format is AnswerFormat.LIKELIHOOD:
        return (0,)
    return request.think_tokens or (own.think_tokens,)


def _mode_system(
    card: ModelCard,
    config: RankConfig,
    request: EvaluationRequest,
    load: Callable[[], Backend],
    guide: ThoughtBank | None,
) -> ModelSystem:
    return ModelSystem(
        load,
        config,
        model=card.name,
        model_sha256=card.weights_sha256,
        stop_early=request.stop_early,
        depth=request.depth,
        max_in_flight=request.max_in_flight,
        guide=guide,
        guide_options=guide.options if guide else None,
        variant="" if config.answer_format is card.answer_format else f":{config.answer_format.value}",
        trained_on=_trained_on(request).get(card.name, ()),
    )


def _trained_on(request: EvaluationRequest) -> dict[str, tuple[str, ...]]:
    """Model -> domains, as it is told and, in the zero-shot protocol, as the models are called."""
    known = dict(trained_on()) if request.protocol == ZERO_SHOT else {}
    return known | {name: tuple(domains.split("+")) for name, domains in request.trained_on.items()}


class _Models:
    """Models that are loaded once, when they are first needed."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._loaded: dict[str, Backend] = {}

    def loader(self, name: str) -> Callable[[], Backend]:
        def load() -> Backend:
            if name not in self._loaded:
                self._loaded[name] = self._registry.load(name)
            return self._loaded[name]

        return load

    @property
    def close(self) -> Callable[[], Awaitable[None]]:
        async def close_all() -> None:
            for backend in self._loaded.values():
                await backend.aclose()
            self._loaded.clear()

        return close_all
