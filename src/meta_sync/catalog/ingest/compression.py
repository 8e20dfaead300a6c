"""Inflates gzip files and ZIP archives of one file, within bounds. Blocking; knows no format of what is inside.

Sizes in headers are believed nowhere: what comes out is counted while it comes, and compared with them at the end. What
is cut, damaged, followed by anything, encrypted or packed twice is refused, so that an inflated file is a whole one.
"""

from __future__ import annotations

import struct
import time
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from meta_sync.catalog.ingest.rows import FileRefusedError
from meta_sync.catalog.ingest.values import quoted

__all__ = [
    "MAX_INFLATED_BYTES",
    "Inflation",
    "InflationLimits",
    "compression_of",
    "inflate_head",
    "inflated_bytes_allowed",
]

MAX_INFLATED_BYTES = 4 * 1024**3
"""No file grows beyond this, whatever the process takes: a feed of a million products has a tenth of it."""
_TIMES_THE_UPLOAD = 20
"""Feeds shrink to a tenth or a fifteenth; more room than that would only serve those who fill the disk."""

_PIECE_BYTES = 1024 * 1024
_INPUT_BYTES = 64 * 1024
"""Read at once. What follows the end of a gzip member is copied for each member, so this is small."""
_MOST_MEMBERS = 100_000
"""Of one gzip file. Tools that write many (bgzip) begin one every 64 KiB."""
_MOST_DIRECTORY_BYTES = 1024 * 1024
"""Read at once of a ZIP archive's list of files: some ten thousand of them, where one is wanted."""
_HEAD_STEP_BYTES = 1_024
"""So much of a head is inflated at once: what comes out before a damaged place still shows what the file is."""
_GZIP = b"\x1f\x8b"
_ZIP = b"PK\x03\x04"
_ZIP_EMPTY = b"PK\x05\x06"
_ZIP_END_BYTES = 22
_LOCAL = struct.Struct("<4s5H3L2H")
_ENCRYPTED = 0x1
_SIZES_FOLLOW = 0x8
_STORED, _DEFLATED = 0, 8
_SHOWN_NAMES = 5
_ASIDE = frozenset(("thumbs.db", "desktop.ini"))

_NESTED = (
    "The compressed file holds another archive or an Excel workbook. Unpack it, and send the file inside."
)
_NO_FILE = "The ZIP archive holds no file."
_ENCRYPTED_WORDS = "The ZIP archive is protected by a password. Send it without one."
_EXCEL = "The file is an Excel workbook; save it as CSV."
_OPEN_DOCUMENT = "The file is an OpenDocument spreadsheet or text; save it as CSV."


@dataclass(frozen=True, slots=True)
class InflationLimits:
    """How far a compressed file may grow."""

    inflated_bytes: int = MAX_INFLATED_BYTES
    ratio: int = 1_100
    """Bytes out per byte in. Deflate itself ends at 1,032."""
    free_bytes: int = 10_000_000
    """So much may come out before the ratio counts."""


def inflated_bytes_allowed(max_upload_bytes: int) -> int:
    """How far a compressed upload may grow in a process that takes uploads of this size."""
    return min(_TIMES_THE_UPLOAD * max_upload_bytes, MAX_INFLATED_BYTES)


def compression_of(head: bytes) -> Literal["gzip", "zip"] | None:
    """How a file is compressed, by its first four bytes; no text begins with these."""
    if head.startswith(_GZIP):
        return "gzip"
    return "zip" if head.startswith((_ZIP, _ZIP_EMPTY)) else None


class Inflation:
    """Inflates one file into another, as long at a time as asked for.

    Parameters
    ----------
    source
        The compressed file, gzip or ZIP.
    target
        Where the inflated file goes; written anew.
    """

    def __init__(self, source: Path, target: Path, limits: InflationLimits) -> None:
        self._source = source.open("rb")
        try:
            self._target = target.open("wb")
        except BaseException:
            self._source.close()
            raise
        self._limits = limits
        self._pieces = self._inflated()
        self._head = b""
        self.inflated_bytes = 0

    def advance(self, seconds: float) -> bool:
        """Inflate for about so long; whether the end was reached.

        Raises
        ------
        FileRefusedError
            The file is damaged, cut, too large, or nothing that is read here; the sentence says which.
        """
        deadline = time.monotonic() + seconds
        for piece in self._pieces:
            self._take(piece)
            if time.monotonic() >= deadline:
                return False
        self._target.flush()
        if not self.inflated_bytes:
            raise FileRefusedError("The compressed file holds an empty file.")
        return True

    def close(self) -> None:
        """Let go of both files."""
        self._source.close()
        self._target.close()

    def _inflated(self) -> Iterator[bytes]:
        kind = compression_of(self._source.read(4))
        self._source.seek(0)
        return _gzip_pieces(self._source) if kind == "gzip" else _zip_pieces(self._source)

    def _take(self, piece: bytes) -> None:
        if len(self._head) < 4:
            self._head = (self._head + piece[:4])[:4]
            _refuse_nested(self._head)
        self.inflated_bytes += len(piece)
        limits = self._limits
        if self.inflated_bytes > limits.inflated_bytes:
            raise FileRefusedError(
                f"Inflated, the file is larger than {limits.inflated_bytes:,} bytes, which is the most that is taken"
                " here. Send it in several files."
            )
        if self.inflated_bytes > limits.free_bytes + limits.ratio * self._source.tell():
            raise FileRefusedError(
                f"The file grows more than {limits.ratio:,} times when it is inflated, as no product feed does."
            )
        self._target.write(piece)


def inflate_head(head: bytes) -> bytes:
    """The beginning of what a compressed file holds, as far as the beginning of the file tells; other heads unchanged.

    Raises
    ------
    FileRefusedError
        The archive is none that can be read, or its file does not begin within the head.
    """
    kind = compression_of(head)
    if kind is None:
        return head
    found = _inflated_start(head, 16 + zlib.MAX_WBITS) if kind == "gzip" else _zip_start(head)
    if not found:
        raise FileRefusedError("The compressed file is damaged, or the file in it is empty.")
    _refuse_nested(found)
    return found


# --- gzip ---------------------------------------------------------------------------------------------------------


class _Inflater(Protocol):
    """What ``zlib.decompressobj`` gives."""

    @property
    def eof(self) -> bool: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _gzip_pieces(source: BinaryIO) -> Iterator[bytes]:
    """Everything that the members hold, one after the other. zlib checks the sum and the length of each."""
    members = 0
    data = source.read(_INPUT_BYTES)
    while data:
        members += 1
        if members > _MOST_MEMBERS:
            raise FileRefusedError(f"The gzip file has more than {_MOST_MEMBERS:,} parts.")
        if not data.startswith(_GZIP[: len(data)]):
            raise FileRefusedError(
                "The gzip file is followed by something that is not gzip; it may be damaged."
            )
        inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
        try:
            yield from _stream(inflater, source, data)
        except zlib.error:
            raise FileRefusedError("The gzip file is damaged. Compress or download it again.") from None
        if not inflater.eof:
            raise FileRefusedError("The gzip file breaks off before its end. Compress or download it again.")
        data = inflater.unused_data or source.read(_INPUT_BYTES)
        while data and not data.strip(b"\x00"):  # tapes and block devices fill up with zeros
            data = source.read(_INPUT_BYTES)
        if data[:1] == b"\x00":
            raise FileRefusedError(
                "The gzip file is followed by something that is not gzip; it may be damaged."
            )


def _stream(inflater: _Inflater, source: BinaryIO, data: bytes) -> Iterator[bytes]:
    """Feed from the source until the stream ends or there is no more."""
    while True:
        piece = inflater.decompress(data, _PIECE_BYTES)
        if piece:
            yield piece
        if inflater.eof:
            return
        data = inflater.unconsumed_tail
        if not data and len(piece) < _PIECE_BYTES:
            data = source.read(_INPUT_BYTES)
            if not data:
                return


# --- ZIP ----------------------------------------------------------------------------------------------------------


class _ShortReads:
    """The archive for the standard module, which would read the whole list of files however long it claims to be."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(
            min(size, _MOST_DIRECTORY_BYTES + 1) if size >= 0 else _MOST_DIRECTORY_BYTES + 1
        )
        if len(data) > _MOST_DIRECTORY_BYTES:
            raise FileRefusedError("The ZIP archive holds too many files. Send an archive of one file.")
        return data

    def seekable(self) -> bool:
        return True


def _zip_pieces(source: BinaryIO) -> Iterator[bytes]:
    entry = _only_entry(source)
    if entry.header_offset < 0:
        raise _damaged_zip()
    source.seek(entry.header_offset)
    header = source.read(_LOCAL.size)
    if len(header) < _LOCAL.size or not header.startswith(_ZIP):
        raise _damaged_zip()
    *_, name_bytes, extra_bytes = _LOCAL.unpack(header)
    source.seek(name_bytes + extra_bytes, 1)
    part = _Part(source, entry.compress_size)
    sum_, size = 0, 0
    for piece in part.inflated() if entry.compress_type == _DEFLATED else part.stored():
        sum_, size = zlib.crc32(piece, sum_), size + len(piece)
        yield piece
    if part.left or sum_ != entry.CRC or size != entry.file_size:
        raise _damaged_zip()


class _Part:
    """The bytes of one file in the archive, which is all that may be read of it."""

    def __init__(self, source: BinaryIO, size_bytes: int) -> None:
        self._source = source
        self.left = size_bytes

    def read(self, size: int) -> bytes:
        data = self._source.read(min(size, self.left))
        self.left -= len(data)
        return data

    def stored(self) -> Iterator[bytes]:
        while data := self.read(_PIECE_BYTES):
            yield data

    def inflated(self) -> Iterator[bytes]:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            yield from _stream(inflater, self, self.read(_INPUT_BYTES))  # type: ignore[arg-type]  # only reads
        except zlib.error:
            raise _damaged_zip() from None
        if not inflater.eof or inflater.unused_data:
            raise _damaged_zip()


def _only_entry(source: BinaryIO) -> zipfile.ZipInfo:
    """The one file of the archive, once everything that can be known of it beforehand is in order."""
    try:
        with zipfile.ZipFile(_ShortReads(source)) as archive:
            entries, comment_bytes = archive.infolist(), len(archive.comment)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error):
        raise _damaged_zip() from None
    size_bytes = source.seek(0, 2)
    source.seek(max(0, size_bytes - _ZIP_END_BYTES - comment_bytes))
    end = source.read(_ZIP_END_BYTES)
    if not end.startswith(_ZIP_EMPTY):
        raise FileRefusedError("The ZIP archive is followed by something else; it may be damaged.")
    if int.from_bytes(end[-2:], "little") != comment_bytes:
        raise _damaged_zip()
    _refuse_documents(entry.filename for entry in entries)
    files = [entry for entry in entries if _matters(entry.filename)]
    if not files:
        raise FileRefusedError(_NO_FILE)
    if len(files) > 1:
        shown = ", ".join(quoted(entry.filename) for entry in files[:_SHOWN_NAMES])
        more = ", …" if len(files) > _SHOWN_NAMES else ""
        raise FileRefusedError(
            f"The ZIP archive holds {len(files):,} files ({shown}{more}). Send one file per import."
        )
    _refuse_unreadable(files[0].flag_bits, files[0].compress_type)
    return files[0]


def _zip_start(head: bytes) -> bytes:
    """The beginning of the first file that matters, going from one to the next by what their own headers say."""
    at = 0
    while len(header := head[at : at + _LOCAL.size]) == _LOCAL.size and header.startswith(_ZIP):
        _, _, flags, method, _, _, _, size, _, name_bytes, extra_bytes = _LOCAL.unpack(header)
        name_at = at + _LOCAL.size
        name = head[name_at : name_at + name_bytes].decode("utf-8", "replace")
        content_at = name_at + name_bytes + extra_bytes
        _refuse_documents([name])
        if _matters(name):
            _refuse_unreadable(flags, method)
            content = head[content_at:]
            if method == _DEFLATED:
                return _inflated_start(content, -zlib.MAX_WBITS)
            return content if flags & _SIZES_FOLLOW else content[:size]
        if flags & _SIZES_FOLLOW:
            break
        at = content_at + size
    if head.startswith(_ZIP_EMPTY):
        raise FileRefusedError(_NO_FILE)
    raise FileRefusedError(
        "What the ZIP archive holds cannot be recognised from its beginning. Say which format it is,"
        " or send an archive of one file."
    )


def _matters(name: str) -> bool:
    """Whether an entry is a file that somebody meant to send; systems add their own."""
    parts = name.replace("\\", "/").split("/")
    last = parts[-1]
    return (
        bool(last) and not last.startswith(".") and "__MACOSX" not in parts and last.casefold() not in _ASIDE
    )


def _refuse_documents(names: Iterator[str] | list[str]) -> None:
    for name in names:
        if name in {"[Content_Types].xml", "xl/workbook.xml"}:
            raise FileRefusedError(_EXCEL)
        if name in {"mimetype", "META-INF/manifest.xml"}:
            raise FileRefusedError(_OPEN_DOCUMENT)


def _refuse_unreadable(flags: int, method: int) -> None:
    if flags & _ENCRYPTED:
        raise FileRefusedError(_ENCRYPTED_WORDS)
    if method not in {_STORED, _DEFLATED}:
        raise FileRefusedError(
            f"The ZIP archive is compressed by a method that is not read here ({method}). Use the usual one, Deflate."
        )


def _damaged_zip() -> FileRefusedError:
    return FileRefusedError("The ZIP archive is damaged or breaks off. Pack or download it again.")


# --- both ---------------------------------------------------------------------------------------------------------


def _inflated_start(data: bytes, window_bits: int) -> bytes:
    """What comes out of a stream before it ends, breaks off or turns out damaged; of gzip the next one is read on."""
    found = b""
    inflater = zlib.decompressobj(window_bits)
    while data and len(found) < _INPUT_BYTES:
        piece, data = data[:_HEAD_STEP_BYTES], data[_HEAD_STEP_BYTES:]
        try:
            found += inflater.decompress(piece, _INPUT_BYTES)
        except zlib.error:
            break
        if inflater.eof:
            data = inflater.unused_data + data
            if window_bits < 0 or not data.startswith(_GZIP):
                break
            inflater = zlib.decompressobj(window_bits)
    return found[:_INPUT_BYTES]


def _refuse_nested(head: bytes) -> None:
    if compression_of(head) is not None:
        raise FileRefusedError(_NESTED)
