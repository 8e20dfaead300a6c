"""Products as JSON: one list, or one object per line; in our own body or as flat rows, which the file's head decides.

A list is checked to its end before its first row is given out. Lines stand for themselves: a bad one is a failed row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO

from typing_extensions import override

from meta_sync.catalog.ingest.describe import describe
from meta_sync.catalog.ingest.encoding import decode_head, open_text, read_head, sniff_encoding
from meta_sync.catalog.ingest.formats.json_bodies import BodyRows
from meta_sync.catalog.ingest.formats.json_flat import FlatRows
from meta_sync.catalog.ingest.formats.json_shape import FlatShape, OwnShape, Row, find_rows, shape_of
from meta_sync.catalog.ingest.json_head import JsonHead, read_json_head
from meta_sync.catalog.ingest.jsonstream import MAX_ELEMENT_BYTES, check_array, read_array, read_text
from meta_sync.catalog.ingest.rows import (
    FileRefusedError,
    FormatContext,
    ImportFormat,
    Parsed,
    RowFailure,
    RowWarning,
)

__all__ = ["JsonProducts", "NdjsonProducts"]

_CANCEL_EVERY_ROWS = 500
_SHOWN_CHARS = 200
_SURENESS = {OwnShape: 0.95, FlatShape: 0.9}


class JsonProducts(ImportFormat):
    """A list of products or items, or an object that holds one (``{"products": [...]}``)."""

    name = "json"

    @override
    def recognises(self, head: bytes, file_name: str | None) -> float:
        found = _head(head)
        if found is None or found.form == "lines":
            return 0.0
        shape = shape_of(find_rows(found)[1])
        return 0.0 if shape is None else _SURENESS[type(shape)]

    @override
    def parse(self, file: BinaryIO, context: FormatContext) -> Iterator[Parsed]:
        head = read_head(file)
        found = _head(head)
        if found is not None and found.form == "lines":
            raise FileRefusedError(
                "The file has one JSON object per line, not one list of all; such a file is read as ndjson."
            )
        path, rows = find_rows(found) if found is not None else ((), [])
        reader = _reader(self.name, rows, context)
        if reader is None:
            raise FileRefusedError(describe(head))
        check_array(file, context.is_cancelled, path)
        if isinstance(reader, FlatRows):
            yield reader.first_words()
        for number, value in read_array(file, context.is_cancelled, path):
            yield from _read(reader, number, value)


class NdjsonProducts(ImportFormat):
    """One product or item per line; blank lines are nothing. Rows are numbered by line."""

    name = "ndjson"

    @override
    def recognises(self, head: bytes, file_name: str | None) -> float:
        found = _head(head)
        if found is None or found.form != "lines":
            return 0.0
        shape = shape_of(found.objects)
        return 0.0 if shape is None else _SURENESS[type(shape)]

    @override
    def parse(self, file: BinaryIO, context: FormatContext) -> Iterator[Parsed]:
        head = read_head(file)
        found = _head(head)
        if found is not None and found.form != "lines":
            raise FileRefusedError(
                "The file is one JSON document, not an object per line; such a file is read as json."
            )
        reader = _reader(self.name, found.objects if found is not None else [], context)
        if reader is None:
            raise FileRefusedError(describe(head))
        encoding = sniff_encoding(file, context.is_cancelled)
        if context.is_cancelled():  # the look through the file may have stopped before its end
            return
        if encoding.note:
            yield RowWarning(0, "file", encoding.note, rule="encoding")
        if isinstance(reader, FlatRows):
            yield reader.first_words()
        with open_text(file, encoding) as stream:
            number = 0
            while line := stream.readline(MAX_ELEMENT_BYTES):
                number += 1
                if number % _CANCEL_EVERY_ROWS == 0 and context.is_cancelled():
                    return
                is_cut = len(line) == MAX_ELEMENT_BYTES
                rest = line
                while is_cut and rest and not rest.endswith(("\n", "\r")):
                    rest = stream.readline(MAX_ELEMENT_BYTES)
                yield from _line(reader, number, line, is_cut=is_cut)


_Reader = BodyRows | FlatRows


def _head(head: bytes) -> JsonHead | None:
    return read_json_head(decode_head(head))


def _reader(name: str, rows: Sequence[Row], context: FormatContext) -> _Reader | None:
    shape = shape_of(rows, is_asked_for=True)
    if shape is None:
        return None
    return FlatRows(name, shape, context) if isinstance(shape, FlatShape) else BodyRows(name, context)


def _line(reader: _Reader, number: int, line: str, *, is_cut: bool) -> Iterator[Parsed]:
    text = line.strip(" \t\r\n\ufeff")
    if not text:
        return
    if is_cut or (
        len(text) * 4 > MAX_ELEMENT_BYTES and len(text.encode("utf-8", "surrogatepass")) > MAX_ELEMENT_BYTES
    ):
        message = f"The line has more than {MAX_ELEMENT_BYTES:,} bytes, which is more than any product needs."
        yield RowFailure(number, "row", message, rule="too_long", value=text[:_SHOWN_CHARS])
        return
    try:
        value = read_text(line.strip("\r\n\ufeff"), line=number)
    except FileRefusedError as fault:
        yield RowFailure(number, "row", fault.message, rule="not_json", value=text[:_SHOWN_CHARS])
        return
    yield from _read(reader, number, value)


def _read(reader: _Reader, number: int, value: object) -> Iterator[Parsed]:
    if isinstance(value, dict):
        yield from reader.read(number, value)
    else:
        shown = str(value)[:_SHOWN_CHARS] if isinstance(value, str | int) else None
        message = "The entry is not an object, so it is no product."
        yield RowFailure(number, "row", message, rule="wrong_type", value=shown)
