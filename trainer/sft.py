"""Supervised training with TRL's SFTTrainer: what to imitate, as ids and labels in the engine's pieces.

`rationales`: short reasons and the answer, loss on the completion only. A small model has to know the format before a reward
can work: of the untrained default model's answers one in six is well formed.

`likelihood`: the texts of `ranker.prompts.render_likelihoods` with the best candidate behind them. Everything but the header
is learnt: in recommendation every title of the history, so that one user gives twenty examples in one short row.
"""

from collections.abc import Sequence
from typing import Any

from trl import SFTTrainer

from ranker.prompts import render_likelihoods
from trainer.checkpoints import AsideCheckpoints
from trainer.encoding import Encoder
from trainer.examples import TrainingExample
from trainer.rationales import make_rationale

IGNORED = -100
"""Label of a token that does not count."""


class WarmStartTrainer(AsideCheckpoints, SFTTrainer):  # type: ignore[misc]
    """TRL's trainer as it is, with checkpoints that are whole or not there."""


def encode_rationales(
    encoder: Encoder, examples: Sequence[TrainingExample], max_tokens: int
) -> list[dict[str, list[int]]]:
    """Ids and labels of each example's rationale; examples without one, or longer than `max_tokens`, are left out."""
    end: Any = encoder.tokenizer.eos_token_id
    rows = []
    for example in examples:
        rationale = make_rationale(example)
        if rationale is None:
            continue
        prompt = encoder.prompt_ids(example.render(encoder.chat_text))
        completion = [*encoder.ids(rationale.completion), int(end)]
        if len(prompt) + len(completion) <= max_tokens:
            rows.append({"input_ids": prompt + completion, "labels": [IGNORED] * len(prompt) + completion})
    return rows


def encode_likelihoods(
    encoder: Encoder, examples: Sequence[TrainingExample], max_tokens: int
) -> list[dict[str, list[int]]]:
    """Ids and labels of each example's best candidate behind its likelihood prompt; longer ones are left out."""
    rows = []
    for example in examples:
        best = example.task.candidate(example.best_id)
        (question,) = render_likelihoods(example.task, [best])
        ids = encoder.prompt_ids(question.prompt) + encoder.ids(question.continuations[0])
        num_untaught = len(encoder.ids(question.header))
        if len(ids) <= max_tokens:
            rows.append({"input_ids": ids, "labels": [IGNORED] * num_untaught + ids[num_untaught:]})
    return rows
