"""Completions to imitate that somebody stands behind: reasoning that a person wrote, and steps of traces that ended well.

The second is rejection sampling: of what the model itself has written, only decisions that turned out right are kept. Ours;
the paper has no warm start. This module does not know tokenizers or models.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

from ranker.prompts import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE
from ranker.schema import Correction, CorrectionKind, Domain, EliminationStep, Mode, Outcome, RankingTask, RankingTrace
from trainer.examples import ExampleConfig, TrainingExample, is_held_out, latest_corrections
from trainer.orders import Tiers, grade_exclusions, grade_step, tiers_of_correction, tiers_of_labels


class Demonstration(NamedTuple):
    """A decision and a completion that is worth imitating."""

    example: TrainingExample
    completion: str
    source: Literal["correction", "trace"]


def find_demonstrations(
    tasks: Iterable[RankingTask],
    corrections: Iterable[Correction],
    traces: Iterable[RankingTrace],
    config: ExampleConfig,
) -> list[Demonstration]:
    """Everything that can be imitated; nothing of a held-out task, nor of a domain that is not trained on.

    Raises:
        DatasetError: if a correction's payload cannot be used.
    """
    by_id = {
        t.task_id: t
        for t in tasks
        if not is_held_out(t.task_id, config.held_out_share) and t.domain in (config.domains or Domain)
    }
    current = [c for c in latest_corrections(corrections) if c.task_id in by_id]
    known: dict[str, Tiers] = {i: tiers for i, t in by_id.items() if (tiers := tiers_of_labels(t))}
    known |= {c.task_id: tiers for c in current if len(tiers := tiers_of_correction(c, by_id[c.task_id])) >= 2}
    return [*_of_corrections(current, by_id), *_of_traces(traces, by_id, known)]


def _of_corrections(corrections: Iterable[Correction], tasks: Mapping[str, RankingTask]) -> Iterator[Demonstration]:
    for said in corrections:
        reasoning = str(said.payload.get("reasoning") or "").strip()
        if said.kind is not CorrectionKind.STEP or not reasoning:
            continue
        task = tasks[said.task_id]
        pool, grades = grade_step(said, task)
        right = [i for i in pool if grades[i] == 1.0]
        if right:
            ids = (said.correction_id,)
            example = TrainingExample(task=task, pool=pool, grades=grades, source="correction", correction_ids=ids)
            yield Demonstration(example, complete(reasoning, task.candidate(right[0]).title), "correction")


def _of_traces(
    traces: Iterable[RankingTrace], tasks: Mapping[str, RankingTask], known: Mapping[str, Tiers]
) -> Iterator[Demonstration]:
    """Steps in the model's own words, of rankings whose first candidate is one of the best that are known."""
    for trace in traces:
        tiers = known.get(trace.task_id)
        if tiers is None or trace.mode is not Mode.ITERATIVE or trace.ranking[0] not in tiers[0]:
            continue
        for step in trace.steps:
            example = _graded(step, tasks[trace.task_id], tiers)
            if example is not None and step.excluded_id in example.right_ids:
                yield Demonstration(example, complete(step.reasoning.strip(), step.answer.strip()), "trace")


def _graded(step: EliminationStep, task: RankingTask, tiers: Tiers) -> TrainingExample | None:
    """The step's pool with what is known of it; None where the model did not say its answer, or nothing is known."""
    if (
        step.outcome is not Outcome.PARSED
        or not step.reasoning.strip()
        or not set(step.pool) <= set(task.candidate_ids)
    ):
        return None
    grades = grade_exclusions(tiers, step.pool)
    if not any(g is not None for g in grades.values()):
        return None
    return TrainingExample(task=task, pool=step.pool, grades=grades, tiers=tiers)


def complete(reasoning: str, answer: str) -> str:
    """A completion in exactly the form that inference parses."""
    return f"{reasoning}\n{THINK_CLOSE}\n{ANSWER_OPEN}{answer}{ANSWER_CLOSE}"
