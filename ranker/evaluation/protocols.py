"""Protocols: which datasets are evaluated, and with which candidates.

    paper   the paper's counts: 20 titles and 20 candidates, routers by scenario, 5 / 7 / 9 passages
    hard    candidates that a retriever or popularity chose, instead of random ones
    trec    first-stage lists with graded judgements: nDCG@10
    zero-shot   the paper's sets, test side only: models that were trained on two of the domains are asked about the third

A preset names a folder below the directory that the user gives; where there is no such folder the directory itself is read.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from ranker.baselines import Training
from ranker.datasets import import_source, open_source
from ranker.datasets.building import side_of
from ranker.datasets.interactions import Interactions
from ranker.datasets.readers.collections import read_qrels
from ranker.errors import UsageError
from ranker.evaluation.sets import EvaluationSet, make_set
from ranker.schema import Record


class Preset(Record):
    """One evaluation set that can be made of public raw files."""

    name: str
    protocols: tuple[str, ...]
    folder: str
    recipe: str | None = None
    options: Mapping[str, Any] = {}
    split: str = "test"
    """`test` where something can be learned from the other side; `all` where nothing here learns from it."""
    metric: str = "mrr"
    paper_name: str | None = None
    binary_from: float = 1.0
    notes: tuple[str, ...] = ()


def _recommendation(name: str, folder: str, paper_name: str | None, *notes: str, **options: Any) -> Preset:
    return Preset(
        name=name,
        protocols=("paper",) if paper_name else ("hard",),
        folder=folder,
        recipe=f"rec-{name.split('-')[1]}",
        options=options,
        paper_name=paper_name,
        notes=notes,
    )


def _router(scenario: str, paper_name: str) -> Preset:
    note = "9 models and other tasks than the paper's; several models can be best; costs are derived from prices"
    return Preset(
        name=f"router-{scenario}",
        protocols=("paper",),
        folder="routing/llmrouter_9llm",
        recipe=f"router-{scenario}",
        paper_name=paper_name,
        notes=(note,),
    )


def _passages(number: int) -> Preset:
    notes = ["real texts and positives; the lists were made from other queries' passages, which makes them easy"]
    if number == 9:
        notes.append("without the paper's limit of 2,600 characters, which few of these queries keep")
    return Preset(
        name=f"passage-{number}",
        protocols=("paper",),
        folder="passage/msmarco_dev_lists",
        recipe=f"passage-{number}",
        options={"max_chars": None} if number == 9 else {},
        split="all",
        paper_name=f"P-{number}",
        notes=tuple(notes),
    )


def _judged(name: str, folder: str, metric: str = "ndcg@10", **options: Any) -> Preset:
    return Preset(
        name=name,
        protocols=("trec",),
        folder=folder,
        options={"relevant": "any", **options},
        split="all",
        metric=metric,
        binary_from=2.0 if name.startswith("dl") else 1.0,
    )


_SHORT = "histories of 10 to 20 titles: few users have more"
_LAST = {"target": "last", "min_history": 10}

PRESETS: Final[Mapping[str, Preset]] = {
    preset.name: preset
    for preset in (
        _recommendation("rec-movie", "movies/ml-1m", "Movie", "a tenth of the rows of MovieLens-1M"),
        _recommendation("rec-movie-100k", "movies/ml-100k", "Movie", "MovieLens-100k, whole sequences"),
        _recommendation("rec-music", "amazon/cds_vinyl_flower", "Music", _SHORT, min_history=10),
        _recommendation("rec-game", "amazon/games_llmrank", "Game"),
        _router("performance", "R-Perf"),
        _router("balance", "R-Bal"),
        _router("cost", "R-Cost"),
        _passages(5),
        _passages(7),
        _passages(9),
        _recommendation("rec-movie-pop", "movies/ml-1m", None, "negatives drawn by popularity", negatives="popularity"),
        _recommendation("rec-game-pop", "amazon/games_llmrank", None, "most popular items", negatives="pop", **_LAST),
        _recommendation("rec-game-bm25", "amazon/games_llmrank", None, "retrieved by BM25", negatives="bm25", **_LAST),
        _recommendation(
            "rec-game-sasrec", "amazon/games_llmrank", None, "retrieved by SASRec", negatives="sasrec", **_LAST
        ),
        _judged("dl19", "passage/trec_dl", files="*dl19*"),
        _judged("dl20", "passage/trec_dl", files="*dl20*"),
        _judged("noveleval", "passage/noveleval"),
        _judged("wikiqa", "passage/wikiqa", "mrr", relevant="some"),
    )
}
ZERO_SHOT: Final = "zero-shot"
PROTOCOLS: Final = ("paper", "hard", "trec", ZERO_SHOT)


def presets_of(protocol: str) -> list[str]:
    """Names of the presets of a protocol. Raises UsageError if there is no such protocol."""
    if protocol not in PROTOCOLS:
        raise UsageError(f"--protocol: {protocol!r}: no such protocol: choose one of {', '.join(PROTOCOLS)}")
    wanted = "paper" if protocol == ZERO_SHOT else protocol
    return [p.name for p in PRESETS.values() if wanted in p.protocols]


def open_preset(name: str, directory: Path, *, split: str | None = None) -> EvaluationSet:
    """Make a preset's tasks of the raw files below `directory`.

    Args:
        name: see `PRESETS`.
        directory: holds the preset's folder, or the raw files themselves.
        split: `test`, `train` or `all` instead of the preset's own.

    Raises:
        DatasetError: if the files are not there or cannot be trusted.
        UsageError: if there is no such preset.
    """
    if name not in PRESETS:
        raise UsageError(
            f"--datasets: {name!r}: not a stored dataset, file or preset: presets are {', '.join(PRESETS)}"
        )
    preset = PRESETS[name]
    folder = directory / preset.folder if (directory / preset.folder).is_dir() else directory
    split = split or preset.split
    source = f"recipe:{preset.recipe}" if preset.recipe else folder
    plan = import_source(source, from_dir=folder, options={**preset.options, "split": split})
    tasks = list(plan.tasks())
    options = {k: v for k, v in plan.provenance.options.items() if v is not None}
    return make_set(
        name,
        tasks,
        source=f"{preset.folder}, {plan.provenance.builder}: " + ", ".join(f"{k}={v}" for k, v in options.items()),
        split=split,
        load_training=partial(_training, preset, folder, split),
        qrels=_qrels(folder, preset) if preset.metric == "ndcg@10" else {},
        metric=preset.metric,
        paper_name=preset.paper_name,
        binary_from=preset.binary_from,
        notes=[*preset.notes, *plan.provenance.notes],
    )


def _qrels(folder: Path, preset: Preset) -> dict[str, dict[str, float]]:
    """All judgements beside a first-stage list: those of unlisted documents count in the ideal order."""
    pattern = preset.options.get("files", "*").strip("*")
    files = [f for f in open_source(folder).files if "qrels" in f.stem_name and pattern in f.stem_name]
    return read_qrels(files)[0] if files else {}


def _training(preset: Preset, folder: Path, split: str) -> Training:
    """The other side of the split. Recommendation: whole sequences of the users there, by id."""
    if split != "test" or not preset.recipe:
        return Training()
    plan = import_source(f"recipe:{preset.recipe}", from_dir=folder, options={**preset.options, "split": "train"})
    raw = plan.reader.read(open_source(folder))
    if not isinstance(raw, Interactions):
        return Training(list(plan.tasks()))
    sequences = _sequences(raw, plan.options.seed, plan.options.test_share)
    return Training((), sequences, {item_id: item.title for item_id, item in raw.items.items()})


def _sequences(raw: Interactions, seed: int, test_share: float) -> Sequence[Sequence[str]]:
    """What each user of the training side took, in order of time (ties: of the file), each item once."""
    grouped = raw.frame.sort("time", maintain_order=True).group_by("user", maintain_order=True).agg("item")
    return [
        [item for item in dict.fromkeys(items) if item in raw.items]
        for user, items in grouped.iter_rows()
        if side_of(user, seed, test_share) == "train"
    ]
