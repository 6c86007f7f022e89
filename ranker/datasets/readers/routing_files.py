"""Readers of routing data: GraphRouter, LLMRouter, RouterBench, RouteLLM, and any table of query x model -> score, cost.

Two shapes cover them all: *long* (a row per query and model) and *wide* (a row per query, a column or an object entry per
model). What a router is told about each model is taken from a JSON file of models beside the table, if there is one.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ranker.datasets.readers.base import Reader, columns_of_file, first_rows, pick
from ranker.datasets.routing import ROUTING, Answer, RoutedQuery, RoutingTable
from ranker.datasets.rows import ROW_FORMATS, Row, as_number, iter_rows, parse_json
from ranker.datasets.sources import Source, SourceFile
from ranker.errors import DatasetError

_QUERY = ("query", "prompt", "question", "problem", "instruction")
_MODEL = ("model_name", "llm", "model", "model_id")
_SCORE = ("effect", "performance", "score", "quality", "correct", "reward")
_COST = ("cost", "total_cost", "price")
_TASK = ("task_name", "task_id", "eval_name", "dataset", "subject", "task")
_ABOUT = ("feature", "description", "about")
_COST_SUFFIX = "|total_cost"
_CHARS_PER_TOKEN = 4
_MAX_MODEL_FILE_BYTES = 16 * 2**20


class ModelAbout(NamedTuple):
    """What the JSON file of models says about one."""

    text: str
    input_price: float | None
    """$ per million tokens."""
    output_price: float | None


# --- long: GraphRouter's CSV, LLMRouter's routing_data, your own --------------------------------------------------------


def _sniff_long(source: Source) -> float:
    return 0.9 if any(_is_long(columns_of_file(f)) for f in _row_files(source)) else 0.0


def _is_long(columns: tuple[str, ...]) -> bool:
    has_model = pick(columns, *_MODEL) is not None or ("effect" in columns and "cost" in columns)
    return pick(columns, *_QUERY) is not None and has_model and pick(columns, *_SCORE) is not None


def _read_long(source: Source) -> RoutingTable:
    files = [f for f in _row_files(source) if _is_long(columns_of_file(f))]
    about = models_about(source)
    has_cost = all(pick(columns_of_file(f), *_COST) for f in files)
    return RoutingTable(
        queries=lambda: _long_queries(files, about),
        models={name: a.text for name, a in about.items()},
        cost_note="" if has_cost else "cost: derived from each model's list prices and the token counts of the table",
        place=source.name,
    )


def _long_queries(files: list[SourceFile], about: Mapping[str, ModelAbout]) -> Iterator[RoutedQuery]:
    """Rows of the same benchmark and query are gathered over all files, in order of first appearance."""
    gathered: dict[tuple[str, str], tuple[str, str | None, dict[str, Answer]]] = {}
    for file in files:
        columns = columns_of_file(file)
        query, score = pick(columns, *_QUERY) or "", pick(columns, *_SCORE) or ""
        model, cost, task = pick(columns, *_MODEL), pick(columns, *_COST), pick(columns, *_TASK)
        split = next((side for side in ("train", "test") if side in file.stem_name.lower()), None)
        for row in iter_rows(file):
            text = str(row.need(query) or "")
            key = (str(row.values.get(task) or "") if task else "", text)
            place, _, answers = gathered.setdefault(key, (row.place, split, {}))
            name = str(row.need(model)) if model else _name_by_order(len(answers), about)
            spent = _cost(row, cost, about.get(name), text)
            answers.setdefault(name, Answer(as_number(row.need(score), row.place, score), spent))
    for (task_name, text), (place, split, answers) in gathered.items():
        yield RoutedQuery(query_id(task_name, text), text, answers, task_name, split, place)


def _name_by_order(position: int, about: Mapping[str, ModelAbout]) -> str:
    """Tables without a model column list the models of each query in one fixed order."""
    names = list(about)
    return names[position] if position < len(names) else f"model-{position + 1}"


def _cost(row: Row, column: str | None, about: ModelAbout | None, query: str) -> float | None:
    if column is not None:
        return as_number(row.need(column), row.place, column)
    if about is None or about.input_price is None:
        return None
    tokens_in = row.values.get("input_tokens")
    tokens_out = row.values.get("output_tokens") or 0
    if tokens_in is None:
        tokens_in = math.ceil(len(query) / _CHARS_PER_TOKEN)
    return (
        as_number(tokens_in, row.place, "input_tokens") * about.input_price
        + as_number(tokens_out, row.place, "output_tokens") * (about.output_price or 0.0)
    ) / 1e6


# --- wide: LLMRouter's scores, RouterDC, GSM8K by six models, RouterBench, RouteLLM --------------------------------------


def _sniff_wide(source: Source) -> float:
    return 0.95 if any(_wide_answers(f) is not None for f in _row_files(source)) else 0.0


def _read_wide(source: Source) -> RoutingTable:
    files = [f for f in _row_files(source) if _wide_answers(f) is not None]
    about = models_about(source)
    return RoutingTable(
        queries=lambda: _wide_queries(files, about),
        models={name: a.text for name, a in about.items()},
        cost_note="cost: where the table has none, it is the input price x query length / 4 characters, "
        "or else the number of words of the answer",
        place=source.name,
    )


def _wide_queries(files: list[SourceFile], about: Mapping[str, ModelAbout]) -> Iterator[RoutedQuery]:
    seen: set[str] = set()
    for file in files:
        answers_of = _wide_answers(file)
        assert answers_of is not None
        columns = columns_of_file(file)
        query, task = pick(columns, *_QUERY) or "", pick(columns, *_TASK)
        own_id = pick(columns, "query_id", "sample_id", "id")
        for row in iter_rows(file):
            text = str(row.values.get(query) or "")
            task_name = str(row.values.get(task) or "") if task else ""
            answers = answers_of(row)
            priced = {m: a if a.cost is not None else _priced(a, about.get(m), text) for m, a in answers.items()}
            identifier = str(row.values[own_id]) if own_id and row.values.get(own_id) else query_id(task_name, text)
            if identifier in seen:
                continue
            seen.add(identifier)
            split = row.values.get("split")
            yield RoutedQuery(identifier, text, priced, task_name, split if isinstance(split, str) else None, row.place)


def _priced(answer: Answer, about: ModelAbout | None, query: str) -> Answer:
    if about is None or about.input_price is None:
        return answer
    return Answer(answer.score, about.input_price * math.ceil(len(query) / _CHARS_PER_TOKEN) / 1e6)


def _wide_answers(file: SourceFile) -> Callable[[Row], dict[str, Answer]] | None:
    """The function that takes a row of `file` apart, or None if the file has none of the wide shapes."""
    rows = first_rows(file, 1)
    if not rows:
        return None
    values = rows[0].values
    columns = tuple(values)
    if pick(columns, *_QUERY) is None:
        return None
    if isinstance(values.get("scores"), Mapping):
        return lambda row: _object_answers(row, "scores")
    if isinstance(values.get("models"), Mapping):
        return lambda row: _object_answers(row, "models")
    if "llm_name_list" in columns and "perf_list" in columns:
        return _listed_answers
    if any(c.endswith(_COST_SUFFIX) for c in columns):
        names = [c.removesuffix(_COST_SUFFIX) for c in columns if c.endswith(_COST_SUFFIX)]
        return lambda row: {
            n: Answer(as_number(row.need(n), row.place, n), _optional(row, n + _COST_SUFFIX)) for n in names
        }
    truths = [c for c, v in values.items() if str(v) in ("True", "False")]
    if len(truths) >= 2:
        return lambda row: {n: Answer(as_number(row.need(n), row.place, n)) for n in truths}
    return None


def _object_answers(row: Row, column: str) -> dict[str, Answer]:
    """`{model: score}` or `{model: {"correct": ..., "cost" or "response_words": ...}}`."""
    entries = row.values.get(column)
    if not isinstance(entries, Mapping):
        raise DatasetError(f"{row.place}: field '{column}': not an object: write {{model: score}}")
    answers = {}
    for name, entry in entries.items():
        if isinstance(entry, Mapping):
            keys = tuple(entry)
            score, cost = pick(keys, *_SCORE), pick(keys, *_COST, "response_words")
            if score is None:
                raise DatasetError(f"{row.place}: field '{column}.{name}': no score: give one of {', '.join(_SCORE)}")
            spent = as_number(entry[cost], row.place, cost) if cost else None
            answers[name] = Answer(as_number(entry[score], row.place, name), spent)
        else:
            answers[name] = Answer(as_number(entry, row.place, name))
    return answers


def _listed_answers(row: Row) -> dict[str, Answer]:
    names, scores = row.values.get("llm_name_list"), row.values.get("perf_list")
    if not isinstance(names, list) or not isinstance(scores, list) or len(names) != len(scores):
        raise DatasetError(f"{row.place}: field 'perf_list': must be as long as llm_name_list: correct the row")
    return {str(n): Answer(as_number(s, row.place, "perf_list")) for n, s in zip(names, scores, strict=True)}


# --- shared ------------------------------------------------------------------------------------------------------------


def models_about(source: Source) -> dict[str, ModelAbout]:
    """The JSON file of models beside a table: {name: {"feature", "input_price", "output_price", "size"}}."""
    about: dict[str, ModelAbout] = {}
    for file in source.with_suffix(".json"):
        entries = _small_object(file)
        if not entries or not all(isinstance(e, Mapping) and pick(tuple(e), *_ABOUT) for e in entries.values()):
            continue
        for name, entry in entries.items():
            text = str(entry[pick(tuple(entry), *_ABOUT) or ""])
            low, high = (
                None if entry.get(k) is None else as_number(entry[k], file.name, k)
                for k in ("input_price", "output_price")
            )
            if low is not None and "$" not in text:
                text = f"{text} Price: ${low:g} per million input tokens, ${high or 0:g} per million output tokens."
            about[name] = ModelAbout(text, low, high)
    return about


def query_id(task_name: str, query: str) -> str:
    """A stable id for a query that has none of its own."""
    digest = hashlib.blake2b(f"{task_name}\0{query}".encode(), digest_size=6).hexdigest()
    return f"{task_name}-{digest}" if task_name else digest


def _small_object(file: SourceFile) -> Mapping[str, Any]:
    with file.open() as stream:
        data = stream.read(_MAX_MODEL_FILE_BYTES + 1)
    if len(data) > _MAX_MODEL_FILE_BYTES or not data.lstrip().startswith(b"{"):
        return {}
    try:
        value = parse_json(data.decode("utf-8"), file.name)
    except (DatasetError, UnicodeDecodeError):
        return {}
    return value if isinstance(value, dict) else {}


def _optional(row: Row, column: str) -> float | None:
    value = row.values.get(column)
    return None if value in (None, "") else as_number(value, row.place, column)


def _row_files(source: Source) -> tuple[SourceFile, ...]:
    return source.with_suffix(*ROW_FORMATS)


ROUTING_WIDE = Reader(
    name="routing-wide",
    summary="a row per query with a score per model: LLMRouter scores, RouterDC, RouterBench, RouteLLM results",
    builder=ROUTING,
    sniff=_sniff_wide,
    read=_read_wide,
)
ROUTING_LONG = Reader(
    name="routing-long",
    summary="a row per query and model with score and cost: GraphRouter CSV, LLMRouter routing data, your own",
    builder=ROUTING,
    sniff=_sniff_long,
    read=_read_long,
)
