"""The command that makes an evaluation again: a request as the words of `eval`. One place, so that page and file agree."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from studio.evaluations import EvaluationRequest

_FLAGS: Final = {
    "from_dir": "--from",
    "num_seeds": "--seeds",
    "stop_early": "--early-stop",
    "max_in_flight": "--batch",
}
"""Fields whose flag is another word than the field."""


def eval_words(request: EvaluationRequest, out: str) -> list[str]:
    """`eval` and its flags; what is as it would be anyway is left out."""
    words = ["eval"]
    for name, field in EvaluationRequest.model_fields.items():
        value = getattr(request, name)
        if name == "baselines" and not value:
            value = ("none",)  # an empty list means "random" on the command line
        if value == field.get_default(call_default_factory=True) or (name == "protocol" and request.datasets):
            continue
        words += _flag(_FLAGS.get(name, "--" + name.replace("_", "-")), value)
    return [*words, "--out", out]


def eval_command(request: EvaluationRequest, out: str = "results.json") -> str:
    """The whole line, as a person types it."""
    return shlex.join(["python", "launch.py", *eval_words(request, out)])


def _flag(flag: str, value: Any) -> list[str]:
    if value is True:
        return [flag]
    if isinstance(value, Mapping):
        return [flag, ",".join(f"{key}={number}" for key, number in value.items())]
    if isinstance(value, tuple):
        return [flag, ",".join(":".join(part) if isinstance(part, tuple) else str(part) for part in value)]
    return [flag, str(value.as_posix() if isinstance(value, Path) else value)]
