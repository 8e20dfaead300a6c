"""What the audit log is told of feeds and imports. Addresses as they are shown, passwords never."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.ingest.feeds_models import FeedView
from meta_sync.stores.audit import AuditAction, AuditTarget, record_action
from meta_sync.stores.settings_changes import SECRET_CHANGED_AS, secret_change

__all__ = ["record_feed", "record_feed_change", "record_import"]


async def record_feed(
    connection: AsyncConnection,
    store_id: str,
    feed_id: str,
    *,
    actor: str,
    action: AuditAction,
    before: FeedView | None = None,
    after: FeedView | None = None,
) -> None:
    """Record what was done to a feed, with the feed as it was, as it is, or neither where it stays as it is."""
    await record_action(
        connection,
        store_id,
        actor=actor,
        action=action,
        target_type=AuditTarget.FEED,
        target_id=feed_id,
        before=None if before is None else _told(before),
        after=None if after is None else _told(after),
    )


async def record_feed_change(
    connection: AsyncConnection,
    store_id: str,
    before: FeedView,
    after: FeedView,
    *,
    actor: str,
    given: Container[str],
) -> None:
    """Record what of a feed is another than before; ``given`` names what was set anew, as ``FeedInput`` does."""
    old, new = _told(before), _told(after)
    if "password" in given:
        old["password"], new["password"] = secret_change(was=before.has_password, now=after.has_password)
    was = {key: value for key, value in old.items() if value != new[key]}
    now = {key: new[key] for key in was}
    if "url" in given and "url" not in was:
        # Two addresses that are shown alike differ in what is not shown.
        was["url"], now["url"] = old["url"], SECRET_CHANGED_AS
    if now:
        await record_action(
            connection,
            store_id,
            actor=actor,
            action=AuditAction.FEED_CHANGED,
            target_type=AuditTarget.FEED,
            target_id=before.feed_id,
            before=was,
            after=now,
        )


async def record_import(
    connection: AsyncConnection,
    store_id: str,
    import_id: str,
    actor: str | None,
    *,
    mode: str,
    allow_mass_delete: bool,
    dry_run: bool,
    source: str | None,
    file_name: str | None,
) -> None:
    """Record an import that may delete: of all others the import itself is the record."""
    if actor is None or dry_run or (mode != "replace" and not allow_mass_delete):
        return
    await record_action(
        connection,
        store_id,
        actor=actor,
        action=AuditAction.IMPORT_STARTED,
        target_type=AuditTarget.IMPORT,
        target_id=import_id,
        after={
            "mode": mode,
            "allowMassDelete": allow_mass_delete,
            "source": source,
            "fileName": file_name,
        },
    )


def _told(feed: FeedView) -> dict[str, Any]:
    return {
        "source": feed.source,
        "url": feed.shown_url,
        "username": feed.username,
        "password": secret_change(was=False, now=feed.has_password)[1],
        "format": feed.format,
        "mode": feed.mode,
        "allowMassDelete": feed.allow_mass_delete,
        "intervalSeconds": feed.interval_seconds,
        "enabled": feed.enabled,
    }
