"""A Graph call as the sandbox sees it, the answer it gives, and the readers for Graph's parameter forms."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar
from urllib.parse import urlencode

import orjson

from meta_sync.sandbox.errors import parameter_error, parameter_required, query_syntax_error

__all__ = [
    "Answer",
    "Call",
    "Delivery",
    "Fields",
    "decode_cursor",
    "encode_cursor",
    "page_of",
    "paging",
    "parse_fields",
    "select",
]

Fields = dict[str, "Fields"]
"""Fields asked for, each with the fields asked of it."""

Delivery = Literal["whole", "close", "timeout", "half"]

_Entry = TypeVar("_Entry")

_LONGEST_NUMBER = 18
"""Digits of a parameter; what is longer is no number anybody means."""


@dataclass(slots=True)
class Answer:
    """What goes back: a JSON body or raw bytes, after a pause, whole or cut."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    media_type: str = "application/json; charset=UTF-8"
    delay_seconds: float = 0.0
    delivery: Delivery = "whole"
    error_code: int | None = None

    def content(self) -> bytes:
        """The bytes of the body."""
        return orjson.dumps(self.body) if self.raw is None else self.raw


@dataclass(slots=True)
class Call:
    """One Graph call with its parameters from query and body together.

    Attributes
    ----------
    segments
        The path without the version, split.
    too_large
        Whether the body was larger than Meta takes; it was not read then.
    unreadable
        Whether there was a body that could not be read.
    base_url
        Scheme, host and version, for the links of a page.
    """

    method: str
    path: str
    segments: tuple[str, ...]
    params: dict[str, Any]
    token: str | None = field(repr=False)
    base_url: str = ""
    too_large: bool = False
    unreadable: bool = False
    records: int = 0

    def text(self, name: str, default: str = "") -> str:
        """A parameter as text."""
        value = self.params.get(name)
        if value is None:
            return default
        return value if isinstance(value, str) else orjson.dumps(value).decode()

    def required(self, name: str) -> str:
        """A parameter that must be there.

        Raises
        ------
        GraphError
            Code 100 when it is missing or empty.
        """
        text = self.text(name)
        if not text:
            raise parameter_required(name)
        return text

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A boolean parameter, whether it came as JSON or as text."""
        value = self.params.get(name)
        if value is None or value == "":
            return default
        if isinstance(value, bool):
            return value
        return str(value).strip().lower() in {"true", "1", "yes"}

    def integer(self, name: str, default: int) -> int:
        """A whole number.

        Raises
        ------
        GraphError
            Code 100 when it is not one.
        """
        text = self.text(name)
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER):
            raise parameter_error(f"Param {name} must be a positive integer")
        return int(text)

    def structure(self, name: str) -> Any:
        """A parameter that is JSON, as a value or as its text; ``None`` when missing.

        Raises
        ------
        GraphError
            Code 100 when the text is not JSON.
        """
        value = self.params.get(name)
        if not isinstance(value, str):
            return value
        if not value:
            return None
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise parameter_error(f"Param {name} must be a valid JSON value") from error

    def fields(self, default: Sequence[str]) -> Fields:
        """The fields asked for, in order; ``id`` is always among them, as in every answer of Graph.

        Raises
        ------
        GraphError
            Code 2500 when the text cannot be read.
        """
        value = self.params.get("fields")
        text = ",".join(map(str, value)) if isinstance(value, list) else self.text("fields")
        if not text:
            return {name: {} for name in default}
        return parse_fields(text)

    def english(self) -> bool:
        """Whether the caller asked for American English."""
        return self.text("locale") == "en_US"


def parse_fields(text: str) -> Fields:
    """Read ``a,b{c,d}``. Modifiers such as ``b.limit(5)`` are read and left aside.

    Raises
    ------
    GraphError
        Code 2500.
    """
    top: Fields = {}
    stack, name, depth_in_modifier = [top], "", 0
    for position, character in enumerate(f"{text},"):
        if character == "(":
            depth_in_modifier += 1
        elif character == ")":
            depth_in_modifier -= 1
        elif depth_in_modifier:
            continue
        elif character in ",{}":
            clean = name.strip().partition(".")[0]
            if clean:
                stack[-1].setdefault(clean, {})
            elif character == "{":
                raise query_syntax_error(character, position)
            if character == "{":
                stack.append(stack[-1][clean])
            elif character == "}":
                stack.pop()
                if not stack:
                    raise query_syntax_error(character, position)
            name = ""
        else:
            name += character
    if len(stack) != 1 or depth_in_modifier:
        raise query_syntax_error("end of string", len(text))
    return top


def encode_cursor(position: int) -> str:
    """A position as an opaque cursor."""
    return "QVFI" + base64.urlsafe_b64encode(f"p{position}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> int:
    """The position behind a cursor.

    Raises
    ------
    GraphError
        Code 100 when it is none of ours.
    """
    encoded = cursor.removeprefix("QVFI")
    try:
        text = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
        return max(0, int(text.removeprefix("p")))
    except (binascii.Error, UnicodeDecodeError, ValueError) as error:
        raise parameter_error("Invalid cursors values") from error


def paging(call: Call, *, first: int, last: int, has_more: bool, has_previous: bool) -> dict[str, Any]:
    """The ``paging`` object of a page between two positions. Links carry the token, as Meta's do."""
    before, after = encode_cursor(first), encode_cursor(last)
    result: dict[str, Any] = {"cursors": {"before": before, "after": after}}
    kept = {name: call.text(name) for name in call.params if name not in {"after", "before", "access_token"}}
    link = f"{call.base_url}/{'/'.join(call.segments)}?"
    if call.token is not None:
        kept["access_token"] = call.token
    if has_more:
        result["next"] = link + urlencode({**kept, "after": after})
    if has_previous:
        result["previous"] = link + urlencode({**kept, "before": before})
    return result


def page_of(
    call: Call, entries: Sequence[_Entry], *, default_limit: int = 25
) -> tuple[list[_Entry], dict[str, Any]]:
    """One page of a short list and the rest of the answer's keys, from ``limit``, ``after`` and ``before``."""
    limit = max(1, call.integer("limit", default_limit))
    if call.text("before"):
        stop = max(0, min(decode_cursor(call.text("before")), len(entries)))
        start = max(0, stop - limit)
    else:
        start = decode_cursor(call.text("after")) + 1 if call.text("after") else 0
        stop = min(start + limit, len(entries))
    rest: dict[str, Any] = {}
    if start < stop:
        rest["paging"] = paging(
            call, first=start, last=stop - 1, has_more=stop < len(entries), has_previous=start > 0
        )
    if call.text("summary") in {"true", "1", "total_count", '["total_count"]'}:
        rest["summary"] = {"total_count": len(entries)}
    return list(entries[start:stop]), rest


def select(node: dict[str, Any], fields: Fields) -> dict[str, Any]:
    """The fields asked for of a node, ``id`` always; what has no value is left out, as Graph does."""
    return dict(_selected(node, fields))


def _selected(node: dict[str, Any], fields: Fields) -> Iterator[tuple[str, Any]]:
    for name, inner in fields.items():
        value = node.get(name)
        if value is None or (isinstance(value, str | list | dict) and not value):
            continue
        yield name, select(value, inner) if isinstance(value, dict) and inner else value
    if "id" in node and "id" not in fields:
        yield "id", node["id"]
