"""The long-running processes: API, worker and sandbox, each until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.types import ASGIApp
from typing_extensions import override

from meta_sync.api.app import create_app
from meta_sync.api.protocol import GuardedProtocol
from meta_sync.cli import console
from meta_sync.cli.network import address_of, listening_socket
from meta_sync.cli.running import stop_event
from meta_sync.cli.session import with_kept_key
from meta_sync.core.collector import calm_collector
from meta_sync.core.config import Settings
from meta_sync.core.errors import StartError
from meta_sync.core.failpoints import arm_from_environment
from meta_sync.core.logging import configure_logging
from meta_sync.core.migrations import require_ready
from meta_sync.factory import Factory, ProcessContext, worker_id
from meta_sync.sandbox import app as sandbox_app
from meta_sync.sandbox.options import SandboxOptions
from meta_sync.worker.process import run_worker

__all__ = ["serve_api", "serve_sandbox", "serve_worker"]

_GRACE_SECONDS = 25
"""Requests under way get this long after a stop; container platforms kill after 30 s."""
_KEEP_ALIVE_SECONDS = 75
"""Longer than the idle time of common proxies (60 s), so that it is never we who close a connection in use."""
_MOST_CONNECTIONS = 4096
"""Beyond this a request is answered 503 at once instead of joining a queue nobody works off."""


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers: it would end the process by the signal, not with exit code 0."""

    @override
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_api(settings: Settings, *, descriptor: int | None, supervised: bool) -> None:
    """Run the API.

    Parameters
    ----------
    settings
        With a database.
    descriptor
        A listening socket we inherited; without it the host and port of the settings.
    supervised
        End when standard input closes.
    """
    _begin(settings)
    stop = stop_event(supervised=supervised)
    settings = with_kept_key(_with_database(settings))
    with _listener(settings, descriptor) as listener:
        async with _context(settings) as context:
            if descriptor is None:
                console.note(f"The API listens on {address_of(listener)}")
            await _serve(create_app(context), listener, stop, settings)


async def serve_sandbox(
    settings: Settings, options: SandboxOptions, *, descriptor: int | None, supervised: bool
) -> None:
    """Run a local Graph API. It keeps everything in memory."""
    _begin(settings)
    stop = stop_event(supervised=supervised)
    with _listener(settings, descriptor) as listener:
        if descriptor is None:
            console.note(f"The sandbox listens on {address_of(listener)}")
        await _serve(sandbox_app.create_app(options), listener, stop, settings)


async def serve_worker(settings: Settings, *, supervised: bool) -> None:
    """Run a worker."""
    _begin(settings)
    stop = stop_event(supervised=supervised)
    settings = with_kept_key(_with_database(settings))
    async with _context(settings) as context:
        factory = Factory(context)
        name = worker_id()
        calm_collector()
        await run_worker(
            worker_id=name,
            database=context.database,
            queue=context.queue,
            redis_url=settings.redis_url.get_secret_value() if settings.redis_url else None,
            pipeline=factory.pipeline(owner=name),
            imports=factory.import_runner(),
            feeds=factory.feed_fetcher(),
            stop=stop,
        )


def _begin(settings: Settings) -> None:
    configure_logging(settings.log_level, settings.log_format)
    arm_from_environment(os.environ)


def _with_database(settings: Settings) -> Settings:
    if settings.database_url is None:
        raise StartError(
            "META_SYNC_DATABASE_URL is not set. Set it, or use meta-sync up, which brings its own PostgreSQL."
        )
    return settings


@asynccontextmanager
async def _context(settings: Settings) -> AsyncIterator[ProcessContext]:
    context = await ProcessContext.open(settings)
    try:
        await require_ready(context.database)
        yield context
    finally:
        await context.close()


@contextmanager
def _listener(settings: Settings, descriptor: int | None) -> Iterator[socket.socket]:
    if descriptor is None:
        with listening_socket(settings.host, settings.port) as listener:
            yield listener
        return
    with socket.socket(fileno=descriptor) as listener:
        yield listener


async def _serve(app: ASGIApp, listener: socket.socket, stop: asyncio.Event, settings: Settings) -> None:
    server = _Server(
        uvicorn.Config(
            app,
            loop="none",
            http=GuardedProtocol,
            ws="none",
            log_config=None,
            # Ours says the same without the query, where a token might stand.
            access_log=False,
            server_header=False,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=list(settings.trusted_proxies),
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
            limit_concurrency=_MOST_CONNECTIONS,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([serving, stopped], return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    stopped.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving
