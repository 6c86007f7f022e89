"""Does training for ranking help or hurt elsewhere? GSM8K and MathQA, through EleutherAI's `lm-eval` (extra `reasoning`).

    mathqa   the option with the highest log-likelihood                     accuracy, floor 1 / number of options
    gsm8k    a written solution within a budget; its last number counts     exact match, floor 0

`lm-eval` runs the tasks and asks; the answers come through our `Backend`, so every engine can be measured, and the questions
come from files that the user has: nothing is downloaded. Zero-shot, within the model's chat template. Intervals and paired
tests are those of the rest of the project. It does not know the registry of models.

Source: Cobbe et al. 2021 (GSM8K), Amini et al. 2019 (MathQA), Gao et al. (lm-eval). Ours: the zero-shot wording.
"""

import asyncio
import hashlib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from pydantic import ValidationError

from ranker.backends.base import Backend, GenerateRequest, ScoreRequest
from ranker.datasets import open_source
from ranker.datasets.questions import Question, Questions
from ranker.datasets.readers.base import Reader
from ranker.datasets.readers.reasoning_files import GSM8K, MATHQA
from ranker.errors import BackendError, DatasetError
from ranker.prompts import PROBLEM_VERSION, problem_text, render_problem
from ranker.schema import Record
from ranker.statistics import bootstrap_interval, compare

FORMAT: Final = "ranking-studio-reasoning-1"
ANSWER_TOKENS: Final = 256
"""Budget of a written solution."""
_NUMBER: Final = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_READERS: Final[Mapping[str, Reader[Questions]]] = {"gsm8k": GSM8K, "mathqa": MATHQA}
SETS: Final = tuple(_READERS)
_STOPS: Final = ("\nQuestion:",)
_MAX_IN_FLIGHT: Final = 16


class Accuracy(Record):
    """One model on one set."""

    set_name: str
    model: str
    model_sha256: str | None = None
    prompt_version: str = PROBLEM_VERSION
    n: int
    accuracy: float
    low: float
    high: float
    """Ends of the 95% bootstrap interval, by question."""
    floor: float
    """Expected accuracy of guessing."""
    answered: float
    """Share of answers in which there was a number (`mathqa`: always 1)."""
    answer_tokens: int
    sha256: str
    """Of the questions that were asked."""
    question_ids: tuple[str, ...]
    values: tuple[float, ...]
    """1 = right, in the order of `question_ids`."""


class Transfer(Record):
    """A model against the first one of the file on the same questions."""

    set_name: str
    a: str
    b: str
    n: int
    difference: float
    low: float
    high: float
    p_value: float


class ReasoningResults(Record):
    """A whole file."""

    format: Literal["ranking-studio-reasoning-1"] = FORMAT
    command: str
    lm_eval: str
    """Version of the library."""
    rows: tuple[Accuracy, ...] = ()
    transfers: tuple[Transfer, ...] = ()

    def with_row(self, row: Accuracy) -> "ReasoningResults":
        """The row in its place, and the comparisons made anew."""
        rows = [r for r in self.rows if (r.set_name, r.model) != (row.set_name, row.model)]
        rows.append(row)
        return self.model_copy(update={"rows": tuple(rows), "transfers": tuple(_transfers(rows))})


class _Spent(NamedTuple):
    """What came back for one question."""

    is_right: float
    is_answered: float


def read_questions(name: str, directory: Path, limit: int | None = None) -> list[Question]:
    """The questions of a set in an order that hangs on their ids alone; a smaller limit takes a part of a larger one.

    Args:
        name: of `SETS`.
        directory: holds the files, or a folder `NAME` or `reasoning/NAME` that does.
        limit: how many.

    Raises:
        DatasetError: if the files are not there or cannot be read.
    """
    folder = next((d for d in (directory / name, directory / "reasoning" / name) if d.is_dir()), directory)
    source = open_source(folder)
    reader = _READERS[name]
    if reader.sniff(source) == 0:
        raise DatasetError(f"--from: {folder}: no file of {name} is here: name the folder that has it")
    raw = reader.read(source)
    assert isinstance(raw, Questions), "readers of reasoning sets read questions"
    usable = [q for q in raw.questions() if q.answer and (not q.options or q.answer in q.options)]
    return sorted(usable, key=lambda q: hashlib.sha256(f"sample\0{q.question_id}".encode()).hexdigest())[:limit]


def questions_sha256(questions: Sequence[Question]) -> str:
    """Of what is asked and what counts as right."""
    text = "".join(f"{q.question_id}\0{q.question}\0{q.answer}\0{chr(1).join(q.options)}\n" for q in questions)
    return hashlib.sha256(text.encode()).hexdigest()


def measure_reasoning(
    name: str,
    questions: Sequence[Question],
    backend: Backend,
    *,
    model_sha256: str | None = None,
    answer_tokens: int = ANSWER_TOKENS,
    report: Callable[[float], None] | None = None,
) -> Accuracy:
    """Ask all questions through `lm-eval`. Not to be called where an event loop runs.

    Raises:
        BackendError: if `lm-eval` is not installed, or the model fails.
    """
    import_lm_eval()
    from lm_eval.evaluator import evaluate

    model = _make_model(backend, answer_tokens, report or (lambda share: None))
    found = evaluate(model, {name: _make_task(name, questions)}, log_samples=True, bootstrap_iters=0)
    samples = {s["doc"]["question_id"]: _Spent(s["acc"], s["answered"]) for s in found["samples"][name]}
    values = [float(samples[q.question_id].is_right) for q in questions]
    interval = bootstrap_interval(values)
    return Accuracy(
        set_name=name,
        model=backend.name,
        model_sha256=model_sha256,
        n=len(values),
        accuracy=round(interval.mean, 5),
        low=round(interval.low, 5),
        high=round(interval.high, 5),
        floor=round(sum(1 / len(q.options) if q.options else 0.0 for q in questions) / len(questions), 5),
        answered=round(sum(float(s.is_answered) for s in samples.values()) / len(samples), 5),
        answer_tokens=0 if questions[0].options else answer_tokens,
        sha256=questions_sha256(questions),
        question_ids=tuple(q.question_id for q in questions),
        values=tuple(values),
    )


def import_lm_eval() -> str:
    """Returns its version. Raises BackendError if the extra is not installed."""
    try:
        import lm_eval  # noqa: F401
    except ImportError as error:
        raise BackendError("reasoning: lm-eval: is not installed: pip install -e '.[reasoning]'") from error
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return version("lm-eval")


def read_reasoning(path: Path) -> ReasoningResults:
    """Raises DatasetError if the file is not one of ours."""
    try:
        return ReasoningResults.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "file"
        raise DatasetError(f"{path}: {place}: {first['msg']}: choose another --out") from error


def to_markdown(results: ReasoningResults) -> str:
    """Tables for a reader."""
    lines = [
        "# Reasoning transfer",
        "",
        "Accuracy x 100 with 95% bootstrap intervals by question; zero-shot, in the model's chat template. *floor*: guessing. "
        "*answered*: share of answers with a number in them.",
        "",
        "| set | model | n | accuracy [95%] | floor | answered % | answer tokens | weights |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {r.set_name} | {r.model} | {r.n} | {100 * r.accuracy:.1f} [{100 * r.low:.1f}, {100 * r.high:.1f}] | {100 * r.floor:.1f} | "
        f"{100 * r.answered:.0f} | {r.answer_tokens or '-'} | {(r.model_sha256 or 'unknown')[:16]} |"
        for r in results.rows
    ]
    if results.transfers:
        lines += ["", "| set | a | b | n | a - b [95%] | p |", "| --- | --- | --- | --- | --- | --- |"]
        lines += [
            f"| {t.set_name} | {t.a} | {t.b} | {t.n} | {100 * t.difference:+.1f} [{100 * t.low:+.1f}, {100 * t.high:+.1f}] | {t.p_value:.3f} |"
            for t in results.transfers
        ]
    return "\n".join([*lines, "", f"lm-eval {results.lm_eval}. Made by `{results.command}`", ""])


def _transfers(rows: Sequence[Accuracy]) -> list[Transfer]:
    """Every model against the first, on the questions that both answered."""
    found = []
    for name in dict.fromkeys(r.set_name for r in rows):
        first, *others = (r for r in rows if r.set_name == name)
        known = dict(zip(first.question_ids, first.values, strict=True))
        for row in others:
            pairs = [(v, known[q]) for q, v in zip(row.question_ids, row.values, strict=True) if q in known]
            if len(pairs) < 5:
                continue
            test = compare([a for a, _ in pairs], [b for _, b in pairs])
            numbers = {"difference": test.difference, "low": test.low, "high": test.high, "p_value": test.p_value}
            rounded = {field: round(number, 6) for field, number in numbers.items()}
            found.append(Transfer(set_name=name, a=row.model, b=first.model, n=len(pairs), **rounded))
    return found


def last_number(text: str) -> str | None:
    """The last number of a written solution, as an answer is written: without thousands separators or trailing zeros."""
    numbers = _NUMBER.findall(text)
    return _plain(numbers[-1]) if numbers else None


def _plain(number: str) -> str:
    number = number.replace(",", "").rstrip(".")
    return (number.rstrip("0").rstrip(".") if "." in number else number) or "0"


def _make_task(name: str, questions: Sequence[Question]) -> Any:
    """A task of `lm-eval` over questions that are here already."""
    import datasets
    from lm_eval.api.task import ConfigurableTask

    docs = datasets.Dataset.from_list([{**q._asdict(), "options": list(q.options)} for q in questions])
    is_choice = bool(questions[0].options)
    config: dict[str, Any] = {
        "task": name,
        "custom_dataset": lambda **_: datasets.DatasetDict({"test": docs}),
        "test_split": "test",
        "doc_to_text": lambda doc: problem_text(doc["question"], has_options=is_choice),
        "target_delimiter": "",
        "num_fewshot": 0,
        "metric_list": [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in ("acc", "answered")],
    }
    if is_choice:
        config |= {
            "output_type": "multiple_choice",
            "doc_to_choice": lambda doc: doc["options"],
            "doc_to_target": lambda doc: doc["options"].index(doc["answer"]),
            "process_results": _judge_choice,
        }
    else:
        config |= {
            "output_type": "generate_until",
            "doc_to_target": "{{answer}}",
            "generation_kwargs": {"until": list(_STOPS), "do_sample": False},
            "process_results": _judge_number,
        }
    return ConfigurableTask(config=config)


def _judge_choice(doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    best = max(range(len(results)), key=lambda i: results[i][0])
    return {"acc": float(doc["options"][best] == doc["answer"]), "answered": 1.0}


def _judge_number(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    number = last_number(results[0])
    return {"acc": float(number == _plain(doc["answer"])), "answered": float(number is not None)}


def _make_model(backend: Backend, answer_tokens: int, report: Callable[[float], None]) -> Any:
    """Our seam as a model of `lm-eval`. The class is made here, as its base needs the extra."""
    from lm_eval.api.model import LM

    class BackendModel(LM):  # type: ignore[misc]
        def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
            """All continuations of one context in one call; whether they are greedy is not looked at."""
            contexts: dict[str, list[int]] = {}
            for index, request in enumerate(requests):
                contexts.setdefault(request.args[0], []).append(index)
            found: list[tuple[float, bool]] = [(0.0, False)] * len(requests)

            async def score(context: str) -> None:
                indices = contexts[context]
                answers = tuple(requests[i].args[1] for i in indices)
                scores = await backend.score(
                    ScoreRequest(prompt=render_problem(context, backend.chat_text), continuations=answers)
                )
                for i, log_prob in zip(indices, scores.log_probs, strict=True):
                    found[i] = (log_prob, False)

            asyncio.run(_all([partial(score, context) for context in contexts], report))
            return found

        def generate_until(self, requests: Sequence[Any]) -> list[str]:
            found = [""] * len(requests)

            async def write(index: int) -> None:
                context, options = requests[index].args
                request = GenerateRequest(
                    prompt=render_problem(context, backend.chat_text),
                    max_tokens=answer_tokens,
                    stop=tuple(options["until"]),
                )
                async for chunk in backend.generate(request):
                    found[index] += chunk.text

            asyncio.run(_all([partial(write, index) for index in range(len(requests))], report))
            return found

        def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
            raise NotImplementedError("no task here asks for it")

    return BackendModel()


async def _all(calls: Sequence[Callable[[], Any]], report: Callable[[float], None]) -> None:
    """Run them, `_MAX_IN_FLIGHT` at a time."""
    places = asyncio.Semaphore(_MAX_IN_FLIGHT)
    done = 0

    async def one(call: Callable[[], Any]) -> None:
        nonlocal done
        async with places:
            await call()
        done += 1
        report(done / len(calls))

    await asyncio.gather(*(one(call) for call in calls))
