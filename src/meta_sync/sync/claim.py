"""The claim: one short transaction that writes the attempt before the call is made.

What was decided from a snapshot is applied only to rows that did not move since; the others stay for the next round.
Nothing here talks to Meta.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.core.logging import get_logger
from meta_sync.graph.endpoints.catalog import build_batch_body
from meta_sync.sync.bulk import expect_bulk
from meta_sync.sync.claim_sets import FieldSets
from meta_sync.sync.claim_statements import (
    DELETE_INTENTS,
    DROP_STATES,
    GRACE_BEGINS,
    GRACE_ENDS,
    GUARD,
    IDS_TAKEN,
    INSERT_BATCH,
    INSERT_CALL,
    LOCK_IN_FLIGHT,
    LOCK_INTENTS,
    NEW_STATES,
    NEW_STATES_READ,
    NEXT_BATCH_ID,
    PARK,
    SETTLE_WITHOUT_CALL,
    SKIP_EVENTS,
    TAKE_IN_FLIGHT,
)
from meta_sync.sync.codes_pipeline import FailureCode
from meta_sync.sync.context import StoreContext
from meta_sync.sync.decide import KEPT_CODES, KeptCode, decide, known_may_hold, known_presence
from meta_sync.sync.guard import NOT_GUARDED, kinds_of
from meta_sync.sync.guard_claim import Pending, hold_back, park_held, sums
from meta_sync.sync.lease import Lease
from meta_sync.sync.lease import holds as lease_holds
from meta_sync.sync.mapping import Mapper
from meta_sync.sync.models import GRACE_HASH, Attempt, Decision, DecisionKind, Link, OpenBatch, ReadyIntent
from meta_sync.sync.pauses import active_pauses
from meta_sync.sync.splits import begin_call, count_call
from meta_sync.sync.states import Event, next_status

__all__ = ["MAX_BODY_BYTES", "Plan", "apply_plan", "plan_turn"]

_logger = get_logger(__name__)

MAX_BODY_BYTES = 25_000_000
"""Meta's documented limit is 28 MB; the rest is room for what we do not count."""

_RECORD_OVERHEAD_BYTES = 32
"""Method, braces and commas around each record's data."""


@dataclass(slots=True)
class Plan:
    """What one turn wants to do, before any row is locked."""

    attempts: list[Attempt] = field(default_factory=list)
    settled: list[tuple[ReadyIntent, Decision]] = field(default_factory=list)
    """Decisions that need no call."""
    in_flight: list[ReadyIntent] = field(default_factory=list)
    left: int = 0
    """Intents that were read and wait for the next batch."""
    part_id: int | None = None
    """The part of a split that all of it belongs to."""
    pending: Pending = field(default_factory=Pending)
    """What the guard counts, among all that was read."""
    opened_hold: bool = False
    """A hold was opened when it was applied, and counting is to begin."""


def plan_turn(
    ready: Sequence[ReadyIntent],
    context: StoreContext,
    *,
    now: datetime,
    may_send: bool = True,
    limited_first: bool | None = None,
    part_id: int | None = None,
    is_all: bool = False,
) -> Plan:
    """Decide about every ready intent and fill one batch. Pure but for the log of a broken row.

    Parameters
    ----------
    limited_first
        Whether items that only go in small batches come before the others, or after them; ``None`` leaves the order.
        Turns alternate: an item that goes alone would wait for ever behind steady live work, and live work behind many
        such items.
    part_id
        Only items of this part of a split, all in one call; ``None``: only items that stand in none.
    is_all
        Nothing else is ready.
    """
    plan = Plan(part_id=part_id, pending=Pending(len(ready), is_all))
    ready = [intent for intent in ready if intent.state.split_part == part_id]
    if limited_first is not None:
        ready = sorted(ready, key=lambda one: (one.state.batch_limit is None) is limited_first)
    mapper = Mapper(context.mapping)
    link = context.link
    # The whole of a part has been in one call before.
    most, size = context.settings.batch_size if part_id is None else len(ready), 0
    frozen_ids = {intent.state.retailer_id for intent in ready} - {None}
    sent_ids: set[str | None] = set()
    for intent in ready:
        if intent.state.in_flight is not None:
            plan.in_flight.append(intent)
            continue
        decision = _decide_safely(intent, context, link, mapper, now)
        if decision.method is None:
            plan.settled.append((intent, decision))
            continue
        is_first_send = intent.state.retailer_id is None
        # The item that was sent under the id before keeps it, whoever is read first.
        if is_first_send and (decision.retailer_id in sent_ids or decision.retailer_id in frozen_ids):
            plan.settled.append((intent, _SAME_ID))
            continue
        guarded = (
            kinds_of(decision, intent.state, now=now) & ~intent.released_kinds if may_send else NOT_GUARDED
        )
        if guarded:
            plan.pending.add(guarded)
        cost = len(decision.payload) + _RECORD_OVERHEAD_BYTES
        limit = most if part_id is not None else min(most, intent.state.batch_limit or most)
        if not may_send or len(plan.attempts) >= limit or size + cost > MAX_BODY_BYTES:
            plan.left += 1
            continue
        most, size = limit, size + cost
        sent_ids.add(decision.retailer_id)
        plan.attempts.append(
            Attempt(
                intent,
                decision,
                known_presence(intent.state, link),
                known_may_hold(intent.state, link),
                guarded,
            )
        )
    return plan


def _decide_safely(
    intent: ReadyIntent, context: StoreContext, link: Link, mapper: Mapper, now: datetime
) -> Decision:
    try:
        return decide(intent.item, intent.state, link, mapper, now=now, is_job_only=intent.is_job_only)
    except Exception:
        _logger.exception(
            "An item could not be mapped.", store_id=context.store_id, variant_id=intent.variant_id
        )
        return Decision(DecisionKind.FAIL, FailureCode.MAPPING_FAILED)


_SAME_ID = Decision(DecisionKind.SKIP, FailureCode.ID_IN_USE)
"""Another variant goes out under the same id; two records of one id would overwrite each other at Meta."""

_EVENTS = {
    DecisionKind.NOOP: Event.NOOP,
    DecisionKind.SKIP: Event.SKIP,
    DecisionKind.DROP: Event.DROP,
    DecisionKind.FAIL: Event.BROKEN,
    DecisionKind.KEEP: Event.KEPT,
}


async def apply_plan(
    connection: AsyncConnection, context: StoreContext, lease: Lease, plan: Plan, *, deadline_seconds: float
) -> OpenBatch | None:
    """Write what the plan says, in the caller's transaction, as far as nothing moved since it was made.

    Returns the batch whose call may be made once the transaction is committed, or ``None`` when nothing is to be sent
    or the world changed under the plan (link, epochs, preview, pause, lease): then the next turn decides anew.
    """
    await expect_bulk(connection)
    if not await _still_holds(connection, context, lease):
        return None
    link_id = context.access.link.link_id
    if plan.part_id is not None and not await begin_call(connection, context.store_id, link_id, plan.part_id):
        return None
    await _leave_out_taken_ids(connection, context, plan)
    every = [attempt.intent for attempt in plan.attempts] + [one for one, _ in plan.settled] + plan.in_flight
    # Holds before intents.
    may_go, held, plan.opened_hold = await hold_back(connection, context, plan.attempts, plan.pending)
    locked = set(await connection.scalar(LOCK_INTENTS, {"row_ids": [one.row_id for one in every]}) or ())
    await _park(connection, context, [one for one in plan.in_flight if one.version in locked])
    settled = [(one, decision) for one, decision in plan.settled if one.version in locked]
    await _settle_without_call(connection, context, settled)
    done = [one for one, _ in settled]
    batch = None
    await park_held(connection, context, held, locked)
    attempts = [attempt for attempt in may_go if attempt.intent.version in locked]
    if attempts:
        attempts, batch = await _open_batch(connection, context, plan.part_id, attempts, deadline_seconds)
        done += [attempt.intent for attempt in attempts]
    if done:
        await connection.execute(DELETE_INTENTS, {"row_ids": [one.row_id for one in done]})
    return batch


async def _leave_out_taken_ids(connection: AsyncConnection, context: StoreContext, plan: Plan) -> None:
    """Skip first sends under an id that another item of the link was sent under before."""
    first = {one.decision.retailer_id for one in plan.attempts if one.intent.state.retailer_id is None}
    if not first:
        return
    identity = {"link_id": context.access.link.link_id, "retailer_ids": sorted(filter(None, first))}
    taken = set((await connection.execute(IDS_TAKEN, identity)).scalars())
    if not taken:
        return
    kept = []
    for one in plan.attempts:
        if one.intent.state.retailer_id is None and one.decision.retailer_id in taken:
            plan.settled.append((one.intent, _SAME_ID))
        else:
            kept.append(one)
    plan.attempts = kept


async def _still_holds(connection: AsyncConnection, context: StoreContext, lease: Lease) -> bool:
    link = context.access.link
    guard = await connection.scalar(
        GUARD,
        {
            "store_id": context.store_id,
            "link_id": link.link_id,
            "epoch": link.epoch,
            "mapping_epoch": context.mapping_epoch,
        },
    )
    if not guard or not await lease_holds(connection, lease, for_seconds=0):
        return False
    return not await active_pauses(connection, context.store_id, link.link_id)


async def _park(connection: AsyncConnection, context: StoreContext, waiting: list[ReadyIntent]) -> None:
    """Park intents under the batch that has their item. The state row is locked, so that its settle sees them."""
    if not waiting:
        return
    rows = (
        await connection.execute(
            LOCK_IN_FLIGHT,
            {
                "link_id": context.access.link.link_id,
                "variant_ids": sorted(one.variant_id for one in waiting),
            },
        )
    ).all()
    if rows:
        await connection.execute(
            PARK,
            {
                "store_id": context.store_id,
                "variant_ids": [row[0] for row in rows],
                "batch_ids": [row[1] for row in rows],
            },
        )


async def _settle_without_call(
    connection: AsyncConnection, context: StoreContext, settled: list[tuple[ReadyIntent, Decision]]
) -> None:
    link_id = context.access.link.link_id
    missing, events, dropped = [], [], []
    changes: list[tuple[str, str, str | None]] = []
    for intent, decision in sorted(settled, key=lambda pair: pair[0].variant_id):
        is_kept = decision.reason in KEPT_CODES
        if decision.kind is DecisionKind.KEEP and not is_kept and intent.state.code not in KEPT_CODES:
            continue
        # A row that holds nothing but a person's exclusion is kept: the variant may come back.
        if (
            decision.kind is DecisionKind.DROP
            and intent.state.retailer_id is None
            and not intent.state.is_excluded
        ):
            dropped.append(intent.variant_id)
            continue
        state = intent.state
        if decision.kind is DecisionKind.KEEP and not is_kept:
            # The reason for which it was left alone is gone, and it is as it is to be.
            changes.append((intent.variant_id, state.status.value, None))
            continue
        target = next_status(state.status, _EVENTS[decision.kind])
        # What a person discarded is forgotten once the store wants what Meta has.
        is_left = state.discarded_hash is not None and state.discarded_hash != state.confirmed_hash
        is_forgotten = is_left and decision.kind is DecisionKind.NOOP
        if (state.status, state.code) == (target, decision.reason) and not (state.attempts or is_forgotten):
            continue
        if intent.state_row_version is None:
            missing.append(intent.variant_id)
        changes.append((intent.variant_id, target.value, decision.reason))
        if decision.kind is not DecisionKind.NOOP and (state.status, state.code) != (target, decision.reason):
            events.append((intent.variant_id, decision.kind.value, decision.reason))
    identity = {"link_id": link_id, "store_id": context.store_id}
    if missing:
        await connection.execute(NEW_STATES, {**identity, "variant_ids": missing})
    if changes:
        ids, statuses, codes = (list(column) for column in zip(*changes, strict=True))
        await connection.execute(
            SETTLE_WITHOUT_CALL,
            {"link_id": link_id, "variant_ids": ids, "statuses": statuses, "codes": codes},
        )
    if events:
        ids, kinds, codes = (list(column) for column in zip(*events, strict=True))
        await connection.execute(
            SKIP_EVENTS, {**identity, "variant_ids": ids, "kinds": kinds, "codes": codes}
        )
    if dropped:
        await connection.execute(DROP_STATES, {"link_id": link_id, "variant_ids": dropped})
    # Whatever keeps an item for another reason than that it is to go ends its grace.
    spared = [one.variant_id for one, decision in settled if _is_spared(one, decision)]
    if spared:
        await connection.execute(GRACE_ENDS, {"link_id": link_id, "variant_ids": spared, "batch_id": None})


def _is_spared(intent: ReadyIntent, decision: Decision) -> bool:
    """Whether an item that was in its grace is not to go any more, or is gone."""
    if intent.state.grace_until is None or decision.kind is DecisionKind.FAIL:
        return False
    return decision.kind is not DecisionKind.KEEP or decision.reason is None


async def _open_batch(
    connection: AsyncConnection,
    context: StoreContext,
    part_id: int | None,
    attempts: list[Attempt],
    deadline_seconds: float,
) -> tuple[list[Attempt], OpenBatch | None]:
    """Take the items in flight and write attempts, batch and call. Items whose row moved are left out."""
    link = context.access.link
    batch_id: int = await connection.scalar(NEXT_BATCH_ID) or 0
    taken = await _take_in_flight(connection, context, attempts, batch_id)
    attempts = [attempt for attempt in attempts if attempt.intent.variant_id in taken]
    if not attempts:
        return [], None
    await _count_grace(connection, context, attempts, batch_id)
    # In the order of their ids: the same items make the same bytes, which tells a body that keeps failing.
    in_order = sorted(attempts, key=lambda one: one.intent.variant_id)
    body = build_batch_body((_method(one), one.decision.payload) for one in in_order)
    identity: dict[str, Any] = {
        "batch_id": batch_id,
        "store_id": context.store_id,
        "link_id": link.link_id,
    }
    await connection.execute(
        INSERT_BATCH,
        {
            **identity,
            "graph_host": link.graph_host,
            "catalog_id": link.catalog_id,
            "lane": min(one.intent.lane for one in attempts),
            "body": body,
            "body_bytes": len(body),
            "epoch": link.epoch,
            "mapping_epoch": context.mapping_epoch,
            "sent": len(attempts),
            "split_part": part_id,
            "deadline_seconds": deadline_seconds,
            **sums(attempts),
        },
    )
    await connection.execute(INSERT_CALL, {**identity, "deadline_seconds": deadline_seconds})
    if part_id is not None:
        await count_call(connection, part_id)
    return attempts, OpenBatch(
        batch_id, 1, context.store_id, link.link_id, link.catalog_id, body, len(attempts), part_id
    )


async def _count_grace(
    connection: AsyncConnection, context: StoreContext, attempts: list[Attempt], batch_id: int
) -> None:
    """Begin the grace of items that are shown as out of stock for it, and end that of those that are sent as they are."""
    begins, ends = [], []
    for one in attempts:
        is_grace = one.decision.payload_hash == GRACE_HASH
        if is_grace and one.intent.state.grace_until is None:
            begins.append(one.intent.variant_id)
        elif not is_grace and one.intent.state.grace_until and one.decision.kind is DecisionKind.UPSERT:
            ends.append(one.intent.variant_id)
    identity = {"link_id": context.access.link.link_id, "batch_id": batch_id}
    if begins:
        days = context.settings.delete_grace_days
        await connection.execute(GRACE_BEGINS, {**identity, "variant_ids": begins, "days": days})
        events = {"kinds": ["keep"] * len(begins), "codes": [KeptCode.DELETE_GRACE.value] * len(begins)}
        await connection.execute(
            SKIP_EVENTS, {**identity, "store_id": context.store_id, "variant_ids": begins, **events}
        )
    if ends:
        await connection.execute(GRACE_ENDS, {**identity, "variant_ids": ends})


async def _take_in_flight(
    connection: AsyncConnection, context: StoreContext, attempts: list[Attempt], batch_id: int
) -> set[str]:
    """Mark the items as in flight and write their attempts; which ones it was possible for."""
    link = context.access.link
    identity = {"link_id": link.link_id, "store_id": context.store_id}
    rows_read = {
        one.intent.variant_id: (one.intent.state_row_id, one.intent.state_row_version) for one in attempts
    }
    missing = sorted(one for one, (row_id, _) in rows_read.items() if row_id is None)
    if missing:
        for variant_id, row_id, row_version in await connection.execute(
            NEW_STATES_READ, {**identity, "variant_ids": missing}
        ):
            rows_read[variant_id] = (row_id, row_version)
    # A row that somebody else made meanwhile stays without a version, and so is not taken.
    ordered = sorted(
        (one for one in attempts if rows_read[one.intent.variant_id][0] is not None),
        key=lambda one: one.intent.variant_id,
    )
    ids = [one.intent.variant_id for one in ordered]
    decisions = [one.decision for one in ordered]
    sets = FieldSets()
    columns = {
        "variant_ids": ids,
        "row_ids": [rows_read[one][0] for one in ids],
        "row_versions": [rows_read[one][1] for one in ids],
        "retailer_ids": [one.retailer_id for one in decisions],
        "methods": [_method(one) for one in ordered],
        "payload_hashes": [one.payload_hash for one in decisions],
        "fields": [sets.number(one.fields) for one in decisions],
        "cleared": [sets.number(one.cleared) for one in decisions],
        "may_hold": [sets.number(one.base_may_hold | one.decision.fields) for one in ordered],
        "guarded": [one.guarded for one in ordered],
        "released": [one.intent.released_kinds for one in ordered],
    }
    taken = await connection.scalar(
        TAKE_IN_FLIGHT,
        {**identity, "batch_id": batch_id, "epoch": link.epoch, **columns, "sets": sets.texts()},
    )
    return set(taken or ())


def _method(attempt: Attempt) -> Any:
    return "DELETE" if attempt.decision.kind is DecisionKind.DELETE else "UPDATE"
