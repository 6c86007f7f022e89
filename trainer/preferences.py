"""Direct preference optimisation with TRL's DPOTrainer: of one decision the better exclusion against the worse.

Both completions have our own form of a reason, so that they differ in what is excluded and in why, not in style. Overridden:
`_prepare_dataset`, because rows come tokenised in the engine's pieces. Source: Rafailov et al. 2023; the pairs are ours.
"""

from collections.abc import Sequence
from typing import Any

from trl import DPOTrainer

from trainer.checkpoints import AsideCheckpoints
from trainer.encoding import Encoder
from trainer.examples import TrainingExample
from trainer.rationales import make_rationale


class PreferenceTrainer(AsideCheckpoints, DPOTrainer):  # type: ignore[misc]
    """TRL's trainer on rows that are tokenised already, with checkpoints that are whole or not there."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset


def encode_pairs(encoder: Encoder, examples: Sequence[TrainingExample], max_tokens: int) -> list[dict[str, list[int]]]:
    """Ids of prompt, chosen and rejected completion; examples without two different grades, or too long, are left out."""
    end = int(encoder.tokenizer.eos_token_id)
    rows = []
    for example in examples:
        chosen, rejected = make_rationale(example), make_rationale(turn_round(example))
        if chosen is None or rejected is None or chosen.completion == rejected.completion:
            continue
        prompt = encoder.prompt_ids(example.render(encoder.chat_text))
        better, worse = ([*encoder.ids(r.completion), end] for r in (chosen, rejected))
        if len(prompt) + max(len(better), len(worse)) <= max_tokens:
            rows.append({"prompt_ids": prompt, "chosen_ids": better, "rejected_ids": worse})
    return rows


def turn_round(example: TrainingExample) -> TrainingExample:
    """The same decision for somebody who thinks the opposite."""
    grades = {i: None if g is None else 1 - g for i, g in example.grades.items()}
    return example.model_copy(update={"grades": grades, "tiers": tuple(reversed(example.tiers))})
