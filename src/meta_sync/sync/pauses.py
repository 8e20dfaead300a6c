"""Why a store stands still, one row per reason. A pause is a fact: it is stored whoever holds the lease.

An outage, throttling or a dead token pauses the store; it never uses up an item's attempts and never fails an item.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.graph.errors import (
    AssetLostError,
    BlockedError,
    CredentialsError,
    GraphError,
    InvalidRequestError,
    PermissionMissingError,
    ThrottledError,
    VersionRetiredError,
)

__all__ = [
    "Pause",
    "PauseReason",
    "active_pauses",
    "clear_pause",
    "end_access_pauses",
    "failures_in_a_row",
    "pause_for",
    "questions_paused_until",
    "record_pause",
    "retry_delay",
]


class PauseReason(StrEnum):
    """Reasons that are stored; throttling stands with the link, the rest follows from settings."""

    NEEDS_RECONNECT = "needs_reconnect"
    META_UNREACHABLE = "meta_unreachable"
    BLOCKED_BY_META = "blocked_by_meta"


@dataclass(frozen=True, slots=True)
class Pause:
    """One reason, with when it ends by itself (``None``: when somebody acts)."""

    reason: PauseReason
    until: datetime | None
    code: str | None = None
    message: str | None = None


_FIRST_RETRY_SECONDS = 5
_LONGEST_RETRY_SECONDS = 300
"""Five minutes: long enough not to hammer a Meta that is down, short enough to notice when it is back."""
_BLOCKED_RETRY = timedelta(hours=1)
"""A policy block or a refusal of every call is no matter of seconds; each further try may prolong the block."""
_REFUSED_RETRY = timedelta(minutes=15)

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
_QUESTIONS_UNTIL = text(
    "SELECT max(until) FROM store_pauses WHERE store_id = :store_id AND link_id = :link_id AND until > now()"
)
_FAILURES = text(
    "SELECT failures FROM store_pauses WHERE store_id = :store_id AND reason = :reason AND link_id = :link_id"
)


def retry_delay(failures: int, jitter: float, factor: float = 1.0) -> timedelta:
    """How long to wait after so many failures in a row; ``jitter`` between 0 and 1 spreads stores apart."""
    longest = min(_LONGEST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2 ** min(failures, 10))
    return timedelta(seconds=factor * longest * (0.5 + jitter / 2))


def pause_for(
    error: GraphError, now: datetime, *, failures: int, jitter: float, factor: float = 1.0
) -> Pause | None:
    """The pause that a failed call calls for; ``None`` for throttling, which the link's budget remembers."""
    code = None if error.code is None else str(error.code) + (f"/{error.subcode}" if error.subcode else "")
    text_ = f"{error.message} {error.reaction}".strip()
    if isinstance(error, ThrottledError):
        return None
    if isinstance(error, CredentialsError | AssetLostError | PermissionMissingError):
        return Pause(PauseReason.NEEDS_RECONNECT, None, code, text_)
    if isinstance(error, BlockedError | VersionRetiredError):
        return Pause(PauseReason.BLOCKED_BY_META, now + _BLOCKED_RETRY, code, text_)
    if isinstance(error, InvalidRequestError):
        return Pause(PauseReason.BLOCKED_BY_META, now + _REFUSED_RETRY, code, text_)
    return Pause(PauseReason.META_UNREACHABLE, now + retry_delay(failures, jitter, factor), code, text_)


async def failures_in_a_row(connection: AsyncConnection, store_id: str, link_id: int) -> int:
    """How often Meta could not be reached since it last could."""
    found = await connection.scalar(
        _FAILURES, {"store_id": store_id, "reason": PauseReason.META_UNREACHABLE, "link_id": link_id}
    )
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
