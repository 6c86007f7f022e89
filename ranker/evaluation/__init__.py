"""Evaluation: systems x datasets x reshuffles -> a results file that anybody can make again and test.

The path: `EvaluationSet` and `System` -> `run_evaluation` -> answers (journal) -> rows -> `Results` -> tables. It knows neither the
studio nor the registry of models: whoever calls gives loaded backends.
"""

from ranker.evaluation.protocols import PRESETS, PROTOCOLS, ZERO_SHOT, open_preset, presets_of
from ranker.evaluation.results import Results, read_results, write_results
from ranker.evaluation.runner import Plan, journal_path, run_evaluation
from ranker.evaluation.sets import EvaluationSet, make_set, split_set
from ranker.evaluation.systems import BaselineSystem, MethodSystem, ModelSystem, System, SystemInfo
from ranker.evaluation.tables import FORMATS, to_csv, to_latex, to_markdown

__all__ = [
    "FORMATS",
    "PRESETS",
    "PROTOCOLS",
    "ZERO_SHOT",
    "BaselineSystem",
    "EvaluationSet",
    "MethodSystem",
    "ModelSystem",
    "Plan",
    "Results",
    "System",
    "SystemInfo",
    "journal_path",
    "make_set",
    "open_preset",
    "presets_of",
    "read_results",
    "run_evaluation",
    "split_set",
    "to_csv",
    "to_latex",
    "to_markdown",
    "write_results",
]
