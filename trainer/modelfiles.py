"""What a directory must hold to be taken as a model, and what can be known without loading it.

Only safetensors weights are read, and only a model whose code ships with transformers: nothing in the directory is ever
executed. This module does not know names, cards or engines.
"""

import hashlib
import json
import math
import re
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ranker.errors import CheckpointError

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
MAX_HEADER_BYTES = 100_000_000
"""The safetensors format's own limit."""
HASH_BLOCK_BYTES = 4 * 1024 * 1024

Report = Callable[[str, float | None], None]
"""Progress: what is being done, and the share that is done (0 to 1; None = not known)."""


class ModelFiles(NamedTuple):
    """What was found in a model directory."""

    weights: tuple[Path, ...]
    """The safetensors files, sorted by name."""
    num_parameters: int
    license: str | None
    """As the model card's front matter names it."""


def inspect_model(directory: Path) -> ModelFiles:
    """Check that `directory` holds a model that can be loaded safely.

    Raises:
        CheckpointError: if a part is missing, cut short, or would need code or pickles to be loaded.
    """
    if not directory.is_dir():
        raise CheckpointError(f"{directory}: is not a directory: give one that holds config.json and *.safetensors")
    config = _read_config(directory)
    if "auto_map" in config:
        raise CheckpointError(
            f"{directory / 'config.json'}: auto_map: the model brings its own code, which is never run here: "
            "use one whose architecture is part of transformers"
        )
    weights = _find_weights(directory)
    if not any((directory / name).is_file() for name in TOKENIZERS):
        raise CheckpointError(f"{directory}: tokenizer: missing: copy tokenizer.json beside config.json")
    return ModelFiles(weights, sum(_count_parameters(path) for path in weights), _read_license(directory))


def hash_files(files: Iterable[Path], report: Report | None = None) -> str:
    """SHA-256 over the names and bytes of `files`, in hexadecimal; of a single file, the hash of its bytes alone."""
    files = tuple(files)
    total_bytes = max(1, sum(path.stat().st_size for path in files))
    done_bytes, digests = 0, []
    for path in files:
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            while block := stream.read(HASH_BLOCK_BYTES):
                digest.update(block)
                done_bytes += len(block)
                if report is not None:
                    report(f"checking {path.parent.name}", done_bytes / total_bytes)
        digests.append(digest.hexdigest())
    if len(files) == 1:
        return digests[0]
    lines = [f"{digest}  {path.name}\n" for digest, path in zip(digests, files, strict=True)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _read_config(directory: Path) -> dict[str, Any]:
    path = directory / "config.json"
    if (directory / "adapter_config.json").is_file() and not path.is_file():
        raise CheckpointError(f"{directory}: is an adapter: merge it into its base model and add the result")
    return _read_json(path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path.parent}: {path.name}: missing: give a directory in transformers' format"
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON: {error}: copy the model again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: is not a JSON object: copy the model again")
    return value


def _find_weights(directory: Path) -> tuple[Path, ...]:
    found = {path.name: path for path in directory.glob("*.safetensors")}
    if not found:
        pickles = sorted(path.name for pattern in PICKLES for path in directory.glob(pattern))
        if pickles:
            raise CheckpointError(
                f"{directory / pickles[0]}: is a pickle, which can run code when it is read: "
                "save the model as safetensors (save_pretrained does) and add that"
            )
        raise CheckpointError(f"{directory}: *.safetensors: none found: give a directory that holds the weights")
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        shards = set(_read_json(index).get("weight_map", {}).values())
        missing = sorted(str(name) for name in shards - set(found))
        if missing:
            raise CheckpointError(f"{directory / missing[0]}: missing, named by {index.name}: copy the model again")
        found = {name: path for name, path in found.items() if name in shards}
    return tuple(found[name] for name in sorted(found))


def _count_parameters(path: Path) -> int:
    """Elements of all tensors of a safetensors file, from its header; the header must fit the file's length."""
    broken = CheckpointError(f"{path}: is cut short or is not safetensors: copy the model again")
    with path.open("rb") as stream:
        head = stream.read(8)
        if len(head) != 8:
            raise broken
        (header_bytes,) = struct.unpack("<Q", head)
        if header_bytes > MAX_HEADER_BYTES:
            raise broken
        try:
            tensors = json.loads(stream.read(header_bytes))
            by_name = {name: tensor for name, tensor in tensors.items() if name != "__metadata__"}
            data_bytes = max((tensor["data_offsets"][1] for tensor in by_name.values()), default=0)
            num_parameters: int = sum(math.prod(tensor["shape"]) for tensor in by_name.values())
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise broken from error
    if path.stat().st_size != 8 + header_bytes + data_bytes:
        raise broken
    return num_parameters


def _read_license(directory: Path) -> str | None:
    """`license:` of the front matter of README.md, where there is one."""
    try:
        text = (directory / "README.md").read_text(encoding="utf-8", errors="replace")[:20_000]
    except OSError:
        return None
    front = re.match(r"---\s*\n(.*?)\n---", text, re.DOTALL)
    found = re.search(r"^license:\s*[\"']?([\w.\-]+)", front[1], re.MULTILINE) if front else None
    return found[1] if found else None
