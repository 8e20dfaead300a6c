"""Watches rows as they change, for what must not be so at any moment. Told within transactions, also of those that fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from meta_sync.catalog.models import META_SOURCE
from tests.simulation.memory import Table

__all__ = ["watch_attempts"]

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
