"""A training job as it runs, and the reward inspector. Both ask the studio's routes themselves; Gradio hears of buttons only."""

from typing import Any

from studio.components.view import View, text_of


class JobView(View):
    """One job. Events: stop, resume, clone, placebo, promote, undo, changed, each {id}."""

    kind = "job-view"
    emits = ("stop", "resume", "clone", "placebo", "promote", "undo", "changed")

    def preprocess(self, payload: Any) -> str | None:
        """The id of the job that is shown."""
        return text_of(payload, "job")


class RewardInspector(View):
    """A completion, every component of its reward, and what matched."""

    kind = "reward-inspector"

    def preprocess(self, payload: Any) -> None:
        return None


def job_view(job_id: str | None, stamp: int = 0) -> dict[str, Any]:
    """The value of a `JobView`; another `stamp` makes it look again."""
    return {"job": job_id, "stamp": stamp}


def reward_inspector(job_id: str | None) -> dict[str, Any]:
    """The value of a `RewardInspector`: it begins with a decision of that job, or of any dataset that has labels."""
    return {"job": job_id}
