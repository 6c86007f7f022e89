"""BPR and SASRec by the library Cornac (extra `baselines`), trained on the sequences of the training side.

Both have to score users that they were not trained on: SASRec reads the history; BPR gets the shown histories (never the
targets) beside the training sequences, as matrix factorisation knows no other way.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import numpy as np

from ranker.baselines.base import Training
from ranker.baselines.recommendation import RECOMMENDATION, items_by_title
from ranker.errors import BackendError, UsageError
from ranker.metrics import Floats
from ranker.schema import RankingTask

SEED: Final = 0
REDUCED_EPOCHS: Final = 2
_SASREC: Final[dict[str, int | float]] = {
    "num_blocks": 1,
    "embedding_dim": 48,
    "max_len": 20,
    "batch_size": 256,
    "n_sample": 256,
    "learning_rate": 0.003,
    "dropout": 0.2,
}


class BPR:
    """Matrix factorisation with the pairwise loss, 50 factors. Source: Rendle et al. 2009; Cornac's implementation."""

    name: ClassVar = "bpr"
    domains: ClassVar = RECOMMENDATION
    needs_training: ClassVar = True

    def fit(self, training: Training, unlabelled: Sequence[RankingTask]) -> None:
        cornac = _cornac()
        items = items_by_title(training.titles)
        triples = [(f"train-{u}", item, 1.0) for u, taken in enumerate(training.sequences) for item in set(taken)]
        for task in unlabelled:
            taken = {item for title in task.history for item in items.get(title, ())}
            triples += [(task.task_id, item, 1.0) for item in sorted(taken)]
        data = cornac.data.Dataset.from_uir(triples, seed=SEED)
        self._model = cornac.models.BPR(
            k=50, max_iter=100, learning_rate=0.05, lambda_reg=0.01, num_threads=1, seed=SEED
        )
        self._model.fit(data)

    def score(self, task: RankingTask) -> list[float]:
        user = self._model.uid_map.get(task.task_id)
        if user is None:
            return [0.0] * len(task.candidates)
        return _pick(np.asarray(self._model.score(user), dtype=float), self._model.iid_map, task)


class SASRec:
    """Self-attention over the last 20 items, one block of 48 dimensions. Source: Kang and McAuley 2018; Cornac's implementation.

    Two epochs unless more are asked for (`sasrec:20`): a minute or two on a CPU core for 70,000 interactions. That is less
    than the paper's specialists had; the results file says so.
    """

    name: ClassVar = "sasrec"
    domains: ClassVar = RECOMMENDATION
    needs_training: ClassVar = True

    def __init__(self, epochs: str = "") -> None:
        """Raises UsageError if `epochs` is no number from 1."""
        if epochs and not (epochs.isdecimal() and int(epochs) > 0):
            raise UsageError(f"baseline: sasrec:{epochs}: write the number of epochs behind the colon, as in sasrec:20")
        self._epochs = int(epochs or REDUCED_EPOCHS)

    @property
    def options(self) -> dict[str, int | float]:
        """For the results file."""
        return {"epochs": self._epochs, **_SASREC}

    def fit(self, training: Training, unlabelled: Sequence[RankingTask]) -> None:
        cornac = _cornac()
        rows = [
            (f"train-{user}", item, position)
            for user, taken in enumerate(training.sequences)
            if len(taken) > 1
            for position, item in enumerate(taken)
        ]
        data = cornac.data.SequentialDataset.from_sit(rows, seed=SEED)
        self._items = items_by_title(training.titles)
        self._model = cornac.models.SASRec(n_epochs=self._epochs, seed=SEED, **_SASREC)
        self._model.fit(data)

    def score(self, task: RankingTask) -> list[float]:
        known = self._model.iid_map
        history = [known[i] for title in task.history for i in self._items.get(title, ())[:1] if i in known]
        scores = np.asarray(self._model.score(None, history), dtype=float).ravel()
        return _pick(scores, known, task)


def _pick(scores: Floats, known: dict[str, int], task: RankingTask) -> list[float]:
    """The candidates' scores; items that were never seen in training come last."""
    lowest = float(scores.min()) - 1
    return [float(scores[known[i]]) if i in known else lowest for i in task.candidate_ids]


def _cornac() -> Any:
    try:
        import cornac
    except ImportError as error:
        raise BackendError("bpr, sasrec: cornac: is not installed: pip install -e '.[baselines]'") from error
    return cornac
