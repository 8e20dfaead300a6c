"""Why a store stands still, one row per reason. A pause is a fact: it is stored whoever holds the lease.

Which failure pauses a store, and for how long, is decided in ``reactions``.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.sync.reactions import Pause, PauseReason

__all__ = [
    "Pause",
    "PauseReason",
    "active_pauses",
    "clear_pause",
    "end_access_pauses",
    "failures_in_a_row",
    "questions_paused_until",
    "record_pause",
]

_RECORD = text(
    """
    INSERT INTO store_pauses AS p (store_id, reason, link_id, until, code, message)
    VALUES (:store_id, :reason, :link_id, CAST(:until AS timestamptz), :code, :message)
    ON CONFLICT (store_id, reason, link_id) DO UPDATE
    SET until = CASE WHEN p.until IS NULL OR excluded.until IS NULL THEN NULL
                     ELSE GREATEST(p.until, excluded.until) END,
        code = excluded.code, message = excluded.message, failures = p.failures + 1
    RETURNING p.failures
    """
)
_ACTIVE = text(
    """
    SELECT reason, until, code, message FROM store_pauses
    WHERE store_id = :store_id AND link_id IN (0, :link_id) AND (until IS NULL OR until > now())
    ORDER BY until DESC NULLS FIRST
    """
)
_CLEAR = text(
    "DELETE FROM store_pauses WHERE store_id = :store_id AND reason = :reason AND link_id = :link_id RETURNING 1"
)
# A pause without an end waits for somebody who acts; one for a version that Meta no longer serves, for another version.
_END_ACCESS = text(
    "DELETE FROM store_pauses WHERE store_id = :store_id AND (reason = 'needs_reconnect' OR code LIKE '2635%')"
)
# One without an end ends when somebody acts, which is looked for once a minute.
_QUESTIONS_UNTIL = text(
    """
    SELECT max(COALESCE(until, now() + interval '1 minute')) FROM store_pauses
    WHERE store_id = :store_id AND link_id = :link_id AND (until IS NULL OR until > now())
    """
)
_FAILURES = text(
    "SELECT failures FROM store_pauses WHERE store_id = :store_id AND reason = :reason AND link_id = :link_id"
)


async def failures_in_a_row(
    connection: AsyncConnection, store_id: str, link_id: int, reason: PauseReason
) -> int:
    """How often the store was paused for this reason without its being cleared in between."""
    found = await connection.scalar(_FAILURES, {"store_id": store_id, "reason": reason, "link_id": link_id})
    return int(found or 0)


async def record_pause(connection: AsyncConnection, store_id: str, link_id: int, pause: Pause) -> None:
    """Store a pause; the later end of two with the same reason rules."""
    await connection.execute(
        _RECORD,
        {
            "store_id": store_id,
            "reason": pause.reason,
            "link_id": link_id,
            "until": pause.until,
            "code": pause.code,
            "message": pause.message,
        },
    )


async def active_pauses(connection: AsyncConnection, store_id: str, link_id: int) -> list[Pause]:
    """Pauses that hold now, those without an end first."""
    rows = await connection.execute(_ACTIVE, {"store_id": store_id, "link_id": link_id})
    return [Pause(PauseReason(reason), until, code, message) for reason, until, code, message in rows]


async def clear_pause(connection: AsyncConnection, store_id: str, link_id: int, reason: PauseReason) -> bool:
    """End a pause, because its cause is gone; whether there was one.

    ``link_id`` is the pause's own: an answered question about a link says nothing of the calls that are refused.
    """
    identity = {"store_id": store_id, "reason": reason, "link_id": link_id}
    return await connection.scalar(_CLEAR, identity) is not None


async def end_access_pauses(connection: AsyncConnection, store_id: str) -> None:
    """End the pauses that another app secret or API version may have ended the cause of; the next call tells.

    A token that Meta refuses stays refused: it is marked apart from any pause.
    """
    await connection.execute(_END_ACCESS, {"store_id": store_id})


async def questions_paused_until(connection: AsyncConnection, store_id: str, link_id: int) -> datetime | None:
    """When questions about a link may be asked again; ``None``: now."""
    until: datetime | None = await connection.scalar(
        _QUESTIONS_UNTIL, {"store_id": store_id, "link_id": link_id}
    )
    return until
