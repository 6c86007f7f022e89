"""A model's card: what is known of it without loading it, in `model.json` beside its files. See `trainer.registry`."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, ValidationError

from ranker.backends.openai.settings import ServerSettings
from ranker.elimination import AnswerFormat
from ranker.errors import CheckpointError
from ranker.schema import Record
from trainer.checkpoints import write_whole
from trainer.modelfiles import hash_files

CARD: Final = "model.json"
ADAPTER_CONFIG: Final = "adapter_config.json"
ADAPTER_WEIGHTS: Final = "adapter_model.safetensors"


class ModelCard(Record):
    """What is known of a model without loading it."""

    name: str
    engine: Literal["transformers", "vllm", "openai", "scripted"] = "transformers"
    directory: str = "."
    """Where the files are: absolute once it is read; in the file, relative to the card."""
    adapter: str | None = None
    """A LoRA adapter that is merged into the model while it is loaded: absolute once it is read."""
    answer_format: AnswerFormat = AnswerFormat.FREE
    """How a decision is taken from it: `scored` for a model that was not trained on the format."""
    think_tokens: int | None = None
    """Budget of a thought that it was trained with, in tokens; None = not known."""
    source: str = ""
    """Where it came from: a package, a hub id or a path."""
    license: str | None = None
    sha256: str | None = None
    """Over config and weights in `directory` (`trainer.modelfiles.hash_files`)."""
    adapter_sha256: str | None = None
    """Over the adapter's config and weights."""
    num_parameters: int | None = None
    added_at: str = ""
    """ISO 8601, UTC."""
    server: ServerSettings | None = None
    """Of the engine `openai`: where it is and what it was found to do."""
    options: Mapping[str, float] = Field(default_factory=dict)
    """Arguments of the engine (`delay_s` of the scripted one)."""

    def ranking_defaults(self) -> dict[str, AnswerFormat | int]:
        """How this model is asked unless somebody says otherwise: fields of `RankConfig`."""
        known = {} if self.think_tokens is None else {"think_tokens": self.think_tokens}
        return {"answer_format": self.answer_format, **known}

    @property
    def weights_sha256(self) -> str | None:
        """Of everything that decides, the adapter included; None where it is not known."""
        if self.adapter is None or self.sha256 is None or self.adapter_sha256 is None:
            return self.sha256
        return hashlib.sha256(f"{self.sha256} {self.adapter_sha256}".encode()).hexdigest()

    @property
    def has_files(self) -> bool:
        """Whether there are config and weights in `directory`."""
        return self.engine in ("transformers", "vllm")


def write_card(models_dir: Path, card: ModelCard) -> ModelCard:
    """Write `models/<name>/model.json`, whole or not at all; returns the card as it will be read."""
    directory = models_dir / card.name
    directory.mkdir(parents=True, exist_ok=True)
    write_whole(directory / CARD, card.model_dump_json(indent=2) + "\n")
    return read_card(directory)


def read_card(directory: Path) -> ModelCard:
    """The card in a model's directory, its paths absolute. Raises CheckpointError if it cannot be read."""
    path = directory / CARD
    try:
        card = ModelCard.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise CheckpointError(f"{path}: {place}: {first['msg']}: delete the folder and add the model again") from error
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}: delete the folder and add the model again") from error
    adapter = None if card.adapter is None else str((directory / card.adapter).resolve())
    place = str((directory / card.directory).resolve())
    return card.model_copy(update={"name": directory.name, "directory": place, "adapter": adapter})


def hash_adapter(directory: Path) -> str:
    """Over an adapter's config and weights. Raises CheckpointError if it cannot be read."""
    try:
        return hash_files([directory / ADAPTER_CONFIG, directory / ADAPTER_WEIGHTS])
    except OSError as error:
        raise CheckpointError(f"{error.filename}: {error.strerror}: delete the model and add it again") from error
