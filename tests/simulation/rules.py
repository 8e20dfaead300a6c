"""Protective rules, each of which can be switched off alone: without any one of them, some history must end wrong.

A simulator that finds nothing proves nothing. Each entry changes one line of the protocol, in the product's code or in
the twin of its SQL, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from typing_extensions import override

from meta_sync.graph.endpoints.catalog import CatalogEndpoints, build_batch_body
from meta_sync.sync import (
    claim,
    claim_statements,
    decide,
    drain,
    guard_claim,
    listener,
    operations,
    outcome,
    poll,
    reading,
    reconcile_repair,
    reconcile_second_read,
    record,
    record_statements,
    sale_windows,
    settle,
    settle_statements,
)
from meta_sync.sync.guard import Bounds, trips
from meta_sync.sync.models import Presence
from meta_sync.sync.reconcile_models import Finding, Judged
from tests.simulation import memory, world
from tests.simulation.memory import Rows, Transaction, Twin
from tests.simulation.twins import load

__all__ = ["RULES", "Rule", "without"]

Patches = list[AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of the protocol and the way to switch it off."""

    promise: str
    """What the rule says."""
    switch_off: Callable[[], Patches]
    noticed_by: int | None = None
    """The first seed from 0 on that ends wrong without the rule; ``None``: none does of those that were tried."""


@contextmanager
def without(name: str) -> Iterator[None]:
    """Switch a rule off."""
    load()
    with ExitStack() as stack:
        for one in RULES[name].switch_off():
            stack.enter_context(one)
        yield


def _instead(statement: Any, twin: Callable[[Twin], Twin]) -> AbstractContextManager[Any]:
    """Another twin in place of a statement's own, made from it."""
    original = memory.twin_of(statement)
    return patch.dict(memory._twins, {id(statement): (statement, twin(original))})


def _nothing(statement: Any) -> AbstractContextManager[Any]:
    return _instead(statement, lambda _: lambda *_: Rows(rowcount=0))


def _one(statement: Any, value: Any) -> AbstractContextManager[Any]:
    return _instead(statement, lambda _: lambda *_: Rows([(value,)]))


# --- the attempt is written before the call ---------------------------------------------------------------------------


async def _claim_after_the_call(self: Any, context: Any, lease: Any, waits: Any, work: Any) -> Any:
    """As ``Drain._ordinary_work``, but what was sent is written down when the answer is there."""
    async with self._database.platform() as connection:
        now = await drain.database_time(connection)
        link_id = context.access.link.link_id
        ready = await reading.read_ready(
            connection, context.store_id, link_id, limit=context.settings.batch_size
        )
    if not ready:
        return await self._nothing_ready(context, lease, waits, work)
    plan = claim.plan_turn(ready, context, now=now, may_send=waits is None)
    result = None
    if plan.attempts:
        records = ((claim._method(one), one.decision.payload) for one in plan.attempts)
        body = build_batch_body(records)
        catalog = CatalogEndpoints(self._graph.for_version(context.access.graph_version))
        result = await catalog.submit_batch(
            context.access.credential, context.access.link.catalog_id, body, deadline_seconds=60
        )
    batch = await self._claim(context, lease, plan)
    if batch is not None and result is not None:
        await self._recorder.record(context, batch, result)
    if batch is None and waits is not None and plan.left and not plan.settled:
        return drain._Next(at=waits.at)
    return drain._Next(again=True)


# --- twins without their rule -----------------------------------------------------------------------------------------


def _without_disturbance(twin: Twin) -> Twin:
    """The item is looked at again, but a batch under way still confirms it."""

    def run(t: Transaction, p: Mapping[str, Any]) -> Rows:
        before = {key: row["disturbed_at"] for key, row in t.sync_state.rows.items()}
        rows = twin(t, p)
        for key, row in list(t.sync_state.rows.items()):
            if row["disturbed_at"] != before.get(key) and row["disturbed_at"] is not None:
                t.sync_state.update(row, disturbed_at=None)
        return rows

    return run


def _rows_as_they_are(twin: Twin) -> Twin:
    """Items are taken whether or not their rows moved since they were decided about."""

    def run(t: Transaction, p: Mapping[str, Any]) -> Rows:
        rows = [t.sync_state.get(p["link_id"], one) for one in p["variant_ids"]]
        now = [None if row is None else row["ctid"] for row in rows]
        return twin(t, {**p, "row_ids": now, "row_versions": now})

    return run


def _take_what_is_in_flight(twin: Twin) -> Twin:
    def run(t: Transaction, p: Mapping[str, Any]) -> Rows:
        for variant_id in p["variant_ids"]:
            row = t.sync_state.get(p["link_id"], variant_id)
            if row is not None and row["in_flight"] is not None:
                t.sync_state.update(row, in_flight=None)
        return _rows_as_they_are(twin)(t, p)

    return run


def _nothing_in_flight(values: Any) -> Any:
    return replace(reading_state_from(values), in_flight=None)


reading_state_from = reading.state_from


def _count_unknown_as_confirmed(twin: Twin) -> Twin:
    """What was sent and never answered counts as what Meta has."""

    def run(t: Transaction, p: Mapping[str, Any]) -> Rows:
        attempts = t.batch_items.by_index(p["batch_id"])
        taken = [row["variant_id"] for row in t.sync_state if row["in_flight"] == p["batch_id"]]
        rows = twin(t, p)
        for attempt in attempts:
            row = t.sync_state.get(p["link_id"], attempt["variant_id"])
            if row is not None and row["variant_id"] in taken and row["in_flight"] is None:
                t.sync_state.update(row, confirmed_hash=attempt["payload_hash"])
        return rows

    return run


class _Anybody:
    """Equal to everything."""

    @override
    def __eq__(self, _: object) -> bool:
        return True

    @override
    def __ne__(self, _: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]  # compared, never kept


async def _always(*_: Any) -> float:
    return 60.0


async def _sweep_nothing(_: Any) -> bool:
    return False


def _is_certain(_: Twin) -> Twin:
    return lambda *_: Rows([(True,)])


async def _end_without_disturbing(connection: Any, batch_id: int, **counts: Any) -> bool:
    """The late end of a given-up batch changes nothing about its items."""
    batch = await settle._begin(
        connection, batch_id, (0, counts["already_rejected"], counts["unsettled"]), (None, None)
    )
    if batch is None:
        return False
    await connection.execute(settle_statements.CALLS_OVER, {**batch, "state": "over"})
    await settle._finish(connection, batch)
    return True


async def _drop_handle(*_: Any, **__: Any) -> bool:
    return False


def _trips_by_itself(bounds: Bounds, **limits: Any) -> bool:
    """What waits is measured alone, whatever went out before."""
    return trips(bounds.pending, bounds.base, **limits)


def _believe(finding: Finding, *_: Any) -> Judged:
    """What one read found is agreed to, whatever a second one says."""
    return Judged(finding.verdict, differences=finding.differences)


def _repair_as_absent(twin: Twin) -> Twin:
    def run(t: Transaction, p: Mapping[str, Any]) -> Rows:
        rows = twin(t, p)
        for (variant_id,) in rows:
            state = t.sync_state.get(p["link_id"], variant_id)
            assert state is not None
            t.sync_state.update(state, presence="absent")
        return rows

    return run


def _timing(**changes: Any) -> Patches:
    return [patch.object(world, "TIMING", replace(world.TIMING, **changes))]


RULES: dict[str, Rule] = {
    "attempt before call": Rule(
        "What is sent is written down and committed before the call.",
        lambda: [patch.object(drain.Drain, "_ordinary_work", _claim_after_the_call)],
        18,
    ),
    "hold": Rule(
        "After an unknown end, different content waits until the call can no longer be at work.",
        lambda: _timing(unknown_hold_seconds=0.0),
        179,
    ),
    "may-hold": Rule(
        "A field that Meta may hold and the mapping has not is sent empty.",
        lambda: [patch.object(decide, "_to_clear", lambda *_: frozenset())],
        4,
    ),
    "late handle": Rule(
        "A handle that comes back for a batch that is over is followed.",
        lambda: [patch.object(record, "follow_late_handle", _drop_handle)],
        424,
    ),
    "given-up handle": Rule(
        "A given-up handle is asked on, and its end disturbs its items.",
        lambda: [patch.object(poll, "disturb_late", _end_without_disturbing)],
        20,
    ),
    "presence": Rule(
        "An item that may be at Meta counts as being there when it is to go.",
        lambda: [patch.object(decide, "known_presence", _confirmed_presence)],
        6,
    ),
    "complete report": Rule(
        "Silence about an item counts only in a report that is complete.",
        lambda: [patch.object(outcome, "_is_complete", lambda *_, **__: True)],
        573,
    ),
    "disturbed": Rule(
        "A batch that was under way when its item was disturbed does not confirm it.",
        lambda: [
            _instead(settle_statements.DISTURB, _without_disturbance),
            _instead(operations._FORGET, _without_disturbance),
        ],
    ),
    "required-field warning": Rule(
        "An item named by such a warning is read back before it is believed.",
        lambda: [patch.object(outcome, "is_required_field_warning", lambda _: False)],
        86,
    ),
    "read back with patience": Rule(
        "What Meta does not show yet is looked at again before it counts as unsaved.",
        lambda: _timing(read_back_seconds=0.0),
    ),
    "older epoch": Rule(
        "What was confirmed before the store went to another catalog and back counts as unknown.",
        lambda: [patch.object(decide, "_is_foreign", lambda *_: False)],
        15,
    ),
    "proved unsaved": Rule(
        "Only a refusal that no other call of the batch contradicts gives back what was known.",
        lambda: [_instead(settle_statements.IS_CERTAIN, _is_certain)],
    ),
    "guard of the claim": Rule(
        "Link, epochs and switches are looked at again under the claim's locks.",
        lambda: [_one(claim_statements.GUARD, True)],
    ),
    "row as it was read": Rule(
        "A decision is applied only to a row that has not moved since it was read.",
        lambda: [_instead(claim_statements.TAKE_IN_FLIGHT, _rows_as_they_are)],
    ),
    "one batch at a time": Rule(
        "An item that is in flight waits until its batch is over.",
        lambda: [
            patch.object(reading, "state_from", _nothing_in_flight),
            _instead(claim_statements.TAKE_IN_FLIGHT, _take_what_is_in_flight),
        ],
        0,
    ),
    "unknown is not known": Rule(
        "Only what Meta confirmed counts as what Meta has.",
        lambda: [_instead(settle_statements.MAKE_UNKNOWN, _count_unknown_as_confirmed)],
        9,
    ),
    "look before the call": Rule(
        "Switches, pauses, lease and deadline are looked at again just before the call.",
        lambda: [patch.object(drain.Drain, "_may_call", _always)],
        172,
    ),
    "errors of a token": Rule(
        "An auth error counts only against the token that it was made with.",
        lambda: [_one(record_statements.CREDENTIAL_IN_USE, _Anybody())],
        163,
    ),
    "sweep of sale windows": Rule(
        "An item whose sale has ended is looked at again.",
        lambda: [patch.object(sale_windows.SaleWindows, "sweep", _sweep_nothing)],
        11,
    ),
    "unpark": Rule(
        "What waited for a batch is freed when the batch is over.",
        lambda: [_nothing(settle_statements.UNPARK)],
        0,
    ),
    "unpark at another catalog": Rule(
        "Selecting another catalog frees every intent of the store.",
        lambda: [_nothing(listener._FREE_INTENTS)],
    ),
    "restart of the re-evaluation": Rule(
        "Another change of the settings sends the running re-evaluation back to its first row.",
        lambda: [_instead(listener._RESTART, _keeps_its_place)],
    ),
    "guard over an hour": Rule(
        "The guard counts what waits together with what went out in the last hour.",
        lambda: [patch.object(guard_claim, "may_trip", _trips_by_itself)],
        159,
    ),
    "second read": Rule(
        "Drift is believed when a second read finds it too.",
        lambda: [patch.object(reconcile_second_read, "_judged_again", _believe)],
        172,
    ),
    "repair says maybe": Rule(
        "An item that is repaired may be at Meta, and counts as being there when it is to go.",
        lambda: [_instead(reconcile_repair._DISTURB, _repair_as_absent)],
        13,
    ),
}


def _keeps_its_place(_: Twin) -> Twin:
    def run(t: Transaction, p: Mapping[str, Any]) -> Rows:
        running = [
            row
            for row in t.jobs
            if row["store_id"] == p["store_id"]
            and row["type"] == "reevaluation"
            and row["status"] in {"queued", "running"}
        ]
        return Rows([(row["job_id"],) for row in running])

    return run


def _confirmed_presence(state: Any, _link: Any) -> Presence:
    return Presence.PRESENT if state.presence is Presence.PRESENT else Presence.ABSENT
