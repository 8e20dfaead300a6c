"""``items`` and ``resync``: how the items of a store stand, and sending one of them again."""

from __future__ import annotations

from typing import Annotated

import typer

from meta_sync.api.schemas.items import MetaItemSummary
from meta_sync.cli import console
from meta_sync.cli.options import JsonOutput, StoreId, read_settings
from meta_sync.cli.running import run
from meta_sync.cli.session import open_session
from meta_sync.cli.tables import Column, as_it_is, show_rows
from meta_sync.core.config import Settings
from meta_sync.stores.audit import COMMAND_LINE
from meta_sync.sync.item_filters import ItemFilter
from meta_sync.sync.items import ItemPage, ItemSummary
from meta_sync.sync.models import Status

__all__ = ["add_to"]

_PAGE_ITEMS = 100
_SHOWN_ITEMS = 50
_COLUMNS = (
    Column("item"),
    Column("title", may_be_cut=True),
    Column("status"),
    Column("at Meta"),
    Column("last sent (UTC)"),
    Column("code"),
)


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("items")(_items)
    app.command("resync")(_resync)


def _items(
    *,
    store: StoreId,
    status: Annotated[Status | None, typer.Option("--status", help="Only items in this status.")] = None,
    search: Annotated[
        str | None,
        typer.Option("--search", metavar="TEXT", help="Only items with this text in id, sku, title or slug."),
    ] = None,
    code: Annotated[str | None, typer.Option("--code", help="Only items with this code.")] = None,
    most: Annotated[
        int, typer.Option("--limit", min=1, max=10_000, help="Show at most so many items.")
    ] = _SHOWN_ITEMS,
    json: JsonOutput = False,
) -> None:
    """Show the items of a store and how they stand at Meta. Last sent first, never sent last; errors says more of codes."""
    wanted = ItemFilter(status=status, search=search or None, error_code=code)

    async def read(settings: Settings) -> tuple[list[ItemSummary], ItemPage]:
        async with open_session(settings) as session:
            await session.factory.stores().get(store)
            service = session.factory.items()
            page = await service.list(store, wanted, limit=min(most, _PAGE_ITEMS))
            found = list(page.items)
            while page.next_cursor is not None and len(found) < most:
                limit = min(most - len(found), _PAGE_ITEMS)
                page = await service.list(store, wanted, limit=limit, cursor=page.next_cursor)
                found += page.items
            return found, page

    found, page = run(read(read_settings()))
    if json:
        shown = [MetaItemSummary.of(item).model_dump(mode="json", by_alias=True) for item in found]
        console.print_json({"items": shown, "total": page.total, "totalIsExact": page.is_total_exact})
        return
    if not found:
        console.say("There is no such item." if not wanted.is_empty else "The store has no items.")
        return
    _show(found)
    if page.next_cursor is not None:
        total = f"{page.total:,}" if page.is_total_exact else f"more than {page.total:,}"
        console.note(f"These are {len(found):,} of {total} items; --limit shows more.")


def _resync(
    *,
    item: Annotated[str, typer.Argument(metavar="ITEM", help="The item's variant id.")],
    store: StoreId,
    force: Annotated[bool, typer.Option(help="Send it also when Meta has confirmed it as it is.")] = True,
    refresh_images: Annotated[
        bool, typer.Option("--refresh-images", help="Let Meta fetch the images again.")
    ] = False,
    json: JsonOutput = False,
) -> None:
    """Send one item again. Also brings back an item that was taken off Meta.

    A worker does the sending; items shows how it went.
    """

    async def resync(settings: Settings) -> None:
        async with open_session(settings) as session:
            await session.factory.stores().get(store)
            await session.factory.operations().resync(
                store, item, force=force, refresh_images=refresh_images, actor=COMMAND_LINE
            )

    run(resync(read_settings()))
    if json:
        console.print_json({"variantId": item, "enqueued": True})
    else:
        console.say(f"The item {as_it_is(item)} will be looked at again.")


def _show(found: list[ItemSummary]) -> None:
    show_rows(_COLUMNS, (_row(item) for item in found))


def _row(item: ItemSummary) -> tuple[str, ...]:
    # Meta has it as it was confirmed; a newer state waits.
    waits = ", changed" if item.lane is not None and item.sync_status is Status.SYNCED else ""
    return (
        item.variant_id,
        item.product_title or "",
        f"{item.sync_status.value}{waits}",
        item.presence.value,
        f"{item.last_pushed_at:%Y-%m-%d %H:%M}" if item.last_pushed_at else "",
        item.error_code or "",
    )
