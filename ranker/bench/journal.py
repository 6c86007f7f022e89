"""What was measured, one JSON line each, so that a run that was stopped goes on where it was."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, Self

from pydantic import Field, ValidationError

from ranker.schema import Record


class Cost(Record):
    """What one ranking (or, in bulk, all of them together) cost."""

    seconds: float
    first_token_s: float | None = None
    """From asking to the first piece of reasoning."""
    num_steps: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Of these, the ones that did not have to be computed."""
    completion_tokens: int = 0
    reading_s: float = 0.0
    """Of `seconds`, those in which prompts were read before a thought, up to its first token; 0 if not taken apart."""
    writing_s: float = 0.0
    """Those in which thoughts were written, behind the first token."""
    scoring_s: float = 0.0
    """Those in which answers were scored, prompts included."""
    is_sampled: bool = False
    """The first step and one of average size were measured, and the others taken to be like the second."""

    def __add__(self, later: "Cost") -> "Cost":
        """Both one after the other; the first token is ours."""
        sums = {name: getattr(self, name) + getattr(later, name) for name in _ADDED}
        return Cost(**sums, first_token_s=self.first_token_s, is_sampled=self.is_sampled or later.is_sampled)

    def repeated(self, times: int) -> "Cost":
        """So many that cost the same."""
        return self.model_copy(update={name: getattr(self, name) * times for name in _ADDED})

    @property
    def prefill_tokens(self) -> int:
        """Prompt tokens that had to be computed."""
        return self.prompt_tokens - self.cached_tokens


_ADDED: Final = (
    *("seconds", "reading_s", "writing_s", "scoring_s"),
    *("num_steps", "prompt_tokens", "cached_tokens", "completion_tokens"),
)


class Key(NamedTuple):
    """What was measured."""

    part: str
    method: str
    kind: str = ""
    size: int = 0
    round: int = 0


class Measurement(Record):
    """One line of the journal: a cost, or numbers with names of their own."""

    part: str
    method: str
    kind: str = ""
    size: int = 0
    round: int = 0
    cost: Cost | None = None
    numbers: dict[str, float] = Field(default_factory=dict)
    note: str = ""
    """Why there is no cost."""

    @classmethod
    def of(cls, key: Key, *, cost: Cost | None = None, numbers: dict[str, float] | None = None, note: str = "") -> Self:
        """What was found for `key`."""
        return cls(**key._asdict(), cost=cost, numbers=numbers or {}, note=note)

    @property
    def key(self) -> Key:
        return Key(self.part, self.method, self.kind, self.size, self.round)


class Journal:
    """Measurements in a file; the last one of a key counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found = {m.key: m for m in _read(path)}
        if path.exists() and not path.read_bytes().endswith(b"\n"):  # torn: what comes next gets a line of its own
            with path.open("a", encoding="utf-8") as file:
                file.write("\n")

    def __iter__(self) -> Iterator[Measurement]:
        return iter(self._found.values())

    def has(self, key: Key) -> bool:
        """Was this measured before?"""
        return key in self._found

    def add(self, measurement: Measurement) -> None:
        self._found[measurement.key] = measurement
        with self._path.open("a", encoding="utf-8") as file:
            file.write(measurement.model_dump_json() + "\n")


def _read(path: Path) -> Iterator[Measurement]:
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield Measurement.model_validate_json(line)
        except ValidationError:  # the torn end of a run that was killed
            continue
