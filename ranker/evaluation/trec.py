"""TREC files: judgements in, run files in and out, so that `trec_eval` and `ir-measures` can check our numbers."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Final

from ranker.baselines import Training
from ranker.datasets import open_source
from ranker.datasets.readers.collections import read_qrels
from ranker.errors import DatasetError
from ranker.evaluation.answers import AnswerKey, Answers
from ranker.evaluation.results import Results
from ranker.schema import Domain, RankingTask

_RUN_COLUMNS: Final = 6


def load_qrels(path: Path) -> dict[str, dict[str, float]]:
    """`query iteration document grade` lines. Raises DatasetError with file:line."""
    return read_qrels(open_source(path).files)[0]


def write_runs(results: Results, journal: Answers, directory: Path) -> list[Path]:
    """Write the `run_files` there. Returns their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in run_files(results, journal):
        (directory / name).write_text(text, encoding="utf-8")
        written.append(directory / name)
    return written


def run_files(results: Results, journal: Answers) -> Iterator[tuple[str, str]]:
    """(name, text) of one file a dataset, system and seed: `query Q0 document rank score tag`; scores fall with the rank."""
    task_ids = {d.name: d.task_ids for d in results.datasets}
    for row in results.rows:
        for seed in row.seeds:
            lines: list[str] = []
            for task_id in task_ids[row.dataset][: row.num_wanted]:
                answer = journal.get(AnswerKey(row.dataset_key, row.system_key, seed, task_id))
                if answer is not None:
                    lines += _run_lines(task_id, answer.ranking, row.system)
            if lines:
                yield f"{_file_name(row.dataset)}.{_file_name(row.system)}.seed{seed}.run", "".join(lines)


def _run_lines(task_id: str, ranking: Sequence[str], tag: str) -> Iterable[str]:
    num = len(ranking)
    return (f"{task_id} Q0 {doc} {rank} {num - rank + 1} {_file_name(tag)}\n" for rank, doc in enumerate(ranking, 1))


def _file_name(system: str) -> str:
    return "".join(c if c.isalnum() or c in "-_.@" else "_" for c in system)


class RunFile:
    """A run that another program made, as a baseline; documents that it does not have come last."""

    name: ClassVar = "run"
    domains: ClassVar = frozenset(Domain)
    needs_training: ClassVar = False

    def __init__(self, path: Path) -> None:
        """Raises DatasetError if the file is no run."""
        self._scores: dict[tuple[str, str], float] = {}
        for file in open_source(path).files:
            for line in file.lines():
                cells = line.text.split()
                if not cells:
                    continue
                if len(cells) != _RUN_COLUMNS or not _is_number(cells[4]):
                    place = f"{file.name}:{line.number}"
                    raise DatasetError(f"{place}: row: {line.text[:60]!r}: write `query Q0 document rank score tag`")
                self._scores[cells[0], cells[2]] = float(cells[4])

    def fit(self, training: Training, unlabelled: Sequence[RankingTask]) -> None:
        """Nothing to learn."""

    def score(self, task: RankingTask) -> list[float]:
        lowest = min(self._scores.values(), default=0.0) - 1
        return [self._scores.get((task.task_id, i), lowest) for i in task.candidate_ids]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
