"""Writes the end of a batch: per item, under a batch row that is moved to ``over`` first. Talks to nobody.

Every update of an item is bound to ``in_flight = batch``, so that a batch settles only what it has, and only once. In
flight is cleared first and unparking comes last: an intent that was parked meanwhile is seen by one or the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.sync.bulk import expect_bulk
from meta_sync.sync.codes_pipeline import FailureCode
from meta_sync.sync.mapping_fields import FIELDS
from meta_sync.sync.models import BatchItem
from meta_sync.sync.outbox import mark_due
from meta_sync.sync.outcome import Outcomes
from meta_sync.sync.settle_statements import (
    CALLS_OVER,
    CONFIRM,
    CONFIRM_DELETE,
    DISTURB,
    DROP_BODY,
    EVERY_OUTCOME_UNKNOWN,
    FREE_REFUSED,
    GIVE_UP,
    INTEND_AGAIN,
    IS_CERTAIN,
    MAKE_GIVEN_UP,
    MAKE_UNKNOWN,
    MAKE_WAIT,
    MARK_UNKNOWN,
    NOTE_REFUSED,
    OVER,
    RECORD_REFUSALS,
    REFUSE,
    RELEASE,
    REOPEN,
    TRY_AGAIN,
    UNPARK,
    UNPARK_OF,
)

__all__ = [
    "disturb_late",
    "follow_late_handle",
    "give_up",
    "note_refused",
    "refusal_code",
    "release_refused",
    "release_unknown",
    "settle_finished",
    "settle_refused_at_once",
    "try_blamed_again",
]


def refusal_code(item: BatchItem, message: str, cleared: Mapping[str, Sequence[str]]) -> str:
    """The code of Meta's refusal of one item, from its words: ``cannot_clear`` where they name a field that was sent empty."""
    lowered = message.lower()
    for name in cleared.get(item.variant_id, ()):
        if name in FIELDS and (f"the {name} information" in lowered or f"'{name}'" in lowered):
            return FailureCode.CANNOT_CLEAR
    return FailureCode.REJECTED_BY_META if message else FailureCode.REFUSED_WITHOUT_REASON


async def _begin(
    connection: AsyncConnection,
    batch_id: int,
    counts: tuple[int, int, int],
    error: tuple[str | None, str | None],
    *,
    was_refused: bool = False,
) -> dict[str, Any] | None:
    accepted, rejected, unknown = counts
    await expect_bulk(connection)
    row = (
        await connection.execute(
            OVER,
            {
                "batch_id": batch_id,
                "accepted": accepted,
                "rejected": rejected,
                "unknown": unknown,
                "was_refused": was_refused,
                "error_code": error[0],
                "error_text": error[1],
            },
        )
    ).one_or_none()
    return None if row is None else _identity(row, batch_id)


def _identity(row: Any, batch_id: int) -> dict[str, Any]:
    return {
        "batch_id": batch_id,
        "store_id": row[0],
        "link_id": row[1],
        "created_on": row[2],
        "link_epoch": row[3],
        "lane": row[4],
        "first_at": row[5],
        "only_ids": None,
        "batch_limit": None,
        "only_without_outcome": False,
    }


async def _finish(connection: AsyncConnection, batch: dict[str, Any]) -> None:
    await connection.execute(DROP_BODY, batch)
    await connection.execute(UNPARK, batch)
    await mark_due(connection, batch["store_id"])


async def settle_finished(
    connection: AsyncConnection,
    batch_id: int,
    outcomes: Outcomes,
    *,
    already_rejected: int,
    codes: Mapping[str, str],
    batch_limit: int | None,
) -> bool:
    """Settle a batch that Meta finished: confirm, refuse, and send the unknown again in smaller batches.

    Returns ``False`` when somebody else has settled it.
    """
    rejected_ids = [item.variant_id for item in outcomes.rejected]
    unknown_ids = [item.variant_id for item in outcomes.unknown]
    counts = (len(outcomes.accepted), len(rejected_ids) + already_rejected, len(unknown_ids))
    batch = await _begin(connection, batch_id, counts, (None, None))
    if batch is None:
        return False
    is_certain = await connection.scalar(IS_CERTAIN, batch)
    batch |= {"is_certain": is_certain, "except_ids": rejected_ids + unknown_ids}
    if outcomes.accepted:
        await connection.execute(CONFIRM, batch)
        await connection.execute(CONFIRM_DELETE, batch)
    if rejected_ids:
        await _refuse(connection, batch, {one: outcomes.messages[one] for one in rejected_ids}, codes)
    if already_rejected:
        await connection.execute(FREE_REFUSED, batch)
    if unknown_ids:
        some = {**batch, "only_ids": unknown_ids, "batch_limit": batch_limit}
        await connection.execute(MAKE_UNKNOWN, some)
        await connection.execute(MARK_UNKNOWN, some)
        await connection.execute(INTEND_AGAIN, some)
    await connection.execute(CALLS_OVER, {**batch, "state": "over"})
    await _finish(connection, batch)
    return True


async def settle_refused_at_once(
    connection: AsyncConnection,
    batch: Mapping[str, Any],
    messages: Mapping[str, str],
    codes: Mapping[str, str],
) -> None:
    """Refuse the items that Meta refused in its answer to the call; the batch itself goes on."""
    await expect_bulk(connection)
    parameters = dict(batch)
    parameters["is_certain"] = await connection.scalar(IS_CERTAIN, parameters)
    await _refuse(connection, parameters, messages, codes)
    await connection.execute(UNPARK_OF, {**parameters, "variant_ids": sorted(messages)})


async def try_blamed_again(connection: AsyncConnection, link_id: int, variant_id: str, *, times: int) -> None:
    """Let an item go again later that was found guilty by halving, and not by what Meta said of it.

    ``times``: how often that has happened to the same content before.
    """
    said = {"link_id": link_id, "variant_id": variant_id, "times": times}
    await connection.execute(TRY_AGAIN, said)


async def note_refused(
    connection: AsyncConnection,
    batch: Mapping[str, Any],
    messages: Mapping[str, str],
    codes: Mapping[str, str],
) -> None:
    """Note what Meta refused in its answer to one of several calls: the items stay in flight until all are over."""
    await expect_bulk(connection)
    said = _said(batch, messages, codes)
    await connection.execute(NOTE_REFUSED, said)
    await connection.execute(RECORD_REFUSALS, said)


async def _refuse(
    connection: AsyncConnection, batch: dict[str, Any], messages: Mapping[str, str], codes: Mapping[str, str]
) -> None:
    said = _said(batch, messages, codes)
    await connection.execute(REFUSE, said)
    await connection.execute(RECORD_REFUSALS, said)


def _said(batch: Mapping[str, Any], messages: Mapping[str, str], codes: Mapping[str, str]) -> dict[str, Any]:
    ids = sorted(messages)
    return {
        **batch,
        "variant_ids": ids,
        "codes": [codes.get(one, FailureCode.REJECTED_BY_META) for one in ids],
        "messages": [messages[one] or None for one in ids],
    }


async def release_refused(
    connection: AsyncConnection,
    batch_id: int,
    *,
    code: str | None,
    message: str | None,
    batch_limit: int | None = None,
    already_rejected: int = 0,
) -> bool:
    """Give everything back after a call that Meta certainly did not carry out: nothing was sent.

    ``already_rejected`` items have had their verdict in the same answer.
    """
    batch = await _begin(
        connection, batch_id, (0, already_rejected, 0), (code, message or None), was_refused=True
    )
    if batch is None:
        return False
    is_certain = await connection.scalar(IS_CERTAIN, batch)
    batch |= {"is_certain": is_certain, "batch_limit": batch_limit}
    await connection.execute(RELEASE, batch)
    await connection.execute(INTEND_AGAIN, {**batch, "only_without_outcome": True})
    await connection.execute(CALLS_OVER, {**batch, "state": "refused"})
    await _finish(connection, batch)
    return True


async def release_unknown(
    connection: AsyncConnection,
    batch_id: int,
    *,
    already_rejected: int,
    unsettled: int,
    code: FailureCode,
    batch_limit: int | None = None,
    waits: Sequence[float] | None = None,
) -> bool:
    """End a batch whose effect is not known: its items are sent again, at no cost in attempts.

    With ``waits`` (seconds, by how often in a row it happened to the item) they go again when their wait is over, and
    have no intent until then; without, at once.
    """
    batch = await _begin(connection, batch_id, (0, already_rejected, unsettled), (code, None))
    if batch is None:
        return False
    batch |= {"batch_limit": batch_limit, "is_certain": False}
    if already_rejected:
        await connection.execute(FREE_REFUSED, batch)
    if waits is not None:
        wait = {**batch, "waits": list(waits), "code": code}
        await connection.execute(MAKE_WAIT, wait)
        await connection.execute(MARK_UNKNOWN, batch)
    else:
        await connection.execute(MAKE_UNKNOWN, batch)
        await connection.execute(MARK_UNKNOWN, batch)
        await connection.execute(INTEND_AGAIN, {**batch, "only_without_outcome": True})
    await connection.execute(CALLS_OVER, {**batch, "state": "over"})
    await _finish(connection, batch)
    return True


async def give_up(connection: AsyncConnection, batch_id: int) -> bool:
    """Stop waiting for a handle: its items go again, nothing is confirmed, and the handle is asked on now and then."""
    await expect_bulk(connection)
    row = (await connection.execute(GIVE_UP, {"batch_id": batch_id})).one_or_none()
    if row is None:
        return False
    batch = _identity(row, batch_id)
    await connection.execute(FREE_REFUSED, {**batch, "is_certain": False})
    await connection.execute(MAKE_GIVEN_UP, batch)
    await connection.execute(MARK_UNKNOWN, batch)
    await connection.execute(INTEND_AGAIN, {**batch, "only_without_outcome": True})
    await connection.execute(UNPARK, batch)
    await mark_due(connection, batch["store_id"])
    return True


async def disturb_late(
    connection: AsyncConnection, batch_id: int, *, already_rejected: int, unsettled: int
) -> bool:
    """A handle that was given up ended after all: what was known of its items no longer holds."""
    batch = await _begin(
        connection,
        batch_id,
        (0, already_rejected, unsettled),
        (FailureCode.POLL_TIMEOUT, None),
    )
    if batch is None:
        return False
    await connection.execute(DISTURB, batch)
    await connection.execute(INTEND_AGAIN, {**batch, "only_without_outcome": True})
    await connection.execute(CALLS_OVER, {**batch, "state": "over"})
    await _finish(connection, batch)
    return True


async def follow_late_handle(
    connection: AsyncConnection, batch_id: int, handle: str | None, *, first_poll_seconds: float
) -> bool:
    """Follow a handle that came back for a batch that is over, like one that was given up.

    What it carried is applied late, over whatever was sent since; when it ends, its items are disturbed. Without a
    handle it ends after ``first_poll_seconds``. Returns ``False`` when the batch is not over.
    """
    said = {"batch_id": batch_id, "handle": handle, "first_poll_seconds": first_poll_seconds}
    row = (await connection.execute(REOPEN, said)).one_or_none()
    if row is None:
        return False
    await connection.execute(EVERY_OUTCOME_UNKNOWN, {**said, "created_on": row[0]})
    return True
