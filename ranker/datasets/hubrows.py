"""The child program that reads a dataset of the Hugging Face hub: rows as JSON Lines on standard output.

A program of its own because the studio runs with the hub switched off (`HF_HUB_OFFLINE=1`, read once when the library is
imported); asking for `hub:ID` is asking to go online. Loading scripts of datasets are never run.

    python -m ranker.datasets.hubrows about ID CONFIG      -> {"revision": ..., "splits": [...]}
    python -m ranker.datasets.hubrows rows ID CONFIG SPLIT REVISION
"""

import contextlib
import importlib
import json
import sys
from typing import Any


def main(arguments: list[str]) -> int:
    """Carry out one command; 2 with one line on standard error if the hub does not give what is asked for."""
    command, dataset_id, config, *rest = arguments
    expected: tuple[type[Exception], ...] = (*network_errors(), OSError, ValueError, RuntimeError)
    try:
        if command == "about":
            _write(_about(dataset_id, config or None))
        else:
            _rows(dataset_id, config or None, *rest)
    except expected as error:
        sys.stderr.write(" ".join(f"{type(error).__name__}: {error}".split())[:200] + "\n")
        return 2
    return 0


def _about(dataset_id: str, config: str | None) -> dict[str, Any]:
    from huggingface_hub import HfApi

    revision = HfApi().dataset_info(dataset_id, timeout=30).sha
    import datasets

    return {"revision": revision, "splits": datasets.get_dataset_split_names(dataset_id, config, revision=revision)}


def _rows(dataset_id: str, config: str | None, split: str, revision: str) -> None:
    import datasets

    stream = datasets.load_dataset(dataset_id, config, split=split, revision=revision or None, streaming=True)
    for row in stream:
        _write(row)


def _write(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")


def network_errors() -> tuple[type[Exception], ...]:
    """What the hub's client raises when nobody answers: the HTTP library under it differs between its versions."""
    found: list[type[Exception]] = []
    for name in ("httpx", "httpx2"):
        with contextlib.suppress(ImportError):
            found.append(importlib.import_module(name).HTTPError)
    return tuple(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
