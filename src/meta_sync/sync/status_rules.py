"""What a store's status is called, judged from what was read of it. Pure: asks nothing and reads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from meta_sync.graph.governor import BudgetState, WaitUntil, decide_call
from meta_sync.stores.settings import StoreSettings
from meta_sync.sync.item_queries import StateCounts
from meta_sync.sync.models import Status
from meta_sync.sync.pauses import Pause, PauseReason

__all__ = [
    "PREVIEW",
    "ConnectionState",
    "StoreStandstill",
    "SyncOutcome",
    "TokenFacts",
    "connection_state",
    "standstill",
    "sync_outcome",
]

ConnectionState = Literal["not_connected", "connected", "needs_reconnect", "disconnected"]
SyncOutcome = Literal["syncing", "success", "partial", "error", "never"]
StoreStandstill = Literal[
    "not_connected",
    "needs_reconnect",
    "config_incomplete",
    "sync_disabled",
    "throttled",
    "meta_unreachable",
    "blocked_by_meta",
    "held",
]
"""Why nothing is sent. Of several reasons the first in this order is shown; of those that end by themselves, the one
that lasts longest."""

PREVIEW = "preview"
"""The code that is shown where only the preview keeps a store from sending: no fault, and none of the reasons above."""


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """What is recorded of the token that a store uses now."""

    account_id: str | None
    scopes: tuple[str, ...]
    expires_at: datetime | None
    created_at: datetime
    dead_at: datetime | None
    dead_code: int | None
    dead_reason: str | None

    def is_over(self, now: datetime) -> bool:
        """Whether Meta refused it, or its time is up."""
        return self.dead_at is not None or self.is_expired(now)

    def is_expired(self, now: datetime) -> bool:
        """Whether its time is up, whether or not Meta has said so yet."""
        return self.expires_at is not None and self.expires_at <= now


def connection_state(
    token: TokenFacts | None, pauses: Sequence[Pause], now: datetime, *, ever: bool
) -> ConnectionState:
    """How the store and Meta stand to each other. ``ever``: whether a catalog was selected at any time."""
    if token is None:
        return "disconnected" if ever else "not_connected"
    needs_reconnect = any(pause.reason is PauseReason.NEEDS_RECONNECT for pause in pauses)
    return "needs_reconnect" if token.is_over(now) or needs_reconnect else "connected"


def standstill(
    token: TokenFacts | None,
    settings: StoreSettings,
    *,
    is_incomplete: bool,
    pauses: Sequence[Pause],
    budget: BudgetState | None,
    now: datetime,
) -> tuple[StoreStandstill | None, datetime | None]:
    """The reason to show, and when it ends by itself (``None``: when somebody acts)."""
    if token is None:
        return "not_connected", None
    if token.is_over(now) or any(pause.reason is PauseReason.NEEDS_RECONNECT for pause in pauses):
        return "needs_reconnect", None
    if is_incomplete:
        return "config_incomplete", None
    if not settings.sync_enabled:
        return "sync_disabled", None
    ends: list[tuple[StoreStandstill, datetime | None]] = []
    wait = decide_call(budget, now, "call") if budget is not None else None
    if isinstance(wait, WaitUntil) and wait.reason != "spacing":
        ends.append(("throttled", wait.at))
    named: tuple[StoreStandstill, ...] = ("meta_unreachable", "blocked_by_meta", "held")
    for reason in named:
        ends += [(reason, pause.until) for pause in pauses if pause.reason.value == reason]
    without_end = [one for one in ends if one[1] is None]
    if without_end:
        return without_end[0]
    # Of equal ends the first: that is the order of the reasons.
    return max(ends, key=lambda one: one[1] or now, default=(None, None))


def sync_outcome(
    counts: StateCounts, handles: int, last_sync_at: datetime | None, *, is_working: bool
) -> SyncOutcome:
    """How the last sync ended, or that one is under way. ``is_working``: nothing keeps the store from sending.

    What has been sent is followed to its end also while nothing new may be sent; what waits is under way only while it may,
    and while nobody is asked about it.
    """
    of = counts.by_status
    is_waiting = max(counts.intents, of[Status.PENDING]) > counts.held
    if of[Status.SUBMITTED] or handles or (is_working and is_waiting):
        return "syncing"
    done = of[Status.SYNCED] + of[Status.DELETED]
    if of[Status.FAILED] or counts.held:
        return "partial" if done else "error"
    return "success" if done or last_sync_at is not None else "never"
