"""A store, a sandbox in process, and a connection service between them, for the tests of the connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from typing_extensions import override

from meta_sync.connection import repository
from meta_sync.connection.models import ActiveLink, SelectResult, StoredCredential
from meta_sync.connection.service import ConnectionService
from meta_sync.core.config import Settings
from meta_sync.core.crypto import Cipher, generate_encryption_key
from meta_sync.core.db import Database
from meta_sync.core.queue import MemoryJobQueue
from meta_sync.graph.client import GraphClient
from meta_sync.graph.retry import RetryPolicy
from meta_sync.sandbox.app import create_app
from meta_sync.sandbox.options import (
    DEMO_APP_ID,
    DEMO_APP_SECRET,
    DEMO_BUSINESS_ID,
    DEMO_CATALOG_ID,
    SandboxOptions,
)
from meta_sync.sandbox.state import SandboxState
from meta_sync.stores.service import StoreService

__all__ = ["Listener", "Transport", "World", "make_world"]

GRAPH_URL = "http://graph.test"
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


class Transport(httpx.AsyncBaseTransport):
    """Passes calls on to the sandbox; notes whether a transaction was open, and lets a test act during a call."""

    def __init__(self, app: Any, database: Database) -> None:
        self._inner = httpx.ASGITransport(app=app)
        self._database = database
        self.paths: list[str] = []
        self.open_transactions = 0
        self.during: Callable[[str], Awaitable[None]] | None = None

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.paths.append(request.url.path)
        for engine in (self._database.app, self._database.worker):
            self.open_transactions += engine.pool.checkedout()  # type: ignore[attr-defined]  # the part under test is not public
        if self.during is not None:
            act, self.during = self.during, None
            await act(request.url.path)
        return await self._inner.handle_async_request(request)


class Listener:
    """Notes selections, and leaves a mark in the transaction that shows whether it was committed."""

    def __init__(self) -> None:
        self.told: list[tuple[ActiveLink, bool]] = []
        self.fails = False

    async def link_selected(
        self, connection: AsyncConnection, link: ActiveLink, *, returning: bool
    ) -> str | None:
        self.told.append((link, returning))
        assert await repository.active_link(connection, link.store_id) == link
        if self.fails:
            raise RuntimeError("the listener failed")
        return f"job_{len(self.told)}"


@dataclass
class World:
    """Everything a test of the connection touches."""

    database: Database
    cipher: Cipher
    cipher_keys: list[SecretStr]
    sandbox: SandboxState
    transport: Transport
    http: httpx.AsyncClient
    listener: Listener
    queue: MemoryJobQueue
    settings: Settings
    stores: StoreService
    connection: ConnectionService
    tokens: dict[str, str] = field(default_factory=dict)

    def service(self, settings: Settings) -> ConnectionService:
        """A connection service of a process with other settings."""
        graph = GraphClient(
            self.http, base_url=settings.graph_url, version="v25.0", retry_policy=RetryPolicy(attempts=1)
        )
        return ConnectionService(
            self.database, self.cipher, graph, settings, self.listener, self.queue, lambda: NOW
        )

    async def store(self, name: str = "Shop") -> str:
        """A new store's id."""
        return (await self.stores.create(name, currency="EUR")).store_id

    async def connected_store(self, **token: Any) -> str:
        """A new store with a good token."""
        store_id = await self.store()
        value = self.sandbox.add_token(**token).value
        await self.connection.set_token(store_id, SecretStr(value))
        self.tokens[store_id] = value
        return store_id

    async def select(
        self,
        store_id: str,
        catalog_id: str = DEMO_CATALOG_ID,
        *,
        enable_sync: bool | None = None,
        dry_run: bool = False,
    ) -> SelectResult:
        """Select a catalog by the names of the demo."""
        return await self.connection.select_catalog(
            store_id,
            DEMO_BUSINESS_ID,
            "Acme Holdings",
            catalog_id,
            "Master Catalog",
            enable_sync=enable_sync,
            dry_run=dry_run,
        )

    async def link(self, store_id: str) -> ActiveLink | None:
        """The store's active link."""
        async with self.database.store(store_id) as connection:
            return await self.connection.active_link(connection, store_id)

    async def credential(self, store_id: str) -> StoredCredential | None:
        """The store's token in use."""
        async with self.database.store(store_id) as connection:
            return await repository.active_credential(connection, self.cipher, store_id)

    async def run(self, statement: str, **parameters: Any) -> Any:
        """Run SQL across stores; the rows, where it gives any."""
        async with self.database.platform() as connection:
            result = await connection.execute(text(statement), parameters)
            return result.all() if result.returns_rows else None


def make_world(database: Database) -> World:
    """A world with the demo business and catalog in a clean sandbox."""
    app = create_app(SandboxOptions(demo=True), clock=lambda: NOW)
    transport = Transport(app, database)
    http = httpx.AsyncClient(transport=transport, trust_env=False)
    keys = [SecretStr(generate_encryption_key())]
    cipher = Cipher(keys)
    settings = Settings(graph_url=GRAPH_URL, app_id=DEMO_APP_ID, app_secret=SecretStr(DEMO_APP_SECRET))
    listener, queue = Listener(), MemoryJobQueue()
    graph = GraphClient(http, base_url=GRAPH_URL, version="v25.0", retry_policy=RetryPolicy(attempts=1))
    return World(
        database=database,
        cipher=cipher,
        cipher_keys=keys,
        sandbox=app.state.sandbox,
        transport=transport,
        http=http,
        listener=listener,
        queue=queue,
        settings=settings,
        stores=StoreService(database, cipher, None),
        connection=ConnectionService(database, cipher, graph, settings, listener, queue, lambda: NOW),
    )
