"""What a training job reads, straight from the store: tasks, what people said about them, good traces. Knows no job.

A job keeps copies as files in its own folder, so that it stays reproducible whatever is corrected or deleted afterwards; the
corrections keep their ids, which every checkpoint's provenance names.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from ranker.datasets import dump_tasks
from ranker.errors import UsageError
from ranker.schema import Correction, CorrectionKind, RankingTask, Record
from studio.corrections import Corrections
from studio.store import DatasetInfo, Store, TraceFilter
from trainer.corrections import dump_corrections

MAX_LOOKED_AT: Final = 2_000
"""Tasks of a dataset that an estimate reads."""


class MaterialRequest(Record):
    """What to learn from and to measure on. Datasets are `NAME` (the newest version), `NAME@VERSION` or an id."""

    datasets: tuple[str, ...] = ()
    """() = every dataset that somebody has corrected."""
    use_corrections: bool = True
    authors: tuple[str, ...] = ()
    """Whose corrections; () = everybody's."""
    use_traces: bool = False
    """Imitate good steps of finished rankings (kind `sft`)."""
    evaluation: tuple[str, ...] = ()
    """Datasets that are ranked before and after."""


class Sample(NamedTuple):
    """A look at what a job would learn from."""

    tasks: list[RankingTask]
    corrections: list[Correction]
    num_tasks: int
    num_corrections: int


def find_datasets(store: Store, names: Sequence[str]) -> list[DatasetInfo]:
    """The datasets of these names, in order, each once.

    Raises:
        UsageError: if one is not there.
    """
    known = store.datasets.list()  # newest version first
    found = {}
    for name in names:
        fitting = [d for d in known if name in (d.name, f"{d.name}@{d.version}", str(d.id))]
        if not fitting:
            raise UsageError(f"job: datasets: {name[:80]!r}: is not there: choose one from the list")
        found[fitting[0].id] = fitting[0]
    return list(found.values())


def corrected_datasets(store: Store) -> list[DatasetInfo]:
    """Those about which somebody says something now."""
    named = {c.dataset for c in Corrections(store).effective()}
    return [d for d in store.datasets.list() if f"{d.name}@{d.version}" in named]


def look_at(store: Store, request: MaterialRequest) -> Sample:
    """Tasks and corrections for an estimate, without writing anything.

    Raises:
        UsageError: if there is nothing to learn from.
    """
    datasets = _chosen(store, request)
    tasks: dict[str, RankingTask] = {}
    said: list[Correction] = []
    for info in datasets:
        tasks |= {t.task_id: t for t in itertools.islice(store.datasets.iter_tasks(info.id), MAX_LOOKED_AT)}
        about = _corrections(store, info, request)
        said += about
        for one in [c for c in about if c.task_id not in tasks][:MAX_LOOKED_AT]:
            tasks[one.task_id] = store.datasets.task(info.id, one.task_id)
    return Sample(list(tasks.values()), said, sum(d.num_tasks for d in datasets), len(said))


def write_material(store: Store, request: MaterialRequest, directory: Path) -> dict[str, list[str]]:
    """Write the files that a job reads; returns the fields of `trainer.config.DataFiles`.

    Raises:
        UsageError: if there is nothing to learn from, an evaluation set is trained on, or two tasks have the same id.
    """
    datasets, evaluation = _chosen(store, request), find_datasets(store, request.evaluation)
    for info in evaluation:
        if info.name in {d.name for d in datasets}:
            raise UsageError(
                f"job: evaluation: {info.name!r}: is trained on: choose another, or leave it out "
                "(its held-out tasks are measured anyway)"
            )
    _check_ids(store, datasets)
    files: dict[str, list[str]] = {"tasks": [], "corrections": [], "traces": [], "evaluation": []}
    for kind, infos in (("tasks", datasets), ("evaluation", evaluation)):
        for info in infos:
            path = directory / f"{_file_name(info)}.jsonl"
            dump_tasks(store.datasets.iter_tasks(info.id), path)
            files[kind].append(str(path))
    said = [c for info in datasets for c in _corrections(store, info, request)]
    if said:
        files["corrections"].append(str(directory / "corrections.jsonl"))
        dump_corrections(said, directory / "corrections.jsonl")
    if request.use_traces:
        path = directory / "traces.jsonl"
        if _write_traces(store, datasets, path):
            files["traces"].append(str(path))
    return files


def _chosen(store: Store, request: MaterialRequest) -> list[DatasetInfo]:
    datasets = find_datasets(store, request.datasets) or corrected_datasets(store)
    if not datasets:
        raise UsageError("job: datasets: none is corrected yet: choose datasets with known relevance, or correct first")
    return datasets


def _corrections(store: Store, info: DatasetInfo, request: MaterialRequest) -> list[Correction]:
    """The current words about a dataset; flags say nothing that can be learnt."""
    if not request.use_corrections:
        return []
    current = Corrections(store).effective(info.id)
    wanted = [c for c in current if c.kind is not CorrectionKind.FLAG]
    return [c for c in wanted if c.author in request.authors] if request.authors else wanted


def _check_ids(store: Store, datasets: Sequence[DatasetInfo]) -> None:
    """Corrections name tasks by id alone once they are in a file."""
    if len(datasets) < 2:
        return
    seen: dict[str, str] = {}
    for info in datasets:
        for task in store.datasets.iter_tasks(info.id):
            other = seen.setdefault(task.task_id, info.name)
            if other != info.name:
                raise UsageError(
                    f"job: datasets: task {task.task_id[:80]!r} is in {other!r} and in {info.name!r}: choose one of them"
                )


def _write_traces(store: Store, datasets: Sequence[DatasetInfo], path: Path) -> int:
    def lines() -> Iterator[str]:
        for info in datasets:
            yield from store.traces.export(TraceFilter(dataset_id=info.id))

    number = 0
    with path.open("w", encoding="utf-8") as out:
        for line in lines():
            out.write(line)
            number += 1
    return number


def _file_name(info: DatasetInfo) -> str:
    return re.sub(r"[^\w.-]+", "-", info.name)[:60] + f"@{info.version}"
