"""Interactions and items out of the rows of any format: the frame that `Interactions` wants, and one `Item` a row.

Column names are matched without case; the lists here are the names that public sets use, most telling first.
"""

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ranker.datasets.columns import iter_columns
from ranker.datasets.interactions import Item
from ranker.datasets.readers.base import pick
from ranker.datasets.rows import as_number, iter_rows
from ranker.datasets.sources import SourceFile
from ranker.errors import DatasetError

if TYPE_CHECKING:
    import polars

USER = ("user_id", "userid", "user", "reviewerid")
ITEM = ("item_id", "itemid", "item", "parent_asin", "asin", "movieid", "movie_id", "product_id")
TIME = ("timestamp", "time", "unixreviewtime", "unix_time", "position")
RATING = ("rating", "overall", "stars", "score")
TITLE = ("title", "movie_title", "name", "item_title", "product_title")
_YEAR = ("release_year", "year")
_KINDS = ("class", "genre", "genres", "categories", "category")
_BATCH_ROWS = 200_000
_MAX_TITLE_CHARS = 400


def _schema() -> "dict[str, type[polars.DataType]]":
    import polars as pl

    return {"user": pl.String, "item": pl.String, "time": pl.Float64, "rating": pl.Float64}


def delimited_frame(
    file: SourceFile, separator: str, columns: Sequence[str], *, has_header: bool = False
) -> "polars.DataFrame":
    """user, item, time, rating out of a delimited file; without a time column the file order is the time order."""
    import polars as pl

    names = tuple(columns)
    user, item = needed_column(file, columns, USER, "user"), needed_column(file, columns, ITEM, "item")
    time, rating = pick(names, *TIME), pick(names, *RATING)
    wanted = [user, item, *(c for c in (time, rating) if c is not None)]
    frames = [pl.DataFrame(schema=_schema())]
    for block in iter_columns(file, separator=separator, columns=columns, wanted=wanted, has_header=has_header):
        order = pl.Series(block.lines, dtype=pl.Float64)
        unrated = pl.Series([None] * block.frame.height, dtype=pl.Float64)
        rows = {
            "user": block.texts(user),
            "item": block.texts(item),
            "time": block.numbers(time).fill_null(0.0) if time else order,
            "rating": block.numbers(rating) if rating else unrated,
        }
        frames.append(pl.DataFrame(rows))
    return pl.concat(frames)


def needed_column(file: SourceFile, columns: Sequence[str], wanted: Sequence[str], what: str) -> str:
    found = pick(tuple(columns), *wanted)
    if found is None:
        raise DatasetError(f"{file.name}:1: header: no {what} column among {', '.join(columns)}: name one {wanted[0]}")
    return found


def add_item(items: dict[str, Item], values: Mapping[str, Any], item: str, title: str) -> None:
    """Put one row of an item file into `items`; rows without a usable title are passed over."""
    text = " ".join(html.unescape(str(values.get(title) or "")).split())[:_MAX_TITLE_CHARS]
    if not text or values.get(item) in (None, ""):
        return
    columns = tuple(values)
    year, kinds = pick(columns, *_YEAR), pick(columns, *_KINDS)
    metadata: dict[str, Any] = {}
    if year and values[year]:
        metadata["year"] = str(values[year])
        text = text if text.endswith(f"({values[year]})") else f"{text} ({values[year]})"
    if kinds and values[kinds] and isinstance(values[kinds], str):
        metadata["genres"] = values[kinds]
    items[str(values[item])] = Item(text, metadata)


def concat_frames(frames: Sequence["polars.DataFrame"], place: str) -> "polars.DataFrame":
    """All interactions of a source, in order. Raises DatasetError if it has no file of them."""
    import polars as pl

    if not frames:
        raise DatasetError(f"{place}: files: none holds interactions: choose another reader, or add the file")
    return pl.concat(frames)


def collected_frame(
    file: SourceFile, *, user: str, item: str, time: str | None, rating: str | None
) -> "polars.DataFrame":
    """Interactions out of rows of any format, gathered in batches."""
    import polars as pl

    schema = _schema()
    frames: list[pl.DataFrame] = []
    batch: list[tuple[str, str, float, float | None]] = []
    for number, row in enumerate(iter_rows(file)):
        values = row.values
        if values.get(user) in (None, "") or values.get(item) in (None, ""):
            raise DatasetError(f"{row.place}: field '{user}' or '{item}': missing: every row needs user and item")
        when = _number(values.get(time), row.place, time) if time else None
        score = _number(values.get(rating), row.place, rating) if rating else None
        batch.append((str(values[user]), str(values[item]), float(number) if when is None else when, score))
        if len(batch) == _BATCH_ROWS:
            frames.append(pl.DataFrame(batch, schema=schema, orient="row"))
            batch = []
    frames.append(pl.DataFrame(batch, schema=schema, orient="row"))
    return pl.concat(frames)


def _number(value: Any, place: str, field: str) -> float | None:
    return None if value in (None, "") else as_number(value, place, field)
