"""Reads items with all that a decision needs, in one statement and so in one snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Select, and_, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.item_columns import catalog_item_columns, catalog_item_source
from meta_sync.catalog.models import CatalogItem, Lane
from meta_sync.catalog.tables import variants
from meta_sync.sync.models import NEW_ITEM, ItemState, Presence, ReadyIntent, Status
from meta_sync.sync.tables import intents, sync_state

__all__ = ["STATE_COLUMNS", "read_items", "read_ready", "state_from"]

_ITEM_WIDTH = len(fields(CatalogItem))

STATE_COLUMNS = (
    sync_state.c.status,
    sync_state.c.presence,
    sync_state.c.retailer_id,
    sync_state.c.confirmed_hash,
    sync_state.c.confirmed_epoch,
    sync_state.c.may_hold,
    sync_state.c.rejected_hash,
    sync_state.c.discarded_hash,
    sync_state.c.in_flight,
    sync_state.c.excluded_at.is_not(None).label("is_excluded"),
    sync_state.c.batch_limit,
    sync_state.c.image_version,
    sync_state.c.code,
    sync_state.c.attempts,
)
"""In the order of ``ItemState``; rows are unpacked by position, which costs half of access by name."""

_STATUS = {status.value: status for status in Status}
_PRESENCE = {presence.value: presence for presence in Presence}
_LANES = tuple(Lane)


def state_from(values: Sequence[Any]) -> ItemState:
    """The state in the columns of ``STATE_COLUMNS``; no row reads as a new item."""
    if values[0] is None:
        return NEW_ITEM
    return ItemState(
        _STATUS[values[0]],
        _PRESENCE[values[1]],
        values[2],
        values[3],
        values[4],
        frozenset(values[5]),
        *values[6:],
    )


def _item_from(values: Sequence[Any]) -> CatalogItem | None:
    return None if values[0] is None else CatalogItem(*values)


def _with_state(link_id: int) -> Any:
    return and_(sync_state.c.link_id == link_id, sync_state.c.variant_id == intents.c.variant_id)


async def read_ready(
    connection: AsyncConnection, store_id: str, link_id: int, *, limit: int
) -> list[ReadyIntent]:
    """Ready intents by lane and age with their rows, in one snapshot. Locks nothing."""
    base = intents.outerjoin(
        variants,
        (variants.c.store_id == intents.c.store_id) & (variants.c.variant_id == intents.c.variant_id),
    )
    statement: Select[Any] = (
        select(
            intents.c.variant_id,
            intents.c.version,
            intents.c.lane,
            intents.c.first_at,
            intents.c.job_id.is_not(None),
            literal_column("intents.ctid"),
            literal_column("sync_state.xmin"),
            *catalog_item_columns(),
            *STATE_COLUMNS,
        )
        .select_from(catalog_item_source(base).outerjoin(sync_state, _with_state(link_id)))
        .where(intents.c.store_id == store_id, intents.c.parked_by.is_(None))
        .order_by(intents.c.lane, intents.c.first_at)
        .limit(limit)
    )
    ready: list[ReadyIntent] = []
    split = 7 + _ITEM_WIDTH
    for row in await connection.execute(statement):
        values = tuple(row)
        state = state_from(values[split:])
        ready.append(
            ReadyIntent(
                values[0],
                values[1],
                _LANES[values[2]],
                values[3],
                values[4],
                values[5],
                values[6],
                _item_from(values[7:split]),
                state,
            )
        )
    return ready


async def read_items(
    connection: AsyncConnection, store_id: str, link_id: int, *, after: str | None, limit: int
) -> list[tuple[CatalogItem, ItemState]]:
    """A page of the store's variants, tombstones included, in the order of their ids, with their state."""
    statement: Select[Any] = (
        select(*catalog_item_columns(), *STATE_COLUMNS)
        .select_from(
            catalog_item_source().outerjoin(
                sync_state,
                and_(sync_state.c.link_id == link_id, sync_state.c.variant_id == variants.c.variant_id),
            )
        )
        .where(variants.c.store_id == store_id)
        .order_by(variants.c.variant_id)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(variants.c.variant_id > after)
    page: list[tuple[CatalogItem, ItemState]] = []
    for row in await connection.execute(statement):
        values = tuple(row)
        page.append((CatalogItem(*values[:_ITEM_WIDTH]), state_from(values[_ITEM_WIDTH:])))
    return page
