"""Looks at items whose sale window is over, so that the sale price is emptied at Meta too.

Meta ends a sale by itself, because the window's end was sent with the price: what is done here tidies up, and is in no
hurry. At the start of a window there is nothing to do at all, because a future window is sent at once. Where Meta does
not know the window (the item was pending, in flight with something older, or refused), the intent written here is one
more look at the row: the turn decides afresh, by the clock of that moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.core.db import Database, retry_transaction
from meta_sync.core.failpoints import failpoint
from meta_sync.sync.job_statements import THE_CLOCK
from meta_sync.sync.outbox import mark_due

__all__ = ["SaleWindows"]

_PAGE = 2_000
"""Variants per store and transaction: some tens of milliseconds, so that writers never wait for it."""

_STORES_AT_ONCE = 100

# A store without a window that ended since is not written to, however long that is ago: the probe is one look into the
# index.
_STORES = text(
    f"""
    SELECT q.store_id, q.sales_swept_to, q.sales_swept_id, now() - make_interval(secs => :delay_seconds) AS up_to
    FROM store_queue AS q
    WHERE q.sales_swept_to IS NULL OR EXISTS (
        SELECT FROM variants AS v
        WHERE v.store_id = q.store_id AND v.special_price_end < now() - make_interval(secs => :delay_seconds)
          AND (v.special_price_end, v.variant_id) > (q.sales_swept_to, q.sales_swept_id)
    )
    ORDER BY q.sales_swept_to NULLS FIRST, q.store_id LIMIT {_STORES_AT_ONCE}
    """
)
# All sales of a store may end at the same midnight, so the place in the walk is the instant and the id.
_ENDED = text(
    """
    SELECT v.special_price_end, v.variant_id, v.deleted_at IS NULL AS is_live FROM variants AS v
    WHERE v.store_id = :store_id AND v.special_price_end < :up_to
      AND (v.special_price_end, v.variant_id)
          > (COALESCE(CAST(:swept_to AS timestamptz), '-infinity'), CAST(:swept_id AS text))
    ORDER BY v.special_price_end, v.variant_id LIMIT :most
    """
)
# An intent that waits already gets a new number all the same: a turn that read it while the window was still open must
# not take it. Where a job alone asked, the job takes it back no more: the end of a window is looked at once. As with a job,
# what Meta refused stays refused unless the payload changed.
_INTEND = text(
    f"""
    INSERT INTO intents AS i (store_id, variant_id, version, lane, first_at, job_id)
    SELECT :store_id, u.variant_id, nextval('version_seq'), 2, now(), '{THE_CLOCK}'
    FROM unnest(CAST(:variant_ids AS text[])) AS u (variant_id) ORDER BY u.variant_id COLLATE "C"
    ON CONFLICT (store_id, variant_id) DO UPDATE
    SET version = nextval('version_seq'), job_id = CASE WHEN i.job_id IS NOT NULL THEN excluded.job_id END, held_by = NULL
    """
)
_ADVANCE = text(
    """
    UPDATE store_queue SET sales_swept_to = CAST(:to_at AS timestamptz), sales_swept_id = :to_id
    WHERE store_id = :store_id AND sales_swept_id = :swept_id
      AND sales_swept_to IS NOT DISTINCT FROM CAST(:swept_to AS timestamptz)
    RETURNING 1
    """
)


class _TakenOverError(Exception):
    """Another worker has moved the store's watermark since it was read: what was written here is not needed."""


@dataclass(frozen=True, slots=True)
class _Store:
    store_id: str
    swept_to: datetime | None
    """Windows that ended before this instant have been looked at, and at this instant those up to the id."""
    swept_id: str
    up_to: datetime


class SaleWindows:
    """Walks the ended windows of each store once, behind a stored watermark. Safe to run by any number of workers.

    Parameters
    ----------
    delay_seconds
        How long after its end a window is looked at.
    """

    def __init__(self, database: Database, *, delay_seconds: float) -> None:
        self._database = database
        self._delay_seconds = delay_seconds

    async def sweep(self) -> bool:
        """Do one page of each store that has windows to look at; whether there is more to do at once."""
        async with self._database.platform() as connection:
            rows = (await connection.execute(_STORES, {"delay_seconds": self._delay_seconds})).all()
        more = len(rows) == _STORES_AT_ONCE
        for row in rows:
            more |= await self._page(_Store(*row))
        return more

    async def _page(self, store: _Store) -> bool:
        async def work() -> bool:
            async with self._database.platform() as connection:
                return await _write_page(connection, store)

        try:
            more = await retry_transaction(work)
        except _TakenOverError:
            return False
        await failpoint("sale_windows.after_page")
        return more


async def _write_page(connection: AsyncConnection, store: _Store) -> bool:
    """Write a page's intents and move the watermark over it; whether there may be another page.

    The first walk of a store begins at the first window there ever was. Most of these items cost one look and no call;
    but before there was a watermark, a sale may have ended and stayed at Meta.
    """
    place: dict[str, Any] = {
        "store_id": store.store_id,
        "swept_to": store.swept_to,
        "swept_id": store.swept_id,
    }
    ended = (await connection.execute(_ENDED, {**place, "up_to": store.up_to, "most": _PAGE})).all()
    wanted = sorted(row.variant_id for row in ended if row.is_live)
    if wanted:
        await connection.execute(_INTEND, {"store_id": store.store_id, "variant_ids": wanted})
        await mark_due(connection, store.store_id)
    more = len(ended) == _PAGE
    # Behind the last page comes the instant itself, before every id: what ends at it is of the next walk.
    to_at, to_id = (ended[-1].special_price_end, ended[-1].variant_id) if more else (store.up_to, "")
    if await connection.scalar(_ADVANCE, {**place, "to_at": to_at, "to_id": to_id}) is None:
        raise _TakenOverError
    return more
