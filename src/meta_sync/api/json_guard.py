"""Strict reading of JSON bodies: whatever passes here can be stored and compared without surprises.

Refused with a sentence: text that is not UTF-8, NaN and infinities, numbers beyond 64 bits, an object that names a key
twice, nesting deeper than 64, NUL and lone surrogates. Knows nothing about requests.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

from meta_sync.core.errors import ErrorDetail, InvalidRequestError, ServiceError, ValidationFailedError
from meta_sync.core.text import text_fault

__all__ = ["MAX_DEPTH", "parse_json", "parse_json_off_loop"]

MAX_DEPTH = 64
"""No body of ours nests deeper than six; a parser that follows a hundred thousand brackets is an attack."""

_INT64 = range(-(2**63), 2**63)
_INT64_DIGITS = 20
"""Digits and sign of the longest 64-bit number; a longer literal is refused before it is made a number."""
_SHOWN_KEY_CHARS = 100
_OFF_LOOP_BYTES = 256 * 1024
"""A larger body takes longer than other requests should wait for the event loop."""


class _RefusedError(ValueError):
    """The text is JSON, but holds something that must not go on."""


class _NumberError(_RefusedError):
    """What must not go on is a number; the decoder does not know where it stands."""


def _integer(literal: str) -> int:
    if len(literal) > _INT64_DIGITS:
        raise _NumberError
    value = int(literal)
    if value not in _INT64:
        raise _NumberError
    return value


def _number(literal: str) -> float:
    value = float(literal)
    if not math.isfinite(value):
        raise _NumberError
    return value


def _constant(literal: str) -> Any:
    raise _RefusedError(f"{literal} is not a JSON value")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _RefusedError(f"the key {key[:100]!r} stands twice in one object")
            seen.add(key)
    return value


_decoder = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_constant
)


def parse_json(body: bytes) -> Any:
    """The value of a JSON text.

    Raises
    ------
    InvalidRequestError
        It is not JSON, or breaks one of the rules of this module.
    ValidationFailedError
        A text or a number in it cannot be stored; ``details`` names the field.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _unreadable(f"it is not UTF-8 (byte {error.start})") from None
    try:
        value = _decoder.decode(text)
    except _NumberError:
        raise _misfit(text) from None
    except _RefusedError as error:
        raise _unreadable(str(error)) from None
    except json.JSONDecodeError as error:
        raise _unreadable(f"{error.msg} at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise _unreadable(f"it nests deeper than {MAX_DEPTH} levels") from None
    _require_depth(value)
    # Without an escape in the text no NUL and no surrogate can be in a value: raw ones were refused above.
    if "\\u" in text:
        _require_storable(value)
    return value


async def parse_json_off_loop(body: bytes) -> Any:
    """``parse_json``, in a thread when the body is large."""
    if len(body) < _OFF_LOOP_BYTES:
        return parse_json(body)
    return await asyncio.to_thread(parse_json, body)


def _unreadable(reason: str) -> ServiceError:
    return InvalidRequestError(f"The body cannot be read as JSON: {reason}.")


def _misfit(text: str) -> ServiceError:
    """The fault of a text with a number beyond 64 bits. It is read once more, to find where the number stands."""
    misfit = object()

    def marked(read: Callable[[str], Any]) -> Callable[[str], Any]:
        def reading(literal: str) -> Any:
            try:
                return read(literal)
            except _NumberError:
                return misfit

        return reading

    decoder = json.JSONDecoder(parse_int=marked(_integer), parse_float=marked(_number))
    try:
        value = decoder.decode(text)
    except (ValueError, RecursionError):
        return _unreadable("a number does not fit into 64 bits")
    _require_depth(value)
    field = next((path for path, leaf in _leaves(value, "") if leaf is misfit), "") or "body"
    return _fault(field, "must fit into 64 bits")


def _fault(field: str, fault: str) -> ServiceError:
    return ValidationFailedError(
        f"The request is not valid: {field} {fault}.", details=[ErrorDetail(field, fault)]
    )


def _require_depth(value: Any) -> None:
    level = [value] if isinstance(value, dict | list) else []
    depth = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise _unreadable(f"it nests deeper than {MAX_DEPTH} levels")
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]


def _require_storable(value: Any) -> None:
    for path, leaf in _leaves(value, ""):
        fault = text_fault(leaf) if isinstance(leaf, str) else None
        if fault is not None:
            raise _fault(path or "body", fault)


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every key and every value that is no container, with the path to it as it can be shown."""
    if isinstance(value, dict):
        for key, child in value.items():
            name = key.encode("utf-8", "replace").decode().replace("\x00", "?")[:_SHOWN_KEY_CHARS]
            inner = f"{path}.{name}" if path else name
            yield inner, key
            yield from _leaves(child, inner)
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _leaves(child, f"{path}[{index}]")
    else:
        yield path, value
