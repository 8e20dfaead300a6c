"""Watches rows as they change, for what must not be so at any moment. Told within transactions, also of those that fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import orjson

from meta_sync.catalog.models import META_SOURCE
from meta_sync.sync.guard import kinds_in, trips
from meta_sync.sync.reconcile_compare import Match, compare
from tests.simulation.clock import EPOCH
from tests.simulation.memory import Table
from tests.simulation.meta import SimulatedMeta, readable

__all__ = ["watch_attempts", "watch_findings", "watch_guard"]

Row = Mapping[str, Any]


def watch_attempts(tables: Mapping[str, Table], violate: Callable[[str], None]) -> None:
    """Have said what is sent though a person has discarded it, and what is deleted though it lives."""
    left: dict[tuple[int, str], Row] = {}

    def taken(_: str, earlier: Row | None, later: Row | None) -> None:
        if earlier and later and earlier["in_flight"] is None and later["in_flight"] is not None:
            left[later["link_id"], later["variant_id"]] = earlier

    def sent(_: str, earlier: Row | None, later: Row | None) -> None:
        if earlier is not None or later is None:
            return
        variant_id = later["variant_id"]
        before = left.get((later["link_id"], variant_id))
        if before is None:
            return
        if later["method"] == "DELETE" and _lives(tables, before):
            violate(f"{variant_id} is deleted at Meta though it lives")
        is_adopted = before["discarded_hash"] == before["confirmed_hash"]
        is_taken_over = is_adopted and _source(tables, before) != META_SOURCE
        hash_sent = later["payload_hash"] or b"DELETE"
        if before["discarded_hash"] == hash_sent and not is_taken_over:
            violate(f"{variant_id} is sent as a person has discarded it")

    tables["sync_state"].watchers.append(taken)
    tables["batch_items"].watchers.append(sent)


def watch_findings(tables: Mapping[str, Table], meta: SimulatedMeta, violate: Callable[[str], None]) -> None:
    """Have said what is taken for drift though Meta has had the item as it was confirmed all the time."""

    def agreed(_: str, earlier: Row | None, later: Row | None) -> None:
        if later is None or later["state"] != "agreed" or (earlier or {}).get("state") == "agreed":
            return
        read_at = later["second_read_at"] or later["first_read_at"]
        since = (read_at - EPOCH).total_seconds() - meta.adversity.read_lag_seconds - 1
        catalog_id = tables["catalog_links"].rows[later["link_id"],]["catalog_id"]
        versions = meta.shown_since(catalog_id, later["retailer_id"], since)
        if not any(_is_found(tables, later, version) for version in versions):
            violate(f"{later['retailer_id']} is taken for {later['verdict']}, which it is not")

    tables["reconcile_findings"].watchers.append(agreed)


def watch_guard(
    tables: Mapping[str, Table], now: Callable[[], datetime], violate: Callable[[str], None]
) -> None:
    """Have said what goes out of a kind beyond what may within an hour, unless a person released it."""
    batch_items = tables["batch_items"]

    def sent(_: str, earlier: Row | None, later: Row | None) -> None:
        if earlier is not None or later is None or not later["guarded"]:
            return
        settings = tables["stores"].rows[later["store_id"],]["settings"]
        link_id, since = later["link_id"], now() - timedelta(hours=1)
        begun = {
            row["batch_id"]
            for row in tables["batches"]
            if row["link_id"] == link_id
            and row["created_at"] > since
            and (row["state"] != "over" or row["accepted"] or row["unknown"])
        }
        base = sum(
            row["link_id"] == link_id
            and (
                row["presence"] != "absent"
                or (row["confirmed_at"] is not None and row["confirmed_at"] > since)
            )
            for row in tables["sync_state"]
        )
        for kind in kinds_in(later["guarded"]):
            changed = {later["variant_id"]} | {
                row["variant_id"]
                for batch_id in begun
                for row in batch_items.by_index(batch_id)
                if row["guarded"] & kind.bit and row["outcome"] != "rejected"
            }
            limits = settings.get("guard_max_share", 0.3), settings.get("guard_min_items", 50)
            if trips(len(changed), base, max_share=limits[0], min_items=limits[1]):
                violate(
                    f"{len(changed)} of {base} items changed ({kind.value}) within an hour, and nobody was asked"
                )

    batch_items.watchers.append(sent)


def _is_found(tables: Mapping[str, Table], finding: Row, version: Row | None) -> bool:
    """Whether the finding is true of what Meta had."""
    if version is None:
        return bool(finding["verdict"] == "missing")
    if finding["verdict"] == "missing":
        return False
    if finding["verdict"] != "different":
        return True
    kept = tables["item_payloads"].get(finding["link_id"], finding["variant_id"])
    if kept is None:
        return False
    shown = readable(finding["retailer_id"], version)
    return bool(compare(orjson.loads(kept["payload"]), shown).match is Match.DIFFERENT)


def _product(tables: Mapping[str, Table], state: Row) -> tuple[Row | None, Row | None]:
    variant = tables["variants"].get(state["store_id"], state["variant_id"])
    if variant is None:
        return None, None
    return variant, tables["products"].get(state["store_id"], variant["product_id"])


def _source(tables: Mapping[str, Table], state: Row) -> str | None:
    product = _product(tables, state)[1]
    return None if product is None else product["source"]


def _lives(tables: Mapping[str, Table], state: Row) -> bool:
    """Whether it is an item that nothing speaks against."""
    variant, product = _product(tables, state)
    return (
        variant is not None
        and product is not None
        and variant["deleted_at"] is None
        and product["deleted_at"] is None
        and (product["status"], product["visibility"]) == ("active", "public")
        and bool(variant["price"])
        and state["excluded_at"] is None
    )
