"""Rows to tasks: applies a `ColumnMapping` to the rows of one table, wide or long, and validates each task.

Every failure is one line `file:line: field: value: fix`. It opens no files.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

from pydantic import ValidationError

from ranker.datasets.mapping import ColumnMapping, check_mapping, guess_mapping
from ranker.datasets.rows import Row, as_number, parse_json
from ranker.errors import DatasetError
from ranker.schema import Domain, RankingTask

GUESS_ROWS = 50
_MAX_VALUE_CHARS = 60
_FIXES = {
    "missing": "missing: add it",
    "extra_forbidden": "no such field: rename or remove it",
    "string_too_short": "empty: write a text",
    "too_short": "{actual_length} given: at least {min_length} are needed",
    "too_long": "{actual_length} given: at most {max_length} are allowed",
    "string_type": "not a text: write it in quotes",
}
"""Type of a validation error -> what to do, where the library's own words do not say it."""
_DOMAIN_PREFIXES = (("rec", Domain.RECOMMENDATION), ("rout", Domain.ROUTING), ("passage", Domain.PASSAGE))


class Table:
    """The rows of one table with the first ones looked at, so that the columns are known before tasks are made."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self.head = list(islice(rows, GUESS_ROWS))
        self._rest = rows

    @property
    def columns(self) -> list[str]:
        """Column names of the first rows, in order of appearance."""
        return list(dict.fromkeys(column for row in self.head for column in row.values))

    def guess(self) -> ColumnMapping:
        """The mapping that the names and first values suggest."""
        return guess_mapping(self.columns, sample=[row.values for row in self.head])

    def tasks(self, mapping: ColumnMapping, domain: Domain) -> Iterator[RankingTask]:
        """The tasks of all rows, in order; once. Raises DatasetError at the first row that makes no valid task."""
        if not self.head:
            return
        check_mapping(mapping, self.columns, self.head[0].place)
        rows = chain(self.head, self._rest)
        if mapping.is_contract:
            yield from (contract_task(row) for row in rows)
        elif mapping.is_long:
            yield from _long_tasks(rows, mapping, domain)
        else:
            for number, row in enumerate(rows, start=1):
                yield _wide_task(row, mapping, domain, number)


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
    field = " ".join(".".join(str(part) for part in first["loc"]).split())
    message = " ".join(first["msg"].removeprefix("Value error, ").split())
    if not field:
        name, _, rest = message.partition(": ")
        return f"field '{name}': {rest}" if rest else message
    fix = _FIXES.get(first["type"])
    if fix is not None:
        return f"field '{field}': {fix.format(**first.get('ctx', {}))}"
    return f"field '{field}': {_shown(first['input'])}: {message}"


def _wide_task(row: Row, mapping: ColumnMapping, domain: Domain, number: int) -> RankingTask:
    values = row.values
    raw = _list_cell(values.get(mapping.candidates or ""), row.place, mapping.candidates or "candidates")
    candidates = [_candidate_values(item, index, row.place) for index, item in enumerate(raw, start=1)]
    task: dict[str, Any] = {
        "task_id": _text(_cell(row, mapping.task_id)) or str(number),
        "domain": _domain(_cell(row, mapping.domain), domain),
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
        "domain": _domain(_cell(first, mapping.domain), domain),
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
    return 0.0 if _text(value) == "" else as_number(value, place, field)


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
    return parse_json(text, f"{place}: field '{field}'")


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= _MAX_VALUE_CHARS else f"{text[:_MAX_VALUE_CHARS]}..."


def _domain(value: Any, default: Domain) -> str:
    """A domain by its name, or by how benchmark names begin (`Rec-Movie`, `Router-Cost`, `Passage-5`)."""
    text = _text(value).strip().lower()
    if not text or text in tuple(Domain):
        return text or default
    return next((domain for prefix, domain in _DOMAIN_PREFIXES if text.startswith(prefix)), text)
