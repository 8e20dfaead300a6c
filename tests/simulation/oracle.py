"""Judges the end of a simulation: Meta holds what the mapper makes of the rows, what the rows say of Meta is true, and
nothing is left to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from meta_sync.sync.context import StoreContext, load_context
from meta_sync.sync.mapping import MappedItem, Mapper
from meta_sync.sync.models import DELETE_HASH, GRACE_HASH
from meta_sync.sync.reading import read_items
from tests.simulation.hands import FOREIGN_TITLES, STRANGE_FIELD
from tests.simulation.world import STORE, SimulatedWorld

__all__ = ["is_quiet", "judge"]

_MOST_ITEMS = 1000


def is_quiet(world: SimulatedWorld) -> bool:
    """Whether nothing is left to do, late handles included."""
    return next(_leftovers(world), None) is None


_REFUSED = {"rejected_by_meta", "refused_without_reason", "not_saved", "server_errors", "nothing_taken"}


def _stays_unnamed(world: SimulatedWorld, variant_id: str) -> bool:
    """Whether the item makes Meta refuse every call, while nothing else is left to prove that it is not the store's fault:
    then the store says so, pauses, and tries again now and then.
    """
    if not world.plan.poison:
        return False
    pauses = {row["reason"] for row in world.tables["store_pauses"].rows.values()}
    waiting = [row["variant_id"] for row in world.tables["intents"].rows.values()]
    return (
        "blocked_by_meta" in pauses
        and variant_id in waiting
        and all(_is_poisonous(world, one) for one in waiting)
    )


def _stays_guilty(world: SimulatedWorld, row: Mapping[str, Any]) -> bool:
    """Whether it is tried again once a day for good, because Meta never says whether it is the item.

    A deletion carries nothing that Meta could refuse: it must succeed in the end.
    """
    is_poisonous = world.plan.poison and _is_poisonous(world, row["variant_id"])
    return is_poisonous and row["status"] == "failed" and row["retry_hash"] != DELETE_HASH


def _is_poisonous(world: SimulatedWorld, variant_id: str) -> bool:
    variant = next(row for row in world.tables["variants"] if row["variant_id"] == variant_id)
    product = world.tables["products"].get(STORE, variant["product_id"])
    if product is None or product["status"] != "active":
        return False
    if variant["deleted_at"] is not None or product["deleted_at"] is not None:
        # A deletion carries no title.
        return False
    return world.meta.poisonous({"title": product["title"]})


def _leftovers(world: SimulatedWorld) -> Iterator[str]:
    tables = world.tables
    for row in tables["intents"].rows.values():
        if _stays_unnamed(world, row["variant_id"]):
            continue
        yield f"an intent waits for {row['variant_id']}, parked under {row['parked_by']}"
    for row in tables["sync_state"].rows.values():
        if row["in_flight"] is not None:
            yield f"{row['variant_id']} of link {row['link_id']} is in flight under {row['in_flight']}"
        if row["retry_at"] is not None and not _stays_guilty(world, row):
            yield f"{row['variant_id']} is to be tried again at {row['retry_at']}"
    for row in tables["batches"].rows.values():
        if row["state"] != "over":
            yield f"batch {row['batch_id']} is {row['state']}"
    waits_for_proof = any(_stays_unnamed(world, row["variant_id"]) for row in tables["intents"])
    for row in tables["jobs"].rows.values():
        # A job waits for what it has asked for.
        if not waits_for_proof and row["status"] in {"queued", "running", "cancelling"}:
            yield f"job {row['job_id']} ({row['type']}) is {row['status']}"
    for row in tables["splits"].rows.values():
        if row["state"] != "over":
            yield f"split {row['split_id']} is {row['state']}"
    for row in tables["variants"].rows.values():
        swept_to = tables["store_queue"].rows[row["store_id"],]["sales_swept_to"]
        end = row["special_price_end"]
        if end is not None and end <= world.now() and (swept_to is None or end >= swept_to):
            yield f"the sale of {row['variant_id']} has ended and nobody has looked"
    for work in world.meta.work.values():
        if not work.is_finished:
            yield f"Meta works on {work.handle}"


async def judge(world: SimulatedWorld) -> list[str]:
    """Everything that is wrong at the end, in sentences."""
    found = [f"left: {one}" for one in _leftovers(world)]
    for store_id in sorted(row["store_id"] for row in world.tables["stores"]):
        found += await _judge_store(world, store_id)
    return found


async def _judge_store(world: SimulatedWorld, store_id: str) -> list[str]:
    found: list[str] = []
    async with world.database.platform() as connection:
        context = await load_context(connection, store_id, world.cipher, world.settings)
        if not isinstance(context, StoreContext):
            return [*found, f"the store stands still: {context}"]
        page = await read_items(connection, store_id, context.link.link_id, after=None, limit=_MOST_ITEMS)
    if context.standstill() is not None and not any(
        _stays_unnamed(world, row["variant_id"]) for row in world.tables["intents"]
    ):
        found.append(f"the store stands still: {context.standstill()}")
    mapper = Mapper(context.mapping)
    catalog_id = context.access.link.catalog_id
    at_meta = world.meta.items.get(catalog_id, {})
    for (catalog, foreign), as_put in world.hands.foreign.items():
        if world.meta.items[catalog].get(foreign) != as_put:
            found.append(f"{foreign} is somebody else's, and is not as it was")
    expected: set[str] = set()
    for item, state in page:
        mapped = mapper.evaluate(
            item,
            excluded=state.is_excluded,
            retailer_id=state.retailer_id,
            now=world.now(),
            image_version=state.image_version,
        )
        wanted = mapped.data if isinstance(mapped, MappedItem) else None
        retailer_id = state.retailer_id or (wanted or {}).get("id") or item.variant_id
        expected.add(retailer_id)
        row = world.tables["sync_state"].get(context.link.link_id, item.variant_id)
        shown = at_meta.get(retailer_id)
        is_touched = (catalog_id, retailer_id) in world.hands.touched
        if row is not None and _is_discarded(row, mapped):
            # Nobody puts right what is to be left alone.
            about = [] if is_touched else list(_judge_discarded(world, row, shown))
        elif is_touched and row is not None and row["code"] == "not_saved":
            # Changed by hand while it was read back for another reason.
            about = []
        else:
            if (catalog_id, retailer_id) in world.hands.strange and shown is not None:
                shown = {name: value for name, value in shown.items() if name != STRANGE_FIELD}
            about = list(_judge_item(world, row, wanted, shown, mapped))
        found += [f"{item.variant_id}: {one}" for one in about]
    for retailer_id in sorted(at_meta.keys() - expected):
        # Somebody else's item is left alone, also under the id of a variant that was never sent.
        if at_meta[retailer_id].get("title") not in FOREIGN_TITLES:
            found.append(f"{retailer_id} is at Meta and nobody's")
    return found


def _is_discarded(row: Mapping[str, Any], mapped: Any) -> bool:
    """Whether a person wants the item to stay as it is, and the store still wants what was discarded then."""
    if not isinstance(mapped, MappedItem):
        is_there = row["retailer_id"] is not None and row["presence"] != "absent"
        return is_there and row["discarded_hash"] in {DELETE_HASH, GRACE_HASH}
    return bool(row["discarded_hash"] == mapped.hash)


def _judge_discarded(
    world: SimulatedWorld, row: Mapping[str, Any], shown: Mapping[str, Any] | None
) -> Iterator[str]:
    """It is at Meta as Meta confirmed it last. What nobody knew of when it was discarded, nobody can say now."""
    if row["confirmed_hash"] in {None, GRACE_HASH}:
        return
    kept = world.tables["item_payloads"].get(row["link_id"], row["variant_id"])
    confirmed = orjson.loads(kept["payload"]) if kept is not None else {}
    confirmed = {name: value for name, value in confirmed.items() if value not in ("", [], None)}
    if shown != confirmed:
        yield f"was discarded and is not as it was confirmed: {dict(shown or {})} instead of {confirmed}"
    if row["status"] != "synced":
        yield f"was discarded, is confirmed, and is {row['status']}"


def _judge_item(
    world: SimulatedWorld,
    row: Mapping[str, Any] | None,
    wanted: Mapping[str, Any] | None,
    shown: Mapping[str, Any] | None,
    mapped: Any,
) -> Iterator[str]:
    if row is None:
        if wanted is not None:
            yield "has no state"
        return
    if wanted is None:
        # What this link never sent may be somebody else's: it is left alone.
        if shown is not None and row["retailer_id"] is not None:
            yield f"is still at Meta ({row['status']}, presence {row['presence']}): {dict(shown)}"
        if row["status"] not in {"deleted", "skipped"}:
            yield f"is {row['status']} though it is not to be at Meta"
        return
    if world.meta.unwanted(wanted) is not None or world.meta.poisonous(wanted):
        if _stays_unnamed(world, row["variant_id"]):
            return
        if row["status"] != "failed" or row["code"] not in _REFUSED:
            yield f"is {row['status']} ({row['code']}) though Meta refuses it"
        return
    if shown != wanted:
        differing = {
            name: ((shown or {}).get(name), wanted.get(name))
            for name in {*(shown or {}), *wanted}
            if (shown or {}).get(name) != wanted.get(name)
        }
        yield f"is wrong at Meta (status {row['status']}; Meta, wanted): {differing}"
    if row["status"] != "synced":
        yield f"is {row['status']} ({row['code']}: {row['error_text']}) though Meta would have it"
    elif row["confirmed_hash"] != mapped.hash or row["presence"] != "present" or row["attempts"]:
        yield f"is synced with another payload, {row['attempts']} attempts or presence {row['presence']}"
