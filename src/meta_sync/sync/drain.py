"""One turn of one store: lease, read, decide, claim, call, record. No transaction is open while Meta is called.

Whatever happens to the process, a row says what to do next: an intent, a batch that is ``sending`` past its deadline,
a handle, a due mark.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.core.config import Settings
from meta_sync.core.crypto import Cipher
from meta_sync.core.db import Database, retry_transaction
from meta_sync.core.failpoints import failpoint
from meta_sync.core.logging import get_logger
from meta_sync.graph.client import GraphClient
from meta_sync.graph.endpoints.catalog import CatalogEndpoints
from meta_sync.graph.governor import WaitUntil, decide_call
from meta_sync.sync import lease as leases
from meta_sync.sync import resend, splits
from meta_sync.sync.budget import load_budget
from meta_sync.sync.claim import Plan, apply_plan, plan_turn
from meta_sync.sync.context import UNREADABLE_TOKEN, Standstill, StoreContext, load_context
from meta_sync.sync.lease import Lease
from meta_sync.sync.models import OpenBatch
from meta_sync.sync.pauses import Pause, PauseReason, active_pauses, record_pause
from meta_sync.sync.reading import read_part, read_ready
from meta_sync.sync.record import CallRecorder
from meta_sync.sync.splitting import Part

__all__ = ["Drain", "Timing"]

_logger = get_logger(__name__)

_AFTER_FAILURE_SECONDS = 30.0
"""Until a turn that failed is tried again: short enough for a database that was away, long enough not to spin."""

_LOOKED_AT_WHILE_WAITING = 200
"""Items decided about in a turn that may not send. Every change marks the store due: deciding about a whole batch each
time, to send nothing, would keep the worker from other stores."""

_UNREADABLE_RETRY = timedelta(minutes=1)

_SPLIT_LOOK_SECONDS = 10.0
"""Between two looks at a store where nothing but splits is left, whose answers mark it due anyhow."""

_LEASE_MARGIN_SECONDS = 5.0
"""What must be left of a lease when the call is over, for writing what came of it."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Waits of the pipeline. The defaults are for Meta; tests against a fast sandbox shorten them."""

    call_deadline_seconds: float = 60.0
    """For one ``items_batch`` call: 25 MB out at 5 Mbit/s take 40 seconds."""
    first_poll_seconds: float = 2.0
    """Meta usually works for about two minutes (documented), small batches often end within seconds."""
    unknown_hold_seconds: float = 180.0
    resend_seconds: float = 10.0
    """Before the same bytes are sent again after an unknown end; doubled each time."""
    read_back_seconds: float = 900.0
    """How long an item that Meta does not show as it was sent is looked at again before that is believed."""
    job_look_seconds: float = 2.0
    """Between two looks at whether everything a job asked for has ended."""
    retry_seconds: float = 60.0
    """Before items of a batch that Meta ended without a verdict go again; doubled each time."""
    sale_delay_seconds: float = 300.0
    """After the end of a sale window, until the sale price is emptied at Meta, which has ended the sale by itself.

    Late enough that it never ends a sale early should our clock be ahead of Meta's, that no stale turn still decides by
    the time before (a lease is shorter), and that it stays out of the rush at midnight.
    """
    retry_factor: float = 1.0
    """Scales the waits after an unreachable Meta."""
    suspect_errors: int = 5
    """Server errors about the same content, after which the content itself is looked into."""
    suspect_after_seconds: float = 900.0
    """From the first of these errors to the last: an ordinary outage is over by then, or concerns everything."""
    reconcile_quiet_seconds: float = 900.0
    """What changed, was sent or was settled later than this before Meta was asked is not compared: Meta shows an item some
    time after it has saved it."""
    reconcile_second_read_seconds: float = 900.0
    """Until a finding is read again; nothing is believed that one read alone says."""
    reconcile_every_seconds: float = 86400.0
    """Between two reconciliations of a store that nobody asked for."""
    reconcile_page_items: int = 500
    """Items per question of a walk: with full texts some megabytes. Halved where that is too much for Meta."""
    reconcile_page_seconds: float = 0.9
    """Between two questions of a walk: a fifth of the 20,000 questions an hour that every catalog may ask."""


@dataclass(frozen=True, slots=True)
class _Next:
    """When to look at the store again: at once, at a time, or when somebody marks it."""

    again: bool = False
    at: datetime | None = None
    in_seconds: float | None = None


class Drain:
    """Does turns. One instance per worker; safe to run several turns side by side."""

    def __init__(
        self,
        database: Database,
        graph: GraphClient,
        cipher: Cipher,
        process: Settings,
        *,
        owner: str,
        timing: Timing,
        jitter: Callable[[], float] = random.random,
        wake_guard: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._database = database
        self._wake_guard = wake_guard
        self._graph = graph
        self._cipher = cipher
        self._process = process
        self._owner = owner
        self._timing = timing
        self._jitter = jitter
        self._recorder = CallRecorder(database, timing=timing, jitter=jitter)
        self._owed: list[Lease] = []
        """Leases that could not be given back: as long as this worker lives, nobody else may take them."""

    async def turn(self) -> bool:
        """Give one due store its turn: one batch at most. ``False`` when no store is due."""
        owed = tuple(self._owed)
        async with self._database.platform() as connection:
            for one in owed:
                await leases.release(connection, one, again=True, next_look=None)
            lease = await leases.take(connection, self._owner)
        self._owed = [one for one in self._owed if one not in owed]
        if lease is None:
            return False
        following = _Next(in_seconds=_AFTER_FAILURE_SECONDS)
        try:
            following = await self._work(lease)
        finally:
            # A turn that fails is looked at again soon; one that is killed, when its lease ends.
            try:
                await self._release(lease, following)
            except Exception as error:  # noqa: BLE001 - why the turn failed must not be hidden
                self._owed.append(lease)
                _logger.warning(
                    "A store could not be given back; that is done when the database is there again.",
                    store_id=lease.store_id,
                    error=type(error).__name__,
                )
        return True

    async def _release(self, lease: Lease, following: _Next) -> None:
        async with self._database.platform() as connection:
            next_look = following.at
            if following.in_seconds is not None:
                next_look = await database_time(connection) + timedelta(seconds=following.in_seconds)
            await leases.release(connection, lease, again=following.again, next_look=next_look)

    async def _work(self, lease: Lease) -> _Next:
        async with self._database.platform() as connection:
            context = await load_context(connection, lease.store_id, self._cipher, self._process)
            if isinstance(context, Standstill):
                if context.reason == UNREADABLE_TOKEN:
                    return await self._say_unreadable(connection, lease.store_id)
                return _Next(at=context.until)
            standstill = context.standstill()
            if standstill is not None:
                return _Next(at=standstill.until)
            budget = await load_budget(connection, context.access.link.link_id)
            again = await resend.due_batch(connection, context)
            now = await database_time(connection)
        work = await retry_transaction(lambda: self._look_at_splits(context))
        waits = decide_call(budget, now, "call")
        if again is not None:
            if isinstance(waits, WaitUntil):
                return _Next(at=waits.at)
            return await self._send_again(context, lease, again)
        if isinstance(waits, WaitUntil):
            return await self._ordinary_work(context, lease, waits, work)
        # Turn by turn: a search must not keep other work waiting, nor the other way round.
        if work.part is not None and _is_even(lease.fence):
            return await self._send_part(context, lease, work.part)
        return await self._ordinary_work(context, lease, None, work)

    async def _look_at_splits(self, context: StoreContext) -> splits.SplitWork:
        async with self._database.platform() as connection:
            link_id = context.access.link.link_id
            return await splits.look(connection, context.store_id, link_id, self._outage_wait())

    async def _part_passed(self, context: StoreContext, part: Part) -> None:
        async with self._database.platform() as connection:
            link_id = context.access.link.link_id
            await splits.part_passed(connection, context.store_id, link_id, part.part_id, self._outage_wait())

    async def _say_unreadable(self, connection: AsyncConnection, store_id: str) -> _Next:
        """Show in the status that the encryption key is wrong; looked at again in a minute, should it be put right."""
        until = await database_time(connection) + _UNREADABLE_RETRY
        pause = Pause(PauseReason.NEEDS_RECONNECT, until, "token_unreadable")
        await record_pause(connection, store_id, 0, pause)
        return _Next(at=until)

    def _outage_wait(self) -> splits.OutageWait:
        return splits.OutageWait(self._jitter(), self._timing.retry_factor)

    async def _ordinary_work(
        self, context: StoreContext, lease: Lease, waits: WaitUntil | None, work: splits.SplitWork
    ) -> _Next:
        async with self._database.platform() as connection:
            now = await database_time(connection)
            limit = context.settings.batch_size
            if waits is not None:
                limit = min(limit, _LOOKED_AT_WHILE_WAITING)
            ready = await read_ready(connection, context.store_id, context.access.link.link_id, limit=limit)
        if not ready:
            return await self._nothing_ready(context, lease, waits, work)
        # Where every other turn belongs to a split, the turns of ordinary work alternate among themselves.
        turn = lease.fence if work.part is None else lease.fence // 2
        plan = plan_turn(
            ready,
            context,
            now=now,
            may_send=waits is None,
            limited_first=_is_even(turn),
            is_all=len(ready) < limit,
        )
        batch = await retry_transaction(lambda: self._claim(context, lease, plan))
        if batch is not None:
            await self._send(context, lease, batch)
            return _Next(again=True)
        if waits is not None and plan.left and not plan.settled:
            return _Next(at=waits.at)
        # Something moved under the plan, or it was all settled without a call: look again, there may be more.
        return _Next(again=True)

    async def _nothing_ready(
        self, context: StoreContext, lease: Lease, waits: WaitUntil | None, work: splits.SplitWork
    ) -> _Next:
        """Nothing but what stands in splits."""
        if work.part is not None:
            if waits is not None:
                return _Next(at=waits.at)
            return await self._send_part(context, lease, work.part)
        if work.waits_for_others and await retry_transaction(lambda: self._nothing_else(context)):
            return _Next(again=True)
        return _Next(in_seconds=_SPLIT_LOOK_SECONDS) if work.holds_items else _Next()

    async def _nothing_else(self, context: StoreContext) -> bool:
        async with self._database.platform() as connection:
            return await splits.nothing_else_to_try(
                connection, context.store_id, context.access.link.link_id, self._outage_wait()
            )

    async def _send_part(self, context: StoreContext, lease: Lease, part: Part) -> _Next:
        """Send one part of a split, apart from all other work."""
        link_id = context.access.link.link_id
        async with self._database.platform() as connection:
            now = await database_time(connection)
            ready = await read_part(
                connection, context.store_id, link_id, part.part_id, limit=max(part.items, 1)
            )
        if not ready:
            await retry_transaction(lambda: self._part_passed(context, part))
            return _Next(again=True)
        plan = plan_turn(ready, context, now=now, part_id=part.part_id)
        batch = await retry_transaction(lambda: self._claim(context, lease, plan))
        if batch is not None:
            await self._send(context, lease, batch)
        return _Next(again=True)

    async def _claim(self, context: StoreContext, lease: Lease, plan: Plan) -> OpenBatch | None:
        async with self._database.platform() as connection:
            batch = await apply_plan(
                connection, context, lease, plan, deadline_seconds=self._timing.call_deadline_seconds
            )
            await failpoint("claim.before_commit")
        await failpoint("claim.after_commit")
        if plan.opened_hold and self._wake_guard is not None:
            await self._wake_guard()
        return batch

    async def _send_again(self, context: StoreContext, lease: Lease, batch_id: int) -> _Next:
        async def open_call() -> OpenBatch | None:
            async with self._database.platform() as connection:
                return await resend.open_call(
                    connection, context, batch_id, deadline_seconds=self._timing.call_deadline_seconds
                )

        batch = await retry_transaction(open_call)
        if batch is not None:
            await self._send(context, lease, batch)
        return _Next(again=True)

    async def _send(self, context: StoreContext, lease: Lease, batch: OpenBatch) -> None:
        """Make the call of a batch whose attempts are committed, and record what came of it."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        allowed_seconds = await self._may_call(context, lease, batch)
        if allowed_seconds <= 0:
            await self._recorder.not_called(batch)
            return
        await failpoint("submit.before_call")
        left = allowed_seconds - (loop.time() - began)
        if left <= 0:
            # The process stood still since it looked, and others may have given the call up.
            await self._recorder.not_called(batch)
            return
        catalog = CatalogEndpoints(self._graph.for_version(context.access.graph_version))
        result = await catalog.submit_batch(
            context.access.credential, batch.catalog_id, batch.body, deadline_seconds=left
        )
        await failpoint("submit.after_call")
        await self._recorder.record(context, batch, result)
        _logger.info(
            "A batch was submitted.",
            action="submit",
            store_id=batch.store_id,
            batch_id=batch.batch_id,
            records=batch.count,
            body_bytes=len(batch.body),
            result=type(result).__name__,
        )

    async def _may_call(self, context: StoreContext, lease: Lease, batch: OpenBatch) -> float:
        """Seconds that the call may take; 0 when it must not be made.

        Whatever somebody wanted since the claim is read here once more: preview, the switch, another catalog, a pause.
        Its deadline began when it was written: a process that stood still must not call late, when others have given
        the call up already.
        """
        needed = self._timing.call_deadline_seconds + _LEASE_MARGIN_SECONDS
        call = {"batch_id": batch.batch_id, "call_number": batch.call_number}
        async with self._database.platform() as connection:
            if not await leases.renew(connection, lease):
                return 0.0
            if not await leases.holds(connection, lease, for_seconds=needed):
                return 0.0
            if not await connection.scalar(_MAY_SEND, {**call, "store_id": context.store_id}):
                return 0.0
            if await active_pauses(connection, context.store_id, context.access.link.link_id):
                return 0.0
            return float(await connection.scalar(_SECONDS_LEFT, call) or 0.0)


def _is_even(number: int) -> bool:
    return number % 2 == 0


_SECONDS_LEFT = text(
    """
    SELECT EXTRACT(EPOCH FROM c.deadline_at - clock_timestamp())
    FROM batch_calls AS c JOIN batches AS b USING (batch_id)
    WHERE c.batch_id = :batch_id AND c.call_number = :call_number AND c.state = 'sending'
      AND b.state = 'sending' AND b.calls = c.call_number
    """
)
_MAY_SEND = text(
    """
    SELECT COALESCE(s.settings ->> 'sync_enabled', 'false') = 'true'
        AND COALESCE(s.settings ->> 'feed_mode', 'live') = 'live' AND l.active AND l.epoch = b.link_epoch
    FROM stores AS s, batches AS b JOIN catalog_links AS l USING (link_id)
    WHERE s.store_id = :store_id AND b.batch_id = :batch_id
    """
)
_NOW = text("SELECT clock_timestamp()")


async def database_time(connection: AsyncConnection) -> datetime:
    """The database's own time: the only clock that deadlines and sale windows are read on."""
    now: datetime = (await connection.execute(_NOW)).scalar_one()
    return now
