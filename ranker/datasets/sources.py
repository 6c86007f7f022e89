"""Where rows come from: a file, a directory, or a .zip / .gz of them, opened with limits that hold for untrusted input.

Owns decompression, path safety, UTF-8 and line limits. It knows no format and no field.
"""

import gzip
import hashlib
import io
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, NamedTuple

from ranker.errors import DatasetError

MAX_LINE_BYTES = 16 * 2**20
"""The longest line that is read; a task of 200 long passages is well under 1 MiB."""
MAX_EXPANSION = 100
"""An archive member may expand at most this many times once it is larger than FREE_EXPANSION_BYTES."""
FREE_EXPANSION_BYTES = 16 * 2**20
MAX_EXPANDED_BYTES = 32 * 2**30
MAX_ARCHIVE_MEMBERS = 10_000
WATCH_BYTES = 2**22
_BUFFER_BYTES = 2**20
_WIDE_MARKS = ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))
_BROKEN_ARCHIVE = (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


Watch = Callable[[int], None]
"""Told how many more bytes were read; what it raises ends the reading."""


class Line(NamedTuple):
    """One line of a text file, its end removed."""

    number: int
    """1-based."""
    text: str


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One readable file of a source, maybe inside an archive."""

    name: str
    """What messages call it: the path relative to the source, archive member paths behind a colon."""
    opener: Callable[[], BinaryIO]
    path: Path | None = None
    """Where it lies on disk, if it is not compressed."""
    watch: Watch | None = None
    """Told every WATCH_BYTES that were read as lines; raising gives up."""

    @property
    def suffix(self) -> str:
        """Lower-case suffix without compression: `.jsonl` for `a.jsonl.gz`."""
        return PurePosixPath(self.stem_name).suffix.lower()

    @property
    def stem_name(self) -> str:
        """The bare file name without directories and without `.gz`."""
        base = PurePosixPath(self.name.rsplit(":", 1)[-1]).name
        return base[:-3] if base.lower().endswith(".gz") else base

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The decompressed bytes. Damage that shows while reading becomes a DatasetError with this file's name."""
        try:
            with self.opener() as stream:
                yield stream
        except _BROKEN_ARCHIVE as error:
            raise DatasetError(f"{self.name}: archive: {_one_line(error)}: make the archive again") from error
        except OSError as error:
            raise DatasetError(f"{self.name}: cannot be read: {_one_line(error)}: check the file") from error

    @contextmanager
    def open_seekable(self) -> Iterator[BinaryIO]:
        """Like `open`, for formats with an index at the end: compressed members are spooled to a temporary file."""
        with self.open() as stream:
            if self.path is not None:
                yield stream
                return
            with tempfile.TemporaryFile() as spool:
                while block := stream.read(_BUFFER_BYTES):
                    spool.write(block)
                spool.seek(0)
                yield io.BufferedReader(spool.raw) if hasattr(spool, "raw") else spool

    def lines(self, encoding: str = "utf-8") -> Iterator[Line]:
        """Lines in order, decoded (a byte-order mark is dropped), ends (LF or CRLF) removed.

        Raises:
            DatasetError: for bytes that are not in the encoding and for a line longer than MAX_LINE_BYTES, with file:line.
        """
        for number, raw in self.raw_lines():
            text = decode(raw, f"{self.name}:{number}", encoding)
            yield Line(number, text[:-2] if text.endswith("\r\n") else text.removesuffix("\n"))

    def raw_lines(self) -> Iterator[tuple[int, bytes]]:
        """(1-based number, bytes with the line end) of every line, limited to MAX_LINE_BYTES."""
        with self.open() as stream:
            number = unwatched = 0
            while raw := stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                unwatched += len(raw)
                if self.watch is not None and unwatched >= WATCH_BYTES:
                    self.watch(unwatched)
                    unwatched = 0
                if len(raw) > MAX_LINE_BYTES:
                    limit = MAX_LINE_BYTES // 2**20
                    raise DatasetError(f"{self.name}:{number}: line: longer than {limit} MiB: write one row a line")
                if number == 1:
                    raw = _without_mark(raw, self.name)
                yield number, raw

    def head(self, num_lines: int = 20) -> list[str]:
        """The first lines, for guessing what the file is; undecodable or broken files give []."""
        lines: list[str] = []
        try:
            for line in self.lines():
                lines.append(line.text)
                if len(lines) >= num_lines:
                    break
        except DatasetError:
            return []
        return lines


@dataclass(frozen=True, kw_only=True)
class Source:
    """A named set of files, in a fixed (sorted) order."""

    name: str
    files: tuple[SourceFile, ...]

    def content_hash(self) -> str:
        """SHA-256 over the names and bytes of all files: the same content imported twice is recognised by it."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(f"{file.stem_name}\0".encode())
            with file.open() as stream:
                while block := stream.read(_BUFFER_BYTES):
                    digest.update(block)
        return digest.hexdigest()

    def watched(self, watch: Watch | None) -> "Source":
        """The same source, telling `watch` how reading goes on."""
        return replace(self, files=tuple(replace(file, watch=watch) for file in self.files))

    def with_suffix(self, *suffixes: str) -> tuple[SourceFile, ...]:
        """Files with one of the suffixes (lower case, with the dot), in order."""
        return tuple(f for f in self.files if f.suffix in suffixes)

    def named(self, *names: str) -> SourceFile | None:
        """The first file with one of these bare names, ignoring case, or None."""
        wanted = {n.lower() for n in names}
        return next((f for f in self.files if f.stem_name.lower() in wanted), None)


def open_source(path: Path) -> Source:
    """The files under `path`: the file itself, everything in a directory, or the members of a .zip.

    Raises:
        DatasetError: if the path does not exist, or an archive is broken, hostile or too large.
    """
    path = Path(path)
    if path.is_dir():
        inside = (p for p in sorted(path.rglob("*")) if p.is_file() and not _is_hidden(p.relative_to(path)))
        files = tuple(f for p in inside for f in _files_of(p, p.relative_to(path).as_posix()))
    elif path.is_file():
        files = _files_of(path, path.name)
    else:
        raise DatasetError(f"{path}: path: does not exist: give a file, a directory or a .zip")
    if not files:
        raise DatasetError(f"{path}: holds no files: give a file or a directory with data")
    return Source(name=path.name, files=files)


def _files_of(path: Path, name: str) -> tuple[SourceFile, ...]:
    name = "".join(c if c.isprintable() else "?" for c in name)
    if path.suffix.lower() == ".zip":
        return _zip_members(path, name)
    if path.suffix.lower() == ".gz":
        return (SourceFile(name=name, opener=lambda: _open_gzip(path, name)),)
    return (SourceFile(name=name, opener=lambda: path.open("rb", buffering=_BUFFER_BYTES), path=path),)


def _open_gzip(path: Path, name: str) -> BinaryIO:
    size = path.stat().st_size
    return _limited(gzip.open(path, "rb"), packed_bytes=size, name=name)


def _zip_members(path: Path, name: str) -> tuple[SourceFile, ...]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [i for i in archive.infolist() if not i.filename.endswith("/")]
    except (*_BROKEN_ARCHIVE, OSError, ValueError) as error:
        raise DatasetError(f"{name}: archive: {_one_line(error)}: make the .zip again") from error
    if len(infos) > MAX_ARCHIVE_MEMBERS:
        raise DatasetError(f"{name}: archive: {len(infos)} members: keep it to {MAX_ARCHIVE_MEMBERS}")
    total = sum(i.file_size for i in infos)
    if total > MAX_EXPANDED_BYTES:
        raise DatasetError(f"{name}: archive: expands to {total} bytes: keep it under {MAX_EXPANDED_BYTES}")
    members = []
    for info in sorted(infos, key=lambda i: i.filename):
        _check_member(info, name)
        if not _is_hidden(PurePosixPath(info.filename)) and not info.filename.startswith("__MACOSX/"):
            members.append(_member_file(path, name, info))
    return tuple(members)


def _check_member(info: zipfile.ZipInfo, name: str) -> None:
    """Nothing is ever extracted to its own path, yet a name that tries to leave shows what the archive is for."""
    member = PurePosixPath(info.filename.replace("\\", "/"))
    if not info.filename.isprintable():
        raise DatasetError(f"{name}: archive: member {info.filename!r} has control characters in its name: rename it")
    if member.is_absolute() or ".." in member.parts or ":" in info.filename or not member.parts:
        raise DatasetError(f"{name}: archive: member {info.filename!r} points outside: remove it")
    if (info.external_attr >> 16) & 0o170000 == 0o120000:
        raise DatasetError(f"{name}: archive: member {info.filename!r} is a symbolic link: store the file itself")
    if info.flag_bits & 0x1:
        raise DatasetError(f"{name}: archive: member {info.filename!r} is encrypted: store it without a password")
    if member.suffix.lower() == ".zip":
        raise DatasetError(f"{name}: archive: member {info.filename!r} is an archive itself: unpack it first")


def _member_file(path: Path, name: str, info: zipfile.ZipInfo) -> SourceFile:
    member_name = f"{name}:{info.filename}"

    def opener() -> BinaryIO:
        member = zipfile.ZipFile(path).open(info.filename)  # noqa: SIM115 (the caller closes it)
        stream = _limited(member, packed_bytes=info.compress_size, name=member_name)
        if info.filename.lower().endswith(".gz"):
            stream = _limited(gzip.GzipFile(fileobj=stream), packed_bytes=info.file_size, name=member_name)
        return stream

    return SourceFile(name=member_name, opener=opener)


class _LimitedReader(io.RawIOBase):
    """Counts what comes out of a decompressor and stops at the limits."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, packed_bytes: int, name: str) -> None:
        super().__init__()
        self._stream = stream
        self._allowed = min(MAX_EXPANDED_BYTES, max(FREE_EXPANSION_BYTES, MAX_EXPANSION * max(packed_bytes, 1)))
        self._name = name
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        block = self._stream.read(len(buffer))
        self._count += len(block)
        if self._count > self._allowed:
            raise DatasetError(
                f"{self._name}: archive: expands more than {MAX_EXPANSION} times: unpack it yourself if you trust it"
            )
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._stream.close()
        super().close()


def _limited(stream: IO[bytes] | gzip.GzipFile, *, packed_bytes: int, name: str) -> BinaryIO:
    return io.BufferedReader(_LimitedReader(stream, packed_bytes, name), _BUFFER_BYTES)


def decode(raw: bytes, place: str, encoding: str = "utf-8") -> str:
    """Text of `raw`. Raises DatasetError with `place` and the first bad byte."""
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        byte = raw[error.start]
        message = f"byte 0x{byte:02x} at {error.start} is not {encoding.upper()}: save the file as UTF-8"
        raise DatasetError(f"{place}: encoding: {message}") from error


def _without_mark(raw: bytes, name: str) -> bytes:
    for mark, encoding in _WIDE_MARKS:
        if raw.startswith(mark):
            raise DatasetError(f"{name}:1: encoding: {encoding}: save the file as UTF-8")
    return raw.removeprefix(b"\xef\xbb\xbf")


def _is_hidden(path: Path | PurePosixPath) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
