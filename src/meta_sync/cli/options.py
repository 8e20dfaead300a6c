"""Options that several commands share, and reading the settings of the process the way every command does."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from meta_sync.cli import console
from meta_sync.core.config import Settings, load_settings, unknown_names
from meta_sync.core.errors import StartError
from meta_sync.core.logging import configure_logging
from meta_sync.core.queue import redis_settings

__all__ = ["Descriptor", "Host", "JsonOutput", "Port", "StoreId", "Supervised", "read_settings"]

Host = Annotated[str | None, typer.Option(help="Address to listen on. Default 127.0.0.1, or META_SYNC_HOST.")]
Port = Annotated[
    int | None,
    typer.Option(
        min=0, max=65535, help="Port to listen on, 0 for a free one. Default 8000, or META_SYNC_PORT."
    ),
]
StoreId = Annotated[str, typer.Option("--store", metavar="ID", help="The store's id.")]
JsonOutput = Annotated[bool, typer.Option("--json", help="Print JSON for a machine.")]
Descriptor = Annotated[int | None, typer.Option("--descriptor", hidden=True)]
Supervised = Annotated[bool, typer.Option("--supervised", hidden=True)]


def read_settings(*, host: str | None = None, port: int | None = None, say_unknown: bool = True) -> Settings:
    """The settings of this process, with what the command line says over them.

    Names that look like ours and are none are said on standard error, unless the command says them itself.

    Raises
    ------
    StartError
        A value is broken; the sentence names it.
    """
    settings = load_settings(host=host, port=port)
    # Of a short command only trouble is worth a line, and standard output belongs to its result. What serves says more.
    configure_logging("WARNING", "console")
    if settings.redis_url is not None:
        _require_redis_address(settings.redis_url.get_secret_value())
    if say_unknown:
        for sentence in unknown_names(os.environ):
            console.note(sentence)
    return settings


def _require_redis_address(url: str) -> None:
    try:
        redis_settings(url)
    except (RuntimeError, ValueError):
        raise StartError(
            "META_SYNC_REDIS_URL is not an address such as redis://host:6379/0, rediss://… or unix:///path."
        ) from None
