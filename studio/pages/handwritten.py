"""A task from what somebody typed: a query, a history and the candidates, one a line."""

import hashlib

from ranker.errors import UsageError
from ranker.schema import MAX_CANDIDATES, MIN_CANDIDATES, Candidate, Domain, RankingTask

MAX_LINE_CHARS = 4000
MAX_QUERY_CHARS = 20_000
MAX_HISTORY = 500


def make_task(query: str, history: str, candidates: str, domain: str, criterion: str = "") -> RankingTask:
    """The task that the fields say. The same fields give the same id.

    Raises:
        UsageError: if there is nothing to rank for, or too few or too many candidates.
    """
    wanted, seen = query.strip(), _lines(history)
    lines = _lines(candidates)
    if not wanted and not seen:
        raise UsageError("your task: query: empty: write what the candidates are to be ranked for, or a history")
    if not MIN_CANDIDATES <= len(lines) <= MAX_CANDIDATES:
        fix = f"write {MIN_CANDIDATES} to {MAX_CANDIDATES}, one a line"
        raise UsageError(f"your task: candidates: {len(lines)}: {fix}")
    if len(wanted) > MAX_QUERY_CHARS or len(seen) > MAX_HISTORY or any(len(x) > MAX_LINE_CHARS for x in lines + seen):
        raise UsageError(f"your task: text: too long: at most {MAX_LINE_CHARS} characters a line")
    twice = next((line for number, line in enumerate(lines) if line in lines[:number]), None)
    if twice is not None:
        raise UsageError(f"your task: candidates: {twice[:60]!r} appears twice: remove one")
    if domain not in set(Domain):
        raise UsageError(f"your task: domain: {domain[:40]!r}: choose one of {', '.join(Domain)}")
    parts = "\x1f".join((domain, wanted, *seen, "", *lines, criterion.strip()))
    return RankingTask(
        task_id="hand-" + hashlib.sha256(parts.encode()).hexdigest()[:8],
        domain=Domain(domain),
        query=wanted,
        history=tuple(seen),
        candidates=tuple(Candidate(candidate_id=str(number), text=line) for number, line in enumerate(lines, 1)),
        criterion=criterion.strip() or None,
    )


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]
