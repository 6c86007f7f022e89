"""People who correct over HTTP, so that the Quality page has something to show."""

import json
from pathlib import Path
from typing import Any

import httpx

SAMPLES = Path(__file__).parents[2] / "assets/samples"
ROUTING = 3
"""The id of the third sample set."""


def correct(studio: str, dataset: str, task_id: str, author: str, order: list[list[str]], **fields: Any) -> None:
    """One person's order of one task. Sent again it takes the place of the earlier one."""
    body = {"dataset": dataset, "task_id": task_id, "author": author, "kind": "ranking", "payload": {"order": order}}
    answer = httpx.post(f"{studio}/api/corrections", json=body | fields, timeout=20, trust_env=False)
    assert answer.status_code == 201, answer.text


def correct_differently(studio: str) -> str:
    """Three people on three tasks of a sample set; two of them agree. The query of the address of the first task."""
    lines = (SAMPLES / "routing.jsonl").read_text(encoding="utf-8").splitlines()[:3]
    tasks = [json.loads(line) for line in lines]
    for task in tasks:
        ids = [candidate["candidate_id"] for candidate in task["candidates"]]
        for author, order in (("ann", ids), ("bob", ids), ("cat", [*ids[3:], *ids[:3]])):
            tiers = [*([i] for i in order[:3]), order[3:]]
            correct(studio, "routing", task["task_id"], author, tiers, duration_s=12.0, reason=f"{author} thinks so")
    return f"?dataset={ROUTING}&task={tasks[0]['task_id']}"
