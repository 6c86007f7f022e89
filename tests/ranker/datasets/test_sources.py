"""Sources: archives, limits, encodings. Hostile input is refused in one line."""

import gzip
import io
import zipfile
from pathlib import Path

import pytest

from ranker.datasets import sources
from ranker.datasets.sources import open_source
from ranker.errors import DatasetError, UsageError


def text_of(path: Path) -> dict[str, list[str]]:
    return {file.name: [line.text for line in file.lines()] for file in open_source(path).files}


def make_zip(path: Path, members: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_file_directory_zip_and_gz_hold_the_same_lines(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    (plain / "deep").mkdir(parents=True)
    (plain / "a.txt").write_bytes(b"one\r\ntwo\n")
    (plain / "deep" / "b.txt").write_bytes("drei ß".encode())
    (plain / ".hidden").write_text("no")
    packed = tmp_path / "packed"
    packed.mkdir()
    (packed / "a.txt.gz").write_bytes(gzip.compress(b"one\r\ntwo\n"))
    archive = make_zip(
        tmp_path / "all.zip",
        {
            "a.txt": b"one\r\ntwo\n",
            "deep/b.txt": "drei ß".encode(),
            "__MACOSX/a.txt": b"junk",
            "c.txt.gz": gzip.compress(b"x"),
        },
    )
    assert text_of(plain) == {"a.txt": ["one", "two"], "deep/b.txt": ["drei ß"]}
    assert text_of(packed) == {"a.txt.gz": ["one", "two"]}
    assert text_of(archive) == {
        "all.zip:a.txt": ["one", "two"],
        "all.zip:c.txt.gz": ["x"],
        "all.zip:deep/b.txt": ["drei ß"],
    }
    assert [f.suffix for f in open_source(packed).files] == [".txt"]


def test_the_content_hash_sees_names_and_bytes_but_not_the_way_of_packing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.csv").write_bytes(b"1\n")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.csv.gz").write_bytes(gzip.compress(b"1\n"))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "x.csv").write_bytes(b"2\n")
    hashes = [open_source(tmp_path / name).content_hash() for name in "abc"]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("member", "says"),
    [
        ("../up.jsonl", "points outside"),
        ("/etc/passwd", "points outside"),
        ("a/../../b.jsonl", "points outside"),
        ("..\\up.jsonl", "points outside"),
        ("C:evil.jsonl", "points outside"),
        ("inner.zip", "is an archive itself"),
    ],
)
def test_archive_members_that_play_tricks_are_refused(tmp_path: Path, member: str, says: str) -> None:
    archive = make_zip(tmp_path / "t.zip", {member: b"x\n"})
    with pytest.raises(DatasetError, match=says):
        open_source(archive)


def test_symbolic_links_and_passwords_in_archives_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.jsonl")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DatasetError, match="symbolic link"):
        open_source(tmp_path / "link.zip")
    data = bytearray(make_zip(tmp_path / "p.zip", {"a.txt": b"x"}).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "p.zip").write_bytes(bytes(data))
    with pytest.raises(DatasetError, match="encrypted"):
        open_source(tmp_path / "p.zip")


@pytest.mark.parametrize("kind", ["zip", "gz"])
def test_bombs_stop_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(sources, "FREE_EXPANSION_BYTES", 2**16)
    zeros = (b"0" * 1023 + b"\n") * 4096
    path = tmp_path / f"bomb.{kind}"
    if kind == "zip":
        make_zip(path, {"bomb.txt": zeros})
    else:
        path.write_bytes(gzip.compress(zeros))
    with pytest.raises(DatasetError, match="expands more than 100 times"):
        text_of(path)


def test_a_zip_that_lies_about_its_sizes_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "lie.zip", {"a.txt": b"hello\n" * 1000})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x03\x04") + 30 + 5 + 10] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(DatasetError, match=r"lie\.zip:a\.txt: archive: "):
        text_of(path)


def test_too_many_members_and_cut_off_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_zip(tmp_path / "many.zip", {f"{i}.txt": b"" for i in range(4)})
    monkeypatch.setattr(sources, "MAX_ARCHIVE_MEMBERS", 3)
    with pytest.raises(DatasetError, match="4 members"):
        open_source(path)
    cut = tmp_path / "cut.zip"
    cut.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DatasetError, match=r"^cut\.zip: archive: "):
        open_source(cut)
    gz = tmp_path / "cut.txt.gz"
    gz.write_bytes(gzip.compress(b"a line\n" * 100)[:-12])
    with pytest.raises(DatasetError, match=r"^cut\.txt\.gz: archive: "):
        text_of(gz)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"fine\n\xff\xfe\n", r"^f\.txt:2: encoding: byte 0xff at 0 is not UTF-8"),
        (b"\xff\xfea\x00", r"^f\.txt:1: encoding: UTF-16"),
        (b"caf\xe9\n", r"^f\.txt:1: encoding: byte 0xe9 at 3"),
    ],
)
def test_bytes_that_are_not_utf8_are_named_with_their_line(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "f.txt").write_bytes(data)
    with pytest.raises(DatasetError, match=says):
        text_of(tmp_path / "f.txt")


def test_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "f.txt").write_bytes(b"\xef\xbb\xbfid\nx\n")
    assert text_of(tmp_path / "f.txt") == {"f.txt": ["id", "x"]}


def test_a_line_longer_than_the_limit_is_refused_without_reading_it_all(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    with path.open("wb") as file:
        file.write(b"{}\n")
        file.seek(100 * 2**20)
        file.write(b"\n")
    with pytest.raises(DatasetError, match=r"^long\.jsonl:2: line: longer than 16 MiB: write one row a line$"):
        text_of(path)


def test_reading_is_watched_and_can_be_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "WATCH_BYTES", 100)
    (tmp_path / "f.txt").write_bytes(b"0123456789\n" * 40)
    told: list[int] = []
    (file,) = open_source(tmp_path / "f.txt").watched(told.append).files
    assert len(list(file.lines())) == 40
    assert told == [110] * 4

    def give_up(_: int) -> None:
        raise UsageError("enough")

    (file,) = open_source(tmp_path / "f.txt").watched(give_up).files
    with pytest.raises(UsageError, match="enough"):
        list(file.lines())


def test_missing_and_empty_sources(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        open_source(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="holds no files"):
        open_source(tmp_path / "empty")


def test_a_seekable_copy_of_a_packed_file(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"x.bin": b"0123456789"})
    with open_source(archive).files[0].open_seekable() as stream:
        stream.seek(-3, io.SEEK_END)
        assert stream.read() == b"789"
