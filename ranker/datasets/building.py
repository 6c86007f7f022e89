"""What all builders share: options, seeds that hang on one group alone, the split by group, and the count of what happened.

A *group* is what must never be on both sides of a split: a user, or a query. Each random choice of a task is seeded by
(seed, purpose, group), so adding or dropping other groups changes nothing. Knows no reader and no domain.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from pydantic import Field, ValidationError

from ranker.datasets.taskrows import explain
from ranker.errors import DatasetError
from ranker.schema import RankingTask, Record

T = TypeVar("T")
Raw = TypeVar("Raw")

Split = Literal["all", "train", "test"]


class BuildOptions(Record):
    """Options that every builder has."""

    seed: int = 0
    """Decides candidates, their order, and the side of the split."""
    split: Split = "all"
    """Keep one side only; provenance holds the sizes of both."""
    test_share: float = Field(0.2, ge=0, le=1)
    """Expected share of groups on the test side. The paper: 80/20."""
    published_split: bool = False
    """Follow the split that the source itself names, where it names one."""
    limit: int | None = Field(None, ge=1)
    """At most this many tasks, in the order of the source."""


OptionsT = TypeVar("OptionsT", bound=BuildOptions)


class Built(NamedTuple):
    """A task and the group that it belongs to."""

    group: str
    task: RankingTask
    split: str | None = None
    """The side that the source names, if it does."""


@dataclass
class Tally:
    """Counts of what was read, built and left out, and remarks that a person must know; filled while tasks stream."""

    counts: Counter[str] = field(default_factory=Counter)
    notes: dict[str, None] = field(default_factory=dict)

    def add(self, name: str, number: int = 1) -> None:
        self.counts[name] += number

    def note(self, text: str) -> None:
        """Remember a remark once."""
        self.notes.setdefault(text, None)


@dataclass(frozen=True, kw_only=True)
class Builder(Generic[Raw, OptionsT]):
    """Makes tasks of one kind of raw data."""

    name: str
    group: str
    """What the split is by: `user`, `query`."""
    options: type[OptionsT]
    build: Callable[[Raw, OptionsT, Tally], Iterator[Built]]


def parse_options(options: type[OptionsT], values: Mapping[str, Any]) -> OptionsT:
    """Options from text or typed values.

    Raises:
        DatasetError: naming the option, the value and the ones that exist.
    """
    unknown = [name for name in values if name not in options.model_fields]
    if unknown:
        known = ", ".join(options.model_fields)
        raise DatasetError(f"options: {unknown[0]}: no such option here: use one of {known}")
    try:
        return options.model_validate(values)
    except ValidationError as error:
        raise DatasetError(f"options: {explain(error)}") from error


def keep_side(built: Iterator[Built], options: BuildOptions, tally: Tally) -> Iterator[RankingTask]:
    """The tasks on the wanted side of the split, up to the limit; counts the groups and tasks of both sides."""
    kept = 0
    sides: dict[int, str] = {}
    for group, task, published in built:
        key = _group_key(group)
        side = sides.get(key)
        if side is None:
            side = sides[key] = chosen_side(group, published, options)
            tally.add(f"{side}_groups")
        tally.add(f"{side}_tasks")
        if options.split in ("all", side):
            yield task
            kept += 1
            if kept == options.limit:
                return


def chosen_side(group: str, published: str | None, options: BuildOptions) -> str:
    """`train` or `test`: as the source says, where that is asked for and it does, else `side_of`."""
    if options.published_split and published in ("train", "test"):
        return published
    return side_of(group, options.seed, options.test_share)


def side_of(group: str, seed: int, test_share: float) -> Literal["train", "test"]:
    """The side of a group: a hash of (seed, group) against the share. Ours.

    Unlike a shuffled cut it never moves a group when others come or go, so a new version of a dataset leaks nothing.
    """
    digest = hashlib.blake2b(f"split\0{seed}\0{group}".encode(), digest_size=8).digest()
    return "test" if int.from_bytes(digest, "big") / 2**64 < test_share else "train"


def group_random(seed: int, purpose: str, group: str) -> random.Random:
    """A generator for one purpose of one group (`random.Random`: the same numbers on every platform and version)."""
    digest = hashlib.blake2b(f"{purpose}\0{seed}\0{group}".encode(), digest_size=16).digest()
    return random.Random(int.from_bytes(digest, "big"))


def shuffled(items: Sequence[T], rng: random.Random) -> list[T]:
    """A shuffled copy."""
    copy = list(items)
    rng.shuffle(copy)
    return copy


def query_group(query: str) -> str:
    """The group of a query: its words without case and spacing, so that the same question is always on one side."""
    return " ".join(query.casefold().split())


def _group_key(group: str) -> int:
    return int.from_bytes(hashlib.blake2b(group.encode(), digest_size=8).digest(), "big")
