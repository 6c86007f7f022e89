"""One answer of an evaluation as a trace that can be read: with every step and prompt where a model gave it; a baseline's order
as one step that excludes everything at once. Knows no page."""

import json
from pathlib import Path
from typing import Final

from ranker.elimination import make_presentation_order
from ranker.errors import DatasetError, UsageError
from ranker.evaluation import Results, journal_path
from ranker.evaluation.answers import Answer, AnswerKey
from ranker.evaluation.keeping import KeptTraces
from ranker.evaluation.results import DatasetRecord
from ranker.evaluation.systems import SystemInfo
from ranker.metrics import rank_of_relevant
from ranker.schema import Decider, EliminationStep, Mode, Outcome, RankingTask, Totals
from studio.evaluationruns import Evaluations
from studio.store import StoredTrace, TraceState

NOT_KEPT: Final = "its single rankings are not kept here: run its command to make them"


def read_trace(
    evaluations: Evaluations, evaluation_id: str, dataset: str, system: str, task_id: str, seed: int
) -> StoredTrace:
    """What `system` answered to one task.

    Raises:
        UsageError: if there is no such answer.
    """
    results = evaluations.results(evaluation_id)
    record = None if results is None else next((d for d in results.datasets if d.name == dataset), None)
    info = None if results is None else next((s for s in results.systems if s.name == system), None)
    if results is None or record is None or info is None:
        raise UsageError(f"evaluation: {dataset[:80]!r}, {system[:80]!r}: is not in its results: choose from its table")
    out = evaluations.results_path(evaluation_id)
    if not evaluations.has_answers(evaluation_id):
        raise UsageError(f"evaluation: {evaluation_id}: {NOT_KEPT}")
    kept, key = KeptTraces(out), AnswerKey(record.key, info.key, seed, task_id)
    answer, task = _find_answer(journal_path(out), key), kept.task(record.key, task_id)
    if answer is None or task is None:
        raise UsageError(f"evaluation: task: {task_id[:80]!r} with seed {seed}: was not answered: choose another")
    return _as_stored(results, evaluation_id, record, info, task, answer, kept.steps(key))


def _find_answer(path: Path, key: AnswerKey) -> Answer | None:
    mark = f'"task_id":{json.dumps(key.task_id, ensure_ascii=False)}'.encode()
    found = None
    with path.open("rb") as lines:
        for line in lines:
            if mark in line and line.endswith(b"\n"):
                try:
                    answer = Answer.model_validate_json(line)
                except ValueError as error:
                    raise DatasetError(f"{path.name}: answer: cannot be read: delete the evaluation") from error
                found = answer if answer.key == key else found
    return found


def _as_stored(
    results: Results,
    evaluation_id: str,
    record: DatasetRecord,
    info: SystemInfo,
    task: RankingTask,
    answer: Answer,
    steps: tuple[EliminationStep, ...],
) -> StoredTrace:
    steps = steps or (_one_step(task, answer),)
    is_whole = not answer.is_stopped_early
    return StoredTrace(
        trace_id=f"{evaluation_id}/{record.name}/{info.name}/{task.task_id}/{answer.seed}",
        dataset_id=0,
        dataset=record.name,
        dataset_version=1,
        task_id=task.task_id,
        domain=task.domain,
        summary=task.query[:240],
        num_candidates=len(task.candidates),
        model=info.model or info.name,
        mode=_mode(info),
        seed=answer.seed,
        state=TraceState.FINISHED if is_whole else TraceState.STOPPED,
        ranking=answer.ranking if is_whole else None,
        rank_of_relevant=rank_of_relevant(answer.ranking, dict.fromkeys(task.relevant_ids, 1.0)),
        totals=Totals.of(steps),
        parent_trace_id=None,
        branch_step_index=None,
        error=None,
        created_at=results.updated_at,
        finished_at=results.updated_at,
        task=task,
        config={"think_tokens": info.think_tokens},
        prompt_version=info.prompt_version or "",
        steps=steps,
        started_at=None,
    )


def _one_step(task: RankingTask, answer: Answer) -> EliminationStep:
    """An order that came at once: everything but the first goes out, worst first."""
    worst_first = tuple(reversed(answer.ranking[1:]))
    return EliminationStep(
        step_index=0,
        pool=tuple(make_presentation_order(task, answer.seed)),
        excluded_id=worst_first[0],
        excluded_ids=worst_first,
        outcome=Outcome.FORCED,
        decided_by=Decider.SCORE,
        latency_s=answer.latency_s,
    )


def _mode(info: SystemInfo) -> Mode:
    """A baseline orders in one go."""
    return Mode(info.mode) if info.mode in set(Mode) else Mode.DIRECT
