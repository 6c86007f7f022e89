"""Readers of reasoning sets: GSM8K and MathQA."""

import re
from collections.abc import Callable, Iterator

from ranker.datasets.questions import QUESTIONS, Question, Questions
from ranker.datasets.readers.base import Reader, columns_of_file
from ranker.datasets.rows import Row, iter_rows
from ranker.datasets.sources import Source, SourceFile
from ranker.errors import DatasetError

_FINAL = "####"
_OPTION = re.compile(r"([a-e]) \) (.*?)(?=\s*, [a-e] \) |$)")
_SUFFIXES = (".jsonl", ".json", ".parquet")


def _sniff_gsm8k(source: Source) -> float:
    return 0.9 if any(_is_gsm8k(f) for f in source.with_suffix(*_SUFFIXES)) else 0.0


def _is_gsm8k(file: SourceFile) -> bool:
    return set(columns_of_file(file)) == {"question", "answer"}


def _read_gsm8k(source: Source) -> Questions:
    files = [f for f in source.with_suffix(*_SUFFIXES) if _is_gsm8k(f)]
    return Questions(questions=lambda: _numbered(files, "gsm8k", _gsm8k_question), place=source.name)


def _gsm8k_question(row: Row, question_id: str) -> Question:
    """The answer is what stands behind `####`, thousands separators dropped."""
    solution, mark, final = str(row.values.get("answer") or "").rpartition(_FINAL)
    if not mark or not final.strip():
        raise DatasetError(f"{row.place}: field 'answer': no final answer behind {_FINAL}: add it")
    text = re.sub(r"<<[^>]*>>", "", solution).strip()
    return Question(question_id, str(row.need("question")), final.strip().replace(",", ""), text, place=row.place)


def _sniff_mathqa(source: Source) -> float:
    return 1.0 if any(_is_mathqa(f) for f in source.with_suffix(*_SUFFIXES)) else 0.0


def _is_mathqa(file: SourceFile) -> bool:
    return {"Problem", "options", "correct"} <= set(columns_of_file(file))


def _read_mathqa(source: Source) -> Questions:
    files = [f for f in source.with_suffix(*_SUFFIXES) if _is_mathqa(f)]
    return Questions(questions=lambda: _numbered(files, "mathqa", _mathqa_question), place=source.name)


def _mathqa_question(row: Row, question_id: str) -> Question:
    """`options` reads `a ) 156 , b ) 167 , ...`; `correct` is a letter (an answer that is no option is left to the builder)."""
    values = row.values
    options = {letter: text.strip() for letter, text in _OPTION.findall(str(row.need("options")))}
    answer = options.get(str(row.need("correct")), "")
    rationale = str(values.get("Rationale") or "").strip('"')
    topic = str(values.get("category") or "")
    return Question(question_id, str(row.need("Problem")), answer, rationale, tuple(options.values()), topic, row.place)


def _numbered(files: list[SourceFile], name: str, make: Callable[[Row, str], Question]) -> Iterator[Question]:
    number = 0
    for file in files:
        for row in iter_rows(file):
            number += 1
            yield make(row, f"{name}-{number}")


GSM8K = Reader(
    name="gsm8k",
    summary="GSM8K: question, worked answer with the final number behind ####",
    builder=QUESTIONS,
    sniff=_sniff_gsm8k,
    read=_read_gsm8k,
)
MATHQA = Reader(
    name="mathqa",
    summary="MathQA: problem, five options, the correct letter",
    builder=QUESTIONS,
    sniff=_sniff_mathqa,
    read=_read_mathqa,
)
