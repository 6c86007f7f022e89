"""Jobs side by side: what was set differently, and whether what came out differs. Knows files of jobs, no page."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ranker.statistics import compare
from trainer.jobs import Job

NUM_CHANGED: Final = 12
_NOT_SETTINGS: Final = ("data.", "name", "priority")


def most_changed(comparison: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A job's before/after with only those tasks of each set whose value or ranking changed most, the largest change first."""
    if comparison is None:
        return None
    sets = []
    for one in comparison["sets"]:
        changed = [t for t in one["tasks"] if t["moved"]]
        changed.sort(key=lambda t: (-abs(t["after"] - t["before"]), -t["moved"]))
        sets.append({**one, "tasks": changed[:NUM_CHANGED], "num_moved": len(changed)})
    return {**comparison, "sets": sets}


def compare_jobs(left: Job, right: Job) -> dict[str, Any]:
    """Two jobs: differing settings, last metrics, and for each set that both ranked the paired difference left - right."""
    return {
        "jobs": [_brief(left), _brief(right)],
        "settings": _differences(left, right),
        "sets": _paired(left.comparison(), right.comparison()),
        "metrics": [_last_metrics(left), _last_metrics(right)],
    }


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(`optimizer.max_steps`, 40) and so on."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _brief(job: Job) -> dict[str, Any]:
    status = job.written_status()
    return {"job_id": job.job_id, "name": status.name or status.kind, "kind": status.kind}


def _differences(left: Job, right: Job) -> list[dict[str, Any]]:
    one, other = (dict(flatten(job.config().model_dump(mode="json"))) for job in (left, right))
    names = [n for n in dict.fromkeys([*one, *other]) if not n.startswith(_NOT_SETTINGS)]
    return [{"name": n, "left": one.get(n), "right": other.get(n)} for n in names if one.get(n) != other.get(n)]


def _paired(left: Mapping[str, Any] | None, right: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    found = []
    others = {(s["name"], s["metric"]): s for s in (right or {}).get("sets", ())}
    for one in (left or {}).get("sets", ()):
        other = others.get((one["name"], one["metric"]))
        if other is None:
            continue
        values = {t["task_id"]: t["after"] for t in other["tasks"]}
        pairs = [(t["after"], values[t["task_id"]]) for t in one["tasks"] if t["task_id"] in values]
        if pairs:
            difference = compare([a for a, _ in pairs], [b for _, b in pairs])
            found.append(
                {
                    "name": one["name"],
                    "metric": one["metric"],
                    "floor": one["floor"],
                    "left": one["after"],
                    "right": other["after"],
                    "difference": difference._asdict(),
                }
            )
    return found


def _last_metrics(job: Job) -> dict[str, Any]:
    last: dict[str, Any] = {}
    for row in job.metrics():
        last = row
    return last
