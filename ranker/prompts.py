"""The only prompt renderer: what a model reads in every mode, in training and in evaluation.

Labels (`[1]`, `[2]`, ...) are local to one prompt and follow the order of the pool; candidate ids are never shown. Everything
that stays the same over the steps of a task comes first and forms the prompt's shared prefix. Any change of a byte here is a
new version of the prompts that it is in. This module does not know chat templates: a backend wraps the two messages
(`Backend.chat_text`).
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from ranker.backends.base import Prompt
from ranker.schema import Ask, Candidate, Domain, RankingTask

PROMPT_VERSION: Final = "elimination-1"
BLOCK_VERSION: Final = "elimination-5"
"""Of `render_fixed_exclusion`: this prompt has changed since."""
ADAPTIVE_VERSION: Final = "elimination-6"
"""Of what mode `adaptive` asks with it."""
THOUGHTS_VERSION: Final = "thoughts-1"
"""Of the section that a thought bank puts in front; written behind `PROMPT_VERSION`, with a plus."""
PROBLEM_VERSION: Final = "reasoning-1"
"""Of the prompts of reasoning transfer, which rank nothing."""

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"
YES, NO = "Yes", "No"

ChatText = Callable[[str, str], str]
"""(system, user) -> the text up to where the assistant writes, as `Backend.chat_text` makes it."""

_BOUNDARY: Final = "\ue000"  # private-use character that marks where the shared part ends; removed from all task text

_SYSTEM = "You rank candidates. Think briefly about the candidates before you answer, and keep to the answer format."

_SOLVER = "You solve problems."

_INTRODUCTION = {
    Domain.RECOMMENDATION: "A person chose these items, oldest first. Which candidate would they choose next?",
    Domain.ROUTING: "A question has to be sent to one of several language models.",
    Domain.PASSAGE: "Somebody searches for a passage that answers a question.",
    Domain.OTHER: "Candidates have to be ranked for a query.",
}
_CRITERION = {
    Domain.RECOMMENDATION: "the item that this person would choose next",
    Domain.ROUTING: "the model that answers this question well for the least money",
    Domain.PASSAGE: "the passage that answers the question",
    Domain.OTHER: "the candidate that fits the query best",
}
_QUERY_NAME = {
    Domain.RECOMMENDATION: "Request",
    Domain.ROUTING: "Question",
    Domain.PASSAGE: "Question",
    Domain.OTHER: "Query",
}
_LIKELIHOOD_OPENING = {
    Domain.RECOMMENDATION: "One person chose, in this order:",
    Domain.ROUTING: "The best language model for a question.",
    Domain.OTHER: "The best candidate for a query.",
}
LIKELIHOOD_WORDS: Final = 96
"""Words of a query or passage that the likelihood prompts show; of longer ones the first three quarters and the end."""
_JUDGEMENT_OPENING = "I compare the candidate with what is asked for.\n" + THINK_OPEN
_EXCLUSION_OPENING = "I compare the candidates and look for the one that fits least.\n" + THINK_OPEN
_ORDER_OPENING = "I compare the candidates and look for the one that fits best.\n" + THINK_OPEN
_FORMAT = (
    f"Think between {THINK_OPEN} and {THINK_CLOSE}. Then write the name or the number of only that candidate between "
    f"{ANSWER_OPEN} and {ANSWER_CLOSE}."
)
_ASKED = {Ask.WORST: ("least", _EXCLUSION_OPENING), Ask.BEST: ("most", _ORDER_OPENING)}


class Likelihood(NamedTuple):
    """A text of which every continuation is as likely as its candidate is good."""

    prompt: Prompt
    continuations: tuple[str, ...]
    candidate_ids: tuple[str, ...]
    """One for each continuation."""
    header: str
    """The beginning of the prompt that nobody learns to write: instructions, and in passage ranking the passage."""


def label_of(position: int) -> str:
    """The label of the candidate at `position` (0-based) of the pool: `[1]`, `[2]`, ..."""
    return f"[{position + 1}]"


def render_exclusion(
    task: RankingTask, pool: Sequence[Candidate], chat_text: ChatText, *, ask: Ask = Ask.WORST
) -> Prompt:
    """Ask for the one candidate of `pool` to exclude next (or for the best); the assistant turn is opened up to `<think>`.

    Source: the paper, section 3 (iterative prompt); the wording is ours, and the number of candidates is the pool's.
    """
    return _render(task, pool, f"{_question(task, ask)}\n{_FORMAT}", _ASKED[ask][1], chat_text)


def render_order(task: RankingTask, pool: Sequence[Candidate], chat_text: ChatText) -> Prompt:
    """Ask for the whole order of `pool` in one answer, best first (mode `direct`). Source: the paper, section 3."""
    question = (
        f"Order all {len(pool)} candidates by how likely each is to be {_criterion(task)}, the most likely first.\n"
        f"Think between {THINK_OPEN} and {THINK_CLOSE}. Then write the numbers of all candidates between {ANSWER_OPEN} and "
        f"{ANSWER_CLOSE}, such as [2] > [1]."
    )
    return _render(task, pool, question, _ORDER_OPENING, chat_text)


def render_choice(task: RankingTask, pool: Sequence[Candidate], chat_text: ChatText) -> Prompt:
    """Ask for the number of the one best candidate (mode `first-token`). Ours."""
    question = (
        f"Which candidate is the most likely to be {_criterion(task)}?\n"
        f"Write the number of only that candidate between {ANSWER_OPEN} and {ANSWER_CLOSE}."
    )
    return _render(task, pool, question, _ORDER_OPENING, chat_text)


def render_judgement(task: RankingTask, candidate: Candidate, chat_text: ChatText) -> Prompt:
    """Ask whether one candidate, shown alone, is the best one, yes or no (evaluation method `pointwise`). Ours."""
    question = f"Is this candidate {_criterion(task)}?\nWrite {YES} or {NO} between {ANSWER_OPEN} and {ANSWER_CLOSE}."
    rest = f"Candidate: {_candidate_line(candidate)}\n\n{question}"
    return _assemble(_shared(task) + "\n\n", rest, _JUDGEMENT_OPENING, chat_text)


def problem_text(question: str, *, has_options: bool) -> str:
    """A problem of GSM8K or MathQA (`ranker.reasoning`), zero-shot; options are scored, not shown. Ours."""
    how = "" if has_options else "Think step by step, then write the answer as a number at the end.\n"
    return f"Question: {_clean(question)}\n{how}"


def render_problem(text: str, chat_text: ChatText) -> Prompt:
    """The prompt of a `problem_text`."""
    return Prompt("", chat_text(_SOLVER, text))


def with_thoughts(chat_text: ChatText, thoughts: Sequence[tuple[str, str]]) -> ChatText:
    """A chat template that shows (query, reasoning) of similar cases ahead of every message (the thought bank).

    They are the same over all steps of a task and so belong to the prefix. What is shown is text of other tasks and models:
    it is put on one line each, and tags of the answer format are taken out. Changes `THOUGHTS_VERSION`, not the other prompts.
    Source: the paper, IRanker-CoT; the wording is ours.
    """
    if not thoughts:
        return chat_text
    lines = ["Examples of how similar requests were thought about:"]
    for query, reasoning in thoughts:
        lines.append(f"- Request: {_one_line(_without_tags(query))}\n  Thought: {_one_line(_without_tags(reasoning))}")
    section = "\n".join(lines) + "\n\nNow the request at hand.\n"
    return lambda system, user: chat_text(system, section + user)


def render_fixed_exclusion(
    task: RankingTask,
    candidates: Sequence[Candidate],
    pool: Sequence[Candidate],
    chat_text: ChatText,
    *,
    ask: Ask = Ask.WORST,
) -> Prompt:
    """Ask for the one candidate of `pool` to exclude next (or for the best), with all `candidates` printed once.

    The candidates keep their labels over all steps. They, the question and the answer format belong to the prefix, so that a step
    costs only its suffix: where somebody is gone, the labels of `pool` in the order of `candidates`. Ours.
    """
    in_play = {c.candidate_id for c in pool}
    labels = " ".join(label_of(i) for i, c in enumerate(candidates) if c.candidate_id in in_play)
    state = f"Still in play ({len(pool)}): {labels}" if len(pool) < len(candidates) else "All are still in play."
    question = f"Of the candidates still in play, which is the {_ASKED[ask][0]} likely to be {_criterion(task)}?"
    block = "\n".join([_candidate_block(candidates), "", question, _FORMAT, ""])
    return _assemble(_shared(task) + "\n\n", block + _BOUNDARY + state, _ASKED[ask][1], chat_text)


def render_likelihoods(task: RankingTask, pool: Sequence[Candidate]) -> tuple[Likelihood, ...]:
    """Plain texts whose likelihood ranks `pool` without naming it: log P(title | what is asked), or for passages
    log P(question | passage).

    No chat template and no list of candidates: a small language model knows what follows what long before it can follow
    instructions, and the same text teaches it densely (every title of a history is an example). Which way round the
    likelihood is taken follows the domain; in passage ranking it is the query likelihood of Ponte and Croft 1998. Ours.

    Returns:
        One text whose continuations are all titles, or for passages a text for each candidate.
    """
    if task.domain is Domain.PASSAGE:
        question = f" {_shorten(task.query)}\n"
        headers = [f"Passage: {_shorten(c.text)}\n" for c in pool]
        return tuple(
            Likelihood(Prompt(header, "Question:"), (question,), (c.candidate_id,), header + "Question:")
            for header, c in zip(headers, pool, strict=True)
        )
    header = f"{_LIKELIHOOD_OPENING[task.domain]}\n"
    if task.query.strip():
        header += f"{_QUERY_NAME[task.domain]}: {_shorten(task.query)}\n"
    if task.criterion:
        header += f"Wanted: {_clean(task.criterion)}\n"
    history = "".join(f"- {_one_line(item)}\n" for item in task.history)
    titles = tuple(f" {_clean(c.title)}\n" for c in pool)
    return (Likelihood(Prompt(header + history, "-"), titles, tuple(c.candidate_id for c in pool), header),)


def close_thought(prompt: Prompt, completion: str) -> Prompt:
    """The prompt behind a thought, closed where the model did not, up to where the answer would be written.

    Prompt and thought become the prefix as they were generated, so that a backend can go on from what it has computed.
    """
    thought, mark, _ = completion.partition(THINK_CLOSE)
    closing = f"\n{ANSWER_OPEN}" if mark else f"\n{THINK_CLOSE}\n{ANSWER_OPEN}"
    if not completion:
        return prompt.extended(closing)
    return Prompt(prompt.text + thought + mark, closing, prompt.head or len(prompt.prefix))


def _criterion(task: RankingTask) -> str:
    return _clean(task.criterion) if task.criterion else _CRITERION[task.domain]


def _question(task: RankingTask, ask: Ask) -> str:
    return f"Which candidate is the {_ASKED[ask][0]} likely to be {_criterion(task)}?"


def _render(task: RankingTask, pool: Sequence[Candidate], question: str, opening: str, chat_text: ChatText) -> Prompt:
    return _assemble(_shared(task) + "\n\n", f"{_candidate_block(pool)}\n\n{question}", opening, chat_text)


def _assemble(shared: str, rest: str, opening: str, chat_text: ChatText) -> Prompt:
    """Wrap the user message in the chat template, and cut the result where the shared part ends, and behind a head of it."""
    *heads, prefix, suffix = chat_text(_SYSTEM, shared + _BOUNDARY + rest).split(_BOUNDARY)
    return Prompt("".join([*heads, prefix]), suffix + opening, sum(map(len, heads)))


def _shared(task: RankingTask) -> str:
    """What is the same for every pool of the task."""
    lines = [_INTRODUCTION[task.domain], *(f"- {_one_line(item)}" for item in task.history)]
    if task.query.strip():
        lines.append(f"{_QUERY_NAME[task.domain]}: {_clean(task.query).strip()}")
    return "\n".join(lines)


def _candidate_block(candidates: Sequence[Candidate]) -> str:
    lines = [f"{label_of(i)} {_candidate_line(c)}" for i, c in enumerate(candidates)]
    return "\n".join([f"Candidates ({len(candidates)}):", *lines])


def _candidate_line(candidate: Candidate) -> str:
    """The text on one line, led by the title where the text does not hold it."""
    text, title = _one_line(candidate.text), _clean(candidate.title)
    is_own_title = isinstance(candidate.metadata.get("title"), str) and title not in text
    return f"{title}: {text}" if is_own_title else text


def _shorten(text: str) -> str:
    words = _clean(text).split()
    if len(words) <= LIKELIHOOD_WORDS:
        return " ".join(words)
    first = LIKELIHOOD_WORDS * 3 // 4
    return " ".join([*words[:first], "...", *words[first - LIKELIHOOD_WORDS :]])


def _without_tags(text: str) -> str:
    for tag in (THINK_OPEN, THINK_CLOSE, ANSWER_OPEN, ANSWER_CLOSE):
        text = text.replace(tag, " ")
    return text


def _one_line(text: str) -> str:
    return " ".join(_clean(text).split())


def _clean(text: str) -> str:
    return text.replace(_BOUNDARY, "")
