"""The state of a store's connection and sync in one answer: what it is connected to, what waits, why it stands still.

Reads only, one short transaction; asks nobody outside. Figures come from exact counters and bounded scans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.connection.models import ActiveLink, graph_host
from meta_sync.connection.repository import active_link
from meta_sync.core.clock import Clock
from meta_sync.core.config import Settings
from meta_sync.core.db import Database
from meta_sync.graph.governor import ALLOWANCE_PER_HOUR, BudgetState, WaitUntil, decide_call
from meta_sync.stores.repository import load_settings, secrets_present
from meta_sync.stores.settings import StoreSettings, missing_keys
from meta_sync.sync.budget import load_budget
from meta_sync.sync.codes import CodeEntry, explain
from meta_sync.sync.item_queries import NO_LINK, StateCounts, state_counts
from meta_sync.sync.models import Status
from meta_sync.sync.pauses import Pause, PauseReason, active_pauses

__all__ = [
    "BudgetView",
    "CatalogView",
    "ConnectionState",
    "LastError",
    "StatusService",
    "StoreStandstill",
    "StoreStatus",
    "SyncOutcome",
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
"""Why nothing is sent; of several reasons the first in this order is shown."""


@dataclass(frozen=True, slots=True)
class LastError:
    """The newest thing that went wrong and has not been put right since."""

    code: str
    """One of ours, or Meta's number, with its subcode after a slash."""
    message: str
    """What Meta said, word for word; our own sentence where it said nothing."""
    at: datetime
    entry: CodeEntry
    """What the code means and what to do."""

    @classmethod
    def of(cls, code: object, said: str | None, at: datetime, reason: str | None = None) -> LastError:
        """The error with this code, explained; ``reason``: why the store stands still with it."""
        entry = explain(str(code), said, reason=reason)
        return cls(str(code), said or entry.sentence, at, entry)


@dataclass(frozen=True, slots=True)
class BudgetView:
    """How much of Meta's rate budget is used. Times are ``None`` where nothing holds a call back."""

    allowance_per_hour: int
    calls_last_hour: int
    usage_percent: float
    next_call_at: datetime | None
    blocked_until: datetime | None


@dataclass(frozen=True, slots=True)
class CatalogView:
    """What Meta last said of the selected catalog."""

    product_count: int | None
    vertical: str | None
    checked_at: datetime | None


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """Everything a page about the connection shows."""

    connection_state: ConnectionState
    account_id: str | None
    connected_at: datetime | None
    scopes: tuple[str, ...] | None
    token_expires_at: datetime | None
    is_app_configured: bool
    settings: StoreSettings
    missing_keys: tuple[str, ...]
    link: ActiveLink | None
    counts: StateCounts
    handles_pending: int
    pause_reason: StoreStandstill | None
    paused_until: datetime | None
    last_sync_at: datetime | None
    last_sync_status: SyncOutcome
    last_error: LastError | None
    error_count_24h: int
    last_drain_at: datetime | None
    last_poll_at: datetime | None
    budget: BudgetView | None
    catalog: CatalogView | None


@dataclass(frozen=True, slots=True)
class _Token:
    account_id: str | None
    scopes: tuple[str, ...]
    expires_at: datetime | None
    created_at: datetime
    dead_at: datetime | None
    dead_code: int | None
    dead_reason: str | None


@dataclass(frozen=True, slots=True)
class _Activity:
    last_sync_at: datetime | None
    error_count_24h: int
    failed_batch_at: datetime | None
    failed_batch_code: str | None
    failed_batch_text: str | None


_TOKEN = text(
    """
    SELECT account_id, scopes, expires_at, created_at, dead_at, dead_code, dead_reason
    FROM credentials WHERE store_id = :store_id AND active
    """
)
_EVER_CONNECTED = text("SELECT EXISTS (SELECT FROM catalog_links WHERE store_id = :store_id)")

# The newest ten thousand batches are more than two days of the whole rate budget.
_ACTIVITY = text(
    """
    WITH newest AS MATERIALIZED (
        SELECT state, rejected, finished_at, error_code, error_text FROM batches
        WHERE store_id = :store_id ORDER BY batch_id DESC LIMIT 10000
    ), failed AS (
        SELECT finished_at, error_code, error_text FROM newest
        WHERE error_code IS NOT NULL AND finished_at IS NOT NULL ORDER BY finished_at DESC LIMIT 1
    )
    SELECT (SELECT max(finished_at) FROM newest WHERE state = 'over'),
           COALESCE((SELECT sum(rejected) FROM newest WHERE finished_at > now() - interval '24 hours'), 0)::bigint,
           (SELECT finished_at FROM failed), (SELECT error_code FROM failed), (SELECT error_text FROM failed)
    """
)
_HANDLES_PENDING = text(
    """
    SELECT count(*) FROM batches
    WHERE link_id IN (SELECT link_id FROM catalog_links WHERE store_id = :store_id)
      AND state IN ('sending', 'open', 'unknown')
    """
)
_QUEUE = text("SELECT last_drain_at, last_poll_at FROM store_queue WHERE store_id = :store_id")
_PAUSED_SINCE = text(
    """
    SELECT since, COALESCE(code, reason), message, reason FROM store_pauses
    WHERE store_id = :store_id AND link_id IN (0, :link_id) AND (until IS NULL OR until > now())
    ORDER BY since DESC LIMIT 1
    """
)
# Bounded: with a hundred thousand failed items, any of the recent ones says what is the matter.
_FAILED_ITEM = text(
    """
    SELECT updated_at, code, error_text FROM (
        SELECT updated_at, code, error_text FROM sync_state
        WHERE link_id = :link_id AND status = 'failed' AND code IS NOT NULL LIMIT 1000
    ) AS recent ORDER BY updated_at DESC LIMIT 1
    """
)


class StatusService:
    """Answers how a store stands.

    Parameters
    ----------
    database
        Where the rows are; read under the store's policies.
    settings
        Of the process: its Meta app serves stores that have none of their own.
    clock
        The present instant, for the budget.
    """

    def __init__(self, database: Database, settings: Settings, clock: Clock) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock

    async def status(self, store_id: str) -> StoreStatus:
        """How the store stands now.

        Raises
        ------
        NotFoundError
            There is no such store.
        """
        async with self._database.store(store_id) as connection:
            return await self._read(connection, store_id)

    async def _read(self, connection: AsyncConnection, store_id: str) -> StoreStatus:
        now = self._clock()
        settings, _ = await load_settings(connection, store_id)
        has_secret = (await secrets_present(connection, store_id))["app_secret"]
        token = await _token(connection, store_id)
        link = await active_link(connection, store_id)
        link_id = link.link_id if link is not None else NO_LINK
        counts = await state_counts(connection, store_id, link_id)
        pauses = await active_pauses(connection, store_id, link_id)
        budget_state = await load_budget(connection, link_id) if link is not None else None
        activity = _Activity(*(await connection.execute(_ACTIVITY, {"store_id": store_id})).one())
        handles = int(await connection.scalar(_HANDLES_PENDING, {"store_id": store_id}) or 0)
        queue = (await connection.execute(_QUEUE, {"store_id": store_id})).first()
        errors = await _errors(
            connection, store_id, link_id=link_id, token=token, counts=counts, activity=activity
        )
        ever = bool(await connection.scalar(_EVER_CONNECTED, {"store_id": store_id}))
        missing = tuple(missing_keys(settings, link is not None))
        elsewhere = self._graph_moved(link, now)
        if elsewhere is not None:
            errors.append(elsewhere)
        reason, until = _standstill(
            token,
            settings,
            is_incomplete=bool(missing) or elsewhere is not None,
            pauses=pauses,
            budget=budget_state,
            now=now,
        )
        return StoreStatus(
            connection_state=_connection_state(token, pauses, ever=ever),
            account_id=token.account_id if token else None,
            connected_at=token.created_at if token else None,
            scopes=token.scopes if token else None,
            token_expires_at=token.expires_at if token else None,
            is_app_configured=self._is_app_configured(settings, has_secret=has_secret),
            settings=settings,
            missing_keys=missing,
            link=link,
            counts=counts,
            handles_pending=handles,
            pause_reason=reason,
            paused_until=until,
            last_sync_at=activity.last_sync_at,
            last_sync_status=_outcome(
                counts, handles, activity, is_working=reason is None and settings.feed_mode == "live"
            ),
            last_error=max(errors, key=lambda error: error.at, default=None),
            error_count_24h=activity.error_count_24h,
            last_drain_at=queue[0] if queue else None,
            last_poll_at=queue[1] if queue else None,
            budget=_budget(budget_state, now) if budget_state is not None else None,
            catalog=CatalogView(link.product_count, link.vertical, link.checked_at) if link else None,
        )

    def _graph_moved(self, link: ActiveLink | None, now: datetime) -> LastError | None:
        """What is wrong when the catalog was selected at another Graph address: nothing is sent to it then."""
        host = graph_host(self._settings.graph_url)
        if link is None or link.graph_host == host:
            return None
        message = f"The catalog was selected at {link.graph_host}, but META_SYNC_GRAPH_URL names {host} now."
        return LastError.of("graph_url_changed", message, now)

    def _is_app_configured(self, settings: StoreSettings, *, has_secret: bool) -> bool:
        """Whether an app id and the secret that goes with it are there, the store's own or the process's."""
        app_id = settings.app_id or self._settings.app_id
        shares_process_app = app_id == self._settings.app_id and self._settings.app_secret is not None
        return bool(app_id) and (has_secret or shares_process_app)


async def _token(connection: AsyncConnection, store_id: str) -> _Token | None:
    row = (await connection.execute(_TOKEN, {"store_id": store_id})).first()
    return None if row is None else _Token(row[0], tuple(row[1]), *row[2:])


async def _errors(
    connection: AsyncConnection,
    store_id: str,
    *,
    link_id: int,
    token: _Token | None,
    counts: StateCounts,
    activity: _Activity,
) -> list[LastError]:
    found: list[Any] = []
    if token is not None and token.dead_at is not None:
        found.append((token.dead_at, token.dead_code or PauseReason.NEEDS_RECONNECT, token.dead_reason))
    found.append(
        (await connection.execute(_PAUSED_SINCE, {"store_id": store_id, "link_id": link_id})).first()
    )
    if counts.by_status[Status.FAILED]:
        found.append((await connection.execute(_FAILED_ITEM, {"link_id": link_id})).first())
    if activity.failed_batch_at is not None:
        found.append((activity.failed_batch_at, activity.failed_batch_code, activity.failed_batch_text))
    return [LastError.of(code, said, at, *reason) for at, code, said, *reason in filter(None, found)]


def _connection_state(token: _Token | None, pauses: Sequence[Pause], *, ever: bool) -> ConnectionState:
    if token is None:
        return "disconnected" if ever else "not_connected"
    needs_reconnect = any(pause.reason is PauseReason.NEEDS_RECONNECT for pause in pauses)
    return "needs_reconnect" if token.dead_at is not None or needs_reconnect else "connected"


def _standstill(
    token: _Token | None,
    settings: StoreSettings,
    *,
    is_incomplete: bool,
    pauses: Sequence[Pause],
    budget: BudgetState | None,
    now: datetime,
) -> tuple[StoreStandstill | None, datetime | None]:
    """The reason to show, and when it ends by itself."""
    if token is None:
        return "not_connected", None
    by_reason = {pause.reason.value: pause for pause in pauses}
    if token.dead_at is not None or "needs_reconnect" in by_reason:
        return "needs_reconnect", None
    if is_incomplete:
        return "config_incomplete", None
    if not settings.sync_enabled:
        return "sync_disabled", None
    wait = decide_call(budget, now, "call") if budget is not None else None
    if isinstance(wait, WaitUntil) and wait.reason != "spacing":
        return "throttled", wait.at
    if "meta_unreachable" in by_reason:
        return "meta_unreachable", by_reason["meta_unreachable"].until
    if by_reason:
        return "blocked_by_meta", next(iter(by_reason.values())).until
    return None, None


def _outcome(counts: StateCounts, handles: int, activity: _Activity, *, is_working: bool) -> SyncOutcome:
    of = counts.by_status
    if of[Status.SUBMITTED] or handles or (counts.intents and is_working):
        return "syncing"
    done = of[Status.SYNCED] + of[Status.DELETED]
    if of[Status.FAILED]:
        return "partial" if done else "error"
    return "success" if done or activity.last_sync_at is not None else "never"


def _budget(state: BudgetState, now: datetime) -> BudgetView:
    wait = decide_call(state, now, "call")
    blocked = state.calls.blocked_until
    return BudgetView(
        allowance_per_hour=ALLOWANCE_PER_HOUR,
        calls_last_hour=len(state.call_times),
        usage_percent=state.calls.usage_percent,
        next_call_at=wait.at if isinstance(wait, WaitUntil) else None,
        blocked_until=blocked if blocked is not None and blocked > now else None,
    )
