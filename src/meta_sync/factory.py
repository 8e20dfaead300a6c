"""Joins the parts: one process context per process, services made from it. Plain code, no container."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass, field

import httpx

from meta_sync.access.service import AccessService
from meta_sync.catalog.events_write import EventService
from meta_sync.catalog.ingest.compression import inflated_bytes_allowed
from meta_sync.catalog.ingest.feeds import FeedService
from meta_sync.catalog.ingest.feeds_fetch import FeedFetcher, FetchLimits
from meta_sync.catalog.ingest.import_runner import ImportRunner
from meta_sync.catalog.ingest.imports import ImportService
from meta_sync.catalog.service import CatalogService
from meta_sync.connection.service import ConnectionService
from meta_sync.core.clock import Clock, utc_now
from meta_sync.core.config import Settings
from meta_sync.core.crypto import Cipher
from meta_sync.core.db import Database
from meta_sync.core.errors import StartError
from meta_sync.core.outbound import OutboundClient
from meta_sync.core.paging import CursorCodec
from meta_sync.core.queue import ArqJobQueue, JobQueue, MemoryJobQueue
from meta_sync.graph.client import GraphClient, make_http_client
from meta_sync.stores.audit_log import AuditLogService
from meta_sync.stores.service import StoreService
from meta_sync.sync.activity import ActivityService
from meta_sync.sync.adopt import AdoptService
from meta_sync.sync.catalog_reader import CatalogReader
from meta_sync.sync.checkup_facts import CheckupReader
from meta_sync.sync.distrust import DistrustService
from meta_sync.sync.drain import Timing
from meta_sync.sync.errors_list import ErrorsService
from meta_sync.sync.first_run import PREFLIGHT
from meta_sync.sync.handles import HandlesService
from meta_sync.sync.holds import HoldsService
from meta_sync.sync.items import ItemsService
from meta_sync.sync.jobs import JobService
from meta_sync.sync.listener import PipelineListener
from meta_sync.sync.live_status import LiveStatusService
from meta_sync.sync.operations import OperationsService
from meta_sync.sync.outbox import OutboxSink
from meta_sync.sync.pins import PinsService
from meta_sync.sync.preflight import PreflightHandler
from meta_sync.sync.preflight_reports import PreflightService
from meta_sync.sync.read_jobs import ReadJobHandler
from meta_sync.sync.reconcile import ReconcileHandler
from meta_sync.sync.reconcile_models import RECONCILIATION
from meta_sync.sync.reconcile_repair import RepairService
from meta_sync.sync.reconcile_service import ReconcileService
from meta_sync.sync.removal import RemovalService
from meta_sync.sync.status import StatusService
from meta_sync.sync.ticks import Pipeline
from meta_sync.sync.timeline import TimelineService

__all__ = ["DEFAULT_GRAPH_VERSION", "Factory", "ProcessContext", "worker_id"]

DEFAULT_GRAPH_VERSION = "v25.0"
"""For calls that belong to no store; each store's own setting rules over it."""


def worker_id() -> str:
    """A name for this process in leases and heartbeats, new at every start."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


@dataclass(slots=True)
class ProcessContext:
    """What lives as long as the process: settings, pools, the HTTP client, the queue, the keys."""

    settings: Settings
    database: Database
    queue: JobQueue
    http: httpx.AsyncClient
    cipher: Cipher
    clock: Clock = utc_now
    outbound: OutboundClient = field(default_factory=OutboundClient)
    cursors: CursorCodec = field(default_factory=lambda: CursorCodec(secrets.token_bytes(32)))

    @classmethod
    async def open(
        cls,
        settings: Settings,
        *,
        queue: JobQueue | None = None,
        http: httpx.AsyncClient | None = None,
        clock: Clock = utc_now,
    ) -> ProcessContext:
        """Make everything a process needs. Nothing connects before its first use.

        Raises
        ------
        StartError
            The database's address or the encryption key is missing.
        """
        if settings.database_url is None:
            raise StartError("META_SYNC_DATABASE_URL is not set. Set it, or run meta-sync up.")
        if not settings.encryption_keys:
            raise StartError(
                "META_SYNC_ENCRYPTION_KEYS is not set. Set it, or run meta-sync up, which makes a key."
            )
        if queue is None:
            queue = (
                MemoryJobQueue()
                if settings.redis_url is None
                else ArqJobQueue(settings.redis_url.get_secret_value())
            )
        return cls(
            settings=settings,
            database=Database.connect(
                settings.database_url.get_secret_value(), pool_size=settings.database_pool_size
            ),
            queue=queue,
            http=http or make_http_client(),
            cipher=Cipher(settings.encryption_keys),
            clock=clock,
            # Cursors outlive a process and serve every one of them; the key they are signed with is derived.
            cursors=CursorCodec(settings.encryption_keys[-1].get_secret_value().encode()),
        )

    async def close(self) -> None:
        """Let go of every connection."""
        await self.queue.close()
        await self.http.aclose()
        await self.database.dispose()


class Factory:
    """Makes services. Cheap: make one per unit of work, or keep it; it holds nothing but the context."""

    def __init__(self, context: ProcessContext) -> None:
        self._context = context
        self._sink = OutboxSink()
        self._listener = PipelineListener()

    def graph(self) -> GraphClient:
        """The client of the Graph API."""
        return GraphClient(
            self._context.http, base_url=self._context.settings.graph_url, version=DEFAULT_GRAPH_VERSION
        )

    def stores(self) -> StoreService:
        """Stores and their settings."""
        return StoreService(self._context.database, self._context.cipher, self._listener)

    def access(self) -> AccessService:
        """API keys."""
        return AccessService(self._context.database)

    def audit_log(self) -> AuditLogService:
        """Who did what."""
        return AuditLogService(self._context.database, self._context.cursors)

    def connection(self) -> ConnectionService:
        """Tokens and the choice of a catalog."""
        context = self._context
        return ConnectionService(
            context.database,
            context.cipher,
            self.graph(),
            context.settings,
            self._listener,
            context.queue,
            context.clock,
        )

    def catalog(self) -> CatalogService:
        """Products and stock."""
        return CatalogService(self._context.database, self._sink, self._context.queue, self._context.clock)

    def events(self) -> EventService:
        """Events about products and stock."""
        return EventService(self._context.database, self._sink, self._context.queue, self._context.clock)

    def imports(self) -> ImportService:
        """Uploads."""
        context = self._context
        return ImportService(
            context.database, context.queue, max_upload_bytes=context.settings.max_upload_bytes
        )

    def import_runner(self) -> ImportRunner:
        """Reads uploads into the catalog."""
        return ImportRunner(
            self._context.database,
            self._sink,
            self._context.queue,
            self._context.clock,
            max_inflated_bytes=inflated_bytes_allowed(self._context.settings.max_upload_bytes),
        )

    def feeds(self) -> FeedService:
        """Imports by address, and feeds that are fetched on a schedule."""
        context = self._context
        return FeedService(context.database, context.cipher, context.outbound, context.queue)

    def feed_fetcher(self) -> FeedFetcher:
        """Fetches due feeds."""
        context = self._context
        return FeedFetcher(
            context.database,
            context.cipher,
            context.outbound,
            self.imports(),
            limits=FetchLimits(context.settings.max_upload_bytes),
        )

    def items(self) -> ItemsService:
        """Items as a person sees them."""
        return ItemsService(self._context.database, self._context.clock, self._context.cursors)

    def errors(self) -> ErrorsService:
        """Failed items, explained."""
        return ErrorsService(self.items())

    def timeline(self) -> TimelineService:
        """What happened to an item."""
        return TimelineService(self._context.database, self._context.cursors)

    def live_status(self) -> LiveStatusService:
        """Items as Meta shows them now."""
        context = self._context
        return LiveStatusService(context.database, self.graph(), context.cipher, context.settings)

    def handles(self) -> HandlesService:
        """Batches and what became of their items."""
        return HandlesService(self._context.database, self._context.cursors)

    def holds(self) -> HoldsService:
        """What the guard keeps back, and deciding about it."""
        context = self._context
        return HoldsService(context.database, context.clock, context.cursors, context.queue)

    def activity(self) -> ActivityService:
        """What happened to a store."""
        return ActivityService(self._context.database, self._context.cursors)

    def status(self) -> StatusService:
        """How a store stands."""
        return StatusService(self._context.database, self._context.settings)

    def checkup(self) -> CheckupReader:
        """What there is to know of how the installation and its stores do."""
        return CheckupReader(self._context.database, self.status(), self._context.cipher)

    def jobs(self) -> JobService:
        """Long work."""
        context = self._context
        return JobService(context.database, context.queue, graph_url=context.settings.graph_url)

    def preflight(self) -> PreflightService:
        """Reports of what a sync would do, and the first run's approval."""
        return PreflightService(self._context.database, self._context.queue)

    def operations(self) -> OperationsService:
        """Operator actions on items."""
        return OperationsService(self._context.database, self._context.queue)

    def distrust(self) -> DistrustService:
        """For a database that says less than Meta holds."""
        return DistrustService(self._context.database, self._context.queue)

    def pipeline(self, *, owner: str | None = None, timing: Timing | None = None) -> Pipeline:
        """The pipeline's ticks, under the name of this worker."""
        context = self._context
        return Pipeline(
            context.database,
            self.graph(),
            context.cipher,
            context.settings,
            context.queue,
            owner=owner or worker_id(),
            timing=timing,
            read_jobs=self._read_jobs(
                timing or Timing(unknown_hold_seconds=context.settings.unknown_hold_seconds)
            ),
        )

    def reconciliations(self) -> ReconcileService:
        """Reading Meta's catalog back."""
        return ReconcileService(self._context.database, self._context.queue, self._context.cursors)

    def repairs(self) -> RepairService:
        """What is done about what a reconciliation found."""
        return RepairService(self._context.database, self._context.queue)

    def adoption(self) -> AdoptService:
        """Taking what only Meta has into the catalog, or off Meta."""
        return AdoptService(self._context.database, self._context.queue, self._context.clock)

    def pins(self) -> PinsService:
        """Taking Meta's values, or keeping them at Meta."""
        return PinsService(self._context.database, self._context.queue)

    def removals(self) -> RemovalService:
        """Taking everything off Meta that was sent."""
        return RemovalService(self._context.database, self._context.queue)

    def catalog_reader(self, timing: Timing) -> CatalogReader:
        """Reads a Meta catalog for jobs."""
        context = self._context
        return CatalogReader(context.database, self.graph(), context.cipher, context.settings, timing=timing)

    def _read_jobs(self, timing: Timing) -> dict[str, ReadJobHandler]:
        """Who works off which type of job that reads Meta back."""
        context = self._context
        reader = self.catalog_reader(timing)
        return {
            PREFLIGHT: PreflightHandler(context.database, reader, self.graph(), context.outbound),
            RECONCILIATION: ReconcileHandler(context.database, reader, timing=timing),
        }
