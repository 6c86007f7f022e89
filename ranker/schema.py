"""The nouns: task, candidate, step, trace, correction. Frozen records; everything else in the project moves these around.

This module owns the shape of the files that `contract` fixes (JSON Lines of tasks and traces) and the invariants that hold
for every one of them. It does not know prompts, models, SQL or pages.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MIN_CANDIDATES = 2
MAX_CANDIDATES = 200
TITLE_WORDS = 16

Identifier = Annotated[str, Field(min_length=1, max_length=256)]


class Record(BaseModel):
    """A frozen, keyword-only value that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Domain(StrEnum):
    """What the candidates are; chooses the wording of the prompt."""

    RECOMMENDATION = "recommendation"
    ROUTING = "routing"
    PASSAGE = "passage"
    OTHER = "other"


class Mode(StrEnum):
    """How a ranking is made. The contract fixes the names; `ranker.elimination` maps them to functions."""

    ITERATIVE = "iterative"
    """The paper: re-prompt with the shrinking pool, think, name the least likely candidate."""
    DIRECT = "direct"
    """The paper's baseline: one call that writes the whole order."""
    FIXED_BLOCK = "fixed-block"
    """The candidates are printed once; each step is a short suffix, and its answer is restricted to the pool."""
    ADAPTIVE = "adaptive"
    """The clear tail goes without a thought, several at once; the last few are thought about one by one."""
    FIRST_TOKEN = "first-token"
    """One call without a thought; the order is that of the probabilities of the labels."""


class Ask(StrEnum):
    """What a step of elimination asks for. Either way one candidate goes."""

    WORST = "worst"
    """Name the candidate that fits least; it goes (the paper)."""
    BEST = "best"
    """Name the candidate that fits best; the least probable answer goes. Needs probabilities, so nothing is parsed."""


class Outcome(StrEnum):
    """What became of the model's answer in one step. A bad answer is recorded here; it is never repaired silently."""

    PARSED = "parsed"
    """The completion named exactly one candidate of the pool (in `direct`: every one, once)."""
    NO_ANSWER = "no_answer"
    """There is no `<answer>` block, or it is empty."""
    SEVERAL_ANSWERS = "several_answers"
    """More than one candidate was named where one was asked for."""
    NOT_IN_POOL = "not_in_pool"
    """The answer names nothing that is in the pool."""
    FORCED = "forced"
    """The model was not asked to write an answer: the pool's answers were scored instead (or a person decided)."""


class Decider(StrEnum):
    """Who decided the exclusion of a step."""

    MODEL = "model"
    """The written answer of the model (`Outcome.PARSED`)."""
    SCORE = "score"
    """The model's log-probabilities of the candidates' titles (of their labels, where an engine can score no more); the policy
    for every outcome other than `parsed`."""
    ASKED_AGAIN = "asked_again"
    """The engine cannot score at all: the model was asked for its answer again, restricted to the pool where that goes."""
    CHANCE = "chance"
    """Nor did asking again help: the presentation order, which the seed shuffled, decided. No better than a draw."""
    PERSON = "person"
    """Somebody forced this exclusion (what-if)."""


class Candidate(Record):
    """One thing that can be ranked."""

    candidate_id: Identifier
    """Stable within the task; never shown to the model."""
    text: Annotated[str, Field(min_length=1)]
    """What the model reads about the candidate."""
    metadata: Mapping[str, Any] = Field(default_factory=dict)
    """Anything else that is known (year, genre, price, ...). `metadata["title"]`, if a string, is the short name."""

    @property
    def title(self) -> str:
        """The short name that an answer repeats: `metadata["title"]`, else the first words of the first line of `text`."""
        title = self.metadata.get("title")
        if isinstance(title, str) and title.strip():
            return " ".join(title.split())
        words = self._first_line_words
        return " ".join(words[:TITLE_WORDS]) + (" ..." if len(words) > TITLE_WORDS else "")

    @property
    def is_named(self) -> bool:
        """Is `title` a name, and not the beginning of something longer (a passage), which nobody would repeat as an answer?"""
        title = self.metadata.get("title")
        return (isinstance(title, str) and bool(title.strip())) or len(self._first_line_words) <= TITLE_WORDS

    @property
    def _first_line_words(self) -> list[str]:
        return self.text.strip().split("\n", 1)[0].split()


class RankingTask(Record):
    """A query and its pool of candidates. Source: the paper, section 2; field names: contract."""

    task_id: Identifier
    domain: Domain
    query: str
    """What the candidates are ranked for. May be empty in recommendation, where `history` speaks."""
    history: tuple[str, ...] = ()
    """What the user chose before, oldest first."""
    candidates: Annotated[tuple[Candidate, ...], Field(min_length=MIN_CANDIDATES, max_length=MAX_CANDIDATES)]
    relevance: Mapping[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(default_factory=dict)
    """candidate_id -> gain, 0 = not relevant; a candidate that is left out counts 0. Empty = not known."""
    criterion: str | None = None
    """Words for what "best" means, shown to the model. None = the domain's own."""

    @model_validator(mode="after")
    def _check_ids(self) -> Self:
        seen: set[str] = set()
        for candidate in self.candidates:
            if candidate.candidate_id in seen:
                raise ValueError(f"candidates: id {candidate.candidate_id!r} appears twice. Rename one.")
            seen.add(candidate.candidate_id)
        for candidate_id in self.relevance:
            if candidate_id not in seen:
                raise ValueError(
                    f"relevance: {candidate_id!r} is not a candidate. Add the candidate or drop the entry."
                )
        return self

    @property
    def candidate_ids(self) -> tuple[str, ...]:
        return tuple(c.candidate_id for c in self.candidates)

    @property
    def relevant_ids(self) -> frozenset[str]:
        """Candidates with a gain above 0."""
        return frozenset(i for i, gain in self.relevance.items() if gain > 0)

    def candidate(self, candidate_id: str) -> Candidate:
        """Raises KeyError if there is none of that id."""
        for candidate in self.candidates:
            if candidate.candidate_id == candidate_id:
                return candidate
        raise KeyError(candidate_id)


class EliminationStep(Record):
    """One decision: a pool went in, one candidate (or, in some modes, several) went out."""

    step_index: Annotated[int, Field(ge=0)]
    pool: tuple[str, ...]
    """candidate_ids in the order in which the prompt showed them, before the exclusion."""
    excluded_id: str
    """The candidate that was judged least likely."""
    excluded_ids: tuple[str, ...] | None = None
    """Where one step excludes several: all of them, worst first (`excluded_id` is the first). None = just one."""
    prompt: str = ""
    """The exact text that the model received, chat template and pre-filled opening included."""
    reasoning: str = ""
    answer: str = ""
    """What the model wrote as its answer, untouched; for `forced` the title that the scores chose."""
    outcome: Outcome
    decided_by: Decider = Decider.MODEL
    probabilities: Mapping[str, float] | None = None
    """candidate_id -> probability of being the one excluded now, summing to 1 over the pool. None = not computed."""
    disputed_ids: tuple[str, ...] = ()
    """In `adaptive`: candidates that go in one order of presentation and stay in another. Empty = no dispute, or not checked."""
    prompt_tokens: Annotated[int, Field(ge=0)] = 0
    """All prompt tokens of this step's calls, cached ones included."""
    cached_prompt_tokens: Annotated[int, Field(ge=0)] = 0
    completion_tokens: Annotated[int, Field(ge=0)] = 0
    """Tokens that were decoded (tokens of scored titles count as prompt)."""
    latency_s: Annotated[float, Field(ge=0)] = 0.0

    @property
    def exclusions(self) -> tuple[str, ...]:
        """Everything that this step excludes, worst first."""
        return self.excluded_ids if self.excluded_ids is not None else (self.excluded_id,)

    @property
    def is_disputed(self) -> bool:
        """Would another order of presentation have excluded others? Then a person should look."""
        return bool(self.disputed_ids)

    @model_validator(mode="after")
    def _check_exclusions(self) -> Self:
        gone = self.exclusions
        if gone[:1] != (self.excluded_id,):
            raise ValueError("excluded_ids: must begin with excluded_id")
        if len(set(gone)) != len(gone) or len(set(self.pool)) != len(self.pool):
            raise ValueError("pool and excluded_ids: no id may appear twice")
        if not set(gone) < set(self.pool):
            raise ValueError("excluded_ids: must be in the pool and leave at least one candidate")
        if not set(self.disputed_ids) <= set(self.pool):
            raise ValueError("disputed_ids: must be in the pool")
        return self


class Totals(Record):
    """Sums over the steps of a trace."""

    num_steps: int = 0
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0
    latency_s: float = 0.0
    outcomes: Mapping[Outcome, int] = Field(default_factory=dict)

    @classmethod
    def of(cls, steps: Iterable[EliminationStep]) -> Self:
        """Add up `steps`."""
        steps = tuple(steps)
        return cls(
            num_steps=len(steps),
            prompt_tokens=sum(s.prompt_tokens for s in steps),
            cached_prompt_tokens=sum(s.cached_prompt_tokens for s in steps),
            completion_tokens=sum(s.completion_tokens for s in steps),
            latency_s=round(sum(s.latency_s for s in steps), 6),
            outcomes=dict(Counter(s.outcome for s in steps)),
        )


def make_ranking(steps: Sequence[EliminationStep]) -> tuple[str, ...]:
    """The ranking that a full sequence of steps says: the reverse order of exclusion, best first.

    Raises:
        ValueError: if the steps do not chain (a pool is not the one before it less its exclusions) or do not end with
            exactly one candidate left.

    Source: the paper, section 2 ("iterative elimination").
    """
    if not steps:
        raise ValueError("steps: empty")
    excluded: list[str] = []
    remaining = set(steps[0].pool)
    for index, step in enumerate(steps):
        if step.step_index != index or set(step.pool) != remaining:
            raise ValueError(f"steps: step {index} does not follow from the one before it")
        excluded.extend(step.exclusions)
        remaining -= set(step.exclusions)
    if len(remaining) != 1:
        raise ValueError(f"steps: {len(remaining)} candidates are left, expected 1")
    return (*remaining, *reversed(excluded))


class RankingTrace(Record):
    """All steps of one task by one model: what was asked, thought, answered and excluded, and the ranking that follows."""

    task_id: Identifier
    model: str
    mode: Mode
    seed: int = 0
    prompt_version: str
    ranking: tuple[str, ...]
    """candidate_ids, best first; always a permutation of the task's candidates."""
    steps: tuple[EliminationStep, ...]
    totals: Totals
    trace_id: str | None = None
    parent_trace_id: str | None = None
    """The trace that this one branched off from (what-if)."""
    branch_step_index: int | None = None
    """The first step that differs from the parent's by a person's hand."""

    @model_validator(mode="after")
    def _check_ranking(self) -> Self:
        if make_ranking(self.steps) != self.ranking:
            raise ValueError("ranking: is not the reverse order of exclusion of the steps")
        return self


class CorrectionKind(StrEnum):
    """What a person said something about."""

    RANKING = "ranking"
    STEP = "step"
    LABEL = "label"
    FLAG = "flag"


class Correction(Record):
    """One thing that one person said. Append-only: a later word supersedes, nothing is overwritten."""

    correction_id: Identifier
    task_id: Identifier
    trace_id: str | None = None
    kind: CorrectionKind
    author: str
    created_at: str
    """ISO 8601, UTC."""
    reason: str = ""
    payload: Mapping[str, Any] = Field(default_factory=dict)
    """`ranking`: {"order": [[id, ...], ...]} best first, ids in one inner list are tied; may be partial."""
    """`step`: {"pool": [id, ...], "exclude": [id, ...], "keep": [id, ...]}; `label`: {"relevant": [id, ...]}."""
    supersedes: str | None = None
    """The correction_id of the same author that this one takes the place of."""
    dataset: str | None = None
    """`NAME@VERSION` of the task's dataset, where it is stored."""
    duration_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """From first sight of the task to submitting."""
    model: str | None = None
    """Whose trace the author had before them; with `prompt_version`, of that trace."""
    prompt_version: str | None = None
    guideline_version: int | None = None
    is_gold: bool = False
    """Known to be right: others are measured by it."""
