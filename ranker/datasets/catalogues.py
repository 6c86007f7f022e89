"""Datasets that are fetched by id: the Hugging Face hub (`hub:`) and the ir-datasets catalogue (`ir:`, optional package).

Both answer in one line when there is no network. No code of a dataset is ever run.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from ranker.datasets.passages import PASSAGES, JudgedQuery, Judgements
from ranker.datasets.readers.base import Reader
from ranker.datasets.readers.collections import DEPTH, Document, judged_queries
from ranker.datasets.rows import Row
from ranker.datasets.sources import Source
from ranker.datasets.tables import TABLES, TaskTables
from ranker.errors import DatasetError


def open_hub(name: str) -> tuple[Reader[Any], Source, str]:
    """(reader, source without files, revision) of `ID[:config[:split]]` on the hub, streamed row by row.

    Raises:
        DatasetError: offline, unknown or private ids, unknown configs, loading scripts.
    """
    dataset_id, config, split = (*name.split(":"), "", "")[:3]
    if os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"):
        raise DatasetError(f"hub:{name}: offline: HF_HUB_OFFLINE is set: unset it or import a downloaded file")
    revision = _hub_revision(dataset_id)
    parts = _hub_parts(dataset_id, config, split, revision)
    reader = Reader(
        name="hub",
        summary="a dataset of the Hugging Face hub, columns mapped",
        builder=TABLES,
        sniff=lambda _: 1.0,
        read=lambda _: TaskTables(parts=parts, place=f"hub:{name}"),
    )
    return reader, Source(name=f"hub:{name}", files=()), revision


def _hub_revision(dataset_id: str) -> str:
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return HfApi().dataset_info(dataset_id, timeout=20).sha or "unknown"
    except HFValidationError as error:
        raise DatasetError(f"hub:{dataset_id}: id: {_brief(error)}: write owner/name") from error
    except HfHubHTTPError as error:
        raise DatasetError(f"hub:{dataset_id}: {_brief(error)}: check the id, or log in if it is private") from error
    except (httpx.HTTPError, OSError) as error:
        raise DatasetError(
            f"hub:{dataset_id}: no answer from the hub: go online or import a downloaded file"
        ) from error


def _hub_parts(dataset_id: str, config: str, split: str, revision: str) -> tuple[Any, ...]:
    import datasets

    try:
        splits = [split] if split else datasets.get_dataset_split_names(dataset_id, config or None, revision=revision)
    except (OSError, ValueError) as error:
        raise DatasetError(f"hub:{dataset_id}: config: {_brief(error)}: write hub:ID:CONFIG:SPLIT") from error
    return tuple(partial(_hub_rows, dataset_id, config, name, revision) for name in splits)


def _hub_rows(dataset_id: str, config: str, split: str, revision: str) -> Iterator[Row]:
    import datasets

    try:
        stream = datasets.load_dataset(dataset_id, config or None, split=split, revision=revision, streaming=True)
        for number, values in enumerate(stream, start=1):
            yield Row(f"hub:{dataset_id}:{split}:{number}", dict(values))
    except (OSError, ValueError) as error:
        raise DatasetError(f"hub:{dataset_id}: {_brief(error)}: check config and split, or go online") from error


def open_ir(name: str) -> tuple[Reader[Any], Source, str]:
    """(reader, source without files, version) of an id of the ir-datasets catalogue (queries, qrels and scored docs).

    Raises:
        DatasetError: if the package is missing, or the id is unknown or has no judgements or first-stage list.
    """
    try:
        import ir_datasets
    except ImportError as error:
        raise DatasetError(f"ir:{name}: package ir-datasets is not installed: pip install ir-datasets") from error
    try:
        dataset = ir_datasets.load(name)
    except KeyError as error:
        raise DatasetError(f"ir:{name}: not in the catalogue: see https://ir-datasets.com") from error
    for part in ("queries", "qrels", "scoreddocs", "docs"):
        if not dataset.has(part):
            raise DatasetError(f"ir:{name}: has no {part}: choose a subset with queries, qrels, docs and scoreddocs")
    reader = Reader(
        name="ir-datasets",
        summary="a dataset of the ir-datasets catalogue",
        builder=PASSAGES,
        sniff=lambda _: 1.0,
        read=lambda _: Judgements(queries=lambda: _ir_queries(dataset, name), place=f"ir:{name}"),
    )
    return reader, Source(name=f"ir:{name}", files=()), str(getattr(ir_datasets, "__version__", "unknown"))


def _ir_queries(dataset: Any, name: str) -> Iterator[JudgedQuery]:
    try:
        queries = {q.query_id: q.default_text() for q in dataset.queries_iter()}
        qrels: defaultdict[str, dict[str, float]] = defaultdict(dict)
        for qrel in dataset.qrels_iter():
            qrels[qrel.query_id][qrel.doc_id] = max(0.0, float(qrel.relevance))
        listed: defaultdict[str, list[tuple[str, float | None]]] = defaultdict(list)
        for scored in dataset.scoreddocs_iter():
            listed[scored.query_id].append((scored.doc_id, float(scored.score)))
        run = {q: sorted(docs, key=lambda pair: -(pair[1] or 0))[:DEPTH] for q, docs in listed.items()}
        needed = sorted({d for q in qrels for d, _ in run.get(q, ())})
        found = dataset.docs_store().get_many(needed)
    except OSError as error:
        raise DatasetError(f"ir:{name}: {_brief(error)}: go online for the first import") from error
    texts: Mapping[str, Document] = {d: Document(d, doc.default_text()) for d, doc in found.items()}
    yield from judged_queries({q: t for q, t in queries.items() if q in qrels}, run, qrels, texts, {}, f"ir:{name}")


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
