"""Decisions over titles, laid into rows for one forward pass.

Each prompt is computed once, however many titles follow: a mask lets a token see its own prompt, and of the titles only what
stands before it in its own one; positions of every title begin where its prompt ends. Prompts with their titles are laid into
rows that are as long as the longest of them, so that there is next to no padding and no mask is larger than it must be.
Imports torch: load it only where something is trained.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence

from trainer.encoding import ScoredText, TitleRow

NOTHING = -2
"""Number of the prompt of padding, which nothing but padding sees."""


class PackedTitles(NamedTuple):
    """A batch of decisions in R rows of L tokens, with T title tokens of N titles."""

    input_ids: torch.Tensor
    """(R, L)"""
    position_ids: torch.Tensor
    """(R, L)"""
    prompts: torch.Tensor
    """(R, L): number of the text that each token is of."""
    titles: torch.Tensor
    """(R, L): number of the title that each token is of, -1 = of the prompt."""
    sources: torch.Tensor
    """(T,): where in the R * L states the one is that predicts each title token."""
    targets: torch.Tensor
    """(T,): the title tokens."""
    owners: torch.Tensor
    """(T,): which title each token belongs to; titles are numbered over the whole batch."""
    weights: torch.Tensor
    """(N,): factors of the titles' summed log-probabilities (see `trainer.encoding.TitleRow`)."""
    places: torch.Tensor
    """(M,): where in the R * L states the tokens are, text by text: of its prompt, then of each of its titles."""
    rows: tuple[TitleRow, ...]
    """The decisions."""

    @property
    def pool_sizes(self) -> tuple[int, ...]:
        """Titles of each decision."""
        return tuple(len(row.weights) for row in self.rows)

    @property
    def texts(self) -> list[ScoredText]:
        """Of all decisions."""
        return [text for row in self.rows for text in row.texts]

    @property
    def piece_sizes(self) -> list[int]:
        """Tokens of each prompt and of each title behind it, in the order of `places`."""
        return [len(ids) for text in self.texts for ids in (text.prompt_ids, *text.continuation_ids)]

    def to(self, device: torch.device) -> "PackedTitles":
        """The same on another device."""
        return PackedTitles(*(x.to(device) if isinstance(x, torch.Tensor) else x for x in self))


class _Row:
    """What lies in one row."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.positions: list[int] = []
        self.prompts: list[int] = []  # number of the prompt
        self.titles: list[int] = []  # number of the title, -1 = prompt

    def add(self, number: int, title: int, ids: Sequence[int], position: int) -> int:
        """Lay `ids` behind what is there; returns where they begin."""
        start = len(self.ids)
        self.ids += ids
        self.positions += range(position, position + len(ids))
        self.prompts += [number] * len(ids)
        self.titles += [title] * len(ids)
        return start


def pack_titles(rows: Sequence[TitleRow]) -> PackedTitles:
    """Lay the texts of decisions into rows, each where it first fits, the longest first."""
    texts = [text for row in rows for text in row.texts]
    longest = max(text.num_tokens for text in texts)
    firsts = _running_sum(len(text.continuation_ids) for text in texts)  # number of each text's first title
    laid: list[_Row] = []
    laid_at: list[tuple[int, int, int]] = [(0, 0, 0)] * len(texts)  # of each text: row, where it begins there, tokens
    tokens: list[tuple[int, int, int, int]] = []  # (title, row, place of the state before the token, token)
    for number in sorted(range(len(texts)), key=lambda k: -texts[k].num_tokens):
        text = texts[number]
        index = next((k for k, r in enumerate(laid) if len(r.ids) + text.num_tokens <= longest), len(laid))
        if index == len(laid):
            laid.append(_Row())
        row, length = laid[index], len(text.prompt_ids)
        start = row.add(number, -1, text.prompt_ids, 0)
        end = start + length
        laid_at[number] = (index, start, text.num_tokens)
        for title, ids in enumerate(text.continuation_ids, firsts[number]):
            start = row.add(number, title, ids, length)
            places = [end - 1, *range(start, start + len(ids) - 1)]
            tokens += [(title, index, place, token) for place, token in zip(places, ids, strict=True)]
    tokens.sort(key=lambda token: token[0])  # stable: the tokens of a title stay in order
    width = max(len(row.ids) for row in laid)
    owners, indices, places, targets = (torch.tensor(column) for column in zip(*tokens, strict=True))
    return PackedTitles(
        input_ids=_padded([row.ids for row in laid], 0),
        position_ids=_padded([row.positions for row in laid], 0),
        prompts=_padded([row.prompts for row in laid], NOTHING),
        titles=_padded([row.titles for row in laid], -1),
        sources=indices * width + places,
        targets=targets,
        owners=owners,
        weights=torch.tensor([weight for row in rows for weight in row.weights]),
        places=torch.cat([torch.arange(n) + index * width + start for index, start, n in laid_at]),
        rows=tuple(rows),
    )


def _running_sum(numbers: Iterable[int]) -> list[int]:
    """The sum of all numbers before each."""
    return [0, *accumulate(numbers)]


def _padded(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    """(R, L)"""
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)


def tree_mask(prompts: torch.Tensor, titles: torch.Tensor) -> torch.Tensor:
    """(R, 1, L, L), True = may look: causal, within the same prompt, and within the same title or back to the prompt."""
    length = prompts.shape[1]
    is_causal = torch.ones(length, length, dtype=torch.bool, device=prompts.device).tril()
    is_same_prompt = prompts[:, :, None] == prompts[:, None, :]
    is_visible = (titles[:, None, :] == -1) | (titles[:, :, None] == titles[:, None, :])
    return (is_causal & is_same_prompt & is_visible)[:, None]
