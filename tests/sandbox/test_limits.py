"""Budgets of the rolling hour and what Graph says about them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from meta_sync.sandbox.options import DEMO_BUSINESS_ID, DEMO_CATALOG_ID
from tests.sandbox.support import World, error_of, update


def usage(response: Any) -> dict[str, dict[str, Any]]:
    """The entries of the usage header by their type."""
    header = json.loads(response.headers["x-business-use-case-usage"])
    assert list(header) == [DEMO_BUSINESS_ID]
    return {entry["type"]: entry for entry in header[DEMO_BUSINESS_ID]}


async def test_the_header_comes_after_some_calls_and_counts_in_percent(world: World) -> None:
    answers = [await world.send(update("A")) for _ in range(20)]
    assert "x-business-use-case-usage" not in answers[0].headers
    entry = usage(answers[-1])["catalog_batch"]
    assert (entry["call_count"], entry["estimated_time_to_regain_access"]) == (10, 0)


async def test_the_batch_budget_ends_and_comes_back(make_world: Callable[..., World]) -> None:
    world = make_world(calls_per_hour=6)
    for _ in range(6):
        assert (await world.send(update("A"))).status_code == 200
        world.clock.forward(60)
    refused = await world.send(update("A"))
    assert error_of(refused) == (400, 80014, None)
    entry = usage(refused)["catalog_batch"]
    assert entry["call_count"] > 100
    minutes = entry["estimated_time_to_regain_access"]
    assert minutes == 55
    reading = await world.get(f"{DEMO_CATALOG_ID}/products")
    assert reading.status_code == 200
    world.clock.forward(minutes * 60)
    assert (await world.send(update("A"))).status_code == 200


async def test_calls_while_throttled_count_too(make_world: Callable[..., World]) -> None:
    world = make_world(calls_per_hour=6)
    for _ in range(12):
        await world.send(update("A"))
        world.clock.forward(60)
    answer = await world.send(update("A"))
    assert usage(answer)["catalog_batch"]["estimated_time_to_regain_access"] == 55


async def test_questions_have_a_budget_of_their_own(make_world: Callable[..., World]) -> None:
    world = make_world(calls_per_hour=1)
    for _ in range(100):
        assert (await world.get(f"{DEMO_CATALOG_ID}/products")).status_code == 200
    assert error_of(await world.get(DEMO_CATALOG_ID)) == (400, 80009, None)
    assert (await world.send(update("A"))).status_code == 200


async def test_one_catalog_does_not_spend_for_another(make_world: Callable[..., World]) -> None:
    world = make_world(calls_per_hour=1)
    other = world.state.add_catalog(DEMO_BUSINESS_ID, "Other")
    assert (await world.send(update("A"))).status_code == 200
    assert (await world.send(update("A"))).status_code == 400
    response = await world.client.post(
        f"/{other.id}/items_batch",
        json={"item_type": "PRODUCT_ITEM", "requests": [update("A")]},
        headers={"Authorization": f"Bearer {next(iter(world.state.tokens))}"},
    )
    assert response.status_code == 200


async def test_the_usual_budget_is_the_documented_one(world: World) -> None:
    for _ in range(200):
        assert (await world.send(update("A"))).status_code == 200
    assert error_of(await world.send(update("A"))) == (400, 80014, None)
