"""Reads what a check-up judges: bounded questions to the database, none to Meta. Judges nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.ingest.feeds_models import password_context, url_context
from meta_sync.catalog.models import Lane
from meta_sync.connection.repository import active_link, token_context
from meta_sync.core.crypto import Cipher, DecryptionError
from meta_sync.core.db import Database
from meta_sync.stores.repository import secret_context
from meta_sync.sync.checkup import Secret, WorkerFact
from meta_sync.sync.checkup_store import FeedFact, StoreFacts, WorkFact
from meta_sync.sync.item_queries import NO_LINK
from meta_sync.sync.mapping import MAPPER_VERSION
from meta_sync.sync.models import Status
from meta_sync.sync.status import StatusService

__all__ = ["CheckupReader", "InstallationFacts"]

_PAGE_STORES = 200
_MOST_FAILED = 10_000
"""Failed items that are told apart by code."""
_MOST_SHOWN = 20

_NOW = text("SELECT clock_timestamp()")
_WORKERS = text("SELECT worker_id, version, clock_timestamp() - seen_at FROM worker_heartbeats")
_TOKENS = text("SELECT store_id, credential_id, access_token FROM credentials")
_STORE_SECRETS = text("SELECT store_id, app_secret, verify_token, conversions_access_token FROM stores")
_FEED_SECRETS = text("SELECT store_id, feed_id, url, password FROM import_feeds")
_STORES = text(
    """
    SELECT store_id, name, mapper_version > :mapper_version FROM stores
    WHERE CAST(:store_id AS text) IS NULL OR store_id = :store_id
    ORDER BY created_at, store_id LIMIT :limit OFFSET :offset
    """
)
# Each is the head of an index, or bounded.
_WAITING = text(
    """
    SELECT first_at FROM intents WHERE store_id = :store_id AND lane = :lane AND parked_by IS NULL AND held_by IS NULL
    ORDER BY first_at LIMIT 1
    """
)
_OPEN_BATCHES = text(
    """
    SELECT min(created_at) FILTER (WHERE state <> 'given_up'), count(*) FILTER (WHERE state = 'given_up') FROM batches
    WHERE link_id IN (SELECT link_id FROM catalog_links WHERE store_id = :store_id) AND state <> 'over'
    """
)
_FAILED_CODES = text(
    """
    SELECT code, count(*) AS items FROM (
        SELECT COALESCE(code, 'refused_without_reason') AS code FROM sync_state
        WHERE link_id = :link_id AND status = 'failed' ORDER BY variant_id LIMIT :most
    ) AS failed GROUP BY code ORDER BY items DESC, code LIMIT :shown
    """
)
_RETRIES = text(
    """
    SELECT count(*), min(retry_at) FROM (
        SELECT retry_at FROM sync_state WHERE link_id = :link_id AND retries > 0 LIMIT :most
    ) AS waiting
    """
)
_FEEDS = text(
    """
    SELECT source, failures, last_message, next_at, COALESCE(leased_until > now(), false) FROM import_feeds
    WHERE store_id = :store_id AND interval_seconds IS NOT NULL AND enabled ORDER BY failures DESC, source LIMIT :shown
    """
)
# A worker that works on a job says until when; nobody has said so since then.
_JOBS = text(
    """
    SELECT job_id, type, COALESCE(leased_until, started_at, created_at) AS since FROM jobs
    WHERE store_id = :store_id AND status IN ('queued', 'running', 'cancelling')
      AND (leased_until IS NULL OR leased_until < now())
    ORDER BY since LIMIT :shown
    """
)
# An import waits for an earlier one of the store.
_IMPORTS = text(
    """
    SELECT i.import_id, 'import', COALESCE(i.leased_until, i.created_at) AS since FROM imports AS i
    WHERE i.store_id = :store_id AND i.status IN ('queued', 'running')
      AND (i.leased_until IS NULL OR i.leased_until < now())
      AND NOT EXISTS (SELECT FROM imports AS other WHERE other.store_id = :store_id AND other.status = 'running'
                      AND other.leased_until >= now())
    ORDER BY since LIMIT :shown
    """
)


@dataclass(frozen=True, slots=True)
class InstallationFacts:
    """What was read of the installation; ``now`` is the database's clock."""

    now: datetime
    workers: tuple[WorkerFact, ...]
    secrets: tuple[Secret, ...]


class CheckupReader:
    """Reads the facts of a check-up.

    Parameters
    ----------
    database, status
        Where the rows are, and who knows how a store stands.
    cipher
        With the keys of this process: whether they open what is stored is one of the facts.
    """

    def __init__(self, database: Database, status: StatusService, cipher: Cipher) -> None:
        self._database = database
        self._status = status
        self._cipher = cipher

    async def installation(self, store_id: str | None = None) -> InstallationFacts:
        """What concerns every store; of secrets those of one store, if one is named."""
        async with self._database.platform() as connection:
            now = await connection.scalar(_NOW)
            workers = [WorkerFact(*row) for row in await connection.execute(_WORKERS)]
            sealed = await _sealed(connection)
        wanted = [one for one in sealed if store_id in (None, one[0])]
        secrets = await asyncio.to_thread(self._opened, wanted)
        assert now is not None
        return InstallationFacts(now, tuple(workers), tuple(secrets))

    def _opened(self, sealed: list[tuple[str, str, bytes, str]]) -> list[Secret]:
        return [
            Secret(store_id, kind, self._opens(value, context)) for store_id, kind, value, context in sealed
        ]

    def _opens(self, value: bytes, context: str) -> bool:
        try:
            self._cipher.decrypt(value, context=context)
        except DecryptionError:
            return False
        return True

    async def stores(self, store_id: str | None = None) -> AsyncIterator[StoreFacts]:
        """The facts of every store, oldest first, or of one."""
        offset = 0
        while True:
            values = {"store_id": store_id, "limit": _PAGE_STORES, "offset": offset}
            async with self._database.platform() as connection:
                rows = (await connection.execute(_STORES, {**values, "mapper_version": MAPPER_VERSION})).all()
            for found, name, is_newer in rows:
                yield await self._store(found, name, is_newer=is_newer)
            if len(rows) < _PAGE_STORES:
                return
            offset += _PAGE_STORES

    async def _store(self, store_id: str, name: str, *, is_newer: bool) -> StoreFacts:
        status = await self._status.status(store_id)
        async with self._database.store(store_id) as connection:
            link = await active_link(connection, store_id)
            values: dict[str, Any] = {
                "store_id": store_id,
                "link_id": link.link_id if link is not None else NO_LINK,
                "most": _MOST_FAILED,
                "shown": _MOST_SHOWN,
            }
            waiting = {
                lane: await connection.scalar(_WAITING, {**values, "lane": int(lane)}) for lane in Lane
            }
            oldest_batch, given_up = (await connection.execute(_OPEN_BATCHES, values)).one()
            codes = (await connection.execute(_FAILED_CODES, values)).all()
            retries, oldest_retry = (await connection.execute(_RETRIES, values)).one()
            feeds = (await connection.execute(_FEEDS, values)).all()
            jobs = (await connection.execute(_JOBS, values)).all()
            imports = (await connection.execute(_IMPORTS, values)).all()
            now = await connection.scalar(_NOW)
        assert now is not None
        return StoreFacts(
            store_id=store_id,
            name=name,
            now=now,
            status=status,
            waiting={lane: at for lane, at in waiting.items() if at is not None},
            oldest_batch=oldest_batch,
            given_up=given_up,
            failed_codes=[(code, count) for code, count in codes],
            is_failed_sample=status.counts.by_status[Status.FAILED] > _MOST_FAILED,
            retries=retries,
            oldest_retry=oldest_retry,
            feeds=[FeedFact(*row) for row in feeds],
            jobs=[WorkFact(*row) for row in jobs],
            imports=[WorkFact(*row) for row in imports],
            is_newer_elsewhere=is_newer,
        )


async def _sealed(connection: AsyncConnection) -> list[tuple[str, str, bytes, str]]:
    """Everything that is stored encrypted: store, kind, value, and what it is bound to."""
    found = [
        (store_id, "token", value, token_context(credential_id))
        for store_id, credential_id, value in await connection.execute(_TOKENS)
    ]
    for row in await connection.execute(_STORE_SECRETS):
        found += [
            (row.store_id, kind, value, secret_context(column, row.store_id))
            for column, kind, value in (
                ("app_secret", "app secret", row.app_secret),
                ("verify_token", "verify token", row.verify_token),
                ("conversions_access_token", "conversions token", row.conversions_access_token),
            )
            if value is not None
        ]
    for row in await connection.execute(_FEED_SECRETS):
        found.append((row.store_id, "feed address", row.url, url_context(row.feed_id)))
        if row.password is not None:
            found.append((row.store_id, "feed password", row.password, password_context(row.feed_id)))
    return found
