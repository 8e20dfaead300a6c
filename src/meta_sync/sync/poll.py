"""Follows batches to their real end: asks for handles, settles what is finished, and looks after calls without one.

Handles are asked with their own link's catalog and token, whatever catalog the store uses by now.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Literal

from meta_sync.connection.repository import active_link
from meta_sync.connection.repository import link as link_of
from meta_sync.core.config import Settings
from meta_sync.core.crypto import Cipher, DecryptionError
from meta_sync.core.db import Database, retry_transaction
from meta_sync.core.failpoints import failpoint
from meta_sync.core.logging import get_logger
from meta_sync.graph.client import GraphClient
from meta_sync.graph.endpoints.catalog import CatalogEndpoints
from meta_sync.graph.errors import GraphError
from meta_sync.graph.governor import WaitUntil, decide_call
from meta_sync.graph.outcomes import (
    BatchReport,
    BatchStatusAnswer,
    CannotAsk,
    Ended,
    Finished,
    StillRunning,
    UnknownHandle,
)
from meta_sync.stores.repository import load_settings
from meta_sync.sync.budget import load_budget
from meta_sync.sync.codes_pipeline import FailureCode
from meta_sync.sync.context import Access, link_access
from meta_sync.sync.drain import Timing, database_time
from meta_sync.sync.due import Case, DueBatch
from meta_sync.sync.outbox import mark_due
from meta_sync.sync.outcome import (
    Outcomes,
    classify_report,
    count_rejected,
    count_unsettled,
    next_batch_limit,
)
from meta_sync.sync.pauses import questions_paused_until
from meta_sync.sync.poll_statements import (
    BODY,
    CLAIM,
    HOLD,
    LATER,
    LOST_CALL,
    LOST_CALLS,
    NEXT_HANDLE,
    OTHER_CALL,
    POLLED,
    STILL_HELD,
)
from meta_sync.sync.readback import READ_BACK_FIELDS, resolve_doubts, sent_payloads
from meta_sync.sync.record import answer_facts, batch_items, cleared_fields
from meta_sync.sync.settle import disturb_late, give_up, release_unknown, settle_finished
from meta_sync.sync.splits import OutageWait
from meta_sync.sync.suspects import Suspects, release_after_hold
from meta_sync.sync.waits import next_poll_seconds, retry_waits

__all__ = ["Poll"]

_logger = get_logger(__name__)

_UNKNOWN_HANDLE_PATIENCE = timedelta(minutes=5)
"""A fresh handle may not be known everywhere yet; whether and how soon Meta forgets one is not documented."""

_GIVEN_UP_FOR = timedelta(hours=24)
"""How long a handle that was given up is asked on; nothing suggests that Meta finishes a batch later than that."""

_GIVEN_UP_SECONDS = 600

_ENDED_AS: dict[Literal["error", "canceled"], FailureCode] = {
    "error": FailureCode.BATCH_ERROR,
    "canceled": FailureCode.BATCH_CANCELED,
}

_NOT_ASKED_FOR = timedelta(days=30)
"""How long a handle of the catalog in use waits for a token or a permission: the shortest retention of attempts."""


class Poll:
    """Asks for what is due. Safe to run by any number of workers: a batch is claimed by moving its due time."""

    def __init__(
        self,
        database: Database,
        graph: GraphClient,
        cipher: Cipher,
        process: Settings,
        *,
        timing: Timing,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._database = database
        self._graph = graph
        self._cipher = cipher
        self._process = process
        self._timing = timing
        self._jitter = jitter
        self._suspects = Suspects(database, graph, cipher, process, timing=timing, jitter=jitter)

    async def claim(self, most: int) -> Sequence[DueBatch]:
        """Take batches whose time has come; each belongs to us for a minute."""
        async with self._database.platform() as connection:
            rows = (await connection.execute(CLAIM, {"most": most})).all()
        return [DueBatch(*row) for row in rows]

    async def follow(self, batch: DueBatch) -> None:
        """Do what is due about one claimed batch."""
        if batch.state == "sending":
            await retry_transaction(lambda: self._lost_call(batch))
        elif batch.state == "unknown":
            await retry_transaction(lambda: self._hold_over(batch))
        elif batch.state == "given_up" and batch.handle is None:
            # Its call ended without an answer when the batch was over; the time in which it can be at work has passed.
            await self._end_given_up(batch)
        else:
            await self._ask(batch)

    async def _lost_call(self, batch: DueBatch) -> None:
        async with self._database.platform() as connection:
            identity = {
                "batch_id": batch.batch_id,
                "calls": batch.calls,
                "hold_seconds": self._timing.unknown_hold_seconds,
            }
            if (await connection.execute(LOST_CALL, identity)).rowcount == 0:
                return
            await connection.execute(LOST_CALLS, identity)
            await mark_due(connection, batch.store_id)
        _logger.warning(
            "A call was left without an answer.", store_id=batch.store_id, batch_id=batch.batch_id
        )

    async def _hold_over(self, batch: DueBatch) -> None:
        """The hold after the last unknown call is over: nothing of it can still be at work, so the items are free."""
        is_suspect = await self._suspects.is_suspect(batch.batch_id, batch.store_id, batch.link_id)
        async with self._database.platform() as connection:
            # Read again under its lock: a further call may have been begun since the batch was claimed.
            is_over, _ = (await connection.execute(HOLD, {"batch_id": batch.batch_id})).one()
            if not is_over:
                await connection.execute(STILL_HELD, {"batch_id": batch.batch_id})
                return
            items, _ = await batch_items(connection, batch.batch_id)
            wait = OutageWait(self._jitter(), self._timing.retry_factor)
            await release_after_hold(connection, batch.batch_id, items, is_suspect=is_suspect, wait=wait)

    async def _ask(self, batch: DueBatch) -> None:
        async with self._database.platform() as connection:
            now = await database_time(connection)
            link = await link_of(connection, batch.link_id)
            assert link is not None
            settings, _ = await load_settings(connection, batch.store_id)
            access = None
            with suppress(DecryptionError):
                # The drain says in the status that the key is wrong; the handle waits.
                access = await link_access(connection, link, settings, self._cipher, self._process)
            budget = await load_budget(connection, batch.link_id, with_calls=False)
            waits = decide_call(budget, now, "question")
            # One question that failed speaks for all: each of many handles would hold a slot until its deadline.
            until = await questions_paused_until(connection, batch.store_id, batch.link_id)
            active = await active_link(connection, batch.store_id)
        if isinstance(waits, WaitUntil):
            until = max(until or waits.at, waits.at)
        case = Case(batch, settings, now)
        if access is None or access.is_dead or until is not None:
            is_left = active is None or active.link_id != batch.link_id
            if case.age > (_GIVEN_UP_FOR if is_left else _NOT_ASKED_FOR):
                await self._abandon(batch)
                return
            if is_left:
                # Nobody waits for it.
                until = now + timedelta(seconds=_GIVEN_UP_SECONDS)
            # Not being able to ask never ages a handle.
            await self._later(case, until=until)
            return
        assert batch.handle is not None
        await failpoint("poll.before_ask")
        catalog = CatalogEndpoints(self._graph.for_version(access.graph_version))
        answer = await catalog.batch_status(access.credential, batch.catalog_id, batch.handle)
        await failpoint("poll.after_ask")
        await retry_transaction(lambda: self._note(batch, access, answer))
        await self._act(case, access, answer)

    async def _note(self, batch: DueBatch, access: Access, answer: BatchStatusAnswer) -> None:
        error = answer.error if isinstance(answer, CannotAsk) else None
        async with self._database.platform() as connection:
            await answer_facts(
                connection,
                access,
                answer.usage,
                error,
                purpose="question",
                now=await database_time(connection),
                jitter=self._jitter(),
                retry_factor=self._timing.retry_factor,
                pause_scope_link=True,
            )
            await connection.execute(POLLED, {"store_id": batch.store_id})

    async def _act(self, case: Case, access: Access, answer: BatchStatusAnswer) -> None:
        match answer:
            case StillRunning():
                await self._still_running(case)
            case UnknownHandle():
                if case.age <= _UNKNOWN_HANDLE_PATIENCE:
                    await self._later(case)
                elif not await self._waits_for_another_call(case.batch):
                    await self._give_up(case)
            case CannotAsk():
                await self._later(case)
            case Ended(status=status):
                await self._ended(case, status)
            case Finished(report=report):
                await self._finished(case, access, report)

    async def _still_running(self, case: Case) -> None:
        too_old = timedelta(minutes=case.settings.handle_poll_max_age_minutes)
        if case.batch.state == "open" and case.age > too_old:
            await self._give_up(case)
        else:
            await self._later(case)

    async def _later(self, case: Case, *, until: datetime | None = None) -> None:
        batch = case.batch
        seconds = next_poll_seconds(
            batch.polls, case.settings.poll_interval_seconds, self._timing.first_poll_seconds
        )
        if batch.state == "given_up":
            seconds = _GIVEN_UP_SECONDS
            if case.age > _GIVEN_UP_FOR:
                await self._end_given_up(batch)
                return
        async with self._database.platform() as connection:
            await connection.execute(LATER, {"batch_id": batch.batch_id, "seconds": seconds, "until": until})

    async def _give_up(self, case: Case) -> None:
        batch = case.batch
        if batch.state != "open":
            await self._later(case)
            return

        async def work() -> None:
            async with self._database.platform() as connection:
                await give_up(connection, batch.batch_id)

        await retry_transaction(work)
        _logger.warning("A handle was given up.", store_id=batch.store_id, batch_id=batch.batch_id)

    async def _end_given_up(self, batch: DueBatch) -> None:
        async def work() -> None:
            async with self._database.platform() as connection:
                items, _ = await batch_items(connection, batch.batch_id)
                await disturb_late(
                    connection,
                    batch.batch_id,
                    already_rejected=count_rejected(items),
                    unsettled=len(items) - count_rejected(items),
                )

        await retry_transaction(work)

    async def _abandon(self, batch: DueBatch) -> None:
        """End a batch that nobody can ask about any more: of a catalog that was left, or after a month without access.

        Nothing is lost by it: its items count as unknown and go again. Attempts of a batch that is not over are kept,
        for every store, so that one that never ends would make the table grow for ever.
        """
        if batch.state == "given_up":
            await self._end_given_up(batch)
            return

        async def work() -> None:
            async with self._database.platform() as connection:
                items, _ = await batch_items(connection, batch.batch_id)
                await release_unknown(
                    connection,
                    batch.batch_id,
                    already_rejected=count_rejected(items),
                    unsettled=count_unsettled(items),
                    code=FailureCode.NOT_ASKED,
                )

        await retry_transaction(work)

    async def _ended(self, case: Case, status: Literal["error", "canceled"]) -> None:
        """Meta stopped the batch without a verdict: some items may have been saved.

        They go again in smaller batches, and not at once: what made Meta stop is seldom over in a second.
        """
        batch = case.batch
        if await self._waits_for_another_call(batch):
            return
        if batch.state == "given_up":
            await self._end_given_up(batch)
            return

        async def work() -> None:
            async with self._database.platform() as connection:
                items, _ = await batch_items(connection, batch.batch_id)
                await release_unknown(
                    connection,
                    batch.batch_id,
                    already_rejected=count_rejected(items),
                    unsettled=count_unsettled(items),
                    code=_ENDED_AS[status],
                    batch_limit=max(1, batch.sent // 2),
                    waits=retry_waits(self._timing.retry_seconds, self._jitter()),
                )

        await retry_transaction(work)

    async def _waits_for_another_call(self, batch: DueBatch) -> bool:
        """Whether another call of the batch is not over, which then decides when the items are free.

        The contents are equal, so the report of the last one is the one that counts.
        """
        if batch.calls == 1:
            return False
        said = {
            "batch_id": batch.batch_id,
            "handle": batch.handle,
            "hold_seconds": self._timing.unknown_hold_seconds,
        }
        async with self._database.platform() as connection:
            other = (await connection.execute(OTHER_CALL, said)).one_or_none()
            if other is None:
                return False
            handle, free_at = other
            if handle is not None:
                await connection.execute(NEXT_HANDLE, {**said, "next_handle": handle})
            else:
                await connection.execute(LATER, {**said, "seconds": 0, "until": free_at})
        return True

    async def _finished(self, case: Case, access: Access, report: BatchReport) -> None:
        batch = case.batch
        if await self._waits_for_another_call(batch):
            return
        if batch.state == "given_up":
            await self._end_given_up(batch)
            return
        async with self._database.platform() as connection:
            items, cleared = await batch_items(connection, batch.batch_id)
        outcomes = classify_report(items, report)
        if outcomes.to_read_back and not await self._read_back(case, access, outcomes):
            await self._later(case)
            return
        codes = {**cleared_fields(items, outcomes.messages, cleared), **outcomes.codes}
        limit = None if not outcomes.unknown else next_batch_limit(batch.sent)
        settled = await retry_transaction(
            lambda: self._settle(batch, outcomes, count_rejected(items), codes, limit)
        )
        await failpoint("settle.after_commit")
        if settled:
            _logger.info(
                "A batch was settled.",
                action="settle",
                store_id=batch.store_id,
                batch_id=batch.batch_id,
                accepted=len(outcomes.accepted),
                rejected=len(outcomes.rejected),
                unknown=len(outcomes.unknown),
                complete=outcomes.is_complete,
            )

    async def _settle(
        self,
        batch: DueBatch,
        outcomes: Outcomes,
        already_rejected: int,
        codes: dict[str, str],
        batch_limit: int | None,
    ) -> bool:
        async with self._database.platform() as connection:
            settled = await settle_finished(
                connection,
                batch.batch_id,
                outcomes,
                already_rejected=already_rejected,
                codes=codes,
                batch_limit=batch_limit,
            )
            await failpoint("settle.before_commit")
            return settled

    async def _read_back(self, case: Case, access: Access, outcomes: Outcomes) -> bool:
        """Look at the items that the report leaves in doubt; what Meta shows as it was sent is saved.

        The rest goes again in smaller batches. An item that is alone already is looked at again for a while, because
        Meta shows an item some time after it has saved it. Returns ``False`` when it is too early to settle.
        """
        batch = case.batch
        async with self._database.platform() as connection:
            body = await connection.scalar(BODY, {"batch_id": batch.batch_id})
        found = await self._find(batch, access, [item.retailer_id for item in outcomes.to_read_back])
        return resolve_doubts(
            outcomes,
            sent_payloads(body or b""),
            found,
            is_alone=batch.sent == 1,
            is_early=case.age < timedelta(seconds=self._timing.read_back_seconds),
        )

    async def _find(
        self, batch: DueBatch, access: Access, retailer_ids: Sequence[str]
    ) -> dict[str, dict[str, Any]] | None:
        """The items as Meta shows them, by id; ``None`` when not all of them could be looked for."""
        catalog = CatalogEndpoints(self._graph.for_version(access.graph_version))
        try:
            page = (
                await catalog.find_items(access.credential, batch.catalog_id, retailer_ids, READ_BACK_FIELDS)
            ).value
        except GraphError as error:
            _logger.warning(
                "Items could not be read back.", batch_id=batch.batch_id, **error.to_log_context()
            )
            return None
        return None if page.has_next else {str(one.get("retailer_id")): one for one in page.items}
