"""What systems are evaluated on: a fixed, hashed list of tasks with known relevance, and the training side that goes with it.

Tasks are taken in an order that hangs on their ids alone, so that a smaller limit takes a part of what a larger one takes, and
the order of the source (by user, by topic) does not choose. It does not know systems or metrics.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from ranker.baselines import Training
from ranker.datasets import task_line
from ranker.datasets.building import query_group, side_of
from ranker.errors import DatasetError
from ranker.schema import RankingTask

Qrels = Mapping[str, Mapping[str, float]]
"""task_id -> candidate_id -> grade, judged documents that are not among the candidates included."""

TEST_SHARE = 0.2
"""Of groups, where a file is split here. The paper: 80/20."""


def no_training() -> Training:
    """There is no training side."""
    return Training()


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """One dataset as it is evaluated."""

    name: str
    tasks: tuple[RankingTask, ...]
    """Those with known relevance, in sampling order."""
    source: str
    """Where it is from, in words, without paths of this machine."""
    split: str = "all"
    metric: str = "mrr"
    """The one that tables lead with: `mrr` or `ndcg@10`."""
    paper_name: str | None = None
    """The paper's dataset that it stands for."""
    binary_from: float = 1.0
    """The grade from which a candidate counts as relevant in binary measures. TREC DL: 2."""
    num_unjudged: int = 0
    """Tasks that were left out because nothing is known to be relevant."""
    notes: tuple[str, ...] = ()
    qrels: Qrels = field(default_factory=dict)
    load_training: Callable[[], Training] = no_training

    @cached_property
    def sha256(self) -> str:
        """Of all tasks in order, qrels and settings: what a result was measured on."""
        digest = hashlib.sha256(f"{self.split}\0{self.binary_from}\0".encode())
        for task in self.tasks:
            digest.update(f"{task_line(task)}\n".encode())
            for candidate_id, grade in sorted(self.qrels.get(task.task_id, {}).items()):
                digest.update(f"{candidate_id}\0{grade}\n".encode())
        return digest.hexdigest()

    @property
    def key(self) -> str:
        """Changes with name and content."""
        return f"{self.name}:{self.sha256[:12]}"

    @cached_property
    def training(self) -> Training:
        """Read once, when the first baseline that learns asks for it."""
        return self.load_training()

    def judged(self, task: RankingTask) -> Mapping[str, float]:
        """Grades of a task's documents, from the qrels where there are any."""
        return self.qrels.get(task.task_id) or task.relevance

    def with_qrels(self, qrels: Qrels) -> "EvaluationSet":
        """The same set, judged by `qrels`. Raises DatasetError if they judge none of its tasks."""
        if not any(task.task_id in qrels for task in self.tasks):
            raise DatasetError(f"--qrels: no query of {self.name} is judged: query ids must be the task_ids")
        return replace(self, qrels=qrels)


def make_set(
    name: str,
    tasks: Iterable[RankingTask],
    *,
    source: str,
    split: str = "all",
    load_training: Callable[[], Training] = no_training,
    qrels: Qrels | None = None,
    metric: str = "mrr",
    paper_name: str | None = None,
    binary_from: float = 1.0,
    notes: Sequence[str] = (),
) -> EvaluationSet:
    """Order the tasks for sampling, and leave out those of which nothing is known.

    Raises:
        DatasetError: if no task is left, or two tasks have one id.
    """
    known, num_unjudged = {}, 0
    for task in tasks:
        if task.task_id in known:
            raise DatasetError(f"{name}: task_id: {task.task_id!r} appears twice: make ids unique")
        if task.relevant_ids or any(g > 0 for g in (qrels or {}).get(task.task_id, {}).values()):
            known[task.task_id] = task
        else:
            num_unjudged += 1
    if not known:
        raise DatasetError(f"{name}: relevance: no task has a relevant candidate: evaluation needs labels")
    return EvaluationSet(
        name=name,
        tasks=tuple(known[i] for i in sorted(known, key=_sampling_key)),
        source=source,
        split=split,
        metric=metric,
        paper_name=paper_name,
        binary_from=binary_from,
        num_unjudged=num_unjudged,
        notes=tuple(notes),
        qrels=qrels or {},
        load_training=load_training,
    )


def split_set(name: str, tasks: Sequence[RankingTask], *, source: str, split: str) -> EvaluationSet:
    """A set of tasks that have no split of their own: 80/20 by query (or by task, where there is no query)."""
    if split == "all":
        return make_set(name, tasks, source=source)
    sides: dict[str, list[RankingTask]] = {"train": [], "test": []}
    for task in tasks:
        group = query_group(task.query) or task.task_id
        sides[side_of(group, 0, TEST_SHARE)].append(task)
    return make_set(
        name,
        sides[split],
        source=source,
        split=split,
        load_training=lambda: training_of(sides["train"]) if split == "test" else Training(),
    )


def training_of(tasks: Sequence[RankingTask]) -> Training:
    """Training from tasks alone. Recommendation: a history names titles; an id is known for what was a candidate."""
    titles = {c.candidate_id: c.text for t in tasks for c in t.candidates}
    by_title: dict[str, str] = {}
    for candidate_id, title in titles.items():
        by_title.setdefault(title, candidate_id)
    sequences = []
    for task in tasks:
        if task.history:
            taken = [by_title.get(title, title) for title in task.history]
            sequences.append([*taken, *(i for i in task.candidate_ids if i in task.relevant_ids)])
            titles.update({i: i for i in taken if i not in titles})
    return Training(tasks, sequences, titles)


def _sampling_key(task_id: str) -> str:
    return hashlib.sha256(f"sample\0{task_id}".encode()).hexdigest()
