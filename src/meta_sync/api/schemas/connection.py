"""Bodies of the connection to Meta: token, selection, status, bootstrap."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field, SecretStr

from meta_sync.api.schemas.base import Answer, Body, Flag, Text, View
from meta_sync.connection.models import TokenKind
from meta_sync.graph.errors import Category
from meta_sync.sync.codes import names_of
from meta_sync.sync.models import Status
from meta_sync.sync.status import (
    BudgetView,
    ConnectionState,
    LastError,
    StoreStandstill,
    StoreStatus,
    SyncOutcome,
)

__all__ = [
    "BootstrapAnswer",
    "BootstrapResult",
    "MetaConnectionStatus",
    "SelectCatalogBody",
    "SelectedCatalog",
    "SelectedCatalogAnswer",
    "StatusAnswer",
    "TokenAnswer",
    "TokenBody",
    "TokenStatus",
]


_SHOWN: dict[str, Any] = {"pattern": "\\S"}
_META_ID: dict[str, Any] = {"pattern": "^[A-Za-z0-9_]+$"}


class TokenBody(Body):
    """A token to connect with."""

    access_token: SecretStr = Field(
        min_length=1,
        description="A System User's token, or a person's.",
        json_schema_extra={"maxLength": 4096, "pattern": "^[\\u0021-\\u007e]+$"},
    )


class TokenStatus(View):
    """What became known of the token; never the token."""

    connected: bool
    account_id: str | None
    account_name: str | None
    connected_at: datetime
    scope: str
    token_kind: TokenKind
    token_expires_at: datetime | None


class SelectCatalogBody(Body):
    """The Meta catalog to sync to."""

    business_id: Text = Field(
        min_length=1, max_length=100, examples=["1234567890"], json_schema_extra=_META_ID
    )
    business_name: Text = Field(min_length=1, max_length=200, json_schema_extra=_SHOWN)
    catalog_id: Text = Field(
        min_length=1, max_length=100, examples=["9876543210"], json_schema_extra=_META_ID
    )
    catalog_name: Text = Field(min_length=1, max_length=200, json_schema_extra=_SHOWN)
    enable_sync: Flag | None = Field(default=None, description="Also switch sending on or off.")
    dry_run: Flag = Field(default=False, description="Check everything, change nothing.")


class SelectedCatalog(View):
    """The catalog that is selected now."""

    system_user_id: str | None
    catalog_id: str
    token_kind: TokenKind
    job_id: str | None = Field(description="The first sync that was started.")
    waits_for_approval: bool = Field(
        description="The catalog has items already: nothing is sent until a person has read a pre-flight report and approved"
        " it. Of a dry run, whether it would be so."
    )


class StatusConfiguration(View):
    """What is still missing before anything can be sent."""

    oauth_client: str = Field(description="`configured` or `missing`: app id and app secret.")
    feed: str = Field(description="`configured` or `missing`: the keys below.")
    missing_keys: list[str]


class StatusSelection(View):
    """The selected catalog."""

    business_id: str
    business_name: str
    catalog_id: str
    catalog_name: str
    system_user_id: str | None
    token_kind: TokenKind


class StatusCounts(View):
    """Items by status, and what waits."""

    synced: int = Field(description="Meta confirmed what the item had when it was sent last.")
    submitted: int = Field(description="Sent, and Meta's verdict is awaited.")
    pending: int = Field(description="Waits to be sent; Meta has confirmed nothing of it.")
    failed: int = Field(description="Failed; `GET /admin/meta/errors` says why.")
    skipped: int = Field(description="Left out, because it is not fit to be sent or a person took it off.")
    deleted: int = Field(description="Deleted at Meta.")
    never_synced: int = Field(description="Not looked at yet.")
    total: int = Field(description="All items; the sum of the counts above.")
    outbox_pending: int = Field(description="Items that wait to be looked at, whatever their status.")
    held: int = Field(
        description="Of those, items that holds keep back until a person decides; counted within the last minute."
    )
    handles_pending: int = Field(description="Batches whose outcome is not known yet.")


class StatusError(View):
    """The newest thing that went wrong."""

    code: str = Field(description=f"Meta's number, or one of {names_of('pause', 'meta', 'item', 'batch')}.")
    message: str = Field(description="What Meta said, word for word; our own sentence where it said nothing.")
    at: datetime
    category: Category
    explanation: str = Field(description="What the code means.")
    action: str = Field(description="What to do about it.")


class StatusBudget(View):
    """How much of Meta's rate budget is used."""

    allowance_per_hour: int
    calls_last_hour: int
    usage_percent: float = Field(description="As Meta last reported it.")
    next_call_at: datetime | None
    blocked_until: datetime | None


class StatusCatalog(View):
    """What Meta last said of the selected catalog."""

    product_count: int | None
    vertical: str | None
    checked_at: datetime | None


class StatusReconciliation(View):
    """The last time that Meta was compared with what it had confirmed."""

    job_id: str = Field(description="The reconciliation.")
    at: datetime
    drift_percent: float = Field(
        description="Missing, different and orphaned items, in percent of those compared and missing."
    )


class MetaConnectionStatus(View):
    """How the connection and the sync stand."""

    connected: bool = Field(description="Whether `connectionState` is `connected`.")
    connection_state: ConnectionState = Field(
        description="`needs_reconnect`: the token's time is up, Meta refused it, or it cannot be read. `disconnected`: a "
        "catalog was selected once, and there is no token any more."
    )
    account_id: str | None = Field(description="The person or System User behind the token.")
    connected_at: datetime | None = Field(description="When the token was set.")
    scope: str | None = Field(description="Permissions of the token, separated by commas.")
    token_expires_at: datetime | None = Field(description="Null: it does not expire, as far as Meta said.")
    sync_enabled: bool = Field(description="Whether changes are sent at all.")
    feed_mode: str = Field(
        description="`live`, or `preview`: then nothing is sent and changes wait, as `GET /admin/meta/error-codes` says under"
        " that code."
    )
    configuration: StatusConfiguration
    selection: StatusSelection | None = Field(description="Null until a catalog is selected.")
    counts: StatusCounts
    pause_reason: StoreStandstill | None = Field(
        description="Why nothing is sent; null when nothing keeps the store from it. Of several reasons the one that "
        "somebody has to end, then the one that lasts longest. `GET /admin/meta/error-codes` says what each means."
    )
    paused_until: datetime | None = Field(
        description="When the reason ends by itself; null when somebody has to act."
    )
    last_sync_at: datetime | None = Field(
        description="When Meta last gave its verdict on a batch for the selected catalog."
    )
    last_sync_status: SyncOutcome = Field(
        description="`syncing`: something is at Meta, or waits and may be sent. `partial`: some items failed, `error`: all "
        "that were sent did. `never`: the selected catalog has got nothing yet."
    )
    last_error: StatusError | None = Field(
        description="Null when nothing is wrong that was not put right since."
    )
    error_count_24h: int = Field(
        validation_alias="errorCount24h",
        serialization_alias="errorCount24h",
        description="Items that Meta refused in batches which ended within the last 24 hours, each time counted.",
    )
    last_drain_at: datetime | None = Field(description="When a worker last looked for changes to send.")
    last_poll_at: datetime | None = Field(description="When a worker last asked Meta about a batch.")
    budget: StatusBudget | None = Field(description="Null until a catalog is selected.")
    catalog: StatusCatalog | None = Field(description="Null until a catalog is selected.")
    last_reconciliation: StatusReconciliation | None = Field(
        description="Null until the selected catalog was compared to its end, which is done once a day."
    )

    @classmethod
    def of(cls, status: StoreStatus) -> MetaConnectionStatus:
        """The status as answered."""
        return cls(
            connected=status.connection_state == "connected",
            connection_state=status.connection_state,
            account_id=status.account_id,
            connected_at=status.connected_at,
            scope=",".join(status.scopes) if status.scopes is not None else None,
            token_expires_at=status.token_expires_at,
            sync_enabled=status.settings.sync_enabled,
            feed_mode=status.settings.feed_mode,
            configuration=StatusConfiguration(
                oauth_client="configured" if status.is_app_configured else "missing",
                feed="missing" if status.missing_keys else "configured",
                missing_keys=list(status.missing_keys),
            ),
            selection=_selection(status),
            counts=_counts(status),
            pause_reason=status.pause_reason,
            paused_until=status.paused_until,
            last_sync_at=status.last_sync_at,
            last_sync_status=status.last_sync_status,
            last_error=_error(status.last_error),
            error_count_24h=status.error_count_24h,
            last_drain_at=status.last_drain_at,
            last_poll_at=status.last_poll_at,
            budget=_budget(status.budget),
            catalog=StatusCatalog.model_validate(status.catalog) if status.catalog else None,
            last_reconciliation=StatusReconciliation.model_validate(status.last_reconciliation)
            if status.last_reconciliation
            else None,
        )


def _selection(status: StoreStatus) -> StatusSelection | None:
    link = status.link
    if link is None:
        return None
    return StatusSelection(
        business_id=link.business_id or "",
        business_name=link.business_name or "",
        catalog_id=link.catalog_id,
        catalog_name=link.catalog_name or "",
        system_user_id=link.system_user_id,
        token_kind=link.token_kind,
    )


def _counts(status: StoreStatus) -> StatusCounts:
    by_status = status.counts.by_status
    return StatusCounts(
        synced=by_status[Status.SYNCED],
        submitted=by_status[Status.SUBMITTED],
        pending=by_status[Status.PENDING],
        failed=by_status[Status.FAILED],
        skipped=by_status[Status.SKIPPED],
        deleted=by_status[Status.DELETED],
        never_synced=by_status[Status.NEVER_SYNCED],
        total=status.counts.total,
        outbox_pending=status.counts.intents,
        held=status.counts.held,
        handles_pending=status.handles_pending,
    )


def _error(error: LastError | None) -> StatusError | None:
    if error is None:
        return None
    return StatusError(
        code=error.code,
        message=error.message,
        at=error.at,
        category=error.entry.category,
        explanation=error.entry.sentence,
        action=error.entry.action,
    )


def _budget(budget: BudgetView | None) -> StatusBudget | None:
    return None if budget is None else StatusBudget.model_validate(budget)


class BootstrapResult(View):
    """A full sync that was started."""

    enqueued_variants: int = Field(
        description="Variants in scope; those Meta has as they should be cost nothing."
    )
    job_id: str


class TokenAnswer(Answer):
    data: TokenStatus


class SelectedCatalogAnswer(Answer):
    data: SelectedCatalog


class StatusAnswer(Answer):
    data: MetaConnectionStatus


class BootstrapAnswer(Answer):
    data: BootstrapResult
