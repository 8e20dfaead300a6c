"""``demo``: a sandbox, a connected store and a sample catalog, watched until Meta has said its word about every item."""

from __future__ import annotations

import asyncio
import shutil
from typing import Annotated

import typer

from meta_sync.cli import console
from meta_sync.cli.api_client import ApiClient
from meta_sync.cli.data_directory import DataDirectory
from meta_sync.cli.demo_data import CURRENCY, MEDIA_URL, REFUSED_VARIANT, STOREFRONT_URL, sample_products
from meta_sync.cli.demo_report import show_report
from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.cli.options import Host, Port, read_settings
from meta_sync.cli.progress import SyncProgress, is_settled
from meta_sync.cli.running import in_thread, run
from meta_sync.cli.sandbox_store import connected_store
from meta_sync.cli.supervisor import Plan, System, running_system
from meta_sync.cli.up import system_factory
from meta_sync.core.clock import utc_now
from meta_sync.core.config import Settings
from meta_sync.core.errors import ServiceError

__all__ = ["add_to"]

_BATCH_PRODUCTS = 20
"""Small, so that there is something to watch."""
_LOOK_SECONDS = 0.5
_LONGEST_SECONDS = 150.0
_REFUSAL = (
    "This item's title makes a claim about health that is not allowed. "
    "See the advertising policy on unapproved substances and treatments."
)


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("demo")(_demo)


def _demo(
    *,
    exit_: Annotated[bool, typer.Option("--exit", help="End when every item is settled.")] = False,
    host: Host = None,
    port: Port = None,
) -> None:
    """Show the whole way of a catalog, against a local sandbox: nothing of it leaves this machine."""
    run(_run_demo(read_settings(host=host, port=port), stay=not exit_), ends_by_signal=not exit_)


async def _run_demo(settings: Settings, *, stay: bool) -> None:
    directory = DataDirectory(settings.data_dir / "demo")
    await in_thread(_begin_afresh, directory)
    # The demo brings everything itself, so that it cannot touch a real installation.
    settings = settings.model_copy(
        update={"data_dir": directory.path, "database_url": None, "redis_url": None, "encryption_keys": ()}
    )
    console.say("Starting PostgreSQL, the API, the worker and a sandbox in place of Meta …")
    plan = Plan(settings=settings, role="demo", sandbox=True, log_directory=directory.path, say=console.note)
    async with running_system(plan) as system:
        watching = asyncio.create_task(system.watch())
        showing = asyncio.create_task(_show(system, stay=stay))
        try:
            await asyncio.wait([watching, showing], return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                await watching
            await showing
            if stay:
                console.say()
                console.say("Everything stays up for you to look around. Ctrl-C ends it.")
                await watching
        finally:
            watching.cancel()
            showing.cancel()
            await asyncio.gather(watching, showing, return_exceptions=True)
    if not stay:
        console.say()
        console.say("Everything was stopped again. Without --exit it stays up to look around.")


def _begin_afresh(directory: DataDirectory) -> None:
    """Remove what the last demo left; a server that outlived it is stopped first."""
    directory.prepare()
    with directory.lock("demo"):
        EmbeddedPostgres(directory.postgres).destroy()
        for log in directory.path.glob("*.log"):
            log.unlink()
        shutil.rmtree(directory.redis, ignore_errors=True)
        (directory.path / "encryption.key").unlink(missing_ok=True)


async def _show(system: System, *, stay: bool) -> None:
    assert system.sandbox_url is not None
    async with system_factory(system) as factory:
        store = await connected_store(
            factory,
            "Harbour & Hill",
            currency=CURRENCY,
            storefront_url=STOREFRONT_URL,
            media_url=MEDIA_URL,
        )
    await ApiClient(system.sandbox_url, None).post(
        "/_sandbox/refusals", {"retailer_id": REFUSED_VARIANT, "text": _REFUSAL}
    )
    api = ApiClient(system.api_url, store.api_key)
    await _load_and_watch(api)
    await show_report(api, system, store, stay=stay)


async def _load_and_watch(api: ApiClient) -> None:
    products = sample_products(utc_now())
    total = sum(len(product["variants"]) for product in products)
    console.say(
        f"Loading {len(products)} products with {total} variants through POST /catalog/products/batch …"
    )
    deadline = asyncio.get_running_loop().time() + _LONGEST_SECONDS
    with SyncProgress(total) as progress:
        for start in range(0, len(products), _BATCH_PRODUCTS):
            answer = await api.post(
                "/catalog/products/batch", {"products": products[start : start + _BATCH_PRODUCTS]}
            )
            for rejected in answer["data"]["rejected"]:
                console.note(f"Not accepted: {rejected['id']}: {rejected['message']}")
            progress.show((await api.get("/admin/meta/status"))["data"])
        while True:
            status = (await api.get("/admin/meta/status"))["data"]
            progress.show(status)
            if is_settled(status) and status["counts"]["total"] >= total:
                return
            if asyncio.get_running_loop().time() > deadline:
                raise ServiceError(
                    f"Not every item was settled within {_LONGEST_SECONDS:.0f} s. "
                    "The logs in the demo's data directory say why."
                )
            await asyncio.sleep(_LOOK_SECONDS)
