from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_sync.core.text import text_fault
from meta_sync.graph.tolerant import (
    UNREADABLE,
    decode_json,
    header,
    identifier,
    integer,
    items,
    mapping,
    number,
    scrub,
    text,
    truth,
)

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.from_regex(r"[0-9.eE+-]{0,12}"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.binary(max_size=200))
def test_decoding_never_raises(body: bytes) -> None:
    decode_json(body)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a":1}', {"a": 1}),
        (b"null", None),
        (b'\xef\xbb\xbf{"a":1}', {"a": 1}),
        (b'{"a":"\\ud800"}', {"a": "\ud800"}),
        (b'{"a":"x\ny"}', {"a": "x\ny"}),
        (b'{"a":"\xff"}', {"a": "\ufffd"}),
    ],
)
def test_what_real_servers_send_is_read(body: bytes, value: Any) -> None:
    assert decode_json(body) == value


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b"[" * 100_000, b"1" * 10_000 + b"x", b'{"a":1'])
def test_what_is_no_json_is_said_to_be_none(body: bytes) -> None:
    assert decode_json(body) is UNREADABLE


@given(ANY_JSON)
def test_readers_never_raise_and_keep_their_types(value: Any) -> None:
    assert isinstance(mapping(value), dict)
    assert isinstance(items(value), list)
    assert isinstance(truth(value), bool)
    for said in (text(value), text(value, 5), identifier(value)):
        assert said is None or text_fault(said) is None
    whole = integer(value)
    assert whole is None or -(2**63) < whole < 2**63
    figure = number(value)
    assert figure is None or abs(figure) < float("inf")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, 7),
        ("7", 7),
        (" -7 ", -7),
        (7.0, 7),
        (7.5, None),
        ("7.5", None),
        (True, None),
        (2**63, None),
        ("9" * 19, None),
    ],
)
def test_integer(value: Any, expected: int | None) -> None:
    assert integer(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1.0),
        ("9.67", 9.67),
        (True, None),
        ("nan", None),
        (float("inf"), None),
        ("x", None),
        (10**400, None),
    ],
)
def test_number(value: Any, expected: float | None) -> None:
    assert number(value) == expected


def test_ids_stay_as_they_are() -> None:
    assert identifier(" SKU-1 ") == " SKU-1 "
    assert identifier(185) == "185"
    assert identifier(True) is None
    assert identifier(1.58e15) is None
    assert identifier(10**5000) is None


def test_texts_are_storable_and_cut() -> None:
    assert text("a\x00b") == "a\ufffdb"
    assert text("a\ud800") == "a\ufffd"
    assert text("\ud83d\ude00") == "😀"
    assert text("abcdef", 4) == "abc…"
    assert text(5) is None


def test_headers_are_found_in_any_case() -> None:
    assert header({"Retry-After": "3"}, "retry-after") == "3"
    assert header({}, "retry-after") is None


@pytest.mark.parametrize(
    "message",
    [
        "Malformed access token EAABsbCS1iHgBAcanary0123",
        "token 123456789012|canary-secret_01 is wrong",
        "see https://graph.example/x?limit=1&access_token=canary&after=q",
        "client_secret=canary",
        "input_token=canary rejected",
        "appsecret_proof=canary",
        "IGQWRcanary123456 is not for this host",
    ],
)
def test_tokens_are_scrubbed_from_messages(message: str) -> None:
    assert "canary" not in scrub(message)
    assert "[secret]" in scrub(message)


def test_ordinary_messages_stay_whole() -> None:
    message = "(#100) The parameter item_type is required for object 7100195296754519"
    assert scrub(message) == message
