"""``audit``: who did what to a store."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from meta_sync.api.schemas.audit import AuditLogEntry
from meta_sync.cli import console
from meta_sync.cli.options import JsonOutput, read_settings
from meta_sync.cli.running import run
from meta_sync.cli.session import open_session
from meta_sync.cli.tables import Column, show_rows
from meta_sync.core.clock import utc_now
from meta_sync.core.config import Settings
from meta_sync.stores.audit import THE_INSTALLATION, AuditAction
from meta_sync.stores.audit_log import AuditEntry, AuditFilter, AuditPage

__all__ = ["add_to"]

_PAGE_ENTRIES = 200
_SHOWN_ENTRIES = 50
_COLUMNS = (
    Column("at (UTC)"),
    Column("who"),
    Column("action"),
    Column("target"),
    Column("changes", may_be_cut=True),
)
_AGO = re.compile(r"([1-9][0-9]{0,4})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_LONGEST_VALUE_CHARS = 60


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("audit")(_audit)


def _audit(
    *,
    store: Annotated[str | None, typer.Option("--store", metavar="ID", help="The store's id.")] = None,
    platform: Annotated[
        bool, typer.Option("--platform", help="What belongs to no store, such as keys for all stores.")
    ] = False,
    action: Annotated[
        AuditAction | None,
        typer.Option("--action", metavar="NAME", help="Only this action, such as settings_changed."),
    ] = None,
    actor: Annotated[
        str | None,
        typer.Option("--actor", metavar="NAME", help="Only what this key's id did, or: command line."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="ID", help="Only what was done to the thing with this id."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="T",
            help="Only from then on: 30m, 24h, 7d, or a time such as 2026-05-03T10:00Z.",
        ),
    ] = None,
    most: Annotated[
        int, typer.Option("--limit", min=1, max=10_000, help="Show at most so many entries.")
    ] = _SHOWN_ENTRIES,
    json: JsonOutput = False,
) -> None:
    """Show who did what, newest first."""
    if (store is None) is not platform:
        raise typer.BadParameter("Give either --store ID or --platform.")
    wanted = AuditFilter(action=action, actor=actor, target=target, since=_moment(since))

    async def read(settings: Settings) -> tuple[list[AuditEntry], AuditPage]:
        async with open_session(settings) as session:
            if store is not None:
                await session.factory.stores().get(store)
            of = store if store is not None else THE_INSTALLATION
            service = session.factory.audit_log()
            page = await service.list(of, wanted, limit=min(most, _PAGE_ENTRIES))
            found = list(page.entries)
            while page.next_cursor is not None and len(found) < most:
                limit = min(most - len(found), _PAGE_ENTRIES)
                page = await service.list(of, wanted, limit=limit, cursor=page.next_cursor)
                found += page.entries
            return found, page

    found, page = run(read(read_settings()))
    if json:
        shown = [AuditLogEntry.of(entry).model_dump(mode="json", by_alias=True) for entry in found]
        console.print_json({"entries": shown, "total": page.total, "totalIsExact": page.is_total_exact})
    elif not found:
        console.say("There is no such entry.")
    else:
        show_rows(_COLUMNS, map(_row, found))
        if page.next_cursor is not None:
            console.note(f"These are the newest {len(found):,}; --limit shows more.")


def _moment(given: str | None) -> datetime | None:
    """A time as people write one; without an offset it is UTC."""
    if given is None:
        return None
    if ago := _AGO.fullmatch(given):
        return utc_now() - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        moment = datetime.fromisoformat(given)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            "--since is neither a time such as 2026-05-03T10:00Z nor how long ago, such as 24h."
        ) from None


def _row(entry: AuditEntry) -> tuple[str, ...]:
    target = entry.target_type if entry.target_id is None else f"{entry.target_type} {entry.target_id}"
    return (f"{entry.at:%Y-%m-%d %H:%M:%S}", entry.actor, entry.action, target, _changes(entry))


def _changes(entry: AuditEntry) -> str:
    """What is another than before, each as ``key: old -> new``."""
    before, after = entry.before or {}, entry.after or {}
    told = []
    for key in after or before:
        if key in before and key in after:
            told.append(f"{key}: {_value(before[key])} -> {_value(after[key])}")
        else:
            told.append(f"{key}: {_value((after or before)[key])}")
    return ", ".join(told)


def _value(value: object) -> str:
    said = "nothing" if value is None else str(value)
    return said if len(said) <= _LONGEST_VALUE_CHARS else f"{said[: _LONGEST_VALUE_CHARS - 1]}…"
