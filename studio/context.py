"""What every page and route is given: the services of one running studio, and nothing global beside it."""

from dataclasses import dataclass, field

from filelock import BaseFileLock

from studio.accounts import Accounts
from studio.background import Background
from studio.corrections import Corrections
from studio.evaluationruns import Evaluations
from studio.hub import Hub
from studio.library import Library
from studio.ranking import Rankings
from studio.settings import Settings
from studio.store import Store
from studio.training import Training
from trainer.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Context:
    """The services of one running studio."""

    settings: Settings
    store: Store
    library: Library
    registry: Registry
    hub: Hub
    rankings: Rankings
    corrections: Corrections
    accounts: Accounts
    training: Training
    evaluations: Evaluations
    background: Background = field(default_factory=Background)
    lock: BaseFileLock | None = None
    """Held while this studio uses its data directory."""

    def close(self) -> None:
        """Stop what runs (it can be resumed), then close the store."""
        self.background.close()
        self.rankings.close()
        self.hub.close()
        self.store.close()
        if self.lock is not None:
            self.lock.release()
