"""Reasoning sets (GSM8K, MathQA): questions with a known answer, and their form as ranking tasks.

`Questions` is what evaluation reads to see whether training transfers. As tasks, the candidates are answers: MathQA's own
options, or (GSM8K has none) the right number among wrong ones: intermediate results of its own solution first, which are
what a careless reader would answer, then answers of other questions of about the same size. Ours.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import Field

from ranker.datasets.building import Builder, BuildOptions, Built, Tally, group_random, query_group, shuffled
from ranker.datasets.taskrows import make_task

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
CRITERION = "the correct answer to the question"


class Question(NamedTuple):
    """A question with a checkable answer."""

    question_id: str
    question: str
    answer: str
    """The final answer alone; one of `options` where there are any."""
    solution: str = ""
    options: Sequence[str] = ()
    topic: str = ""
    place: str = ""


@dataclass(frozen=True, kw_only=True)
class Questions:
    """Raw reasoning data; `questions` may be called again."""

    questions: Callable[[], Iterator[Question]]
    place: str = "questions"


class QuestionOptions(BuildOptions):
    """How a question becomes a ranking task."""

    num_options: int = Field(5, ge=2, le=20)
    """Answers to choose from, where the source has no options of its own."""


def build_questions(raw: Questions, options: QuestionOptions, tally: Tally) -> Iterator[Built]:
    """One task a question: which of these is the answer?"""
    pool = _answer_pool(raw)
    for question in raw.questions():
        tally.add("questions_read")
        answers = _options(question, pool, options)
        if question.answer not in answers or len(answers) < 2:
            tally.add("questions_left_out_answer_not_an_option")
            continue
        rng = group_random(options.seed, "order", question.question_id)
        order = list(answers) if question.options else shuffled(answers, rng)
        candidates = [{"candidate_id": str(i), "text": text} for i, text in enumerate(order, start=1)]
        values = {
            "task_id": question.question_id,
            "domain": "other",
            "query": question.question,
            "candidates": candidates,
            "relevance": {str(order.index(question.answer) + 1): 1},
            "criterion": CRITERION,
        }
        yield Built(query_group(question.question), make_task(values, question.place or raw.place))


def _answer_pool(raw: Questions) -> list[tuple[float, str]]:
    """All numeric answers in order of size, for questions without options."""
    values = {q.answer for q in raw.questions() if not q.options and _NUMBER.fullmatch(q.answer)}
    return sorted((float(v), v) for v in values)


def _options(question: Question, pool: list[tuple[float, str]], options: QuestionOptions) -> Sequence[str]:
    if question.options:
        return list(dict.fromkeys(question.options))
    chosen = {question.answer: None}
    for number in reversed(_NUMBER.findall(question.solution.replace(",", ""))):
        if len(chosen) < options.num_options and float(number) != _value(question.answer):
            chosen.setdefault(number, None)
    middle = bisect_left(pool, (_value(question.answer), ""))
    for distance in range(1, len(pool)):
        for position in (middle - distance, middle + distance):
            if len(chosen) < options.num_options and 0 <= position < len(pool):
                chosen.setdefault(pool[position][1], None)
        if len(chosen) >= options.num_options:
            break
    return list(chosen)


def _value(answer: str) -> float:
    return float(answer) if _NUMBER.fullmatch(answer) else 0.0


QUESTIONS = Builder(name="questions", group="query", options=QuestionOptions, build=build_questions)
