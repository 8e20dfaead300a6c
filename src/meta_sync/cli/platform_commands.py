"""``stores create`` and ``keys create``: what the first user of an installation needs before anything can be called."""

from __future__ import annotations

from typing import Annotated

import typer

from meta_sync.access.models import CreatedKey
from meta_sync.cli import console
from meta_sync.cli.options import JsonOutput, read_settings
from meta_sync.cli.running import run
from meta_sync.cli.session import open_session
from meta_sync.core.config import Settings
from meta_sync.stores.models import Store

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    stores = typer.Typer(no_args_is_help=True, help="Stores of this installation.")
    # A callback makes Typer keep the sub-command's name although it is the only one.
    stores.callback()(_group)
    stores.command("create")(_create_store)
    app.add_typer(stores, name="stores")
    keys = typer.Typer(no_args_is_help=True, help="API keys.")
    keys.callback()(_group)
    keys.command("create")(_create_key)
    app.add_typer(keys, name="keys")


def _group() -> None:
    pass


def _create_store(
    name: Annotated[str, typer.Argument(help="A name for people.")],
    *,
    currency: Annotated[
        str | None, typer.Option(help="ISO 4217 code of all prices, such as EUR. Fixed after the first sync.")
    ] = None,
    storefront_url: Annotated[
        str | None, typer.Option(help="Where products are shown, such as https://shop.example.")
    ] = None,
    media_base_url: Annotated[
        str | None, typer.Option(help="Put before image keys that are no complete address.")
    ] = None,
    enable_sync: Annotated[
        bool, typer.Option("--enable-sync", help="Send changes to Meta from the start.")
    ] = False,
    json: JsonOutput = False,
) -> None:
    """Create a store."""

    async def create(settings: Settings) -> Store:
        async with open_session(settings) as session:
            return await session.factory.stores().create(
                name,
                currency=currency,
                storefront_base_url=storefront_url,
                media_base_url=media_base_url,
                enable_sync=enable_sync,
            )

    store = run(create(read_settings()))
    if json:
        console.print_json({"storeId": store.store_id, "publicId": store.public_id, "name": store.name})
    else:
        console.say(f"Created the store {store.name}: {store.store_id}")
        console.say(
            f"Make a key for it with: meta-sync keys create --store {store.store_id} "
            "--permission metaCatalog:manage --permission catalog:write"
        )


def _create_key(
    *,
    permission: Annotated[list[str], typer.Option(help="What the key may do; give it once for each.")],
    store: Annotated[
        str | None, typer.Option("--store", metavar="ID", help="The store it belongs to.")
    ] = None,
    platform: Annotated[bool, typer.Option("--platform", help="A key for all stores.")] = False,
    name: Annotated[str | None, typer.Option(help="Shown in lists of keys.")] = None,
    json: JsonOutput = False,
) -> None:
    """Create an API key. It is shown once and cannot be read again."""
    if (store is None) is not platform:
        raise typer.BadParameter("Give either --store ID or --platform.")

    async def create(settings: Settings) -> CreatedKey:
        async with open_session(settings) as session:
            return await session.factory.access().create_key(store, permission, name)

    key = run(create(read_settings()))
    if json:
        console.print_json({"keyId": key.key_id, "apiKey": key.api_key})
    else:
        console.say(f"Created the key {key.key_id}. It is shown only now:")
        console.say(key.api_key)
