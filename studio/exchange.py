"""Corrections into and out of the store: whole (JSON Lines, Parquet), as preference pairs, as TREC judgements.

The whole formats hold everything that was ever said and come back without loss; what is there already is recognised by its
correction_id. Pairs and judgements hold what the current words mean; a pair brings the word behind it along, so that it comes
back too. What other tools export is read by `studio.foreign`. Knows no page.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from ranker.consensus import consensus
from ranker.elimination import make_presentation_order
from ranker.errors import DatasetError, RankingStudioError, UsageError
from ranker.prompts import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, label_of, render_exclusion
from ranker.schema import Correction, CorrectionKind, RankingTask
from studio.corrections import Corrections
from studio.foreign import read_argilla, read_judgements, read_label_studio, read_records
from studio.payloads import checked_payload
from studio.store import NotStoredError, Store
from studio.store.people import checked_author
from trainer.corrections import dump_corrections, load_corrections
from trainer.orders import Tiers, grade_exclusions, grade_step, tiers_of_correction

FORMATS: Final = ("jsonl", "parquet", "pairs", "qrels")
FOREIGN: Final = ("argilla", "label-studio", "qrels")
"""What says no more than a person's order: a new one supersedes their earlier one."""
IMPORT_FORMATS: Final = (*FORMATS, "argilla", "label-studio")
_QRELS_COLUMNS: Final = ("task", "iteration", "candidate", "grade")
_MARK: Final = "\x1e"
"""Record separator between the messages of a prompt; splitting takes the outermost ones only."""


class Imported(NamedTuple):
    """What an import did."""

    num_new: int
    num_known: int


def export_corrections(store: Store, path: Path, *, file_format: str = "jsonl", dataset_id: int | None = None) -> int:
    """Write corrections to `path`. Returns how many lines or rows were written.

    Args:
        file_format: `jsonl` and `parquet`: everything; `pairs`: JSON Lines of `prompt`, `chosen`, `rejected` as TRL's DPO
            and reward trainers read them (with the correction as JSON text); `qrels`: `task 0 candidate grade`, the consensus of each task.
        dataset_id: only those of this dataset.

    Raises:
        UsageError: if there is no such format, or the file cannot be written.
    """
    if file_format not in FORMATS:
        raise UsageError(f"--format: {file_format!r}: choose from {', '.join(FORMATS)}")
    try:
        if file_format in ("jsonl", "parquet"):
            every = store.corrections.search(dataset_id=dataset_id).rows
            return dump_corrections(every, path) if file_format == "jsonl" else _write_parquet(every, path)
        current = [
            (said, task) for said, task in _with_tasks(store, dataset_id) if said.kind is not CorrectionKind.FLAG
        ]
        lines = list(_pairs(current) if file_format == "pairs" else _qrels(current))
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return len(lines)
    except OSError as error:
        raise UsageError(f"--out: {path}: {error.strerror or error}: choose another file") from error


def import_corrections(
    store: Store,
    path: Path,
    *,
    dataset_id: int | None = None,
    file_format: str | None = None,
    author: str = "qrels",
    tiers: Sequence[str] = (),
) -> Imported:
    """Take in a file of corrections. Everything is checked before anything is stored.

    Args:
        dataset_id: where the tasks are; None = in the dataset that each names, or the newest one that has the task.
        file_format: one of `IMPORT_FORMATS`; None = by its content.
        author: in whose name judgements are taken in, as they name nobody.
        tiers: buckets of a Label Studio Ranker, best first.

    Raises:
        DatasetError: `file:line: field: value: fix`.
        UsageError: if there is no such format.
    """
    file_format = guess_format(path) if file_format is None else file_format
    finder = _TaskFinder(store, dataset_id)
    rows = _read(path, file_format, finder, author, tiers)
    seen: set[str] = set()
    checked: list[tuple[int, Correction]] = []
    for number, said in enumerate(rows, 1):
        place = f"{path}:{number}: correction {said.correction_id}"
        try:
            where, task = finder.find(said.task_id, said.dataset)
            checked.append((where, _checked(store, said, task, seen)))
        except RankingStudioError as error:
            raise DatasetError(f"{place}: {error}") from error
        seen.add(said.correction_id)
    added = [store.corrections.add(where, said, follow=file_format in FOREIGN) for where, said in checked]
    num_new = sum(one.is_new for one in added)
    return Imported(num_new, len(added) - num_new)


def guess_format(path: Path) -> str:
    """The format of a file, by its name and the first record. Raises DatasetError if it cannot be read."""
    if path.suffix == ".parquet":
        return "parquet"
    try:
        with path.open(encoding="utf-8-sig") as lines:
            first = next((line for line in lines if line.strip()), "").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise DatasetError(f"{path}: {reason}: give a file of corrections") from error
    if not first.startswith(("{", "[")):
        return "qrels" if len(first.split()) == len(_QRELS_COLUMNS) else "jsonl"
    try:
        head = json.loads(first)
    except ValueError:
        head = None
    if isinstance(head, dict) and "correction_id" in head and "payload" in head:
        return "jsonl"
    if isinstance(head, dict) and {"chosen", "rejected"} <= head.keys():
        return "pairs"
    records = read_records(path)
    if any("annotations" in record or "completions" in record for record in records[:1]):
        return "label-studio"
    return "argilla" if any("responses" in key for record in records[:1] for key in record) else "jsonl"


def _read(
    path: Path, file_format: str, finder: "_TaskFinder", author: str, tiers: Sequence[str]
) -> Iterable[Correction]:
    def find(task_id: str) -> RankingTask:
        return finder.find(task_id, None)[1]

    match file_format:
        case "jsonl":
            return load_corrections(path)
        case "parquet":
            return _read_parquet(path)
        case "pairs":
            return _read_pairs(path)
        case "qrels":
            return read_judgements(path, find, author=author)
        case "argilla":
            return read_argilla(path, find)
        case "label-studio":
            return read_label_studio(path, find, tiers=tiers)
    raise UsageError(f"--format: {file_format!r}: choose from {', '.join(IMPORT_FORMATS)}")


def _read_pairs(path: Path) -> Iterator[Correction]:
    """The words behind the pairs, each once."""
    known: set[str] = set()
    for number, row in enumerate(read_records(path), 1):
        text = row.get("correction")
        if not isinstance(text, str):
            raise DatasetError(
                f"{path}:{number}: correction: missing: only pairs of `corrections export` can come back"
            )
        try:
            said = Correction.model_validate_json(text)
        except ValidationError as error:
            reason = " ".join(str(error).split())[:160]
            raise DatasetError(f"{path}:{number}: correction: {reason}: write it with `corrections export`") from error
        if said.correction_id not in known:
            known.add(said.correction_id)
            yield said


class _TaskFinder:
    """Tasks by what a correction says of them, each looked up once."""

    def __init__(self, store: Store, dataset_id: int | None) -> None:
        self._store = store
        self._dataset_id = dataset_id
        self._found: dict[tuple[str | None, str], tuple[int, RankingTask]] = {}

    def find(self, task_id: str, dataset: str | None) -> tuple[int, RankingTask]:
        """(dataset_id, task). Raises a RankingStudioError if it is not there."""
        key = (dataset, task_id)
        if key not in self._found:
            self._found[key] = _find_task(self._store, task_id, dataset, self._dataset_id)
        return self._found[key]


def _checked(store: Store, said: Correction, task: RankingTask, seen: set[str]) -> Correction:
    try:
        datetime.fromisoformat(said.created_at)
    except ValueError as error:
        raise UsageError(f"created_at: {said.created_at[:40]!r}: write ISO 8601, UTC") from error
    if said.supersedes is not None and said.supersedes not in seen:
        store.corrections.get(said.supersedes)  # raises if it is nowhere
    payload = checked_payload(said.kind, said.payload, task)
    return said.model_copy(update={"payload": payload, "author": checked_author(said.author)})


def _find_task(store: Store, task_id: str, dataset: str | None, dataset_id: int | None) -> tuple[int, RankingTask]:
    if dataset_id is not None:
        return dataset_id, store.datasets.task(dataset_id, task_id)
    for info in store.datasets.list():  # newest version first
        if dataset in (None, f"{info.name}@{info.version}"):
            try:
                return info.id, store.datasets.task(info.id, task_id)
            except NotStoredError:
                continue
    where = "any dataset" if dataset is None else f"dataset {dataset}"
    raise UsageError(f"task_id: {task_id!r}: is not in {where}: import that first, or name another with --dataset")


def _with_tasks(store: Store, dataset_id: int | None) -> Iterator[tuple[Correction, RankingTask]]:
    tasks: dict[tuple[str | None, str], RankingTask] = {}
    for said in Corrections(store).effective(dataset_id):
        key = (said.dataset, said.task_id)
        if key not in tasks:
            tasks[key] = store.datasets.task(store.corrections.dataset_of(said.correction_id), said.task_id)
        yield said, tasks[key]


def _write_parquet(corrections: Sequence[Correction], path: Path) -> int:
    """One row each; the payload is JSON text, because its shape differs by kind."""
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {float: pa.float64(), int: pa.int64(), bool: pa.bool_()}
    special = {"duration_s": float, "guideline_version": int, "is_gold": bool}
    schema = pa.schema(
        [(name, kinds[special[name]] if name in special else pa.string()) for name in Correction.model_fields]
    )
    rows = [
        said.model_dump(mode="json") | {"payload": json.dumps(dict(said.payload), ensure_ascii=False)}
        for said in corrections
    ]
    parquet.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return len(rows)


def _read_parquet(path: Path) -> Iterator[Correction]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        rows = parquet.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(
            f"{path}: {' '.join(str(error).split())[:120]}: give a Parquet file of corrections"
        ) from error
    for number, row in enumerate(rows, 1):
        try:
            yield Correction.model_validate(row | {"payload": json.loads(row.get("payload") or "null")})
        except (ValidationError, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            raise DatasetError(f"{path}:{number}: {reason}: write it with `corrections export`") from error


def _pairs(current: Iterable[tuple[Correction, RankingTask]]) -> Iterator[str]:
    """Two answers to one prompt of the ranker, the better and the worse by what a person said. One line a pool."""
    for said, task in current:
        for pool, better, worse in _choices(said, task):
            system, user, opening = _messages(task, pool)
            yield json.dumps(
                {
                    "prompt": [{"role": "system", "content": system}, {"role": "user", "content": user}],
                    "chosen": [{"role": "assistant", "content": _answer(opening, pool, better)}],
                    "rejected": [{"role": "assistant", "content": _answer(opening, pool, worse)}],
                    "task_id": task.task_id,
                    "correction_id": said.correction_id,
                    "correction": said.model_dump_json(exclude={"supersedes"}),
                },
                ensure_ascii=False,
            )


def _choices(said: Correction, task: RankingTask) -> Iterator[tuple[Sequence[str], str, str]]:
    """(pool, an exclusion of the highest grade, one of the lowest), for each pool on the way that the person would go."""
    if said.kind is CorrectionKind.STEP:
        pool, grades = grade_step(said, task)
        yield from _choice(pool, grades)
        return
    tiers = tiers_of_correction(said, task)
    pool = tuple(make_presentation_order(task, seed=0))
    while choice := next(_choice(pool, grade_exclusions(tiers, pool)), None):
        yield choice
        pool = tuple(i for i in pool if i != choice[1])


def _choice(pool: Sequence[str], grades: Mapping[str, float | None]) -> Iterator[tuple[Sequence[str], str, str]]:
    known = {i: grade for i in pool if (grade := grades[i]) is not None}
    if len(set(known.values())) >= 2:
        yield pool, max(known, key=lambda i: known[i]), min(known, key=lambda i: known[i])


def _messages(task: RankingTask, pool: Sequence[str]) -> tuple[str, str, str]:
    """System message, user message and the opening of the answer, as a model gets them."""
    candidates = [task.candidate(i) for i in pool]
    text = render_exclusion(task, candidates, lambda system, user: f"{system}{_MARK}{user}{_MARK}").text
    system, _, rest = text.partition(_MARK)
    user, _, opening = rest.rpartition(_MARK)
    return system, user, opening


def _answer(opening: str, pool: Sequence[str], excluded_id: str) -> str:
    return f"{opening}\n{THINK_CLOSE}\n{ANSWER_OPEN}{label_of(pool.index(excluded_id))}{ANSWER_CLOSE}"


def _qrels(current: Iterable[tuple[Correction, RankingTask]]) -> Iterator[str]:
    """The consensus (Borda) of each task; the grade of a candidate is the number of tiers below it."""
    orders: dict[str, list[Tiers]] = defaultdict(list)
    datasets: dict[str, str | None] = {}
    for said, task in current:
        if datasets.setdefault(said.task_id, said.dataset) != said.dataset:
            raise UsageError(f"--format: qrels: task {said.task_id} is in several datasets: choose one with --dataset")
        if tiers := tiers_of_correction(said, task):
            orders[said.task_id].append(tiers)
    for task_id, votes in orders.items():
        tiers = consensus(votes)
        for level, tier in enumerate(tiers):
            for candidate_id in tier:
                if _has_space(task_id) or _has_space(candidate_id):
                    raise UsageError(
                        f"--format: qrels: id {task_id!r} or {candidate_id!r} has a space: TREC files cannot hold it"
                    )
                yield f"{task_id} 0 {candidate_id} {len(tiers) - 1 - level}"


def _has_space(value: Any) -> bool:
    return any(c.isspace() for c in str(value))
