"""Readers of judged collections: TREC (collection, topics, qrels, run) and BEIR (corpus, queries, qrels).

Without a run, the candidates are the BM25 top of the collection; with one, only the texts that it names are held in memory.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ranker.datasets.passages import PASSAGES, JudgedQuery, Judgements, Passage
from ranker.datasets.readers.base import Reader, columns_of_file, pick
from ranker.datasets.retrieval import Bm25, words
from ranker.datasets.rows import as_number, iter_json_lines
from ranker.datasets.sources import Source, SourceFile
from ranker.errors import DatasetError

DEPTH = 100
"""Candidates a query that BM25 retrieves; the builder cuts them further."""
MAX_INDEXED = 1_000_000
"""Documents that are indexed in memory; larger collections need a run."""
_QREL = re.compile(r"^(\S+)\s+(\S+)\s+(\S+)\s+(-?\d+(?:\.\d+)?)$")
_RUN = re.compile(r"^(\S+)\s+Q0\s+(\S+)\s+(\d{1,9})\s+(\S+)\s+\S+", re.IGNORECASE)
_BEIR_QREL = re.compile(r"^(\S+)\t(\S+)\t(-?\d+(?:\.\d+)?)$")
_TAG = re.compile(r"<(/?)(\w+)[^>]*>")


class Document(NamedTuple):
    """One text of a collection."""

    document_id: str
    text: str
    title: str = ""


Run = Mapping[str, Sequence[tuple[str, float | None]]]
"""query id -> (document id, score), best first."""
Qrels = Mapping[str, Mapping[str, float]]
"""query id -> document id -> gain."""


class Parts(NamedTuple):
    """The files of a collection by their role."""

    documents: list[SourceFile]
    queries: list[SourceFile]
    qrels: list[SourceFile]
    runs: list[SourceFile]


def _sniff(source: Source) -> float:
    parts = sort_files(source)
    return 0.9 if parts.documents and parts.queries and parts.qrels else 0.0


def _read(source: Source) -> Judgements:
    parts = sort_files(source)
    if not (parts.documents and parts.queries):
        raise DatasetError(
            f"{source.name}: files: a collection needs documents, queries and qrels: add what is missing"
        )
    return Judgements(queries=lambda: _judged(parts, source.name), place=source.name)


def sort_files(source: Source) -> Parts:
    """Which file is what, by first lines; two-column tables by name (`queries`, `topics` against the rest)."""
    parts = Parts([], [], [], [])
    for file in source.files:
        head = [line for line in file.head(6) if line.strip()]
        if not head or file.suffix in (".md", ".csv", ".parquet"):
            continue
        body = head[1:] if "query-id" in head[0] else head
        name = file.stem_name.lower()
        is_query = any(mark in name for mark in ("quer", "topic", "qry", "question"))
        if body and all(_BEIR_QREL.match(line) for line in body) and len(head) > len(body):
            parts.qrels.append(file)
        elif all(_RUN.match(line) for line in body):
            parts.runs.append(file)
        elif all(_QREL.match(line) for line in body) and "\t\t" not in head[0] and not is_query:
            parts.qrels.append(file)
        elif file.suffix == ".jsonl":
            columns = columns_of_file(file)
            if pick(columns, "_id", "id") and "text" in columns:
                (parts.queries if is_query else parts.documents).append(file)
        elif "<doc" in head[0].lower() or "<docno" in " ".join(head).lower():
            parts.documents.append(file)
        elif "<top" in head[0].lower() or (file.suffix in (".tsv", ".txt") and is_query):
            parts.queries.append(file)
        elif file.suffix == ".tsv" and head[0].count("\t") in (1, 2):
            parts.documents.append(file)
    return parts


def _judged(parts: Parts, place: str) -> Iterator[JudgedQuery]:
    queries = {q: text for file in parts.queries for q, text in _queries(file)}
    qrels, splits = read_qrels(parts.qrels)
    judged = {q: text for q, text in queries.items() if q in qrels}
    documents = (d for file in parts.documents for d in _documents(file))
    run = _runs(parts.runs) if parts.runs else retrieve(documents, judged, place)
    needed = {d for q in judged for d, _ in run.get(q, ())[:DEPTH]}
    texts = {d.document_id: d for file in parts.documents for d in _documents(file) if d.document_id in needed}
    yield from judged_queries(judged, run, qrels, texts, splits, place)


def judged_queries(
    queries: Mapping[str, str],
    run: Run,
    qrels: Qrels,
    texts: Mapping[str, Document],
    splits: Mapping[str, str],
    place: str,
) -> Iterator[JudgedQuery]:
    """The queries with their listed documents, in the order of `queries`."""
    for query_id, text in queries.items():
        gains = qrels.get(query_id, {})
        passages = [
            Passage(d, texts[d].text or texts[d].title, gains.get(d), texts[d].title, score)
            for d, score in run.get(query_id, ())[:DEPTH]
            if d in texts
        ]
        yield JudgedQuery(query_id, text, passages, splits.get(query_id), f"{place}: query {query_id}")


def read_qrels(files: Iterable[SourceFile]) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """(judgements, split by query where the file's name says train or test); negative grades count 0."""
    qrels: defaultdict[str, dict[str, float]] = defaultdict(dict)
    splits: dict[str, str] = {}
    for file in files:
        side = next((s for s in ("train", "test") if s in file.stem_name.lower()), None)
        for line in file.lines():
            if not line.text.strip() or (line.number == 1 and "query-id" in line.text):
                continue
            match = _QREL.match(line.text.strip())
            cells = match.group(1, 3, 4) if match else None
            if cells is None and (short := _BEIR_QREL.match(line.text)):
                cells = short.group(1, 2, 3)
            if cells is None:
                place = f"{file.name}:{line.number}"
                raise DatasetError(f"{place}: row: {line.text[:60]!r}: write `query iteration document grade`")
            query_id, document_id, grade = cells
            qrels[query_id][document_id] = max(0.0, as_number(grade, f"{file.name}:{line.number}", "grade"))
            if side:
                splits[query_id] = side
    return dict(qrels), splits


def _runs(files: Sequence[SourceFile]) -> dict[str, list[tuple[str, float | None]]]:
    ranked: defaultdict[str, list[tuple[int, str, float | None]]] = defaultdict(list)
    for file in files:
        for line in file.lines():
            match = _RUN.match(line.text.strip())
            if match is None:
                if line.text.strip():
                    place = f"{file.name}:{line.number}"
                    raise DatasetError(f"{place}: row: {line.text[:60]!r}: write `query Q0 document rank score name`")
                continue
            query_id, document_id, rank, score = match.groups()
            ranked[query_id].append((int(rank), document_id, as_number(score, f"{file.name}:{line.number}", "score")))
    run: dict[str, list[tuple[str, float | None]]] = {}
    for query_id, listed in ranked.items():
        ordered = sorted(listed, key=lambda entry: entry[0])
        run[query_id] = list({d: (d, score) for _, d, score in reversed(ordered)}.values())[::-1]
    return run


def retrieve(
    documents: Iterable[Document], queries: Mapping[str, str], place: str
) -> dict[str, list[tuple[str, float | None]]]:
    """The BM25 top of the documents for each query. Raises DatasetError beyond MAX_INDEXED documents."""

    def pairs() -> Iterator[tuple[str, str]]:
        for number, document in enumerate(documents):
            if number == MAX_INDEXED:
                raise DatasetError(f"{place}: documents: more than {MAX_INDEXED:,}: add a run file with the candidates")
            yield document.document_id, f"{document.title} {document.text}"

    index = Bm25(pairs(), {word for text in queries.values() for word in words(text)})
    return {q: [(d, round(score, 6)) for d, score in index.search(text, DEPTH)] for q, text in queries.items()}


def _queries(file: SourceFile) -> Iterator[tuple[str, str]]:
    if file.suffix == ".jsonl":
        for row in iter_json_lines(file):
            yield str(row.values.get("_id", row.values.get("id"))), " ".join(str(row.values.get("text", "")).split())
    elif any("<top" in line.lower() for line in file.head(3)):
        yield from _trec_topics(file)
    else:
        for line in file.lines():
            cells = line.text.split("\t")
            is_header = line.number == 1 and cells[0].strip().lower() in ("qid", "query_id", "query-id", "id")
            if len(cells) >= 2 and not is_header:
                yield cells[0], cells[-1].strip()


def _trec_topics(file: SourceFile) -> Iterator[tuple[str, str]]:
    """`<top> <num> Number: 301 <title> words ...`; ends of tags are optional there."""
    number, parts, field = "", list[str](), ""
    for line in file.lines():
        tag = re.match(r"\s*<(/?\w+)[^>]*>\s*(.*)", line.text)
        text = line.text
        if tag:
            field, text = tag.group(1).lower(), re.sub(r"</\w+>", "", tag.group(2))
        if field == "num" and tag:
            number, parts = text.replace("Number:", "").strip(), []
        elif field == "title" and text.strip():
            parts.append(text.strip())
        elif field == "/top" and number:
            yield number, " ".join(parts)
            number = ""


def _documents(file: SourceFile) -> Iterator[Document]:
    if file.suffix == ".jsonl":
        for row in iter_json_lines(file):
            values = row.values
            yield Document(
                str(values.get("_id", values.get("id"))), str(row.need("text")), str(values.get("title") or "")
            )
    elif any("<doc" in line.lower() for line in file.head(3)):
        yield from _trec_documents(file)
    else:
        for line in file.lines():
            cells = line.text.split("\t")
            if len(cells) < 2:
                raise DatasetError(f"{file.name}:{line.number}: row: {len(cells)} cell: write `id<TAB>text`")
            yield Document(cells[0], cells[-1], cells[1] if len(cells) == 3 else "")


def _trec_documents(file: SourceFile) -> Iterator[Document]:
    """`<doc> <docno>..</docno> <title>..</title> <text>..</text> </doc>`, read tag by tag (it is not always XML)."""
    fields: defaultdict[str, list[str]] = defaultdict(list)
    field = ""
    for line in file.lines():
        position = 0
        for tag in _TAG.finditer(line.text):
            fields[field].append(line.text[position : tag.start()])
            position = tag.end()
            is_end, name = bool(tag.group(1)), tag.group(2).lower()
            if name == "doc" and is_end:
                yield _document(fields)
                fields.clear()
            field = "" if is_end else name
        fields[field].append(line.text[position:])


def _document(fields: Mapping[str, list[str]]) -> Document:
    text, title, number = (" ".join(" ".join(fields.get(name, ())).split()) for name in ("text", "title", "docno"))
    return Document(number, text or title, title)


COLLECTIONS = Reader(
    name="collection",
    summary="judged collections: TREC (documents, topics, qrels, maybe a run) and BEIR (corpus, queries, qrels)",
    builder=PASSAGES,
    sniff=_sniff,
    read=_read,
)
