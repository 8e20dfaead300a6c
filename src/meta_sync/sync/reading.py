"""Reads items with all that a decision needs, in one statement and so in one snapshot.

What is wanted is found and bounded first, and only then is each row's company looked up by its keys, so that a read costs
what it returns, whatever the planner knows of the tables. No join here may be left for the planner to turn around.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    literal_column,
    select,
    true,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import NullType

from meta_sync.catalog.item_columns import catalog_item_columns, catalog_item_source
from meta_sync.catalog.models import CatalogItem, Lane
from meta_sync.catalog.tables import variants
from meta_sync.core.lookups import row_by_key
from meta_sync.sync.bulk import expect_lookups
from meta_sync.sync.models import NEW_ITEM, ItemState, Presence, ReadyIntent, Status
from meta_sync.sync.tables import intents, sync_state

__all__ = [
    "STATE_COLUMNS",
    "read_chosen",
    "read_held",
    "read_items",
    "read_outside",
    "read_part",
    "read_ready",
    "state_from",
]

_ITEM_WIDTH = len(fields(CatalogItem))

_STORED_COLUMNS = (
    sync_state.c.status,
    sync_state.c.presence,
    sync_state.c.retailer_id,
    sync_state.c.confirmed_hash,
    sync_state.c.confirmed_epoch,
    sync_state.c.may_hold,
    sync_state.c.rejected_hash,
    sync_state.c.discarded_hash,
    sync_state.c.in_flight,
    sync_state.c.excluded_at,
    sync_state.c.batch_limit,
    sync_state.c.image_version,
    sync_state.c.code,
    sync_state.c.attempts,
    sync_state.c.split_part,
    sync_state.c.confirmed_price,
    sync_state.c.confirmed_availability,
    sync_state.c.confirmed_sale,
    sync_state.c.grace_until,
    sync_state.c.pinned,
)


def _read(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """What is read of a stored column: nearly always itself."""
    if column.key == sync_state.c.may_hold.key:
        return type_coerce(column, NullType()).label("may_hold")
    if column.key == sync_state.c.excluded_at.key:
        return column.is_not(None).label("is_excluded")
    return column


def _state_columns(state: FromClause) -> tuple[ColumnElement[Any], ...]:
    return tuple(_read(state.c[column.name]) for column in _STORED_COLUMNS)


STATE_COLUMNS = _state_columns(sync_state)
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


_ROW_OF_INTENT: tuple[ColumnElement[Any], ...] = (literal_column("intents.ctid").label("intent_ctid"),)
_ROW_OF_STATE: tuple[ColumnElement[Any], ...] = (
    literal_column("sync_state.ctid").label("state_ctid"),
    literal_column("sync_state.xmin").label("state_xmin"),
)
_INTENT_NAMES = ("store_id", "variant_id", "version", "lane", "first_at", "job_id", "released_kinds")
_WAITS = and_(
    intents.c.store_id == bindparam("store_id"), intents.c.parked_by.is_(None), intents.c.held_by.is_(None)
)


def _state_of(item: FromClause) -> FromClause:
    """The item's state at the link."""
    return row_by_key(
        sync_state,
        sync_state.c.link_id == bindparam("link_id"),
        sync_state.c.variant_id,
        item.c.variant_id,
        of=item,
        name="state",
        more=_ROW_OF_STATE,
    )


def _by_lane_and_age(row: FromClause) -> tuple[ColumnElement[Any], ...]:
    return row.c.lane, row.c.first_at


def _by_id(row: FromClause) -> tuple[ColumnElement[Any], ...]:
    return (row.c.variant_id,)


def _ready_statement(
    found: FromClause,
    intent: FromClause,
    state: FromClause,
    *conditions: ColumnElement[bool],
    order: Callable[[FromClause], tuple[ColumnElement[Any], ...]] = _by_lane_and_age,
) -> Select[Any]:
    """The intents and states that were found, as many as are wanted; then, by their keys, the rows of the catalog."""
    ready = (
        select(
            *(intent.c[name] for name in _INTENT_NAMES),
            *(intent.c[column.name] for column in _ROW_OF_INTENT),
            *(state.c[column.name] for column in (*_ROW_OF_STATE, *_STORED_COLUMNS)),
        )
        .select_from(found)
        .where(*conditions)
        .order_by(*order(intent))
        .limit(bindparam("most"))
        .subquery("ready")
    )
    variant = row_by_key(
        variants,
        variants.c.store_id == ready.c.store_id,
        variants.c.variant_id,
        ready.c.variant_id,
        of=ready,
        name="variant",
    )
    return (
        select(
            ready.c.variant_id,
            ready.c.version,
            ready.c.lane,
            ready.c.first_at,
            ready.c.job_id.is_not(None),
            ready.c.released_kinds,
            ready.c.intent_ctid,
            ready.c.state_ctid,
            ready.c.state_xmin,
            *catalog_item_columns(variant),
            *_state_columns(ready),
        )
        .select_from(catalog_item_source(ready.outerjoin(variant, true()), variant))
        .order_by(*order(ready))
    )


def _ready_outside_splits() -> Select[Any]:
    """By lane and age, past what stands in a split."""
    intent = select(intents, *_ROW_OF_INTENT).where(_WAITS).subquery("intent")
    state = _state_of(intent)
    return _ready_statement(intent.outerjoin(state, true()), intent, state, state.c.split_part.is_(None))


def _ready_of_part() -> Select[Any]:
    """From the part's few states to their intents. The sum hides the link, whose every row would be looked at."""
    state = (
        select(sync_state, *_ROW_OF_STATE)
        .where(
            sync_state.c.split_part == bindparam("part_id"), sync_state.c.link_id + 0 == bindparam("link_id")
        )
        .offset(literal_column("0"))
        .subquery("state")
    )
    intent = row_by_key(
        intents,
        _WAITS,
        intents.c.variant_id,
        state.c.variant_id,
        of=state,
        name="intent",
        more=_ROW_OF_INTENT,
    )
    return _ready_statement(state.join(intent, true()), intent, state)


def _page_of_intents(within: ColumnElement[bool]) -> Select[Any]:
    """In the order of their ids, whether they are in flight or not."""
    intent = (
        select(intents, *_ROW_OF_INTENT)
        .where(within, intents.c.variant_id > bindparam("after"))
        .order_by(intents.c.variant_id)
        .limit(bindparam("most"))
        .subquery("intent")
    )
    state = _state_of(intent)
    return _ready_statement(intent.outerjoin(state, true()), intent, state, order=_by_id)


def _page_statement(*conditions: ColumnElement[bool]) -> Select[Any]:
    page = (
        select(variants)
        .where(variants.c.store_id == bindparam("store_id"), *conditions)
        .order_by(variants.c.variant_id)
        .limit(bindparam("most"))
        .subquery("page")
    )
    state = _state_of(page)
    return (
        select(*catalog_item_columns(page), *_state_columns(state))
        .select_from(catalog_item_source(page, page).outerjoin(state, true()))
        .order_by(page.c.variant_id)
    )


# Built once: building and hashing a statement of fifty columns costs as much as reading dozens of rows.
_READY = _ready_outside_splits()
_READY_OF_PART = _ready_of_part()
_OUTSIDE = _page_of_intents(
    and_(
        intents.c.store_id == bindparam("store_id"), intents.c.held_by.is_distinct_from(bindparam("hold_id"))
    )
)
_HELD = _page_of_intents(intents.c.held_by == bindparam("hold_id"))
_FIRST_PAGE = _page_statement()
_NEXT_PAGE = _page_statement(variants.c.variant_id > bindparam("after"))
_CHOSEN = _page_statement(variants.c.variant_id == any_(bindparam("variant_ids", type_=ARRAY(Text))))


async def read_ready(
    connection: AsyncConnection, store_id: str, link_id: int, *, limit: int
) -> list[ReadyIntent]:
    """Ready intents by lane and age with their rows, in one snapshot; none that stands in a split. Locks nothing."""
    await expect_lookups(connection)
    rows = await connection.execute(_READY, {"store_id": store_id, "link_id": link_id, "most": limit})
    return [_ready_intent(row) for row in rows.all()]


async def read_part(
    connection: AsyncConnection, store_id: str, link_id: int, part_id: int, *, limit: int
) -> list[ReadyIntent]:
    """Like ``read_ready``, for the items of one part of a split."""
    await expect_lookups(connection)
    given = {"store_id": store_id, "link_id": link_id, "part_id": part_id, "most": limit}
    return [_ready_intent(row) for row in (await connection.execute(_READY_OF_PART, given)).all()]


async def read_outside(
    connection: AsyncConnection, store_id: str, link_id: int, hold_id: int, *, after: str, limit: int
) -> list[ReadyIntent]:
    """A page of all intents but those under the hold, those of items in flight too, in the order of their ids."""
    await expect_lookups(connection)
    given = {"store_id": store_id, "link_id": link_id, "hold_id": hold_id, "after": after, "most": limit}
    return [_ready_intent(row) for row in (await connection.execute(_OUTSIDE, given)).all()]


async def read_held(
    connection: AsyncConnection, hold_id: int, link_id: int, *, after: str, limit: int
) -> list[ReadyIntent]:
    """A page of the intents that a hold keeps back, in the order of their ids."""
    await expect_lookups(connection)
    given = {"hold_id": hold_id, "link_id": link_id, "after": after, "most": limit}
    return [_ready_intent(row) for row in (await connection.execute(_HELD, given)).all()]


def _ready_intent(row: Sequence[Any]) -> ReadyIntent:
    variant_id, version, lane, first_at, is_job_only, released_kinds, row_id, *rest = row
    state_row_id, state_row_version, *values = rest
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
        released_kinds,
    )


async def read_items(
    connection: AsyncConnection, store_id: str, link_id: int, *, after: str | None, limit: int
) -> list[tuple[CatalogItem, ItemState]]:
    """A page of the store's variants, tombstones included, in the order of their ids, with their state."""
    await expect_lookups(connection)
    given = {"store_id": store_id, "link_id": link_id, "most": limit}
    if after is None:
        rows = await connection.execute(_FIRST_PAGE, given)
    else:
        rows = await connection.execute(_NEXT_PAGE, {**given, "after": after})
    return [(CatalogItem(*row[:_ITEM_WIDTH]), state_from(row[_ITEM_WIDTH:])) for row in rows.all()]


async def read_chosen(
    connection: AsyncConnection, store_id: str, link_id: int, variant_ids: Sequence[str]
) -> list[tuple[CatalogItem, ItemState]]:
    """The named variants of the store, tombstones included, in the order of their ids, with their state."""
    await expect_lookups(connection)
    given = {"store_id": store_id, "link_id": link_id, "variant_ids": list(variant_ids)}
    rows = await connection.execute(_CHOSEN, {**given, "most": len(variant_ids)})
    return [(CatalogItem(*row[:_ITEM_WIDTH]), state_from(row[_ITEM_WIDTH:])) for row in rows.all()]
