"""Values of somebody else's JSON become JSON again, whatever they hold."""

from __future__ import annotations

import orjson
import pytest

from meta_sync.core.text import encode_json
from meta_sync.graph.tolerant import decode_json
from meta_sync.sync.reconcile_compare import bounded


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a": 1, "b": "\xc3\xa9"}', '{"a":1,"b":"é"}'),
        (b'{"a": 123456789012345678901234567890}', '{"a": 123456789012345678901234567890}'),
        (b'{"a": -9223372036854775809}', '{"a": -9223372036854775809}'),
        (b'{"a": "\\ud800x"}', '{"a": "?x"}'),
    ],
)
def test_what_meta_sent_can_be_kept(body: bytes, expected: str) -> None:
    value = decode_json(body)
    assert encode_json(value).decode() == expected
    assert bounded(value) == value


def test_what_json_has_no_word_for_is_told_as_text() -> None:
    assert orjson.loads(encode_json({"a": 1 + 0j})) == {"a": "(1+0j)"}
