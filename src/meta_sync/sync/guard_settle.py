"""Does what was decided about a hold: frees what it keeps back, or leaves Meta as it is. A page per transaction."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.sync import guard_statements as statements
from meta_sync.sync.claim_statements import DELETE_INTENTS, SKIP_EVENTS
from meta_sync.sync.codes_guard import HeldCode
from meta_sync.sync.context import StoreContext
from meta_sync.sync.drain import database_time
from meta_sync.sync.guard_decide import KindOf, LeasedHold
from meta_sync.sync.models import Decision, ReadyIntent
from meta_sync.sync.outbox import mark_due
from meta_sync.sync.reading import read_held

__all__ = ["discard_page", "free_page"]

_FREED_AT_ONCE = 5_000
_DISCARDED_AT_ONCE = 1_000

_BUSY_SECONDS = 0.2
"""For rows that somebody else is just changing, who takes them out of the hold."""


async def free_page(connection: AsyncConnection, hold: LeasedHold, *, kinds: int) -> bool:
    """Let a page of intents go, for good as far as these kinds are concerned; whether there may be more."""
    if (await connection.execute(statements.LOCK, hold.identity())).one_or_none() is None:
        return True
    given = {"hold_id": hold.hold_id, "store_id": hold.store_id, "kinds": kinds, "most": _FREED_AT_ONCE}
    freed = await connection.scalar(statements.FREE, given)
    if freed:
        await connection.execute(statements.FORGET_COUNTS, _own(hold))
        await mark_due(connection, hold.store_id)
        await _give_back(connection, hold, 0.0)
        return True
    await connection.execute(statements.FINISH, {"hold_id": hold.hold_id})
    return False


async def discard_page(connection: AsyncConnection, hold: LeasedHold, context: StoreContext) -> bool:
    """Note of a page of items that Meta is to stay as it is; those that want something else by now go on.

    Returns
    -------
    bool
        Whether there may be more.
    """
    page = await read_held(connection, hold.hold_id, hold.link_id, after="", limit=_DISCARDED_AT_ONCE)
    decided = _decisions(page, hold, KindOf(context.link, context.mapping, await database_time(connection)))
    if (await connection.execute(statements.LOCK, hold.identity())).one_or_none() is None:
        return True
    if not page:
        await connection.execute(statements.FINISH, {"hold_id": hold.hold_id})
        return False
    asked = {"hold_id": hold.hold_id, "row_ids": [one.row_id for one in page]}
    locked = set(await connection.scalar(statements.LOCK_HELD, asked) or ())
    discarded = [(one, decided[one.version]) for one in page if one.version in locked & decided.keys()]
    freed = [one.row_id for one in page if one.version in locked - decided.keys()]
    if discarded:
        await _discard(connection, hold, discarded)
    if freed:
        await connection.execute(statements.FREE_ROWS, {"row_ids": freed})
        await connection.execute(statements.FORGET_COUNTS, _own(hold))
        await mark_due(connection, hold.store_id)
    await _give_back(connection, hold, 0.0 if locked else _BUSY_SECONDS)
    return bool(locked)


def _decisions(page: list[ReadyIntent], hold: LeasedHold, kind_of: KindOf) -> dict[int, Decision]:
    """By version, the decisions about what is still of the hold's kind and not on its way."""
    found = {}
    for one in page:
        decision = kind_of.decision(one)
        if decision and one.state.in_flight is None and kind_of.kinds(one, decision) & hold.kind.bit:
            found[one.version] = decision
    return found


async def _discard(
    connection: AsyncConnection, hold: LeasedHold, discarded: list[tuple[ReadyIntent, Decision]]
) -> None:
    # In the order of their ids, as everybody writes states.
    variant_ids = [one.variant_id for one, _ in discarded]
    await connection.execute(
        statements.DISCARD,
        {
            "link_id": hold.link_id,
            "variant_ids": variant_ids,
            "payload_hashes": [decision.payload_hash for _, decision in discarded],
        },
    )
    await connection.execute(DELETE_INTENTS, {"row_ids": [one.row_id for one, _ in discarded]})
    await connection.execute(
        SKIP_EVENTS,
        {
            "store_id": hold.store_id,
            "link_id": hold.link_id,
            "variant_ids": variant_ids,
            "kinds": ["discarded"] * len(discarded),
            "codes": [HeldCode.DISCARDED.value] * len(discarded),
        },
    )


def _own(hold: LeasedHold) -> dict[str, object]:
    return {"link_id": hold.link_id, "kind": hold.kind.value}


async def _give_back(connection: AsyncConnection, hold: LeasedHold, seconds: float) -> None:
    given = {"hold_id": hold.hold_id, "fence": hold.fence, "seconds": seconds}
    await connection.execute(statements.GIVE_BACK, given)
