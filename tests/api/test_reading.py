"""Strict JSON and ids in paths, as pure functions over anything."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_sync.api.json_guard import MAX_DEPTH, parse_json, parse_json_off_loop
from meta_sync.api.path_ids import href, read_path_id, write_path_id
from meta_sync.core.errors import InvalidRequestError, ServiceError, ValidationFailedError

STORABLE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
INT64 = st.integers(-(2**63), 2**63 - 1)
VALUES = st.recursive(
    st.none() | st.booleans() | INT64 | st.floats(allow_nan=False, allow_infinity=False) | STORABLE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(STORABLE, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_whatever_can_be_stored_is_read_as_it_is(value: Any, escaped: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=escaped).encode()) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        parse_json(body)
    except ServiceError as error:
        assert error.status == 400


@given(st.text(min_size=1))
def test_no_text_that_cannot_be_stored_gets_through(text: str) -> None:
    storable = "\x00" not in text and not any(0xD800 <= ord(char) <= 0xDFFF for char in text)
    body = json.dumps({"a": [{text: text}]}).encode()
    if storable:
        assert parse_json(body) == {"a": [{text: text}]}
        return
    # A pair of escapes is one character; the text itself then never had a lone half.
    paired = json.loads(body)
    try:
        paired["a"][0].popitem()[0].encode()
        assert "\x00" not in text
    except (UnicodeEncodeError, AssertionError):
        with pytest.raises(ValidationFailedError):
            parse_json(body)


def test_depth_is_counted_not_guessed() -> None:
    assert parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    with pytest.raises(InvalidRequestError, match="64 levels"):
        parse_json(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1))
    assert parse_json(json.dumps(["[" * 1_000]).encode()) == ["[" * 1_000]


def test_the_key_that_stands_twice_is_named() -> None:
    with pytest.raises(InvalidRequestError, match="'price'"):
        parse_json(b'{"variants": [{"price": 1, "price": 1}]}')


def test_the_place_of_a_bad_text_is_named() -> None:
    with pytest.raises(ValidationFailedError) as caught:
        parse_json(b'{"variants": [{}, {"sku": "a\\u0000"}]}')
    assert caught.value.details[0].field == "variants[1].sku"


@pytest.mark.parametrize("number", [str(2**63), str(-(2**63) - 1), "9" * 10_000, "1e400", "-1e400"])
def test_the_place_of_a_number_beyond_64_bits_is_named(number: str) -> None:
    with pytest.raises(ValidationFailedError) as caught:
        parse_json(b'{"products": [{}, {"variants": [{"price": 1, "sale": %s}]}]}' % number.encode())
    assert caught.value.details[0].field == "products[1].variants[0].sale"
    assert "64 bits" in caught.value.message
    with pytest.raises(ServiceError, match="64 bits"):
        parse_json(number.encode())
    with pytest.raises(ServiceError):
        parse_json(b"[" * 5_000 + number.encode() + b"]" * 5_000)


async def test_large_bodies_are_read_by_the_same_rules() -> None:
    large = json.dumps({"a": ["x" * 100] * 10_000}).encode()
    assert await parse_json_off_loop(large) == json.loads(large)
    with pytest.raises(InvalidRequestError):
        await parse_json_off_loop(large[:-1] + b', "a": 1}')


@given(STORABLE.filter(bool))
def test_ids_come_back_from_paths(value: str) -> None:
    segment = write_path_id(value)
    assert "/" not in segment
    assert segment not in {".", ".."}
    assert not set(segment) & set("?#\\ ")
    assert read_path_id(unquote(segment)) == value
    assert href("/items", value) == f"/items/{segment}"


@pytest.mark.parametrize("segment", ["~", "~!", "~a", "~_w", "~AA", "a\x00", "~AAA="])
def test_what_is_no_id_is_refused(segment: str) -> None:
    with pytest.raises(ValidationFailedError):
        read_path_id(segment)
