"""The embedded servers as scopes: started in a thread, stopped at the end whatever happened in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from meta_sync.cli.data_directory import DataDirectory
from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.cli.embedded_redis import EmbeddedRedis, find_redis_server
from meta_sync.cli.running import in_thread

__all__ = ["running_postgres", "running_redis"]


@asynccontextmanager
async def running_postgres(directory: DataDirectory) -> AsyncIterator[EmbeddedPostgres]:
    """A PostgreSQL over the data directory, with our database in it."""
    server = EmbeddedPostgres(directory.postgres)
    try:
        await in_thread(server.start)
        await in_thread(server.create_database)
        yield server
    finally:
        await in_thread(server.stop)


@asynccontextmanager
async def running_redis(directory: DataDirectory) -> AsyncIterator[EmbeddedRedis | None]:
    """A Redis over the data directory, or ``None`` where no binary is found."""
    binary = await in_thread(find_redis_server)
    if binary is None:
        yield None
        return
    server = EmbeddedRedis(directory.redis, binary)
    try:
        await in_thread(server.start)
        yield server
    finally:
        await in_thread(server.stop)
