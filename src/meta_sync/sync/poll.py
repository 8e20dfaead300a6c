"""Follows batches to their real end: asks for handles, settles what is finished, and looks after calls without one.

Handles are asked with their own link's catalog and token, whatever catalog the store uses by now.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text

from meta_sync.connection.repository import link as link_of
from meta_sync.core.config import Settings
from meta_sync.core.crypto import Cipher
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
from meta_sync.stores.settings import StoreSettings
from meta_sync.sync.budget import load_budget
from meta_sync.sync.context import Access, link_access
from meta_sync.sync.drain import Timing, database_time
from meta_sync.sync.models import BatchItem
from meta_sync.sync.outcome import Outcomes, classify_report, next_batch_limit
from meta_sync.sync.readback import READ_BACK_FIELDS, agrees, sent_payloads
from meta_sync.sync.record import answer_facts, batch_items, cleared_fields
from meta_sync.sync.resend import MAX_CALLS
from meta_sync.sync.settle import disturb_late, give_up, release_unknown, settle_finished

__all__ = ["Poll", "next_poll_seconds"]

_logger = get_logger(__name__)

_CLAIM_SECONDS = 60
"""How long a due batch is ours: longer than one question with its pages; a crash delays it by as much."""

_UNKNOWN_HANDLE_PATIENCE = timedelta(minutes=5)
"""A fresh handle may not be known everywhere yet; whether and how soon Meta forgets one is not documented."""

_GIVEN_UP_FOR = timedelta(hours=24)
"""How long a handle that was given up is asked on; nothing suggests that Meta finishes a batch later than that."""

_GIVEN_UP_SECONDS = 600

_CLAIM = text(
    f"""
    UPDATE batches AS b SET due_at = now() + make_interval(secs => {_CLAIM_SECONDS}), polls = b.polls + 1
    WHERE b.batch_id IN (
        SELECT batch_id FROM batches
        WHERE due_at <= now() AND state IN ('sending', 'open', 'given_up', 'unknown')
          AND NOT (state = 'unknown' AND calls < {MAX_CALLS} AND hold_until > now())
        ORDER BY due_at LIMIT :most FOR UPDATE SKIP LOCKED
    )
    RETURNING b.batch_id, b.store_id, b.link_id, b.catalog_id, b.state, b.handle, b.sent, b.polls, b.calls,
        b.created_at, b.sent_at, b.hold_until
    """
)
_LATER = text(
    """
    UPDATE batches SET due_at = GREATEST(now() + make_interval(secs => :seconds), CAST(:until AS timestamptz))
    WHERE batch_id = :batch_id AND state <> 'over'
    """
)
# Found `sending` after its deadline: whoever made the call is gone, or too late to be believed.
_LOST_CALL = text(
    """
    UPDATE batches SET state = 'unknown', hold_until = now() + make_interval(secs => :hold_seconds), due_at = now(),
        error_code = 'no_answer', error_text = 'The call was begun and no answer was stored.'
    WHERE batch_id = :batch_id AND state = 'sending'
    """
)
_LOST_CALLS = text(
    "UPDATE batch_calls SET state = 'unknown', unknown_at = now() WHERE batch_id = :batch_id AND state = 'sending'"
)
_BODY = text("SELECT body FROM batches WHERE batch_id = :batch_id")
_POLLED = text("UPDATE store_queue SET last_poll_at = now() WHERE store_id = :store_id")
_DUE_NOW = text(
    "UPDATE store_queue SET due_at = now() WHERE store_id = :store_id AND (due_at IS NULL OR due_at > now())"
)


@dataclass(frozen=True, slots=True)
class _Batch:
    batch_id: int
    store_id: str
    link_id: int
    catalog_id: str
    state: str
    handle: str | None
    sent: int
    polls: int
    calls: int
    created_at: datetime
    sent_at: datetime | None
    hold_until: datetime | None


def next_poll_seconds(polls: int, ceiling_seconds: float, first_seconds: float) -> float:
    """The wait before the next question about a handle: growing by half each time, up to the store's ceiling."""
    return min(ceiling_seconds, first_seconds * 1.5 ** min(polls, 20))


class Poll:
    """Asks for what is due. Safe to run by any number of workers: a batch is claimed by moving its due time."""

    def __init__(
        self,
        database: Database,
        graph: GraphClient,
        cipher: Cipher,
        process: Settings,
        *,
        clock: Callable[[], datetime],
        timing: Timing,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._database = database
        self._graph = graph
        self._cipher = cipher
        self._process = process
        self._clock = clock
        self._timing = timing
        self._jitter = jitter

    async def claim(self, most: int) -> Sequence[_Batch]:
        """Take batches whose time has come; each belongs to us for a minute."""
        async with self._database.platform() as connection:
            rows = (await connection.execute(_CLAIM, {"most": most})).all()
        return [_Batch(*row) for row in rows]

    async def follow(self, batch: _Batch) -> None:
        """Do what is due about one claimed batch."""
        if batch.state == "sending":
            await self._lost_call(batch)
        elif batch.state == "unknown":
            await self._hold_over(batch)
        else:
            await self._ask(batch)

    async def _lost_call(self, batch: _Batch) -> None:
        async with self._database.platform() as connection:
            identity = {"batch_id": batch.batch_id, "hold_seconds": self._timing.unknown_hold_seconds}
            await connection.execute(_LOST_CALL, identity)
            await connection.execute(_LOST_CALLS, identity)
            await connection.execute(_DUE_NOW, {"store_id": batch.store_id})
        _logger.warning(
            "A call was left without an answer.", store_id=batch.store_id, batch_id=batch.batch_id
        )

    async def _hold_over(self, batch: _Batch) -> None:
        """The hold after the last unknown call is over: nothing of it can still be at work, so the items are free."""
        async with self._database.platform() as connection:
            now = await database_time(connection)
            if batch.hold_until is not None and batch.hold_until > now:
                await connection.execute(
                    _LATER, {"batch_id": batch.batch_id, "seconds": 0, "until": batch.hold_until}
                )
                return
            items, _ = await batch_items(connection, batch.batch_id)
            await release_unknown(
                connection,
                batch.batch_id,
                already_rejected=_rejected(items),
                unsettled=_unsettled(items),
                code="no_answer",
                message="Whether Meta carried out the call is not known; the items are sent again.",
            )

    async def _ask(self, batch: _Batch) -> None:
        async with self._database.platform() as connection:
            link = await link_of(connection, batch.link_id)
            assert link is not None
            settings, _ = await load_settings(connection, batch.store_id)
            access = await link_access(connection, link, settings, self._cipher, self._process)
            budget = await load_budget(connection, batch.link_id, with_calls=False)
            waits = decide_call(budget, self._clock(), "question")
        if access is None or access.is_dead or isinstance(waits, WaitUntil):
            # Not being able to ask never ages a handle.
            await self._later(batch, settings, until=waits.at if isinstance(waits, WaitUntil) else None)
            return
        assert batch.handle is not None
        await failpoint("poll.before_ask")
        catalog = CatalogEndpoints(self._graph.for_version(access.graph_version))
        answer = await catalog.batch_status(access.credential, batch.catalog_id, batch.handle)
        await failpoint("poll.after_ask")
        await self._note(batch, access, answer)
        await self._act(batch, access, settings, answer)

    async def _note(self, batch: _Batch, access: Access, answer: BatchStatusAnswer) -> None:
        error = answer.error if isinstance(answer, CannotAsk) else None
        async with self._database.platform() as connection:
            await answer_facts(
                connection,
                access,
                answer.usage,
                error,
                purpose="question",
                now=self._clock(),
                jitter=self._jitter(),
                retry_factor=self._timing.retry_factor,
                pause_scope_link=True,
            )
            await connection.execute(_POLLED, {"store_id": batch.store_id})

    async def _act(
        self, batch: _Batch, access: Access, settings: StoreSettings, answer: BatchStatusAnswer
    ) -> None:
        match answer:
            case StillRunning():
                await self._still_running(batch, settings)
            case UnknownHandle():
                if self._age(batch) > _UNKNOWN_HANDLE_PATIENCE:
                    await self._give_up(batch)
                else:
                    await self._later(batch, settings)
            case CannotAsk():
                await self._later(batch, settings)
            case Ended(status=status):
                await self._ended(batch, status)
            case Finished(report=report):
                await self._finished(batch, access, report)

    async def _still_running(self, batch: _Batch, settings: StoreSettings) -> None:
        too_old = timedelta(minutes=settings.handle_poll_max_age_minutes)
        if batch.state == "open" and self._age(batch) > too_old:
            await self._give_up(batch)
        else:
            await self._later(batch, settings)

    def _age(self, batch: _Batch) -> timedelta:
        return self._clock() - (batch.sent_at or batch.created_at)

    async def _later(self, batch: _Batch, settings: StoreSettings, *, until: datetime | None = None) -> None:
        seconds = next_poll_seconds(
            batch.polls, settings.poll_interval_seconds, self._timing.first_poll_seconds
        )
        if batch.state == "given_up":
            seconds = _GIVEN_UP_SECONDS
            if self._age(batch) > _GIVEN_UP_FOR:
                await self._end_given_up(batch)
                return
        async with self._database.platform() as connection:
            await connection.execute(_LATER, {"batch_id": batch.batch_id, "seconds": seconds, "until": until})

    async def _give_up(self, batch: _Batch) -> None:
        if batch.state != "open":
            await self._end_or_wait(batch)
            return
        async with self._database.platform() as connection:
            await give_up(connection, batch.batch_id)
        _logger.warning("A handle was given up.", store_id=batch.store_id, batch_id=batch.batch_id)

    async def _end_or_wait(self, batch: _Batch) -> None:
        if self._age(batch) > _GIVEN_UP_FOR:
            await self._end_given_up(batch)
            return
        async with self._database.platform() as connection:
            await connection.execute(
                _LATER, {"batch_id": batch.batch_id, "seconds": _GIVEN_UP_SECONDS, "until": None}
            )

    async def _end_given_up(self, batch: _Batch) -> None:
        async with self._database.platform() as connection:
            items, _ = await batch_items(connection, batch.batch_id)
            await disturb_late(
                connection,
                batch.batch_id,
                already_rejected=_rejected(items),
                unsettled=len(items) - _rejected(items),
            )

    async def _ended(self, batch: _Batch, status: str) -> None:
        """Meta stopped the batch without a verdict: some items may have been saved. They go again, in smaller batches."""
        if batch.state == "given_up":
            await self._end_given_up(batch)
            return
        async with self._database.platform() as connection:
            items, _ = await batch_items(connection, batch.batch_id)
            await release_unknown(
                connection,
                batch.batch_id,
                already_rejected=_rejected(items),
                unsettled=_unsettled(items),
                code=f"batch_{status}",
                message=f"Meta ended the batch with {status}; the items are sent again.",
                batch_limit=max(1, batch.sent // 2),
            )

    async def _finished(self, batch: _Batch, access: Access, report: BatchReport) -> None:
        if batch.state == "given_up":
            await self._end_given_up(batch)
            return
        async with self._database.platform() as connection:
            items, cleared = await batch_items(connection, batch.batch_id)
        outcomes = classify_report(items, report)
        if outcomes.to_read_back:
            await self._read_back(batch, access, outcomes)
        codes = cleared_fields(items, outcomes.messages, cleared)
        limit = None if not outcomes.unknown else next_batch_limit(batch.sent)
        settled = await retry_transaction(
            lambda: self._settle(batch, outcomes, _rejected(items), codes, limit)
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
        batch: _Batch,
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

    async def _read_back(self, batch: _Batch, access: Access, outcomes: Outcomes) -> None:
        """Look at the items that a "required field" warning names; what agrees is saved, the rest goes again alone."""
        async with self._database.platform() as connection:
            body = await connection.scalar(_BODY, {"batch_id": batch.batch_id})
        sent = sent_payloads(body or b"")
        found: dict[str, dict[str, Any]] = {}
        catalog = CatalogEndpoints(self._graph.for_version(access.graph_version))
        ids = [item.retailer_id for item in outcomes.to_read_back]
        try:
            page = (
                await catalog.find_items(access.credential, batch.catalog_id, ids, READ_BACK_FIELDS)
            ).value
            found = {str(one.get("retailer_id")): one for one in page.items}
        except GraphError as error:
            _logger.warning(
                "Items could not be read back.", batch_id=batch.batch_id, **error.to_log_context()
            )
        for item in outcomes.to_read_back:
            if agrees(sent.get(item.retailer_id), found.get(item.retailer_id), item.method):
                outcomes.accepted.append(item)
            elif batch.sent == 1 and found.get(item.retailer_id) is None:
                outcomes.rejected.append(item)
                outcomes.messages[item.variant_id] = (
                    "Meta says that a required field is missing, and the item is not in the catalog."
                )
            else:
                outcomes.unknown.append(item)
        outcomes.to_read_back.clear()


def _rejected(items: Sequence[BatchItem]) -> int:
    return sum(item.outcome == "rejected" for item in items)


def _unsettled(items: Sequence[BatchItem]) -> int:
    return sum(item.outcome is None for item in items)
