"""Files of ranking tasks in and out: any table of `rows`, through a `ColumnMapping`, to `RankingTask` and back.

`load_tasks(dump_tasks(tasks))` gives the same tasks in every format (an empty criterion counts as none).
"""

import contextlib
import csv
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from ranker.datasets.mapping import TASK_FIELDS, ColumnMapping, check_mapping, guess_mapping
from ranker.datasets.rows import ROW_FORMATS, Row, iter_rows
from ranker.datasets.sources import SourceFile, open_source
from ranker.errors import DatasetError
from ranker.schema import Domain, RankingTask

GUESS_ROWS = 50
_MAX_VALUE_CHARS = 60


def load_tasks(
    path: Path, *, mapping: ColumnMapping | None = None, domain: Domain = Domain.OTHER
) -> Iterator[RankingTask]:
    """The tasks of a file, of a directory of files, or of a .zip / .gz of them, streamed.

    Args:
        path: .jsonl, .json, .csv, .tsv or .parquet files by suffix; other files in a directory are passed over.
        mapping: which column is which field; None = guessed for each file from its first rows.
        domain: for tables without a domain column.

    Yields:
        Tasks in the order of the files' names and rows.

    Raises:
        DatasetError: `file:line: field: value: fix`, at the first row that makes no valid task.

    Example:
        >>> from itertools import islice
        >>> list(islice(load_tasks(Path("assets/samples/recommendation.jsonl")), 2))  # doctest: +SKIP
    """
    source = open_source(path)
    files = source.with_suffix(*ROW_FORMATS)
    if not files:
        known = " ".join(sorted(ROW_FORMATS))
        raise DatasetError(
            f"{source.name}: suffix: no file of tasks: give one of {known}, or a directory or .zip of them"
        )
    for file in files:
        yield from tasks_of_file(file, mapping=mapping, domain=domain)


def tasks_of_file(
    file: SourceFile, *, mapping: ColumnMapping | None = None, domain: Domain = Domain.OTHER
) -> Iterator[RankingTask]:
    """The tasks of one table. Raises DatasetError like `load_tasks`."""
    rows = iter_rows(file)
    head = list(islice(rows, GUESS_ROWS))
    if not head:
        return
    columns = columns_of(head)
    mapping = mapping or mapping_of(head)
    check_mapping(mapping, columns, head[0].place)
    every_row = _chain(head, rows)
    if mapping.is_contract:
        yield from (contract_task(row) for row in every_row)
    elif mapping.is_long:
        yield from _long_tasks(every_row, mapping, domain)
    else:
        for number, row in enumerate(every_row, start=1):
            yield _wide_task(row, mapping, domain, number)


def columns_of(head: Iterable[Row]) -> list[str]:
    """Column names of the first rows, in order of appearance."""
    return list(dict.fromkeys(column for row in head for column in row.values))


def mapping_of(head: list[Row]) -> ColumnMapping:
    """The guessed mapping for a table that begins with `head`."""
    return guess_mapping(columns_of(head), sample=[row.values for row in head])


def dump_tasks(tasks: Iterable[RankingTask], path: Path) -> int:
    """Write tasks to a .jsonl, .csv or .parquet file, whole or not at all, and return their number.

    Raises:
        DatasetError: for another suffix, or if the file cannot be written.
    """
    path = Path(path)
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        known = " ".join(sorted(_WRITERS))
        raise DatasetError(f"{path}: suffix: {path.suffix or 'none'} cannot be written: use one of {known}")
    partial: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        partial = Path(name)
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as out:
            count = writer(tasks, out, partial)
        partial.replace(path)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be written: {error.strerror or error}: choose another place") from error
    finally:
        if partial is not None:
            with contextlib.suppress(FileNotFoundError):
                partial.unlink()
    return count


def task_line(task: RankingTask) -> str:
    """The task as one line of JSON, without the fields that are at their defaults (contract, "Files")."""
    return json.dumps(_plain_task(task), ensure_ascii=False, allow_nan=False)


def contract_task(row: Row) -> RankingTask:
    """The task of a row in the project's own layout; cells of CSV and Parquet hold lists and objects as JSON.

    Raises:
        DatasetError: naming place, field, value and fix.
    """
    values = dict(row.values)
    for field in ("history", "candidates", "relevance"):
        if isinstance(values.get(field), str):
            values[field] = _parsed_cell(values[field], row.place, field)
        if values.get(field) is None:
            values.pop(field, None)
    values["criterion"] = values.get("criterion") or None
    return make_task(values, row.place)


def make_task(values: Mapping[str, Any], place: str) -> RankingTask:
    """A validated task. Raises DatasetError `place: field: value: fix` for the first thing that is wrong."""
    try:
        return RankingTask.model_validate(values)
    except ValidationError as error:
        raise DatasetError(f"{place}: {explain(error)}") from error


def explain(error: ValidationError) -> str:
    """The first problem of a validation error as `field 'x': value: what to do`, in one line."""
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    message = " ".join(first["msg"].removeprefix("Value error, ").split())
    if not field:
        name, _, rest = message.partition(": ")
        return f"field '{name}': {rest}" if rest else message
    value = "" if first["type"] in ("missing", "extra_forbidden") else f"{_shown(first['input'])}: "
    return f"field '{field}': {value}{message}"


def _wide_task(row: Row, mapping: ColumnMapping, domain: Domain, number: int) -> RankingTask:
    values = row.values
    raw = _list_cell(values.get(mapping.candidates or ""), row.place, mapping.candidates or "candidates")
    candidates = [_candidate_values(item, index, row.place) for index, item in enumerate(raw, start=1)]
    task: dict[str, Any] = {
        "task_id": _text(_cell(row, mapping.task_id)) or str(number),
        "domain": _text(_cell(row, mapping.domain)) or domain,
        "query": _text(_cell(row, mapping.query)),
        "history": [_text(h) for h in _list_cell(_cell(row, mapping.history), row.place, mapping.history or "history")],
        "candidates": candidates,
        "relevance": _wide_relevance(_cell(row, mapping.relevance), candidates, row.place),
        "criterion": _text(_cell(row, mapping.criterion)) or None,
    }
    return make_task(task, row.place)


def _long_tasks(rows: Iterable[Row], mapping: ColumnMapping, domain: Domain) -> Iterator[RankingTask]:
    """One task for each run of rows with the same task_id (or query)."""
    done: set[str] = set()
    group: list[Row] = []
    key_column = mapping.task_id or mapping.query
    current: str | None = None
    for row in rows:
        key = _text(_cell(row, key_column))
        if key != current:
            if group and current is not None:
                yield _long_task(group, mapping, domain, current, len(done))
            if key in done:
                raise DatasetError(
                    f"{row.place}: field {key_column!r}: {_shown(key)} appears again: sort the rows by it"
                )
            done.add(key)
            current, group = key, []
        group.append(row)
    if group and current is not None:
        yield _long_task(group, mapping, domain, current, len(done))


def _long_task(group: list[Row], mapping: ColumnMapping, domain: Domain, key: str, number: int) -> RankingTask:
    first = group[0]
    candidates, relevance = [], {}
    for index, row in enumerate(group, start=1):
        candidate_id = _text(_cell(row, mapping.candidate_id)) or str(index)
        title = _text(_cell(row, mapping.candidate_title))
        metadata = {"title": title} if title else {}
        text = _text(_cell(row, mapping.candidate_text))
        candidates.append({"candidate_id": candidate_id, "text": text, "metadata": metadata})
        if mapping.relevance is not None:
            relevance[candidate_id] = _gain(_cell(row, mapping.relevance), row.place, mapping.relevance)
    history = _list_cell(_cell(first, mapping.history), first.place, mapping.history or "history")
    task = {
        "task_id": key if mapping.task_id else str(number),
        "domain": _text(_cell(first, mapping.domain)) or domain,
        "query": _text(_cell(first, mapping.query)),
        "history": [_text(h) for h in history],
        "candidates": candidates,
        "relevance": relevance,
        "criterion": _text(_cell(first, mapping.criterion)) or None,
    }
    return make_task(task, first.place)


def _candidate_values(item: Any, number: int, place: str) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        return {"candidate_id": str(number), "text": _text(item)}
    text = next((item[k] for k in ("text", "passage_text", "content", "contents", "body") if item.get(k)), None)
    candidate_id = next((item[k] for k in ("candidate_id", "id", "docid", "_id") if item.get(k) is not None), number)
    metadata = item.get("metadata") or {}
    if not isinstance(metadata, Mapping):
        raise DatasetError(f"{place}: field 'candidates.{number}.metadata': {_shown(metadata)}: make it an object")
    title = item.get("title")
    extra = {"title": _text(title)} if title and "title" not in metadata else {}
    return {"candidate_id": _text(candidate_id), "text": _text(text or title), "metadata": {**metadata, **extra}}


def _wide_relevance(value: Any, candidates: list[dict[str, Any]], place: str) -> dict[str, float]:
    ids = [c["candidate_id"] for c in candidates]
    if isinstance(value, str) and value[:1] in "[{" and value:
        value = _parsed_cell(value, place, "relevance")
    if value in (None, "", [], {}):
        return {}
    if isinstance(value, Mapping):
        return {_text(k): _gain(v, place, "relevance") for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        if len(value) == len(ids) and not set(map(_text, value)) <= set(ids):
            return {i: _gain(v, place, "relevance") for i, v in zip(ids, value, strict=True)}
        return {_named_candidate(v, candidates, place): 1.0 for v in value}
    return {_named_candidate(value, candidates, place): 1.0}


def _named_candidate(value: Any, candidates: list[dict[str, Any]], place: str) -> str:
    """The id of the candidate that `value` names by id, by its exact text, or by its 0-based index."""
    text = _text(value)
    for key in ("candidate_id", "text"):
        for candidate in candidates:
            if candidate[key] == text:
                return str(candidate["candidate_id"])
    if isinstance(value, int) and 0 <= value < len(candidates):
        return str(candidates[value]["candidate_id"])
    raise DatasetError(
        f"{place}: field 'relevance': {_shown(value)} is not a candidate: give an id, a text or an index"
    )


def _gain(value: Any, place: str, field: str) -> float:
    text = _text(value).strip().lower()
    if text in ("true", "false"):
        return float(text == "true")
    try:
        return float(text or 0)
    except ValueError as error:
        raise DatasetError(
            f"{place}: field '{field}': {_shown(value)} is not a number: give a gain of 0 or more"
        ) from error


def _cell(row: Row, column: str | None) -> Any:
    return row.values.get(column) if column is not None else None


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return value if isinstance(value, str) else str(value)


def _list_cell(value: Any, place: str, field: str) -> list[Any]:
    if value is None or value == "":
        return []
    if isinstance(value, str):
        value = _parsed_cell(value, place, field) if value.lstrip()[:1] == "[" else value.split("|")
    if isinstance(value, list | tuple):
        return list(value)
    raise DatasetError(f"{place}: field '{field}': {_shown(value)}: make it a list")


def _parsed_cell(text: str, place: str, field: str) -> Any:
    if not text.strip():
        return None
    from ranker.datasets.rows import parse_json

    return parse_json(text, f"{place}: field '{field}'")


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= _MAX_VALUE_CHARS else f"{text[:_MAX_VALUE_CHARS]}..."


def _chain(head: list[Row], rest: Iterator[Row]) -> Iterator[Row]:
    yield from head
    yield from rest


def _plain_task(task: RankingTask) -> dict[str, Any]:
    values = task.model_dump(mode="json")
    for candidate in values["candidates"]:
        if not candidate["metadata"]:
            del candidate["metadata"]
    return {k: v for k, v in values.items() if v or k in ("task_id", "domain", "query", "candidates")}


def _flat_task(task: RankingTask) -> dict[str, str]:
    values = task.model_dump(mode="json")
    return {k: v if isinstance(v, str) else _cell_text(v) for k in TASK_FIELDS for v in [values[k]]}


def _cell_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False) if value else ""


def _write_jsonl(tasks: Iterable[RankingTask], out: IO[str], _path: Path) -> int:
    count = 0
    for task in tasks:
        out.write(task_line(task) + "\n")
        count += 1
    return count


def _write_csv(tasks: Iterable[RankingTask], out: IO[str], _path: Path) -> int:
    writer = csv.DictWriter(out, TASK_FIELDS)
    writer.writeheader()
    count = 0
    for task in tasks:
        writer.writerow(_flat_task(task))
        count += 1
    return count


def _write_parquet(tasks: Iterable[RankingTask], _out: IO[str], path: Path) -> int:
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.schema([(field, pyarrow.string()) for field in TASK_FIELDS])
    count = 0
    with parquet.ParquetWriter(path, schema) as writer:
        rows = iter(tasks)
        while batch := [_flat_task(task) for task in islice(rows, 1000)]:
            writer.write_table(pyarrow.Table.from_pylist(batch, schema=schema))
            count += len(batch)
    return count


_WRITERS = {".jsonl": _write_jsonl, ".csv": _write_csv, ".parquet": _write_parquet}
