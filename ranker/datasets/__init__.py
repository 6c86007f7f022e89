"""Datasets: from any file that a ranker's user brings to `RankingTask`s.

The path: `Source` (a file, directory or archive) -> rows -> reader -> raw data -> builder -> tasks + provenance, and the
doctor's `Report` on them. Knows no models, no SQL and no pages.
"""

from ranker.datasets.doctor import Doctor, Fingerprints, Report, check, fingerprint
from ranker.datasets.imports import Description, ImportPlan, Provenance, import_source
from ranker.datasets.mapping import ColumnMapping, guess_mapping
from ranker.datasets.recipes import RECIPES
from ranker.datasets.sources import Source, open_source
from ranker.datasets.taskfiles import dump_tasks, load_tasks, task_line

__all__ = [
    "RECIPES",
    "ColumnMapping",
    "Description",
    "Doctor",
    "Fingerprints",
    "ImportPlan",
    "Provenance",
    "Report",
    "Source",
    "check",
    "dump_tasks",
    "fingerprint",
    "guess_mapping",
    "import_source",
    "load_tasks",
    "open_source",
    "task_line",
]
