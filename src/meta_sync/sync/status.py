"""The state of a store's connection and sync in one answer: what it is connected to, what waits, why it stands still.

Reads only, one short transaction; asks nobody outside. Figures come from exact counters and bounded scans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.connection.models import ActiveLink, graph_host
from meta_sync.connection.repository import active_link
from meta_sync.core.config import Settings
from meta_sync.core.db import Database
from meta_sync.graph.governor import ALLOWANCE_PER_HOUR, BudgetState, WaitUntil, decide_call
from meta_sync.stores.repository import load_settings, secrets_present
from meta_sync.stores.settings import StoreSettings, missing_keys
from meta_sync.sync.budget import load_budget
from meta_sync.sync.bulk import expect_lookups
from meta_sync.sync.codes import CodeEntry, explain
from meta_sync.sync.item_queries import NO_LINK, StateCounts, state_counts
from meta_sync.sync.models import Status
from meta_sync.sync.pauses import PauseReason, active_pauses
from meta_sync.sync.reconcile_service import LastReconciliation, last_reconciliation
from meta_sync.sync.status_rules import (
    ConnectionState,
    StoreStandstill,
    SyncOutcome,
    TokenFacts,
    connection_state,
    standstill,
    sync_outcome,
)

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
    standstill_error: LastError | None
    """What is known of ``pause_reason`` itself; the last error may be another matter."""
    error_count_24h: int
    last_drain_at: datetime | None
    last_poll_at: datetime | None
    budget: BudgetView | None
    catalog: CatalogView | None
    last_reconciliation: LastReconciliation | None = None
    """The newest comparison of the catalog in use that came to its end."""


@dataclass(frozen=True, slots=True)
class _Activity:
    last_sync_at: datetime | None
    error_count_24h: int
    handles_pending: int
    last_drain_at: datetime | None
    last_poll_at: datetime | None
    failed_batch: tuple[datetime, str, str | None] | None


_TOKEN = text(
    """
    SELECT account_id, scopes, expires_at, created_at, dead_at, dead_code, dead_reason
    FROM credentials WHERE store_id = :store_id AND active
    """
)
# Each part is one range of an index, and no longer than the store's batches of a day or the newest without a verdict.
# A batch that Meta refused as a whole, or ended without a verdict, has synced nothing.
_ACTIVITY = text(
    """
    SELECT (SELECT b.finished_at FROM batches AS b
            WHERE b.store_id = :store_id AND b.finished_at >= CAST(:since AS timestamptz) AND b.link_id = :link_id
              AND b.accepted + b.rejected > 0
            ORDER BY b.finished_at DESC, b.batch_id DESC LIMIT 1),
           COALESCE((SELECT sum(b.rejected) FROM batches AS b
                     WHERE b.store_id = :store_id AND b.finished_at > now() - interval '24 hours'), 0)::bigint,
           (SELECT COALESCE(sum(c.open), 0)::bigint FROM catalog_links AS l CROSS JOIN LATERAL (
                SELECT count(*) AS open FROM batches AS b
                WHERE b.link_id = l.link_id AND b.state IN ('sending', 'open', 'unknown')
            ) AS c WHERE l.store_id = :store_id),
           (SELECT q.last_drain_at FROM store_queue AS q WHERE q.store_id = :store_id),
           (SELECT q.last_poll_at FROM store_queue AS q WHERE q.store_id = :store_id)
    """
)
# A verdict that came later says that it was put right; what became of its items stands with them.
_FAILED_BATCH = text(
    """
    SELECT b.finished_at, b.error_code, b.error_text FROM batches AS b
    WHERE b.store_id = :store_id AND b.finished_at >= CAST(:since AS timestamptz) AND b.link_id = :link_id
      AND b.error_code IS NOT NULL
    ORDER BY b.finished_at DESC, b.batch_id DESC LIMIT 1
    """
)
_EVER = text(
    """
    SELECT now(), EXISTS (SELECT FROM catalog_links WHERE store_id = :store_id),
           (SELECT l.created_at FROM catalog_links AS l WHERE l.link_id = :link_id)
    """
)
_PAUSED_SINCE = text(
    """
    SELECT since, COALESCE(code, reason), message, reason FROM store_pauses
    WHERE store_id = :store_id AND link_id IN (0, :link_id) AND (until IS NULL OR until > now())
    ORDER BY since DESC
    """
)
# The failed items that were sent last, and some that never were: any of them says what is the matter.
_FAILED_ITEM = text(
    """
    SELECT updated_at, code, error_text FROM (
        (SELECT updated_at, code, error_text FROM sync_state
         WHERE link_id = :link_id AND status = 'failed' AND last_pushed_at IS NOT NULL
         ORDER BY last_pushed_at DESC NULLS LAST, variant_id LIMIT 100)
        UNION ALL
        (SELECT updated_at, code, error_text FROM sync_state
         WHERE link_id = :link_id AND status = 'failed' AND last_pushed_at IS NULL
         ORDER BY variant_id LIMIT 100)
    ) AS recent WHERE code IS NOT NULL ORDER BY updated_at DESC LIMIT 1
    """
)


class StatusService:
    """Answers how a store stands.

    Parameters
    ----------
    database
        Where the rows are; read under the store's policies. Times are judged by its clock.
    settings
        Of the process: its Meta app serves stores that have none of their own.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

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
        settings, _ = await load_settings(connection, store_id)
        has_secret = (await secrets_present(connection, store_id))["app_secret"]
        token = await _token(connection, store_id)
        link = await active_link(connection, store_id)
        link_id = link.link_id if link is not None else NO_LINK
        of_store = {"store_id": store_id, "link_id": link_id}
        now, ever, since = (await connection.execute(_EVER, of_store)).one()
        await expect_lookups(connection)
        counts = await state_counts(connection, store_id, link_id)
        pauses = await active_pauses(connection, store_id, link_id)
        budget_state = await load_budget(connection, link_id) if link is not None else None
        activity = await _activity(connection, {**of_store, "since": since})
        missing = tuple(missing_keys(settings, link is not None))
        elsewhere = self._graph_moved(link, now)
        causes = await _causes(connection, of_store, token, now)
        causes += [("config_incomplete", elsewhere)] if elsewhere is not None else []
        errors = await _errors(connection, of_store, counts=counts, failed_batch=activity.failed_batch)
        errors += [error for _, error in causes]
        reason, until = standstill(
            token,
            settings,
            is_incomplete=bool(missing) or elsewhere is not None,
            pauses=pauses,
            budget=budget_state,
            now=now,
        )
        return StoreStatus(
            connection_state=connection_state(token, pauses, now, ever=ever),
            account_id=token.account_id if token else None,
            connected_at=token.created_at if token else None,
            scopes=token.scopes if token else None,
            token_expires_at=token.expires_at if token else None,
            is_app_configured=self._is_app_configured(settings, has_secret=has_secret),
            settings=settings,
            missing_keys=missing,
            link=link,
            counts=counts,
            handles_pending=activity.handles_pending,
            pause_reason=reason,
            paused_until=until,
            last_sync_at=activity.last_sync_at,
            last_sync_status=sync_outcome(
                counts,
                activity.handles_pending,
                activity.last_sync_at,
                is_working=reason is None and settings.feed_mode == "live",
            ),
            last_error=_newest(errors),
            standstill_error=_newest([error for of, error in causes if of == reason]),
            error_count_24h=activity.error_count_24h,
            last_drain_at=activity.last_drain_at,
            last_poll_at=activity.last_poll_at,
            budget=_budget(budget_state, now) if budget_state is not None else None,
            catalog=CatalogView(link.product_count, link.vertical, link.checked_at) if link else None,
            last_reconciliation=await last_reconciliation(connection, store_id, link_id),
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


async def _token(connection: AsyncConnection, store_id: str) -> TokenFacts | None:
    row = (await connection.execute(_TOKEN, {"store_id": store_id})).first()
    return None if row is None else TokenFacts(row[0], tuple(row[1]), *row[2:])


async def _activity(connection: AsyncConnection, of_link: dict[str, Any]) -> _Activity:
    synced_at, errors, handles, drained_at, polled_at = (await connection.execute(_ACTIVITY, of_link)).one()
    since = synced_at or of_link["since"]
    failed = (await connection.execute(_FAILED_BATCH, {**of_link, "since": since})).first()
    return _Activity(
        synced_at, errors, handles, drained_at, polled_at, None if failed is None else tuple(failed)
    )


def _expiry(token: TokenFacts | None, now: datetime) -> LastError | None:
    if token is None or token.expires_at is None or not token.is_expired(now):
        return None
    return LastError.of("token_expired", None, token.expires_at)


async def _causes(
    connection: AsyncConnection, of_store: dict[str, Any], token: TokenFacts | None, now: datetime
) -> list[tuple[str, LastError]]:
    """What is known of the reasons for which a store stands still, each with its reason."""
    found: list[tuple[str, LastError]] = []
    if token is not None and token.dead_at is not None:
        code = token.dead_code or PauseReason.NEEDS_RECONNECT
        found.append(("needs_reconnect", LastError.of(code, token.dead_reason, token.dead_at)))
    expiry = _expiry(token, now)
    if expiry is not None:
        found.append(("needs_reconnect", expiry))
    for at, code, said, reason in await connection.execute(_PAUSED_SINCE, of_store):
        found.append((reason, LastError.of(code, said, at, reason)))
    return found


async def _errors(
    connection: AsyncConnection,
    of_store: dict[str, Any],
    *,
    counts: StateCounts,
    failed_batch: tuple[datetime, str, str | None] | None,
) -> list[LastError]:
    """What went wrong with batches and items."""
    found: list[Any] = [failed_batch]
    if counts.by_status[Status.FAILED]:
        found.append((await connection.execute(_FAILED_ITEM, of_store)).first())
    return [LastError.of(code, said, at) for at, code, said in filter(None, found)]


def _newest(errors: Sequence[LastError]) -> LastError | None:
    return max(errors, key=lambda error: error.at, default=None)


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
