"""PostgreSQL: metadata and naming, engines by role, the store setting that row-level policies read, retries.

SQLAlchemy Core throughout. Repositories take an open connection and never commit; services open the transaction.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any, TypeVar

import orjson
from sqlalchemy import MetaData, Text, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from meta_sync.core.errors import StartError

__all__ = [
    "Database",
    "DatabaseRole",
    "Identifier",
    "create_engine",
    "metadata",
    "normalise_database_url",
    "retry_transaction",
    "sqlstate",
    "store_transaction",
]

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    }
)

Identifier = Text(collation="C")
"""Ids are compared byte for byte, whatever the database's locale."""

T = TypeVar("T")

_URL_PARAMETERS = frozenset(
    {
        "host",
        "passfile",
        "password",
        "port",
        "prepared_statement_cache_size",
        "ssl",
        "target_session_attrs",
        "user",
    }
)
"""What may stand behind the ? of an address: the driver fails on anything else, deep inside and without a sentence."""

_STATEMENT_TIMEOUT_MS = 30_000
"""No statement of a request or a turn takes seconds; half a minute means a broken plan or a lost lock."""
_LOCK_TIMEOUT_MS = 10_000
_IDLE_IN_TRANSACTION_MS = 60_000
"""A forgotten transaction holds back vacuum for every store."""


class DatabaseRole(StrEnum):
    """The roles of the first migration. The owner migrates and is not among them."""

    APP = "meta_sync_app"
    """Requests of one store, under row-level policies."""
    WORKER = "meta_sync_worker"
    """The pipeline and the platform's own calls, across stores."""


def normalise_database_url(url: str) -> str:
    """The address with the asyncpg driver named, as SQLAlchemy 2.1 needs it.

    Raises
    ------
    StartError
        It is not a PostgreSQL address.
    """
    try:
        parsed = make_url(url)
    except Exception:  # noqa: BLE001 - any parse failure reads the same
        raise StartError(
            "META_SYNC_DATABASE_URL is not an address such as postgresql://user:password@host/name."
        ) from None
    if not parsed.drivername.startswith("postgres"):
        raise StartError("META_SYNC_DATABASE_URL must be a PostgreSQL address (postgresql://…).")
    query = dict(parsed.query)
    if "sslmode" in query:
        # libpq's name, which every provider writes into its addresses.
        query["ssl"] = query.pop("sslmode")
    unknown = sorted(query.keys() - _URL_PARAMETERS)
    if unknown:
        raise StartError(
            f"META_SYNC_DATABASE_URL has a parameter that is not known here: {unknown[0][:40]}. "
            f"Known are sslmode and {', '.join(sorted(_URL_PARAMETERS))}."
        )
    return parsed.set(drivername="postgresql+asyncpg", query=query).render_as_string(hide_password=False)


def create_engine(url: str, *, role: DatabaseRole | None, pool_size: int = 8) -> AsyncEngine:
    """An engine whose connections act as the given role; ``None`` is the login role itself, for migrations."""
    server_settings = {
        "application_name": f"meta-sync {role.name.lower() if role else 'owner'}",
        "statement_timeout": str(_STATEMENT_TIMEOUT_MS if role else 0),
        "lock_timeout": str(_LOCK_TIMEOUT_MS),
        "idle_in_transaction_session_timeout": str(_IDLE_IN_TRANSACTION_MS),
        "timezone": "UTC",
        "jit": "off",
        # Statements are many and short; starting helpers for one costs more than they save, and takes others' turn.
        "max_parallel_workers_per_gather": "0",
    }
    if role is not None:
        server_settings["role"] = role.value
    return create_async_engine(
        normalise_database_url(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=10,
        pool_pre_ping=True,
        pool_recycle=1800,
        # Errors are logged; what was being stored is nobody's business there.
        hide_parameters=True,
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
        connect_args={"server_settings": server_settings, "timeout": 10, "command_timeout": 60},
    )


class Database:
    """The two pools of a process and the transactions on them."""

    def __init__(self, app: AsyncEngine, worker: AsyncEngine) -> None:
        self.app = app
        self.worker = worker

    @classmethod
    def connect(cls, url: str, *, pool_size: int = 8) -> Database:
        """Make both pools; nothing connects yet."""
        return cls(
            create_engine(url, role=DatabaseRole.APP, pool_size=pool_size),
            create_engine(url, role=DatabaseRole.WORKER, pool_size=pool_size),
        )

    @asynccontextmanager
    async def store(self, store_id: str) -> AsyncIterator[AsyncConnection]:
        """A transaction of one store, under its row-level policies."""
        async with store_transaction(self.app, store_id) as connection:
            yield connection

    @asynccontextmanager
    async def platform(self) -> AsyncIterator[AsyncConnection]:
        """A transaction across stores: the pipeline, platform calls, the look-up of a key."""
        async with self.worker.begin() as connection:
            yield connection

    async def dispose(self) -> None:
        """Close both pools."""
        await self.app.dispose()
        await self.worker.dispose()


@asynccontextmanager
async def store_transaction(engine: AsyncEngine, store_id: str) -> AsyncIterator[AsyncConnection]:
    """Open a transaction whose row-level policies see exactly one store."""
    async with engine.begin() as connection:
        await connection.execute(_SET_STORE, {"store_id": store_id})
        yield connection


_SET_STORE = text("SELECT set_config('meta_sync.store_id', :store_id, true)")

_LOCK_NOT_AVAILABLE = "55P03"
_MOST_LOCK_TIMEOUTS = 2
"""Each has cost ten seconds; a request that waits longer only keeps a connection from others."""
_RETRYABLE_SQLSTATES = frozenset({"40001", "40P01", _LOCK_NOT_AVAILABLE})
"""Serialisation failure, deadlock, lock not available: the same transaction can succeed at the next attempt."""


def sqlstate(error: DBAPIError) -> str | None:
    """The five-character SQLSTATE of a database error, when the driver gives one."""
    value: Any = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
    return str(value) if value else None


async def retry_transaction(
    work: Callable[[], Awaitable[T]],
    *,
    attempts: int = 5,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> T:
    """Run a whole transaction again after a deadlock or a serialisation failure, once after a lock that did not come.

    ``work`` opens, fills and commits its own transaction, and reads again what it decides from.
    """
    for attempt in range(1, attempts + 1):
        try:
            return await work()
        except DBAPIError as error:
            state = sqlstate(error)
            if attempt == attempts or state not in _RETRYABLE_SQLSTATES:
                raise
            if state == _LOCK_NOT_AVAILABLE and attempt >= _MOST_LOCK_TIMEOUTS:
                raise
        await sleep(random.uniform(0.01, 0.05) * 2**attempt)
    raise AssertionError("unreachable")
