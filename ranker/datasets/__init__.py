"""Datasets: from any file that a ranker's user brings to `RankingTask`s.

The path: `Source` (a file, directory or archive) -> rows -> reader -> builder -> tasks + provenance -> `Report` of the doctor.
Knows no models, no SQL and no pages.
"""

from ranker.datasets.mapping import ColumnMapping, guess_mapping
from ranker.datasets.sources import Source, open_source
from ranker.datasets.taskfiles import dump_tasks, load_tasks

__all__ = ["ColumnMapping", "Source", "dump_tasks", "guess_mapping", "load_tasks", "open_source"]
