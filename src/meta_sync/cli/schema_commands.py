"""``migrate`` and ``openapi``: the two schemas, of the database and of the API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meta_sync.api.app import openapi_document
from meta_sync.cli import console
from meta_sync.cli.options import read_settings
from meta_sync.cli.running import run, to_the_end
from meta_sync.cli.session import located_database
from meta_sync.core.config import Settings
from meta_sync.core.migrations import expected_revision, upgrade

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("migrate")(_migrate)
    app.command("openapi")(_openapi)


def _migrate() -> None:
    """Bring the database to the schema of this version. Run it as the database's owner before a new version starts."""

    async def migrate(settings: Settings) -> None:
        if settings.database_url is not None:
            await to_the_end(upgrade(settings.database_url.get_secret_value()))
            return
        async with located_database(settings) as located:
            assert located.database_url is not None
            await to_the_end(upgrade(located.database_url.get_secret_value()))

    run(migrate(read_settings()))
    console.say(f"The database has the schema of this version ({expected_revision()}).")


def _openapi(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file; standard output without it.")
    ] = None,
) -> None:
    """Print the OpenAPI document of the API."""
    document = openapi_document()
    if output is None:
        console.say(document.rstrip("\n"))
    else:
        output.write_text(document)
