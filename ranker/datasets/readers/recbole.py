"""Reader of RecBole's atomic files, sequence files and LLMRank's candidate lists included.

Format: https://recbole.io/docs/user_guide/data/atomic_files.html (a header of `name:type` cells, tabs between).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ranker.datasets.columns import iter_columns
from ranker.datasets.interactions import RECOMMENDATION, Interactions, Item
from ranker.datasets.readers.base import Reader, pick
from ranker.datasets.readers.frames import (
    ITEM,
    TITLE,
    USER,
    add_item,
    concat_frames,
    delimited_frame,
    needed_column,
)
from ranker.datasets.sources import Source, SourceFile
from ranker.errors import DatasetError

if TYPE_CHECKING:
    import polars


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
        frame=_longest_per_user(frames) if sequences else concat_frames(frames, source.name),
        items=items,
        lists=_candidate_lists(source),
        place=source.name,
    )


def _atomic_columns(file: SourceFile) -> list[str]:
    head = file.head(1)
    return [cell.split(":")[0].strip() for cell in head[0].split("\t")] if head else []


def _atomic_rows(file: SourceFile) -> "polars.DataFrame":
    columns = _atomic_columns(file)
    return delimited_frame(file, "\t", columns, has_header=True)


def _atomic_sequences(file: SourceFile) -> "polars.DataFrame":
    """`user item_id_list [item_id]` as rows; the position in the list is the time."""
    import polars as pl

    columns = _atomic_columns(file)
    user = needed_column(file, columns, USER, "user_id")
    wanted = [user, "item_id_list"] + (["item_id"] if "item_id" in columns else [])
    blocks = iter_columns(file, separator="\t", columns=columns, wanted=wanted, has_header=True)
    frame = pl.concat([pl.DataFrame(schema=dict.fromkeys(wanted, pl.String)), *(block.frame for block in blocks)])
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
    item, title = pick(columns, *ITEM), pick(columns, *TITLE)
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
        add_item(items, dict(zip(columns, cells, strict=True)), item, title)
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


RECBOLE = Reader(
    name="recbole",
    summary="RecBole atomic files: .inter (rows or sequences) and .item, with candidate lists beside them",
    builder=RECOMMENDATION,
    sniff=_sniff_recbole,
    read=_read_recbole,
)
