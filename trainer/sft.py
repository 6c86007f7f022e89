"""Supervised training: what to imitate, as ids and labels in the engine's pieces.

`rationales`: short reasons and the answer, loss on the completion only. A small model has to know the format before a reward
can work: of the untrained default model's answers one in six is well formed.

`likelihood`: the texts of `ranker.prompts.render_likelihoods` with the best candidate behind them. Everything but the header
is learnt: in recommendation every title of the history, so that one user gives twenty examples in one short row. There is much to
read and no completion to watch, so transformers' own Trainer reads it: TRL's multiplies with the vocabulary twice a step.
"""

import itertools
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import Trainer
from trl import SFTTrainer

from ranker.prompts import render_likelihoods
from trainer.checkpoints import AsideCheckpoints
from trainer.demonstrations import Demonstration
from trainer.encoding import Encoder
from trainer.examples import TrainingExample
from trainer.rationales import make_rationale

IGNORED = -100
"""Label of a token that does not count."""
MAX_REPEATS: Final = 3
"""How often a demonstration is shown for each time that everything is."""


class WarmStartTrainer(AsideCheckpoints, SFTTrainer):  # type: ignore[misc]
    """TRL's trainer as it is, with checkpoints that are whole or not there."""


class ReadingTrainer(AsideCheckpoints, Trainer):  # type: ignore[misc]
    """transformers' Trainer: the mean negative log-likelihood of the tokens that count."""

    def __init__(self, *args: Any, pad_id: int, **kwargs: Any) -> None:
        super().__init__(*args, data_collator=lambda rows: pad_rows(rows, pad_id), **kwargs)


def pad_rows(rows: Sequence[dict[str, list[int]]], pad_id: int) -> dict[str, torch.Tensor]:
    """Ids and labels as (B, T) tensors, padded behind their ends: a causal model then needs no mask."""
    columns = {"input_ids": pad_id, "labels": IGNORED}
    return {
        name: pad_sequence([torch.tensor(row[name]) for row in rows], batch_first=True, padding_value=padding)
        for name, padding in columns.items()
    }


def encode_rationales(
    encoder: Encoder, examples: Sequence[TrainingExample], max_tokens: int
) -> list[dict[str, list[int]]]:
    """Ids and labels of each example's rationale; examples without one, or longer than `max_tokens`, are left out."""
    made = [(e, r.completion) for e in examples if (r := make_rationale(e)) is not None]
    return [row for e, completion in made if (row := _encode(encoder, e, completion, max_tokens)) is not None]


def encode_likelihoods(
    encoder: Encoder, examples: Sequence[TrainingExample], max_tokens: int
) -> list[dict[str, list[int]]]:
    """Ids and labels of each example's best candidate behind its likelihood prompt; longer ones are left out."""
    questions = [q for e in examples for q in render_likelihoods(e.task, [e.task.candidate(e.best_id)])]
    headers = encoder.many([q.header for q in questions])
    prefixes = encoder.many([q.prompt.prefix for q in questions])
    endings = zip(
        encoder.many([q.prompt.suffix for q in questions]),
        encoder.many([q.continuations[0] for q in questions]),
        strict=True,
    )
    rows = []
    for header, prefix, (suffix, best) in zip(headers, prefixes, endings, strict=True):
        ids = prefix + suffix + best
        if len(ids) <= max_tokens:
            rows.append({"input_ids": ids, "labels": [IGNORED] * len(header) + ids[len(header) :]})
    return rows


def encode_demonstrations(
    encoder: Encoder, demonstrations: Sequence[Demonstration], max_tokens: int
) -> list[dict[str, list[int]]]:
    """The same of completions that somebody stands behind."""
    rows = (_encode(encoder, d.example, d.completion, max_tokens) for d in demonstrations)
    return [row for row in rows if row is not None]


def mix(
    made: list[dict[str, list[int]]], shown: list[dict[str, list[int]]], share: float
) -> list[dict[str, list[int]]]:
    """Rationales with so many demonstrations that these are `share` of all, each at most `MAX_REPEATS` times."""
    if not shown or share == 0:
        return made
    if share == 1 or not made:
        return shown
    wanted = min(round(len(made) * share / (1 - share)), MAX_REPEATS * len(shown))
    return [*made, *itertools.islice(itertools.cycle(shown), wanted)]


def _encode(
    encoder: Encoder, example: TrainingExample, completion: str, max_tokens: int
) -> dict[str, list[int]] | None:
    end = int(encoder.tokenizer.eos_token_id)
    prompt = encoder.prompt_ids(example.render(encoder.chat_text))
    written = [*encoder.ids(completion), end]
    if len(prompt) + len(written) > max_tokens:
        return None
    return {"input_ids": prompt + written, "labels": [IGNORED] * len(prompt) + written}
