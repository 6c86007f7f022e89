"""Log-probabilities of titles with gradients: the training side of `Backend.score`, equal to it (tested).

Several decisions are packed into one row of tokens, each with one prompt or several. A mask lets a token see its own prompt,
and of the titles only what stands before it in its own title; positions of every title begin where its prompt ends. So a packed batch has no padding,
and each prompt is computed once however many titles follow. Only the rows of the vocabulary matrix that predict a title's
tokens are computed. Imports torch: load it only where something is trained.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from trainer.encoding import TitleRow


class PackedTitles(NamedTuple):
    """A batch of decisions in one row of L tokens, with T title tokens of N titles."""

    input_ids: torch.Tensor
    """(1, L)"""
    position_ids: torch.Tensor
    """(1, L)"""
    attention_mask: torch.Tensor
    """(1, 1, L, L), True = may look."""
    sources: torch.Tensor
    """(T,): where the hidden state is that predicts each title token."""
    targets: torch.Tensor
    """(T,): the title tokens."""
    owners: torch.Tensor
    """(T,): which title each token belongs to; titles are numbered over the whole batch."""
    weights: torch.Tensor
    """(N,): factors of the titles' summed log-probabilities (see `trainer.encoding.TitleRow`)."""
    pool_sizes: tuple[int, ...]
    """Titles of each decision."""

    def to(self, device: torch.device) -> "PackedTitles":
        """The same on another device."""
        return PackedTitles(*(x.to(device) if isinstance(x, torch.Tensor) else x for x in self))


def pack_titles(rows: Sequence[TitleRow]) -> PackedTitles:
    """Lay decisions behind one another."""
    ids: list[int] = []
    positions: list[int] = []
    prompts: list[int] = []  # number of the prompt
    titles: list[int] = []  # number of the title, -1 = prompt
    sources: list[int] = []
    targets: list[int] = []
    owners: list[int] = []
    num_titles = 0
    for number, text in enumerate(text for row in rows for text in row.texts):
        length = len(text.prompt_ids)
        end = len(ids) + length
        ids += text.prompt_ids
        positions += range(length)
        prompts += [number] * length
        titles += [-1] * length
        for title in text.continuation_ids:
            start = len(ids)
            ids += title
            positions += range(length, length + len(title))
            prompts += [number] * len(title)
            titles += [num_titles] * len(title)
            sources += [end - 1, *range(start, start + len(title) - 1)]
            targets += title
            owners += [num_titles] * len(title)
            num_titles += 1
    return PackedTitles(
        input_ids=torch.tensor([ids]),
        position_ids=torch.tensor([positions]),
        attention_mask=_tree_mask(torch.tensor(prompts), torch.tensor(titles)),
        sources=torch.tensor(sources),
        targets=torch.tensor(targets),
        owners=torch.tensor(owners),
        weights=torch.tensor([weight for row in rows for weight in row.weights]),
        pool_sizes=tuple(len(row.weights) for row in rows),
    )


def score_titles(model: Any, packed: PackedTitles) -> torch.Tensor:
    """Score of excluding each candidate of the batch: (N,), float32, with gradients.

    The rule is that of `ranker.asking`: its softmax over a pool is the probability of each exclusion.
    """
    logits = model(
        input_ids=packed.input_ids,
        position_ids=packed.position_ids,
        attention_mask=packed.attention_mask,
        logits_to_keep=packed.sources,
        use_cache=False,
    ).logits[0]  # (T, V)
    log_probs = logits.float().log_softmax(-1).gather(1, packed.targets[:, None])[:, 0]  # (T,)
    totals = log_probs.new_zeros(len(packed.weights)).index_add(0, packed.owners, log_probs)
    return totals * packed.weights


def _tree_mask(prompts: torch.Tensor, titles: torch.Tensor) -> torch.Tensor:
    """(1, 1, L, L): causal, within the same prompt, and within the same title or back to the prompt."""
    length = len(prompts)
    is_causal = torch.ones(length, length, dtype=torch.bool).tril()
    is_same_prompt = prompts[:, None] == prompts[None, :]
    is_visible = (titles[None, :] == -1) | (titles[:, None] == titles[None, :])
    return (is_causal & is_same_prompt & is_visible)[None, None]
