"""Records what came of a call: taken, refused, or unknown. A handle is a fact, stored whoever holds the lease."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.connection.repository import mark_dead
from meta_sync.core.db import Database, retry_transaction
from meta_sync.core.failpoints import failpoint
from meta_sync.core.logging import get_logger
from meta_sync.core.outages import is_contention, is_outage
from meta_sync.graph.errors import GraphError
from meta_sync.graph.governor import Purpose, after_answer
from meta_sync.graph.outcomes import NothingTaken, Refused, SubmitResult, Taken, TooLarge, Unknown
from meta_sync.graph.usage import Usage
from meta_sync.graph.wire import ItemMessages
from meta_sync.sync import splits
from meta_sync.sync.budget import load_budget, save_budget
from meta_sync.sync.codes_pipeline import FailureCode
from meta_sync.sync.context import Access, StoreContext
from meta_sync.sync.models import BatchItem, Method, OpenBatch
from meta_sync.sync.outbox import mark_due
from meta_sync.sync.outcome import immediate_refusals
from meta_sync.sync.pauses import PauseReason, clear_pause, failures_in_a_row, record_pause
from meta_sync.sync.reactions import pause_for, reaction_to
from meta_sync.sync.record_statements import (
    BACK_TO_UNKNOWN,
    BLAMED,
    CALL_REFUSED,
    CALL_TAKEN,
    CALL_UNKNOWN,
    CALL_UNKNOWN_LATE,
    CALLS,
    CREATED_ON,
    CREDENTIAL_IN_USE,
    DROP_CALL,
    ITEMS,
    NOW,
    SERVER_ERROR,
    TAKEN,
    UNKNOWN,
)
from meta_sync.sync.settle import (
    follow_late_handle,
    note_refused,
    refusal_code,
    release_refused,
    settle_refused_at_once,
    try_blamed_again,
)
from meta_sync.sync.splits import OutageWait, Refusal, Search
from meta_sync.sync.splitting import SplitKind

__all__ = ["CallRecorder", "answer_facts", "batch_items", "cleared_fields"]

_logger = get_logger(__name__)

_HANDLE_SECONDS = 1800.0
"""How long a handle is kept for a database that is away; a worker that is stopped meanwhile loses it, as in a crash."""
_HANDLE_PAUSE_SECONDS = 5.0


class _Timing(Protocol):
    @property
    def first_poll_seconds(self) -> float: ...
    @property
    def unknown_hold_seconds(self) -> float: ...
    @property
    def resend_seconds(self) -> float: ...
    @property
    def retry_factor(self) -> float: ...


async def batch_items(
    connection: AsyncConnection, batch_id: int
) -> tuple[list[BatchItem], dict[str, Sequence[str]]]:
    """The attempts of a batch, and the fields that each sent empty."""
    rows = (await connection.execute(ITEMS, {"batch_id": batch_id})).all()
    items = [BatchItem(row[0], row[1], Method(row[2]), row[3]) for row in rows]
    return items, {row[0]: row[4] for row in rows if row[4]}


def cleared_fields(
    items: Sequence[BatchItem], messages: Mapping[str, str], cleared: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """The code of each refusal."""
    by_id = {item.variant_id: item for item in items}
    return {one: refusal_code(by_id[one], message, cleared) for one, message in messages.items()}


async def answer_facts(
    connection: AsyncConnection,
    access: Access,
    usage: Usage,
    error: GraphError | None,
    *,
    purpose: Purpose,
    now: datetime,
    jitter: float,
    retry_factor: float,
    pause_scope_link: bool,
) -> None:
    """Store what an answer says of the budget, the token and the store, apart from any batch."""
    link = access.link
    before = await load_budget(connection, link.link_id, with_calls=False)
    await save_budget(
        connection, link.link_id, before, after_answer(before, now, usage, error, purpose=purpose)
    )
    scope = link.link_id if pause_scope_link else 0
    if error is None:
        ended = await clear_pause(connection, link.store_id, scope, PauseReason.META_UNREACHABLE)
        if pause_scope_link:
            # A question was refused before, for a permission or a catalog out of reach, and is answered now.
            ended |= await clear_pause(connection, link.store_id, scope, PauseReason.NEEDS_RECONNECT)
        if ended:
            await mark_due(connection, link.store_id)
        return
    reaction = reaction_to(error)
    if reaction.token_is_dead:
        await mark_dead(connection, access.credential_id, error.code, error.subcode, error.message)
    if reaction.pause is None:
        return
    failures = await failures_in_a_row(connection, link.store_id, scope, reaction.pause)
    pause = pause_for(error, now, failures=failures, jitter=jitter, factor=retry_factor)
    assert pause is not None
    if pause.reason is PauseReason.NEEDS_RECONNECT:
        # Locked, so that a token that is being replaced either ends this pause or is seen here.
        in_use = await connection.scalar(CREDENTIAL_IN_USE, {"link_id": link.link_id})
        if in_use != access.credential_id:
            return
    await record_pause(connection, link.store_id, scope, pause)


class CallRecorder:
    """Writes the outcome of calls, each in one transaction."""

    def __init__(self, database: Database, *, timing: _Timing, jitter: Callable[[], float]) -> None:
        self._database = database
        self._timing = timing
        self._jitter = jitter

    async def not_called(self, batch: OpenBatch) -> None:
        """The call was not made after all (a pause, a lost lease): give everything back."""
        await retry_transaction(lambda: self._not_called(batch))

    async def _not_called(self, batch: OpenBatch) -> None:
        async with self._database.platform() as connection:
            await splits.no_verdict(connection, batch)
            if not await self._is_only_call(connection, batch):
                said = {"batch_id": batch.batch_id, "call_number": batch.call_number}
                await connection.execute(DROP_CALL, said)
                await self._back_to_unknown(connection, batch, not_made=1)
                return
            await self._call_refused(connection, batch, None, None)
            await release_refused(connection, batch.batch_id, code=None, message=None)

    async def record(self, context: StoreContext, batch: OpenBatch, result: SubmitResult) -> None:
        """Store the outcome of the call and what the answer says of budget, token and store.

        A handle that nobody stores is a batch that nobody can follow, and that may end over newer content: it is kept
        here until the database is there again. Any other outcome may get lost, for the call then counts as unknown.
        """
        loop = asyncio.get_running_loop()
        until, failures = loop.time() + _HANDLE_SECONDS, 0
        while True:
            try:
                await retry_transaction(lambda: self._record(context, batch, result))
                break
            except Exception as error:
                may_pass = is_outage(error) or is_contention(error)
                if not isinstance(result, Taken) or not may_pass or loop.time() > until:
                    raise
                failures += 1
                if failures & (failures - 1) == 0:
                    _logger.warning(
                        "A handle cannot be stored; it is kept until the database is there again.",
                        store_id=batch.store_id,
                        batch_id=batch.batch_id,
                        reason=type(error).__name__,
                        failures=failures,
                    )
            await asyncio.sleep(min(_HANDLE_PAUSE_SECONDS, 0.5 * failures))
        await failpoint("outcome.after_commit")

    async def _record(self, context: StoreContext, batch: OpenBatch, result: SubmitResult) -> None:
        async with self._database.platform() as connection:
            search = await splits.search_of(connection, batch)
            if not _is_expected(search, result):
                await answer_facts(
                    connection,
                    context.access,
                    result.usage,
                    _error_of_the_store(result),
                    purpose="call",
                    now=await connection.scalar(NOW),
                    jitter=self._jitter(),
                    retry_factor=self._timing.retry_factor,
                    pause_scope_link=False,
                )
            await self._outcome(connection, batch, search, result)
            await failpoint("outcome.before_commit")

    async def _outcome(
        self, connection: AsyncConnection, batch: OpenBatch, search: Search | None, result: SubmitResult
    ) -> None:
        match result:
            case Taken():
                await self._taken(connection, batch, result.handle, result.messages)
            case NothingTaken():
                await self._nothing_taken(connection, batch, search, result.messages)
            case Unknown(error=error):
                await self._unknown(connection, batch, search, error)
            case TooLarge(error=error):
                await self._whole_refused(connection, batch, search, _refusal(SplitKind.TOO_LARGE, error))
            case Refused(error=error) if reaction_to(error).split:
                await self._whole_refused(connection, batch, search, _refusal(SplitKind.BAD_PARAMETER, error))
            case Refused(error=error):
                await self._refused(connection, batch, error)

    async def _taken(
        self, connection: AsyncConnection, batch: OpenBatch, handle: str, messages: Mapping[str, ItemMessages]
    ) -> None:
        said = {"batch_id": batch.batch_id, "call_number": batch.call_number, "handle": handle}
        await connection.execute(CALL_TAKEN, said)
        row = (
            await connection.execute(TAKEN, {**said, "first_poll_seconds": self._timing.first_poll_seconds})
        ).one_or_none()
        if row is None:
            # Another call of the batch has brought a handle before: the poll follows both. Or the batch is over.
            first = self._timing.first_poll_seconds
            is_late = await follow_late_handle(connection, batch.batch_id, handle, first_poll_seconds=first)
            _logger.warning("A further handle came back for a batch.", **said, is_over=is_late)
            # What this answer refuses, its report will be silent about: silence must not confirm it.
            created_on = await connection.scalar(CREATED_ON, {"batch_id": batch.batch_id})
            await self._refuse_named(connection, batch, (None, None, created_on), messages)
            return
        await splits.taken(connection, batch, self._outage_wait())
        await self._refuse_named(connection, batch, row, messages)

    async def _refuse_named(
        self,
        connection: AsyncConnection,
        batch: OpenBatch,
        row: Any,
        messages: Mapping[str, ItemMessages],
        code: FailureCode | None = None,
    ) -> int:
        """Refuse the items that are named; ``code``: whatever is said of them."""
        if not any(one.errors for one in messages.values()):
            return 0
        items, cleared = await batch_items(connection, batch.batch_id)
        # Of a batch that is over by now, each item has its outcome.
        refused = immediate_refusals([item for item in items if item.outcome is None], messages)
        if refused:
            identity = {
                "batch_id": batch.batch_id,
                "store_id": batch.store_id,
                "link_id": batch.link_id,
                "created_on": row[2],
            }
            codes = cleared_fields(items, refused, cleared)
            if code is not None:
                codes = dict.fromkeys(codes, code)
            is_only = await self._is_only_call(connection, batch)
            settle = settle_refused_at_once if is_only else note_refused
            await settle(connection, identity, refused, codes)
        return len(refused)

    async def _nothing_taken(
        self,
        connection: AsyncConnection,
        batch: OpenBatch,
        search: Search | None,
        messages: Mapping[str, ItemMessages],
    ) -> None:
        if await self._is_only_call(connection, batch):
            row = (await connection.execute(CREATED_ON, {"batch_id": batch.batch_id})).one()
            rejected = await self._refuse_named(connection, batch, (None, None, row[0]), messages)
            if rejected:
                code = FailureCode.NOTHING_TAKEN
                await release_refused(
                    connection, batch.batch_id, code=code, message=None, already_rejected=rejected
                )
                return
        # Nobody was named: the same call would be refused for ever.
        await self._whole_refused(connection, batch, search, _NOTHING_TAKEN)

    async def _unknown(
        self, connection: AsyncConnection, batch: OpenBatch, search: Search | None, error: GraphError
    ) -> None:
        is_server_error = (error.http_status or 0) >= _FIRST_SERVER_STATUS or error.code in _SERVER_CODES
        is_suspect = search is not None and search.split.kind is SplitKind.SUSPECT
        if not (is_suspect and is_server_error):
            await splits.no_verdict(connection, batch)
        said = {
            "batch_id": batch.batch_id,
            "call_number": batch.call_number,
            "code": None if error.code is None else str(error.code),
            "message": error.message,
        }
        ended = await connection.execute(CALL_UNKNOWN, {**said, "is_server_error": is_server_error})
        if ended.rowcount == 0:
            await self._unknown_late(connection, said)
            return
        if is_server_error:
            await connection.execute(SERVER_ERROR, said)
        hold_seconds = self._timing.unknown_hold_seconds
        resend_seconds = hold_seconds if is_suspect else self._timing.resend_seconds
        await connection.execute(
            UNKNOWN, {**said, "hold_seconds": hold_seconds, "resend_seconds": resend_seconds}
        )

    async def _unknown_late(self, connection: AsyncConnection, said: dict[str, Any]) -> None:
        """A call that was found without an answer ends only now: the process stood still, and it may just have gone out."""
        hold_seconds = self._timing.unknown_hold_seconds
        await connection.execute(CALL_UNKNOWN_LATE, said)
        if await follow_late_handle(connection, said["batch_id"], None, first_poll_seconds=hold_seconds):
            # The batch is over. It ends once more with the hold, as one does that was given up.
            _logger.warning("A call ended long after its deadline; its items are sent again.", **said)
            return
        await connection.execute(UNKNOWN, {**said, "hold_seconds": hold_seconds, "resend_seconds": 0})

    async def _whole_refused(
        self, connection: AsyncConnection, batch: OpenBatch, search: Search | None, refusal: Refusal
    ) -> None:
        """Meta refused the content of the whole call: the guilty part of it is looked for."""
        if await self._came_too_late(connection, batch):
            # Its items went on without it, in other batches, whose answers say what is true of them now.
            await self._call_refused(connection, batch, refusal.code, refusal.message)
            return
        if not await self._is_only_call(connection, batch):
            await self._call_failed(connection, batch, refusal.code, refusal.message, is_final=True)
            return
        await self._call_refused(connection, batch, refusal.code, refusal.message)
        # One item alone is to blame for its size, and for anything else when other calls are taken.
        is_proved = refusal.kind is SplitKind.TOO_LARGE or (search is not None and search.split.has_proof)
        is_doubtful = refusal.kind is SplitKind.NOTHING_TAKEN
        blamed = None
        if batch.count == 1:
            blamed = await connection.scalar(BLAMED, {"batch_id": batch.batch_id})
        if blamed is not None and not is_proved:
            # The same content was found guilty before, and is only tried again.
            is_proved = is_doubtful = True
        is_verdict = batch.count == 1 and is_proved
        rejected, items = 0, list[BatchItem]()
        if is_verdict:
            row = (await connection.execute(CREATED_ON, {"batch_id": batch.batch_id})).one()
            items, _ = await batch_items(connection, batch.batch_id)
            one = {items[0].retailer_id: ItemMessages(errors=(refusal.message,))}
            rejected = await self._refuse_named(
                connection, batch, (None, None, row[0]), one, _BLAMED_AS.get(refusal.kind)
            )
        await release_refused(
            connection, batch.batch_id, code=refusal.code, message=refusal.message, already_rejected=rejected
        )
        if is_verdict and is_doubtful:
            await try_blamed_again(connection, batch.link_id, items[0].variant_id, times=blamed or 0)
        await splits.refused(
            connection, batch, refusal, search, is_verdict=is_verdict, wait=self._outage_wait()
        )

    def _outage_wait(self) -> OutageWait:
        return OutageWait(self._jitter(), self._timing.retry_factor)

    async def _refused(self, connection: AsyncConnection, batch: OpenBatch, error: GraphError) -> None:
        code = None if error.code is None else str(error.code)
        await splits.no_verdict(connection, batch)
        if not await self._is_only_call(connection, batch):
            await self._call_failed(connection, batch, code, error.message)
            return
        await self._call_refused(connection, batch, code, error.message)
        await release_refused(connection, batch.batch_id, code=code, message=error.message)

    async def _is_only_call(self, connection: AsyncConnection, batch: OpenBatch) -> bool:
        """Whether no other call of the batch was ever begun. Locks the batch, so that none begins now."""
        calls, _ = (await connection.execute(CALLS, {"batch_id": batch.batch_id})).one()
        return batch.call_number == 1 and calls == 1

    async def _came_too_late(self, connection: AsyncConnection, batch: OpenBatch) -> bool:
        """Whether nobody waited for the answer any more. Locks the batch."""
        _, state = (await connection.execute(CALLS, {"batch_id": batch.batch_id})).one()
        return state in {"over", "given_up"}

    async def _call_refused(
        self, connection: AsyncConnection, batch: OpenBatch, code: str | None, message: str | None
    ) -> None:
        said = {"batch_id": batch.batch_id, "call_number": batch.call_number}
        await connection.execute(CALL_REFUSED, {**said, "code": code, "message": message or None})

    async def _call_failed(
        self,
        connection: AsyncConnection,
        batch: OpenBatch,
        code: str | None,
        message: str | None,
        *,
        is_final: bool = False,
    ) -> None:
        """One of several calls of a batch was refused: the others still decide when the items are free.

        ``is_final``: for its content, so that sending it again is of no use.
        """
        await self._call_refused(connection, batch, code, message)
        await self._back_to_unknown(connection, batch, not_made=0, is_final=is_final)

    async def _back_to_unknown(
        self, connection: AsyncConnection, batch: OpenBatch, *, not_made: int, is_final: bool = False
    ) -> None:
        said = {"batch_id": batch.batch_id, "call_number": batch.call_number, "not_made": not_made}
        await connection.execute(
            BACK_TO_UNKNOWN,
            {**said, "is_final": is_final, "resend_seconds": self._timing.resend_seconds},
        )


def _is_expected(search: Search | None, result: SubmitResult) -> bool:
    """Whether the answer is what a suspect part is asked for: it says nothing new of Meta, and must not pause the store."""
    return (
        search is not None
        and search.split.kind is SplitKind.SUSPECT
        and not search.split.is_whole
        and isinstance(result, Unknown)
    )


def _error_of_the_store(result: SubmitResult) -> GraphError | None:
    """The failure that concerns the store. Where parts of the call may pass, that is for the split to find out."""
    if isinstance(result, Taken | NothingTaken) or reaction_to(result.error).split:
        return None
    return result.error


def _refusal(kind: SplitKind, error: GraphError) -> Refusal:
    return Refusal(kind, None if error.code is None else str(error.code), error.message)


_NOTHING_TAKEN = Refusal(SplitKind.NOTHING_TAKEN, FailureCode.NOTHING_TAKEN, "")
_BLAMED_AS: dict[SplitKind, FailureCode] = {
    SplitKind.TOO_LARGE: FailureCode.TOO_LARGE,
    SplitKind.NOTHING_TAKEN: FailureCode.NOTHING_TAKEN,
}
"""What an item is told that was found guilty by halving; where Meta refused a parameter, its words say what is wrong."""

_FIRST_SERVER_STATUS = 500
_SERVER_CODES = frozenset({1, 2})
