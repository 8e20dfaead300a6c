"""Compressed files come out whole or are refused; what is in their headers is believed nowhere."""

from __future__ import annotations

import gzip
import io
import random
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest
from typing_extensions import override

from meta_sync.catalog.ingest.compression import (
    MAX_INFLATED_BYTES,
    Inflation,
    InflationLimits,
    compression_of,
    inflate_head,
    inflated_bytes_allowed,
)
from meta_sync.catalog.ingest.detect import detect
from meta_sync.catalog.ingest.rows import FileRefusedError

FEED = b"id,title,price,link\n" + b"".join(
    b"s%d,Item %d,%d.00 USD,https://shop.example/%d\n" % (n, n, n, n) for n in range(20_000)
)


class Pipe(io.RawIOBase):
    """A target that cannot be gone back in, so that sizes follow the data."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    @override
    def writable(self) -> bool:
        return True

    @override
    def write(self, data: object, /) -> int:
        piece = bytes(data)  # type: ignore[call-overload]  # all that parts of it can be
        self.written += piece
        return len(piece)


def zipped(*files: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in files:
            archive.writestr(zipfile.ZipInfo(name), content, method)
        archive.comment = comment
    return file.getvalue()


def inflate(data: bytes, folder: Path, limits: InflationLimits | None = None, seconds: float = 0.0) -> bytes:
    source, target = folder / "packed", folder / "plain"
    source.write_bytes(data)
    inflation = Inflation(source, target, limits or InflationLimits())
    try:
        while not inflation.advance(seconds):
            pass
    finally:
        inflation.close()
    return target.read_bytes()


def refusal(data: bytes, folder: Path, limits: InflationLimits | None = None) -> str:
    with pytest.raises(FileRefusedError) as refused:
        inflate(data, folder, limits)
    assert refused.value.message.endswith(".")
    return refused.value.message


# --- what is read -------------------------------------------------------------------------------------------------


def streamed_zip() -> bytes:
    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("feed.csv", FEED)
    return pipe.written


GOOD = {
    "gzip": gzip.compress(FEED, mtime=0),
    "gzip with a name": b"\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\x03feed.csv\x00" + gzip.compress(FEED, mtime=0)[10:],
    "gzip in parts": b"".join(gzip.compress(FEED[at : at + 5_000], mtime=0) for at in range(0, len(FEED), 5_000)),
    "gzip with an empty part": gzip.compress(b"", mtime=0) + gzip.compress(FEED, mtime=0) + gzip.compress(b"", mtime=0),
    "gzip filled up with zeros": gzip.compress(FEED, mtime=0) + b"\x00" * 100_000,
    "zip": zipped(("feed.csv", FEED)),
    "zip, stored": zipped(("feed.csv", FEED), method=zipfile.ZIP_STORED),
    "zip, streamed": streamed_zip(),
    "zip with a comment": zipped(("export/feed.csv", FEED), comment=b"made by a shop"),
    "zip of a Mac": zipped(
        (".DS_Store", b"x" * 100), ("feed/", b""), ("feed/feed.csv", FEED), ("__MACOSX/feed/._feed.csv", b"y" * 200)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_what_comes_out_is_what_went_in(name: str, tmp_path: Path) -> None:
    data = GOOD[name]
    assert inflate(data, tmp_path) == FEED
    assert inflate(data, tmp_path, seconds=10.0) == FEED
    start = inflate_head(data[:65_536])
    assert FEED.startswith(start)
    assert len(start) >= 1_000
    assert detect(data[:65_536], "feed.bin").name == "google-csv"


@pytest.mark.parametrize("name", GOOD)
def test_a_cut_file_never_counts_as_whole(name: str, tmp_path: Path) -> None:
    data = GOOD[name].rstrip(b"\x00") if "zeros" in name else GOOD[name]
    chance = random.Random(5)
    places = {len(data) - 1, len(data) - 4, len(data) - 8, len(data) - 9, len(data) // 2, 5, 11}
    places |= {chance.randrange(5, len(data)) for _ in range(25)}
    members = 0
    for place in sorted(places):
        try:
            found = inflate(data[:place], tmp_path)
        except FileRefusedError:
            continue
        members += 1
        # Only where a part of a gzip file ends is what came before a whole file by itself.
        assert "part" in name
        assert data[place : place + 2] == b"\x1f\x8b"
        assert FEED.startswith(found)
    assert members <= 3


@pytest.mark.parametrize("name", ["gzip", "zip", "zip, stored", "zip, streamed"])
def test_damage_is_found(name: str, tmp_path: Path) -> None:
    data = GOOD[name]
    end = len(data) if name == "gzip" else data.index(b"PK\x01\x02")
    chance = random.Random(7)
    for place in (chance.randrange(60, end - 30) for _ in range(60)):
        broken = bytearray(data)
        broken[place] ^= 1 << chance.randrange(8)
        assert "damaged" in refusal(bytes(broken), tmp_path) or "breaks off" in refusal(
            bytes(broken), tmp_path
        )


def test_what_follows_the_end_is_refused(tmp_path: Path) -> None:
    packed = GOOD["gzip"]
    for rest in (b"x", b"id,title\n", b"\x00\x00x", b"\x00" * 70_000 + packed, b"\x1fx", b"\x1f"):
        assert "followed" in refusal(packed + rest, tmp_path) or rest == b"\x1f"
    with pytest.raises(FileRefusedError):
        inflate(packed + b"\x1f", tmp_path)
    for rest in (b"x", b"\x00" * 30):
        assert "followed" in refusal(GOOD["zip"] + rest, tmp_path)


# --- headers that lie ---------------------------------------------------------------------------------------------


def test_a_length_that_lies_is_found(tmp_path: Path) -> None:
    packed = GOOD["gzip"]
    assert "damaged" in refusal(packed[:-4] + struct.pack("<L", 5), tmp_path)
    archive = GOOD["zip"]
    directory = archive.index(b"PK\x01\x02")
    first = FEED[:100]
    for change in (
        # The list says that the file is shorter, with the sum of that shorter file.
        ((directory + 16, zlib.crc32(first)), (directory + 24, len(first))),
        ((directory + 24, len(FEED) + 1),),
        ((directory + 20, 100),),
        ((directory + 42, 3),),
        ((directory + 42, 2**31),),
    ):
        broken = bytearray(archive)
        for place, value in change:
            struct.pack_into("<L", broken, place, value)
        assert "damaged" in refusal(bytes(broken), tmp_path)


def test_bombs_are_stopped_while_they_go_off(tmp_path: Path) -> None:
    zeros = b"\x00" * 30_000_000
    for bomb in (gzip.compress(zeros, mtime=0), zipped(("feed.csv", zeros))):
        tracemalloc.start()
        try:
            limits = InflationLimits(inflated_bytes=5_000_000)
            assert "larger than 5,000,000 bytes" in refusal(bomb, tmp_path, limits)
            assert "grows more than 100 times" in refusal(
                bomb, tmp_path, InflationLimits(ratio=100, free_bytes=2_000_000)
            )
            assert tracemalloc.get_traced_memory()[1] < 8_000_000
        finally:
            tracemalloc.stop()
        assert (tmp_path / "plain").stat().st_size <= 6_000_000
        assert len(inflate_head(bomb[:65_536])) <= 65_536
    assert len(inflate(gzip.compress(zeros, mtime=0), tmp_path)) == len(zeros)
    assert inflated_bytes_allowed(1_000_000) == 20_000_000
    assert inflated_bytes_allowed(16 * 1024**3) == MAX_INFLATED_BYTES


def test_a_gzip_file_of_too_many_parts_is_refused(tmp_path: Path) -> None:
    assert "more than 100,000 parts" in refusal(gzip.compress(b"", mtime=0) * 100_001, tmp_path)


def test_an_endless_list_of_files_is_not_read(tmp_path: Path) -> None:
    archive = bytearray(zipped(*((f"{number:0100d}.csv", b"") for number in range(8_000))))
    assert "too many files" in refusal(bytes(archive), tmp_path)


# --- what is refused ----------------------------------------------------------------------------------------------


def with_flags(archive: bytes, *, flags: int = 0, method: int | None = None) -> bytes:
    changed = bytearray(archive)
    for mark, flags_at, method_at in ((b"PK\x03\x04", 6, 8), (b"PK\x01\x02", 8, 10)):
        place = archive.index(mark)
        struct.pack_into("<H", changed, place + flags_at, flags)
        if method is not None:
            struct.pack_into("<H", changed, place + method_at, method)
    return bytes(changed)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            zipped(("a.csv", FEED), ("b.csv", FEED), ("c/d.csv", b"x")),
            '3 files ("a.csv", "b.csv", "c/d.csv")',
        ),
        (zipped(*((f"{n}.csv", b"x") for n in range(9))), '"4.csv", …'),
        (zipped(), "holds no file"),
        (zipped(("folder/", b""), ("__MACOSX/._x", b"x")), "holds no file"),
        (zipped(("[Content_Types].xml", b"<Types/>"), ("xl/workbook.xml", b"<x/>")), "Excel workbook"),
        (zipped(("mimetype", b"x"), ("content.xml", b"<x/>")), "OpenDocument"),
        (zipped(("a.zip", zipped(("feed.csv", FEED)))), "another archive"),
        (zipped(("a.csv.gz", gzip.compress(FEED, mtime=0))), "another archive"),
        (gzip.compress(gzip.compress(FEED, mtime=0), mtime=0), "another archive"),
        (with_flags(zipped(("a.csv", FEED)), flags=1), "password"),
        (with_flags(zipped(("a.csv", FEED)), method=12), "method that is not read here (12)"),
        (gzip.compress(b"", mtime=0), "empty file"),
        (zipped(("a.csv", b"")), "empty file"),
        (b"\x1f\x8b\x08", "breaks off"),
        (b"\x1f\x8bnothing that is gzip", "damaged"),
        (b"PK\x03\x04nothing that is zip", "damaged"),
    ],
)
def test_other_archives_are_refused_with_a_sentence(data: bytes, words: str, tmp_path: Path) -> None:
    assert words in refusal(data, tmp_path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (zipped(), "holds no file"),
        (zipped(("[Content_Types].xml", b"<Types/>")), "Excel workbook"),
        (with_flags(zipped(("a.csv", FEED)), flags=1), "password"),
        (zipped(("a.zip", zipped(("feed.csv", FEED)))), "another archive"),
        (
            zipped((".DS_Store", b"x" * 70_000), ("feed.csv", FEED), method=zipfile.ZIP_STORED),
            "Say which format",
        ),
        (zipped(("a.csv", b"")), "empty"),
        (b"PK\x03\x04rest", "Say which format"),
        (b"\x1f\x8bnothing that is gzip", "damaged"),
        (gzip.compress(b"<html></html>", mtime=0), "HTML page"),
    ],
)
def test_recognising_refuses_what_the_beginning_shows(data: bytes, words: str) -> None:
    with pytest.raises(FileRefusedError) as refused:
        detect(data[:65_536], "feed.zip")
    assert words in refused.value.message


def test_other_files_are_left_alone() -> None:
    for data in (b"", b"id,title\n", b"PK", b"<rss/>", b"\x1f"):
        assert compression_of(data) is None
        assert inflate_head(data) == data


def test_any_damage_ends_in_a_sentence(tmp_path: Path) -> None:
    chance = random.Random(11)
    small = FEED[:3_000]
    samples = [gzip.compress(small, mtime=0), zipped(("a.csv", small), (".x", b"y"), comment=b"c")]
    for _ in range(1_500):
        data = bytearray(chance.choice(samples))
        for _ in range(chance.randrange(1, 5)):
            place = chance.randrange(4, len(data))
            data[place : place + chance.randrange(4)] = chance.randbytes(chance.randrange(4))
        try:
            found = inflate(bytes(data), tmp_path, InflationLimits(inflated_bytes=100_000))
        except FileRefusedError as refused:
            assert refused.message.endswith(".")
        else:
            assert found == small
        try:
            inflate_head(bytes(data))
        except FileRefusedError as refused:
            assert refused.message.endswith(".")
