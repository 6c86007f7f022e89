"""What is evaluated: a baseline, a model in one mode with one thinking budget, or a model asked by another method.

All answer the tasks of a set, seed by seed.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Literal, Protocol, cast

from ranker.asking import LENGTH_POWER
from ranker.backends.base import Backend
from ranker.baselines import Baseline, without_relevance
from ranker.baselines.words import FirstStage
from ranker.elimination import (
    IN_FLIGHT,
    AnswerFormat,
    Guide,
    RankConfig,
    RankEvent,
    StepFinished,
    make_presentation_order,
    make_remaining,
    prompt_version,
    rank_events,
)
from ranker.evaluation.answers import Answer, StepFact
from ranker.evaluation.fitting import fit_task
from ranker.evaluation.methods import METHODS, rank_by_method
from ranker.evaluation.sets import EvaluationSet
from ranker.prompts import PROMPT_VERSION
from ranker.schema import EliminationStep, RankingTask, Record, Totals


class SystemInfo(Record):
    """Everything that decides a system's answers, apart from task and seed."""

    name: str
    """As tables call it."""
    kind: Literal["baseline", "model"]
    model: str | None = None
    model_sha256: str | None = None
    mode: str | None = None
    think_tokens: int | None = None
    answer_format: str | None = None
    prompt_version: str | None = None
    options: Mapping[str, Any] = {}

    @property
    def key(self) -> str:
        """Changes with anything above."""
        return f"{self.name}:{hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]}"


class System(Protocol):
    """Something that ranks the tasks of a set."""

    @property
    def info(self) -> SystemInfo: ...

    def suits(self, dataset: EvaluationSet) -> bool:
        """Whether it can be asked at all."""

    def answers(self, dataset: EvaluationSet, tasks: Sequence[RankingTask], seed: int) -> AsyncIterator[Answer]:
        """Answers in order of completion."""


class BaselineSystem:
    """A baseline; equal scores are ordered by the seeded presentation order, never by the order of the file."""

    def __init__(self, baseline: Baseline, spec: str) -> None:
        self._baseline = baseline
        self._info = SystemInfo(name=spec, kind="baseline", options=getattr(baseline, "options", {}))
        self._fitted_on: str | None = None

    @property
    def info(self) -> SystemInfo:
        return self._info

    def suits(self, dataset: EvaluationSet) -> bool:
        if any(task.domain not in self._baseline.domains for task in dataset.tasks[:50]):
            return False
        if isinstance(self._baseline, FirstStage) and not all(
            "score" in c.metadata for c in dataset.tasks[0].candidates
        ):
            return False  # a place in a file is no first stage
        if self._baseline.needs_training:
            return bool(dataset.training.tasks or dataset.training.sequences)
        return True

    async def answers(
        self, dataset: EvaluationSet, tasks: Sequence[RankingTask], seed: int
    ) -> AsyncGenerator[Answer, None]:
        if self._fitted_on != dataset.sha256:
            training = dataset.training if self._baseline.needs_training else type(dataset.training)()
            self._baseline.fit(training, [without_relevance(t) for t in dataset.tasks])
            self._fitted_on = dataset.sha256
        for task in tasks:
            started = time.perf_counter()
            scores = dict(zip(task.candidate_ids, self._baseline.score(without_relevance(task)), strict=True))
            order = make_presentation_order(task, seed)
            yield Answer(
                dataset_key=dataset.key,
                system_key=self.info.key,
                seed=seed,
                task_id=task.task_id,
                ranking=tuple(sorted(order, key=lambda i: -scores[i])),
                latency_s=round(time.perf_counter() - started, 6),
            )
            await asyncio.sleep(0)  # Ctrl-C and progress


class ModelSystem:
    """A model in one mode."""

    def __init__(
        self,
        backend: Callable[[], Backend],
        config: RankConfig,
        *,
        model: str,
        model_sha256: str | None = None,
        stop_early: bool = False,
        depth: int | None = None,
        max_in_flight: int = IN_FLIGHT,
        guide: Guide | None = None,
        guide_options: Mapping[str, Any] | None = None,
        trained_on: Sequence[str] = (),
        variant: str = "",
    ) -> None:
        """
        Args:
            backend: loads the model, or gives the loaded one; called when the first answer is asked for.
            config: mode, thinking budget and answer format; its seed is replaced.
            model: the name in tables.
            stop_early: end a ranking when the last relevant candidate is out. Every metric of relevance stays exact; the order
                of what is left, and so the reward of routing, is not known.
            depth: rank only the first `depth` candidates of the first stage; the others follow in its order.
            max_in_flight: tasks at a time.
            guide: a thought bank; the system is then called `...+thoughts`.
            guide_options: which one.
            trained_on: domains, for the zero-shot matrix.
            variant: stands in the name behind the mode, where one model is asked in several formats.
        """
        self._backend = backend
        self._config = config
        self._guide = guide
        self._stop_early, self._depth, self._max_in_flight = stop_early, depth, max_in_flight
        self._info = SystemInfo(
            name=f"{model}/{config.mode.value}{variant}"
            + (f"@{config.think_tokens}" if config.think_tokens else "")
            + ("+thoughts" if guide else ""),
            kind="model",
            model=model,
            model_sha256=model_sha256,
            mode=config.mode.value,
            think_tokens=config.think_tokens,
            answer_format=config.answer_format.value,
            prompt_version=prompt_version(config, guide),
            options={
                "temperature": config.temperature,
                "depth": depth,
                "stop_early": stop_early,
                **({"length_power": LENGTH_POWER} if config.answer_format is AnswerFormat.LIKELIHOOD else {}),
                **({"thoughts": guide_options or {}} if guide else {}),
                **({"trained_on": list(trained_on)} if trained_on else {}),
            },
        )

    @property
    def info(self) -> SystemInfo:
        return self._info

    def suits(self, dataset: EvaluationSet) -> bool:
        return True

    async def answers(
        self, dataset: EvaluationSet, tasks: Sequence[RankingTask], seed: int
    ) -> AsyncGenerator[Answer, None]:
        backend = self._backend()
        config = self._config.model_copy(update={"seed": seed})
        async with aclosing(
            _as_they_come(tasks, lambda task: self._answer(dataset, task, backend, config), self._max_in_flight)
        ) as stream:
            async for answer in stream:
                yield answer

    async def _answer(self, dataset: EvaluationSet, task: RankingTask, backend: Backend, config: RankConfig) -> Answer:
        shown, rest = split_at_depth(task, self._depth)
        asked = backend if self._guide is None else self._guide(shown, backend)
        is_apart = config.answer_format is AnswerFormat.LIKELIHOOD  # no prompt shows the pool
        fitted = fit_task(shown, asked, config, num_shown=1 if is_apart else None)
        relevant = {i for i, g in dataset.judged(task).items() if g >= dataset.binary_from}
        steps = await _rank(fitted.task, backend, config, self._guide, relevant if self._stop_early else None)
        left = make_remaining(fitted.task, config.seed, steps)
        excluded = [i for step in steps for i in step.exclusions]
        totals = Totals.of(steps)
        return Answer(
            dataset_key=dataset.key,
            system_key=self.info.key,
            seed=config.seed,
            task_id=task.task_id,
            ranking=(*left, *reversed(excluded), *rest),
            steps=tuple(_fact(step, relevant) for step in steps),
            num_calls=sum(
                (s.completion_tokens > 0) + (s.probabilities is not None and s.prompt_tokens > 0) for s in steps
            ),
            prompt_tokens=totals.prompt_tokens,
            cached_prompt_tokens=totals.cached_prompt_tokens,
            completion_tokens=totals.completion_tokens,
            latency_s=totals.latency_s,
            is_cut=fitted.is_cut,
            is_stopped_early=len(left) > 1,
            full_steps=tuple(steps),
        )


class MethodSystem:
    """A model asked by one of `METHODS`: pointwise, pairwise or setwise. It does not think; its answers are scored."""

    def __init__(
        self,
        backend: Callable[[], Backend],
        method: str,
        *,
        model: str,
        model_sha256: str | None = None,
        depth: int | None = None,
        max_in_flight: int = IN_FLIGHT,
    ) -> None:
        """Arguments as those of `ModelSystem`; `method` is a name of `METHODS`."""
        self._backend, self._method = backend, method
        self._depth, self._max_in_flight = depth, max_in_flight
        self._info = SystemInfo(
            name=f"{model}/{method}",
            kind="model",
            model=model,
            model_sha256=model_sha256,
            mode=method,
            think_tokens=0,
            answer_format="scored",
            prompt_version=PROMPT_VERSION,
            options={"depth": depth, **METHODS[method].options},
        )

    @property
    def info(self) -> SystemInfo:
        return self._info

    def suits(self, dataset: EvaluationSet) -> bool:
        return True

    async def answers(
        self, dataset: EvaluationSet, tasks: Sequence[RankingTask], seed: int
    ) -> AsyncGenerator[Answer, None]:
        backend = self._backend()
        async with aclosing(
            _as_they_come(tasks, lambda task: self._answer(dataset, task, backend, seed), self._max_in_flight)
        ) as stream:
            async for answer in stream:
                yield answer

    async def _answer(self, dataset: EvaluationSet, task: RankingTask, backend: Backend, seed: int) -> Answer:
        started = time.perf_counter()
        shown, rest = split_at_depth(task, self._depth)
        config = RankConfig(think_tokens=0, seed=seed)
        fitted = fit_task(shown, backend, config, num_shown=METHODS[self._method].num_shown)
        verdict = await rank_by_method(self._method, fitted.task, backend, seed=seed, priority=config.priority)
        return Answer(
            dataset_key=dataset.key,
            system_key=self.info.key,
            seed=seed,
            task_id=task.task_id,
            ranking=(*verdict.ranking, *rest),
            num_calls=verdict.num_calls,
            prompt_tokens=verdict.prompt_tokens,
            cached_prompt_tokens=verdict.cached_prompt_tokens,
            latency_s=round(time.perf_counter() - started, 6),
            is_cut=fitted.is_cut,
        )


async def _as_they_come(
    tasks: Sequence[RankingTask], answer: Callable[[RankingTask], Awaitable[Answer]], max_in_flight: int
) -> AsyncGenerator[Answer, None]:
    """Answers in order of completion, `max_in_flight` tasks at a time; closing the generator withdraws the others."""
    source, running = iter(tasks), set[asyncio.Future[Answer]]()
    try:
        while True:
            while len(running) < max_in_flight and (task := next(source, None)) is not None:
                running.add(asyncio.ensure_future(answer(task)))
            if not running:
                return
            finished, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for done in finished:
                yield done.result()
    finally:
        for left in running:
            left.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def split_at_depth(task: RankingTask, depth: int | None) -> tuple[RankingTask, tuple[str, ...]]:
    """(the task with the first `depth` candidates of the first stage, the ids of the others in its order).

    Tasks whose candidates have no `source_rank` stay whole: the order of a file may follow the labels.
    """
    is_listed = all("source_rank" in c.metadata for c in task.candidates)
    if depth is None or len(task.candidates) <= depth or not is_listed:
        return task, ()
    ordered = sorted(task.candidates, key=lambda c: float(c.metadata["source_rank"]))
    kept = {c.candidate_id for c in ordered[:depth]}
    shown = task.model_copy(
        update={
            "candidates": tuple(ordered[:depth]),
            "relevance": {i: g for i, g in task.relevance.items() if i in kept},
        }
    )
    return shown, tuple(c.candidate_id for c in ordered[depth:])


async def _rank(
    task: RankingTask, backend: Backend, config: RankConfig, guide: Guide | None, stop_when_out: set[str] | None
) -> list[EliminationStep]:
    """The steps; ends early when none of `stop_when_out` is left."""
    steps: list[EliminationStep] = []
    events = cast(AsyncGenerator[RankEvent, None], rank_events(task, backend, config, guide=guide))
    async with aclosing(events):
        async for event in events:
            if isinstance(event, StepFinished):
                steps.append(event.step)
                if stop_when_out is not None and not stop_when_out & (
                    set(event.step.pool) - set(event.step.exclusions)
                ):
                    break
    return steps


def _fact(step: EliminationStep, relevant: set[str]) -> StepFact:
    probabilities = step.probabilities or {}
    probability = probabilities.get(step.excluded_id)
    return StepFact(
        pool_size=len(step.pool),
        num_relevant=len(relevant.intersection(step.pool)),
        position=step.pool.index(step.excluded_id),
        is_relevant=step.excluded_id in relevant,
        probability=None if probability is None else round(probability, 4),
        outcome=step.outcome,
        num_excluded=len(step.exclusions),
        completion_tokens=step.completion_tokens,
    )
