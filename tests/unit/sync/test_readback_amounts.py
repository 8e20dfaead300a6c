"""What counts as shown as it was sent."""

from __future__ import annotations

from typing import Any

import pytest

from meta_sync.sync.models import Method
from meta_sync.sync.readback import agrees

_SENT = {
    "id": "a",
    "title": "Chair",
    "link": "https://shop.example/a",
    "description": "Good",
    "availability": "in stock",
    "price": "19.90 EUR",
    "sale_price": "",
}
_SHOWN = {
    "retailer_id": "a",
    "name": "Chair",
    "url": "https://shop.example/a",
    "description": "Good",
    "availability": "in stock",
    "price": "€19.90",
}


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ({}, True),
        ({"name": " Chair "}, True),
        ({"name": "Table"}, False),
        ({"price": "19,90 €"}, True),
        ({"price": "€19.9"}, True),
        ({"price": "€1,990.00"}, False),
        ({"price": "€19.99"}, False),
        ({"price": None}, True),
        ({"sale_price": "€9.90"}, False),
        ({"sale_price": "€0.00"}, True),
        ({"sale_price": ""}, True),
    ],
)
def test_an_update(shown: dict[str, Any], expected: bool) -> None:
    assert agrees(_SENT, {**_SHOWN, **shown}, Method.UPDATE) is expected


def test_whole_units() -> None:
    assert agrees({**_SENT, "price": "1000 JPY"}, {**_SHOWN, "price": "¥1,000"}, Method.UPDATE)
    assert agrees({**_SENT, "price": "1000.00 EUR"}, {**_SHOWN, "price": "€1.000"}, Method.UPDATE)
    assert not agrees({**_SENT, "price": "1000 JPY"}, {**_SHOWN, "price": "¥100"}, Method.UPDATE)


def test_a_sale_that_is_not_shown_proves_nothing() -> None:
    assert agrees({**_SENT, "sale_price": "9.90 EUR"}, _SHOWN, Method.UPDATE)
    assert not agrees({**_SENT, "sale_price": "9.90 EUR"}, {**_SHOWN, "sale_price": "€9.80"}, Method.UPDATE)


def test_absence() -> None:
    assert not agrees(_SENT, None, Method.UPDATE)
    assert agrees(None, None, Method.DELETE)
    assert not agrees(None, _SHOWN, Method.DELETE)
