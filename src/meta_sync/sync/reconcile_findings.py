"""Reads and writes the rows of a reconciliation: what our ledger says of ids, and what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.core.text import encode_json
from meta_sync.sync.bulk import expect_bulk, expect_lookups
from meta_sync.sync.models import Presence
from meta_sync.sync.read_jobs import ReadJob
from meta_sync.sync.reconcile_compare import bounded
from meta_sync.sync.reconcile_models import Finding, FindingState, Judged, LedgerItem
from meta_sync.sync.reconcile_statements import CHUNK, INSERT_FINDINGS, LEDGER, SETTLE_FINDINGS

__all__ = [
    "NewFinding",
    "Shown",
    "by_retailer_id",
    "has_findings",
    "ledger_items",
    "settle_findings",
    "write_findings",
]

Shown = Mapping[str, Mapping[str, Any]]
"""Items as Meta shows them, by retailer id."""

NewFinding = tuple[str, str | None, str | None, Judged, Mapping[str, Any] | None]
"""Retailer id, our variant and product, the judgement, and what Meta showed."""


async def ledger_items(
    connection: AsyncConnection, store_id: str, link_id: int, retailer_ids: Sequence[str]
) -> dict[str, LedgerItem]:
    """What our rows say of the retailer ids that this link has sent, byte for byte."""
    if not retailer_ids:
        return {}
    await expect_lookups(connection)
    given = {"store_id": store_id, "link_id": link_id, "retailer_ids": sorted(retailer_ids)}
    found = {}
    for row in await connection.execute(LEDGER, given):
        retailer_id, *values = row
        values[3] = Presence(values[3])
        values[-1] = None if values[-1] is None else orjson.loads(values[-1])
        found[retailer_id] = LedgerItem(*values)
    return found


def by_retailer_id(items: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Items by the id that we know them by; one without such an id nobody can speak of."""
    found = {}
    for item in items:
        retailer_id = item.get("retailer_id")
        if isinstance(retailer_id, str) and retailer_id and "\x00" not in retailer_id:
            found[retailer_id] = item
    return found


async def has_findings(connection: AsyncConnection, job_id: str) -> bool:
    """Whether the job has any."""
    given = {"job_id": job_id, "after": "", "most": 1}
    return (await connection.execute(CHUNK, given)).first() is not None


async def write_findings(
    connection: AsyncConnection, job: ReadJob, found: Sequence[NewFinding], read_at: datetime
) -> list[Judged]:
    """Write what one read found, each with a verdict; the judgements of those that were not known yet."""
    if not found:
        return []
    found = sorted(found, key=lambda one: one[0])
    shown = [one[4] for one in found]
    given = {
        "job_id": job.job_id,
        "store_id": job.store_id,
        "link_id": job.link_id,
        "read_at": read_at,
        "retailer_ids": [one[0] for one in found],
        "variant_ids": [one[1] for one in found],
        "product_ids": [one[2] for one in found],
        "verdicts": [str(one[3].verdict) for one in found],
        "differences": [_json(one[3].differences) for one in found],
        **_as_shown(shown),
    }
    known = set((await connection.execute(INSERT_FINDINGS, given)).scalars())
    return [one[3] for one in found if one[0] in known]


async def settle_findings(
    connection: AsyncConnection,
    job: ReadJob,
    judged: Sequence[tuple[Finding, Judged | None]],
    shown: Shown,
    read_at: datetime,
) -> None:
    """Write what the second read came to: ``None`` withdraws."""
    given = {
        "job_id": job.job_id,
        "read_at": read_at,
        "retailer_ids": [finding.retailer_id for finding, _ in judged],
        "states": [_STATES[again is not None].value for _, again in judged],
        "differences": [_json(again.differences) if again else None for _, again in judged],
        **_as_shown([shown.get(finding.retailer_id) if again else None for finding, again in judged]),
    }
    await expect_bulk(connection)
    await connection.execute(SETTLE_FINDINGS, given)


_STATES = {True: FindingState.AGREED, False: FindingState.WITHDRAWN}


def _as_shown(shown: Sequence[Mapping[str, Any] | None]) -> dict[str, list[str | None]]:
    return {
        "found": [None if one is None else _json(bounded(one)) for one in shown],
        "meta_ids": [None if one is None else _text(one.get("id")) for one in shown],
        "feed_ids": [None if one is None else _feed_id(one) for one in shown],
    }


def _json(value: Any) -> str:
    encoded = encode_json(value).decode()
    # PostgreSQL keeps no NUL in a text. A text that only tells of one looks alike once it is encoded.
    return encode_json(_without_nul(value)).decode() if "\\u0000" in encoded else encoded


def _without_nul(value: Any) -> Any:
    match value:
        case str():
            return value.replace("\x00", "")
        case Mapping():
            return {_without_nul(name): _without_nul(one) for name, one in value.items()}
        case list() | tuple():
            return [_without_nul(one) for one in value]
        case _:
            return value


def _text(value: Any) -> str | None:
    return str(value).replace("\x00", "") if isinstance(value, str | int) else None


def _feed_id(shown: Mapping[str, Any]) -> str | None:
    feed = shown.get("product_feed")
    return _text(feed.get("id")) if isinstance(feed, Mapping) else None
