"""Text that tries to become code, in every place where a task or a model can put text."""

from ranker.schema import (
    Candidate,
    Decider,
    Domain,
    EliminationStep,
    Outcome,
    RankingTask,
    RankingTrace,
    Totals,
    make_ranking,
)

_PAYLOADS = (
    "<img src=x onerror=document.body.setAttribute('pwned',1)>",
    "<script>document.body.setAttribute('pwned',2)</script>",
    "${document.body.setAttribute(/pwned/.source,3)}",
    "{{constructor.constructor('document.body.setAttribute(/pwned/.source,4)')()}}",
    "![x](http://evil.example/x.png) <a href='javascript:alert(5)'>click</a> \\underline",
    "</pre></textarea><svg onload=alert(6)> <b>bold</b> &lt;i&gt;",
)
HOSTILE = "<u>hostile</u>"
TEXT = " ".join(_PAYLOADS)


def hostile_task() -> RankingTask:
    """A task whose every text is hostile."""
    candidates = tuple(
        Candidate(
            candidate_id=f"<i>{number}</i>", text=f"{payload} {number}", metadata={"title": f"{payload} {number}"}
        )
        for number, payload in enumerate(_PAYLOADS[:4])
    )
    return RankingTask(
        task_id="<b>task</b>",
        domain=Domain.OTHER,
        query=TEXT,
        history=(TEXT, TEXT),
        candidates=candidates,
        relevance={"<i>2</i>": 1.0},
        criterion=TEXT,
    )


def hostile_trace() -> RankingTrace:
    """A finished trace of that task, by a model that writes the same."""
    task = hostile_task()
    pool = list(task.candidate_ids)
    steps = []
    for index in range(len(pool) - 1):
        share = 1 / len(pool)
        step = EliminationStep(
            step_index=index,
            pool=tuple(pool),
            excluded_id=pool[0],
            prompt=TEXT,
            reasoning=TEXT,
            answer=TEXT,
            outcome=Outcome.NOT_IN_POOL,
            decided_by=Decider.SCORE,
            probabilities=dict.fromkeys(pool, share),
            completion_tokens=3,
        )
        steps.append(step)
        pool.pop(0)
    return RankingTrace(
        task_id=task.task_id,
        model=HOSTILE,
        mode="iterative",
        prompt_version="1",
        ranking=make_ranking(steps),
        steps=tuple(steps),
        totals=Totals.of(steps),
    )
