"""Files on their way in: a raw body or one part of a form, handed on in pieces and never held whole.

A file counts as whole only when its sender has said so: by the form's closing line, and by as many bytes as were announced
or the final chunk. The server raises where a connection ends before that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from meta_sync.catalog.ingest.import_rows import end_import
from meta_sync.core.db import Database
from meta_sync.core.errors import ErrorDetail, InvalidRequestError, ValidationFailedError
from meta_sync.core.text import text_fault

__all__ = ["FileForm", "UploadOptions", "abandon_upload", "read_form", "whole_body"]

_FIELDS = {
    "format": "format",
    "mode": "mode",
    "source": "source",
    "dryRun": "dry_run",
    "allowMassDelete": "allow_mass_delete",
}
"""Fields of a form, each with the option it sets."""
_SWITCHES = {"true": True, "false": False}
_LONGEST_FIELD_BYTES = 1_000
_LONGEST_HEADER_BYTES = 4_096
_MOST_PARTS = 20
_HELD_BYTES = 4 * 1024 * 1024
"""How much of the file is held back while fields may still follow it. Forms built by hand often put the file first."""


@dataclass(slots=True)
class UploadOptions:
    """How a file is to be imported."""

    format: str | None = None
    mode: str | None = None
    source: str | None = None
    file_name: str | None = None
    dry_run: bool = False
    allow_mass_delete: bool = False


@dataclass(slots=True)
class _Part:
    headers: dict[str, str] = field(default_factory=dict)
    name: str = ""
    value: bytearray = field(default_factory=bytearray)


class _FormReader:
    """Turns the parser's callbacks into options and pieces of the file."""

    def __init__(self, boundary: bytes, options: UploadOptions) -> None:
        self.options = options
        self.pieces: list[bytes] = []
        self.file_began = False
        self.ended = False
        self.options_used = False
        """Set once the import was begun; a field that comes later is too late."""
        self._parts = 0
        self._part = _Part()
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def feed(self, data: bytes) -> None:
        """Read on."""
        try:
            self._parser.write(data)
        except FormParserError:
            raise InvalidRequestError("The form cannot be read: it is not multipart/form-data.") from None

    def require_end(self) -> None:
        """Refuse a form without its closing line: the file may be cut off."""
        if not self.ended:
            raise InvalidRequestError("The form breaks off before its end. Nothing of the file was imported.")

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise InvalidRequestError(f"The form has more than {_MOST_PARTS} parts.")
        self._part = _Part()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]
        self._bound_header()

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]
        self._bound_header()

    def _bound_header(self) -> None:
        if len(self._header_name) + len(self._header_value) > _LONGEST_HEADER_BYTES:
            raise InvalidRequestError("A header of the form's parts is too long.")

    def _on_header_end(self) -> None:
        name = self._header_name.decode("latin-1").lower()
        # As bytes that only look like text: the parser of its parameters makes bytes of it again.
        self._part.headers[name] = self._header_value.decode("latin-1")
        self._header_name.clear()
        self._header_value.clear()

    def _on_headers_finished(self) -> None:
        _, parameters = parse_options_header(self._part.headers.get("content-disposition", ""))
        self._part.name = parameters.get(b"name", b"").decode("utf-8", "replace")
        if self._part.name == "file":
            if self.file_began:
                raise InvalidRequestError("The form has more than one file. Send one file per import.")
            self.file_began = True
            file_name = parameters.get(b"filename", b"").decode("utf-8", "replace")
            self.options.file_name = self.options.file_name or file_name or None

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part.name == "file":
            self.pieces.append(bytes(data[start:end]))
            return
        self._part.value += data[start:end]
        if len(self._part.value) > _LONGEST_FIELD_BYTES:
            raise _bad_field(self._part.name, f"must have at most {_LONGEST_FIELD_BYTES} bytes")

    def _on_part_end(self) -> None:
        name = self._part.name
        if name == "file":
            return
        if name not in _FIELDS:
            # A switch that is spelt wrongly must not turn a dry run into a real one.
            raise _bad_field(name, f"is no option of an import; they are {', '.join(_FIELDS)}")
        try:
            value = self._part.value.decode("utf-8")
        except UnicodeDecodeError:
            raise _bad_field(name, "must be UTF-8") from None
        fault = text_fault(value)
        if fault is not None:
            raise _bad_field(name, fault)
        if not value:
            return
        if self.options_used:
            raise _bad_field(name, "must come before the file, or stand in the query")
        if name not in {"dryRun", "allowMassDelete"}:
            setattr(self.options, _FIELDS[name], value)
        elif value.lower() in _SWITCHES:
            # On wherever it is asked for: a form does not take back what its address says.
            is_on = getattr(self.options, _FIELDS[name]) or _SWITCHES[value.lower()]
            setattr(self.options, _FIELDS[name], is_on)
        else:
            raise _bad_field(name, "must be true or false")

    def _on_end(self) -> None:
        self.ended = True


def _bad_field(name: str, fault: str) -> ValidationFailedError:
    shown = name[:100] or "field"
    return ValidationFailedError(
        f"The form is not valid: {shown} {fault}.", details=[ErrorDetail(shown, fault)]
    )


class FileForm:
    """The one file of a form, with the options that are known when its import must begin."""

    def __init__(self, reader: _FormReader, stream: AsyncIterator[bytes]) -> None:
        self._reader = reader
        self._stream = stream

    @property
    def options(self) -> UploadOptions:
        """As far as they were read. Taking them says that the import begins now."""
        self._reader.options_used = True
        return self._reader.options

    async def pieces(self) -> AsyncIterator[bytes]:
        """The file to its end.

        Raises
        ------
        InvalidRequestError
            The form breaks off before its closing line, or is damaged.
        """
        while True:
            held, self._reader.pieces = self._reader.pieces, []
            for piece in held:
                yield piece
            data = await anext(self._stream, None)
            if data is None:
                break
            self._reader.feed(data)
        self._reader.require_end()


async def read_form(request: Request, options: UploadOptions) -> FileForm:
    """Read a multipart form up to the point where its import can begin: its end, or much of its file.

    Raises
    ------
    InvalidRequestError, ValidationFailedError
        It is no form, has no part called ``file``, or one of its fields cannot be used.
    """
    _, parameters = parse_options_header(request.headers.get("content-type", ""))
    boundary = parameters.get(b"boundary", b"")
    if not boundary:
        raise InvalidRequestError("The form has no boundary in its Content-Type.")
    reader = _FormReader(boundary, options)
    stream = aiter(whole_body(request))
    held = 0
    async for data in stream:
        reader.feed(data)
        held += len(data)
        if held > _HELD_BYTES and reader.file_began:
            break
    else:
        reader.require_end()
    if not reader.file_began:
        raise ValidationFailedError(
            "The form has no part called file.", details=[ErrorDetail("file", "is required")]
        )
    return FileForm(reader, stream)


async def whole_body(request: Request) -> AsyncIterator[bytes]:
    """The body to its proved end, piece by piece.

    Raises
    ------
    InvalidRequestError
        Fewer or more bytes came than were announced. (A connection that ends early raises ``ClientDisconnect``.)
    """
    announced = request.headers.get("content-length", "")
    came = 0
    async for piece in request.stream():
        came += len(piece)
        yield piece
    if announced.isascii() and announced.isdigit() and came != int(announced):
        raise InvalidRequestError(
            f"The body has {came:,} bytes, but {int(announced):,} were announced. Nothing of the file was imported."
        )


async def abandon_upload(database: Database, store_id: str, import_id: str, reason: str) -> None:
    """End an import whose file did not come whole, so that it neither waits nor keeps what came of it."""
    async with database.store(store_id) as connection:
        await end_import(
            connection, import_id, 0, status="error", message=reason, error_code="file_not_received"
        )
