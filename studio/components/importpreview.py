"""A file before it is imported: what the reader understood, the columns to map by hand, and what stands in the way.

The browser keeps what the person has changed and sends it with every event; the server keeps nothing.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ranker.datasets import ColumnMapping, Report
from ranker.schema import Domain, RankingTask
from studio.components.doctorreport import findings_of
from studio.components.view import View, text_of
from studio.understanding import Understood

MAX_NAME_CHARS = 200
MAX_COLUMN_CHARS = 1000
MAX_COLUMNS = 200
SHOWN_CANDIDATES = 5
SHOWN_CHARS = 280
DEFAULT_DOMAIN = "default_domain"
_FIELDS = (
    ("query", "Query", "What is asked for"),
    ("candidates", "Candidates, as a list", "One row a task: a JSON list, or texts between |"),
    ("candidate_text", "Candidate text", "One row a candidate"),
    ("relevance", "Relevance", "The right candidate, or a grade for each"),
    ("task_id", "Task id", "Without one, tasks are numbered"),
    ("history", "History", "What came before, oldest first"),
    ("candidate_id", "Candidate id", "One row a candidate"),
    ("candidate_title", "Candidate title", "One row a candidate"),
    ("domain", "Domain", "recommendation, routing, passage or other"),
    ("criterion", "Criterion", "What to rank by"),
)


class Chosen(NamedTuple):
    """What the person has chosen so far, as the browser says."""

    token: str | None
    """The work that goes on."""
    name: str
    reader: str | None
    """The format that was chosen by hand."""
    changes: dict[str, str]
    """Field -> column as changed by hand; "" = none."""


class ImportPreview(View):
    """The preview. Events: look {}, take {allow}, cancel {}."""

    kind = "import-preview"
    emits = ("look", "take", "cancel")

    def preprocess(self, payload: Any) -> Chosen:
        sent = payload.get("changes") if isinstance(payload, dict) else None
        known = (*ColumnMapping.model_fields, DEFAULT_DOMAIN)
        pairs = sent.items() if isinstance(sent, dict) else ()
        changes = {f: c for f, c in pairs if f in known and isinstance(c, str) and len(c) <= MAX_COLUMN_CHARS}
        name = text_of(payload, "name", MAX_NAME_CHARS) or ""
        return Chosen(text_of(payload, "token"), name, text_of(payload, "reader"), changes)


def preview(understood: Understood, chosen: Chosen, readers: Sequence[str]) -> dict[str, Any]:
    """The value of an `ImportPreview` of a file that could be opened."""
    return {
        **_choice(chosen, readers),
        "state": "ready",
        "source": understood.source,
        "files": list(understood.files[:SHOWN_CANDIDATES]),
        "num_files": len(understood.files),
        "found": understood.reader,
        "summary": understood.summary,
        "columns": list(understood.columns[:MAX_COLUMNS]),
        "mapping": dict(understood.mapping),
        "fields": [{"field": field, "label": label, "hint": hint} for field, label, hint in _FIELDS],
        "domains": [domain.value for domain in Domain],
        "tasks": [_task(task) for task in understood.preview],
        "looked": _looked(understood),
        "findings": findings_of(understood.report) if understood.num_looked else [],
        "error": understood.error,
    }


def unreadable(source: str, words: str, chosen: Chosen, readers: Sequence[str]) -> dict[str, Any]:
    """A file that no reader could open: only the format can be changed."""
    return {**_choice(chosen, readers), "state": "ready", "source": source, "error": words}


def opening(token: str, chosen: Chosen, words: str) -> dict[str, Any]:
    """A file that was just uploaded and is being read."""
    return {**_choice(chosen, ()), "state": "reading", "token": token, "words": words}


def working(state: str, token: str, words: str) -> dict[str, Any]:
    """The rest stays as it is while the file is read ("reading") or imported ("importing")."""
    return {"keep": True, "state": state, "token": token, "words": words, "error": "", "blocked": False}


def stopped(words: str, *, report: Report | None = None) -> dict[str, Any]:
    """The import stopped: by a row that makes no task, or (with a report) by the doctor's errors, which can be allowed."""
    value = {"keep": True, "state": "ready", "token": "", "error": words, "blocked": report is not None}
    return value if report is None else {**value, "findings": findings_of(report), "looked": ""}


def _choice(chosen: Chosen, readers: Sequence[str]) -> dict[str, Any]:
    return {
        "token": "",
        "name": chosen.name,
        "reader": chosen.reader or "",
        "readers": list(readers),
        "changes": chosen.changes,
        "blocked": False,
    }


def _looked(understood: Understood) -> str:
    number = f"{understood.num_looked:,} task{'' if understood.num_looked == 1 else 's'}"
    return f"{number} in all" if understood.is_complete else f"the first {number}"


def _task(task: RankingTask) -> dict[str, Any]:
    shown = task.candidates[:SHOWN_CANDIDATES]
    return {
        "id": _clip(task.task_id),
        "domain": task.domain.value,
        "query": _clip(task.query),
        "history": _clip(" · ".join(task.history[-SHOWN_CANDIDATES:])),
        "num_candidates": len(task.candidates),
        "candidates": [{"title": _clip(c.title), "relevant": c.candidate_id in task.relevant_ids} for c in shown],
    }


def _clip(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 1] + "…"
