"""Which column of a table is which field of a task: guessed from the names, shown to the person, edited, and applied.

Owns the two shapes that tables of tasks have: *wide* (one row a task, candidates in a list) and *long* (one row a candidate,
the rows of a task in a run). The contract's own layout is the wide mapping in which every column has its field's name.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ranker.errors import DatasetError
from ranker.schema import Record

TASK_FIELDS = ("task_id", "domain", "query", "history", "candidates", "relevance", "criterion")


class ColumnMapping(Record):
    """Field of a task -> name of the column that holds it; None = the table has none."""

    task_id: str | None = None
    """None = tasks are numbered in order (wide), or told apart by the query (long)."""
    query: str | None = None
    history: str | None = None
    """A list, a JSON list, or titles separated by `|`."""
    candidates: str | None = None
    """Wide: the column with the list of candidates (texts, or objects with `candidate_id`, `text`, `metadata`)."""
    candidate_text: str | None = None
    """Long: the column with one candidate's text."""
    candidate_id: str | None = None
    """Long: the column with one candidate's id; None = `1`, `2`, ... in order."""
    candidate_title: str | None = None
    """Long: the column with one candidate's short name."""
    relevance: str | None = None
    """Wide: {id: gain}, a list of gains, one id, one text or one 0-based index. Long: the candidate's gain."""
    domain: str | None = None
    criterion: str | None = None

    @property
    def is_long(self) -> bool:
        """One row a candidate rather than one row a task."""
        return self.candidates is None

    @property
    def is_contract(self) -> bool:
        """The project's own layout: strict, nothing guessed."""
        return all(getattr(self, f) == f for f in ("task_id", "domain", "query", "candidates"))

    def columns(self) -> dict[str, str]:
        """field -> column, for the fields that are mapped, in the order of the fields."""
        return {field: column for field in type(self).model_fields if (column := getattr(self, field)) is not None}

    def edited(self, changes: Mapping[str, str], columns: Sequence[str]) -> "ColumnMapping":
        """This mapping with `changes` (field -> column; an empty column unmaps the field).

        Raises:
            DatasetError: for a field that does not exist or a column that the table does not have.
        """
        values = self.model_dump()
        for field, column in changes.items():
            if field not in values:
                raise DatasetError(f"mapping: {field}: no such field: use one of {', '.join(values)}")
            if column and column not in columns:
                raise DatasetError(
                    f"mapping: {field}: no column {column!r}: use one of {', '.join(' '.join(c.split()) for c in columns)}"
                )
            values[field] = column or None
        return ColumnMapping(**values)


_NAMES: dict[str, tuple[str, ...]] = {
    "task_id": ("task_id", "query_id", "qid", "question_id", "questionid", "request_id", "user_id", "id"),
    "query": ("query", "question", "problem", "prompt", "instruction", "search_term", "request", "input", "text_a"),
    "history": ("history", "context", "previous", "history_titles"),
    "candidates": ("candidates", "passages", "documents", "docs", "options", "choices", "items", "ctxs"),
    "candidate_id": ("candidate_id", "passage_id", "doc_id", "docid", "pid", "sentence_id", "sentenceid", "item_id"),
    "candidate_title": ("candidate_title", "document_title", "documenttitle", "title", "doc_title"),
    "candidate_text": (
        "candidate",
        "candidate_text",
        "passage",
        "sentence",
        "document",
        "doc",
        "text",
        "answer",
        "item",
    ),
    "relevance": (
        "relevance",
        "label",
        "labels",
        "gain",
        "grade",
        "score",
        "relevant",
        "is_selected",
        "gold",
        "gt",
        "target",
    ),
    "domain": ("domain", "task_name"),
    "criterion": ("criterion",),
}
"""Names that people give to each field, most telling first; compared without case, spaces, `-` and `_`."""


def guess_mapping(columns: Iterable[str], *, sample: Sequence[Mapping[str, Any]] = ()) -> ColumnMapping:
    """The mapping that the column names (and, for lists, the first values) suggest. Ours.

    Args:
        columns: column names in the order of the file; each is used for at most one field.
        sample: a few rows; a column is taken for the list of candidates only if its values look like lists.
    """
    free = {_plain(c): c for c in reversed(list(columns))}
    found: dict[str, str] = {}
    for field, names in _NAMES.items():
        if field == "candidates" or not field.startswith("candidate") or "candidates" not in found:
            column = next((free[_plain(n)] for n in names if _plain(n) in free), None)
            if column is not None and (field != "candidates" or _holds_lists(column, sample)):
                found[field] = column
                del free[_plain(column)]
    if "candidates" in found or "candidate_text" not in found:
        for field in ("candidate_id", "candidate_title", "candidate_text"):
            found.pop(field, None)
    return ColumnMapping(**found)


def check_mapping(mapping: ColumnMapping, columns: Sequence[str], place: str) -> None:
    """Raises DatasetError if the mapping cannot make tasks."""
    if mapping.candidates is None and mapping.candidate_text is None:
        listed = ", ".join(" ".join(c.split()) for c in columns) or "none"
        raise DatasetError(
            f"{place}: column 'candidates': not found among: {listed}: name it with --option candidates=COLUMN "
            "(a list) or candidate_text=COLUMN (one row a candidate)"
        )
    if mapping.query is None and mapping.history is None:
        raise DatasetError(f"{place}: column 'query': not found: name it with --option query=COLUMN")
    if mapping.is_long and mapping.task_id is None and mapping.query is None:
        raise DatasetError(f"{place}: column 'task_id': not found: name it with --option task_id=COLUMN")


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def _holds_lists(column: str, sample: Sequence[Mapping[str, Any]]) -> bool:
    values = [row[column] for row in sample if row.get(column) not in (None, "")]
    return all(
        isinstance(v, list | tuple) or (isinstance(v, str) and (v.lstrip().startswith("[") or "|" in v)) for v in values
    )
