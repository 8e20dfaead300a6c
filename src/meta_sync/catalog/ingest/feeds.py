"""Imports by address and feeds that are fetched on a schedule, from the caller's side. Fetching is ``feeds_fetch``'s business.

Addresses and passwords go in and never come out again. What an address may be is said by the outbound client; names
are resolved when they are fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr
from pydantic.alias_generators import to_camel
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.ingest.feeds_audit import record_feed, record_feed_change, record_import
from meta_sync.catalog.ingest.feeds_models import FeedInput, FeedView, password_context, url_context
from meta_sync.catalog.ingest.feeds_rows import drop_import
from meta_sync.catalog.ingest.imports import check_request, require_currency
from meta_sync.catalog.tables import import_feeds, imports
from meta_sync.core.crypto import Cipher
from meta_sync.core.db import Database
from meta_sync.core.errors import ConflictError, ErrorDetail, NotFoundError, ValidationFailedError
from meta_sync.core.ids import new_id
from meta_sync.core.outbound import OutboundClient, RefusedAddressError
from meta_sync.core.outbound_address import WebAddress
from meta_sync.core.queue import JobName, JobQueue
from meta_sync.core.text import text_fault
from meta_sync.core.timed_list import Position, TimedList, TimedPage
from meta_sync.stores.audit import COMMAND_LINE, AuditAction

__all__ = ["FeedInput", "FeedService", "FeedView"]

_MOST_FEEDS = 200
"""Of a store. Each is looked at again and again for ever."""
_MOST_WAITING = 100
"""Imports by address that wait to be fetched, of a store."""
_LONGEST_USERNAME = 200
_LONGEST_PASSWORD = 1_000

_REQUIRED = ("url", "source", "mode", "interval_seconds", "allow_mass_delete", "enabled")
"""What a change cannot clear."""
_OF_THE_FILE = ("url", "source", "format", "mode", "username", "password", "allow_mass_delete")
"""What makes the file that was fetched last say nothing about the next one."""
_FORGET = {"etag": None, "last_modified": None, "content_hash": None, "failures": 0}

_VIEW_COLUMNS = (
    import_feeds.c.feed_id,
    import_feeds.c.source,
    import_feeds.c.shown_url,
    import_feeds.c.username,
    import_feeds.c.password.is_not(None),
    import_feeds.c.format,
    import_feeds.c.mode,
    import_feeds.c.allow_mass_delete,
    import_feeds.c.interval_seconds,
    import_feeds.c.enabled,
    import_feeds.c.next_at,
    import_feeds.c.checked_at,
    import_feeds.c.last_result,
    import_feeds.c.last_message,
    import_feeds.c.last_import_id,
    import_feeds.c.failures,
    import_feeds.c.created_at,
    import_feeds.c.updated_at,
)
_LIST = TimedList(
    _VIEW_COLUMNS, import_feeds.c.created_at, import_feeds.c.feed_id, lambda row: FeedView(*row)
)


class FeedService:
    """Takes addresses in and tells how their feeds go.

    Parameters
    ----------
    database, cipher
        Where feeds are, and what encrypts their addresses.
    outbound
        Says which addresses can be asked at all.
    queue
        Woken when there is something to fetch.
    """

    def __init__(self, database: Database, cipher: Cipher, outbound: OutboundClient, queue: JobQueue) -> None:
        self._database = database
        self._cipher = cipher
        self._outbound = outbound
        self._queue = queue

    async def import_once(
        self, store_id: str, feed: FeedInput, *, dry_run: bool = False, requested_by: str | None = None
    ) -> str:
        """Begin an import of the file at an address; the id of the import.

        Raises
        ------
        ValidationFailedError
            The address cannot be asked, or the format, mode, source or credentials are not valid.
        ConflictError
            The store has no currency yet, or too many such imports wait.
        NotFoundError
            There is no such store.
        """
        address = self._checked(feed)
        feed_id, import_id = new_id("feed"), new_id("import")
        async with self._database.store(store_id) as connection:
            await require_currency(connection, store_id)
            waiting = await connection.scalar(
                select(func.count())
                .select_from(imports)
                .where(imports.c.store_id == store_id, imports.c.status == "fetching")
            )
            if (waiting or 0) >= _MOST_WAITING:
                raise ConflictError(
                    f"{_MOST_WAITING} imports wait to be fetched already. Begin this one when some of them are over."
                )
            await connection.execute(
                insert(imports).values(
                    import_id=import_id,
                    store_id=store_id,
                    status="fetching",
                    format=feed.format,
                    requested_format=feed.format,
                    mode=feed.mode,
                    source=feed.source or feed.format,
                    file_name=address.file_name,
                    requested_by=requested_by,
                    dry_run=dry_run,
                    allow_mass_delete=feed.allow_mass_delete,
                    feed_id=feed_id,
                )
            )
            values = self._values(feed_id, store_id, feed, address)
            await connection.execute(insert(import_feeds).values(**values, last_import_id=import_id))
            await record_import(
                connection,
                store_id,
                import_id,
                requested_by,
                mode=feed.mode,
                allow_mass_delete=feed.allow_mass_delete,
                dry_run=dry_run,
                source=feed.source or feed.format,
                file_name=address.file_name,
            )
        await self._queue.wake(JobName.IMPORTS)
        return import_id

    async def create(self, store_id: str, feed: FeedInput, *, actor: str = COMMAND_LINE) -> FeedView:
        """Add a feed that is fetched again and again, the first time at once.

        Here and below ``actor`` is who asks, for the audit log; whoever has no credential is at the command line.

        Raises
        ------
        ValidationFailedError
            The address cannot be asked, or the format, mode, source or credentials are not valid.
        ConflictError
            The store has no currency yet, has a feed of that source already, or has very many feeds.
        NotFoundError
            There is no such store.
        """
        address = self._checked(feed)
        if not feed.source:
            raise _invalid("source", "is required")
        feed_id = new_id("feed")
        try:
            async with self._database.store(store_id) as connection:
                await require_currency(connection, store_id)
                if await _count(connection, store_id) >= _MOST_FEEDS:
                    raise ConflictError(f"The store has {_MOST_FEEDS} feeds, which is the most there can be.")
                await connection.execute(
                    insert(import_feeds).values(**self._values(feed_id, store_id, feed, address))
                )
                view = await _read(connection, store_id, feed_id)
                await record_feed(
                    connection, store_id, feed_id, actor=actor, action=AuditAction.FEED_CREATED, after=view
                )
        except IntegrityError:
            raise _taken(feed.source) from None
        await self._queue.wake(JobName.IMPORTS)
        return view

    async def list(
        self, store_id: str, page: int = 1, limit: int = 50, *, after: Position | None = None
    ) -> TimedPage[FeedView]:
        """A page of the store's scheduled feeds, oldest first; a position rules over ``page``.

        Raises
        ------
        ValidationFailedError
            The page lies beyond what pages reach.
        """
        conditions = (import_feeds.c.store_id == store_id, import_feeds.c.interval_seconds.is_not(None))
        async with self._database.store(store_id) as connection:
            return await _LIST.page(connection, *conditions, page=page, limit=limit, after=after)

    async def get(self, store_id: str, feed_id: str) -> FeedView:
        """One scheduled feed.

        Raises
        ------
        NotFoundError
            There is no such feed.
        """
        async with self._database.store(store_id) as connection:
            return await _read(connection, store_id, feed_id)

    async def update(
        self, store_id: str, feed_id: str, changes: Mapping[str, Any], *, actor: str = COMMAND_LINE
    ) -> FeedView:
        """Change a feed; names are those of ``FeedInput``, and what is absent stays.

        A change of what is fetched or how it is read stops a fetch under way and fetches anew at once.

        Raises
        ------
        ValidationFailedError
            The address cannot be asked, a value is not valid, or the feed's password would go to another server.
        ConflictError
            The store has another feed of that source.
        NotFoundError
            There is no such feed.
        """
        for name in _REQUIRED:
            if name in changes and changes[name] is None:
                raise _invalid(to_camel(name), "must not be null")
        try:
            async with self._database.store(store_id) as connection:
                before = await _read(connection, store_id, feed_id, lock=True)
                view = await self._update(connection, store_id, before, changes)
                await record_feed_change(connection, store_id, before, view, actor=actor, given=changes)
        except IntegrityError:
            raise _taken(changes["source"]) from None
        await self._queue.wake(JobName.IMPORTS)
        return view

    async def delete(self, store_id: str, feed_id: str, *, actor: str = COMMAND_LINE) -> None:
        """Delete a feed. Imports of files that came whole go on; products stay.

        Raises
        ------
        NotFoundError
            There is no such feed.
        """
        async with self._database.store(store_id) as connection:
            feed = await _read(connection, store_id, feed_id, lock=True)
            await connection.execute(delete(import_feeds).where(*_this(store_id, feed_id)))
            if feed.last_import_id is not None:
                reason = "The feed was deleted before its file was fetched."
                await drop_import(connection, feed.last_import_id, reason)
            await record_feed(
                connection, store_id, feed_id, actor=actor, action=AuditAction.FEED_DELETED, before=feed
            )

    async def fetch(self, store_id: str, feed_id: str, *, actor: str = COMMAND_LINE) -> FeedView:
        """Have a feed fetched now, also one that is switched off. A fetch that is under way is this one.

        Raises
        ------
        NotFoundError
            There is no such feed.
        """
        async with self._database.store(store_id) as connection:
            await connection.execute(
                update(import_feeds).where(*_this(store_id, feed_id)).values(next_at=func.now())
            )
            view = await _read(connection, store_id, feed_id)
            await record_feed(connection, store_id, feed_id, actor=actor, action=AuditAction.FEED_STARTED)
        await self._queue.wake(JobName.IMPORTS)
        return view

    def _checked(self, feed: FeedInput) -> WebAddress:
        """The address of a feed whose values were all found valid."""
        check_request(feed.format, feed.mode, feed.source)
        _check_credentials(feed.username, feed.password)
        return self._address(feed.url)

    def _address(self, url: SecretStr) -> WebAddress:
        try:
            return self._outbound.read(url.get_secret_value())
        except RefusedAddressError as refusal:
            raise _invalid("url", refusal.fault) from None

    def _values(self, feed_id: str, store_id: str, feed: FeedInput, address: WebAddress) -> dict[str, Any]:
        return {
            "feed_id": feed_id,
            "store_id": store_id,
            "source": feed.source or feed.format or "",
            **self._sealed(feed_id, address, feed.url),
            "username": feed.username,
            "password": self._sealed_password(feed_id, feed.password),
            "format": feed.format,
            "mode": feed.mode,
            "allow_mass_delete": feed.allow_mass_delete,
            "interval_seconds": feed.interval_seconds,
            "enabled": feed.enabled,
            "next_at": func.now() if feed.enabled else None,
        }

    def _sealed(self, feed_id: str, address: WebAddress, url: SecretStr) -> dict[str, Any]:
        sealed = self._cipher.encrypt(url, context=url_context(feed_id))
        return {"shown_url": address.shown, "url": sealed}

    def _sealed_password(self, feed_id: str, password: SecretStr | None) -> bytes | None:
        if password is None:
            return None
        return self._cipher.encrypt(password, context=password_context(feed_id))

    async def _update(
        self, connection: AsyncConnection, store_id: str, before: FeedView, changes: Mapping[str, Any]
    ) -> FeedView:
        feed_id = before.feed_id
        source, format_name = changes.get("source", before.source), changes.get("format", before.format)
        check_request(format_name, changes.get("mode", before.mode), source)
        values: dict[str, Any] = {
            name: value for name, value in changes.items() if name not in {"url", "password"}
        }
        if "url" in changes:
            values |= self._moved(before, changes)
        values |= self._new_credentials(before, changes)
        enabled = changes.get("enabled", before.enabled)
        # The higher fence stops whoever fetches what the feed no longer is.
        stop = {"fence": import_feeds.c.fence + 1, "leased_until": None}
        if any(name in changes for name in _OF_THE_FILE):
            values |= {**_FORGET, **stop, "next_at": func.now() if enabled else None}
        elif before.enabled and not enabled:
            values |= {**stop, "next_at": None}
        elif enabled and not before.enabled:
            values["next_at"] = func.now()
        elif "interval_seconds" in changes and enabled:
            interval = func.make_interval(0, 0, 0, 0, 0, 0, changes["interval_seconds"])
            values["next_at"] = func.coalesce(import_feeds.c.checked_at, func.now()) + interval
        if not values:
            return before
        await connection.execute(
            update(import_feeds)
            .where(*_this(store_id, feed_id))
            .values(**values, updated_at=func.clock_timestamp())
        )
        if "fence" in values and before.last_import_id is not None:
            await drop_import(
                connection, before.last_import_id, "The feed was changed while its file was fetched."
            )
        return await _read(connection, store_id, feed_id)

    def _moved(self, before: FeedView, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The columns of a new address. A stored password does not go along to another server."""
        address = self._address(changes["url"])
        former = before.shown_url.partition("://")
        is_same = former[0] == address.scheme and former[2].partition("/")[0] == address.host_header
        if before.has_password and "password" not in changes and not is_same:
            raise _invalid("password", "must be given again for another server, or cleared with null")
        return self._sealed(before.feed_id, address, changes["url"])

    def _new_credentials(self, before: FeedView, changes: Mapping[str, Any]) -> dict[str, Any]:
        if "username" not in changes and "password" not in changes:
            return {}
        username = changes.get("username", before.username)
        if "password" in changes:
            password: SecretStr | None = changes["password"]
            _check_credentials(username, password)
            return {"username": username, "password": self._sealed_password(before.feed_id, password)}
        _check_credentials(username, SecretStr("") if before.has_password else None)
        return {"username": username}


def _this(store_id: str, feed_id: str) -> tuple[Any, ...]:
    return (
        import_feeds.c.store_id == store_id,
        import_feeds.c.feed_id == feed_id,
        import_feeds.c.interval_seconds.is_not(None),
    )


async def _read(connection: AsyncConnection, store_id: str, feed_id: str, *, lock: bool = False) -> FeedView:
    statement = select(*_VIEW_COLUMNS).where(*_this(store_id, feed_id))
    row = (await connection.execute(statement.with_for_update() if lock else statement)).first()
    if row is None:
        raise _no_feed(feed_id)
    return FeedView(*row)


async def _count(connection: AsyncConnection, store_id: str) -> int:
    counted = await connection.scalar(
        select(func.count())
        .select_from(import_feeds)
        .where(import_feeds.c.store_id == store_id, import_feeds.c.interval_seconds.is_not(None))
    )
    return counted or 0


def _check_credentials(username: str | None, password: SecretStr | None) -> None:
    if (username is None) != (password is None):
        missing, given = ("password", "username") if password is None else ("username", "password")
        raise _invalid(missing, f"is required where {given} is given")
    if username is None or password is None:
        return
    if not username or ":" in username or not username.isprintable():
        raise _invalid("username", "must be a name without a colon or control characters")
    if len(username) > _LONGEST_USERNAME:
        raise _invalid("username", f"must have at most {_LONGEST_USERNAME} characters")
    plain = password.get_secret_value()
    if len(plain) > _LONGEST_PASSWORD:
        raise _invalid("password", f"must have at most {_LONGEST_PASSWORD:,} characters")
    if text_fault(plain) is not None or any(ord(character) < 32 for character in plain):
        raise _invalid("password", "must not contain control characters")


def _invalid(name: str, fault: str) -> ValidationFailedError:
    return ValidationFailedError(f"{name} {fault}.", details=[ErrorDetail(name, fault)])


def _no_feed(feed_id: str) -> NotFoundError:
    return NotFoundError(f"There is no feed {feed_id}.")


def _taken(source: str | None) -> ConflictError:
    return ConflictError(
        f"The store has a feed of the source {source} already. Change that one, or name another source."
    )
