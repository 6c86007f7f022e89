"""The only parser: from a completion to the candidates that it names, or to the reason why it names none.

A completion begins inside the thought, because the prompt ends with `<think>`. An answer counts if it is, after normalising
case, space and quotation marks, exactly a label of the pool (`3` or `[3]`), a label followed by words, or the full title or
text of one candidate. Nothing is matched by substring or likeness: the reference took "passage 1" out of "passage 10" and
repaired the rest by TF-IDF without a trace (paper notes, fault 2).
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from ranker.prompts import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE
from ranker.schema import Candidate, Outcome

_ANSWER = re.compile(re.escape(ANSWER_OPEN) + r"(.*?)" + re.escape(ANSWER_CLOSE), re.DOTALL)
_LABELLED = re.compile(r"^\[(\d{1,4})\]\s*(.*)$", re.DOTALL)
_ANY_LABEL = re.compile(r"\[(\d{1,4})\]")
_QUOTES = "\"'`“”‘’*_ \t\n."


class Exclusion(NamedTuple):
    """What a completion says in one step of elimination. `candidate_id` is set if and only if `outcome` is `parsed`."""

    outcome: Outcome
    candidate_id: str | None
    reasoning: str
    answer: str


class Order(NamedTuple):
    """What a completion says as a whole order. `candidate_ids`: those that were named validly, best first, once each."""

    outcome: Outcome
    candidate_ids: tuple[str, ...]
    reasoning: str
    answer: str


def parse_exclusion(completion: str, pool: Sequence[Candidate]) -> Exclusion:
    """Find the one candidate of `pool` that the completion excludes."""
    reasoning, answers = _split(completion)
    distinct = list(dict.fromkeys(a for a in answers if a))
    if not distinct:
        return Exclusion(Outcome.NO_ANSWER, None, reasoning, "")
    answer = "\n".join(distinct)
    named = {i for a in distinct for i in _named_positions(a, pool)}
    if len(named) > 1:
        return Exclusion(Outcome.SEVERAL_ANSWERS, None, reasoning, answer)
    if not named or max(named) >= len(pool) or min(named) < 0:
        return Exclusion(Outcome.NOT_IN_POOL, None, reasoning, answer)
    return Exclusion(Outcome.PARSED, pool[named.pop()].candidate_id, reasoning, answer)


def parse_order(completion: str, pool: Sequence[Candidate]) -> Order:
    """Read a whole order. `parsed` needs every candidate of `pool` exactly once; else the worst fault is the outcome:

    an item that is not in the pool, an item named twice or an item that fits several, a candidate left out (`no_answer`).
    """
    reasoning, answers = _split(completion)
    answer = answers[-1] if answers else ""
    order: list[int] = []
    faults: set[Outcome] = set()
    for item in _items(answer):
        named = _named_positions(item, pool)
        if len(named) > 1 or named & set(order):
            faults.add(Outcome.SEVERAL_ANSWERS)
        elif not named or not 0 <= min(named) < len(pool):
            faults.add(Outcome.NOT_IN_POOL)
        else:
            order.extend(named)
    if len(order) < len(pool):
        faults.add(Outcome.NO_ANSWER)
    worst_first = (Outcome.NOT_IN_POOL, Outcome.SEVERAL_ANSWERS, Outcome.NO_ANSWER)
    outcome = next((f for f in worst_first if f in faults), Outcome.PARSED)
    return Order(outcome, tuple(pool[i].candidate_id for i in order), reasoning, answer)


def split_reasoning(completion: str) -> str:
    """The thought alone: up to `</think>`, else up to `<answer>`, else all of it."""
    for mark in (THINK_CLOSE, ANSWER_OPEN):
        if mark in completion:
            return completion.split(mark, 1)[0].strip()
    return completion.strip()


def _split(completion: str) -> tuple[str, list[str]]:
    """The thought, and the contents of the closed answer blocks behind it."""
    behind = completion.split(THINK_CLOSE, 1)[-1]
    return split_reasoning(completion), [found.strip() for found in _ANSWER.findall(behind)]


def _items(answer: str) -> list[str]:
    """The items of an order: `[2] > [1]`, or one item a line."""
    parts = answer.split(">") if ">" in answer else answer.split("\n")
    return [p.strip() for p in parts if p.strip()]


def _named_positions(answer: str, pool: Sequence[Candidate]) -> set[int]:
    """Positions (0-based) that `answer` names: several if it is ambiguous, one beyond `pool` for a label that is not there."""
    wanted = _normalise(answer)
    named = {i for i, c in enumerate(pool) if wanted in (_normalise(c.title), _normalise(c.text))}
    labelled = _LABELLED.match(answer.strip().strip(_QUOTES))
    if labelled:
        rest = _normalise(labelled[2].strip(" :-"))
        named |= {int(n) - 1 for n in _ANY_LABEL.findall(answer)}
        titled = {i for i, c in enumerate(pool) if rest and rest == _normalise(c.title)}
        named |= set() if named & titled else titled  # a label and the title of another candidate contradict each other
    elif wanted.isascii() and wanted.isdecimal() and 1 <= int(wanted) <= len(pool):
        named.add(int(wanted) - 1)
    elif "\n" in answer and not named:
        lines = [_named_positions(line, pool) for line in answer.split("\n") if line.strip()]
        named |= set().union(*lines) if all(lines) else set()
    return named


def _normalise(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.split()).strip(_QUOTES)
