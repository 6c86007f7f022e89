"""What the engine knows of a call: while it waits, while its prompt is computed, and while it decodes. Imports torch. Ours."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ranker.backends.base import Chunk, GenerateRequest, ScoreRequest, Scores, Usage
from ranker.backends.lookup import Lookup
from ranker.backends.tokentree import TreeLine
from ranker.errors import BackendError


@dataclass(kw_only=True, eq=False)
class Job:
    """A call that waits or runs."""

    request: GenerateRequest | ScoreRequest
    number: int = 0
    """In the order in which calls came."""
    age: int = 0
    """The number of the first call with its head: the older a ranking is, the sooner its calls are started."""
    num_tokens: int = 0  # room that a generation needs in its row
    prefix_ids: Sequence[int] = ()  # as tokenised, if that was necessary
    suffix_ids: Sequence[int] = ()
    results: asyncio.Queue[Chunk | Scores | BackendError] = field(default_factory=asyncio.Queue)
    is_withdrawn: bool = False


@dataclass(kw_only=True, eq=False)
class Placed:
    """A call whose prompt is about to be computed."""

    job: Job
    prefix_ids: list[int]
    ids: list[int]
    """Of the whole prompt."""
    line: TreeLine
    """The continuations that are scored."""
    computed: Sequence[torch.Tensor]
    """What is kept of the keys and values of the prefix, in pieces."""
    head_ids: Sequence[int]
    """The first ones of a prefix that has to be computed, which other prefixes begin with too."""
    computed_head: Sequence[torch.Tensor]
    """What is kept of their keys and values."""
    start: int
    """Tokens of the prefix that are not computed together with what follows: all, or all but the last sampled one."""
    room: int
    """Columns that the call needs."""

    @property
    def is_new(self) -> bool:
        """The prefix has to be computed."""
        return not self.computed and bool(self.prefix_ids)

    @property
    def has_new_head(self) -> bool:
        """The head of the prefix has to be computed."""
        return bool(self.head_ids) and not self.computed_head

    @property
    def cached(self) -> int:
        """Tokens that need not be computed."""
        if self.computed:
            return self.start
        return len(self.head_ids) if self.computed_head else 0

    @property
    def num_behind(self) -> int:
        """Tokens behind `start`."""
        return len(self.ids) - self.start + len(self.line.ids)


@dataclass(kw_only=True, eq=False)
class Row:
    """A running generation. `ids`: prompt and completion; keys and values cover the first `length` of them."""

    job: Job
    request: GenerateRequest
    text_stream: Any
    ids: list[int]
    length: int
    usage: Usage
    generator: torch.Generator | None
    lookup: Lookup | None
    """Where guesses come from; None = the next token is drawn, so there is nothing to guess."""
    text: str = ""
    num_tokens: int = 0

    def guess(self, limit: int) -> list[int]:
        """What may be written next, in no more tokens than the completion has left behind the next one."""
        limit = min(limit, self.request.max_tokens - self.num_tokens - 1)
        return self.lookup.guess(limit) if self.lookup is not None and limit > 0 else []
