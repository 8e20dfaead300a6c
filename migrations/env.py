"""Runs migrations as the database's owner, on the connection or the address it is given."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from meta_sync.core.db import normalise_database_url
from meta_sync.schema import metadata

_PARTITION = re.compile(r"^(batch_items|item_events)_(p\d+|rest)$")
"""Partitions come and go by the day; the schema knows their parents only."""

_LOCK_LOOK_SECONDS = 0.1


def _include_name(name: str | None, kind: str, _parents: object) -> bool:
    return not (kind == "table" and name is not None and _PARTITION.match(name))


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_name=_include_name,
        compare_type=True,
        compare_server_default=True,
        transaction_per_migration=True,
    )
    with _alone(connection), context.begin_transaction():
        context.run_migrations()


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """Let two processes that start together migrate one after the other.

    The lock is the session's, because a migration may commit before its end. It is tried for, not waited for: who waits
    within a statement holds up every index that is built concurrently, for ever if its builder has the lock.
    """
    lock = "(hashtext('meta_sync migrations'))"
    while not connection.scalar(text(f"SELECT pg_try_advisory_lock{lock}")):
        connection.commit()
        time.sleep(_LOCK_LOOK_SECONDS)
    connection.commit()
    try:
        yield
    finally:
        connection.rollback()
        connection.execute(text(f"SELECT pg_advisory_unlock{lock}"))
        connection.commit()


async def _connect_and_run(url: str) -> None:
    engine = create_async_engine(normalise_database_url(url), hide_parameters=True)
    async with engine.connect() as connection:
        await connection.run_sync(_run)
        await connection.commit()
    await engine.dispose()


given = context.config.attributes.get("connection")
if given is not None:
    _run(given)
else:
    address = context.config.attributes.get("url") or context.config.get_main_option("sqlalchemy.url")
    if not address:
        raise SystemExit("Run migrations with: meta-sync migrate")
    asyncio.run(_connect_and_run(address))
