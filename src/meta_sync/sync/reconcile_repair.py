"""Repairs what a reconciliation found: each item is decided anew, with nothing that Meta confirmed taken as known.

It writes no payload and no DELETE, and never says that an item is absent: what is sent, the drain decides from the rows
as they are then. So whatever changes meanwhile, nothing that lives is deleted (design, rule 22).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.models import Lane
from meta_sync.connection.models import ActiveLink
from meta_sync.connection.repository import active_link
from meta_sync.core.db import Database, retry_transaction
from meta_sync.core.errors import ConflictError
from meta_sync.core.lookups import go_by_indexes
from meta_sync.core.queue import JobName, JobQueue
from meta_sync.stores.audit import AuditAction, AuditTarget, first_ids, record_action
from meta_sync.stores.repository import load_settings
from meta_sync.sync.bulk import expect_bulk
from meta_sync.sync.context import mapping_settings
from meta_sync.sync.decide import decide, is_as_adopted, known_may_hold
from meta_sync.sync.drain import database_time
from meta_sync.sync.mapping import Mapper
from meta_sync.sync.models import Decision, DecisionKind, Link, Presence
from meta_sync.sync.outbox import mark_due, write_intents
from meta_sync.sync.reading import read_chosen
from meta_sync.sync.reconcile_compare import held_fields
from meta_sync.sync.reconcile_models import REPAIRABLE, Finding, Verdict
from meta_sync.sync.reconcile_service import reconciliation_job
from meta_sync.sync.reconcile_statements import FINDING_COLUMNS
from meta_sync.sync.states import Event, status_case

__all__ = ["MAX_REPAIRED", "RepairOrder", "RepairPlan", "RepairService", "RepairStep"]

MAX_REPAIRED = 1_000
"""Items per call: some seconds. Whoever has more to repair asks again."""

_AT_ONCE = 200
"""Items per transaction, locked in the order of their ids."""

_WANTED = """
    f.job_id = :job_id AND f.store_id = :store_id AND f.state = 'agreed'
      AND f.verdict = ANY(CAST(:verdicts AS text[])) AND f.variant_id IS NOT NULL
      AND (CAST(:retailer_ids AS text[]) IS NULL OR f.retailer_id = ANY(CAST(:retailer_ids AS text[])))
      AND (CAST(:variant_ids AS text[]) IS NULL OR f.variant_id = ANY(CAST(:variant_ids AS text[])))
"""
_FIND = text(
    f"SELECT {FINDING_COLUMNS} FROM reconcile_findings AS f WHERE {_WANTED} ORDER BY f.retailer_id LIMIT :most"
).columns(differences=JSONB, found=JSONB)
_COUNT = text(f"SELECT count(*) FROM reconcile_findings AS f WHERE {_WANTED}")
# As in operations: an item in flight is locked before its intent, because a settle takes them in that order; any other
# one is taken by a claim, intent first.
_LOCK_IN_FLIGHT = text(
    """
    SELECT count(*) FROM (
        SELECT 1 FROM sync_state
        WHERE link_id = :link_id AND variant_id = ANY(CAST(:variant_ids AS text[])) AND in_flight IS NOT NULL
        ORDER BY variant_id FOR UPDATE
    ) AS locked
    """
)
# What a person discarded stays discarded. An adopted item is left alone by the same column, as long as it is at Meta.
_DISTURB = text(
    f"""
    UPDATE sync_state AS s SET
        discarded_hash = CASE WHEN s.discarded_hash = s.confirmed_hash THEN NULL ELSE s.discarded_hash END,
        confirmed_hash = NULL, rejected_hash = NULL, batch_limit = NULL, retry_at = NULL, presence = 'maybe',
        may_hold = ARRAY(SELECT DISTINCT h.name FROM unnest(s.may_hold || string_to_array(u.held, ',')) AS h (name) ORDER BY 1),
        disturbed_at = clock_timestamp(), status = {status_case(Event.DISTURBED, "s.status")}, updated_at = now()
    FROM unnest(CAST(:variant_ids AS text[]), CAST(:retailer_ids AS text[]), CAST(:held AS text[]))
        AS u (variant_id, retailer_id, held)
    WHERE s.link_id = :link_id AND s.variant_id = ANY(CAST(:variant_ids AS text[])) AND s.variant_id = u.variant_id
      AND s.retailer_id = u.retailer_id
    RETURNING s.variant_id
    """
)
_ACTED = text(
    """
    UPDATE reconcile_findings SET state = 'repaired', acted_at = now(), acted_by = :actor
    WHERE job_id = :job_id AND state = 'agreed' AND retailer_id = ANY(CAST(:retailer_ids AS text[]))
    """
)
_EVENTS = text(
    """
    INSERT INTO item_events (store_id, link_id, variant_id, kind, actor)
    SELECT :store_id, :link_id, u.variant_id, 'drift', :actor
    FROM unnest(CAST(:variant_ids AS text[])) AS u (variant_id)
    """
)


@dataclass(frozen=True, slots=True)
class RepairOrder:
    """Which findings to repair: all that agree and are ours, unless something narrows them."""

    verdicts: frozenset[Verdict] = REPAIRABLE
    variant_ids: tuple[str, ...] | None = None
    retailer_ids: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class RepairStep:
    """One item of a repair.

    ``decision`` and ``reason`` are what would be decided as the rows stand (``upsert``, ``delete``, ``keep``, ...);
    ``None`` where it was really repaired, for then the drain decides.
    """

    retailer_id: str
    variant_id: str
    verdict: Verdict
    decision: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class RepairPlan:
    """What was repaired, or would be; ``remaining``: findings of the order that one call left."""

    steps: list[RepairStep]
    remaining: int


class RepairService:
    """Acts on findings that two reads agree on."""

    def __init__(self, database: Database, queue: JobQueue) -> None:
        self._database = database
        self._queue = queue

    async def repair(self, store_id: str, job_id: str, order: RepairOrder, *, actor: str) -> RepairPlan:
        """Have the items decided anew and sent as their rows are then; at most ``MAX_REPAIRED`` by one call.

        Repeating it does nothing twice: what was repaired is no longer agreed.

        Raises
        ------
        NotFoundError
            The store has no such reconciliation.
        ConflictError
            The store uses another catalog by now.
        """
        findings, total = await self._wanted(store_id, job_id, order)
        steps: list[RepairStep] = []
        for start in range(0, len(findings), _AT_ONCE):
            part = sorted(findings[start : start + _AT_ONCE], key=lambda one: one.variant_id or "")
            steps += await self._repair_part(store_id, job_id, part, actor)
        if steps:
            await self._queue.wake(JobName.DRAIN)
        return RepairPlan(steps, total - len(findings))

    async def plan(self, store_id: str, job_id: str, order: RepairOrder) -> RepairPlan:
        """What a repair would come to, item by item, without changing anything.

        Raises
        ------
        NotFoundError
            The store has no such reconciliation.
        ConflictError
            The store uses another catalog by now, or its settings are not complete.
        """
        findings, total = await self._wanted(store_id, job_id, order)
        async with self._database.store(store_id) as connection:
            link = await _link(connection, store_id, job_id)
            settings, _ = await load_settings(connection, store_id)
            mapping = mapping_settings(settings, link.business_name)
            if mapping is None:
                raise ConflictError("The store has no currency yet, without which no item can be decided.")
            seen_as = Link(link.link_id, link.epoch, link.was_empty, settings.delete_grace_days)
            mapper, now = Mapper(mapping), await database_time(connection)
            ids = sorted({one.variant_id for one in findings if one.variant_id is not None})
            rows = await read_chosen(connection, store_id, link.link_id, ids) if ids else []
        by_variant = {one.variant_id: one for one in findings}
        steps = []
        for item, state in rows:
            finding = by_variant[item.variant_id]
            disturbed = replace(
                state,
                confirmed_hash=None,
                rejected_hash=None,
                discarded_hash=None if is_as_adopted(state) else state.discarded_hash,
                presence=Presence.MAYBE,
                may_hold=known_may_hold(state, seen_as) | held_fields(finding.found or {}),
            )
            decision = decide(item, disturbed, seen_as, mapper, now=now)
            steps.append(_step(finding, decision))
        return RepairPlan(steps, total - len(findings))

    async def _wanted(self, store_id: str, job_id: str, order: RepairOrder) -> tuple[list[Finding], int]:
        """The findings that one call is about, and how many there are in all."""
        given: dict[str, Any] = {
            "store_id": store_id,
            "job_id": job_id,
            "verdicts": sorted(order.verdicts & REPAIRABLE),
            "retailer_ids": None if order.retailer_ids is None else list(order.retailer_ids),
            "variant_ids": None if order.variant_ids is None else list(order.variant_ids),
        }
        async with self._database.store(store_id) as connection:
            await _link(connection, store_id, job_id)
            await go_by_indexes(connection)
            rows = (await connection.execute(_FIND, {**given, "most": MAX_REPAIRED})).all()
            total = len(rows)
            if total == MAX_REPAIRED:
                total = int((await connection.execute(_COUNT, given)).scalar_one())
        return [Finding.of(row) for row in rows], total

    async def _repair_part(
        self, store_id: str, job_id: str, part: Sequence[Finding], actor: str
    ) -> list[RepairStep]:
        variant_ids = [str(one.variant_id) for one in part]

        async def work() -> set[str]:
            async with self._database.store(store_id) as connection:
                link = await _link(connection, store_id, job_id)
                given: dict[str, Any] = {
                    "store_id": store_id,
                    "link_id": link.link_id,
                    "job_id": job_id,
                    "actor": actor,
                    "variant_ids": variant_ids,
                    "retailer_ids": [one.retailer_id for one in part],
                    "held": [",".join(sorted(held_fields(one.found or {}))) for one in part],
                }
                await expect_bulk(connection)
                await connection.execute(_LOCK_IN_FLIGHT, given)
                await write_intents(connection, store_id, variant_ids, [Lane.LIVE] * len(part))
                disturbed = set((await connection.execute(_DISTURB, given)).scalars())
                done = [one for one in part if one.variant_id in disturbed]
                acted = {"retailer_ids": [one.retailer_id for one in done], "variant_ids": sorted(disturbed)}
                await connection.execute(_ACTED, {**given, **acted})
                await connection.execute(_EVENTS, {**given, **acted})
                if done:
                    await record_action(
                        connection,
                        store_id,
                        actor=actor,
                        action=AuditAction.ITEMS_REPAIRED,
                        target_type=AuditTarget.JOB,
                        target_id=job_id,
                        after={"items": len(done), "variantIds": first_ids(acted["variant_ids"])},
                    )
                await mark_due(connection, store_id)
                return disturbed

        disturbed = await retry_transaction(work)
        return [_step(one, None) for one in part if one.variant_id in disturbed]


def _step(finding: Finding, decision: Decision | None) -> RepairStep:
    assert finding.variant_id is not None
    kind: DecisionKind | None = None if decision is None else decision.kind
    return RepairStep(
        finding.retailer_id,
        finding.variant_id,
        finding.verdict,
        None if kind is None else kind.value,
        None if decision is None else decision.reason,
    )


async def _link(connection: AsyncConnection, store_id: str, job_id: str) -> ActiveLink:
    """The catalog in use, which must be the one that the reconciliation read."""
    job = await reconciliation_job(connection, store_id, job_id)
    link = await active_link(connection, store_id)
    link_id = await connection.scalar(_LINK_OF_JOB, {"job_id": job.job_id})
    if link is None or link.link_id != link_id:
        raise ConflictError("The store uses another Meta catalog by now. Start a reconciliation of that one.")
    return link


_LINK_OF_JOB = text("SELECT link_id FROM jobs WHERE job_id = :job_id")
