"""Supervised warm start with TRL's SFTTrainer: imitate rationales, loss on the completion only.

A small model has to know the format before a reward can work: of the untrained default model's answers one in six is well
formed. Rows are tokenised here, in the engine's pieces, and given to TRL as ids and labels.
"""

from collections.abc import Sequence
from typing import Any

from trl import SFTTrainer

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
