"""The claim's part of the guard: what a hold keeps back, and whether something has to be counted before it goes out.

Runs in the claim's transaction, before it locks an intent. It counts nothing itself: bounds that cost one cheap read
prove nearly always that no kind can be too much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.core.logging import get_logger
from meta_sync.sync.claim_statements import SKIP_EVENTS
from meta_sync.sync.codes_guard import held_code
from meta_sync.sync.context import StoreContext
from meta_sync.sync.guard import Bounds, GuardKind, kinds_in, may_trip, trips
from meta_sync.sync.guard_statements import LOOK, OPEN, PARK_UNDER
from meta_sync.sync.models import Attempt, ReadyIntent

__all__ = ["HeldBack", "Pending", "hold_back", "park_held", "sums"]

_logger = get_logger(__name__)


@dataclass(slots=True)
class Pending:
    """What a plan saw of the guard's kinds among all that it read."""

    read: int = 0
    is_all: bool = False
    """Nothing is ready besides what was read."""
    items: dict[GuardKind, int] = field(default_factory=dict)

    def add(self, bits: int) -> None:
        """One more item, of all of these kinds."""
        for kind in kinds_in(bits):
            self.items[kind] = self.items.get(kind, 0) + 1

    def at_most(self, kind: GuardKind, waiting: int) -> int:
        """How many items can wait with the kind, where so many intents of the store wait in all."""
        others = 0 if self.is_all else max(waiting - self.read, 0)
        return self.items.get(kind, 0) + others


@dataclass(slots=True)
class HeldBack:
    """Attempts that do not go out: those that go under a hold; others are left for the next round."""

    hold_id: int
    kind: GuardKind
    is_counted: bool
    attempts: list[Attempt] = field(default_factory=list)


async def hold_back(
    connection: AsyncConnection, context: StoreContext, attempts: Sequence[Attempt], pending: Pending
) -> tuple[list[Attempt], list[HeldBack], bool]:
    """Part what may go out from what may not.

    Opens a hold for each kind that may be too much and has none: from then on nothing of the kind goes out until it
    is counted. A hold that is open stays locked until the end of the transaction, so that nobody decides about it while
    items go under it.

    Returns
    -------
    tuple
        What may go out, what goes under which hold, and whether a hold was opened.
    """
    seen = 0
    for one in attempts:
        seen |= one.guarded
    if not seen:
        return list(attempts), [], False
    blocked: dict[GuardKind, HeldBack | None] = {}
    is_opened = False
    link = context.access.link
    asked = {
        "store_id": context.store_id,
        "link_id": link.link_id,
        "epoch": link.epoch,
        "mapping_epoch": context.mapping_epoch,
        "kinds": [kind.value for kind in kinds_in(seen)],
    }
    for row in (await connection.execute(LOOK, asked)).all():
        name, hold_id, state, *known = row
        kind = GuardKind(name)
        if hold_id is not None:
            blocked[kind] = HeldBack(hold_id, kind, state == "held")
        elif _has_to_be_counted(context, kind, attempts, pending, _Known(*known)):
            blocked[kind] = await _open(connection, context, kind)
            is_opened = True
    if not blocked:
        return list(attempts), [], False
    free = [one for one in attempts if not _keep_back(one, blocked)]
    return free, [one for one in blocked.values() if one is not None and one.attempts], is_opened


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a kind. The order of the fields is that of the columns."""

    waiting: int
    """Intents of the store."""
    base: int
    """Items that are synced or on their way; at most those at Meta."""
    sent: int
    """Within the hour, the same item as often as it was sent."""
    watermark: int | None
    """Of the last count: the newest intent that is in it. The rest is ``None`` without it."""
    items: int | None
    asked_since: int | None
    """Intents written since, of all stores."""
    recent_items: int | None
    """Items that had gone out within the hour before the count, whether or not they were held again."""
    sent_since: int
    counted_base: int | None

    def bounds(self, pending: int) -> Bounds:
        """As a bound where so many wait at most."""
        counted = None
        if self.items is not None and self.asked_since is not None and self.recent_items is not None:
            counted = min(self.items + self.asked_since, self.recent_items + self.sent_since + pending)
        return Bounds(pending, self.sent, counted, max(self.base, self.counted_base or 0))


def _has_to_be_counted(
    context: StoreContext, kind: GuardKind, attempts: Sequence[Attempt], pending: Pending, known: _Known
) -> bool:
    settings = context.settings
    limits = {"max_share": settings.guard_max_share, "min_items": settings.guard_min_items}
    bounds = known.bounds(pending.at_most(kind, known.waiting))
    if not may_trip(bounds, **limits):  # type: ignore[arg-type]  # by name
        return False
    if known.watermark is None or known.items is None:
        return True
    # What was counted and found to be little goes out, however much was asked for elsewhere since: whatever is new is
    # counted in its turn.
    if trips(known.items, bounds.base, **limits):  # type: ignore[arg-type]  # by name
        return True
    return any(one.guarded & kind.bit and one.intent.version > known.watermark for one in attempts)


def _keep_back(attempt: Attempt, blocked: dict[GuardKind, HeldBack | None]) -> bool:
    """Whether the attempt does not go out; where there is a hold for it, it is put there."""
    kinds = [kind for kind in kinds_in(attempt.guarded) if kind in blocked]
    holds = [hold for hold in map(blocked.get, kinds) if hold is not None]
    if holds:
        holds[0].attempts.append(attempt)
    return bool(kinds)


async def _open(connection: AsyncConnection, context: StoreContext, kind: GuardKind) -> HeldBack | None:
    """Begin to count a kind; ``None`` where another transaction has just begun to."""
    link_id = context.access.link.link_id
    hold_id = await connection.scalar(
        OPEN, {"store_id": context.store_id, "link_id": link_id, "kind": kind.value}
    )
    if hold_id is None:
        return None
    _logger.info(
        "So much may change at once that it is counted before it goes out.",
        action="hold",
        store_id=context.store_id,
        hold_id=hold_id,
        kind=kind.value,
    )
    return HeldBack(hold_id, kind, is_counted=False)


async def park_held(
    connection: AsyncConnection, context: StoreContext, held: Sequence[HeldBack], locked: set[int]
) -> None:
    """Put intents under their holds, of those that are locked and as they were read."""
    for hold in held:
        parked: list[ReadyIntent] = [one.intent for one in hold.attempts if one.intent.version in locked]
        if not parked:
            continue
        row_ids = [one.row_id for one in parked]
        await connection.execute(PARK_UNDER, {"hold_id": hold.hold_id, "row_ids": row_ids})
        if hold.is_counted:
            await connection.execute(
                SKIP_EVENTS,
                {
                    "store_id": context.store_id,
                    "link_id": context.access.link.link_id,
                    "variant_ids": sorted(one.variant_id for one in parked),
                    "kinds": ["held"] * len(parked),
                    "codes": [held_code(hold.kind).value] * len(parked),
                },
            )


def sums(attempts: Sequence[Attempt]) -> dict[str, int]:
    """How many of the attempts are of each kind, as a batch keeps it."""
    counted = Pending()
    for one in attempts:
        if one.guarded:
            counted.add(one.guarded)
    return {
        "guarded_deletes": counted.items.get(GuardKind.DELETE, 0),
        "guarded_out_of_stock": counted.items.get(GuardKind.OUT_OF_STOCK, 0),
        "guarded_prices": counted.items.get(GuardKind.PRICE, 0),
    }
