"""How a ranking is asked for, and what is told while it is made."""

from enum import StrEnum
from typing import Annotated, NamedTuple, Protocol

from pydantic import Field

from ranker.backends.base import BULK, Backend
from ranker.schema import Ask, EliminationStep, Mode, RankingTask, RankingTrace, Record


class AnswerFormat(StrEnum):
    """How a decision is taken from the model."""

    FREE = "free"
    """The model writes its thought and its answer; the answer is parsed."""
    SCORED = "scored"
    """The model thinks within the budget; then the titles of the pool are scored. For models that do not keep the format."""
    LIKELIHOOD = "likelihood"
    """The model neither sees the pool nor thinks: each candidate counts by how likely it is behind what is asked (see
    `ranker.prompts.render_likelihoods`). For models that were trained so."""


class RankConfig(Record):
    """Everything that decides how a task is ranked, apart from the model."""

    mode: Mode = Mode.ITERATIVE
    seed: int = 0
    """Sets the order in which candidates are presented, and sampling where the temperature is not 0."""
    think_tokens: Annotated[int, Field(ge=0, le=8192)] = 48
    """Budget of one thought, in tokens."""
    answer_tokens: Annotated[int, Field(ge=1, le=8192)] = 32
    """Room for a written answer behind the thought, in tokens (in `direct`: eight more for each candidate)."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    answer_format: AnswerFormat = AnswerFormat.SCORED
    ask: Ask = Ask.WORST
    """Of the modes that exclude one by one: name the worst, or ask for the best and exclude the least probable."""
    last_pool: Annotated[int, Field(ge=1, le=200)] = 5
    """In `adaptive`: so many candidates are always left to be thought about one by one."""
    tail_share: Annotated[float, Field(gt=0, le=10)] = 1.0
    """In `adaptive`: a candidate beyond these is dropped without a thought if its probability of being the best is below
    this share of an even one (1 / candidates in play)."""
    is_reshuffled: bool = True
    """In `adaptive`: look at those near the border of the clear tail in the reversed order too, decide by both looks, and mark what
    they disagree about."""
    priority: int = BULK


class Guide(Protocol):
    """Puts something about the task in front of every prompt (a thought bank)."""

    @property
    def version(self) -> str:
        """Of what it writes; stands behind the prompt version in traces."""

    def __call__(self, task: RankingTask, backend: Backend) -> Backend:
        """The backend as it is to be asked about `task`."""


class StepStarted(NamedTuple):
    """A decision begins. `pool`: candidate_ids in the order in which the prompt shows them."""

    step_index: int
    pool: tuple[str, ...]


class ReasoningDelta(NamedTuple):
    """The model wrote a piece of text."""

    step_index: int
    text: str


class StepFinished(NamedTuple):
    """A decision is made."""

    step: EliminationStep


class TraceFinished(NamedTuple):
    """One candidate is left."""

    trace: RankingTrace


RankEvent = StepStarted | ReasoningDelta | StepFinished | TraceFinished
