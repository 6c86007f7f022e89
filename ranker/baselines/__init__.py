"""Baselines: what a model has to beat. Each is named on the command line by its `name`, with a model behind a colon if any.

`BASELINES` lists them all; those of `ranker.baselines.neural` and `.latent` need the extra `baselines` and load it in `fit`.
"""

from collections.abc import Callable, Mapping
from typing import Final

from ranker.baselines.base import Baseline, Training, query_text, without_relevance
from ranker.baselines.chance import RandomOrder
from ranker.baselines.latent import BPR, SASRec
from ranker.baselines.neural import CrossEncoder, EmbeddingKNNRouter, Embeddings
from ranker.baselines.recommendation import ItemKNN, Popularity
from ranker.baselines.routing import Cheapest, Dearest, KNNRouter, Majority
from ranker.baselines.words import BM25, FirstStage, Overlap
from ranker.errors import UsageError

__all__ = ["BASELINES", "Baseline", "Training", "make_baseline", "query_text", "without_relevance"]

_WITH_MODEL: Final[Mapping[str, Callable[[str], Baseline]]] = {
    b.name: b for b in (Embeddings, CrossEncoder, EmbeddingKNNRouter, SASRec)
}
_PLAIN: Final[Mapping[str, Callable[[], Baseline]]] = {
    b.name: b
    for b in (
        RandomOrder,
        Popularity,
        ItemKNN,
        BPR,
        FirstStage,
        Overlap,
        BM25,
        Majority,
        KNNRouter,
        Cheapest,
        Dearest,
    )
}
BASELINES: Final = (*_PLAIN, *_WITH_MODEL)
"""All names."""


def make_baseline(spec: str) -> Baseline:
    """A baseline by `name` or `name:model` (`cross-encoder:models/mine`; `sasrec:20` is for 20 epochs).

    Raises:
        UsageError: if there is none of that name, or it takes no model.
    """
    name, _, model = spec.partition(":")
    if name in _WITH_MODEL:
        return _WITH_MODEL[name](model)
    if name in _PLAIN and not model:
        return _PLAIN[name]()
    raise UsageError(f"baseline: {spec!r}: no such baseline: choose from {', '.join(BASELINES)}")
