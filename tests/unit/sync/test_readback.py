"""What was sent against what Meta shows, in the fields that read back as they were written."""

from __future__ import annotations

from typing import Any

import pytest

from meta_sync.graph.endpoints.catalog import build_batch_body
from meta_sync.sync.models import Method
from meta_sync.sync.readback import READ_BACK_FIELDS, agrees, sent_payloads

_SENT = {
    "id": "v1",
    "title": "Shirt",
    "link": "https://shop.example/s",
    "description": "Soft.",
    "availability": "in stock",
    "price": "19.90 EUR",
}
_FOUND = {
    "id": "9000",
    "retailer_id": "v1",
    "name": "Shirt",
    "url": "https://shop.example/s",
    "description": "Soft.",
    "availability": "in stock",
    "price": "€19.90",
}


def test_the_questions_name_what_is_compared() -> None:
    texts = {"name", "url", "description", "availability"}
    assert set(READ_BACK_FIELDS) == {"id", "retailer_id", *texts, "price", "sale_price"}


def test_what_was_sent_comes_back_out_of_the_body() -> None:
    body = build_batch_body([("UPDATE", b'{"id":"v1","title":"Shirt"}'), ("DELETE", b'{"id":"v2"}')])
    assert sent_payloads(body) == {"v1": {"id": "v1", "title": "Shirt"}, "v2": {"id": "v2"}}
    assert sent_payloads(b"") == {}


def test_an_item_that_reads_as_it_was_sent_is_saved() -> None:
    assert agrees(_SENT, _FOUND, Method.UPDATE)
    assert agrees(_SENT, {**_FOUND, "name": " Shirt\n"}, Method.UPDATE), "outer spaces do not count"
    assert agrees({"id": "v1"}, {"retailer_id": "v1", "name": None, "url": ""}, Method.UPDATE)


@pytest.mark.parametrize("field", ["name", "url", "description", "availability"])
@pytest.mark.parametrize("value", ["another", None])
def test_any_difference_means_that_it_is_not(field: str, value: Any) -> None:
    assert not agrees(_SENT, {**_FOUND, field: value}, Method.UPDATE)


def test_an_item_that_is_not_there_is_not_saved() -> None:
    assert not agrees(_SENT, None, Method.UPDATE)
    assert not agrees(None, _FOUND, Method.UPDATE), "what was sent is not known"


def test_a_deleted_item_is_one_that_is_not_there() -> None:
    assert agrees({"id": "v1"}, None, Method.DELETE)
    assert agrees(None, None, Method.DELETE)
    assert not agrees({"id": "v1"}, _FOUND, Method.DELETE)
