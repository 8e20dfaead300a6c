"""Fetches due feeds: lease, fetch to local disk, hand the file to an import. Safe to kill anywhere.

No transaction is open while the network is waited for. A file is kept on disk until it is whole, so that one that is
cut short, too large or the same as before never becomes an import.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from meta_sync.catalog.ingest import feeds_rows as rows
from meta_sync.catalog.ingest.feeds_models import FeedLease, FetchedFile, password_context, url_context
from meta_sync.catalog.ingest.feeds_policy import (
    FetchFailure,
    failure_of_status,
    wait_after_failure_seconds,
    wait_once_seconds,
    wait_seconds,
)
from meta_sync.catalog.ingest.import_rows import LeaseLostError
from meta_sync.catalog.ingest.imports import CHUNK_BYTES, ImportService
from meta_sync.core.crypto import Cipher, DecryptionError
from meta_sync.core.db import Database
from meta_sync.core.errors import ConflictError
from meta_sync.core.failpoints import failpoint
from meta_sync.core.logging import get_logger
from meta_sync.core.outages import is_contention, is_outage
from meta_sync.core.outbound import BasicCredentials, OutboundAnswer, OutboundClient, OutboundError

__all__ = ["FeedFetcher", "FetchLimits"]

_logger = get_logger(__name__)

_OURS = FetchFailure(
    "The file could not be fetched because of a fault on our side; the operator's log says more.",
    is_passing=True,
)
_UNREADABLE = FetchFailure(
    "The stored address or password cannot be read any more, because its encryption key is gone. Set them again.",
    is_passing=False,
)
_EMPTY = FetchFailure("The server answered with an empty file.", is_passing=True)
_NO_PROVED_END = FetchFailure(
    "The server does not say how long the file is, so nobody can tell whether it came whole. A replace needs that: let "
    "the server send Content-Length, or use mode upsert.",
    is_passing=False,
)


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """How much and how long a feed may be."""

    most_bytes: int
    total_seconds: float = 1_800.0
    """Half an hour: the largest file at a third of a megabyte a second."""
    renew_seconds: float = rows.FEED_LEASE_SECONDS / 6
    """Between two renewals of the lease while a file comes in."""


class FeedFetcher:
    """Works off the due feeds of all stores.

    Parameters
    ----------
    database, cipher
        Where feeds are, and what their addresses are encrypted with.
    outbound
        The way to the web.
    imports
        Takes the files on.
    limits
        How much and how long a feed may be.
    draw
        Random numbers from 0 to 1, which spread feeds in time.
    """

    def __init__(
        self,
        database: Database,
        cipher: Cipher,
        outbound: OutboundClient,
        imports: ImportService,
        *,
        limits: FetchLimits,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._database = database
        self._cipher = cipher
        self._outbound = outbound
        self._imports = imports
        self._limits = limits
        self._draw = draw

    async def fetch_next(self, *, import_id: str | None = None) -> bool:
        """Fetch the feed that has been due the longest, or the file of one import; ``False`` when it is not due."""
        async with self._database.platform() as connection:
            lease = await rows.lease_feed(connection, import_id)
        if lease is None:
            return False
        try:
            await self._work(lease)
        except LeaseLostError:
            _logger.info("A feed was changed or taken over while it was fetched.", feed_id=lease.feed_id)
        except asyncio.CancelledError:
            async with self._database.platform() as connection:
                await rows.give_back_feed(connection, lease)
            raise
        except Exception as error:
            # Where the database or the disk is away, nothing can be noted; the lease ends by itself.
            if is_outage(error) or is_contention(error):
                raise
            _logger.exception("A feed could not be fetched; it will be tried again.", feed_id=lease.feed_id)
            await self._fail(lease, _OURS)
        return True

    async def _work(self, lease: FeedLease) -> None:
        status = lease.import_status
        if status == "uploading" and lease.last_import_id is not None:
            # A worker died between the last piece and the end.
            await self._finish(lease, lease.last_import_id)
        elif lease.is_once and status != "fetching" and lease.last_import_id is not None:
            await self._record(lease, lease.last_import_id)
        elif status in {"queued", "running"}:
            async with self._database.platform() as connection:
                await rows.wait_for_import(connection, lease)
        else:
            with tempfile.TemporaryDirectory(prefix="meta-sync-feed-") as directory:
                await self._fetch_and_store(lease, Path(directory) / "body")

    async def _fetch_and_store(self, lease: FeedLease, path: Path) -> None:
        try:
            fetched = await self._fetch(lease, path)
        except OutboundError as error:
            fetched = FetchFailure(error.message, error.is_passing)
        except DecryptionError:
            fetched = _UNREADABLE
        if isinstance(fetched, FetchFailure):
            await self._fail(lease, fetched)
            return
        is_known = fetched.digest == lease.content_hash or fetched.size_bytes == 0
        if lease.interval_seconds is not None and lease.knows_its_file and is_known:
            async with self._database.platform() as connection:
                await rows.record_not_modified(
                    connection,
                    lease,
                    etag=fetched.etag,
                    last_modified=fetched.last_modified,
                    next_in_seconds=wait_seconds(lease.interval_seconds, self._draw()),
                )
            return
        await self._store(lease, fetched, path)

    async def _fetch(self, lease: FeedLease, path: Path) -> FetchedFile | FetchFailure:
        """Fetch the file to local disk. A size of 0 says that the server has nothing newer."""
        address = self._outbound.read(
            self._cipher.decrypt(lease.url, context=url_context(lease.feed_id)).get_secret_value()
        )
        conditions = lease.conditions()
        async with self._outbound.get(
            address,
            most_bytes=self._limits.most_bytes,
            total_seconds=self._limits.total_seconds,
            headers=conditions,
            credentials=self._credentials(lease),
        ) as answer:
            file = FetchedFile(
                0,
                b"",
                answer.headers.get("etag"),
                answer.headers.get("last-modified"),
                address.file_name,
                answer.is_end_proved,
            )
            if answer.status == 304 and conditions:
                return file
            if answer.status != 200:
                return failure_of_status(answer.status)
            if lease.mode == "replace" and not answer.is_end_proved:
                return _NO_PROVED_END
            size_bytes, digest = await self._spool(lease, answer, path)
        return replace(file, size_bytes=size_bytes, digest=digest) if size_bytes else _EMPTY

    def _credentials(self, lease: FeedLease) -> BasicCredentials | None:
        if lease.username is None or lease.password is None:
            return None
        password = self._cipher.decrypt(lease.password, context=password_context(lease.feed_id))
        return BasicCredentials(lease.username, password)

    async def _spool(self, lease: FeedLease, answer: OutboundAnswer, path: Path) -> tuple[int, bytes]:
        """Write the body to disk; its size and its hash."""
        loop = asyncio.get_running_loop()
        hasher, size_bytes, renewed_at = hashlib.sha256(), 0, loop.time()
        buffer = bytearray()

        def write(file: BinaryIO, content: bytes) -> None:
            hasher.update(content)
            file.write(content)

        with path.open("wb") as file:
            async for piece in answer.body():
                buffer += piece
                size_bytes += len(piece)
                if len(buffer) >= CHUNK_BYTES:
                    await asyncio.to_thread(write, file, bytes(buffer))
                    buffer.clear()
                if loop.time() - renewed_at >= self._limits.renew_seconds:
                    async with self._database.platform() as connection:
                        await rows.renew_feed_lease(connection, lease)
                    renewed_at = loop.time()
            await asyncio.to_thread(write, file, bytes(buffer))
        return size_bytes, hasher.digest()

    async def _store(self, lease: FeedLease, fetched: FetchedFile, path: Path) -> None:
        """Put the file into the pieces of its import, each in a transaction under the fence."""
        await failpoint("feed.after_fetch")
        async with self._database.platform() as connection:
            import_id = await rows.begin_import(connection, lease, fetched)
        number = 0
        with path.open("rb") as file:
            while content := await asyncio.to_thread(file.read, CHUNK_BYTES):
                async with self._database.platform() as connection:
                    await rows.append_chunk(connection, lease, import_id, number, content)
                number += 1
                await failpoint("feed.after_chunk")
        async with self._database.platform() as connection:
            await rows.complete_import(connection, lease, import_id, is_end_proved=fetched.is_end_proved)
        await failpoint("feed.before_finish")
        await self._finish(lease, import_id)

    async def _finish(self, lease: FeedLease, import_id: str) -> None:
        try:
            await self._imports.finish_upload(lease.store_id, import_id)
        except ConflictError:
            _logger.info("A fetched file had been put in line already.", import_id=import_id)
        await failpoint("feed.after_finish")
        await self._record(lease, import_id)

    async def _record(self, lease: FeedLease, import_id: str) -> None:
        interval = lease.interval_seconds
        async with self._database.platform() as connection:
            await rows.record_imported(
                connection,
                lease,
                import_id,
                next_in_seconds=None if interval is None else wait_seconds(interval, self._draw()),
            )
        _logger.info("A feed was fetched.", feed_id=lease.feed_id, import_id=import_id)

    async def _fail(self, lease: FeedLease, failure: FetchFailure) -> None:
        failures, interval = lease.failures + 1, lease.interval_seconds
        if interval is not None:
            wait: float | None = wait_after_failure_seconds(interval, failures, self._draw())
        else:
            wait = wait_once_seconds(failures, self._draw()) if failure.is_passing else None
        keeps_import = lease.is_once and wait is not None
        message = f"{failure.message} It is tried again." if keeps_import else failure.message

        async with self._database.platform() as connection:
            await rows.record_failure(
                connection, lease, message, next_in_seconds=wait, keeps_import=keeps_import
            )
        _logger.info(
            "A feed could not be fetched.", feed_id=lease.feed_id, reason=failure.message, failures=failures
        )
