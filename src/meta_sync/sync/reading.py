"""Reads items with all that a decision needs, in one statement and so in one snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, literal_column, select, type_coerce
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import NullType

from meta_sync.catalog.item_columns import catalog_item_columns, catalog_item_source
from meta_sync.catalog.models import CatalogItem, Lane
from meta_sync.catalog.tables import variants
from meta_sync.sync.models import NEW_ITEM, ItemState, Presence, ReadyIntent, Status
from meta_sync.sync.tables import intents, sync_state

__all__ = ["STATE_COLUMNS", "read_items", "read_part", "read_ready", "state_from"]

_ITEM_WIDTH = len(fields(CatalogItem))

STATE_COLUMNS = (
    sync_state.c.status,
    sync_state.c.presence,
    sync_state.c.retailer_id,
    sync_state.c.confirmed_hash,
    sync_state.c.confirmed_epoch,
    type_coerce(sync_state.c.may_hold, NullType()).label("may_hold"),
    sync_state.c.rejected_hash,
    sync_state.c.discarded_hash,
    sync_state.c.in_flight,
    sync_state.c.excluded_at.is_not(None).label("is_excluded"),
    sync_state.c.batch_limit,
    sync_state.c.image_version,
    sync_state.c.code,
    sync_state.c.attempts,
    sync_state.c.split_part,
)
"""In the order of ``ItemState``; rows are unpacked by position, which costs half of access by name."""

_STATUS = {status.value: status for status in Status}
_PRESENCE = {presence.value: presence for presence in Presence}
_LANES = tuple(Lane)


@lru_cache(maxsize=4096)
def _field_set(names: tuple[str, ...]) -> frozenset[str]:
    """Items share few distinct sets; one object for each makes every later comparison and look-up cheap."""
    return frozenset(names)


def state_from(values: Sequence[Any]) -> ItemState:
    """The state in the columns of ``STATE_COLUMNS``; no row reads as a new item."""
    status, presence, retailer_id, confirmed_hash, confirmed_epoch, may_hold, *others = values
    if status is None:
        return NEW_ITEM
    return ItemState(
        _STATUS[status],
        _PRESENCE[presence],
        retailer_id,
        confirmed_hash,
        confirmed_epoch,
        _field_set(tuple(may_hold)),
        *others,
    )


def _ready_statement(*conditions: ColumnElement[bool]) -> Select[Any]:
    base = intents.outerjoin(
        variants,
        and_(variants.c.store_id == intents.c.store_id, variants.c.variant_id == intents.c.variant_id),
    )
    state = and_(
        sync_state.c.link_id == bindparam("link_id"), sync_state.c.variant_id == intents.c.variant_id
    )
    return (
        select(
            intents.c.variant_id,
            intents.c.version,
            intents.c.lane,
            intents.c.first_at,
            intents.c.job_id.is_not(None),
            literal_column("intents.ctid"),
            literal_column("sync_state.ctid"),
            literal_column("sync_state.xmin"),
            *catalog_item_columns(),
            *STATE_COLUMNS,
        )
        .select_from(catalog_item_source(base).outerjoin(sync_state, state))
        .where(intents.c.store_id == bindparam("store_id"), intents.c.parked_by.is_(None), *conditions)
        .order_by(intents.c.lane, intents.c.first_at)
        .limit(bindparam("most"))
    )


def _page_statement() -> Select[Any]:
    state = and_(
        sync_state.c.link_id == bindparam("link_id"), sync_state.c.variant_id == variants.c.variant_id
    )
    return (
        select(*catalog_item_columns(), *STATE_COLUMNS)
        .select_from(catalog_item_source().outerjoin(sync_state, state))
        .where(variants.c.store_id == bindparam("store_id"))
        .order_by(variants.c.variant_id)
        .limit(bindparam("most"))
    )


# Built once: building and hashing a statement of fifty columns costs as much as reading dozens of rows.
_READY = _ready_statement(sync_state.c.split_part.is_(None))
_READY_OF_PART = _ready_statement(sync_state.c.split_part == bindparam("part_id"))
_FIRST_PAGE = _page_statement()
_NEXT_PAGE = _FIRST_PAGE.where(variants.c.variant_id > bindparam("after"))


async def read_ready(
    connection: AsyncConnection, store_id: str, link_id: int, *, limit: int
) -> list[ReadyIntent]:
    """Ready intents by lane and age with their rows, in one snapshot; none that stands in a split. Locks nothing."""
    rows = await connection.execute(_READY, {"store_id": store_id, "link_id": link_id, "most": limit})
    return [_ready_intent(row) for row in rows.all()]


async def read_part(
    connection: AsyncConnection, store_id: str, link_id: int, part_id: int, *, limit: int
) -> list[ReadyIntent]:
    """Like ``read_ready``, for the items of one part of a split."""
    given = {"store_id": store_id, "link_id": link_id, "part_id": part_id, "most": limit}
    return [_ready_intent(row) for row in (await connection.execute(_READY_OF_PART, given)).all()]


def _ready_intent(row: Sequence[Any]) -> ReadyIntent:
    variant_id, version, lane, first_at, is_job_only, row_id, state_row_id, state_row_version, *values = row
    return ReadyIntent(
        variant_id,
        version,
        _LANES[lane],
        first_at,
        is_job_only,
        row_id,
        state_row_id,
        state_row_version,
        None if values[0] is None else CatalogItem(*values[:_ITEM_WIDTH]),
        state_from(values[_ITEM_WIDTH:]),
    )


async def read_items(
    connection: AsyncConnection, store_id: str, link_id: int, *, after: str | None, limit: int
) -> list[tuple[CatalogItem, ItemState]]:
    """A page of the store's variants, tombstones included, in the order of their ids, with their state."""
    given = {"store_id": store_id, "link_id": link_id, "most": limit}
    if after is None:
        rows = await connection.execute(_FIRST_PAGE, given)
    else:
        rows = await connection.execute(_NEXT_PAGE, {**given, "after": after})
    return [(CatalogItem(*row[:_ITEM_WIDTH]), state_from(row[_ITEM_WIDTH:])) for row in rows.all()]
