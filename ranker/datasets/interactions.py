"""Recommendation: who took which item when, and the builder that asks for the next one.

The task is the paper's: a history of titles, candidates of which one is what the user really took next. Departures (ours):
the order of simultaneous events is the file's, an item counts at its first time only, and identity is by title, so that
the target is neither in the history nor twice among the candidates under another id.
"""

import random
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field

from ranker.datasets.building import Builder, BuildOptions, Built, Tally, group_random, shuffled
from ranker.datasets.taskrows import make_task
from ranker.errors import DatasetError

if TYPE_CHECKING:
    import polars

_MAX_DRAWS = 50
"""Draws per wanted negative before the whole catalogue is put in order."""


class Item(NamedTuple):
    """One thing of the catalogue."""

    title: str
    metadata: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Interactions:
    """Raw recommendation data."""

    frame: "polars.DataFrame"
    """Columns user, item (text), time (number; any unit, only the order counts), rating (number or null), in file order."""
    items: Mapping[str, Item]
    lists: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    """Name of a candidate list -> user -> item ids, best first."""
    place: str = "interactions"


class RecommendationOptions(BuildOptions):
    """How a user's sequence becomes a task."""

    history: int = Field(20, ge=1, le=200)
    """Titles shown. The paper: 20."""
    num_candidates: int = Field(20, ge=2, le=200)
    """The targets and the negatives. The paper: 20."""
    target: Literal["next", "last", "random"] = "next"
    """`next`: the item after the first `history` ones (the paper); `last`: leave one out, history right before it; `random`:
    any item behind the first `min_history` ones, history right before it."""
    num_targets: int = Field(1, ge=1, le=100)
    """Relevant candidates: the target, and what the user took right after it, as far as there is something. The paper: 1."""
    items_per_task: int = Field(20, ge=1)
    """Of target `random`: one task for each so many items of a user; at least one."""
    min_history: int | None = Field(None, ge=1)
    """Users with fewer titles before the target are left out; None = `history`."""
    negatives: str = "uniform"
    """`uniform`, `popularity` (drawn in proportion to their interactions), or the name of a candidate list."""
    min_rating: float | None = None
    """Ignore interactions rated lower (those without a rating stay)."""
    query: str = ""
    """Words put into each task's query; the history speaks for itself."""


def build_recommendation(raw: Interactions, options: RecommendationOptions, tally: Tally) -> Iterator[Built]:
    """One task a user (target `random`: several), in the order of the users' first interactions."""
    catalogue = _Catalogue(raw, options)
    tally.add("interactions_read", raw.frame.height)
    tally.add("items_known", len(raw.items))
    _check_list(raw, options)
    for user, sequence in catalogue.sequences(tally):
        tally.add("users_read")
        positions = _positions(user, len(sequence), options)
        if not positions:
            tally.add("users_left_out_short")
        for position in positions:
            name = user if options.target != "random" else f"{user}@{position}"
            history = sequence[max(0, position - options.history) : position]
            targets = sequence[position : position + min(options.num_targets, options.num_candidates - 1)]
            rng = group_random(options.seed, "candidates", name)
            negatives = catalogue.negatives(user, sequence, history, targets, rng)
            if len(targets) + len(negatives) < options.num_candidates:
                tally.add("users_left_out_few_negatives")
                break
            pool = shuffled([*targets, *negatives], rng)
            yield Built(user, catalogue.task(name, history, pool, targets, options.query))


def _positions(user: str, length: int, options: RecommendationOptions) -> Sequence[int]:
    """Where in a user's items the targets are; none if there are too few."""
    needed = options.min_history or options.history
    if length <= needed:
        return ()
    if options.target == "random":
        number = max(1, round((length - needed) / options.items_per_task))
        return sorted(group_random(options.seed, "targets", user).sample(range(needed, length), number))
    return (length - 1 if options.target == "last" else min(options.history, length - 1),)


def _check_list(raw: Interactions, options: RecommendationOptions) -> None:
    known = ("uniform", "popularity", *raw.lists)
    if options.negatives not in known:
        raise DatasetError(f"options: negatives: {options.negatives!r} is not here: use one of {', '.join(known)}")


class _Catalogue:
    """Items, their popularity, and everything that is drawn from them."""

    def __init__(self, raw: Interactions, options: RecommendationOptions) -> None:
        import polars as pl

        if not raw.items:
            raise DatasetError(f"{raw.place}: items: no titles found: put the item file beside the interactions")
        frame = raw.frame
        if options.min_rating is not None:
            frame = frame.filter(pl.col("rating").is_null() | (pl.col("rating") >= options.min_rating))
        self._raw = raw
        self._options = options
        self._frame = frame
        counts = dict(frame.group_by("item").len().iter_rows())
        self._popularity: dict[str, int] = {i: counts.get(i, 0) for i in raw.items}
        self._ids = list(raw.items)
        self._names = {i: " ".join(item.title.split()).casefold() for i, item in raw.items.items()}
        self._cumulative = list(accumulate(self._popularity[i] for i in self._ids))
        if self._cumulative[-1] == 0:
            raise DatasetError(f"{raw.place}: items: no interaction names an item of the item file: check the ids")

    def sequences(self, tally: Tally) -> Iterator[tuple[str, list[str]]]:
        """(user, item ids in time order, each title once), users in the order of their first interaction."""
        import polars as pl

        ordered = self._frame.sort("time", maintain_order=True)
        grouped = ordered.group_by("user", maintain_order=True).agg(pl.col("item"))
        for user, item_ids in grouped.iter_rows():
            seen: set[str] = set()
            sequence: list[str] = []
            for item_id in item_ids:
                item = self._raw.items.get(item_id)
                if item is None:
                    tally.add("interactions_without_title")
                elif self._names[item_id] in seen:
                    tally.add("interactions_repeated")
                else:
                    seen.add(self._names[item_id])
                    sequence.append(item_id)
            yield user, sequence

    def negatives(
        self, user: str, sequence: Sequence[str], history: Sequence[str], targets: Sequence[str], rng: random.Random
    ) -> list[str]:
        """Distinct titles that the user never took (given lists: that are not in the history), at most as many as wanted."""
        wanted = self._options.num_candidates - len(targets)
        if self._options.negatives in ("uniform", "popularity"):
            taken = {self._names[i] for i in sequence}
            draws = (self._draw(rng) for _ in range(_MAX_DRAWS * wanted))
            offered: Iterator[str] = chain(draws, self._remaining(rng))
        else:
            taken = {self._names[i] for i in (*history, *targets)}
            listed = self._raw.lists[self._options.negatives].get(user, ())
            offered = (i for i in listed if i in self._raw.items)
        chosen: list[str] = []
        for item_id in offered:
            if len(chosen) == wanted:
                break
            if self._names[item_id] not in taken:
                taken.add(self._names[item_id])
                chosen.append(item_id)
        return chosen

    def _remaining(self, rng: random.Random) -> Iterator[str]:
        """All items in a random order by weight, for where drawing meets the same few again and again.

        Source: Efraimidis and Spirakis 2006 (keys u ** (1 / weight), largest first).
        """
        is_uniform = self._options.negatives == "uniform"
        weights = {i: 1 if is_uniform else self._popularity[i] for i in self._ids}
        keys = {i: rng.random() ** (1 / weight) for i, weight in weights.items() if weight}
        yield from sorted(keys, key=lambda i: -keys[i])

    def task(self, name: str, history: Sequence[str], pool: Sequence[str], targets: Sequence[str], query: str) -> Any:
        """The task of one user, or of one of their items."""
        candidates = []
        for item_id in pool:
            item = self._raw.items[item_id]
            metadata = {**item.metadata, "popularity": self._popularity[item_id]}
            candidates.append({"candidate_id": item_id, "text": item.title, "metadata": metadata})
        values = {
            "task_id": f"user-{name}",
            "domain": "recommendation",
            "query": query,
            "history": [self._raw.items[i].title for i in history],
            "candidates": candidates,
            "relevance": dict.fromkeys(targets, 1),
        }
        return make_task(values, f"{self._raw.place}: user {name}")

    def _draw(self, rng: random.Random) -> str:
        if self._options.negatives == "uniform":
            return self._ids[rng.randrange(len(self._ids))]
        return self._ids[bisect(self._cumulative, rng.random() * self._cumulative[-1])]


RECOMMENDATION = Builder(name="recommendation", group="user", options=RecommendationOptions, build=build_recommendation)
