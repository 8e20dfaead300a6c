"""``status``, ``sync`` and ``distrust``: how stores stand, and a fresh look at everything of one."""

from __future__ import annotations

import asyncio
from datetime import UTC
from typing import Annotated, Any

import typer
from rich.table import Table
from sqlalchemy import func, select, text

from meta_sync.cli import console
from meta_sync.cli.options import JsonOutput, StoreId, read_settings
from meta_sync.cli.progress import SyncProgress, is_settled
from meta_sync.cli.running import run
from meta_sync.cli.session import Session, open_session
from meta_sync.core.config import Settings
from meta_sync.core.db import Database
from meta_sync.core.errors import ConflictError
from meta_sync.sync.codes import entry_of
from meta_sync.sync.models import Status
from meta_sync.sync.status import StoreStatus
from meta_sync.sync.tables import worker_heartbeats

__all__ = ["add_to"]

_MOST_STORES = 200
_LOOK_SECONDS = 1.0

_EXPLAINED_BY_ERROR = frozenset(
    {"needs_reconnect", "config_incomplete", "meta_unreachable", "blocked_by_meta"}
)
"""Reasons that the last error says more about."""


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("status")(_status)
    app.command("sync")(_sync)
    app.command("distrust")(_distrust)


def _status(
    *,
    store: Annotated[
        str | None, typer.Option("--store", metavar="ID", help="One store; all without it.")
    ] = None,
    json: JsonOutput = False,
) -> None:
    """Show how stores stand: connection, counts by status, why nothing is sent."""

    async def read(settings: Settings) -> list[dict[str, Any]]:
        async with open_session(settings) as session:
            if store is not None:
                chosen = [await session.factory.stores().get(store)]
            else:
                chosen, _ = await session.factory.stores().list(1, _MOST_STORES)
            return [
                {
                    "storeId": one.store_id,
                    "name": one.name,
                    **_as_json(await session.factory.status().status(one.store_id)),
                }
                for one in chosen
            ]

    rows = run(read(read_settings()))
    if json:
        console.print_json(rows[0] if store is not None else rows)
    elif rows:
        console.screen().print(_table(rows))
    else:
        console.say("There is no store yet. Make one with: meta-sync stores create NAME")


def _sync(
    *,
    store: StoreId,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show the counts until everything is settled.")
    ] = False,
) -> None:
    """Look at every variant of a store again. What Meta has confirmed already costs no call."""

    async def sync(settings: Settings) -> None:
        async with open_session(settings) as session:
            await session.factory.stores().get(store)
            try:
                started = await session.factory.jobs().start_bootstrap(store, requested_by="command line")
            except ConflictError as error:
                if not watch or error.code != ConflictError.code:
                    raise
                # It is running already, which is as good a thing to watch.
                console.say(error.message)
            else:
                console.say(f"Started the job {started.job_id} over {started.total} variants.")
            if watch:
                await _watch(session, store)

    run(sync(read_settings()))


def _distrust(
    *,
    store: Annotated[str | None, typer.Option("--store", metavar="ID", help="The store.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every store that has a catalog selected.")] = False,
) -> None:
    """Send everything again, whatever Meta confirmed: after a restored backup, or when somebody edited at Meta.

    A worker does the sending; status shows how far it is. Repeating the command does no harm. Items at Meta that the
    database has no row for are not found.
    """
    if (store is None) is not every:
        raise typer.BadParameter("Give either --store ID or --all.")

    async def distrust(settings: Settings) -> None:
        async with open_session(settings) as session:
            service = session.factory.distrust()
            chosen = await service.connected_stores() if store is None else [store]
            for store_id in chosen:
                started = await service.distrust(store_id, requested_by="command line")
                console.say(
                    f"{store_id}: nothing that Meta confirmed counts any more; started the job {started.job_id} over "
                    f"{started.total} variants."
                )
            if not chosen:
                raise ConflictError(
                    "No store of this database has a Meta catalog selected, so nothing is sent again. Is it the database "
                    "you mean? It is named by META_SYNC_DATABASE_URL, or found below META_SYNC_DATA_DIR."
                )

    run(distrust(read_settings()))


async def _watch(session: Session, store_id: str) -> None:
    """Until the job and everything it set off are over."""
    jobs, status = session.factory.jobs(), session.factory.status()
    if not await _worker_runs(session.context.database):
        console.note("No worker runs, so nothing will move. Start one with meta-sync up or meta-sync worker.")
    with SyncProgress() as progress:
        while True:
            newest = await jobs.list(store_id, limit=5)
            view = _as_json(await status.status(store_id))
            progress.show(view)
            if is_settled(view) and all(job.finished_at is not None for job in newest):
                return
            await asyncio.sleep(_LOOK_SECONDS)


async def _worker_runs(database: Database) -> bool:
    recently = func.now() - text("interval '10 seconds'")
    statement = select(func.count()).where(worker_heartbeats.c.seen_at > recently)
    async with database.platform() as connection:
        return bool(await connection.scalar(statement))


def _as_json(status: StoreStatus) -> dict[str, Any]:
    by_status, error = status.counts.by_status, status.last_error
    return {
        "connectionState": status.connection_state,
        "pauseReason": status.pause_reason,
        "pausedUntil": status.paused_until,
        "lastSyncAt": status.last_sync_at,
        "lastSyncStatus": status.last_sync_status,
        "lastError": None
        if error is None
        else {
            "code": error.code,
            "message": error.message,
            "at": error.at,
            "category": error.entry.category,
            "explanation": error.entry.sentence,
            "action": error.entry.action,
        },
        "missingKeys": list(status.missing_keys),
        "counts": {
            "synced": by_status.get(Status.SYNCED, 0),
            "submitted": by_status.get(Status.SUBMITTED, 0),
            "pending": by_status.get(Status.PENDING, 0),
            "failed": by_status.get(Status.FAILED, 0),
            "skipped": by_status.get(Status.SKIPPED, 0),
            "deleted": by_status.get(Status.DELETED, 0),
            "neverSynced": by_status.get(Status.NEVER_SYNCED, 0),
            "outboxPending": status.counts.intents,
            "handlesPending": status.handles_pending,
            "total": status.counts.total,
        },
    }


def _standstill(row: dict[str, Any]) -> str:
    """Why the store stands still, in words; empty when it does not."""
    reason, until, error = row["pauseReason"], row["pausedUntil"], row["lastError"]
    if reason is None:
        return ""
    entry = entry_of(reason)
    sentence, action = entry.sentence.rstrip("."), entry.action
    if until is not None:
        sentence += f", until {until.astimezone(UTC):%H:%M:%S} UTC"
    if row["missingKeys"]:
        sentence += f"; not set: {', '.join(row['missingKeys'])}"
    elif error is not None and reason in _EXPLAINED_BY_ERROR:
        sentence += f": {error['message'].rstrip('.')}"
        action = error["action"]
    return f"{sentence}. {action}"


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table()
    for name in (
        "store",
        "connection",
        "last sync",
        "synced",
        "waiting",
        "failed",
        "skipped",
        "why nothing is sent",
    ):
        table.add_column(
            name, justify="right" if name in {"synced", "waiting", "failed", "skipped"} else "left"
        )
    for row in rows:
        counts = row["counts"]
        # An item that Meta has, with a change that cannot go out, has an intent and no status of its own.
        unsettled = sum(counts[name] for name in ("submitted", "pending", "neverSynced"))
        waiting = max(unsettled, counts["outboxPending"])
        table.add_row(
            f"{row['name']}\n{row['storeId']}",
            row["connectionState"],
            row["lastSyncStatus"],
            str(counts["synced"]),
            str(waiting),
            str(counts["failed"]),
            str(counts["skipped"]),
            _standstill(row),
        )
    return table
