"""What the paper reports: MRR by model and dataset. Shown beside our rows as `published`, never tested against them.

Source: the paper, tables of results (recommendation, routing, passage ranking); other queries, splits and pools than ours.
"""

from collections.abc import Mapping
from typing import Final

PAPER_DATASETS: Final = ("Movie", "Music", "Game", "R-Perf", "R-Cost", "R-Bal", "P-5", "P-7", "P-9")

_MRR_PERCENT: Final[Mapping[str, tuple[float, ...]]] = {
    "BM25": (17.56, 18.09, 14.96, 18.41, 13.52, 13.39, 53.63, 44.95, 39.69),
    "Contriever": (18.29, 17.04, 23.98, 20.75, 16.29, 16.74, 41.91, 36.41, 33.10),
    "Qwen2.5-3B-Instruct direct": (16.92, 16.68, 13.17, 10.00, 10.00, 10.00, 38.08, 22.47, 15.94),
    "Qwen2.5-7B-Instruct direct": (16.59, 17.29, 18.63, 13.38, 13.51, 18.41, 44.57, 23.69, 17.79),
    "Qwen2.5-3B-Instruct iterative": (22.01, 21.97, 29.49, 20.87, 20.22, 12.42, 57.74, 43.47, 39.40),
    "Qwen2.5-7B-Instruct iterative": (22.11, 23.36, 33.14, 19.13, 21.06, 26.09, 62.01, 50.94, 48.74),
    "DRanker-3B (RL)": (18.71, 15.70, 15.77, 20.63, 9.06, 13.38, 43.85, 22.86, 16.11),
    "IRanker-3B (RL)": (34.69, 29.18, 42.49, 23.62, 30.39, 24.44, 60.98, 53.22, 49.96),
    "IRanker-3B zero-shot": (25.95, 23.21, 31.16, 20.41, 23.10, 21.89, 56.42, 51.19, 42.45),
}

PUBLISHED: Final[Mapping[str, Mapping[str, float]]] = {
    model: {name: round(value / 100, 4) for name, value in zip(PAPER_DATASETS, values, strict=True)}
    for model, values in _MRR_PERCENT.items()
}
"""Model -> the paper's dataset -> MRR, 0 to 1."""
