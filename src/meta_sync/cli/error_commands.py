"""``errors``: which items of a store failed, what their codes mean, and what to do about them."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.padding import Padding

from meta_sync.cli import console
from meta_sync.cli.options import JsonOutput, StoreId, read_settings
from meta_sync.cli.running import run
from meta_sync.cli.session import open_session
from meta_sync.cli.tables import Column, as_it_is, lines
from meta_sync.core.config import Settings
from meta_sync.sync.errors_list import ErrorPage, FailedItem
from meta_sync.sync.item_filters import ItemFilter

__all__ = ["add_to"]

_PAGE_ITEMS = 200
_SHOWN_ITEMS = 50
_FOUND_SOME = 3
_COLUMNS = tuple(map(Column, ("item", "title", "code", "what it means", "what to do", "Meta's words")))


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("errors")(_errors)


def _errors(
    *,
    store: StoreId,
    code: Annotated[str | None, typer.Option("--code", help="Only items with this code.")] = None,
    most: Annotated[
        int, typer.Option("--limit", min=1, max=10_000, help="Show at most so many items.")
    ] = _SHOWN_ITEMS,
    json: JsonOutput = False,
) -> None:
    """Show the items that failed: why, and what to do about it. Last sent first.

    Exit code 0: none failed. 3: some did. 1: it could not be found out.
    """

    async def read(settings: Settings) -> tuple[list[FailedItem], ErrorPage]:
        async with open_session(settings) as session:
            await session.factory.stores().get(store)
            service, wanted = session.factory.errors(), ItemFilter(error_code=code)
            page = await service.list(store, wanted, limit=min(most, _PAGE_ITEMS))
            found = page.items
            while page.next_cursor is not None and len(found) < most:
                limit = min(most - len(found), _PAGE_ITEMS)
                page = await service.list(store, wanted, limit=limit, cursor=page.next_cursor)
                found += page.items
            return found, page

    found, page = run(read(read_settings()))
    if json:
        shown = {"items": [_as_json(one) for one in found], "total": page.total}
        console.print_json({**shown, "totalIsExact": page.is_total_exact})
    elif not found:
        console.say("No item failed." if code is None else f"No item failed with the code {code}.")
    else:
        _show(found)
        total = f"{page.total:,}" if page.is_total_exact else f"more than {page.total:,}"
        if page.next_cursor is not None:
            console.note(f"These are {len(found):,} of {total} failed items; --limit shows more.")
    if found:
        raise typer.Exit(_FOUND_SOME)


def _as_json(failed: FailedItem) -> dict[str, Any]:
    """As the API answers it."""
    item, entry = failed.item, failed.entry
    return {
        "variantId": item.variant_id,
        "productId": item.product_id,
        "productTitle": item.product_title,
        "sku": item.sku,
        "metaRetailerId": item.meta_retailer_id,
        "lastHandle": item.last_handle,
        "attempts": item.attempts,
        "code": failed.code,
        "category": entry.category,
        "explanation": entry.sentence,
        "action": entry.action,
        "lastError": item.last_error,
        "lastPushedAt": item.last_pushed_at,
        "updatedAt": item.updated_at,
        "retryAt": item.retry_at,
        "presence": item.presence,
        "pendingIntent": item.lane is not None,
    }


def _show(found: list[FailedItem]) -> None:
    """On a terminal item by item under what their code means; elsewhere a line for each."""
    screen = console.screen()
    if not screen.is_terminal:
        lines(_COLUMNS, (_row(failed) for failed in found))
        return
    by_code: dict[str, list[FailedItem]] = {}
    for failed in found:
        by_code.setdefault(failed.code, []).append(failed)
    for code, items in by_code.items():
        entry = items[0].entry
        screen.print(f"[bold]{escape(code)}[/]: {entry.sentence} {entry.action}")
        for failed in items:
            item_id, title, *_, said = map(escape, map(as_it_is, _row(failed)))
            screen.print(Padding(f"[cyan]{item_id}[/]  {title}", (0, 0, 0, 2)))
            if said:
                screen.print(Padding(f"Meta: {said}", (0, 0, 0, 6)))
        screen.print()


def _row(failed: FailedItem) -> tuple[str, ...]:
    item, entry = failed.item, failed.entry
    return (
        item.variant_id,
        item.product_title or "",
        failed.code,
        entry.sentence,
        entry.action,
        item.last_error or "",
    )
