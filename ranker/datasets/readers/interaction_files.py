"""Readers of recommendation data: RecBole, MovieLens as GroupLens ships it, Amazon Reviews, and any table of user and item.

Formats: RecBole's atomic files (https://recbole.io/docs/user_guide/data/atomic_files.html); the README of each MovieLens set;
the Amazon Reviews 2018 and 2023 pages of McAuley lab.
"""

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ranker.datasets.columns import as_numbers, read_columns
from ranker.datasets.interactions import RECOMMENDATION, Interactions, Item
from ranker.datasets.readers.base import Reader, columns_of_file, pick
from ranker.datasets.rows import iter_json_lines, iter_rows
from ranker.datasets.sources import Source, SourceFile
from ranker.errors import DatasetError

if TYPE_CHECKING:
    import polars

_USER = ("user_id", "userid", "user", "reviewerid")
_ITEM = ("item_id", "itemid", "item", "parent_asin", "asin", "movieid", "movie_id", "product_id")
_TIME = ("timestamp", "time", "unixreviewtime", "unix_time", "position")
_RATING = ("rating", "overall", "stars", "score")
_TITLE = ("title", "movie_title", "name", "item_title", "product_title")
_YEAR = ("release_year", "year")
_KINDS = ("class", "genre", "genres", "categories", "category")
_ITEM_ATTRIBUTES_100K = 24
_BATCH_ROWS = 200_000
_MAX_TITLE_CHARS = 400


# --- RecBole ---------------------------------------------------------------------------------------------------------


def _sniff_recbole(source: Source) -> float:
    heads = [f.head(1) for f in source.with_suffix(".inter")]
    return 1.0 if any(h and ":token" in h[0] for h in heads) else 0.0


def _read_recbole(source: Source) -> Interactions:
    files = source.with_suffix(".inter")
    sequences = [f for f in files if "item_id_list" in _atomic_columns(f)]
    frames = [_atomic_sequences(f) for f in sequences] or [_atomic_rows(f) for f in files]
    items: dict[str, Item] = {}
    for file in source.with_suffix(".item"):
        items.update(_atomic_items(file))
    return Interactions(
        frame=_longest_per_user(frames) if sequences else _concat(frames),
        items=items,
        lists=_candidate_lists(source),
        place=source.name,
    )


def _atomic_columns(file: SourceFile) -> list[str]:
    head = file.head(1)
    return [cell.split(":")[0].strip() for cell in head[0].split("\t")] if head else []


def _atomic_rows(file: SourceFile) -> "polars.DataFrame":
    columns = _atomic_columns(file)
    return _interaction_frame(file, "\t", columns, has_header=True)


def _atomic_sequences(file: SourceFile) -> "polars.DataFrame":
    """`user item_id_list [item_id]` as rows; the position in the list is the time."""
    import polars as pl

    columns = _atomic_columns(file)
    user = _needed(file, columns, _USER, "user_id")
    wanted = [user, "item_id_list"] + (["item_id"] if "item_id" in columns else [])
    frame = read_columns(file, separator="\t", columns=columns, wanted=wanted).slice(1)
    items = pl.col("item_id_list").fill_null("")
    if "item_id" in columns:
        items = items + " " + pl.col("item_id")
    listed = frame.select(user=pl.col(user), item=items.str.strip_chars().str.split(" "))
    listed = listed.with_row_index("line")
    exploded = listed.explode("item").with_columns(time=pl.int_range(pl.len()).over("line").cast(pl.Float64))
    return exploded.with_columns(rating=pl.lit(None, dtype=pl.Float64)).select("user", "item", "time", "rating", "line")


def _longest_per_user(frames: Sequence["polars.DataFrame"]) -> "polars.DataFrame":
    """RecBole's benchmark files hold growing prefixes of one sequence: keep each user's longest line."""
    import polars as pl

    frame = pl.concat([f.with_columns(file=pl.lit(i)) for i, f in enumerate(frames)])
    lengths = frame.group_by("user", "file", "line", maintain_order=True).len()
    best = lengths.sort("len", descending=True, maintain_order=True).unique("user", keep="first", maintain_order=True)
    kept = frame.join(
        best.select("user", "file", "line"), on=["user", "file", "line"], how="semi", maintain_order="left"
    )
    return kept.select("user", "item", "time", "rating")


def _atomic_items(file: SourceFile) -> dict[str, Item]:
    columns = tuple(_atomic_columns(file))
    item, title = pick(columns, *_ITEM), pick(columns, *_TITLE)
    if item is None or title is None:
        raise DatasetError(f"{file.name}:1: header: needs item_id and a title column: has {', '.join(columns)}")
    items: dict[str, Item] = {}
    for line in file.lines():
        cells = line.text.split("\t")
        if line.number == 1 or not line.text:
            continue
        if len(cells) != len(columns):
            place = f"{file.name}:{line.number}"
            raise DatasetError(f"{place}: row: {len(cells)} cells under {len(columns)} columns: correct the row")
        _add_item(items, dict(zip(columns, cells, strict=True)), item, title)
    return items


def _candidate_lists(source: Source) -> dict[str, dict[str, list[str]]]:
    """Files of `user<TAB>item item ...` without a header, named by their suffix (LLMRank's layout)."""
    lists: dict[str, dict[str, list[str]]] = {}
    for file in source.files:
        if file.suffix in ("", ".inter", ".item", ".user", ".md", ".kg", ".link"):
            continue
        head = file.head(1)
        if head and head[0].count("\t") == 1 and head[0].split("\t")[1].count(" ") >= 1 and ":token" not in head[0]:
            pairs = (line.text.split("\t", 1) for line in file.lines() if "\t" in line.text)
            lists[file.suffix[1:]] = {user: listed.split() for user, listed in pairs}
    return lists


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
        frame = _interaction_frame(small, "\t", columns)
        items = _movielens_items(source.named("u.item"), "|", _ITEM_ATTRIBUTES_100K)
    else:
        assert large is not None
        frame = _interaction_frame(large, "::", columns)
        items = _movielens_items(source.named("movies.dat"), "::", 3)
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
                _add_item(items, row.values, item, "title")
    return Interactions(frame=_concat(frames), items=items, place=source.name)


def _review_frame(file: SourceFile) -> "polars.DataFrame":
    if file.suffix == ".csv":
        return _interaction_frame(file, ",", ["item_id", "user_id", "rating", "timestamp"])
    columns = columns_of_file(file)
    return _collected(
        file,
        user=pick(columns, "reviewerid", "user_id") or "",
        item=pick(columns, "parent_asin", "asin") or "",
        time=pick(columns, "unixreviewtime", "timestamp"),
        rating=pick(columns, "overall", "rating"),
    )


def _collected(file: SourceFile, *, user: str, item: str, time: str | None, rating: str | None) -> "polars.DataFrame":
    """Interactions out of rows of any format, gathered in batches."""
    import polars as pl

    schema = {"user": pl.String, "item": pl.String, "time": pl.Float64, "rating": pl.Float64}
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


def _number(value: Any, place: str, field: str | None) -> float | None:
    if value in (None, ""):
        return None
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{place}: field '{field}': {str(value)[:60]!r} is not a number: correct it") from error


# --- any table of user and item with a header (MovieLens 20M, 25M, 32M, latest; Amazon 2023 ratings; your own) -----------


def _sniff_tables(source: Source) -> float:
    return 0.9 if any(_is_interaction_table(f) for f in _tables(source)) else 0.0


def _tables(source: Source) -> Iterator[SourceFile]:
    return iter(source.with_suffix(".csv", ".tsv", ".parquet", ".jsonl"))


def _is_interaction_table(file: SourceFile) -> bool:
    columns = columns_of_file(file)
    has_order = pick(columns, *_TIME) is not None or pick(columns, *_RATING) is not None
    return pick(columns, *_USER) is not None and pick(columns, *_ITEM) is not None and has_order


def _read_tables(source: Source) -> Interactions:
    frames: list[polars.DataFrame] = []
    items: dict[str, Item] = {}
    for file in _tables(source):
        columns = columns_of_file(file)
        item, title = pick(columns, *_ITEM), pick(columns, *_TITLE)
        if _is_interaction_table(file):
            is_plain = file.suffix in (".csv", ".tsv") and not any('"' in line for line in file.head(20))
            separator = "," if file.suffix == ".csv" else "\t"
            frames.append(
                _interaction_frame(file, separator, list(columns), has_header=True)
                if is_plain
                else _table_frame(file, columns)
            )
        if item is not None and title is not None and "rating" not in columns:
            for row in iter_rows(file):
                _add_item(items, row.values, item, title)
    return Interactions(frame=_concat(frames), items=items, place=source.name)


def _table_frame(file: SourceFile, columns: tuple[str, ...]) -> "polars.DataFrame":
    return _collected(
        file,
        user=pick(columns, *_USER) or "",
        item=pick(columns, *_ITEM) or "",
        time=pick(columns, *_TIME),
        rating=pick(columns, *_RATING),
    )


# --- shared ------------------------------------------------------------------------------------------------------------


def _interaction_frame(
    file: SourceFile, separator: str, columns: Sequence[str], *, has_header: bool = False
) -> "polars.DataFrame":
    """user, item, time, rating out of a delimited file; without a time column the file order is the time order."""
    import polars as pl

    names = tuple(columns)
    user, item = _needed(file, columns, _USER, "user"), _needed(file, columns, _ITEM, "item")
    time, rating = pick(names, *_TIME), pick(names, *_RATING)
    wanted = [user, item, *(c for c in (time, rating) if c is not None)]
    frame = read_columns(file, separator=separator, columns=columns, wanted=wanted)
    first_line = 2 if has_header else 1
    frame = frame.slice(1) if has_header else frame
    for column in (user, item):
        empty = frame[column].is_null()
        if empty.any():
            line = int(empty.arg_true()[0]) + first_line
            raise DatasetError(f"{file.name}:{line}: field '{column}': empty: every row needs user and item")
    order = pl.Series(range(frame.height), dtype=pl.Float64)
    nothing = pl.Series([None] * frame.height, dtype=pl.Float64)
    return pl.DataFrame(
        {
            "user": frame[user],
            "item": frame[item],
            "time": as_numbers(frame, time, file, first_line=first_line) if time else order,
            "rating": as_numbers(frame, rating, file, first_line=first_line) if rating else nothing,
        }
    )


def _needed(file: SourceFile, columns: Sequence[str], wanted: Sequence[str], what: str) -> str:
    found = pick(tuple(columns), *wanted)
    if found is None:
        raise DatasetError(f"{file.name}:1: header: no {what} column among {', '.join(columns)}: name one {wanted[0]}")
    return found


def _add_item(items: dict[str, Item], values: Mapping[str, Any], item: str, title: str) -> None:
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


def _concat(frames: Sequence["polars.DataFrame"]) -> "polars.DataFrame":
    import polars as pl

    return pl.concat(frames) if len(frames) > 1 else frames[0]


RECBOLE = Reader(
    name="recbole",
    summary="RecBole atomic files: .inter (rows or sequences) and .item, with candidate lists beside them",
    builder=RECOMMENDATION,
    sniff=_sniff_recbole,
    read=_read_recbole,
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
