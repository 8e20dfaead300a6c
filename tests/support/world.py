"""A store connected to an in-process sandbox, its pipeline, and the question whether Meta is right."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from pydantic import SecretStr
from sqlalchemy import text

from meta_sync.catalog.models import ProductInput, VariantInput
from meta_sync.catalog.service import CatalogService
from meta_sync.connection.service import ConnectionService
from meta_sync.core.clock import utc_now
from meta_sync.core.config import Settings, load_settings
from meta_sync.core.crypto import Cipher, generate_encryption_key
from meta_sync.core.db import Database
from meta_sync.core.outbound import OutboundClient
from meta_sync.core.paging import CursorCodec
from meta_sync.core.queue import MemoryJobQueue
from meta_sync.graph.client import GraphClient
from meta_sync.sandbox.app import create_app
from meta_sync.sandbox.options import (
    DEMO_ACCESS_TOKEN,
    DEMO_APP_ID,
    DEMO_APP_SECRET,
    DEMO_BUSINESS_ID,
    DEMO_CATALOG_ID,
    SandboxOptions,
)
from meta_sync.sandbox.state import SandboxState
from meta_sync.stores.service import StoreService
from meta_sync.sync.catalog_reader import CatalogReader
from meta_sync.sync.context import StoreContext, load_context
from meta_sync.sync.drain import Timing
from meta_sync.sync.first_run import PREFLIGHT
from meta_sync.sync.jobs import JobService
from meta_sync.sync.listener import PipelineListener
from meta_sync.sync.mapping import MappedItem, Mapper
from meta_sync.sync.operations import OperationsService
from meta_sync.sync.outbox import OutboxSink
from meta_sync.sync.preflight import PreflightHandler
from meta_sync.sync.preflight_reports import PreflightService
from meta_sync.sync.reading import read_items
from meta_sync.sync.reconcile import ReconcileHandler
from meta_sync.sync.reconcile_models import RECONCILIATION
from meta_sync.sync.reconcile_repair import RepairService
from meta_sync.sync.reconcile_service import ReconcileService
from meta_sync.sync.ticks import Pipeline

FAST = Timing(
    call_deadline_seconds=3.0,
    first_poll_seconds=0.02,
    unknown_hold_seconds=0.6,
    resend_seconds=0.1,
    job_look_seconds=0.05,
    retry_seconds=0.05,
    sale_delay_seconds=0.1,
    retry_factor=0.02,
    reconcile_quiet_seconds=0.0,
    reconcile_second_read_seconds=0.02,
    reconcile_page_seconds=0.0,
)

_QUIET_SECONDS = 40


@dataclass
class World:
    """One store, one catalog at the sandbox, and everything that moves between them."""

    database: Database
    settings: Settings
    cipher: Cipher
    http: httpx.AsyncClient
    sandbox: SandboxState
    queue: MemoryJobQueue
    store_id: str
    timing: Timing = FAST
    outbound: OutboundClient = field(default_factory=OutboundClient)

    def graph(self) -> GraphClient:
        return GraphClient(self.http, base_url=self.settings.graph_url, version="v25.0")

    @property
    def stores(self) -> StoreService:
        return StoreService(self.database, self.cipher, PipelineListener())

    @property
    def connection(self) -> ConnectionService:
        return ConnectionService(
            self.database, self.cipher, self.graph(), self.settings, PipelineListener(), self.queue, utc_now
        )

    @property
    def catalog(self) -> CatalogService:
        return CatalogService(self.database, OutboxSink(), self.queue, utc_now)

    @property
    def jobs(self) -> JobService:
        return JobService(self.database, self.queue, graph_url=self.settings.graph_url)

    @property
    def operations(self) -> OperationsService:
        return OperationsService(self.database, self.queue)

    def reconciler(self) -> ReconcileHandler:
        reader = CatalogReader(self.database, self.graph(), self.cipher, self.settings, timing=self.timing)
        return ReconcileHandler(self.database, reader, timing=self.timing)

    @property
    def reconciliations(self) -> ReconcileService:
        return ReconcileService(self.database, self.queue, CursorCodec(b"a key"))

    @property
    def repairs(self) -> RepairService:
        return RepairService(self.database, self.queue)

    @property
    def reports(self) -> PreflightService:
        return PreflightService(self.database, self.queue)

    async def approve(self) -> None:
        """Let the first run into a catalog that had items begin, as a person does who read the newest report."""
        pipeline = self.pipeline()
        while (newest := (await self.reports.list(self.store_id))[0]).status in {"queued", "running"}:
            await pipeline.read_jobs_tick()
        await self.reports.approve(self.store_id, newest.job_id, actor="somebody")

    def pipeline(self, owner: str = "worker-1") -> Pipeline:
        return Pipeline(
            self.database,
            self.graph(),
            self.cipher,
            self.settings,
            self.queue,
            owner=owner,
            timing=self.timing,
            jitter=lambda: 0.0,
            read_jobs={PREFLIGHT: self.preflight(), RECONCILIATION: self.reconciler()},
        )

    def preflight(self) -> PreflightHandler:
        reader = CatalogReader(
            self.database, self.graph(), self.cipher, self.settings, timing=self.timing, jitter=lambda: 0.0
        )
        return PreflightHandler(self.database, reader, self.graph(), self.outbound)

    async def connect(self, *, sync: bool = True, catalog_id: str = DEMO_CATALOG_ID) -> None:
        await self.connection.set_token(self.store_id, SecretStr(DEMO_ACCESS_TOKEN))
        await self.connection.select_catalog(
            self.store_id, DEMO_BUSINESS_ID, "Demo", catalog_id, "Demo", enable_sync=sync, dry_run=False
        )

    async def put(self, product_id: str, *variants: VariantInput, **fields: Any) -> Any:
        return await self.catalog.put_product(self.store_id, product(product_id, *variants, **fields))

    async def run(self, pipeline: Pipeline | None = None, *, until: Callable[[], Any] | None = None) -> None:
        """Run the ticks until nothing is left to do (or the condition holds)."""
        pipeline = pipeline or self.pipeline()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _QUIET_SECONDS
        while loop.time() < deadline:
            done = await pipeline.drain_tick() + await pipeline.poll_tick() + await pipeline.jobs_tick()
            done += await pipeline.read_jobs_tick()
            await pipeline.sweep_tick()
            if until is not None:
                answer = until()
                if await answer if asyncio.iscoroutine(answer) else answer:
                    return
            elif not done and await self.is_quiet():
                return
            await asyncio.sleep(0 if done else 0.01)
        raise AssertionError(f"not quiet after {_QUIET_SECONDS} s: {await self.leftovers()}")

    async def leftovers(self) -> dict[str, Any]:
        async with self.database.platform() as connection:
            row = (
                await connection.execute(
                    text(
                        """
                        SELECT (SELECT count(*) FROM intents) AS intents,
                               (SELECT count(*) FROM sync_state WHERE in_flight IS NOT NULL) AS in_flight,
                               (SELECT count(*) FROM sync_state AS s JOIN catalog_links AS l USING (link_id)
                                WHERE l.active AND s.retry_at IS NOT NULL AND s.status <> 'failed') AS retries,
                               (SELECT count(*) FROM batches WHERE state NOT IN ('over', 'given_up')) AS batches,
                               (SELECT count(*) FROM jobs
                                WHERE status IN ('queued', 'running', 'cancelling')) AS jobs
                        """
                    )
                )
            ).one()
            return dict(row._mapping)

    async def is_quiet(self) -> bool:
        return not any((await self.leftovers()).values())

    async def wanted(self) -> dict[str, dict[str, Any]]:
        """What the mapper makes of every variant now, by retailer id."""
        context = await self.context()
        mapper = Mapper(context.mapping)
        wanted: dict[str, dict[str, Any]] = {}
        async with self.database.platform() as connection:
            after = None
            while True:
                page = await read_items(
                    connection, self.store_id, context.link.link_id, after=after, limit=2000
                )
                if not page:
                    return wanted
                for item, state in page:
                    mapped = mapper.evaluate(
                        item,
                        excluded=state.is_excluded,
                        retailer_id=state.retailer_id,
                        now=utc_now(),
                        image_version=state.image_version,
                    )
                    if isinstance(mapped, MappedItem):
                        wanted[mapped.data["id"]] = mapped.data
                after = page[-1][0].variant_id

    async def context(self) -> StoreContext:
        async with self.database.platform() as connection:
            context = await load_context(connection, self.store_id, self.cipher, self.settings)
        assert isinstance(context, StoreContext), context
        return context

    async def states(self) -> dict[str, dict[str, Any]]:
        async with self.database.platform() as connection:
            rows = await connection.execute(
                text(
                    "SELECT s.* FROM sync_state s JOIN catalog_links l USING (link_id) "
                    "WHERE l.active AND s.store_id = :store_id"
                ),
                {"store_id": self.store_id},
            )
            return {row._mapping["variant_id"]: dict(row._mapping) for row in rows}

    def at_meta(self) -> dict[str, dict[str, Any]]:
        """What the sandbox has stored, empty fields left out."""
        # In one step: the sandbox goes on in a thread of its own.
        stored = list(self.sandbox.catalog(DEMO_CATALOG_ID).items.items())
        return {
            one: {name: value for name, value in list(data.items()) if value not in ("", [], None)}
            for one, data in stored
        }

    def calls(self) -> int:
        return sum(one.path.endswith("items_batch") for one in self.sandbox.requests)

    async def assert_right(self, *, refused: set[str] | None = None) -> None:
        """Meta holds exactly what the mapper makes of the catalog, and nothing is left to do."""
        refused = refused or set()
        leftovers = await self.leftovers()
        assert not any(leftovers.values()), leftovers
        wanted = await self.wanted()
        found = self.at_meta()
        assert {one for one in found if one not in refused} == {one for one in wanted if one not in refused}
        for retailer_id, data in wanted.items():
            if retailer_id not in refused:
                assert found[retailer_id] == data


def product(product_id: str, *variants: VariantInput, **fields: Any) -> ProductInput:
    """A product that may be sent, with the given variants (one plain one when none is given)."""
    values: dict[str, Any] = {
        "title": f"Product {product_id}",
        "description": "A thing worth having",
        "slug": f"product-{product_id}",
        "brand": "Acme",
        "thumbnail": "https://shop.example/images/one.jpg",
    }
    return ProductInput(
        id=product_id, variants=list(variants) or [variant(f"{product_id}-v")], **{**values, **fields}
    )


def variant(variant_id: str, price: int | None = 1999, **fields: Any) -> VariantInput:
    """A variant with a price and a stock code."""
    return VariantInput(id=variant_id, price=price, sku=f"SKU-{variant_id}", **fields)


@asynccontextmanager
async def open_world(
    database: Database, database_url: str, options: SandboxOptions | None = None
) -> AsyncIterator[World]:
    """A world with a fresh store, not connected yet."""
    options = replace(options or SandboxOptions(processing_delay_seconds=0.01), demo=True)
    app = create_app(
        options,
        connection_lost=lambda how: (
            httpx.ReadTimeout("no answer") if how == "timeout" else httpx.RemoteProtocolError("cut")
        ),
    )
    settings = load_settings(
        {},
        env_file=None,
        database_url=database_url,
        encryption_keys=generate_encryption_key(),
        graph_url="http://graph.sandbox",
        app_id=DEMO_APP_ID,
        app_secret=DEMO_APP_SECRET,
    )
    cipher = Cipher(settings.encryption_keys)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as http:
        world = World(database, settings, cipher, http, app.state.sandbox, MemoryJobQueue(), "")
        store = await world.stores.create("Shop", currency="EUR", storefront_base_url="https://shop.example")
        world.store_id = store.store_id
        yield world
