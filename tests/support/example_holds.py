"""What the example shop's guard keeps back, and what is decided about it."""

from __future__ import annotations

from typing import Any

from tests.support.api import Api, Caller
from tests.support.examples import Recorder
from tests.support.pipeline import fetch

__all__ = ["decide_holds"]

_HOLDS = "/admin/meta/holds"
_SETTINGS = "/admin/meta/settings"
_ASKS_ALWAYS = {"guardMaxShare": 0.01, "guardMinItems": 1}
_AS_BEFORE = {"guardMaxShare": None, "guardMinItems": None}


async def decide_holds(to: Recorder, api: Api, shop: Caller) -> None:
    """One item is sold out: asked about before it is shown, released; back in stock and out of it again: discarded."""
    await api.world.run()
    await shop.data("PATCH", _SETTINGS, json=_ASKS_ALWAYS)
    hold = await _sold_out(api, shop)
    await to.success("listHolds", shop, "GET", _HOLDS)
    await to.success("getHold", shop, "GET", hold["href"])
    await to.success("listHeldItems", shop, "GET", f"{hold['href']}/items")
    release = f"{hold['href']}/release"
    await to.failure("releaseHold", "CONFLICT", shop, "POST", release, json={"shownItems": 0})
    await to.success("releaseHold", shop, "POST", release, json={"shownItems": 1})
    await to.failure("discardHold", "CONFLICT", shop, "POST", f"{hold['href']}/discard")
    await api.world.run()
    await _stock(shop, 5)
    await api.world.run()
    hold = await _sold_out(api, shop)
    await to.success("discardHold", shop, "POST", f"{hold['href']}/discard")
    await api.world.run()
    for operation, method, end in (
        ("getHold", "GET", ""),
        ("listHeldItems", "GET", "/items"),
        ("releaseHold", "POST", "/release"),
        ("discardHold", "POST", "/discard"),
    ):
        await to.failure(operation, "NOT_FOUND", shop, method, f"{_HOLDS}/4711{end}")
    await shop.data("PATCH", _SETTINGS, json=_AS_BEFORE)
    await _stock(shop, 5)
    await api.world.run()


async def _stock(shop: Caller, quantity: int) -> None:
    stock = {"trackInventory": True, "quantityOnHand": quantity, "allowBackorder": False}
    await shop.data("PUT", "/catalog/variants/shirt-blue-m/inventory", json=stock)


async def _sold_out(api: Api, shop: Caller) -> dict[str, Any]:
    """The hold over the item that is sold out."""
    await _stock(shop, 0)

    async def is_held() -> bool:
        return bool(await fetch(api.world, "SELECT 1 FROM holds WHERE state = 'held' AND cursor IS NULL"))

    await api.world.run(until=is_held)
    [hold] = await shop.data("GET", f"{_HOLDS}?state=held")
    return dict(hold)
