"""Works holds off: counts what waits, keeps the count of what is held, and does what was decided about it.

A page is one short transaction that moves the hold's cursor with what it wrote, so that whoever is killed is taken over
from there. The store's turns go on meanwhile: nothing but the kind that is counted waits. Nothing here talks to Meta.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.core.config import Settings
from meta_sync.core.crypto import Cipher
from meta_sync.core.db import Database, retry_transaction
from meta_sync.core.failpoints import failpoint
from meta_sync.core.logging import get_logger
from meta_sync.core.queue import JobName, JobQueue
from meta_sync.sync import guard_statements as statements
from meta_sync.sync.claim_statements import LOCK_INTENTS
from meta_sync.sync.codes_guard import held_code
from meta_sync.sync.context import StoreContext, load_context
from meta_sync.sync.drain import database_time
from meta_sync.sync.guard import GuardKind, allowed_items
from meta_sync.sync.guard_decide import KindOf, LeasedHold
from meta_sync.sync.guard_settle import discard_page, free_page
from meta_sync.sync.models import ReadyIntent
from meta_sync.sync.outbox import mark_due
from meta_sync.sync.reading import read_outside

__all__ = ["GuardRunner"]

_logger = get_logger(__name__)

_PAGE = 2_000
"""Intents per page: some tens of milliseconds, so that a claim never waits long for the hold's row."""

_EVENTS_PAGE = 5_000

_RECOUNT_SECONDS = 60.0
"""Between two counts of what is held; also for a store that cannot be decided about just now."""

_WAIT_SECONDS = 0.2
"""For transactions that began before the hold did."""


@dataclass(frozen=True, slots=True)
class _Count:
    held: int
    recent: int
    """Gone out within the hour and not held again."""
    sent: int
    """Gone out within the hour. What is held may come free by wanting something else, and counts then for what it sent."""
    base: int
    threshold: int


class GuardRunner:
    """Moves holds on, a page at a time. Safe to run by any number of workers."""

    def __init__(self, database: Database, cipher: Cipher, process: Settings, queue: JobQueue) -> None:
        self._database = database
        self._cipher = cipher
        self._process = process
        self._queue = queue

    async def run_next(self) -> bool:
        """Work on the hold that waits the longest; whether there is more to do at once."""
        async with self._database.platform() as connection:
            row = (await connection.execute(statements.LEASE, {})).one_or_none()
        if row is None:
            return False
        hold_id, store_id, link_id, kind, *rest = row
        hold = LeasedHold(hold_id, store_id, link_id, GuardKind(kind), *rest)
        more, frees = await retry_transaction(lambda: self._work(hold))
        await failpoint("guard.after_page")
        if frees:
            await self._queue.wake(JobName.DRAIN)
        return more

    async def _work(self, hold: LeasedHold) -> tuple[bool, bool]:
        """One page; whether there is more to do at once, and whether something may go out now."""
        async with self._database.platform() as connection:
            if hold.state in {"released", "dissolved"}:
                kinds = hold.kind.bit if hold.state == "released" else 0
                return await free_page(connection, hold, kinds=kinds), True
            context = await load_context(connection, hold.store_id, self._cipher, self._process)
            if not isinstance(context, StoreContext) or context.access.link.link_id != hold.link_id:
                # Nothing is sent either as long as this lasts.
                await self._give_back(connection, hold, _RECOUNT_SECONDS)
                return False, False
            if hold.state == "discarded":
                return await discard_page(connection, hold, context), True
            if hold.state == "held":
                return await self._look_after(connection, hold, context), True
            return await self._count_page(connection, hold, context), True

    async def _give_back(self, connection: AsyncConnection, hold: LeasedHold, seconds: float) -> None:
        given = {"hold_id": hold.hold_id, "fence": hold.fence, "seconds": seconds}
        await connection.execute(statements.GIVE_BACK, given)

    async def _count_page(self, connection: AsyncConnection, hold: LeasedHold, context: StoreContext) -> bool:
        after = hold.cursor or ""
        if not after and not await connection.scalar(statements.IS_SETTLED, {"hold_id": hold.hold_id}):
            await self._give_back(connection, hold, _WAIT_SECONDS)
            return False
        page = await read_outside(
            connection, hold.store_id, hold.link_id, hold.hold_id, after=after, limit=_PAGE
        )
        kind_of = KindOf(context.link, context.mapping, await database_time(connection))
        found = [one for one in page if kind_of.has(one, hold.kind)]
        locked = (await connection.execute(statements.LOCK, hold.identity())).one_or_none()
        if locked is None:
            return True
        waiting = [one for one in found if one.state.in_flight is None]
        in_flight = len(found) - len(waiting)
        # Under another hold, or changed since they were read.
        elsewhere = len(waiting) - await self._park(connection, hold, waiting)
        if len(page) == _PAGE:
            place = {"hold_id": hold.hold_id, "cursor": page[-1].variant_id}
            place |= {"in_flight": in_flight, "elsewhere": elsewhere}
            await connection.execute(statements.ADVANCE, place)
            return True
        return await self._decide(
            connection, hold, context, in_flight=locked[0] + in_flight, elsewhere=locked[1] + elsewhere
        )

    async def _park(self, connection: AsyncConnection, hold: LeasedHold, found: Sequence[ReadyIntent]) -> int:
        """Keep back what is as it was read, and say how many; what moved meanwhile is decided by the claim."""
        if not found:
            return 0
        row_ids = [one.row_id for one in found]
        locked = set(await connection.scalar(LOCK_INTENTS, {"row_ids": row_ids}) or ())
        kept = [one.row_id for one in found if one.version in locked]
        if kept:
            await connection.execute(statements.PARK_UNDER, {"hold_id": hold.hold_id, "row_ids": kept})
        return len(kept)

    async def _count(
        self, connection: AsyncConnection, hold: LeasedHold, context: StoreContext, *, base: int | None
    ) -> _Count:
        asked = {
            "hold_id": hold.hold_id,
            "link_id": hold.link_id,
            "store_id": hold.store_id,
            "kinds": hold.kind.bit,
        }
        held, recent, sent = (await connection.execute(statements.COUNT, asked)).one()
        if base is None:
            base = int(await connection.scalar(statements.BASE, {"link_id": hold.link_id}) or 0)
        settings = context.settings
        limits = {"max_share": settings.guard_max_share, "min_items": settings.guard_min_items}
        return _Count(held, recent, sent, base, allowed_items(base, **limits))  # type: ignore[arg-type]  # by name

    async def _decide(
        self,
        connection: AsyncConnection,
        hold: LeasedHold,
        context: StoreContext,
        *,
        in_flight: int,
        elsewhere: int,
    ) -> bool:
        """The end of counting: held, or dissolved with a count that spares the next turns another one.

        What other holds keep back may come to this kind later: whoever frees it has this count forgotten. It is no
        reason to hold the rest, nor to count it again at every turn.
        """
        count = await self._count(connection, hold, context, base=None)
        total = count.held + count.recent + in_flight
        is_held = total > count.threshold
        await self._write(connection, hold, count, is_held=is_held, cursor="", seconds=0.0)
        if is_held:
            await mark_due(connection, hold.store_id)
        elif not elsewhere or not await self._others_free(connection, hold):
            await self._keep_count(connection, hold, context, count, total=total, elsewhere=elsewhere)
        _logger.log(
            30 if is_held else 20,
            "Changes are held until a person decides." if is_held else "What was counted may go out.",
            action="hold",
            store_id=hold.store_id,
            hold_id=hold.hold_id,
            kind=hold.kind.value,
            items=count.held,
            recent_items=count.recent,
            base_items=count.base,
            threshold=count.threshold,
        )
        return True

    async def _others_free(self, connection: AsyncConnection, hold: LeasedHold) -> bool:
        asked = {"store_id": hold.store_id, "link_id": hold.link_id, "hold_id": hold.hold_id}
        return bool(await connection.scalar(statements.OTHERS_FREE, asked))

    async def _keep_count(
        self,
        connection: AsyncConnection,
        hold: LeasedHold,
        context: StoreContext,
        count: _Count,
        *,
        total: int,
        elsewhere: int,
    ) -> None:
        await connection.execute(
            statements.NOTE_COUNT,
            {
                "link_id": hold.link_id,
                "kind": hold.kind.value,
                "store_id": hold.store_id,
                "epoch": context.access.link.epoch,
                "mapping_epoch": context.mapping_epoch,
                "watermark": hold.watermark,
                "items": total,
                "recent": count.sent,
                "base": count.base,
                "elsewhere": elsewhere,
            },
        )

    async def _write(
        self,
        connection: AsyncConnection,
        hold: LeasedHold,
        count: _Count,
        *,
        is_held: bool,
        cursor: str | None,
        seconds: float,
    ) -> None:
        await connection.execute(
            statements.COUNTED,
            {
                "hold_id": hold.hold_id,
                "state": "held" if is_held else "dissolved",
                "items": count.held,
                "recent": count.recent,
                "base": count.base,
                "threshold": count.threshold,
                "cursor": cursor if is_held else None,
                "seconds": seconds if is_held else 0.0,
            },
        )

    async def _look_after(self, connection: AsyncConnection, hold: LeasedHold, context: StoreContext) -> bool:
        """Write the events of what is held; once they are written, count again now and then."""
        locked = (await connection.execute(statements.LOCK, hold.identity())).one_or_none()
        if locked is None:
            return True
        cursor = hold.cursor
        if cursor is not None:
            asked = {
                "hold_id": hold.hold_id,
                "store_id": hold.store_id,
                "link_id": hold.link_id,
                "code": held_code(hold.kind).value,
                "after": cursor,
                "most": _EVENTS_PAGE,
            }
            written, last = (await connection.execute(statements.EVENTS_OF_HOLD, asked)).one()
            is_last = written < _EVENTS_PAGE
            place = {"hold_id": hold.hold_id, "cursor": None if is_last else last}
            await connection.execute(statements.ADVANCE, {**place, "in_flight": 0, "elsewhere": 0})
            if is_last:
                # What was in flight when it was counted cannot be told from what is held now: it is given time to end.
                await self._give_back(connection, hold, _RECOUNT_SECONDS)
            return not is_last
        items, _, known_base = locked
        count = await self._count(connection, hold, context, base=known_base)
        if count.held != items:
            # What is at Meta is counted anew only where something moved: it is a look at every item of the link.
            count = await self._count(connection, hold, context, base=None)
        is_held = count.held > 0 and count.held + count.recent > count.threshold
        await self._write(connection, hold, count, is_held=is_held, cursor=None, seconds=_RECOUNT_SECONDS)
        return not is_held
