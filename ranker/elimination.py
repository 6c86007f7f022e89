"""The loops: from a task and a model to a ranking, one exclusion at a time."""

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from ranker.backends.base import Backend
from ranker.schema import EliminationStep, RankingTask, RankingTrace


class StepStarted(NamedTuple):
    step_index: int
    pool: tuple[str, ...]


class ReasoningDelta(NamedTuple):
    step_index: int
    text: str


class StepFinished(NamedTuple):
    step: EliminationStep


class TraceFinished(NamedTuple):
    trace: RankingTrace


RankEvent = StepStarted | ReasoningDelta | StepFinished | TraceFinished
