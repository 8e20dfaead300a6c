"""Decides field by field about items that Meta shows otherwise than it confirmed them: take Meta's value, or keep it there.

A value that is taken becomes the store's, as if a person had edited the row. One that is pinned stays Meta's, whatever
the row says, until it is unpinned. Either way the item is looked at again, and sent where it has to be. Each item is one
transaction.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.models import Lane
from meta_sync.catalog.products_write import save_working_set
from meta_sync.catalog.repository import load_working_set
from meta_sync.catalog.transactions import write_transaction
from meta_sync.connection.models import ActiveLink
from meta_sync.connection.repository import active_link
from meta_sync.core.db import Database
from meta_sync.core.errors import ConflictError, NotFoundError
from meta_sync.core.queue import JobName, JobQueue
from meta_sync.stores.audit import AuditAction, AuditTarget, record_action
from meta_sync.stores.repository import load_settings
from meta_sync.sync.adopt_mapping import field_values
from meta_sync.sync.adopt_models import ActResult, NotDoneCode, UnreadableItemError
from meta_sync.sync.adopt_statements import (
    CHANGED_SINCE,
    EVENTS,
    FINDING_DONE,
    FINDINGS,
    LOCK_IN_FLIGHT,
    LOOK_AGAIN,
    NEW_STATES,
    PIN,
    PINNED,
)
from meta_sync.sync.adopt_take import MONEY_FIELDS, TAKEABLE, take_values
from meta_sync.sync.mapping_fields import FIELDS
from meta_sync.sync.outbox import OutboxSink, mark_due, write_intents
from meta_sync.sync.reconcile_compare import held_fields
from meta_sync.sync.reconcile_models import Verdict

__all__ = ["MOST_ITEMS", "Chosen", "PinsService"]

Chosen = Mapping[str, Collection[str] | None]
"""By retailer id the fields that are decided about; ``None``: all that differ."""

MOST_ITEMS = 1_000
"""Items that one call decides about."""

_STOCK_FIELDS = frozenset({"availability", "quantity_to_sell_on_facebook"})
_GROUPS = (MONEY_FIELDS, _STOCK_FIELDS)
"""Fields that mean something only together."""


@dataclass(frozen=True, slots=True)
class _Item:
    """One finding that is being acted on, in its transaction."""

    connection: AsyncConnection
    store_id: str
    link: ActiveLink
    currency: str
    finding: Any

    @property
    def identity(self) -> dict[str, Any]:
        """As statements name the item."""
        return {
            "store_id": self.store_id,
            "link_id": self.link.link_id,
            "variant_id": self.finding.variant_id,
        }


class PinsService:
    """Takes and pins what Meta shows."""

    def __init__(self, database: Database, queue: JobQueue) -> None:
        self._database = database
        self._queue = queue

    async def take(
        self, store_id: str, job_id: str, chosen: Chosen, *, dry_run: bool = False, actor: str
    ) -> ActResult:
        """Write Meta's values of ``different`` items into the catalog. Siblings share what is the product's.

        Raises
        ------
        ConflictError
            No Meta catalog is selected, another one than was read, or the currency is not set.
        """

        async def work(item: _Item, fields: Collection[str] | None) -> dict[str, Any]:
            values = _chosen_values(item, fields, TAKEABLE)
            ids = item.finding.product_id, item.finding.variant_id
            working = await load_working_set(item.connection, store_id, ids[:1], ids[1:], ids[1:])
            variant = working.variants.get(ids[1])
            if variant is None or variant.deleted:
                raise UnreadableItemError(NotDoneCode.NOT_AMONG_FINDINGS)
            take_values(working, ids[1], values, currency=item.currency)
            if not dry_run:
                await item.connection.execute(LOCK_IN_FLIGHT, item.identity)
                await save_working_set(item.connection, store_id, working, OutboxSink())
            return values

        return await self._each(store_id, job_id, chosen, work, "taken", dry_run=dry_run, actor=actor)

    async def pin(
        self, store_id: str, job_id: str, chosen: Chosen, *, dry_run: bool = False, actor: str
    ) -> ActResult:
        """Keep Meta's values of ``different`` items there: they are sent in place of ours, until they are unpinned.

        Raises
        ------
        ConflictError
            As for ``take``.
        """

        async def work(item: _Item, fields: Collection[str] | None) -> dict[str, Any]:
            values = _chosen_values(item, fields, FIELDS.keys())
            if not dry_run:
                await item.connection.execute(LOCK_IN_FLIGHT, item.identity)
                await write_intents(item.connection, store_id, [item.finding.variant_id], [Lane.LIVE])
                await item.connection.execute(NEW_STATES, item.identity)
                before = await item.connection.scalar(PINNED, item.identity) or {}
                pinned = orjson.dumps({**before, **values}).decode()
                await item.connection.execute(PIN, {**item.identity, "pinned": pinned})
            return values

        return await self._each(store_id, job_id, chosen, work, "pinned", dry_run=dry_run, actor=actor)

    async def unpin(
        self, store_id: str, variant_id: str, *, fields: Collection[str] | None = None, actor: str
    ) -> list[str]:
        """Send the store's own values of an item again; the fields that were pinned. ``None``: of all fields.

        Raises
        ------
        NotFoundError
            Nothing of the item is pinned.
        ConflictError
            No Meta catalog is selected.
        """

        async def work(connection: AsyncConnection) -> list[str]:
            link = await active_link(connection, store_id)
            if link is None:
                raise ConflictError("No Meta catalog is selected yet.", code="meta_not_connected")
            row = {"store_id": store_id, "link_id": link.link_id, "variant_id": variant_id}
            await connection.execute(LOCK_IN_FLIGHT, row)
            await write_intents(connection, store_id, [variant_id], [Lane.LIVE])
            before: dict[str, Any] = await connection.scalar(PINNED, row) or {}
            ended = sorted(before.keys() if fields is None else before.keys() & set(fields))
            if not ended:
                raise NotFoundError("Nothing of this item is pinned.")
            kept = {name: value for name, value in before.items() if name not in ended}
            pinned = orjson.dumps(kept).decode() if kept else None
            await connection.execute(PIN, {**row, "pinned": pinned})
            noted = {"store_id": store_id, "link_id": link.link_id, "variant_ids": [variant_id]}
            await connection.execute(EVENTS, {**noted, "kind": "unpinned", "actor": actor})
            await record_action(
                connection,
                store_id,
                actor=actor,
                action=AuditAction.ITEM_UNPINNED,
                target_type=AuditTarget.ITEM,
                target_id=variant_id,
                before={name: before[name] for name in ended},
            )
            await mark_due(connection, store_id)
            return ended

        ended = await write_transaction(self._database, store_id, work)
        await self._queue.wake(JobName.DRAIN)
        return ended

    async def _each(
        self,
        store_id: str,
        job_id: str,
        chosen: Chosen,
        work: Callable[[_Item, Collection[str] | None], Awaitable[dict[str, Any]]],
        state: str,
        *,
        dry_run: bool,
        actor: str,
    ) -> ActResult:
        """Decide about each item in a transaction of its own."""
        result = ActResult()
        ids = sorted(chosen)
        result.remaining = len(ids) > MOST_ITEMS

        for retailer_id in ids[:MOST_ITEMS]:

            async def one(connection: AsyncConnection, retailer_id: str = retailer_id) -> dict[str, Any]:
                item = await _item(connection, store_id, job_id, retailer_id)
                values = await work(item, chosen[retailer_id])
                if not dry_run:
                    await _finish(item, job_id, values, state, actor)
                return values

            try:
                result.fields[retailer_id] = await write_transaction(self._database, store_id, one)
                result.done.append(retailer_id)
            except UnreadableItemError as error:
                result.refuse(retailer_id, error.code)
        if result.done and not dry_run:
            await self._queue.wake(JobName.DRAIN)
        return result


async def _item(connection: AsyncConnection, store_id: str, job_id: str, retailer_id: str) -> _Item:
    settings, _ = await load_settings(connection, store_id)
    link = await active_link(connection, store_id)
    if link is None:
        raise ConflictError("No Meta catalog is selected yet.", code="meta_not_connected")
    if settings.currency is None:
        raise ConflictError("The store's currency is not set yet.")
    asked = {"job_id": job_id, "store_id": store_id, "verdict": Verdict.DIFFERENT.value}
    finding = (await connection.execute(FINDINGS, {**asked, "retailer_ids": [retailer_id]})).one_or_none()
    if finding is None or finding.variant_id is None:
        raise UnreadableItemError(NotDoneCode.NOT_AMONG_FINDINGS)
    if finding.link_id != link.link_id:
        raise ConflictError("The reconciliation was of another catalog than the selected one.")
    asked_of = {"store_id": store_id, "link_id": link.link_id, "variant_id": finding.variant_id}
    if await connection.scalar(CHANGED_SINCE, {**asked_of, "read_at": finding.second_read_at}):
        raise UnreadableItemError(NotDoneCode.CHANGED_SINCE)
    return _Item(connection, store_id, link, settings.currency, finding)


def _chosen_values(item: _Item, fields: Collection[str] | None, possible: Collection[str]) -> dict[str, Any]:
    """Meta's values of the chosen fields that differ, and of those that go with them."""
    differing = set(item.finding.differences)
    names = (differing if fields is None else differing & set(fields)) & set(possible)
    for group in _GROUPS:
        if names & group:
            names |= group & set(possible)
    values = field_values(item.finding.found or {}, currency=item.currency)
    if names & MONEY_FIELDS and "price" not in values:
        raise UnreadableItemError(NotDoneCode.PRICE_UNCLEAR)
    if not names:
        raise UnreadableItemError(NotDoneCode.NOTHING_CHOSEN)
    return {name: values.get(name) for name in sorted(names)}


async def _finish(item: _Item, job_id: str, values: dict[str, Any], state: str, actor: str) -> None:
    """Have the item looked at again, as one of which Meta's side is not what it was, and note what was decided."""
    await write_intents(item.connection, item.store_id, [item.finding.variant_id], [Lane.LIVE])
    held = sorted(held_fields(item.finding.found or {}))
    await item.connection.execute(LOOK_AGAIN, {**item.identity, "held": held})
    given: dict[str, Sequence[str]] = {
        "retailer_ids": [item.finding.retailer_id],
        "variant_ids": [item.finding.variant_id],
        "product_ids": [item.finding.product_id],
    }
    await item.connection.execute(FINDING_DONE, {**given, "job_id": job_id, "state": state, "actor": actor})
    noted = {"store_id": item.store_id, "link_id": item.link.link_id, "kind": state, "actor": actor}
    await item.connection.execute(EVENTS, {**noted, "variant_ids": given["variant_ids"]})
    await record_action(
        item.connection,
        item.store_id,
        actor=actor,
        action=AuditAction.ITEM_PINNED if state == "pinned" else AuditAction.ITEMS_TAKEN,
        target_type=AuditTarget.ITEM,
        target_id=item.finding.variant_id,
        before={name: item.finding.differences.get(name, [None])[0] for name in values},
        after=values,
    )
    await mark_due(item.connection, item.store_id)
