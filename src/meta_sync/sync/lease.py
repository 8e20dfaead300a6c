"""Who works on which store: leases in the queue table, with an expiry and a fencing number. Database time only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.sync.mapping import MAPPER_VERSION

__all__ = ["LEASE_SECONDS", "Lease", "beat", "holds", "release", "renew", "take"]

LEASE_SECONDS = 90
"""Longer than the deadline of a call (60 s) with its two transactions. A crash does not wait for it: see below."""

_DEAD_AFTER_SECONDS = 10
"""A worker that has not been seen for this long has lost its leases; five beats."""

_TAKE = text(
    f"""
    UPDATE store_queue AS q
    SET leased_until = now() + make_interval(secs => {LEASE_SECONDS}), lease_owner = :owner, fence = q.fence + 1
    WHERE q.store_id = (
        SELECT c.store_id FROM store_queue AS c
        LEFT JOIN worker_heartbeats AS h ON h.worker_id = c.lease_owner
        WHERE c.due_at <= now()
          AND (c.leased_until IS NULL OR c.leased_until < now()
               OR h.seen_at IS NULL OR h.seen_at < now() - make_interval(secs => {_DEAD_AFTER_SECONDS}))
          AND NOT EXISTS (SELECT FROM stores AS s
                          WHERE s.store_id = c.store_id AND s.mapper_version > :mapper_version)
        ORDER BY c.due_at LIMIT 1 FOR UPDATE OF c SKIP LOCKED
    )
    RETURNING q.store_id, q.fence
    """
)
_HOLDS = text(
    """
    SELECT leased_until - now() > make_interval(secs => :seconds) FROM store_queue
    WHERE store_id = :store_id AND fence = :fence AND lease_owner = :owner
    """
)
_RENEW = text(
    f"""
    UPDATE store_queue SET leased_until = now() + make_interval(secs => {LEASE_SECONDS})
    WHERE store_id = :store_id AND fence = :fence AND lease_owner = :owner
    RETURNING 1
    """
)
_RELEASE = text(
    """
    UPDATE store_queue SET leased_until = NULL, lease_owner = NULL, last_drain_at = now(),
        due_at = CASE WHEN :again THEN now() ELSE CAST(:next_look AS timestamptz) END
    WHERE store_id = :store_id AND fence = :fence AND lease_owner = :owner
    """
)
_BEAT = text(
    """
    INSERT INTO worker_heartbeats (worker_id, version, queue) VALUES (:worker_id, :version, :queue)
    ON CONFLICT (worker_id) DO UPDATE SET seen_at = now()
    """
)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to make decisions for one store. Facts need no lease."""

    store_id: str
    owner: str
    fence: int

    def parameters(self) -> dict[str, object]:
        """The lease as statement parameters."""
        return {"store_id": self.store_id, "owner": self.owner, "fence": self.fence}


async def take(connection: AsyncConnection, owner: str) -> Lease | None:
    """Take the store that has been due the longest, or ``None``. A dead worker's lease counts as free.

    A store that a newer version of the service has taken over is left to its workers, due mark and all.
    """
    said = {"owner": owner, "mapper_version": MAPPER_VERSION}
    row = (await connection.execute(_TAKE, said)).one_or_none()
    return None if row is None else Lease(row[0], owner, row[1])


async def holds(connection: AsyncConnection, lease: Lease, *, for_seconds: float) -> bool:
    """Whether the lease is still ours and lasts at least that long."""
    held = await connection.scalar(_HOLDS, {**lease.parameters(), "seconds": for_seconds})
    return bool(held)


async def renew(connection: AsyncConnection, lease: Lease) -> bool:
    """Make the lease last its full time again; ``False`` when it is no longer ours."""
    return await connection.scalar(_RENEW, lease.parameters()) is not None


async def release(
    connection: AsyncConnection, lease: Lease, *, again: bool, next_look: datetime | None
) -> None:
    """Give the store back: to the end of the line when there is more, else to be looked at again at the given time."""
    await connection.execute(_RELEASE, {**lease.parameters(), "again": again, "next_look": next_look})


async def beat(connection: AsyncConnection, worker_id: str, *, version: str, queue: str) -> None:
    """Say that the worker is alive."""
    await connection.execute(_BEAT, {"worker_id": worker_id, "version": version, "queue": queue})
