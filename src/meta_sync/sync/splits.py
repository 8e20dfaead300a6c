"""The rows of splits: opening one, taking its next part, writing what an answer means, ending it. Talks to nobody.

What is decided stands in ``splitting``. Every function works in the caller's transaction and locks the link's splits
before it changes one, so that two workers never decide from the same rows; doing a thing twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.core.logging import get_logger
from meta_sync.sync.models import OpenBatch
from meta_sync.sync.outbox import mark_due
from meta_sync.sync.pauses import failures_in_a_row, record_pause
from meta_sync.sync.reactions import Pause, PauseReason, retry_delay
from meta_sync.sync.split_statements import (
    BEGIN_SEARCH,
    COUNT_CALL,
    COUNT_ITEMS,
    END,
    END_OF_STORE,
    FREE,
    FREE_OF_STORE,
    FREE_PART,
    HALVE,
    HOLD_ITEMS,
    LOCK,
    LOCK_OF_STORE,
    NEW_PART,
    OPEN,
    OTHERS_UNDER_WAY,
    PROVE,
    SET_STATE,
    SPLITS,
    STOP_WAITING,
    UNCOUNT_CALL,
    UNDOUBT,
)
from meta_sync.sync.splitting import (
    FRUITLESS_CALLS,
    WHOLE_LEVEL,
    End,
    OtherWorkFirst,
    Over,
    Part,
    PartState,
    Refusal,
    Send,
    Split,
    SplitKind,
    SplitWork,
    Step,
    after_pass,
    after_refusal,
    halves,
    judge,
)

__all__ = [
    "OutageWait",
    "Refusal",
    "Search",
    "SplitWork",
    "begin_call",
    "begin_search",
    "count_call",
    "count_resend",
    "end_splits_of_store",
    "keep_together",
    "look",
    "no_verdict",
    "nothing_else_to_try",
    "part_passed",
    "refused",
    "search_of",
    "taken",
]

_logger = get_logger(__name__)

_REFUSED_FOR = timedelta(minutes=15)
"""A store whose every call is refused tries again four times an hour: somebody may have put it right."""

_NOW = text("SELECT clock_timestamp()")


@dataclass(frozen=True, slots=True)
class OutageWait:
    """What the length of a pause for an unreachable Meta depends on; see ``reactions.retry_delay``."""

    jitter: float = 0.0
    retry_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Search:
    """A split as its rows say it."""

    store_id: str
    link_id: int
    split: Split
    is_current: bool
    """The link is the active one in the same epoch, and the split is not too old."""
    error_code: str | None
    error_text: str | None


async def _load(connection: AsyncConnection, store_id: str, link_id: int) -> list[Search]:
    rows = (await connection.execute(SPLITS, {"link_id": link_id})).all()
    parts: dict[int, list[Part]] = {}
    for row in rows:
        part_id, parent_id, level, items, state = row[8:]
        parts.setdefault(row[0], []).append(Part(part_id, parent_id, level, items, PartState(state)))
    searches: dict[int, Search] = {}
    for split_id, kind, state, calls, has_proof, code, message, is_current, *_ in rows:
        split = Split(split_id, SplitKind(kind), state == "open", calls, has_proof, tuple(parts[split_id]))
        searches[split_id] = Search(store_id, link_id, split, is_current, code, message)
    return list(searches.values())


async def _lock(connection: AsyncConnection, store_id: str, link_id: int) -> list[Search]:
    """The link's splits, ours alone until the transaction ends; those of an older epoch or too old are ended."""
    if not (await connection.execute(LOCK, {"link_id": link_id})).all():
        return []
    current = []
    for search in await _load(connection, store_id, link_id):
        if search.is_current:
            current.append(search)
        else:
            await _end(connection, search)
    return current


def _of_part(searches: Sequence[Search], part_id: int | None) -> Search | None:
    return next((one for one in searches if any(part.part_id == part_id for part in one.split.parts)), None)


# --- The drain -----------------------------------------------------------------------------------------------------


async def look(connection: AsyncConnection, store_id: str, link_id: int, wait: OutageWait) -> SplitWork:
    """What the link's splits want next. Splits that are over by what their rows say are ended on the way."""
    searches = await _load(connection, store_id, link_id)
    if not searches:
        return SplitWork()
    if any(not one.is_current or isinstance(judge(one.split), Over) for one in searches):
        await _lock(connection, store_id, link_id)
        await _conclude(connection, store_id, link_id, wait)
        searches = await _load(connection, store_id, link_id)
    judgements = [judge(one.split) for one in searches]
    return SplitWork(
        next((one.part for one in judgements if isinstance(one, Send)), None),
        waits_for_others=any(isinstance(one, OtherWorkFirst) for one in judgements),
        holds_items=bool(searches),
    )


async def begin_call(connection: AsyncConnection, store_id: str, link_id: int, part_id: int) -> bool:
    """Whether the part is still the one to send. Locks the link's splits."""
    search = _of_part(await _lock(connection, store_id, link_id), part_id)
    if search is None:
        return False
    following = judge(search.split)
    return isinstance(following, Send) and following.part.part_id == part_id


async def count_call(connection: AsyncConnection, part_id: int) -> None:
    """The part's call is about to be committed; counted before it is made, so that a crash forgets none."""
    await connection.execute(COUNT_CALL, {"part_id": part_id})
    await connection.execute(SET_STATE, {"part_id": part_id, "state": PartState.SENT})


async def count_resend(connection: AsyncConnection, part_id: int) -> None:
    """The part's bytes are about to be sent again."""
    await connection.execute(COUNT_CALL, {"part_id": part_id})


async def part_passed(
    connection: AsyncConnection, store_id: str, link_id: int, part_id: int, wait: OutageWait
) -> None:
    """Nothing of the part is left to send: its items were settled without a call, or are gone."""
    search = _of_part(await _lock(connection, store_id, link_id), part_id)
    if search is None or search.split.part(part_id).state is not PartState.WAITING:
        return
    await _apply(connection, search, after_pass(search.split, part_id))
    await _conclude(connection, store_id, link_id, wait)


async def nothing_else_to_try(
    connection: AsyncConnection, store_id: str, link_id: int, wait: OutageWait
) -> bool:
    """There is no other work to try first: begin without it, or pause the store. ``False``: some is still under way."""
    if await connection.scalar(OTHERS_UNDER_WAY, {"link_id": link_id}):
        return False
    waiting = [
        one
        for one in await _lock(connection, store_id, link_id)
        if isinstance(judge(one.split), OtherWorkFirst)
    ]
    doubted = [one for one in waiting if any(part.state is PartState.DOUBTED for part in one.split.parts)]
    if doubted:
        await _blame_the_store(connection, doubted[0], wait)
    for search in waiting:
        if search in doubted:
            await _end(connection, search)
        else:
            await connection.execute(STOP_WAITING, {"split_id": search.split.split_id})
    return bool(waiting)


# --- What came of a call -------------------------------------------------------------------------------------------


async def search_of(connection: AsyncConnection, batch: OpenBatch) -> Search | None:
    """The split that the batch carries a part of, locked; ``None`` outside a split, and when it is over."""
    if batch.split_part is None:
        return None
    return _of_part(await _lock(connection, batch.store_id, batch.link_id), batch.split_part)


async def no_verdict(connection: AsyncConnection, batch: OpenBatch) -> None:
    """The call says nothing about its content, or was not made: it does not count. To be said before the call ends."""
    if batch.split_part is not None:
        said = {"batch_id": batch.batch_id, "call_number": batch.call_number, "part_id": batch.split_part}
        await connection.execute(UNCOUNT_CALL, said)


async def taken(connection: AsyncConnection, batch: OpenBatch, wait: OutageWait) -> None:
    """Meta took the call: the proof that not every call is refused, and the innocence of its part."""
    searches = await _lock(connection, batch.store_id, batch.link_id)
    if not searches:
        return
    said = {"link_id": batch.link_id, "batch_id": batch.batch_id, "call_number": batch.call_number}
    proved = (await connection.execute(PROVE, said)).scalars().all()
    await connection.execute(UNDOUBT, {"split_ids": list(proved)})
    search = _of_part(searches, batch.split_part)
    if search is not None and batch.split_part is not None:
        await _apply(connection, search, after_pass(search.split, batch.split_part))
    await _conclude(connection, batch.store_id, batch.link_id, wait)


async def refused(
    connection: AsyncConnection,
    batch: OpenBatch,
    refusal: Refusal,
    search: Search | None,
    *,
    is_verdict: bool,
    wait: OutageWait,
) -> None:
    """Meta refused the whole call and its items are free again: open a split, or go on with the one it belongs to.

    ``is_verdict``: its only item has been given Meta's verdict.
    """
    if search is not None and not search.split.is_whole and batch.split_part is not None:
        step = after_refusal(search.split, batch.split_part, sent=batch.count, is_verdict=is_verdict)
        await _apply(connection, search, step)
    else:
        if search is not None:
            await _end(connection, search)
        if is_verdict:
            return
        await connection.execute(LOCK, {"link_id": batch.link_id})
        split_id = await _open(connection, batch.batch_id, refusal.kind, 1, refusal)
        if split_id is not None:
            await _halve_whole(connection, split_id, batch)
    await _conclude(connection, batch.store_id, batch.link_id, wait)


# --- Batches without an answer -------------------------------------------------------------------------------------


async def keep_together(connection: AsyncConnection, batch: OpenBatch) -> Search | None:
    """Hold the items of a batch together that ended in server errors; ``None`` when its link is not in use any more.

    Sent with others they would hold up new items each time, and nobody could tell which content it is that fails.
    """
    await connection.execute(LOCK, {"link_id": batch.link_id})
    split_id = await _open(connection, batch.batch_id, SplitKind.SUSPECT, 0, None)
    if split_id is None:
        return None
    part_id = await _new_part(connection, split_id, None, WHOLE_LEVEL, items=batch.count)
    await _hold(connection, batch, part_id)
    return _of_part(await _load(connection, batch.store_id, batch.link_id), part_id)


async def begin_search(
    connection: AsyncConnection, search: Search, code: str | None, message: str | None
) -> None:
    """The items that were kept together are suspect: halve them, once other work was tried."""
    said = {"split_id": search.split.split_id, "code": code, "message": message}
    await connection.execute(BEGIN_SEARCH, said)
    whole = search.split.parts[0]
    await connection.execute(SET_STATE, {"part_id": whole.part_id, "state": PartState.REFUSED})
    await _halve(connection, search.split.split_id, whole.part_id, whole.level)
    await mark_due(connection, search.store_id)


async def end_splits_of_store(connection: AsyncConnection, store_id: str) -> None:
    """End every split of the store: it uses another catalog, or the same one as if it were new."""
    await connection.execute(LOCK_OF_STORE, {"store_id": store_id})
    await connection.execute(FREE_OF_STORE, {"store_id": store_id})
    await connection.execute(END_OF_STORE, {"store_id": store_id})


# --- The rows ------------------------------------------------------------------------------------------------------


async def _open(
    connection: AsyncConnection, batch_id: int, kind: SplitKind, calls: int, refusal: Refusal | None
) -> int | None:
    split_id: int | None = await connection.scalar(
        OPEN,
        {
            "batch_id": batch_id,
            "kind": kind,
            "calls": calls,
            "code": None if refusal is None else refusal.code,
            "message": None if refusal is None else refusal.message or None,
        },
    )
    return split_id


async def _new_part(
    connection: AsyncConnection,
    split_id: int,
    parent_id: int | None,
    level: int,
    *,
    items: int,
    state: PartState = PartState.WAITING,
) -> int:
    part = {"split_id": split_id, "parent_id": parent_id, "level": level, "items": items, "state": state}
    return int((await connection.execute(NEW_PART, part)).scalar_one())


async def _hold(connection: AsyncConnection, batch: OpenBatch, part_id: int) -> int:
    """Put the items of a batch that is over into a part; how many there were."""
    said = {"batch_id": batch.batch_id, "link_id": batch.link_id, "part_id": part_id}
    return (await connection.execute(HOLD_ITEMS, said)).rowcount


async def _halve_whole(connection: AsyncConnection, split_id: int, batch: OpenBatch) -> None:
    part_id = await _new_part(
        connection, split_id, None, WHOLE_LEVEL, items=batch.count, state=PartState.REFUSED
    )
    held = await _hold(connection, batch, part_id)
    state = PartState.DOUBTED if held == 1 else PartState.WAITING
    await _halve(connection, split_id, part_id, WHOLE_LEVEL, state=state)


async def _halve(
    connection: AsyncConnection,
    split_id: int,
    part_id: int,
    level: int,
    *,
    state: PartState = PartState.WAITING,
) -> None:
    """Divide the items that the part has by now, in the order of their ids."""
    count = int(await connection.scalar(COUNT_ITEMS, {"part_id": part_id}) or 0)
    if count == 0:
        await connection.execute(SET_STATE, {"part_id": part_id, "state": PartState.PASSED})
        return
    first, second = halves(count)
    first_id = await _new_part(connection, split_id, part_id, level + 1, items=first, state=state)
    second_id = None
    if second:
        second_id = await _new_part(connection, split_id, part_id, level + 1, items=second, state=state)
    await connection.execute(
        HALVE, {"part_id": part_id, "first_items": first, "first_id": first_id, "second_id": second_id}
    )


async def _apply(connection: AsyncConnection, search: Search, step: Step) -> None:
    for part_id, state in step.states.items():
        await connection.execute(SET_STATE, {"part_id": part_id, "state": state})
        if state is PartState.PASSED:
            await connection.execute(FREE_PART, {"part_id": part_id})
    for part_id in step.to_halve:
        await _halve(connection, search.split.split_id, part_id, search.split.part(part_id).level)


async def _conclude(connection: AsyncConnection, store_id: str, link_id: int, wait: OutageWait) -> None:
    """End what is over, and blame the store where nothing else is left to blame."""
    searches = await _load(connection, store_id, link_id)
    fruitless = [
        one
        for one in searches
        if not (one.split.has_proof or one.split.is_whole or one.split.kind is SplitKind.SUSPECT)
    ]
    are_too_many = len(fruitless) > 1 and sum(one.split.calls for one in fruitless) >= FRUITLESS_CALLS
    for search in searches:
        judgement = judge(search.split)
        if judgement == Over(End.STORE) or (are_too_many and search in fruitless):
            # Of what else was begun while nothing was taken, nothing is known either.
            await _blame_the_store(connection, search, wait)
            for one in [search, *fruitless]:
                await _end(connection, one)
            break
        if isinstance(judgement, Over):
            await _end(connection, search)
    await mark_due(connection, store_id)


async def _end(connection: AsyncConnection, search: Search) -> None:
    split = search.split
    limit = None
    if split.kind is SplitKind.TOO_LARGE and not split.has_proof:
        # Even the smallest part was too large: what goes next is smaller still.
        refused = [part.items for part in split.parts if part.state is PartState.REFUSED and part.items]
        limit = max(1, min(refused) // 2) if refused else None
    ended = {"split_id": split.split_id, "batch_limit": limit}
    await connection.execute(FREE, ended)
    await connection.execute(END, ended)
    await mark_due(connection, search.store_id)


async def _blame_the_store(connection: AsyncConnection, search: Search, wait: OutageWait) -> None:
    """Pause the store: what Meta says is no item's fault."""
    now: datetime = (await connection.execute(_NOW)).scalar_one()
    reason, until = PauseReason.BLOCKED_BY_META, now + _REFUSED_FOR
    if search.split.kind is SplitKind.SUSPECT:
        reason = PauseReason.META_UNREACHABLE
        failures = await failures_in_a_row(connection, search.store_id, 0, reason)
        until = now + retry_delay(failures, wait.jitter, wait.retry_factor)
    await record_pause(
        connection, search.store_id, 0, Pause(reason, until, search.error_code, search.error_text)
    )
    _logger.warning(
        "Meta refuses every part of a batch; the store is paused.",
        store_id=search.store_id,
        split_id=search.split.split_id,
        kind=search.split.kind,
        calls=search.split.calls,
    )
