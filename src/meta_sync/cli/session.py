"""What a short command works with: the database of a running ``up``, the operator's own, or one for its own duration."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from pydantic import SecretStr

from meta_sync.cli import console
from meta_sync.cli.data_directory import DataDirectory, DirectoryInUseError, Runtime
from meta_sync.cli.embedded import running_postgres
from meta_sync.cli.running import to_the_end
from meta_sync.core.config import Settings
from meta_sync.core.errors import NotFoundError, StartError
from meta_sync.core.migrations import require_ready, upgrade
from meta_sync.factory import Factory, ProcessContext

__all__ = ["Session", "located_database", "open_session", "with_kept_key"]

_STARTING_SECONDS = 90.0
"""How long a command waits for an ``up`` that has begun to start, or for another command that has the directory."""


def with_kept_key(settings: Settings) -> Settings:
    """The settings, with the encryption key kept in the data directory when none is given.

    Raises
    ------
    StartError
        There is none, or it cannot be read.
    """
    if settings.encryption_keys:
        return settings
    key = DataDirectory(settings.data_dir).encryption_key(create=False)
    if key is None:
        raise StartError(
            "META_SYNC_ENCRYPTION_KEYS is not set. Make a key with: openssl rand -base64 32. "
            "Every process of an installation needs the same one."
        )
    return settings.model_copy(update={"encryption_keys": (key,)})


@dataclass(frozen=True, slots=True)
class Session:
    """A process context over the right database, and the services made from it."""

    context: ProcessContext
    factory: Factory


@asynccontextmanager
async def open_session(settings: Settings) -> AsyncIterator[Session]:
    """Services over the right database.

    Raises
    ------
    StartError
        The database cannot be reached, has another schema, or the data directory cannot be used.
    NotFoundError
        From what is done within: the message then also names the data directory that was looked into.
    """
    async with located_database(settings) as located:
        context = await ProcessContext.open(located)
        try:
            await require_ready(context.database)
            yield Session(context, Factory(context))
        except NotFoundError as error:
            if settings.database_url is not None:
                raise
            # The data directory follows the working directory: in another folder it is another, empty one.
            raise NotFoundError(
                f"{error.message} The data directory in use is {DataDirectory(settings.data_dir).path}; "
                "META_SYNC_DATA_DIR names another."
            ) from error
        finally:
            await to_the_end(context.close())


@asynccontextmanager
async def located_database(settings: Settings) -> AsyncIterator[Settings]:
    """The settings with the database's address and an encryption key in them."""
    if settings.database_url is not None:
        yield with_kept_key(settings)
        return
    directory = DataDirectory(settings.data_dir)
    directory.prepare()
    async with AsyncExitStack() as stack:
        runtime = await _lock_or_find(stack, directory)
        if runtime is not None:
            yield with_kept_key(_joined(settings, runtime))
            return
        # Before the database: a directory with data and without its key must not be given a new one.
        keys = settings.encryption_keys or (directory.encryption_key(create=True),)
        postgres = await stack.enter_async_context(running_postgres(directory))
        await to_the_end(upgrade(postgres.url()))
        yield settings.model_copy(update={"database_url": SecretStr(postgres.url()), "encryption_keys": keys})


async def _lock_or_find(stack: AsyncExitStack, directory: DataDirectory) -> Runtime | None:
    """Take the directory, or learn what the ``up`` that has it runs; waits for one that is starting."""
    deadline = asyncio.get_running_loop().time() + _STARTING_SECONDS
    said = False
    while True:
        try:
            stack.enter_context(directory.lock("command"))
        except DirectoryInUseError as error:
            runtime = directory.read_runtime() if error.role != "command" else None
            if runtime is not None and runtime.database_url is not None:
                return runtime
            if asyncio.get_running_loop().time() > deadline:
                raise
            if not said:
                console.note(f"Waiting for meta-sync {error.role} (process {error.pid}) …")
                said = True
            await asyncio.sleep(0.2)
        else:
            return None


def _joined(settings: Settings, runtime: Runtime) -> Settings:
    found: dict[str, object] = {"database_url": SecretStr(runtime.database_url or "")}
    if runtime.redis_url is not None:
        found["redis_url"] = SecretStr(runtime.redis_url)
    if runtime.graph_url is not None and runtime.app_secret is not None:
        found |= {
            "graph_url": runtime.graph_url,
            "app_id": runtime.app_id,
            "app_secret": SecretStr(runtime.app_secret),
        }
    return settings.model_copy(update=found)
