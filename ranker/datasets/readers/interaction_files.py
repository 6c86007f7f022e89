"""Readers of recommendation data: MovieLens as GroupLens ships it, Amazon Reviews, and any table of user and item.

Formats: the README of each MovieLens set; the Amazon Reviews 2018 and 2023 pages of McAuley lab.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ranker.datasets.interactions import RECOMMENDATION, Interactions, Item
from ranker.datasets.readers.base import Reader, columns_of_file, pick
from ranker.datasets.readers.frames import (
    ITEM,
    RATING,
    TIME,
    TITLE,
    USER,
    add_item,
    collected_frame,
    concat_frames,
    delimited_frame,
)
from ranker.datasets.rows import iter_json_lines, iter_rows
from ranker.datasets.sources import Source, SourceFile
from ranker.errors import DatasetError

if TYPE_CHECKING:
    import polars

_ITEM_ATTRIBUTES_100K = 24


# --- MovieLens 100k and 1M as GroupLens ships them ----------------------------------------------------------------------


def _sniff_movielens(source: Source) -> float:
    has_pair = (source.named("u.data") and source.named("u.item")) or (
        source.named("ratings.dat") and source.named("movies.dat")
    )
    return 1.0 if has_pair else 0.0


def _read_movielens(source: Source) -> Interactions:
    columns = ["user_id", "item_id", "rating", "timestamp"]
    small, large = source.named("u.data"), source.named("ratings.dat")
    if small is not None:
        frame = delimited_frame(small, "\t", columns)
        items = _movielens_items(source.named("u.item"), "|", _ITEM_ATTRIBUTES_100K)
    elif large is not None:
        frame = delimited_frame(large, "::", columns)
        items = _movielens_items(source.named("movies.dat"), "::", 3)
    else:
        raise DatasetError(f"{source.name}: files: neither u.data nor ratings.dat: choose another reader")
    return Interactions(frame=frame, items=items, place=source.name)


def _movielens_items(file: SourceFile | None, separator: str, num_cells: int) -> dict[str, Item]:
    """`u.item` and `movies.dat` are ISO-8859-1 (their README)."""
    if file is None:
        raise DatasetError("items: file u.item or movies.dat is missing: put it beside the ratings")
    items: dict[str, Item] = {}
    for line in file.lines(encoding="iso-8859-1"):
        cells = line.text.split(separator)
        if len(cells) != num_cells:
            place = f"{file.name}:{line.number}"
            raise DatasetError(f"{place}: row: {len(cells)} cells where {num_cells} are expected: correct the row")
        metadata = {"genres": cells[2].replace("|", ", ")} if num_cells == 3 else {}
        items[cells[0]] = Item(cells[1].strip(), metadata)
    return items


# --- Amazon Reviews: JSON lines with metadata, and the headerless 2018 ratings ------------------------------------------


def _sniff_amazon(source: Source) -> float:
    return (
        0.95 if any(_is_review_file(f) for f in source.files) and any(_is_meta_file(f) for f in source.files) else 0.0
    )


def _is_review_file(file: SourceFile) -> bool:
    if file.suffix == ".csv":
        head = file.head(1)
        return bool(head) and _is_ratings_2018(head[0])
    columns = columns_of_file(file) if file.suffix in (".json", ".jsonl") else ()
    return pick(columns, "reviewerid", "user_id") is not None and pick(columns, "asin", "parent_asin") is not None


def _is_meta_file(file: SourceFile) -> bool:
    columns = columns_of_file(file) if file.suffix in (".json", ".jsonl") else ()
    return (
        "title" in columns
        and pick(columns, "asin", "parent_asin") is not None
        and pick(columns, "reviewerid", "user_id") is None
    )


def _is_ratings_2018(line: str) -> bool:
    """`asin,reviewer,rating,unix time` without a header."""
    cells = line.split(",")
    return len(cells) == 4 and cells[3].strip().isdigit() and cells[2].replace(".", "").isdigit()


def _read_amazon(source: Source) -> Interactions:
    frames = [_review_frame(f) for f in source.files if _is_review_file(f)]
    items: dict[str, Item] = {}
    for file in source.files:
        if _is_meta_file(file):
            columns = columns_of_file(file)
            item = pick(columns, "parent_asin", "asin") or "asin"
            for row in iter_json_lines(file):
                add_item(items, row.values, item, "title")
    return Interactions(frame=concat_frames(frames, source.name), items=items, place=source.name)


def _review_frame(file: SourceFile) -> "polars.DataFrame":
    if file.suffix == ".csv":
        return delimited_frame(file, ",", ["item_id", "user_id", "rating", "timestamp"])
    columns = columns_of_file(file)
    return collected_frame(
        file,
        user=pick(columns, "reviewerid", "user_id") or "",
        item=pick(columns, "parent_asin", "asin") or "",
        time=pick(columns, "unixreviewtime", "timestamp"),
        rating=pick(columns, "overall", "rating"),
    )


# --- any table of user and item with a header (MovieLens 20M, 25M, 32M, latest; Amazon 2023 ratings; your own) -----------


def _sniff_tables(source: Source) -> float:
    return 0.9 if any(_is_interaction_table(f) for f in _tables(source)) else 0.0


def _tables(source: Source) -> Iterator[SourceFile]:
    return iter(source.with_suffix(".csv", ".tsv", ".parquet", ".jsonl"))


def _is_interaction_table(file: SourceFile) -> bool:
    columns = columns_of_file(file)
    has_order = pick(columns, *TIME) is not None or pick(columns, *RATING) is not None
    return pick(columns, *USER) is not None and pick(columns, *ITEM) is not None and has_order


def _read_tables(source: Source) -> Interactions:
    frames: list[polars.DataFrame] = []
    items: dict[str, Item] = {}
    for file in _tables(source):
        columns = columns_of_file(file)
        item, title = pick(columns, *ITEM), pick(columns, *TITLE)
        if _is_interaction_table(file):
            is_plain = file.suffix in (".csv", ".tsv") and not any('"' in line for line in file.head(20))
            separator = "," if file.suffix == ".csv" else "\t"
            frames.append(
                delimited_frame(file, separator, list(columns), has_header=True)
                if is_plain
                else _table_frame(file, columns)
            )
        if item is not None and title is not None and "rating" not in columns:
            for row in iter_rows(file):
                add_item(items, row.values, item, title)
    return Interactions(frame=concat_frames(frames, source.name), items=items, place=source.name)


def _table_frame(file: SourceFile, columns: tuple[str, ...]) -> "polars.DataFrame":
    return collected_frame(
        file,
        user=pick(columns, *USER) or "",
        item=pick(columns, *ITEM) or "",
        time=pick(columns, *TIME),
        rating=pick(columns, *RATING),
    )


MOVIELENS = Reader(
    name="movielens",
    summary="MovieLens 100k (u.data, u.item) and 1M (ratings.dat, movies.dat) as GroupLens ships them",
    builder=RECOMMENDATION,
    sniff=_sniff_movielens,
    read=_read_movielens,
)
AMAZON = Reader(
    name="amazon",
    summary="Amazon Reviews 2018 and 2023: reviews (JSON lines, or the 2018 ratings CSV) with their metadata file",
    builder=RECOMMENDATION,
    sniff=_sniff_amazon,
    read=_read_amazon,
)
INTERACTION_TABLES = Reader(
    name="interactions",
    summary="any tables of user, item, time and of item, title (MovieLens 20M/25M/32M, Amazon 2023 ratings, your own)",
    builder=RECOMMENDATION,
    sniff=_sniff_tables,
    read=_read_tables,
)
