"""What the dataset doctor says of a dataset: a count by severity, then each finding with examples and a fix, all of it text."""

from typing import Any, NamedTuple

from ranker.datasets import Report
from studio.components.view import View, text_of


class Examined(NamedTuple):
    """Which dataset is shown, and the work that looks at it now, as the browser says."""

    dataset: str | None
    token: str | None


class DoctorReport(View):
    """The report. Events: check {}, cancel {}."""

    kind = "doctor-report"
    emits = ("check", "cancel")

    def preprocess(self, payload: Any) -> Examined:
        return Examined(text_of(payload, "dataset"), text_of(payload, "token"))


def findings_of(report: Report) -> list[dict[str, Any]]:
    """The findings as the browser draws them."""
    return [finding.model_dump(mode="json") for finding in report.findings]


def report_shown(dataset: str, report: Report, *, words: str) -> dict[str, Any]:
    """The value of a `DoctorReport` with a report.

    Args:
        dataset: its id.
        report: what the doctor found.
        words: when and against what it was looked at.
    """
    return {"state": "ready", "dataset": dataset, "words": words, "findings": findings_of(report)}


def no_report(dataset: str) -> dict[str, Any]:
    """Nobody has looked at the dataset yet."""
    return {"state": "empty", "dataset": dataset, "words": "The doctor has not looked at this dataset yet."}


def report_awaited(dataset: str, token: str, number: int, total: int) -> dict[str, Any]:
    """The doctor is at it: `number` of `total` tasks."""
    return {
        "state": "checking",
        "dataset": dataset,
        "token": token,
        "words": f"{number:,} of {total:,} tasks looked at",
    }


def report_failed(dataset: str, words: str) -> dict[str, Any]:
    """The check did not come to an end."""
    return {"state": "failed", "dataset": dataset, "words": words}
