"""Holds as a person sees and decides them: how much is kept back, what would change at Meta, release and discard.

Decides nothing about items itself: a decision is written to the hold's row, and the worker does the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.connection.repository import active_link
from meta_sync.core.clock import Clock
from meta_sync.core.db import Database
from meta_sync.core.errors import ConflictError, ErrorDetail, NotFoundError
from meta_sync.core.paging import MAX_PAGE_ROWS, CursorCodec, require_page_within_reach
from meta_sync.core.queue import JobName, JobQueue
from meta_sync.stores.audit import AuditAction, AuditTarget, record_action
from meta_sync.stores.repository import load_settings
from meta_sync.sync.context import mapping_settings
from meta_sync.sync.guard import GuardKind, is_within_shown
from meta_sync.sync.guard_decide import KindOf
from meta_sync.sync.guard_statements import DECIDED
from meta_sync.sync.job_dry_run import payload_changes
from meta_sync.sync.models import DecisionKind, Link, ReadyIntent
from meta_sync.sync.reading import read_held

__all__ = ["HeldItem", "HeldItemPage", "Hold", "HoldPage", "HoldState", "HoldsService"]

_MOST_ID = 2**63 - 1
_MOST_DIGITS = len(str(_MOST_ID))


class HoldState(StrEnum):
    """Where a hold is in its life."""

    COUNTING = "counting"
    HELD = "held"
    RELEASED = "released"
    DISCARDED = "discarded"
    DISSOLVED = "dissolved"


@dataclass(frozen=True, slots=True)
class Hold:
    """One hold. The order of the fields is that of the columns."""

    hold_id: int
    kind: GuardKind
    state: HoldState
    items: int
    """Kept back, as last counted; once decided, as they were then."""
    recent_items: int
    base_items: int
    threshold: int
    catalog_id: str | None
    created_at: datetime
    held_at: datetime | None
    counted_at: datetime | None
    decided_at: datetime | None
    decided_by: str | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class HoldPage:
    """A page of holds, newest first."""

    holds: list[Hold]
    total: int
    is_total_exact: bool
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class HeldItem:
    """One item that a hold keeps back, and what releasing it would do by the rows as they are now."""

    variant_id: str
    product_id: str | None
    sku: str | None
    title: str | None
    retailer_id: str | None
    first_at: datetime
    """Since when the change waits."""
    decision: DecisionKind | None
    """``None``: it cannot be told just now, because no catalog or no currency is set or the row cannot be mapped."""
    reason: str | None
    changes: dict[str, list[str | None]]
    """By field, what Meta confirmed last and what would be sent, where they differ."""


@dataclass(frozen=True, slots=True)
class HeldItemPage:
    """A page of what a hold keeps back, in the order of the variant ids."""

    hold: Hold
    items: list[HeldItem]
    total: int
    is_total_exact: bool
    next_cursor: str | None


_COLUMNS = """h.hold_id, h.kind, h.state, h.items, h.recent_items, h.base_items, h.threshold, l.catalog_id, h.created_at,
        h.held_at, h.counted_at, h.decided_at, h.decided_by, h.finished_at"""
# What was counted and turned out to be little is of no interest to anybody, unless it was held for a while.
_SHOWN = """h.store_id = :store_id AND (h.state <> 'dissolved' OR h.held_at IS NOT NULL)
      AND (CAST(:state AS text) IS NULL OR h.state = :state)"""
_LIST = text(
    f"""
    SELECT {_COLUMNS} FROM holds AS h LEFT JOIN catalog_links AS l ON l.link_id = h.link_id
    WHERE {_SHOWN} AND h.hold_id < :before
    ORDER BY h.hold_id DESC LIMIT :limit OFFSET :offset
    """
)
_TOTAL = text(f"SELECT count(*) FROM (SELECT 1 FROM holds AS h WHERE {_SHOWN} LIMIT :most) AS counted")
_ONE = text(
    f"""
    SELECT {_COLUMNS}, h.link_id FROM holds AS h LEFT JOIN catalog_links AS l ON l.link_id = h.link_id
    WHERE h.store_id = :store_id AND h.hold_id = :hold_id
    """
)
_LOCK = text("SELECT state, items FROM holds WHERE store_id = :store_id AND hold_id = :hold_id FOR UPDATE")
_HELD_NOW = text("SELECT count(*) FROM intents WHERE held_by = :hold_id")
_HELD_AT_MOST = text(
    "SELECT count(*) FROM (SELECT 1 FROM intents WHERE held_by = :hold_id LIMIT :most) AS counted"
)
_NOTE_ITEMS = text("UPDATE holds SET items = :items, counted_at = now() WHERE hold_id = :hold_id")
_PLACE = text(
    "SELECT variant_id FROM intents WHERE held_by = :hold_id ORDER BY variant_id LIMIT 1 OFFSET :offset"
)
_PAYLOADS = text(
    """
    SELECT variant_id, payload FROM item_payloads
    WHERE link_id = :link_id AND variant_id = ANY(CAST(:variant_ids AS text[]))
    """
)


_ACTIONS = {
    HoldState.RELEASED: AuditAction.HOLD_RELEASED,
    HoldState.DISCARDED: AuditAction.HOLD_DISCARDED,
}


class HoldsService:
    """Holds of a store."""

    def __init__(self, database: Database, clock: Clock, cursors: CursorCodec, queue: JobQueue) -> None:
        self._database = database
        self._clock = clock
        self._cursors = cursors
        self._queue = queue

    async def list(
        self,
        store_id: str,
        *,
        state: HoldState | None = None,
        page: int = 1,
        limit: int = 50,
        cursor: str | None = None,
    ) -> HoldPage:
        """A page of the store's holds, newest first.

        Raises
        ------
        ValidationFailedError
            The page lies beyond what pages reach, or the cursor is not one of this list.
        """
        scope = f"holds\n{store_id}\n{state}"
        before, offset = self._place(scope, cursor, page, limit)
        wanted = {"store_id": store_id, "state": state.value if state is not None else None}
        given = {**wanted, "before": before or _MOST_ID, "limit": limit + 1, "offset": offset}
        async with self._database.store(store_id) as connection:
            found = [_hold(row) for row in await connection.execute(_LIST, given)]
            total = int(await connection.scalar(_TOTAL, {**wanted, "most": MAX_PAGE_ROWS + 1}) or 0)
        next_cursor = None
        if len(found) > limit:
            next_cursor = self._cursors.encode(scope, [found[limit - 1].hold_id])
        return HoldPage(found[:limit], min(total, MAX_PAGE_ROWS), total <= MAX_PAGE_ROWS, next_cursor)

    async def get(self, store_id: str, hold_id: str) -> Hold:
        """One hold.

        Raises
        ------
        NotFoundError
            The store has no such hold, or it was over for longer than holds are kept.
        """
        async with self._database.store(store_id) as connection:
            hold, _ = await _one(connection, store_id, hold_id)
        return hold

    async def items(
        self, store_id: str, hold_id: str, *, page: int = 1, limit: int = 50, cursor: str | None = None
    ) -> HeldItemPage:
        """A page of what the hold keeps back, with what a release would do: its dry run.

        Raises
        ------
        NotFoundError
            As for ``get``.
        ValidationFailedError
            The page lies beyond what pages reach, or the cursor is not one of this list.
        """
        scope = f"hold\n{store_id}\n{hold_id}"
        after, offset = self._place(scope, cursor, page, limit)
        async with self._database.store(store_id) as connection:
            hold, link_id = await _one(connection, store_id, hold_id)
            identity = {"hold_id": hold.hold_id}
            if offset:
                after = await connection.scalar(_PLACE, {**identity, "offset": offset - 1})
            found: Sequence[ReadyIntent] = []
            if after is not None or not offset:
                found = await read_held(connection, hold.hold_id, link_id, after=after or "", limit=limit + 1)
            total = int(await connection.scalar(_HELD_AT_MOST, {**identity, "most": MAX_PAGE_ROWS + 1}) or 0)
            shown = found[:limit]
            kind_of = await self._kind_of(connection, store_id, link_id)
            ids = [one.variant_id for one in shown]
            payloads = {
                row[0]: msgspec.json.decode(bytes(row[1]))
                for row in await connection.execute(_PAYLOADS, {"link_id": link_id, "variant_ids": ids})
            }
        next_cursor = None
        if len(found) > limit:
            next_cursor = self._cursors.encode(scope, [shown[-1].variant_id])
        items = [_item(one, kind_of, payloads.get(one.variant_id, {})) for one in shown]
        return HeldItemPage(hold, items, min(total, MAX_PAGE_ROWS), total <= MAX_PAGE_ROWS, next_cursor)

    async def release(
        self, store_id: str, hold_id: str, *, shown_items: int | None = None, actor: str
    ) -> Hold:
        """Let everything go that the hold keeps back, by what its rows say when it is sent.

        Parameters
        ----------
        shown_items
            How many items the person saw; without it, as many as were last counted.

        Raises
        ------
        NotFoundError
            As for ``get``.
        ConflictError
            It is decided already or still being counted, or it keeps back more than a tenth more than was shown.
        """
        return await self._decide(store_id, hold_id, HoldState.RELEASED, shown_items=shown_items, actor=actor)

    async def discard(self, store_id: str, hold_id: str, *, actor: str) -> Hold:
        """Leave Meta as it is: each item is left alone until the store wants something else of it.

        Raises
        ------
        NotFoundError
            As for ``get``.
        ConflictError
            It is decided already or still being counted.
        """
        return await self._decide(store_id, hold_id, HoldState.DISCARDED, shown_items=None, actor=actor)

    async def _decide(
        self,
        store_id: str,
        hold_id: str,
        state: HoldState,
        *,
        shown_items: int | None,
        actor: str,
    ) -> Hold:
        async with self._database.store(store_id) as connection:
            hold, _ = await _one(connection, store_id, hold_id)
            identity = {"store_id": store_id, "hold_id": hold.hold_id}
            # From here on nothing goes under it.
            stands, items = (await connection.execute(_LOCK, identity)).one()
            if stands != HoldState.HELD:
                raise _not_to_decide(HoldState(stands))
            held = int(await connection.scalar(_HELD_NOW, identity) or 0)
            shown = items if shown_items is None else shown_items
            is_refused = state is HoldState.RELEASED and not is_within_shown(held, shown)
            if is_refused:
                await connection.execute(_NOTE_ITEMS, {**identity, "items": held})
            else:
                await connection.execute(
                    DECIDED, {**identity, "state": state.value, "actor": str(actor), "items": held}
                )
                await record_action(
                    connection,
                    store_id,
                    actor=actor,
                    action=_ACTIONS[state],
                    target_type=AuditTarget.HOLD,
                    target_id=str(hold.hold_id),
                    before={"state": stands},
                    after={"state": state.value, "kind": hold.kind.value, "items": held},
                )
        if is_refused:
            raise ConflictError(
                f"The hold keeps back {held:,} items by now, more than a tenth more than the {shown:,} that were shown. "
                "Look at it again before you release it.",
                details=[ErrorDetail("items", str(held))],
            )
        await self._queue.wake(JobName.JOBS)
        return await self.get(store_id, hold_id)

    async def _kind_of(self, connection: AsyncConnection, store_id: str, link_id: int) -> KindOf | None:
        settings, _ = await load_settings(connection, store_id)
        link = await active_link(connection, store_id)
        if link is None or link.link_id != link_id:
            return None
        mapping = mapping_settings(settings, link.business_name)
        if mapping is None:
            return None
        return KindOf(Link.of(link, settings.delete_grace_days), mapping, self._clock())

    def _place(self, scope: str, cursor: str | None, page: int, limit: int) -> tuple[Any, int]:
        """What the page lies beyond, or how many rows it skips."""
        if cursor is not None:
            return self._cursors.decode(scope, cursor)[0], 0
        require_page_within_reach(page, limit)
        return None, (page - 1) * limit


async def _one(connection: AsyncConnection, store_id: str, hold_id: str) -> tuple[Hold, int]:
    is_number = hold_id.isascii() and hold_id.isdecimal() and len(hold_id) <= _MOST_DIGITS
    number = int(hold_id) if is_number else _MOST_ID + 1
    row = None
    if number <= _MOST_ID:
        row = (await connection.execute(_ONE, {"store_id": store_id, "hold_id": number})).one_or_none()
    if row is None:
        raise NotFoundError("There is no such hold in this store, or it is older than holds are kept.")
    return _hold(row[:-1]), int(row[-1])


def _hold(row: Any) -> Hold:
    hold_id, kind, state, *rest = row
    return Hold(hold_id, GuardKind(kind), HoldState(state), *rest)


def _item(intent: ReadyIntent, kind_of: KindOf | None, confirmed: dict[str, Any]) -> HeldItem:
    decision = kind_of.decision(intent) if kind_of is not None else None
    changes: dict[str, list[str | None]] = {}
    if decision is not None and decision.kind is DecisionKind.UPSERT:
        changes = payload_changes(confirmed, msgspec.json.decode(decision.payload))
    item = intent.item
    return HeldItem(
        intent.variant_id,
        item.product_id if item is not None else None,
        item.sku if item is not None else None,
        item.title if item is not None else None,
        intent.state.retailer_id,
        intent.first_at,
        decision.kind if decision is not None else None,
        decision.reason if decision is not None else None,
        changes,
    )


def _not_to_decide(state: HoldState) -> ConflictError:
    if state is HoldState.COUNTING:
        return ConflictError("The hold is still being counted. Try again in a moment.")
    return ConflictError(f"The hold is not open any more: it is {state.value}.")
