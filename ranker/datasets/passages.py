"""Passage ranking: queries with listed passages, some of them judged, and the builder that cuts them to size."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pydantic import Field

from ranker.datasets.building import Builder, BuildOptions, Built, Tally, group_random, query_group, shuffled
from ranker.datasets.taskrows import make_task
from ranker.errors import DatasetError
from ranker.schema import MAX_CANDIDATES, MIN_CANDIDATES


class Passage(NamedTuple):
    """One listed passage."""

    passage_id: str
    text: str
    gain: float | None = None
    """The judgement; None = not judged."""
    title: str = ""
    score: float | None = None
    """The first stage's score, where there was one."""


class JudgedQuery(NamedTuple):
    """A query and its passages in the order of the source (first stage: best first)."""

    query_id: str
    query: str
    passages: Sequence[Passage]
    split: str | None = None
    place: str = ""


@dataclass(frozen=True, kw_only=True)
class Judgements:
    """Raw passage ranking data; `queries` may be called again."""

    queries: Callable[[], Iterator[JudgedQuery]]
    place: str = "passages"


class PassageOptions(BuildOptions):
    """Which passages of a query become candidates."""

    num_passages: int | None = Field(None, ge=MIN_CANDIDATES, le=MAX_CANDIDATES)
    """How many; None = all that the source lists (up to 200)."""
    fit: Literal["trim", "exact"] = "trim"
    """`trim`: relevant passages first, then the others in the source's order; `exact`: only queries with that many."""
    max_chars: int | None = Field(None, ge=1)
    """Leave out queries whose candidates have more characters in all. The paper: 2,600."""
    max_passage_chars: int | None = Field(None, ge=1)
    """Cut each passage to this length."""
    min_gain: float = Field(1.0, gt=0)
    """Judgements below count as not relevant. TREC DL counts from 2 in binary measures."""
    binary: bool = False
    """Fold gains to 0 and 1; otherwise grades are kept."""
    relevant: Literal["one", "some", "any"] = "some"
    """How many relevant passages a query must have: exactly one (the paper), at least one, or any number."""
    shuffle: bool = True
    """Seeded order, so that the first stage's order gives nothing away; its rank stays in the metadata."""


def build_passages(raw: Judgements, options: PassageOptions, tally: Tally) -> Iterator[Built]:
    """One task a query, in the order of the source."""
    seen: set[str] = set()
    for query in raw.queries():
        tally.add("queries_read")
        passages = _distinct(query, tally)
        chosen, reason = _chosen(passages, options)
        if chosen is None:
            tally.add(f"queries_left_out_{reason}")
            continue
        if query.query_id in seen:
            raise DatasetError(f"{query.place}: field 'query_id': {query.query_id!r} appears again: make ids unique")
        seen.add(query.query_id)
        yield Built(query_group(query.query), _task(query, chosen, options, raw.place), query.split)


def _distinct(query: JudgedQuery, tally: Tally) -> list[tuple[int, Passage]]:
    """(1-based rank, passage) without empty texts and second copies of the same text (the better judged one stays)."""
    kept: dict[str, tuple[int, Passage]] = {}
    for rank, passage in enumerate(query.passages, start=1):
        key = " ".join(passage.text.split()).casefold()
        if not key:
            tally.add("passages_empty")
        elif key in kept:
            tally.add("passages_same_text")
            if (passage.gain or 0) > (kept[key][1].gain or 0):
                kept[key] = (kept[key][0], passage)
        else:
            kept[key] = (rank, passage)
    return list(kept.values())


def _chosen(
    passages: list[tuple[int, Passage]], options: PassageOptions
) -> tuple[list[tuple[int, Passage]] | None, str]:
    """(the passages to show, "") or (None, why the query is left out)."""
    relevant = [p for p in passages if (p[1].gain or 0) >= options.min_gain]
    if options.relevant == "one" and len(relevant) != 1:
        return None, "not_one_relevant"
    if options.relevant == "some" and not relevant:
        return None, "no_relevant"
    wanted = options.num_passages
    if wanted is not None and (len(passages) < wanted or (options.fit == "exact" and len(passages) != wanted)):
        return None, "other_length"
    wanted = min(wanted or MAX_CANDIDATES, len(passages))
    if wanted < MIN_CANDIDATES:
        return None, "one_passage"
    first = relevant[: wanted if options.relevant == "any" else max(1, wanted - 1)]
    if len(passages) > wanted:
        positions = {p[0] for p in first}
        others = [p for p in passages if p[0] not in positions and p not in relevant]
        passages = sorted([*first, *others[: wanted - len(first)]], key=lambda p: p[0])
        if len(passages) < wanted:
            return None, "few_others"
    cut = options.max_passage_chars
    if options.max_chars is not None and sum(len(p[1].text[:cut]) for p in passages) > options.max_chars:
        return None, "too_long"
    return passages, ""


def _task(query: JudgedQuery, passages: list[tuple[int, Passage]], options: PassageOptions, place: str) -> Any:
    if options.shuffle:
        passages = shuffled(passages, group_random(options.seed, "order", query.query_id))
    titles = {p.title for _, p in passages}
    title_field = "title" if len(titles) == len(passages) and "" not in titles else "document_title"
    candidates, relevance = [], {}
    for rank, passage in passages:
        metadata: dict[str, Any] = {"source_rank": rank}
        if passage.title:
            metadata[title_field] = passage.title
        if passage.score is not None:
            metadata["score"] = passage.score
        text = passage.text[: options.max_passage_chars]
        candidates.append({"candidate_id": passage.passage_id, "text": text, "metadata": metadata})
        if passage.gain is not None:
            gain = passage.gain if passage.gain >= options.min_gain else 0.0
            relevance[passage.passage_id] = float(gain > 0) if options.binary else gain
    values = {
        "task_id": query.query_id,
        "domain": "passage",
        "query": query.query,
        "candidates": candidates,
        "relevance": relevance,
    }
    return make_task(values, query.place or place)


PASSAGES = Builder(name="passages", group="query", options=PassageOptions, build=build_passages)
