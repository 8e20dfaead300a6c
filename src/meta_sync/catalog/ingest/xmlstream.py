"""Reads XML feeds item by item in constant memory: no entities, no DTD, nothing fetched, no huge nodes.

Knows elements, not what they mean. A feed is checked to its end before its first item is given out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from lxml import etree

from meta_sync.catalog.ingest.rows import FileRefusedError

__all__ = ["MAX_ITEM_ELEMENTS", "check_feed", "local_name", "refuse_own_entities", "stream_items"]

MAX_ITEM_ELEMENTS = 2_000
"""Elements of one item. Feeds have some dozens; an item with more would only serve to fill the memory."""

_CHUNK_BYTES = 65_536
_CDATA, _COMMENT, _INSTRUCTION = b"<![CDATA[", b"<!--", b"<?"
_CLOSING = {_CDATA: b"]]>", _COMMENT: b"-->", _INSTRUCTION: b"?>"}
_AMPERSAND = re.compile(rb"<!\[CDATA\[|<!--|<\?|&(?!(?:amp|lt|gt|quot|apos|#[0-9]{1,7}|#x[0-9A-Fa-f]{1,6});)")
_OWN_ENTITIES = re.compile(r"<!DOCTYPE[^>\[]*\[", re.IGNORECASE)
_LONGEST_TOKEN = 12
"""Bytes held back at the end of a chunk, so that no token of the pattern is cut."""

Cancelled = Callable[[], bool]


def refuse_own_entities(head: str) -> None:
    """Refuse a file whose DTD may define entities: nothing of a DTD is read, so its text would not be whole.

    Raises
    ------
    FileRefusedError
        The beginning of the file opens such a DTD.
    """
    if _OWN_ENTITIES.search(head):
        raise FileRefusedError("The feed defines entities of its own in a DTD, which is not read for safety.")


def check_feed(file: BinaryIO, names: frozenset[str], is_cancelled: Cancelled) -> bool:
    """Read the file to its end and say whether it has to be repaired: whether bare ampersands are its only fault.

    ``names`` are those of the elements that will be read as items.

    Raises
    ------
    FileRefusedError
        The file is not well-formed for any other reason, or has an element that is too long or too deep, or an item
        of too many elements; names line and column where they are known.
    """
    fault = _first_fault(_plain_chunks(file, is_cancelled), names)
    if fault is None or is_cancelled():
        return False
    if (
        "entit" not in (fault.msg or "").casefold()
    ):  # libxml2 says "xmlParseEntityRef: no name", "Entity 'nbsp' …"
        raise _refusal(fault)
    remaining = _first_fault(_repaired_chunks(file, is_cancelled), names)
    if remaining is not None and not is_cancelled():
        raise _refusal(remaining, added_columns=_added_columns(file, *remaining.position))
    return True


def stream_items(
    file: BinaryIO, names: frozenset[str], *, is_repaired: bool, is_cancelled: Cancelled
) -> Iterator[etree._Element]:
    """Yield every element of one of the names that is not inside another; it is gone when the next one is asked for.

    The file has passed `check_feed`.
    """
    parser = _tree_parser()
    chunks = _repaired_chunks if is_repaired else _plain_chunks
    walk = _Walk(names)
    for chunk in chunks(file, is_cancelled):
        parser.feed(chunk)
        yield from walk.items(parser.read_events())
    if is_cancelled():
        return
    try:
        parser.close()
    except etree.XMLSyntaxError as error:
        # Only a prefix that is not declared is left to complain about here; names are read without it.
        if walk.depth:
            raise _refusal(error) from None
    yield from walk.items(parser.read_events())


def local_name(element: etree._Element) -> tuple[str, str]:
    """Namespace (or undeclared prefix) and name of an element."""
    tag = str(element.tag)
    if tag.startswith("{"):
        namespace, _, name = tag[1:].rpartition("}")
        return namespace, name
    prefix, _, name = tag.rpartition(":")
    return prefix, name


class _Walk:
    """Follows the events of a parser, gives out items and drops what is done."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self.depth = 0
        self._item_depth = 0
        self._elements = 0

    def items(self, events: Iterator[tuple[str, etree._Element]]) -> Iterator[etree._Element]:
        for event, element in events:
            if event == "start":
                self.depth += 1
                if self._item_depth:
                    self._elements += 1
                elif local_name(element)[1] in self._names:
                    self._item_depth, self._elements = self.depth, 0
                continue
            self.depth -= 1
            if self._item_depth and self.depth >= self._item_depth:
                if self._elements > MAX_ITEM_ELEMENTS:
                    raise FileRefusedError(
                        f"An item of the feed, at or before line {element.sourceline}, has more than"
                        f" {MAX_ITEM_ELEMENTS:,} elements. Nothing was read.",
                        line=element.sourceline,
                    )
                continue
            if self._item_depth:
                self._item_depth = 0
                yield element
            _drop(element)


def _drop(element: etree._Element) -> None:
    """Free an element that is read, and what stands before it."""
    element.clear(keep_tail=False)
    parent = element.getparent()
    while parent is not None and element.getprevious() is not None:
        del parent[0]


class _NoTree:
    """A parser target that keeps nothing: the parser only checks."""

    def close(self) -> None:
        """End of the feed."""


def _tree_parser() -> etree.XMLPullParser:
    return etree.XMLPullParser(
        events=("start", "end"),
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )


def _first_fault(chunks: Iterator[bytes], names: frozenset[str]) -> etree.XMLSyntaxError | None:
    """The first thing that is not well-formed. Namespaces do not count: many feeds use ``g:`` without declaring it.

    Raises
    ------
    FileRefusedError
        An element exceeds the limits that hold when the tree is built. They do not show without one.
    """
    target: Any = _NoTree()  # a target needs only the methods it wants to be told about
    strict = etree.XMLParser(
        target=target, resolve_entities=False, load_dtd=False, no_network=True, huge_tree=False
    )
    tree = _tree_parser()
    walk = _Walk(names)
    try:
        for chunk in chunks:
            strict.feed(chunk)
            _build(tree, walk, chunk)
        strict.close()
    except etree.XMLSyntaxError as error:
        return error
    return None


def _build(tree: etree.XMLPullParser, walk: _Walk, chunk: bytes) -> None:
    try:
        tree.feed(chunk)
    except etree.XMLSyntaxError as error:
        line, column = error.position
        raise FileRefusedError(
            f"An element of the feed, at or before line {line}, is longer than 10 million characters or nested too"
            " deeply. Nothing was read.",
            line=line,
            column=column,
        ) from None
    for _ in walk.items(tree.read_events()):
        pass


def _refusal(error: etree.XMLSyntaxError, *, added_columns: int = 0) -> FileRefusedError:
    line, column = error.position
    column = max(1, column - added_columns)
    reason = re.sub(r", line \d+, column \d+.*$", "", error.msg or "", flags=re.DOTALL) or "unknown fault"
    return FileRefusedError(
        f"The feed is not well-formed XML at line {line}, column {column}: {reason}. Nothing was read.",
        line=line,
        column=column,
    )


def _added_columns(file: BinaryIO, line: int, column: int) -> int:
    """By how much repairing moved a column of a line."""
    file.seek(0)
    for _ in range(line - 1):
        file.readline()
    added = 0
    for match in _AMPERSAND.finditer(file.readline(1_000_000)):
        if match.group() == b"&" and match.start() + added < column:
            added += len(b"amp;")
    return added


def _plain_chunks(file: BinaryIO, is_cancelled: Cancelled) -> Iterator[bytes]:
    file.seek(0)
    while not is_cancelled() and (chunk := file.read(_CHUNK_BYTES)):
        yield chunk


def _repaired_chunks(file: BinaryIO, is_cancelled: Cancelled) -> Iterator[bytes]:
    """The file with ``&amp;`` for every ampersand that begins no reference of XML itself. CDATA stays as it is."""
    closing = b""
    held = b""
    for chunk in _plain_chunks(file, is_cancelled):
        repaired, held, closing = _repair(held + chunk, closing, is_last=False)
        yield repaired
    yield _repair(held, closing, is_last=True)[0]


def _repair(data: bytes, closing: bytes, *, is_last: bool) -> tuple[bytes, bytes, bytes]:
    """Repaired bytes, bytes to look at again with the next chunk, and what ends the section that is open."""
    out: list[bytes] = []
    place = 0
    limit = len(data) if is_last else max(0, len(data) - _LONGEST_TOKEN)
    while place < limit:
        if closing:
            end = data.find(closing, place)
            if end < 0:
                break
            out.append(data[place : end + len(closing)])
            place, closing = end + len(closing), b""
            continue
        match = _AMPERSAND.search(data, place)
        if match is None or match.start() >= limit:
            break
        out.append(data[place : match.start()])
        token = match.group()
        out.append(token if token in _CLOSING else b"&amp;")
        place, closing = match.end(), _CLOSING.get(token, b"")
    stop = max(place, limit)
    out.append(data[place:stop])
    return b"".join(out), data[stop:], closing
