"""The dataset doctor: one pass over the tasks of a dataset, a frozen `Report` at the end.

Memory grows by a few numbers a task (hashes, never texts), so 100,000 tasks of 20 candidates need some tens of MiB. It knows no
store: what other datasets look like comes in as `Fingerprints`.
"""

from collections.abc import Iterable, Mapping

from ranker.datasets.doctor.baselines import Baselines
from ranker.datasets.doctor.budget import CountTokens, Lengths
from ranker.datasets.doctor.labels import Labels
from ranker.datasets.doctor.overlap import Fingerprints, Overlap, fingerprint
from ranker.datasets.doctor.report import Baseline, Budget, Finding, Report, Severity
from ranker.datasets.doctor.texts import Texts
from ranker.prompts import ChatText
from ranker.schema import RankingTask

_ORDER = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2}


class Doctor:
    """Looks at tasks one by one; `report` may be asked at any time. For an import that stores while it checks."""

    def __init__(
        self,
        *,
        count_tokens: CountTokens | None = None,
        max_tokens: int | None = None,
        chat_text: ChatText | None = None,
        others: Mapping[str, Fingerprints] | None = None,
    ) -> None:
        self._labels, self._texts = Labels(), Texts()
        self._baselines, self._overlap = Baselines(), Overlap()
        self._lengths = Lengths(count_tokens, max_tokens, chat_text)
        self._others = dict(others or {})

    def add(self, task: RankingTask) -> None:
        """Look at one task."""
        for part in (self._labels, self._texts, self._baselines, self._overlap, self._lengths):
            part.add(task)

    def watch(self, tasks: Iterable[RankingTask]) -> Iterable[RankingTask]:
        """The same tasks, looked at in passing."""
        for task in tasks:
            self.add(task)
            yield task

    def fingerprints(self) -> Fingerprints:
        """To keep with the dataset, for the overlap check of later ones."""
        return self._overlap.fingerprints()

    def report(self) -> Report:
        """Everything found so far, errors first."""
        labels = self._labels
        observed, expected = labels.positions
        findings = [
            *labels.findings(),
            *self._texts.findings(),
            *self._overlap.findings(self._others),
            *self._lengths.findings(),
            *self._baselines.findings(),
        ]
        if not labels.num_tasks:
            findings.append(_empty())
        floor = self._baselines.floor
        return Report(
            num_tasks=labels.num_tasks,
            domains=dict(sorted(labels.domains.items())),
            num_with_relevance=labels.num_with_relevance,
            candidates_per_task=dict(sorted(labels.candidates_per_task.items())),
            relevant_per_task=dict(sorted(labels.relevant_per_task.items())),
            positions=observed if labels.num_with_relevance else (),
            positions_expected=expected,
            positions_p=labels.positions_p,
            random_mrr=None if floor is None else round(floor, 4),
            baselines=self._baselines.results(),
            budget=self._lengths.result(),
            findings=tuple(sorted(findings, key=lambda f: _ORDER[f.severity])),
        )


def check(
    tasks: Iterable[RankingTask],
    *,
    count_tokens: CountTokens | None = None,
    max_tokens: int | None = None,
    chat_text: ChatText | None = None,
    others: Mapping[str, Fingerprints] | None = None,
) -> Report:
    """Examine a dataset, streaming.

    Args:
        tasks: any iterable; it is read once.
        count_tokens: the chosen model's (`Backend.count_tokens`); None = characters / 4.
        max_tokens: the longest prompt that fits; None = nothing is too long.
        chat_text: the model's chat template (`Backend.chat_text`); None = a plain one.
        others: name -> fingerprints of the datasets to compare with.

    Returns:
        The report; `has_errors` says whether an import must be allowed explicitly.

    Example:
        >>> check([]).findings[0].check
        'empty'
    """
    doctor = Doctor(count_tokens=count_tokens, max_tokens=max_tokens, chat_text=chat_text, others=others)
    for task in tasks:
        doctor.add(task)
    return doctor.report()


def _empty() -> Finding:
    return Finding(
        check="empty",
        severity=Severity.ERROR,
        message="There are no tasks.",
        count=0,
        fix="Look at the counts of what was left out, and loosen the options.",
    )


__all__ = [
    "Baseline",
    "Budget",
    "Doctor",
    "Finding",
    "Fingerprints",
    "Report",
    "Severity",
    "check",
    "fingerprint",
]
