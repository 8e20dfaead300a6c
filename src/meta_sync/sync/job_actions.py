"""What a job does to a page of items, in the transaction that moves its cursor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.sync.job_models import JobAction, LeasedJob
from meta_sync.sync.job_statements import ENQUEUE, INTENDED, NEW_PAGE, STATES
from meta_sync.sync.mapping_fields import MANAGED_FIELDS
from meta_sync.sync.outbox import mark_due, write_intents
from meta_sync.sync.states import Event, status_case

__all__ = ["ask_for"]

# A settle takes the rows of its items before their intents: items in flight are locked in that order here too. Any other
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
_RETRY = text(
    """
    UPDATE sync_state SET rejected_hash = NULL, updated_at = now()
    WHERE link_id = :link_id AND variant_id = ANY(CAST(:variant_ids AS text[])) AND rejected_hash IS NOT NULL
    """
)
_RESYNC = text(
    """
    UPDATE sync_state SET rejected_hash = NULL, excluded_at = NULL, updated_at = now()
    WHERE link_id = :link_id AND variant_id = ANY(CAST(:variant_ids AS text[]))
    """
)
# As for a single item: what Meta holds is no longer taken as known, and a batch under way does not confirm it. What a
# person excluded stays so unless it was named, and then needs no sending.
_FORCE = text(
    f"""
    UPDATE sync_state SET
        confirmed_hash = NULL, rejected_hash = NULL, discarded_hash = NULL, batch_limit = NULL, retry_at = NULL,
        presence = 'maybe', may_hold = CAST(:managed AS text[]), disturbed_at = clock_timestamp(),
        excluded_at = NULL, status = {status_case(Event.DISTURBED)}, updated_at = now()
    WHERE link_id = :link_id AND variant_id = ANY(CAST(:variant_ids AS text[]))
      AND (excluded_at IS NULL OR CAST(:ends_exclusions AS boolean))
    RETURNING variant_id
    """
)
_EXCLUDE = text(
    f"""
    UPDATE sync_state SET
        excluded_at = COALESCE(excluded_at, clock_timestamp()), disturbed_at = clock_timestamp(),
        confirmed_hash = NULL, rejected_hash = NULL, discarded_hash = NULL, retry_at = NULL,
        presence = CASE presence WHEN 'present' THEN 'maybe' ELSE presence END,
        status = {status_case(Event.EXCLUDED)}, updated_at = now()
    WHERE link_id = :link_id AND variant_id = ANY(CAST(:variant_ids AS text[]))
    """
)
_EVENTS = text(
    """
    INSERT INTO item_events (store_id, link_id, variant_id, kind, code, actor)
    SELECT :store_id, :link_id, u.variant_id, :kind, :code, j.requested_by
    FROM unnest(CAST(:variant_ids AS text[])) AS u (variant_id), jobs AS j WHERE j.job_id = :job_id
    """
)


async def ask_for(connection: AsyncConnection, job: LeasedJob, variant_ids: Sequence[str]) -> None:
    """Have the items decided anew, change their state as the job's action says, and follow them from here on.

    ``variant_ids`` stand in the order of their bytes and are at least one.
    """
    given: dict[str, Any] = {
        "store_id": job.store_id,
        "link_id": job.link_id,
        "job_id": job.job_id,
        "variant_ids": list(variant_ids),
        "lane": job.lane,
    }
    if job.action is not JobAction.LOOK:
        await connection.execute(_LOCK_IN_FLIGHT, given)
    if job.action.is_own_reason:
        await write_intents(connection, job.store_id, variant_ids, [job.lane] * len(variant_ids))
    else:
        await connection.execute(ENQUEUE, given)
    await connection.execute(STATES, given)
    await connection.execute(INTENDED, given)
    await _change(connection, job, given)
    await connection.execute(NEW_PAGE, {**given, "first_id": variant_ids[0]})
    await mark_due(connection, job.store_id)


async def _change(connection: AsyncConnection, job: LeasedJob, given: dict[str, Any]) -> None:
    match job.action:
        case JobAction.LOOK | JobAction.IMPORT:
            return
        case JobAction.RETRY:
            await connection.execute(_RETRY, given)
        case JobAction.RESYNC:
            await connection.execute(_RESYNC, given)
        case JobAction.FORCE | JobAction.FORCE_RESYNC:
            ends = job.action is JobAction.FORCE_RESYNC
            more = {"managed": sorted(MANAGED_FIELDS), "ends_exclusions": ends}
            forced = await connection.execute(_FORCE, {**given, **more})
            given = {**given, "variant_ids": sorted(forced.scalars())}
        case JobAction.EXCLUDE:
            await connection.execute(_EXCLUDE, given)
    kind, code = ("excluded", "excluded_by_operator") if job.action is JobAction.EXCLUDE else ("resync", None)
    await connection.execute(_EVENTS, {**given, "kind": kind, "code": code})
