"""What can go wrong outside of the program, as one tree.

    RankingStudioError
    ├── UsageError        a command or setting that cannot be carried out as given   (exit 2)
    ├── DatasetError      a file or task that cannot be trusted                      (exit 2)
    ├── BackendError      a model or engine that cannot be loaded or reached
    │   └── ScoresUnavailableError   the engine works, but gives no log-probabilities of what was asked
    ├── StoreError        the studio's database
    ├── JobError          a background job
    └── CheckpointError   a model or adapter on disk

Every message is one line that holds the place, the value and the way out. A model's bad answer is *not* an error: it is an
`Outcome` of the step (see `ranker.schema`).
"""

from typing import ClassVar


class RankingStudioError(Exception):
    """Root of the tree. `exit_code` is what the command line returns for it."""

    exit_code: ClassVar[int] = 1


class UsageError(RankingStudioError):
    """The caller asked for something that does not exist or does not fit together."""

    exit_code = 2


class DatasetError(RankingStudioError):
    """Input data is malformed. Message form: `file:line: field: value: fix`."""

    exit_code = 2


class BackendError(RankingStudioError):
    """A model cannot be loaded, reached, or asked for what it cannot do."""


class ScoresUnavailableError(BackendError):
    """The engine can write but not score this. Not the end of a ranking: `ranker.fallback` says how it goes on."""


class StoreError(RankingStudioError):
    """The database is missing, damaged, newer than this program, or refuses a change."""


class JobError(RankingStudioError):
    """A background job cannot be started, stopped or resumed."""


class CheckpointError(RankingStudioError):
    """A model directory or adapter is incomplete or does not fit."""
