"""``status``, ``sync`` and ``distrust``: how stores stand, and a fresh look at everything of one."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC
from typing import Annotated, Any

import typer
from sqlalchemy import func, select, text

from meta_sync.cli import console
from meta_sync.cli.job_commands import say_why
from meta_sync.cli.options import JsonOutput, StoreId, read_settings
from meta_sync.cli.progress import JobProgress, job_sentence
from meta_sync.cli.running import run
from meta_sync.cli.session import Session, open_session
from meta_sync.cli.tables import Column, as_it_is, show_rows
from meta_sync.core.config import Settings
from meta_sync.core.db import Database
from meta_sync.core.errors import ConflictError
from meta_sync.stores.audit import COMMAND_LINE
from meta_sync.sync.codes import entry_of, explain
from meta_sync.sync.job_models import JobAction, JobOrder, JobView
from meta_sync.sync.models import Status
from meta_sync.sync.status import LastError, StoreStatus
from meta_sync.sync.status_rules import PREVIEW
from meta_sync.sync.tables import worker_heartbeats

__all__ = ["add_to", "worker_runs"]

_MOST_STORES = 200
_LOOK_SECONDS = 1.0
_STATUS_COLUMNS = (
    Column("name", may_be_cut=True),
    *map(Column, ("store", "connection", "last sync", "synced", "waiting", "held", "failed", "skipped")),
)


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

    async def read(settings: Settings) -> list[tuple[dict[str, Any], LastError | None]]:
        async with open_session(settings) as session:
            if store is not None:
                chosen = [await session.factory.stores().get(store)]
            else:
                chosen, _ = await session.factory.stores().list(1, _MOST_STORES)
            found = []
            for one in chosen:
                status = await session.factory.status().status(one.store_id)
                row = {"storeId": one.store_id, "name": one.name, **_as_json(status)}
                found.append((row, status.standstill_error))
            return found

    stores = run(read(read_settings()))
    rows = [row for row, _ in stores]
    if json:
        console.print_json(rows[0] if store is not None else rows)
    elif stores:
        _show_stores(stores)
    else:
        console.say("There is no store yet. Make one with: meta-sync stores create NAME")


def _sync(
    *,
    store: StoreId,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Show how far the job is until it is over. Ctrl-C leaves it running."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Send also what Meta has as it should be.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Send nothing; say what would be sent, and how long it would take."),
    ] = False,
    json: JsonOutput = False,
) -> None:
    """Look at every variant of a store again. What Meta has confirmed already costs no call.

    With --watch or --dry-run the exit code is 1 when items failed, or the job ended in another way than by its work.
    """

    async def sync(settings: Settings) -> JobView:
        async with open_session(settings) as session:
            await session.factory.stores().get(store)
            action = JobAction.FORCE if force else JobAction.LOOK
            order = JobOrder("sync", action=action, dry_run=dry_run, requested_by=COMMAND_LINE)
            job = await _start_or_join(session, store, order, join=watch and not dry_run)
            if not json:
                console.say(f"The job {job.job_id} is about {_variants(job.total)}.")
            if watch or dry_run:
                return await _watch(session, store, job.job_id, quiet=json)
            return job

    job = run(sync(read_settings()))
    if json:
        console.print_json(_job_as_json(job))
    elif dry_run:
        _say_dry_run(job, store)
    elif watch:
        console.say(f"The job is over: {job_sentence(job)}.")
        say_why(job, store)
    else:
        console.say(f"It runs by itself. Watch it with: meta-sync sync --store {store} --watch")
    if job.is_over and job.status != "success":
        raise typer.Exit(1)


def _variants(count: int) -> str:
    return f"{count:,} variant" + ("" if count == 1 else "s")


async def _start_or_join(session: Session, store_id: str, order: JobOrder, *, join: bool) -> JobView:
    """A new job, or the one that runs already, which is as good a thing to watch if it does the same."""
    jobs = session.factory.jobs()
    try:
        started = (await jobs.start(store_id, order)).started
    except ConflictError as error:
        job_id = await jobs.running(store_id, order.type) if join else None
        job = await jobs.get(store_id, job_id) if job_id is not None else None
        if job is None or (job.dry_run, job.action, job.scope) != (order.dry_run, order.action, order.scope):
            raise
        console.note(error.message)
        return job
    return await jobs.get(store_id, started.job_id)


def _job_as_json(job: JobView) -> dict[str, Any]:
    """A job for a machine, in the words of the API."""
    return {
        "jobId": job.job_id,
        "status": job.status,
        "stage": job.stage,
        "percent": job.percent,
        "counts": asdict(job.counts),
        "ratePerMinute": job.rate_per_minute,
        "estimatedFinishAt": job.estimated_finish_at,
        "message": job.message,
        "error": _error_as_json(job),
        "dryRun": job.result if job.dry_run else None,
    }


def _error_as_json(job: JobView) -> dict[str, Any] | None:
    if job.error_code is None:
        return None
    entry = explain(job.error_code)
    message = job.message or entry.sentence
    return {
        "code": job.error_code,
        "category": entry.category,
        "message": message,
        "action": entry.action,
    }


def _say_dry_run(job: JobView, store_id: str) -> None:
    result = job.result
    if job.status != "success" or result is None:
        console.say(f"The dry run did not come to its end: {job.status}.")
        say_why(job, store_id)
        return
    decisions = {
        **dict.fromkeys(("create", "update", "delete", "unchanged", "skip"), 0),
        **result["decisions"],
    }
    console.say(
        "Nothing was sent. A sync would "
        + ", ".join(f"{name} {decisions[name]:,}" for name in ("create", "update", "delete", "skip"))
        + f" and leave {decisions['unchanged']:,} alone."
    )
    for reason, count in sorted(result["reasons"].items(), key=lambda one: -one[1]):
        console.say(f"  {count:,} skipped as {reason}: {explain(reason).sentence}")
    console.say(_forecast(result))
    if result["reportLines"]:
        console.say(f"Item by item: GET /admin/meta/sync-jobs/{job.job_id}/report")


def _forecast(result: dict[str, Any]) -> str:
    calls, minutes = result["calls"], result["minutes"]
    if not calls:
        return "It takes no call to Meta."
    counted = "one call to Meta" if calls == 1 else f"{calls:,} calls to Meta"
    when = "all can go out at once" if minutes < 1 else f"the last goes out in about {minutes:,.0f} minutes"
    return f"It takes {counted}, of up to {result['batchSize']:,} items; {when}."


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
                started = await service.distrust(store_id, requested_by=COMMAND_LINE)
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


async def _watch(session: Session, store_id: str, job_id: str, *, quiet: bool) -> JobView:
    """Show the job until it is over."""
    jobs = session.factory.jobs()
    if not await worker_runs(session.context.database):
        console.note("No worker runs, so nothing will move. Start one with meta-sync up or meta-sync worker.")
    with JobProgress() if not quiet else nullcontext() as progress:
        try:
            while True:
                job = await jobs.get(store_id, job_id)
                if progress is not None:
                    progress.show(job)
                if job.is_over:
                    return job
                await asyncio.sleep(_LOOK_SECONDS)
        except asyncio.CancelledError:
            console.note(
                f"The job {job_id} goes on by itself. Look again with: meta-sync sync --store {store_id} --watch"
            )
            raise


async def worker_runs(database: Database) -> bool:
    """Whether any worker was seen in the last seconds."""
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
        "feedMode": status.settings.feed_mode,
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
        "lastReconciliation": None
        if status.last_reconciliation is None
        else {
            "jobId": status.last_reconciliation.job_id,
            "at": status.last_reconciliation.at,
            "driftPercent": status.last_reconciliation.drift_percent,
        },
        "counts": {
            "synced": by_status.get(Status.SYNCED, 0),
            "submitted": by_status.get(Status.SUBMITTED, 0),
            "pending": by_status.get(Status.PENDING, 0),
            "failed": by_status.get(Status.FAILED, 0),
            "skipped": by_status.get(Status.SKIPPED, 0),
            "deleted": by_status.get(Status.DELETED, 0),
            "neverSynced": by_status.get(Status.NEVER_SYNCED, 0),
            "outboxPending": status.counts.intents,
            "held": status.counts.held,
            "handlesPending": status.handles_pending,
            "total": status.counts.total,
        },
    }


def _standstill(row: dict[str, Any], error: LastError | None) -> str:
    """Why the store stands still, in words; empty when it does not."""
    reason, until = row["pauseReason"], row["pausedUntil"]
    if reason is None and row["feedMode"] == PREVIEW:
        reason = PREVIEW
    if reason is None:
        return ""
    entry = entry_of(reason)
    sentence, action = entry.sentence.rstrip("."), entry.action
    if until is not None:
        sentence += f", until {until.astimezone(UTC):%H:%M:%S} UTC"
    if row["missingKeys"]:
        sentence += f"; not set: {', '.join(row['missingKeys'])}"
    elif error is not None:
        sentence += f": {error.message.rstrip('.')}"
        action = error.entry.action
    return f"{sentence}. {action}"


def _show_stores(stores: list[tuple[dict[str, Any], LastError | None]]) -> None:
    """A line for each store, and below them why some stand still."""
    shown = []
    for row, _ in stores:
        counts = row["counts"]
        # An item that Meta has, with a change that cannot go out, has an intent and no status of its own.
        unsettled = sum(counts[name] for name in ("submitted", "pending", "neverSynced"))
        waiting = max(unsettled, counts["outboxPending"])
        held = counts["held"]
        figures = (counts["synced"], max(0, waiting - held), held, counts["failed"], counts["skipped"])
        shown.append(
            (
                row["name"],
                row["storeId"],
                row["connectionState"],
                row["lastSyncStatus"],
                *map(str, figures),
            )
        )
    show_rows(_STATUS_COLUMNS, shown)
    for row, error in stores:
        if reason := _standstill(row, error):
            console.say(f"{as_it_is(row['name'])} ({row['storeId']}): {reason}")
        if held := row["counts"]["held"]:
            console.say(
                f"{as_it_is(row['name'])} ({row['storeId']}): {held:,} items are held until a person decides."
                f" Look at them with: meta-sync holds list --store {row['storeId']}"
            )
