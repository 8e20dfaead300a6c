"""What a reconciliation would have found of a world's catalog, written as if two reads had agreed on it."""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import text

from meta_sync.sandbox.options import DEMO_CATALOG_ID
from meta_sync.sandbox.reading import read_item
from tests.support.world import World

__all__ = ["JOB", "at_meta_item", "find", "put_at_meta", "states_of"]

JOB = "job_reading"
"""The reconciliation that found it."""

_INSERT = text(
    """
    INSERT INTO reconcile_findings (job_id, retailer_id, store_id, link_id, variant_id, product_id, verdict, state,
        differences, found, feed_id, first_read_at, second_read_at)
    SELECT :job_id, :retailer_id, :store_id, l.link_id, :variant_id, :product_id, :verdict, :state,
        CAST(:differences AS jsonb), CAST(:found AS jsonb), :feed_id, now(), now()
    FROM catalog_links AS l WHERE l.store_id = :store_id AND l.active
    """
)


def at_meta_item(retailer_id: str, **fields: Any) -> dict[str, Any]:
    """An item as somebody else would have sent it; ``None`` leaves a field out."""
    given: dict[str, Any] = {
        "id": retailer_id,
        "title": f"Found {retailer_id}",
        "description": "It was there before us",
        "availability": "in stock",
        "condition": "new",
        "price": "19.90 EUR",
        "link": f"https://elsewhere.example/{retailer_id}",
        "image_link": f"https://elsewhere.example/{retailer_id}.jpg",
        "brand": "Somebody",
        **fields,
    }
    return {name: value for name, value in given.items() if value is not None}


def put_at_meta(world: World, *items: dict[str, Any], feed_id: str | None = None) -> None:
    """Put items into the catalog behind our back."""
    catalog = world.sandbox.catalog(DEMO_CATALOG_ID)
    for item in items:
        catalog.store(item["id"], dict(item))
        if feed_id is not None:
            catalog.feeds[item["id"]] = {"id": feed_id, "name": "A feed"}


async def find(
    world: World,
    verdict: str,
    *retailer_ids: str,
    state: str = "agreed",
    american: bool = True,
    differences: dict[str, list[Any]] | None = None,
    job_id: str = JOB,
    **changes: Any,
) -> None:
    """Write findings of items that the catalog at Meta has; ``changes``: what is shown otherwise."""
    catalog = world.sandbox.catalog(DEMO_CATALOG_ID)
    async with world.database.platform() as connection:
        for one in retailer_ids:
            shown = {**read_item(catalog, one, catalog.items[one], american=american), **changes}
            ours = verdict != "foreign"
            given = {
                "job_id": job_id,
                "retailer_id": one,
                "store_id": world.store_id,
                "verdict": verdict,
                "state": state,
                "variant_id": one if ours else None,
                "product_id": "p" if ours else None,
                "differences": orjson.dumps(differences or {}).decode(),
                "found": orjson.dumps(shown).decode(),
                "feed_id": (shown.get("product_feed") or {}).get("id"),
            }
            await connection.execute(_INSERT, given)


async def states_of(world: World) -> dict[str, str]:
    """By retailer id, what became of each finding."""
    async with world.database.platform() as connection:
        rows = await connection.execute(text("SELECT retailer_id, state FROM reconcile_findings"))
        return {row[0]: row[1] for row in rows}
