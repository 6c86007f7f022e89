"""Readers of passage lists that come with their texts: MS MARCO QnA, WikiQA, rank_llm / Castorini requests."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ranker.datasets.passages import PASSAGES, JudgedQuery, Judgements, Passage
from ranker.datasets.readers.base import Reader, columns_of_file, first_rows
from ranker.datasets.readers.collections import read_qrels, sort_files
from ranker.datasets.rows import Row, as_number, iter_rows, iter_tsv, parse_json
from ranker.datasets.sources import Source, SourceFile, decode
from ranker.errors import DatasetError

_ROW_SUFFIXES = (".jsonl", ".json", ".parquet")
_MAX_COLUMNS_JSON_BYTES = 2**30


# --- MS MARCO QnA v1.1 (a row a query) and v2.1 (the same, or one object of columns) -------------------------------------


def _sniff_qna(source: Source) -> float:
    return 1.0 if any(_is_qna(f) for f in source.with_suffix(*_ROW_SUFFIXES)) else 0.0


def _is_qna(file: SourceFile) -> bool:
    if _is_columns_json(file):
        return True
    rows = first_rows(file, 1)
    passages = rows[0].values.get("passages") if rows else None
    first = passages[0] if isinstance(passages, list) and passages else passages
    return isinstance(first, Mapping) and "is_selected" in first


def _is_columns_json(file: SourceFile) -> bool:
    """An object of columns, each an object from "0", "1", ... to values (pandas' `to_json`)."""
    if file.suffix != ".json":
        return False
    with file.open() as stream:
        head = stream.read(200)
    return re.match(rb'\s*\{\s*"\w+":\s*\{"0":', head) is not None


def _read_qna(source: Source) -> Judgements:
    files = [f for f in source.with_suffix(*_ROW_SUFFIXES) if _is_qna(f)]
    return Judgements(queries=lambda: (_qna_query(row) for f in files for row in _qna_rows(f)), place=source.name)


def _qna_rows(file: SourceFile) -> Iterator[Row]:
    if not _is_columns_json(file):
        yield from iter_rows(file)
        return
    with file.open() as stream:
        data = stream.read(_MAX_COLUMNS_JSON_BYTES + 1)
    if len(data) > _MAX_COLUMNS_JSON_BYTES:
        raise DatasetError(f"{file.name}: JSON: one object of more than 1 GiB: convert it to JSON Lines first")
    columns = parse_json(decode(data, file.name), file.name)
    names = ("query_id", "query", "passages")
    if any(not isinstance(columns.get(n), Mapping) for n in names):
        raise DatasetError(f"{file.name}: JSON: needs the columns {', '.join(names)}: use the file as published")
    for key in columns["query"]:
        yield Row(f"{file.name}: row {key}", {n: columns[n].get(key) for n in names})


def _qna_query(row: Row) -> JudgedQuery:
    """`passages` is a list of objects (as first published) or an object of lists (as on the Hugging Face hub)."""
    passages = row.values.get("passages")
    if isinstance(passages, Mapping):
        texts, marks = passages.get("passage_text"), passages.get("is_selected")
    elif isinstance(passages, list) and all(isinstance(p, Mapping) for p in passages):
        texts, marks = [p.get("passage_text") for p in passages], [p.get("is_selected") for p in passages]
    else:
        texts, marks = None, None
    if not isinstance(texts, list) or not isinstance(marks, list) or len(texts) != len(marks):
        raise DatasetError(
            f"{row.place}: field 'passages': needs passage_text and is_selected of one length: correct it"
        )
    listed = [
        Passage(str(i), str(text or ""), _gain(mark, row.place, "is_selected"))
        for i, (text, mark) in enumerate(zip(texts, marks, strict=True), start=1)
    ]
    query = str(row.values.get("query") or "")
    identifier = row.values.get("query_id")
    if identifier in (None, "") or not query:
        raise DatasetError(f"{row.place}: field 'query_id' or 'query': missing: give both")
    return JudgedQuery(str(identifier), query, listed, None, row.place)


# --- WikiQA --------------------------------------------------------------------------------------------------------------

_WIKIQA = ("QuestionID", "Question", "SentenceID", "Sentence", "Label")


def _sniff_wikiqa(source: Source) -> float:
    return 1.0 if any(set(_WIKIQA) <= set(columns_of_file(f)) for f in source.with_suffix(".tsv")) else 0.0


def _read_wikiqa(source: Source) -> Judgements:
    files = [f for f in source.with_suffix(".tsv") if set(_WIKIQA) <= set(columns_of_file(f))]
    return Judgements(queries=lambda: (q for f in files for q in _wikiqa_queries(f)), place=source.name)


def _wikiqa_queries(file: SourceFile) -> Iterator[JudgedQuery]:
    """Rows of one question stand in a run."""
    split = next((s for s in ("train", "test") if s in file.stem_name.lower()), None)
    group: list[Row] = []
    for row in iter_tsv(file):
        if group and row.need("QuestionID") != group[0].values["QuestionID"]:
            yield _wikiqa_query(group, split)
            group = []
        group.append(row)
    if group:
        yield _wikiqa_query(group, split)


def _wikiqa_query(group: list[Row], split: str | None) -> JudgedQuery:
    first = group[0].values
    passages = [
        Passage(
            row.need("SentenceID"),
            row.need("Sentence"),
            _gain(row.need("Label"), row.place, "Label"),
            str(row.values.get("DocumentTitle") or ""),
        )
        for row in group
    ]
    return JudgedQuery(first["QuestionID"], first["Question"], passages, split, group[0].place)


# --- rank_llm / Castorini request files ------------------------------------------------------------------------------------


def _sniff_requests(source: Source) -> float:
    return 1.0 if any(_is_request(f) for f in source.with_suffix(*_ROW_SUFFIXES)) else 0.0


def _is_request(file: SourceFile) -> bool:
    rows = first_rows(file, 1)
    return bool(rows) and "query" in rows[0].values and _listed(rows[0]) is not None


def _listed(row: Row) -> list[Mapping[str, Any]] | None:
    """The hits of a request: `hits` with `content` (first layout) or `candidates` with `doc` (the later one)."""
    for column in ("hits", "candidates"):
        value = row.values.get(column)
        if not isinstance(value, list) or not value or not all(isinstance(v, Mapping) for v in value):
            continue
        if "docid" in value[0] and ("content" in value[0] or "doc" in value[0]):
            return value
    return None


def _read_requests(source: Source) -> Judgements:
    files = [f for f in source.with_suffix(*_ROW_SUFFIXES) if _is_request(f)]
    qrels, _ = read_qrels(sort_files(source).qrels)
    return Judgements(queries=lambda: (_request(r, qrels) for f in files for r in iter_rows(f)), place=source.name)


def _request(row: Row, qrels: Mapping[str, Mapping[str, float]]) -> JudgedQuery:
    hits = _listed(row)
    if hits is None:
        raise DatasetError(f"{row.place}: field 'hits': missing or empty: list hits with docid and content")
    query = row.need("query")
    text, identifier = (
        (query.get("text"), query.get("qid")) if isinstance(query, Mapping) else (query, hits[0].get("qid"))
    )
    if identifier in (None, "") or not text:
        raise DatasetError(f"{row.place}: field 'qid' or 'query': missing: give both")
    gains = qrels.get(str(identifier), {})
    passages = []
    for hit in hits:
        content, title = _hit_text(hit)
        document_id, score = str(hit.get("docid")), hit.get("score")
        score = None if score is None else as_number(score, row.place, "score")
        passages.append(Passage(document_id, content, gains.get(document_id), title, score))
    return JudgedQuery(str(identifier), str(text), passages, None, row.place)


def _hit_text(hit: Mapping[str, Any]) -> tuple[str, str]:
    doc = hit.get("doc")
    if not isinstance(doc, Mapping):
        return str(hit.get("content") or doc or ""), ""
    text = next((doc[k] for k in ("contents", "text", "segment", "body", "passage", "content") if doc.get(k)), "")
    return str(text), str(doc.get("title") or "")


def _gain(value: Any, place: str, field: str) -> float:
    return max(0.0, as_number(value, place, field))


MSMARCO_QNA = Reader(
    name="msmarco-qna",
    summary="MS MARCO QnA v1.1 and v2.1: query, passages with is_selected (JSON Lines, JSON, Parquet)",
    builder=PASSAGES,
    sniff=_sniff_qna,
    read=_read_qna,
)
WIKIQA = Reader(
    name="wikiqa",
    summary="WikiQA: question, sentence, label (TSV)",
    builder=PASSAGES,
    sniff=_sniff_wikiqa,
    read=_read_wikiqa,
)
REQUESTS = Reader(
    name="castorini",
    summary="rank_llm / Castorini requests: query and hits, with TREC qrels beside them",
    builder=PASSAGES,
    sniff=_sniff_requests,
    read=_read_requests,
)
