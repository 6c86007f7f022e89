"""All readers of files, most particular first, and the choice among them."""

from typing import Any

from ranker.datasets.readers.base import Reader
from ranker.datasets.readers.collections import COLLECTIONS
from ranker.datasets.readers.interaction_files import AMAZON, INTERACTION_TABLES, MOVIELENS
from ranker.datasets.readers.passage_files import MSMARCO_QNA, REQUESTS, WIKIQA
from ranker.datasets.readers.reasoning_files import GSM8K, MATHQA
from ranker.datasets.readers.recbole import RECBOLE
from ranker.datasets.readers.routing_files import ROUTING_LONG, ROUTING_WIDE
from ranker.datasets.readers.task_files import TASK_FILES
from ranker.datasets.sources import Source
from ranker.errors import DatasetError

READERS: tuple[Reader[Any], ...] = (
    RECBOLE,
    MOVIELENS,
    AMAZON,
    INTERACTION_TABLES,
    MSMARCO_QNA,
    WIKIQA,
    REQUESTS,
    ROUTING_WIDE,
    ROUTING_LONG,
    COLLECTIONS,
    MATHQA,
    GSM8K,
    TASK_FILES,
)


def reader_named(name: str) -> Reader[Any]:
    """Raises DatasetError with the names there are."""
    for reader in READERS:
        if reader.name == name:
            return reader
    raise DatasetError(f"options: reader: {name!r} does not exist: use one of {', '.join(r.name for r in READERS)}")


def guess_reader(source: Source, builder: str | None = None) -> Reader[Any]:
    """The reader that is surest of the source; the earlier one where several are.

    Args:
        builder: only readers for this builder (a recipe knows what it needs).

    Raises:
        DatasetError: if none recognises the source.
    """
    able = [r for r in READERS if builder in (None, r.builder.name)]
    sureness = {r.name: r.sniff(source) for r in able}
    best = max(able, key=lambda r: sureness[r.name])
    if sureness[best.name] > 0:
        return best
    if source.with_suffix(".pkl", ".pickle"):
        raise DatasetError(f"{source.name}: format: pickle files can run code: convert them to Parquet or CSV")
    raise DatasetError(
        f"{source.name}: format: no reader recognises it: force one with --option reader=NAME "
        f"({', '.join(r.name for r in able)})"
    )


__all__ = ["READERS", "Reader", "guess_reader", "reader_named"]
