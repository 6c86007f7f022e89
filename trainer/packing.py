"""Decisions over titles, laid into rows for one forward pass.

Each prompt is computed once, however many titles follow: a mask lets a token see its own prompt, and of the titles only what
stands before it in its own one; positions of every title begin where its prompt ends. A title's last token is not laid out, because
nothing follows it. Prompts with their titles are laid into
rows that are as long as the longest of them, so that there is next to no padding and no mask is larger than it must be.
Imports torch: load it only where something is trained.
"""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch

from trainer.encoding import ScoredText, TitleRow

NOTHING = -2
"""Number of the prompt of padding, which nothing but padding sees."""


class PackedTitles(NamedTuple):
    """A batch of decisions in R rows of L tokens, with T tokens of N titles to predict."""

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
    """(M,): where in the R * L states what is read is, text by text: of its prompt, then of each of its titles."""
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
        """Tokens of each prompt, and what is read of each title behind it, in the order of `places`."""
        return [len(ids) for text in self.texts for ids in _read(text)]

    def to(self, device: torch.device) -> "PackedTitles":
        """The same on another device."""
        return PackedTitles(*(x.to(device) if isinstance(x, torch.Tensor) else x for x in self))


def pack_titles(rows: Sequence[TitleRow]) -> PackedTitles:
    """Lay the texts of decisions into rows, each where it first fits, the longest first."""
    texts = [text for row in rows for text in row.texts]
    laid_at, num_rows, width = _lay([text.num_tokens for text in texts])
    # of each piece (the prompt of a text, then each of its titles): its text, its title (-1 = prompt), what is read, where it begins, first position
    pieces: list[tuple[int, int, int, int, int]] = []
    title = 0
    for number, (text, start) in enumerate(zip(texts, laid_at, strict=True)):
        length = len(text.prompt_ids)
        pieces.append((number, -1, length, start, 0))
        start += length
        for ids in text.continuation_ids:
            pieces.append((number, title, len(ids) - 1, start, length))
            title, start = title + 1, start + len(ids) - 1
    numbers, titles, lengths, starts, positions = np.array(pieces).T
    within = _counted(lengths)
    places = np.repeat(starts, lengths) + within
    token_ids = _flat([ids for text in texts for ids in _read(text)])
    # a title's first token is predicted by the last state of its prompt, every other one by the state before it
    is_title = titles >= 0
    last_of_prompt = np.repeat((starts + lengths - 1)[~is_title], np.bincount(numbers))[is_title]
    to_predict = lengths[is_title] + 1
    nth = _counted(to_predict)
    before = np.where(
        nth == 0, np.repeat(last_of_prompt, to_predict), np.repeat(starts[is_title], to_predict) + nth - 1
    )

    def laid(values: np.ndarray, fill: int) -> torch.Tensor:
        flat = np.full(num_rows * width, fill)
        flat[places] = values
        return torch.from_numpy(flat.reshape(num_rows, width))

    return PackedTitles(
        input_ids=laid(token_ids, 0),
        position_ids=laid(np.repeat(positions, lengths) + within, 0),
        prompts=laid(np.repeat(numbers, lengths), NOTHING),
        titles=laid(np.repeat(titles, lengths), -1),
        sources=torch.from_numpy(before),
        targets=torch.from_numpy(_flat([ids for text in texts for ids in text.continuation_ids])),
        owners=torch.from_numpy(np.repeat(titles[is_title], to_predict)),
        weights=torch.tensor([weight for row in rows for weight in row.weights]),
        places=torch.from_numpy(places),
        rows=tuple(rows),
    )


def _read(text: ScoredText) -> list[list[int]]:
    """What is laid out of a text: its prompt, and its titles without their last tokens."""
    return [text.prompt_ids, *(ids[:-1] for ids in text.continuation_ids)]


def _flat(pieces: Sequence[Sequence[int]]) -> np.ndarray:
    return np.fromiter(chain.from_iterable(pieces), np.int64, sum(map(len, pieces)))


def _counted(lengths: np.ndarray) -> np.ndarray:
    """0, 1, ... within each of pieces that are so long."""
    within: np.ndarray = np.arange(lengths.sum()) - np.repeat(lengths.cumsum() - lengths, lengths)
    return within


def _lay(lengths: Sequence[int]) -> tuple[list[int], int, int]:
    """Where each text begins in R rows of L tokens one behind another, R, and L."""
    longest, ends, laid = max(lengths), list[int](), [(0, 0)] * len(lengths)
    for number in sorted(range(len(lengths)), key=lambda k: -lengths[k]):
        row = next((k for k, end in enumerate(ends) if end + lengths[number] <= longest), len(ends))
        if row == len(ends):
            ends.append(0)
        laid[number] = (row, ends[row])
        ends[row] += lengths[number]
    return [row * longest + start for row, start in laid], len(ends), longest


def tree_mask(prompts: torch.Tensor, titles: torch.Tensor) -> torch.Tensor:
    """(R, 1, L, L), True = may look: causal, within the same prompt, and within the same title or back to the prompt."""
    length = prompts.shape[1]
    is_causal = torch.ones(length, length, dtype=torch.bool, device=prompts.device).tril()
    is_same_prompt = prompts[:, :, None] == prompts[:, None, :]
    is_visible = (titles[:, None, :] == -1) | (titles[:, :, None] == titles[:, None, :])
    return (is_causal & is_same_prompt & is_visible)[:, None]
