"""What a job would send, without sending or storing an intent: counts by decision, differences, calls and time.

The same reading and the same decisions as those of the drain. What is found of a page goes into the job's row, and what
would be sent into lines of a report, in the transaction that moves the cursor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from math import ceil
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.models import CatalogItem
from meta_sync.graph.governor import ALLOWANCE_PER_HOUR, BudgetState, WaitUntil, decide_call, note_call
from meta_sync.sync.budget import load_budget
from meta_sync.sync.claim import MAX_BODY_BYTES
from meta_sync.sync.context import StoreContext
from meta_sync.sync.decide import decide, known_presence
from meta_sync.sync.job_models import JobAction, LeasedJob
from meta_sync.sync.mapping import Mapper
from meta_sync.sync.mapping_fields import MANAGED_FIELDS
from meta_sync.sync.models import Decision, DecisionKind, ItemState, Link, Presence

__all__ = ["MAX_REPORT_LINES", "forecast_minutes", "note_findings", "payload_changes"]

MAX_REPORT_LINES = 10_000
"""Lines of a report; the counts are exact beyond."""

_MOST_CHARACTERS = 500
"""Of a value in a report: enough to tell two texts apart."""

_MOST_CALLS_SIMULATED = 2_000

_RESULT = text("SELECT result FROM jobs WHERE job_id = :job_id").columns(result=JSONB)
_NOTE = text("UPDATE jobs SET result = CAST(:result AS jsonb) WHERE job_id = :job_id")
_PAYLOADS = text(
    """
    SELECT u.variant_id, p.payload FROM unnest(CAST(:variant_ids AS text[])) AS u (variant_id)
    JOIN LATERAL (
        SELECT x.payload FROM item_payloads AS x
        WHERE x.link_id = :link_id AND x.variant_id >= u.variant_id AND x.variant_id <= u.variant_id
        ORDER BY x.variant_id LIMIT 1
    ) AS p ON true
    """
)
_FINDINGS = text(
    """
    INSERT INTO job_findings (job_id, store_id, variant_id, product_id, retailer_id, decision, reason, changes)
    SELECT :job_id, :store_id, u.variant_id, u.product_id, u.retailer_id, u.decision, u.reason, CAST(u.changes AS jsonb)
    FROM unnest(CAST(:variant_ids AS text[]), CAST(:product_ids AS text[]), CAST(:retailer_ids AS text[]),
        CAST(:decisions AS text[]), CAST(:reasons AS text[]), CAST(:changes AS text[]))
        AS u (variant_id, product_id, retailer_id, decision, reason, changes)
    """
)

Found = tuple[CatalogItem, str, Decision]
"""An item that would be sent, how, and with what."""


async def note_findings(
    connection: AsyncConnection,
    job: LeasedJob,
    context: StoreContext,
    page: Sequence[tuple[CatalogItem, ItemState]],
    *,
    now: datetime,
    is_last: bool,
) -> None:
    """Add what would become of a page to what the job has found before."""
    result: dict[str, Any] = await connection.scalar(_RESULT, {"job_id": job.job_id}) or {}
    decisions, reasons = Counter(result.get("decisions", {})), Counter(result.get("reasons", {}))
    found: list[Found] = []
    mapper, link = Mapper(context.mapping), context.link
    is_forced = job.action in {JobAction.FORCE, JobAction.FORCE_RESYNC}
    for item, state in page:
        kind, decision = _decide(item, state, link, mapper, now=now, is_forced=is_forced)
        decisions[kind] += 1
        if kind == "skip" and decision.reason is not None:
            reasons[decision.reason] += 1
        if decision.method is not None:
            found.append((item, kind, decision))
    sends = decisions["create"] + decisions["update"] + decisions["delete"]
    size = int(result.get("bytes", 0)) + sum(len(one.payload) for _, _, one in found)
    lines = int(result.get("reportLines", 0))
    shown = found[: max(0, MAX_REPORT_LINES - lines)]
    if shown:
        await _write(connection, job, context, shown)
    calls = max(ceil(sends / context.settings.batch_size), ceil(size / MAX_BODY_BYTES))
    result = {
        "decisions": dict(decisions),
        "reasons": dict(reasons),
        "bytes": size,
        "batchSize": context.settings.batch_size,
        "calls": calls,
        "minutes": None,
        "reportLines": lines + len(shown),
    }
    if is_last:
        budget = await load_budget(connection, job.link_id)
        result["minutes"] = forecast_minutes(budget, now, calls)
    await connection.execute(_NOTE, {"job_id": job.job_id, "result": orjson.dumps(result).decode()})


def _decide(
    item: CatalogItem, state: ItemState, link: Link, mapper: Mapper, *, now: datetime, is_forced: bool
) -> tuple[str, Decision]:
    """The decision, in the words of the report and as it is."""
    if is_forced:
        state = replace(
            state, confirmed_hash=None, rejected_hash=None, discarded_hash=None, may_hold=MANAGED_FIELDS
        )
    try:
        decision = decide(item, state, link, mapper, now=now, is_job_only=not is_forced)
    except Exception:  # noqa: BLE001 - the drain says what is wrong with it; the others are told
        return "skip", Decision(DecisionKind.FAIL, "mapping_failed")
    match decision.kind:
        case DecisionKind.UPSERT:
            is_new = state.retailer_id is None or known_presence(state, link) is Presence.ABSENT
            return ("create" if is_new else "update"), decision
        case DecisionKind.DELETE:
            return "delete", decision
        case DecisionKind.NOOP | DecisionKind.KEEP:
            return "unchanged", decision
        case _:
            return "skip", decision


async def _write(
    connection: AsyncConnection, job: LeasedJob, context: StoreContext, found: Sequence[Found]
) -> None:
    ids = [item.variant_id for item, kind, _ in found if kind == "update"]
    given = {"link_id": context.access.link.link_id, "variant_ids": ids}
    confirmed: dict[str, Any] = {}
    if ids:
        confirmed = {
            row[0]: orjson.loads(bytes(row[1])) for row in await connection.execute(_PAYLOADS, given)
        }
    changes = []
    for item, kind, decision in found:
        wanted = {} if kind == "delete" else orjson.loads(decision.payload)
        changes.append(orjson.dumps(payload_changes(confirmed.get(item.variant_id, {}), wanted)).decode())
    await connection.execute(
        _FINDINGS,
        {
            "job_id": job.job_id,
            "store_id": job.store_id,
            "variant_ids": [item.variant_id for item, _, _ in found],
            "product_ids": [item.product_id for item, _, _ in found],
            "retailer_ids": [one.retailer_id for _, _, one in found],
            "decisions": [kind for _, kind, _ in found],
            "reasons": [one.reason for _, _, one in found],
            "changes": changes,
        },
    )


def payload_changes(confirmed: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, list[str | None]]:
    """By field, what Meta confirmed last and what would be sent, where they differ; the id is none. Long texts are cut."""
    return {
        name: [_shown(confirmed.get(name)), _shown(value)]
        for name, value in sorted(wanted.items())
        if name != "id" and confirmed.get(name) != value
    }


def _shown(value: Any) -> str | None:
    if value is None:
        return None
    told = value if isinstance(value, str) else orjson.dumps(value).decode()
    return told if len(told) <= _MOST_CHARACTERS else told[:_MOST_CHARACTERS] + "…"


def forecast_minutes(budget: BudgetState, now: datetime, calls: int) -> float:
    """How long so many calls take by the budget as it stands, in minutes up to the last one, if nothing else is sent."""
    at = now
    simulated = min(calls, _MOST_CALLS_SIMULATED)
    for _ in range(simulated):
        while isinstance(waits := decide_call(budget, at, "call"), WaitUntil):
            at = max(waits.at, at + timedelta(milliseconds=1))
        budget = note_call(budget, at)
    minutes = (at - now).total_seconds() / 60 + (calls - simulated) * 60 / ALLOWANCE_PER_HOUR
    return round(minutes, 1)
