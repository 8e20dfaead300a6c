"""``up``: everything on this machine with one command, until Ctrl-C."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import typer

import meta_sync
from meta_sync.cli import console
from meta_sync.cli.demo_data import CURRENCY, MEDIA_URL, STOREFRONT_URL
from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.cli.embedded_redis import EmbeddedRedis
from meta_sync.cli.options import Host, Port, read_settings
from meta_sync.cli.running import run, to_the_end
from meta_sync.cli.sandbox_store import SandboxStore, connected_store
from meta_sync.cli.supervisor import Plan, System, running_system
from meta_sync.core.config import Settings
from meta_sync.factory import Factory, ProcessContext

__all__ = ["add_to", "system_factory"]

_SANDBOX_STORE = "Sandbox store"


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("up")(_up)


def _up(
    *,
    host: Host = None,
    port: Port = None,
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Also start a local Graph API, with a store connected to it.")
    ] = False,
) -> None:
    """Run API and worker, with a PostgreSQL and a Redis of their own unless given. Ctrl-C stops everything."""
    run(_run_up(read_settings(host=host, port=port), sandbox=sandbox), ends_by_signal=True)


async def _run_up(settings: Settings, *, sandbox: bool) -> None:
    plan = Plan(settings=settings, role="up", sandbox=sandbox, log_directory=None, say=console.note)
    async with running_system(plan) as system:
        store = None
        if sandbox:
            async with system_factory(system) as factory:
                store = await connected_store(
                    factory,
                    _SANDBOX_STORE,
                    currency=CURRENCY,
                    storefront_url=STOREFRONT_URL,
                    media_url=MEDIA_URL,
                )
        for line in _addresses(system, store):
            console.say(line)
        await system.watch()


@asynccontextmanager
async def system_factory(system: System) -> AsyncIterator[Factory]:
    """A factory of this process over what runs."""
    context = await ProcessContext.open(system.settings)
    try:
        yield Factory(context)
    finally:
        await to_the_end(context.close())


def _addresses(system: System, store: SandboxStore | None) -> list[str]:
    postgres = any(isinstance(server, EmbeddedPostgres) for server in system.embedded)
    redis = any(isinstance(server, EmbeddedRedis) for server in system.embedded)
    given = "given by META_SYNC_{}_URL"
    wakes = "embedded" if redis else given.format("REDIS") if system.settings.redis_url else "none"
    lines = [
        f"meta-sync {meta_sync.__version__} is up.",
        f"  API         {system.api_url}",
        f"  API docs    {system.api_url}/docs",
        f"  data        {system.settings.data_dir}",
        f"  PostgreSQL  {'embedded' if postgres else given.format('DATABASE')}",
        f"  Redis       {wakes}",
    ]
    if system.sandbox_url is not None:
        lines.append(f"  sandbox     {system.sandbox_url}")
    if store is not None:
        lines.append(f"  store       {store.store_id} ({store.name})")
        lines.append(
            f"  its key     {store.api_key} (shown only now)"
            if store.api_key is not None
            else "  its key     shown at the first start; another one: meta-sync keys create --store …"
        )
    return [*lines, "Ctrl-C stops everything."]
