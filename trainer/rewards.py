"""Rewards: pure functions of a *completion* and its example, each component by itself.

A completion begins inside the thought, because the prompt ends with `<think>`. Components of an exclusion, preset `paper`:

    exclusion   grade of the excluded candidate (+1 not relevant, 0 relevant); -0.5 if the answer names no candidate of the
                pool; -1 if there is no answer at all; 0 if the exclusion is open
    format      0 if the completion is exactly a thought and then an answer, else -1
    tags        -0.25 for each of the four tags that does not occur exactly once
    length      -`length_weight` for each word beyond `length_words` (0 in `paper`)

and of an order (mode `direct`): `ranking` = reciprocal rank of the relevant candidate, or the share of known pairs in the
right order, less the shares of missing and of invented items. Preset `reference` has the faults of the released code, to
compare with: it scores prompt and response together, so that format is always -1 and tags always -0.5, and it repairs an
answer that names nothing by likeness. Source: the paper, section 4; `studio`, normalising and length are ours. Preset
`studio` divides by what a random policy of the same pool size earns, so that a pool of 20 does not drown a pool of 2.
"""

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import combinations
from typing import Final, NamedTuple

from ranker.metrics import reciprocal_rank
from ranker.parsing import Exclusion, parse_exclusion, parse_order
from ranker.prompts import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN
from ranker.schema import Candidate, Mode, Outcome, Record
from trainer.examples import TrainingExample
from trainer.orders import random_floor

TAGS: Final = (THINK_OPEN, THINK_CLOSE, ANSWER_OPEN, ANSWER_CLOSE)
COMPONENTS: Final = ("exclusion", "ranking", "format", "tags", "length")
_WELL_FORMED = re.compile(
    rf"(?:(?!{'|'.join(TAGS)}).)*{THINK_CLOSE}\s*{ANSWER_OPEN}(?:(?!{'|'.join(TAGS)}).)+{ANSWER_CLOSE}\s*", re.DOTALL
)
NOT_IN_POOL: Final = -0.5
NO_ANSWER: Final = -1.0
REFERENCE_TAIL_CHARACTERS: Final = 40


class Normalisation(StrEnum):
    """What is done to the grade of an exclusion so that pools of different sizes compare."""

    NONE = "none"
    SKILL = "skill"
    """(grade - floor) / (1 - floor): 0 for a random policy, 1 for a perfect one. For reading, not for training: -19 at 20."""
    STANDARD = "standard"
    """(grade - floor) / s, s = standard deviation of a random policy's grade: mean 0 and variance 1 at every size."""


class RewardConfig(Record):
    """Which components count, and how."""

    normalisation: Normalisation = Normalisation.STANDARD
    format_weight: float = 1.0
    tags_weight: float = 1.0
    length_weight: float = 0.01
    length_words: int = 40
    has_reference_faults: bool = False
    """Score as the released code does (see above)."""


PRESETS: Final[Mapping[str, RewardConfig]] = {
    "studio": RewardConfig(),
    "paper": RewardConfig(normalisation=Normalisation.NONE, length_weight=0.0),
    "reference": RewardConfig(normalisation=Normalisation.NONE, length_weight=0.0, has_reference_faults=True),
}


class RewardParts(NamedTuple):
    """Every component of one completion's reward, and what was found. `total` is what the policy is trained on."""

    exclusion: float
    ranking: float
    format: float
    tags: float
    length: float
    total: float
    outcome: Outcome
    excluded_id: str | None
    """What the completion excludes (with the reference's faults: what its repair makes of it)."""
    grade: float | None
    """Grade of that exclusion; None = open, or nothing was excluded."""
    floor: float
    """Expected grade of a random exclusion."""
    is_repaired: bool = False


def explain(completion: str, example: TrainingExample, config: RewardConfig = PRESETS["paper"]) -> RewardParts:
    """Score one completion, and tell why."""
    form, tags = (-1.0, -0.5) if config.has_reference_faults else (score_format(completion), score_tags(completion))
    form, tags = form * config.format_weight, tags * config.tags_weight
    length = -config.length_weight * max(0, len(completion.split()) - config.length_words)
    floor = random_floor(example.grades)
    if example.mode is Mode.DIRECT:
        order = parse_order(completion, example.candidates)
        ranking = score_order(order.candidate_ids, order.answer, example)
        total = ranking + form + tags + length
        return RewardParts(0.0, ranking, form, tags, length, total, order.outcome, None, None, floor)
    outcome, excluded_id, _, answer = read_exclusion(completion, example)
    is_repaired = config.has_reference_faults and excluded_id is None
    if is_repaired:
        excluded_id = repair_like_reference(answer or completion[-REFERENCE_TAIL_CHARACTERS:], example.candidates)
    grade = example.grades[excluded_id] if excluded_id is not None else None
    exclusion = score_exclusion(outcome, excluded_id, grade, example.grades, config.normalisation)
    total = exclusion + form + tags + length
    return RewardParts(exclusion, 0.0, form, tags, length, total, outcome, excluded_id, grade, floor, is_repaired)


def read_exclusion(completion: str, example: TrainingExample) -> Exclusion:
    """What the completion excludes. A number is one of the prompt's; who is gone is not in the pool."""
    found = parse_exclusion(completion, example.printed)
    if found.candidate_id is None or found.candidate_id in example.pool:
        return found
    return found._replace(outcome=Outcome.NOT_IN_POOL, candidate_id=None)


def score_exclusion(
    outcome: Outcome,
    excluded_id: str | None,
    grade: float | None,
    grades: Mapping[str, float | None],
    normalisation: Normalisation = Normalisation.NONE,
) -> float:
    """The exclusion's own part. Several answers count as naming nobody: the paper asks for exactly one."""
    if excluded_id is None:
        return NO_ANSWER if outcome is Outcome.NO_ANSWER else NOT_IN_POOL
    if grade is None:
        return 0.0
    return normalise(grade, grades, normalisation)


def normalise(grade: float, grades: Mapping[str, float | None], normalisation: Normalisation) -> float:
    """Set a grade against what a random exclusion of the same pool earns; 0 where every exclusion earns the same."""
    if normalisation is Normalisation.NONE:
        return grade
    floor = random_floor(grades)
    known = [g for g in grades.values() if g is not None]
    spread = math.sqrt(sum((g - floor) ** 2 for g in known) / len(known))
    scale = 1 - floor if normalisation is Normalisation.SKILL else spread
    return (grade - floor) / scale if scale > 0 else grade - 1.0


def score_format(completion: str) -> float:
    """0 if the completion is exactly a closed thought and one answer block behind it, else -1."""
    return 0.0 if _WELL_FORMED.fullmatch(completion) else -1.0


def score_tags(completion: str) -> float:
    """-0.25 for each tag that does not occur exactly once; the `<think>` that the prompt wrote counts."""
    text = THINK_OPEN + completion
    return -0.25 * sum(text.count(tag) != 1 for tag in TAGS)


def score_order(order: Sequence[str], answer: str, example: TrainingExample) -> float:
    """How good a written order is, in [-2, 1].

    With one relevant candidate its reciprocal rank, else the share of known pairs that stand in the right order (a pair of
    which one is missing does not); less the share of the pool that is missing, less the share of items that are invented.
    """
    missing = 1 - len(order) / len(example.pool)
    num_items = max(1, len([item for item in re.split(r">|\n", answer) if item.strip()]))
    invented = max(0, num_items - len(order)) / num_items if answer else 0.0
    if len(example.tiers) == 2 and len(example.tiers[0]) == 1:
        value = reciprocal_rank(order, dict.fromkeys(example.tiers[0], 1.0)) or 0.0
    else:
        place = {i: k for k, i in enumerate(order)}
        pairs = [(b, w) for high, low in combinations(example.tiers, 2) for b in high for w in low]
        value = sum(b in place and place[b] < place.get(w, len(place)) for b, w in pairs) / max(1, len(pairs))
    return value - missing - invented


def repair_like_reference(answer: str, pool: Sequence[Candidate]) -> str:
    """The candidate that the released code makes of an answer: contained in it, else most alike; the first listed of equals.

    Source: the released code (facts as in our notes on the paper, fault 2). Never used but for comparison.
    """
    for candidate in pool:
        if candidate.title in answer:
            return candidate.candidate_id
    likeness = [difflib.SequenceMatcher(None, answer, c.title).ratio() for c in pool]
    return pool[likeness.index(max(likeness))].candidate_id
