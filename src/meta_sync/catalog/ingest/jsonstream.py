"""Reads the elements of one JSON array in constant memory: bounded elements, exact numbers, faults with their place.

Knows JSON, not what the elements mean. What breaks the limits or the grammar refuses the file; texts that cannot be
stored (NUL, halves of characters) are the business of those who read the elements.
"""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from typing import BinaryIO

from meta_sync.catalog.ingest.rows import FileRefusedError

__all__ = ["MAX_DEPTH", "MAX_ELEMENT_BYTES", "MAX_NUMBER_CHARS", "check_array", "read_array", "read_text"]

MAX_ELEMENT_BYTES = 4_000_000
"""Length of one element as UTF-8. A product with 2,048 variants has a tenth of it."""
MAX_DEPTH = 100
"""Arrays and objects inside each other within one element, the element included."""
MAX_NUMBER_CHARS = 1_000
"""Characters of a number, and digits it has when written without an exponent."""

_CHUNK_BYTES = 65_536
_HEAD_BYTES = 4
_SCALAR_CHARS = MAX_NUMBER_CHARS + 100
"""A number or word that is cut at the end of the buffer still looks whole: so much has to be there to be sure."""
_CUT_CHARS = 64
"""A fault nearer to the buffer's end may come of the cut: an escape, a word or a number has its other half to come."""
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SPACE = re.compile(r"[ \t\n\r]*+")
_STRING = r'"(?:[^"\\]++|\\.)*+"?'
_BRACKETS = re.compile(rf"{_STRING}|[\[{{]|[\]}}]", re.DOTALL)
_SCALARS = re.compile(rf"{_STRING}|[-+.\w]++", re.DOTALL)

Cancelled = Callable[[], bool]


def read_array(
    file: BinaryIO, is_cancelled: Cancelled, path: Sequence[str] = ()
) -> Iterator[tuple[int, object]]:
    """Yield the elements of the outermost array with their numbers, from 1; with a path, of the array it leads to.

    The path names keys from the outermost object inwards. Everything beside it is read and checked, too. Numbers with a
    fraction or an exponent are `Decimal`, others `int`; of a key that an object has twice the last counts. Ends early,
    without a word, once the import is cancelled. Text is UTF-8 or UTF-16, with or without a byte order mark.

    Raises
    ------
    FileRefusedError
        The file is not JSON, breaks a limit, or has no such array; names line and column. Elements before the place
        have been given out by then: see `check_array`.
    """
    file.seek(0)
    try:
        yield from _Reader(file, is_cancelled).document(path)
    except _CancelledError:
        return


def check_array(file: BinaryIO, is_cancelled: Cancelled, path: Sequence[str] = ()) -> int:
    """Read the file to its end, so that a second reading cannot fail, and count the elements.

    Raises
    ------
    FileRefusedError
        As `read_array` says.
    """
    return sum(1 for _ in read_array(file, is_cancelled, path))


def read_text(text: str, *, line: int = 1) -> object:
    """The one value of a text that is in memory, under the same limits. ``line`` is where the text begins in its file.

    Raises
    ------
    FileRefusedError
        The text is not JSON, breaks a limit, or has more than one value; names line and column.
    """
    return _Reader(io.BytesIO(), lambda: False).only_value(text, line)


class _CancelledError(Exception):
    """The import was cancelled."""


class _NumberError(Exception):
    """A number that is not taken, as the file writes it."""

    def __init__(self, written: str) -> None:
        super().__init__(written)
        self.written = written


def _integer(written: str) -> int:
    if len(written) > MAX_NUMBER_CHARS:
        raise _NumberError(written)
    return int(written)


def _decimal(written: str) -> Decimal:
    if len(written) > MAX_NUMBER_CHARS:
        raise _NumberError(written)
    try:
        number = Decimal(written)
    except InvalidOperation:
        raise _NumberError(written) from None
    if abs(number.adjusted()) > MAX_NUMBER_CHARS:  # a short exponent, but a number that would fill the memory
        raise _NumberError(written)
    return number


def _constant(written: str) -> object:
    raise _NumberError(written)


_DECODER = json.JSONDecoder(parse_float=_decimal, parse_int=_integer, parse_constant=_constant)


class _Reader:
    """The file as text, of which a window is in memory."""

    def __init__(self, file: BinaryIO, is_cancelled: Cancelled) -> None:
        self._file = file
        self._is_cancelled = is_cancelled
        head = b""
        while len(head) < _HEAD_BYTES and (chunk := file.read(_HEAD_BYTES - len(head))):
            head += chunk
        bom, codec = next(((bom, codec) for bom, codec in _BOMS if head.startswith(bom)), (b"", ""))
        if not codec:  # JSON begins with an ASCII character
            codec = {b"\x00": "utf-16-be"}.get(head[:1], "utf-16-le" if head[1:2] == b"\x00" else "utf-8")
        self._decoder = codecs.getincrementaldecoder(codec)("strict")
        self._left = head[len(bom) :]
        self._text = ""
        self._at = 0
        self._is_whole = False
        self._line, self._column = 1, 1  # of the window's first character

    # --- the document -------------------------------------------------------------------------------------------

    def document(self, path: Sequence[str]) -> Iterator[tuple[int, object]]:
        yield from self._follow(path)
        if self._peek():
            raise self._fault("there is more after the end of the document")

    def only_value(self, text: str, line: int) -> object:
        self._text, self._is_whole, self._line = text, True, line
        self._peek()
        value = self._value()
        if self._peek():
            raise self._fault("there is more after the end of the value")
        return value

    def _follow(self, path: Sequence[str]) -> Iterator[tuple[int, object]]:
        if not path:
            if self._peek() != "[":
                raise self._fault("an array is expected here")
            yield from enumerate(self._elements(), start=1)
            return
        if self._peek() != "{":
            raise self._fault(f'an object with the key "{path[0]}" is expected here')
        is_found = False
        for key in self._keys():
            if key != path[0]:
                self._skip()
            elif is_found:
                raise self._fault(f'the key "{path[0]}" is there a second time')
            else:
                is_found = True
                yield from self._follow(path[1:])
        if not is_found:
            raise self._fault(f'the object that ends here has no key "{path[0]}"')

    def _elements(self) -> Iterator[object]:
        """The elements of the array that begins here."""
        for _ in self._members("]"):
            yield self._value()

    def _keys(self) -> Iterator[str]:
        """The keys of the object that begins here; the caller reads each value before it asks for the next key."""
        for first in self._members("}"):
            key = self._value() if first == '"' else None
            if not isinstance(key, str):
                raise self._fault("a key in double quotes is expected here")
            if self._peek() != ":":
                raise self._fault("a colon is expected here")
            self._at += 1
            yield key

    def _members(self, closing: str) -> Iterator[str]:
        """Step over brackets and commas; yields the first character of each member, with the reader standing on it."""
        self._at += 1
        first = self._peek()
        if first == closing:
            self._at += 1
            return
        while True:
            yield first
            mark = self._peek()
            if mark not in {",", closing}:
                raise self._fault(f"a comma or {closing} is expected here")
            self._at += 1
            if mark == closing:
                return
            first = self._peek()

    def _skip(self) -> None:
        """Step over a value of any length."""
        first = self._peek()
        if first == "[":
            for _ in self._elements():
                pass
        elif first == "{":
            for _ in self._keys():
                self._value()
        else:
            self._value()

    # --- values -------------------------------------------------------------------------------------------------

    def _value(self) -> object:
        """The value that begins here or after white space."""
        first = self._peek()
        if first not in {"[", "{", '"'}:
            while not self._is_whole and len(self._text) - self._at < _SCALAR_CHARS:
                self._read()
        while True:
            start = self._at
            try:
                value, end = _DECODER.raw_decode(self._text, start)
            except json.JSONDecodeError as error:
                if self._is_final(error):
                    raise self._fault(_reason(error.msg), error.pos) from None
            except _NumberError as error:
                raise self._number_fault(error.written) from None
            except RecursionError:
                self._check_depth(len(self._text))
                raise self._fault(f"arrays and objects are nested more than {MAX_DEPTH} deep") from None
            else:
                self._check_size(end)
                self._check_depth(end)
                self._at = end
                return value
            self._check_size(len(self._text))
            self._read()

    def _is_final(self, error: json.JSONDecodeError) -> bool:
        """Whether the fault is in the file, not in what of it has been read."""
        if self._is_whole:
            return True
        return not error.msg.startswith("Unterminated string") and error.pos < len(self._text) - _CUT_CHARS

    def _check_size(self, end: int) -> None:
        chars = end - self._at
        if chars * 4 <= MAX_ELEMENT_BYTES:
            return
        if (
            chars > MAX_ELEMENT_BYTES
            or len(self._text[self._at : end].encode("utf-8", "surrogatepass")) > MAX_ELEMENT_BYTES
        ):
            raise self._fault(f"the value that begins here has more than {MAX_ELEMENT_BYTES:,} bytes")

    def _check_depth(self, end: int) -> None:
        if self._text.count("[", self._at, end) + self._text.count("{", self._at, end) <= MAX_DEPTH:
            return
        depth = 0
        for token in _BRACKETS.finditer(self._text, self._at, end):
            mark = self._text[token.start()]
            depth += (mark in "[{") - (mark in "]}")
            if depth > MAX_DEPTH:
                raise self._fault(f"arrays and objects are nested more than {MAX_DEPTH} deep", token.start())

    def _number_fault(self, written: str) -> FileRefusedError:
        tokens = _SCALARS.finditer(self._text, self._at)
        place = next((token.start() for token in tokens if token.group().startswith(written)), self._at)
        if written[-1:].isalpha():
            return self._fault(f"{written} is no JSON number", place)
        return self._fault(f"a number has more than {MAX_NUMBER_CHARS:,} digits", place)

    # --- the window ---------------------------------------------------------------------------------------------

    def _peek(self) -> str:
        """The first character after white space, the reader standing on it; nothing at the end of the file."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if self._is_whole:
                return ""
            self._read()

    def _read(self) -> None:
        """Drop what was read and add to the window as much as it holds, so that long values cost twice their length."""
        if self._is_cancelled():
            raise _CancelledError
        self._line, self._column = self._place(self._at)
        kept = self._text[self._at :]
        self._text, self._at = kept, 0
        data = self._left + self._file.read(max(_CHUNK_BYTES, len(kept)))
        self._is_whole = not data or len(data) == len(self._left)
        self._left = b""
        try:
            self._text = kept + self._decoder.decode(data, final=self._is_whole)
        except UnicodeDecodeError as error:
            whole = error.object[: error.start].decode(error.encoding, "replace")
            self._text = kept + whole
            raise self._fault("there are bytes that are not text in this encoding", len(self._text)) from None

    def _place(self, at: int) -> tuple[int, int]:
        lines = self._text.count("\n", 0, at)
        if not lines:
            return self._line, self._column + at
        return self._line + lines, at - self._text.rfind("\n", 0, at)

    def _fault(self, reason: str, at: int | None = None) -> FileRefusedError:
        line, column = self._place(self._at if at is None else at)
        return FileRefusedError(
            f"The JSON cannot be read at line {line}, column {column}: {reason}.", line=line, column=column
        )


def _reason(message: str) -> str:
    """What the standard module says of a fault, as part of a sentence."""
    words = message.removesuffix(" at").removesuffix(" starting").rstrip(": ")
    return f"{words[:1].lower()}{words[1:]}"
