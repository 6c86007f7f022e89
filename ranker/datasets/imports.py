"""The way in: a source named by a text becomes a plan, the plan describes itself, and then yields tasks and provenance.

    path | recipe:NAME (with a directory) | hub:ID[:config[:split]] | ir:ID

Nothing is stored here: whoever consumes `plan.tasks()` does so inside one transaction and keeps `plan.provenance` with it.
"""

import hashlib
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from ranker.datasets.building import BuildOptions, Tally, keep_side, parse_options
from ranker.datasets.catalogues import open_hub, open_ir
from ranker.datasets.mapping import ColumnMapping
from ranker.datasets.readers import Reader, guess_reader, reader_named
from ranker.datasets.recipes import Recipe, recipe_named
from ranker.datasets.sources import Source, Watch, open_source
from ranker.datasets.tables import TableOptions, TaskTables
from ranker.errors import DatasetError
from ranker.schema import RankingTask, Record

PREVIEW_TASKS = 3


class Provenance(Record):
    """Where a dataset is from and how it was made: enough to make the same bytes again."""

    source: str
    content_hash: str
    """SHA-256 of the files, or of name and revision in a catalogue."""
    revision: str | None = None
    """Catalogues: the commit of the hub, or the version of the package."""
    reader: str
    builder: str
    recipe: str | None = None
    options: Mapping[str, Any]
    """All options, those at their defaults included."""
    mapping: Mapping[str, str] = {}
    """Tables: field -> column."""
    group: str
    """What the split is by."""
    counts: Mapping[str, int] = {}
    """What was read, left out (with the reason) and built; `train_*` and `test_*` are both sides of the split."""
    notes: tuple[str, ...] = ()


class Description(Record):
    """What an import would do, for showing before it is done."""

    source: str
    files: tuple[str, ...]
    reader: str
    summary: str
    builder: str
    options: Mapping[str, Any]
    columns: tuple[str, ...] = ()
    """Tables: the columns there are."""
    mapping: Mapping[str, str] = {}
    """Tables: field -> column as guessed or given."""
    preview: tuple[RankingTask, ...] = ()


class ImportPlan:
    """A source with its reader, builder and options chosen. `tasks()` may be called again; it then counts afresh."""

    def __init__(
        self,
        *,
        name: str,
        source: Source,
        reader: Reader[Any],
        options: BuildOptions,
        recipe: Recipe | None = None,
        revision: str | None = None,
    ) -> None:
        self.name = name
        self.reader = reader
        self.options = options
        self.recipe = recipe
        self._source = source
        self._revision = revision
        self._tally = Tally()

    @cached_property
    def content_hash(self) -> str:
        """Recognises the same content when it comes again."""
        if self._revision is not None:
            return hashlib.sha256(f"{self.name}@{self._revision}".encode()).hexdigest()
        return self._source.content_hash()

    @cached_property
    def mapping(self) -> ColumnMapping | None:
        """Tables of tasks: which column is which field; None for other formats."""
        table = self._first_table
        return self.options.mapping(table) if table is not None and isinstance(self.options, TableOptions) else None

    @property
    def columns(self) -> tuple[str, ...]:
        """Tables of tasks: the columns there are; () for other formats."""
        table = self._first_table
        return tuple(table.columns) if table is not None else ()

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files that are read."""
        return tuple(f.name for f in self._source.files)

    @cached_property
    def _first_table(self) -> Any:
        raw = self.reader.read(self._source)
        return raw.first() if isinstance(raw, TaskTables) else None

    def describe(self) -> Description:
        """Reader, mapping and the first tasks.

        Raises:
            DatasetError: where already the first tasks cannot be made.
        """
        return Description(
            source=self.name,
            files=self.files,
            reader=self.reader.name,
            summary=self.reader.summary,
            builder=self.reader.builder.name,
            options=self.options.model_dump(mode="json"),
            columns=self.columns,
            mapping=self.mapping.columns() if self.mapping is not None else {},
            preview=tuple(islice(self.tasks(), PREVIEW_TASKS)),
        )

    def tasks(self) -> Iterator[RankingTask]:
        """The tasks, streamed, in an order that depends on source and options alone.

        Raises:
            DatasetError: at the first thing in the source that cannot be trusted.
        """
        self._tally = tally = Tally()
        raw = self.reader.read(self._source)
        built = self.reader.builder.build(raw, self.options, tally)
        for task in keep_side(built, self.options, tally):
            tally.add("tasks")
            yield task

    @property
    def provenance(self) -> Provenance:
        """The record to keep with the dataset; its counts are those of the last `tasks()`, so ask when that has ended."""
        return Provenance(
            source=self.name,
            content_hash=self.content_hash,
            revision=self._revision,
            reader=self.reader.name,
            builder=self.reader.builder.name,
            recipe=self.recipe.name if self.recipe else None,
            options=self.options.model_dump(mode="json"),
            mapping=self.mapping.columns() if self.mapping is not None else {},
            group=self.reader.builder.group,
            counts=dict(sorted(self._tally.counts.items())),
            notes=(*(self.recipe.remarks if self.recipe else ()), *self._tally.notes),
        )


def import_source(
    source: str | Path,
    *,
    from_dir: Path | None = None,
    options: Mapping[str, Any] | None = None,
    watch: Watch | None = None,
) -> ImportPlan:
    """The plan for a source: a path, `recipe:NAME` (with `from_dir`), `hub:ID[:config[:split]]` or `ir:ID`.

    Args:
        from_dir: where the raw files of a recipe are.
        options: of the builder (see its options class); also `reader` (force a reader) and `files` (a pattern such as
            `*.seq.inter` for the file names to read).
        watch: told how many bytes have been read, every few MiB; what it raises ends the reading.

    Raises:
        DatasetError: if the source, the reader or an option does not exist.

    Example:
        >>> plan = import_source("recipe:rec-movie", from_dir=Path("ml-1m"))  # doctest: +SKIP
        >>> tasks, provenance = list(plan.tasks()), plan.provenance  # doctest: +SKIP
    """
    name, values = str(source), dict(options or {})
    forced, pattern = values.pop("reader", None), values.pop("files", None)
    scheme, _, rest = name.partition(":")
    recipe, revision = None, None
    if scheme == "hub" and rest:
        reader, opened, revision = open_hub(rest)
    elif scheme == "ir" and rest:
        reader, opened, revision = open_ir(rest)
    else:
        if scheme == "recipe" and rest:
            recipe = recipe_named(rest)
            values = {**recipe.options, **values}
            if from_dir is None:
                raise DatasetError(f"{name}: needs the raw files: add --from DIR")
        opened = _matching(open_source(from_dir if recipe and from_dir else Path(name)), pattern).watched(watch)
        reader = reader_named(forced) if forced else guess_reader(opened, recipe.builder if recipe else None)
        name = f"{name} from {opened.name}" if recipe else opened.name
    parsed = parse_options(reader.builder.options, values)
    return ImportPlan(name=name, source=opened, reader=reader, options=parsed, recipe=recipe, revision=revision)


def _matching(source: Source, pattern: str | None) -> Source:
    """The source with only the files whose bare name matches; companions (items, models, qrels) must match too."""
    if not pattern:
        return source
    patterns = pattern.split(",")
    files = tuple(f for f in source.files if any(fnmatch(f.stem_name, p.strip()) for p in patterns))
    if not files:
        names = ", ".join(f.stem_name for f in source.files[:8])
        raise DatasetError(f"{source.name}: options: files={pattern}: matches none of {names}: correct the pattern")
    return Source(name=source.name, files=files)
