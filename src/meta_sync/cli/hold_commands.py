"""``holds``: what the guard keeps back, and deciding about it."""

from __future__ import annotations

from typing import Annotated

import typer

from meta_sync.api.schemas.holds import MetaHeldItem, MetaHold
from meta_sync.cli import console
from meta_sync.cli.options import JsonOutput, StoreId, read_settings
from meta_sync.cli.running import run
from meta_sync.cli.session import open_session
from meta_sync.cli.tables import Column, show_rows
from meta_sync.core.config import Settings
from meta_sync.stores.audit import COMMAND_LINE
from meta_sync.sync.holds import HeldItem, HeldItemPage, Hold, HoldPage, HoldState

__all__ = ["add_to"]

_SHOWN_ITEMS = 20
_SHOWN_HOLDS = 50
_COLUMNS = (
    Column("hold"),
    Column("kind"),
    Column("state"),
    Column("items"),
    Column("of"),
    Column("since (UTC)"),
    Column("decided by", may_be_cut=True),
)
_ITEM_COLUMNS = (
    Column("item"),
    Column("title", may_be_cut=True),
    Column("would be"),
    Column("changes", may_be_cut=True),
)

_commands = typer.Typer(help="Show what waits for a decision because it is so much at once, and decide.")

HoldId = Annotated[str, typer.Argument(metavar="HOLD", help="The hold's id.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(_commands, name="holds", no_args_is_help=True)


@_commands.command("list")
def _list(
    *,
    store: StoreId,
    state: Annotated[HoldState | None, typer.Option("--state", help="Only holds in this state.")] = None,
    json: JsonOutput = False,
) -> None:
    """Show the holds of a store, newest first."""

    async def read(settings: Settings) -> HoldPage:
        async with open_session(settings) as session:
            await session.factory.stores().get(store)
            return await session.factory.holds().list(store, state=state, limit=_SHOWN_HOLDS)

    found = run(read(read_settings()))
    if json:
        console.print_json({"holds": [_as_json(hold) for hold in found.holds], "total": found.total})
        return
    if not found.holds:
        console.say("Nothing is held.")
        return
    show_rows(_COLUMNS, (_row(hold) for hold in found.holds))


@_commands.command("show")
def _show(
    *,
    hold: HoldId,
    store: StoreId,
    most: Annotated[
        int, typer.Option("--limit", min=1, max=200, help="Show at most so many items.")
    ] = _SHOWN_ITEMS,
    json: JsonOutput = False,
) -> None:
    """Show one hold and what releasing it would do. Changes nothing."""

    async def read(settings: Settings) -> HeldItemPage:
        async with open_session(settings) as session:
            await session.factory.stores().get(store)
            return await session.factory.holds().items(store, hold, limit=most)

    found = run(read(read_settings()))
    if json:
        items = [MetaHeldItem.of(one).model_dump(mode="json", by_alias=True) for one in found.items]
        console.print_json({"hold": _as_json(found.hold), "items": items, "total": found.total})
        return
    show_rows(_COLUMNS, [_row(found.hold)])
    if found.items:
        console.say()
        show_rows(_ITEM_COLUMNS, (_item_row(one) for one in found.items))
    if found.next_cursor is not None:
        console.note(f"These are {len(found.items):,} of {found.total:,} items; --limit shows more.")


@_commands.command("release")
def _release(
    *,
    hold: HoldId,
    store: StoreId,
    shown: Annotated[
        int | None,
        typer.Option(
            "--shown", min=0, help="How many items you saw; refused when a tenth more are held by now."
        ),
    ] = None,
    json: JsonOutput = False,
) -> None:
    """Let everything go that a hold keeps back. A worker does the sending."""

    async def release(settings: Settings) -> Hold:
        async with open_session(settings) as session:
            await session.factory.stores().get(store)
            return await session.factory.holds().release(store, hold, shown_items=shown, actor=COMMAND_LINE)

    _say(run(release(read_settings())), "will be sent", json=json)


@_commands.command("discard")
def _discard(*, hold: HoldId, store: StoreId, json: JsonOutput = False) -> None:
    """Leave Meta as it is, until the store wants something else of the items."""

    async def discard(settings: Settings) -> Hold:
        async with open_session(settings) as session:
            await session.factory.stores().get(store)
            return await session.factory.holds().discard(store, hold, actor=COMMAND_LINE)

    _say(run(discard(read_settings())), "will be left as they are at Meta", json=json)


def _say(hold: Hold, what: str, *, json: bool) -> None:
    if json:
        console.print_json(_as_json(hold))
    else:
        console.say(f"{hold.items:,} items {what}.")


def _as_json(hold: Hold) -> dict[str, object]:
    return MetaHold.of(hold).model_dump(mode="json", by_alias=True)


def _row(hold: Hold) -> tuple[str, ...]:
    since = hold.held_at or hold.created_at
    return (
        str(hold.hold_id),
        hold.kind.value.replace("_", " "),
        hold.state.value,
        f"{hold.items:,}",
        f"{hold.base_items:,}",
        f"{since:%Y-%m-%d %H:%M}",
        hold.decided_by or "",
    )


def _item_row(item: HeldItem) -> tuple[str, ...]:
    changes = "; ".join(
        f"{name}: {was or '-'} > {becomes or '-'}" for name, (was, becomes) in item.changes.items()
    )
    done = {"delete": "deleted", "upsert": "changed"}
    decision = item.decision.value if item.decision is not None else ""
    return (item.variant_id, item.title or "", done.get(decision, decision), changes or item.reason or "")
