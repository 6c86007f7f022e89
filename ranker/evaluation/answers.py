"""One system's answer to one task with one seed, and the append-only file in which answers outlive a crash.

An answer is found again by what it depends on: the tasks' hash, everything that is known of the system, seed and task. So a
run with other settings adds answers and never takes wrong ones for its own.
"""

from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from pydantic import Field, ValidationError

from ranker.errors import DatasetError, UsageError
from ranker.schema import EliminationStep, Outcome, Record


class StepFact(NamedTuple):
    """What error analysis needs of one step."""

    pool_size: int
    num_relevant: int
    """In the pool, before the exclusion."""
    position: int
    """0-based place of the excluded candidate in the prompt."""
    is_relevant: bool
    """Whether a relevant candidate was excluded."""
    probability: float | None
    """Of being excluded, where scores were computed."""
    outcome: Outcome
    num_excluded: int
    completion_tokens: int


class AnswerKey(NamedTuple):
    """What an answer depends on."""

    dataset_key: str
    system_key: str
    seed: int
    task_id: str


class Answer(Record):
    """A ranking and what it took."""

    dataset_key: str
    system_key: str
    seed: int
    task_id: str
    ranking: tuple[str, ...]
    steps: tuple[StepFact, ...] = ()
    num_calls: int = 0
    """Requests to the model: thoughts and scorings."""
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0
    latency_s: float = 0.0
    """From the first step's start to the last one's end, while other tasks run beside it."""
    wall_s: float = 0.0
    """Time of the run that passed since the answer before: adds up to the time of the whole."""
    is_cut: bool = False
    """Texts were cut to fit the context window."""
    is_stopped_early: bool = False
    """Ended when the last relevant candidate was out; the order above it is arbitrary."""

    full_steps: tuple[EliminationStep, ...] = Field(default=(), exclude=True, repr=False)
    """What the model read and wrote, for whoever keeps traces; never in the journal."""

    @property
    def key(self) -> AnswerKey:
        return AnswerKey(self.dataset_key, self.system_key, self.seed, self.task_id)


class Answers(Protocol):
    """Where answers are found again."""

    def get(self, key: AnswerKey) -> Answer | None: ...


def read_answers(path: Path) -> dict[AnswerKey, Answer]:
    """All whole lines of a journal, the later one of two with the same key; the file stays as it is.

    Raises:
        DatasetError: if a line is no answer.
    """
    answers = {}
    data = path.read_bytes() if path.exists() else b""
    for number, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), 1):
        try:
            answer = Answer.model_validate_json(line)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise DatasetError(f"{path}:{number}: answer: {reason}: delete the line to ask again") from error
        answers[answer.key] = answer
    return answers


class Journal:
    """Answers in a JSON Lines file, each on disk when `add` returns."""

    def __init__(self, path: Path) -> None:
        """Open or create it; a last line that a killed run left torn is dropped.

        Raises:
            UsageError: if it cannot be written.
            DatasetError: if an earlier line is no answer.
        """
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _drop_torn_line(path)
            self._answers = read_answers(path)
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--out: {path}: {error.strerror}: choose another file") from error

    def get(self, key: AnswerKey) -> Answer | None:
        return self._answers.get(key)

    def add(self, answer: Answer) -> None:
        self._file.write(answer.model_dump_json() + "\n")
        self._file.flush()
        self._answers[answer.key] = answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._file.close()


def _drop_torn_line(path: Path) -> None:
    if path.exists():
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            with path.open("r+b") as file:
                file.truncate(whole)
