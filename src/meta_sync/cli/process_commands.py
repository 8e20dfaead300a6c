"""``api``, ``worker`` and ``sandbox``: the long-running processes of a production installation, one each."""

from __future__ import annotations

from typing import Annotated

import typer

from meta_sync.cli.options import Descriptor, Host, Port, Supervised, read_settings
from meta_sync.cli.running import run
from meta_sync.cli.serve import serve_api, serve_sandbox, serve_worker
from meta_sync.sandbox.options import Profile, SandboxOptions

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("api")(_api)
    app.command("worker")(_worker)
    app.command("sandbox")(_sandbox)


def _api(
    *, host: Host = None, port: Port = None, descriptor: Descriptor = None, supervised: Supervised = False
) -> None:
    """Run the HTTP API. Needs META_SYNC_DATABASE_URL."""
    settings = read_settings(host=host, port=port)
    run(serve_api(settings, descriptor=descriptor, supervised=supervised), fast_loop=True)


def _worker(*, supervised: Supervised = False) -> None:
    """Run a worker. Needs META_SYNC_DATABASE_URL; any number may run."""
    run(serve_worker(read_settings(), supervised=supervised), fast_loop=True)


def _sandbox(
    *,
    host: Host = None,
    port: Port = None,
    delay: Annotated[
        float, typer.Option(min=0, help="Seconds that an accepted batch takes. Meta takes about 120.")
    ] = 2.0,
    profile: Annotated[
        Profile, typer.Option(help="clean behaves as well as Meta ever does, adverse as badly.")
    ] = "clean",
    seed: Annotated[int, typer.Option(help="Of its random choices.")] = 0,
    calls_per_hour: Annotated[
        int | None, typer.Option(min=1, help="Write calls allowed per catalog and hour.")
    ] = None,
    descriptor: Descriptor = None,
    supervised: Supervised = False,
) -> None:
    """Run a local Graph API with a demo business, catalog and token. Point META_SYNC_GRAPH_URL at it."""
    settings = read_settings(host=host, port=port)
    options = SandboxOptions(
        processing_delay_seconds=delay, profile=profile, seed=seed, calls_per_hour=calls_per_hour, demo=True
    )
    run(serve_sandbox(settings, options, descriptor=descriptor, supervised=supervised), fast_loop=True)
