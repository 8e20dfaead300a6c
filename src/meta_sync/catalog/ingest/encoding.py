"""Finds out how a text file is encoded. Reads bytes, yields no rows and knows no file format."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from charset_normalizer import from_bytes

from meta_sync.catalog.ingest.rows import FileRefusedError

__all__ = ["HEAD_BYTES", "TextEncoding", "decode_head", "open_text", "read_head", "sniff_encoding"]

HEAD_BYTES = 65_536
"""How much of a file is looked at to recognise it."""

_CHUNK_BYTES = 262_144
_CHARSETS = (
    *(f"cp{number}" for number in range(1250, 1259)),  # Windows
    *("cp874", "koi8_r", "cp932", "gb18030", "big5", "euc_jp", "cp949"),
)
"""Legacy charsets that shop systems and spreadsheets still write. Rarer ones make the guess worse for all others."""
_FALLBACK = "cp1252"
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MULTIBYTE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_ESCAPED = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True, slots=True)
class TextEncoding:
    """A codec, how to treat bytes it does not know, and what the merchant should be told about it."""

    codec: str
    errors: str
    note: str | None = None


def read_head(file: BinaryIO) -> bytes:
    """The first bytes of the file, which stands at its start afterwards."""
    file.seek(0)
    head = file.read(HEAD_BYTES)
    file.seek(0)
    return head


def decode_head(head: bytes) -> str:
    """The first bytes as text, good enough to recognise a file; never fails."""
    codec = _unicode_codec(head)
    text = head.decode(codec, "replace")
    if codec == "utf-8" and "\N{REPLACEMENT CHARACTER}" in text[:-1]:
        text = head.decode(_guess_charset(head), "replace")
    return text.removeprefix("\ufeff")


def sniff_encoding(file: BinaryIO, is_cancelled: Callable[[], bool] = lambda: False) -> TextEncoding:
    """Read the whole file once and say how to decode it so that decoding cannot fail later.

    A file that is UTF-8 but for some bytes stays UTF-8; the bytes become lone surrogates, so that only the cells
    that hold them are refused. Any other file is read in the charset that fits it best.

    Raises
    ------
    FileRefusedError
        The file is UTF-16 or UTF-32 and broken.
    """
    codec = _unicode_codec(read_head(file))
    if codec not in {"utf-8", "utf-8-sig"}:
        # surrogatepass exists for the UTF codecs only; a half character then fails its cell, not the file.
        if not _decodes(file, codec, "surrogatepass", is_cancelled):
            raise FileRefusedError(
                f"The file begins as {codec.upper()} text, but breaks off or is damaged further on."
            )
        return TextEncoding(codec, "surrogatepass")
    damaged, whole, sample = _count_utf8(file, is_cancelled)
    if not damaged:
        return TextEncoding(codec, "strict")
    if whole > damaged:
        return TextEncoding(codec, "surrogateescape", f"{damaged} bytes of the file are not UTF-8 text.")
    guess = _guess_charset(sample)
    errors = "strict"
    if not _decodes(file, guess, errors, is_cancelled):
        guess, errors = _FALLBACK, "surrogateescape"
    return TextEncoding(
        guess, errors, f"The file is not UTF-8; it was read as {guess.replace('cp', 'Windows-')}."
    )


@contextmanager
def open_text(file: BinaryIO, encoding: TextEncoding) -> Iterator[io.TextIOWrapper]:
    """The file as text from its start, line ends untouched. The file stays open afterwards."""
    file.seek(0)
    stream = io.TextIOWrapper(file, encoding.codec, encoding.errors, newline="")
    try:
        yield stream
    finally:
        stream.detach()


def _unicode_codec(head: bytes) -> str:
    for bom, codec in _BOMS:
        if head.startswith(bom):
            return codec
    start = head[:2_000]
    if len(start) >= 8 and start.count(0) * 3 > len(start):  # Latin text in UTF-16 is every other byte zero
        return "utf-16-le" if start[1::2].count(0) >= start[::2].count(0) else "utf-16-be"
    return "utf-8"


def _guess_charset(sample: bytes) -> str:
    best = from_bytes(sample, cp_isolation=[*_CHARSETS]).best()
    return best.encoding if best is not None else _FALLBACK


def _chunks(file: BinaryIO, is_cancelled: Callable[[], bool]) -> Iterator[bytes]:
    file.seek(0)
    while not is_cancelled() and (chunk := file.read(_CHUNK_BYTES)):
        yield chunk
    file.seek(0)


def _decodes(file: BinaryIO, codec: str, errors: str, is_cancelled: Callable[[], bool]) -> bool:
    decoder = codecs.getincrementaldecoder(codec)(errors)
    try:
        for chunk in _chunks(file, is_cancelled):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeError:
        return False
    return True


def _count_utf8(file: BinaryIO, is_cancelled: Callable[[], bool]) -> tuple[int, int, bytes]:
    """Bytes that are no UTF-8, characters that are, and a sample around the first damage."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    damaged = whole = 0
    sample = b""
    for chunk in _chunks(file, is_cancelled):
        text = decoder.decode(chunk)
        if chunk.isascii():
            continue
        escaped = len(_ESCAPED.findall(text))
        damaged += escaped
        whole += len(_MULTIBYTE.findall(chunk))
        if escaped and not sample:
            sample = chunk[:HEAD_BYTES] if not chunk[:HEAD_BYTES].isascii() else chunk
    damaged += len(decoder.decode(b"", final=True))
    return damaged, whole, sample
