"""Datasets that are fetched by id: the Hugging Face hub (`hub:`) and the ir-datasets catalogue (`ir:`, optional package).

Both answer in one line when there is no network. No code of a dataset is ever run.
"""

import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from ranker.datasets.passages import PASSAGES, JudgedQuery, Judgements
from ranker.datasets.readers.base import Reader
from ranker.datasets.readers.collections import DEPTH, Document, judged_queries, retrieve
from ranker.datasets.rows import Row, parse_json
from ranker.datasets.sources import Line, Source, SourceFile
from ranker.datasets.tables import TABLES, TaskTables
from ranker.errors import DatasetError

_SOURCE_ROOT = Path(__file__).resolve().parents[2]


def open_hub(name: str) -> tuple[Reader[Any], Source, str]:
    """(reader, source without files, revision) of `ID[:config[:split]]` on the hub, streamed row by row.

    Raises:
        DatasetError: offline, unknown or private ids, unknown configs, loading scripts.
    """
    dataset_id, config, split = (*name.split(":"), "", "")[:3]
    about = next(_hub_lines(name, "about", dataset_id, config), None)
    if about is None:
        raise DatasetError(f"hub:{name}: no answer: check the id and the network, or import a downloaded file")
    answer = parse_json(about.text, f"hub:{name}")
    revision = str(answer["revision"])
    splits = [split] if split else [str(s) for s in answer["splits"]]
    reader = Reader(
        name="hub",
        summary="a dataset of the Hugging Face hub, columns mapped",
        builder=TABLES,
        sniff=lambda _: 1.0,
        read=lambda _: TaskTables(
            parts=tuple(partial(_hub_rows, name, dataset_id, config, s, revision) for s in splits), place=f"hub:{name}"
        ),
    )
    return reader, Source(name=f"hub:{name}", files=()), revision


def _hub_rows(name: str, dataset_id: str, config: str, split: str, revision: str) -> Iterator[Row]:
    for line in _hub_lines(name, "rows", dataset_id, config, split, revision):
        place = f"hub:{dataset_id}:{split}:{line.number}"
        yield Row(place, parse_json(line.text, place))


def _hub_lines(name: str, *arguments: str) -> Iterator[Line]:
    """Standard output of the child program; its one line of standard error becomes the DatasetError."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "ranker.datasets.hubrows", *arguments]
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(  # noqa: S603  (an argument list; no shell)
            command, cwd=_SOURCE_ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said
        )
        output = cast(BinaryIO, child.stdout)
        try:
            yield from SourceFile(name=f"hub:{name}", opener=lambda: output).lines()
            child.wait()
        finally:
            child.kill()
            child.wait()
            output.close()
        if child.returncode:
            said.seek(0)
            lines = said.read()[-4000:].decode("utf-8", "replace").strip().splitlines()
            reason = lines[-1] if lines else f"exit code {child.returncode}"
            raise DatasetError(f"hub:{name}: {reason}: check the id and the network, or import a downloaded file")


def open_ir(name: str) -> tuple[Reader[Any], Source, str]:
    """(reader, source without files, version) of an id of the ir-datasets catalogue with queries and qrels.

    Raises:
        DatasetError: if the package is missing, or the id is unknown or has no judgements.
    """
    try:
        import ir_datasets
    except ImportError as error:
        raise DatasetError(f"ir:{name}: package ir-datasets is not installed: pip install ir-datasets") from error
    try:
        dataset = ir_datasets.load(name)
    except KeyError as error:
        raise DatasetError(f"ir:{name}: not in the catalogue: see https://ir-datasets.com") from error
    for part in ("queries", "qrels", "docs"):
        if not dataset.has(part):
            raise DatasetError(f"ir:{name}: has no {part}: choose a subset with queries, qrels and docs")
    reader = Reader(
        name="ir-datasets",
        summary="a dataset of the ir-datasets catalogue",
        builder=PASSAGES,
        sniff=lambda _: 1.0,
        read=lambda _: Judgements(queries=lambda: _ir_queries(dataset, name), place=f"ir:{name}"),
    )
    return reader, Source(name=f"ir:{name}", files=()), str(getattr(ir_datasets, "__version__", "unknown"))


def _ir_queries(dataset: Any, name: str) -> Iterator[JudgedQuery]:
    """The judged queries with the catalogue's scored documents or, where it has none, the BM25 top of the collection."""
    place = f"ir:{name}"
    try:
        qrels: defaultdict[str, dict[str, float]] = defaultdict(dict)
        for qrel in dataset.qrels_iter():
            qrels[qrel.query_id][qrel.doc_id] = max(0.0, float(qrel.relevance))
        queries = {q.query_id: q.default_text() for q in dataset.queries_iter() if q.query_id in qrels}
        if dataset.has("scoreddocs"):
            run = _scored(dataset, queries)
        else:
            run = retrieve((Document(d.doc_id, d.default_text()) for d in dataset.docs_iter()), queries, place)
        found = dataset.docs_store().get_many(sorted({d for listed in run.values() for d, _ in listed}))
    except (OSError, RuntimeError) as error:
        raise DatasetError(f"{place}: {_brief(error)}: go online for the first import") from error
    texts: Mapping[str, Document] = {d: Document(d, doc.default_text()) for d, doc in found.items()}
    yield from judged_queries(queries, run, qrels, texts, {}, place)


def _scored(dataset: Any, queries: Mapping[str, str]) -> dict[str, list[tuple[str, float | None]]]:
    listed: defaultdict[str, list[tuple[str, float | None]]] = defaultdict(list)
    for scored in dataset.scoreddocs_iter():
        if scored.query_id in queries:
            listed[scored.query_id].append((scored.doc_id, float(scored.score)))
    return {q: sorted(docs, key=lambda pair: -(pair[1] or 0))[:DEPTH] for q, docs in listed.items()}


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
