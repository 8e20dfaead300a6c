"""Takes items that only Meta has into the store's catalog, or off Meta, as a person decides about a reconciliation's findings.

Adopting sends nothing: an adopted item is as at Meta and as the store has it at once. What is deleted is deleted by the
next turn, like everything else. A page of findings is one transaction, so that a crash leaves none of them half done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.models import META_SOURCE, Change, ProductInput
from meta_sync.catalog.products_write import save_working_set
from meta_sync.catalog.repository import ConcurrentWriteError, load_working_set
from meta_sync.catalog.transactions import write_transaction
from meta_sync.catalog.working_set import MergeOutcome, WorkingSet
from meta_sync.connection.models import ActiveLink
from meta_sync.connection.repository import active_link
from meta_sync.core.clock import Clock
from meta_sync.core.db import Database
from meta_sync.core.errors import ConflictError
from meta_sync.core.queue import JobName, JobQueue
from meta_sync.stores.audit import AuditAction, AuditTarget, first_ids, record_action
from meta_sync.stores.repository import load_settings
from meta_sync.sync.adopt_mapping import adopted_product
from meta_sync.sync.adopt_models import ActResult, NotDoneCode, UnreadableItemError
from meta_sync.sync.adopt_statements import (
    ADOPT_STATES,
    AS_ADOPTED,
    EVENTS,
    FINDING_DONE,
    FINDINGS,
    FINDINGS_AFTER,
    GIVE_UP_STATES,
    LEDGER_IDS,
    RELEASE_DELETES,
)
from meta_sync.sync.context import mapping_settings
from meta_sync.sync.decide import KeptCode, is_as_adopted
from meta_sync.sync.guard import GuardKind
from meta_sync.sync.mapping import MappedItem, Mapper
from meta_sync.sync.mapping_fields import MANAGED_FIELDS
from meta_sync.sync.models import ADOPTED_HASH, GRACE_OVER
from meta_sync.sync.outbox import OutboxSink
from meta_sync.sync.reading import read_chosen
from meta_sync.sync.reconcile_models import Verdict

__all__ = ["MOST_AT_ONCE", "AdoptService"]

MOST_AT_ONCE = 5_000
"""Findings that one call works off; it says whether there are more."""

_PAGE = 250
"""Findings per transaction: their rows are locked for well under a second."""


_StateRow = tuple[str, bytes, str | None, str | None, str | None]
"""Id, hash, price, availability and code of an adopted item's state."""


class _Collected:
    """Keeps what changed instead of writing intents: what was adopted needs none."""

    def __init__(self) -> None:
        self.changes: list[Change] = []

    async def record(self, connection: AsyncConnection, store_id: str, changes: Sequence[Change]) -> None:
        """Keep the changes."""
        del connection, store_id
        self.changes += changes


class _Page:
    """One page of findings in its transaction."""

    def __init__(
        self,
        connection: AsyncConnection,
        store_id: str,
        job_id: str,
        link: ActiveLink,
        mapper: Mapper,
        *,
        now: datetime,
        actor: str,
    ) -> None:
        self.connection = connection
        self.store_id = store_id
        self.job_id = job_id
        self.link = link
        self.mapper = mapper
        self.now = now
        self.actor = actor
        self.result = ActResult()

    async def adopt(self, findings: Sequence[Any], *, currency: str, dry_run: bool) -> None:
        """Adopt what can be adopted of the findings."""
        wanted: dict[str, ProductInput] = {}
        for finding in findings:
            try:
                wanted[finding.retailer_id] = adopted_product(finding.found or {}, currency=currency)
            except UnreadableItemError as error:
                self.result.refuse(finding.retailer_id, error.code)
        working = await load_working_set(
            self.connection, self.store_id, sorted({one.id for one in wanted.values()}), sorted(wanted)
        )
        made = await self._apply(working, wanted)
        if dry_run or not self.result.done:
            return
        sink = _Collected()
        await save_working_set(self.connection, self.store_id, working, sink)
        await self._write_states(sink.changes)
        await self._finish("adopted", {one: wanted[one].id for one in self.result.done})
        self.result.products = made

    async def _apply(self, working: WorkingSet, wanted: dict[str, ProductInput]) -> int:
        """Apply the products to the rows; how many were made."""
        ledger = set(await self._ledger(list(wanted)))
        made = 0
        for retailer_id, product in sorted(wanted.items()):
            there, variant = working.products.get(product.id), working.variants.get(retailer_id)
            is_new = there is None or there.deleted
            if retailer_id in ledger or (variant is not None and not variant.deleted):
                self.result.refuse(retailer_id, NotDoneCode.ID_TAKEN)
            elif there is not None and not is_new and there.source != META_SOURCE:
                self.result.refuse(retailer_id, NotDoneCode.PRODUCT_ID_TAKEN)
            elif not is_new:
                merged = working.merge_variant(product.id, product.variants[0], source=META_SOURCE)
                if merged is MergeOutcome.CREATED:
                    self.result.done.append(retailer_id)
                else:
                    self.result.refuse(retailer_id, NotDoneCode.GROUP_FULL)
            else:
                working.put(product)
                made += 1
                self.result.done.append(retailer_id)
        return made

    async def _write_states(self, changes: Sequence[Change]) -> None:
        """The state of what was adopted; of its siblings, if they are as adopted too; of all others, an intent."""
        done = set(self.result.done)
        ids = sorted(done | {one.variant_id for one in changes})
        others = {one.variant_id for one in changes} - done
        adopted: list[_StateRow] = []
        siblings: list[_StateRow] = []
        for item, state in await read_chosen(self.connection, self.store_id, self.link.link_id, ids):
            is_done = item.variant_id in done
            if not (is_done or (item.source == META_SOURCE and is_as_adopted(state))):
                continue
            mapped = self.mapper.evaluate(item, excluded=False, retailer_id=item.variant_id, now=self.now)
            row = _state_row(item.variant_id, mapped)
            (adopted if is_done else siblings).append(row)
            others.discard(item.variant_id)
        identity = {"link_id": self.link.link_id, "store_id": self.store_id}
        names = ("variant_ids", "hashes", "prices", "availabilities", "codes")
        columns = dict(zip(names, map(list, zip(*adopted, strict=True)), strict=True))
        given = {**identity, **columns, "epoch": self.link.epoch, "managed": sorted(MANAGED_FIELDS)}
        written = set((await self.connection.execute(ADOPT_STATES, given)).scalars())
        if written != done:
            # Somebody sent it, or is about to, since the rows were looked at.
            raise ConcurrentWriteError
        if siblings:
            again = {"variant_ids": [row[0] for row in siblings], "hashes": [row[1] for row in siblings]}
            await self.connection.execute(AS_ADOPTED, {**identity, **again})
        recorded = [one for one in changes if one.variant_id in others]
        await OutboxSink().record(self.connection, self.store_id, recorded)

    async def delete(self, findings: Sequence[Any], *, dry_run: bool) -> None:
        """Have the items deleted: each becomes a variant that is gone, and that this link answers for."""
        ledger = set(await self._ledger([one.retailer_id for one in findings]))
        wanted: dict[str, str] = {}
        for finding in findings:
            if finding.feed_id is not None:
                self.result.refuse(finding.retailer_id, NotDoneCode.FROM_A_FEED)
            elif finding.retailer_id in ledger:
                self.result.refuse(finding.retailer_id, NotDoneCode.ID_TAKEN)
            else:
                wanted[finding.retailer_id] = str((finding.found or {}).get("name") or finding.retailer_id)
        ids = sorted(wanted)
        working = await load_working_set(self.connection, self.store_id, ids, ids)
        bodies = []
        for retailer_id in ids:
            variant, product = working.variants.get(retailer_id), working.products.get(retailer_id)
            body = _gone(retailer_id, wanted[retailer_id])
            if (variant and not variant.deleted) or (product and not product.deleted):
                self.result.refuse(retailer_id, NotDoneCode.ID_TAKEN)
            elif body is None:
                self.result.refuse(retailer_id, NotDoneCode.NOT_STORABLE)
            else:
                bodies.append(body)
        self.result.done = [body.id for body in bodies]
        if dry_run or not bodies:
            return
        for body in bodies:
            working.put(body)
        await save_working_set(self.connection, self.store_id, working, _Collected())
        # A row of its own first: what comes and goes within one write never was.
        ids = self.result.done
        working = await load_working_set(self.connection, self.store_id, ids, ids)
        for retailer_id in ids:
            working.delete(retailer_id)
        await save_working_set(self.connection, self.store_id, working, OutboxSink())
        released = {"store_id": self.store_id, "variant_ids": ids, "kinds": GuardKind.DELETE.bit}
        await self.connection.execute(RELEASE_DELETES, released)
        given = {"link_id": self.link.link_id, "variant_ids": ids, "epoch": self.link.epoch}
        given |= {"managed": sorted(MANAGED_FIELDS), "grace_over": GRACE_OVER}
        states = await self.connection.execute(GIVE_UP_STATES, given)
        if set(states.scalars()) != set(ids):
            raise ConcurrentWriteError
        await self._finish("deleted", {one: one for one in ids})

    async def _ledger(self, retailer_ids: list[str]) -> list[str]:
        given = {"link_id": self.link.link_id, "retailer_ids": retailer_ids}
        return list((await self.connection.execute(LEDGER_IDS, given)).scalars())

    async def _finish(self, state: str, products: dict[str, str]) -> None:
        """Note on findings, timelines and in the audit log what was done; products by retailer id."""
        ids = sorted(products)
        given = {"job_id": self.job_id, "state": state, "actor": self.actor, "retailer_ids": ids}
        rows = {"variant_ids": ids, "product_ids": [products[one] for one in ids]}
        await self.connection.execute(FINDING_DONE, {**given, **rows})
        noted = {"store_id": self.store_id, "link_id": self.link.link_id, "kind": _EVENT[state]}
        await self.connection.execute(EVENTS, {**noted, "actor": self.actor, "variant_ids": ids})
        await record_action(
            self.connection,
            self.store_id,
            actor=self.actor,
            action=_ACTION[state],
            target_type=AuditTarget.JOB,
            target_id=self.job_id,
            after={"count": len(ids), "retailerIds": first_ids(ids)},
        )


_EVENT = {"adopted": "adopted", "deleted": "foreign_deleted"}
_ACTION = {"adopted": AuditAction.ITEMS_ADOPTED, "deleted": AuditAction.FOREIGN_DELETED}


def _state_row(variant_id: str, mapped: object) -> _StateRow:
    if not isinstance(mapped, MappedItem):
        return variant_id, ADOPTED_HASH, None, None, KeptCode.ADOPTED.value
    return variant_id, mapped.hash, mapped.data["price"], mapped.data["availability"], None


def _gone(retailer_id: str, title: str) -> ProductInput | None:
    """What stands in the catalog for an item that is to be deleted; ``None``: its id cannot."""
    try:
        return replace(
            adopted_product({"retailer_id": retailer_id, "name": title}, currency="USD"), id=retailer_id
        )
    except UnreadableItemError:
        return None


class AdoptService:
    """Decisions about what a reconciliation found at Meta and nobody here put there."""

    def __init__(self, database: Database, queue: JobQueue, clock: Clock) -> None:
        self._database = database
        self._queue = queue
        self._clock = clock

    async def adopt(
        self,
        store_id: str,
        job_id: str,
        *,
        retailer_ids: Sequence[str] | None = None,
        dry_run: bool = False,
        actor: str,
    ) -> ActResult:
        """Take foreign items that two reads agreed on into the catalog, as products of source ``meta``.

        Nothing is sent for them until their row changes; then everything is, and what Meta held before is emptied.

        Parameters
        ----------
        retailer_ids
            Which ones; ``None``: all of them, up to ``MOST_AT_ONCE`` in one call.

        Raises
        ------
        ConflictError
            No Meta catalog is selected, another one than was read, or the currency is not set.
        """

        async def work(page: _Page, findings: Sequence[Any], currency: str) -> None:
            await page.adopt(findings, currency=currency, dry_run=dry_run)

        return await self._walk(store_id, job_id, retailer_ids, work, actor=actor)

    async def delete_foreign(
        self, store_id: str, job_id: str, *, retailer_ids: Sequence[str], dry_run: bool = False, actor: str
    ) -> ActResult:
        """Have foreign items deleted at Meta, those that a person named. What a feed put there is left to its feed.

        Raises
        ------
        ConflictError
            As for ``adopt``.
        """

        async def work(page: _Page, findings: Sequence[Any], currency: str) -> None:
            del currency
            await page.delete(findings, dry_run=dry_run)

        result = await self._walk(store_id, job_id, retailer_ids, work, actor=actor)
        if result.done and not dry_run:
            await self._queue.wake(JobName.DRAIN)
        return result

    async def _walk(
        self,
        store_id: str,
        job_id: str,
        retailer_ids: Sequence[str] | None,
        work: Any,
        *,
        actor: str,
    ) -> ActResult:
        """Work the findings off, a page a transaction."""
        total = ActResult()
        named = None if retailer_ids is None else sorted(set(retailer_ids))
        after, met = "", 0
        while met < MOST_AT_ONCE:
            chosen = None if named is None else named[met : met + _PAGE]
            if chosen == []:
                break

            async def page(connection: AsyncConnection, after: str = after, chosen: Any = chosen) -> Any:
                link, mapper, currency = await self._ready(connection, store_id)
                given = {"job_id": job_id, "store_id": store_id, "verdict": Verdict.FOREIGN.value}
                if chosen is None:
                    rows = await connection.execute(FINDINGS_AFTER, {**given, "after": after, "most": _PAGE})
                else:
                    rows = await connection.execute(FINDINGS, {**given, "retailer_ids": chosen})
                findings = rows.all()
                if any(one.link_id != link.link_id for one in findings):
                    raise ConflictError("The reconciliation was of another catalog than the selected one.")
                one = _Page(connection, store_id, job_id, link, mapper, now=self._clock(), actor=actor)
                for missing in sorted(set(chosen or ()) - {found.retailer_id for found in findings}):
                    one.result.refuse(missing, NotDoneCode.NOT_AMONG_FINDINGS)
                if findings:
                    await work(one, findings, currency)
                return one.result, [found.retailer_id for found in findings]

            result, seen = await write_transaction(self._database, store_id, page)
            _add(total, result)
            met += len(seen) if chosen is None else len(chosen)
            if chosen is None and len(seen) < _PAGE:
                return total
            after = seen[-1] if seen else after
        total.remaining = named is None or len(named) > met
        return total

    async def _ready(self, connection: AsyncConnection, store_id: str) -> tuple[ActiveLink, Mapper, str]:
        settings, _ = await load_settings(connection, store_id)
        link = await active_link(connection, store_id)
        if link is None:
            raise ConflictError("No Meta catalog is selected yet.", code="meta_not_connected")
        mapping = mapping_settings(settings, link.business_name)
        if mapping is None:
            raise ConflictError("The store's currency is not set yet.")
        return link, Mapper(mapping), mapping.currency


def _add(total: ActResult, page: ActResult) -> None:
    total.done += page.done
    total.not_done += page.not_done
    total.products += page.products
    total.fields |= page.fields
