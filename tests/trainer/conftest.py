"""Model directories of a few bytes: a real config, tokenizer file and safetensors header, weights of zeros."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

MakeModel = Callable[..., Path]


def safetensors(shapes: dict[str, list[int]]) -> bytes:
    """A safetensors file of float32 zeros."""
    header, offset = {}, 0
    for name, shape in shapes.items():
        num_bytes = 4
        for n in shape:
            num_bytes *= n
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + num_bytes]}
        offset += num_bytes
    text = json.dumps({**header, "__metadata__": {"format": "pt"}}).encode()
    return struct.pack("<Q", len(text)) + text + bytes(offset)


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    """Writes a model directory; keyword arguments go into its config, None leaves the file `weights` out."""

    def make(name: str = "tiny", *, weights: dict[str, list[int]] | None = None, **config: object) -> Path:
        directory = tmp_path / name
        directory.mkdir(parents=True)
        (directory / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], **config}))
        (directory / "tokenizer.json").write_text("{}")
        (directory / "model.safetensors").write_bytes(safetensors(weights or {"a": [3, 4], "b": [5]}))
        return directory

    return make
