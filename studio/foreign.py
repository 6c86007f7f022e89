"""Rankings that people gave in other tools: exports of Argilla and Label Studio, and TREC judgements, as corrections.

How names are matched, and nothing is guessed beyond it: the task is the one that the record names (`task_id` in its metadata
or data, else the record's own id); a candidate is the one that has the name as its id, else the one whose text or title the
record shows under that name. Answers that were not submitted are left out. The same answer has the same correction_id each
time; one that was changed since supersedes the earlier one. Knows no store.

Sources: docs.argilla.io (records of 1.x: responses with `values`; 2.x: responses by question, or flattened),
labelstud.io/guide/task_format and /tags/ranker (`result` items of type `ranker`).
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from ranker.errors import DatasetError
from ranker.evaluation.trec import load_qrels
from ranker.schema import Correction, CorrectionKind, RankingTask

FindTask = Callable[[str], RankingTask]
"""task_id -> the task; raises a RankingStudioError if it is not there."""
_TASK_KEYS: Final = ("task_id", "id")
_REASON: Final = "reason"
"""The name of a text question whose answer is the reason of the ranking."""
_UNSORTED: Final = "_"
"""Label Studio's column of what was not put into a bucket."""


class Answer(NamedTuple):
    """What one person answered to one question about one task."""

    place: str
    """`file:record`"""
    tool: str
    record_id: str
    question: str
    author: str
    tiers: list[list[str]]
    """Names, best first."""
    names: Mapping[str, str]
    """Name -> text that the record shows under it."""
    task_id: str
    reason: str = ""
    created_at: str | None = None
    duration_s: float | None = None
    is_gold: bool = False


def read_argilla(path: Path, find_task: FindTask) -> Iterator[Correction]:
    """The submitted rankings of an Argilla export (`records.to_json`, `to_list`, or JSON Lines of such records).

    Raises:
        DatasetError: `file:record: field: value: fix`.
    """
    yield from _corrections(path, _argilla_answers(path, find_task), find_task, "a RankingQuestion")


def read_label_studio(path: Path, find_task: FindTask, *, tiers: Sequence[str] = ()) -> Iterator[Correction]:
    """The rankings of a Label Studio export in its JSON format.

    Args:
        tiers: names of a Ranker's buckets, best first; what lies in one bucket is tied. Needed where it has several.

    Raises:
        DatasetError: `file:record: field: value: fix`.
    """
    yield from _corrections(path, _label_studio_answers(path, tiers), find_task, "a Ranker")


def read_judgements(path: Path, find_task: FindTask, *, author: str) -> Iterator[Correction]:
    """TREC judgements (`task 0 candidate grade`) as one ranking a task: equal grades are tied, what is not judged is left out."""
    for task_id, grades in load_qrels(path).items():
        tiers = [
            [i for i, grade in grades.items() if grade == level] for level in sorted(set(grades.values()), reverse=True)
        ]
        answer = Answer(f"{path}: task {task_id}", "qrels", task_id, "grade", author, tiers, {}, task_id)
        yield _correction(answer, find_task)


def _corrections(path: Path, answers: Iterator[Answer], find_task: FindTask, wanted: str) -> Iterator[Correction]:
    is_empty = True
    for answer in answers:
        is_empty = False
        yield _correction(answer, find_task)
    if is_empty:
        raise DatasetError(
            f"{path}: holds no submitted answer to {wanted} about candidates: export the records with their responses"
        )


def _correction(answer: Answer, find_task: FindTask) -> Correction:
    task = find_task(answer.task_id)
    order = [[_candidate_id(name, answer, task) for name in tier] for tier in answer.tiers if tier]
    said = json.dumps([answer.record_id, answer.question, answer.author, order, answer.reason, answer.is_gold])
    return Correction(
        correction_id=f"{answer.tool}-{hashlib.sha256(said.encode()).hexdigest()[:20]}",
        task_id=task.task_id,
        kind=CorrectionKind.RANKING,
        author=answer.author,
        created_at=_utc(answer.created_at),
        reason=answer.reason,
        payload={"order": order},
        duration_s=answer.duration_s,
        is_gold=answer.is_gold,
    )


def _candidate_id(name: str, answer: Answer, task: RankingTask) -> str:
    if name in task.candidate_ids:
        return name
    shown = _plain(answer.names.get(name, ""))
    fitting = [c.candidate_id for c in task.candidates if shown and shown in (_plain(c.text), _plain(c.title))]
    if len(fitting) != 1:
        why = (
            "fits several candidates"
            if fitting
            else "is no candidate's id, and no text that it stands for is a candidate's"
        )
        raise DatasetError(
            f"{answer.place}: {answer.question}: {name[:60]!r} {why} in task {task.task_id}: "
            "name the options by candidate_id, or show the candidates' texts"
        )
    return fitting[0]


def _plain(text: object) -> str:
    return " ".join(str(text).split())


def _utc(text: str | None) -> str:
    """A tool's time in UTC; now, where it gives none."""
    try:
        moment = datetime.fromisoformat(text) if text else datetime.now(UTC)
    except ValueError:
        moment = datetime.now(UTC)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds")


# ------------------------------------------------------------------------------------------------------------ Argilla


def _argilla_answers(path: Path, find_task: FindTask) -> Iterator[Answer]:
    for number, record in enumerate(read_records(path), 1):
        place = f"{path}:{number}"
        metadata = record["metadata"] if isinstance(record.get("metadata"), dict) else {}
        fields = record["fields"] if isinstance(record.get("fields"), dict) else record
        names = {str(k): v for k, v in fields.items() if isinstance(v, str)}
        task_id = _first(metadata, ("task_id",)) or _first(record, ("task_id", "external_id", "id"))
        if task_id is None:
            raise DatasetError(f"{place}: id: missing: export records with their id, or with task_id in the metadata")
        for user, answers, when in _responses(record):
            reason = answers.get(_REASON)
            for question, value in answers.items():
                tiers = _tiers_of_ranking(value)
                if tiers and _is_ranking(tiers, value, names, task_id, find_task):
                    yield Answer(
                        place, "argilla", str(record.get("id", task_id)), question, user, tiers, names, task_id,
                        reason=reason if isinstance(reason, str) else "", created_at=when,
                    )  # fmt: skip


def _responses(record: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any], str | None]]:
    """(user, question -> value, time) of what was submitted, in each of the three shapes."""
    given = record.get("responses")
    if isinstance(given, list):  # 1.x
        for response in given:
            if isinstance(response, dict) and response.get("status", "submitted") == "submitted":
                values = response.get("values") or {}
                answers = {q: v.get("value") if isinstance(v, dict) else v for q, v in values.items()}
                yield _user(response.get("user_id")), answers, response.get("updated_at") or response.get("inserted_at")
        return
    by_user: dict[str, dict[str, Any]] = {}
    if isinstance(given, dict):  # 2.x
        for question, responses in given.items():
            for response in responses or ():
                by_user.setdefault(_user(response.get("user_id")), {})[question] = response.get("value")
    else:  # 2.x, flattened
        for key in [key for key in record if key.endswith(".responses")]:
            values, users = record[key] or [], record.get(f"{key}.users") or []
            states = record.get(f"{key}.status") or ["submitted"] * len(values)
            for value, user, state in zip(values, users, states, strict=False):
                if state in (None, "submitted"):
                    by_user.setdefault(_user(user), {})[key.removesuffix(".responses")] = value
    for user, answers in by_user.items():
        yield user, answers, None


def _user(user_id: object) -> str:
    return str(user_id) if user_id else "argilla"


def _tiers_of_ranking(value: object) -> list[list[str]]:
    """Names by rank; [] if the value is none of a ranking. Those without a rank are left out."""
    if not isinstance(value, list) or not value:
        return []
    if all(isinstance(entry, str) for entry in value):
        return [[entry] for entry in value]
    if not all(isinstance(entry, dict) and "value" in entry for entry in value):
        return []
    ranks = {entry["value"]: entry.get("rank") for entry in value}
    if all(rank is None for rank in ranks.values()):
        return [[str(name)] for name in ranks]
    known = sorted({rank for rank in ranks.values() if isinstance(rank, int)})
    return [[str(name) for name, given in ranks.items() if given == rank] for rank in known]


def _is_ranking(
    tiers: list[list[str]], value: Any, names: Mapping[str, str], task_id: str, find_task: FindTask
) -> bool:
    """A list of words may be an answer to a question of several labels; a ranking names candidates or what is shown."""
    if isinstance(value[0], dict):
        return True
    return any(name in names or name in find_task(task_id).candidate_ids for tier in tiers for name in tier)


# -------------------------------------------------------------------------------------------------------- Label Studio


def _label_studio_answers(path: Path, tiers: Sequence[str]) -> Iterator[Answer]:
    for number, record in enumerate(read_records(path), 1):
        place = f"{path}:{number}"
        data = record.get("data")
        if not isinstance(data, dict):
            raise DatasetError(f"{place}: data: missing: choose JSON, not JSON_MIN, when exporting from Label Studio")
        meta = record["meta"] if isinstance(record.get("meta"), dict) else {}
        task_id = _first(data, _TASK_KEYS) or _first(meta, _TASK_KEYS) or _first(record, ("id",))
        if task_id is None:
            raise DatasetError(f"{place}: data.task_id: missing: give each task the id that it has here")
        for annotation in record.get("annotations") or record.get("completions") or ():
            if annotation.get("was_cancelled"):
                continue
            results = [r for r in annotation.get("result") or () if isinstance(r, dict)]
            lead_time = annotation.get("lead_time")
            for result in results:
                if result.get("type") == "ranker":
                    yield Answer(
                        place, "label-studio", str(annotation.get("unique_id") or annotation.get("id")),
                        str(result.get("from_name", "ranker")), _annotator(annotation.get("completed_by")),
                        _tiers_of_ranker(result, place, tiers), _items(data), task_id, reason=_reason(results),
                        created_at=annotation.get("created_at"),
                        duration_s=float(lead_time) if isinstance(lead_time, int | float) and lead_time >= 0 else None,
                        is_gold=bool(annotation.get("ground_truth")),
                    )  # fmt: skip


def _annotator(completed_by: object) -> str:
    """Their e-mail or name where the export has it, else their number."""
    if isinstance(completed_by, dict):
        known = _first(completed_by, ("email", "username", "id"))
        return known if known and not known.isdecimal() else f"label-studio {known or 'nobody'}"
    return f"label-studio {completed_by}" if completed_by is not None else "label-studio nobody"


def _tiers_of_ranker(result: Mapping[str, Any], place: str, tiers: Sequence[str]) -> list[list[str]]:
    value = result.get("value")
    ranked = value.get("ranker") if isinstance(value, dict) else None
    if isinstance(ranked, list):
        return [[str(name)] for name in ranked]
    if not isinstance(ranked, dict) or not all(isinstance(ids, list) for ids in ranked.values()):
        raise DatasetError(f"{place}: result.value.ranker: {str(ranked)[:60]}: a dict of lists of ids is expected")
    buckets = {name: [str(i) for i in ids] for name, ids in ranked.items() if name != _UNSORTED}
    if tiers:
        unknown = sorted(set(buckets) - set(tiers))
        if unknown:
            raise DatasetError(f"{place}: result.value.ranker: {unknown}: not in --tiers: name all buckets, best first")
        return [buckets.get(name, []) for name in tiers]
    if len(buckets) != 1:
        raise DatasetError(
            f"{place}: result.value.ranker: {sorted(buckets)}: which bucket is best: say it with --tiers, best first"
        )
    return [[name] for ids in buckets.values() for name in ids]


def _items(data: Mapping[str, Any]) -> dict[str, str]:
    """id -> text of what the task's lists show."""
    shown: dict[str, str] = {}
    for items in data.values():
        for item in items if isinstance(items, list) else ():
            if isinstance(item, dict) and "id" in item:
                texts = [item.get(key) for key in ("body", "text", "title", "html")]
                shown[str(item["id"])] = next((text for text in texts if isinstance(text, str) and text.strip()), "")
    return shown


def _reason(results: Sequence[Mapping[str, Any]]) -> str:
    for result in results:
        if result.get("from_name") == _REASON and result.get("type") == "textarea":
            text = (result.get("value") or {}).get("text")
            return " ".join(map(str, text)) if isinstance(text, list) else str(text or "")
    return ""


# --------------------------------------------------------------------------------------------------------------- files


def read_records(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON array, of an object's `records`, of an object of objects, or of JSON Lines.

    Raises:
        DatasetError: if it is none of these.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise DatasetError(f"{path}: {reason}: give a JSON file") from error
    try:
        value = json.loads(text)
    except ValueError as whole:
        try:
            value = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError:
            raise DatasetError(f"{path}: {' '.join(str(whole).split())[:100]}: give a JSON file") from whole
    if isinstance(value, dict):
        inner = value.get("records")
        value = inner if isinstance(inner, list) else list(value.values()) if _is_index(value) else [value]
    if not isinstance(value, list) or not all(isinstance(record, dict) for record in value):
        raise DatasetError(f"{path}: is no list of records: give a JSON export")
    return value


def _is_index(value: Mapping[str, Any]) -> bool:
    """Records by their id."""
    return bool(value) and all(isinstance(v, dict) and "responses" in v for v in value.values())


def _first(values: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    return next((str(values[key]) for key in keys if values.get(key) not in (None, "")), None)
