"""``preflight``: what a sync would make of a store's items and of its Meta catalog, and approving a first sync."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Annotated, Any

import typer

from meta_sync.api.schemas.preflight import (
    Preflight,
    PreflightCatalog,
    PreflightCatalogItem,
    PreflightFinding,
    PreflightImages,
)
from meta_sync.cli import console
from meta_sync.cli.options import JsonOutput, StoreId, read_settings
from meta_sync.cli.progress import JobProgress
from meta_sync.cli.running import run
from meta_sync.cli.session import Session, open_session
from meta_sync.cli.sync_commands import worker_runs
from meta_sync.cli.tables import Column, as_it_is, show_rows
from meta_sync.core.config import Settings
from meta_sync.core.errors import ConflictError
from meta_sync.stores.audit import COMMAND_LINE
from meta_sync.sync.codes import entry_of
from meta_sync.sync.preflight_reports import PreflightReport

__all__ = ["add_to"]

_LOOK_SECONDS = 0.3
_NOT_READY = 1
_SHOWN_EXAMPLES = 5
_REASONS = (Column("why"), Column("items"), Column("what to do", may_be_cut=True), Column("for example"))
_KINDS = (Column("at Meta now"), Column("items"), Column("what a sync does", may_be_cut=True))
_ITEMS = (
    Column("id at Meta"),
    Column("title", may_be_cut=True),
    Column("field"),
    Column("at Meta", may_be_cut=True),
    Column("in the store", may_be_cut=True),
)


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("preflight")(_preflight)


def _preflight(
    *,
    store: StoreId,
    probe_images: Annotated[
        bool,
        typer.Option(
            "--probe-images", help="Also look whether images can be fetched; up to 200 of them are asked for."
        ),
    ] = False,
    approve: Annotated[
        bool,
        typer.Option(
            "--approve", help="Make no report: approve the newest one, so that the first sync may begin."
        ),
    ] = False,
    json: JsonOutput = False,
) -> None:
    """Say what a sync would do: which items can be sent, and what becomes of what the Meta catalog holds already.

    Nothing is changed. A catalog that had items when it was selected is written to only after --approve. Exit code 1:
    the report did not come to its end.
    """
    if approve and probe_images:
        raise typer.BadParameter("--approve makes no report; leave --probe-images out.")
    if approve:
        _approve(store, as_json=json)
        return

    async def look(settings: Settings) -> Preflight:
        async with open_session(settings) as session:
            await session.factory.stores().get(store)
            job_id = await _start_or_join(session, store, probe_images=probe_images)
            await _wait_until_over(session, store, job_id, quiet=json)
            return Preflight.of(await session.factory.preflight().get(store, job_id))

    report = run(look(read_settings()))
    if json:
        console.print_json(report.model_dump(mode="json", by_alias=True))
    else:
        _tell(report, store)
    if report.status != "success":
        raise typer.Exit(_NOT_READY)


def _approve(store_id: str, *, as_json: bool) -> None:
    async def approve(settings: Settings) -> dict[str, Any]:
        async with open_session(settings) as session:
            await session.factory.stores().get(store_id)
            reports = session.factory.preflight()
            ready = _newest_ready(await reports.list(store_id))
            if ready is None:
                raise ConflictError(
                    f"No report is ready. Make one and read it first: meta-sync preflight --store {store_id}"
                )
            approval = await reports.approve(store_id, ready.job_id, actor=COMMAND_LINE)
            return {
                "jobId": approval.job_id,
                "catalogId": approval.catalog_id,
                "approvedAt": approval.approved_at,
                "approvedBy": approval.approved_by,
                "wasNew": approval.was_new,
            }

    done = run(approve(read_settings()))
    if as_json:
        console.print_json(done)
    elif done["wasNew"]:
        console.say(f"The first sync into the catalog {done['catalogId']} may begin, and goes on by itself.")
    else:
        console.say(
            f"The first sync into the catalog {done['catalogId']} was allowed before; nothing changed."
        )


def _newest_ready(reports: Sequence[PreflightReport]) -> PreflightReport | None:
    return next((one for one in reports if one.status == "success"), None)


async def _start_or_join(session: Session, store_id: str, *, probe_images: bool) -> str:
    """A new report, or the one that is being made already."""
    try:
        return await session.factory.preflight().start(
            store_id, probe_images=probe_images, actor=COMMAND_LINE
        )
    except ConflictError as error:
        running = next((one.message for one in error.details if one.field == "jobId"), None)
        if running is None or probe_images:
            raise
        console.note(error.message)
        return running


async def _wait_until_over(session: Session, store_id: str, job_id: str, *, quiet: bool) -> None:
    """Wait for the report, which a worker makes. Ctrl-C leaves it being made."""
    jobs = session.factory.jobs()
    if not await worker_runs(session.context.database):
        console.note("No worker runs, so nothing will move. Start one with meta-sync up or meta-sync worker.")
    with JobProgress() if not quiet else nullcontext() as progress:
        while True:
            job = await jobs.get(store_id, job_id)
            if progress is not None:
                progress.show(job)
            if job.is_over:
                return
            await asyncio.sleep(_LOOK_SECONDS)


# --- For people -----------------------------------------------------------------------------------------------------


def _tell(report: Preflight, store_id: str) -> None:
    if report.status != "success":
        console.say(f"The report {report.id} ended as {report.status}.")
        if report.error_code is not None:
            entry = entry_of(report.error_code)
            console.say(f"{entry.sentence} {entry.action}")
    console.say(f"{report.variants:,} variants were looked at, of which {report.syncable:,} can be sent.")
    _tell_findings("What cannot be sent:", report.not_syncable)
    _tell_findings("What is worth a look:", report.warnings)
    if report.catalog is not None:
        _tell_catalog(report.catalog)
    if report.images is not None:
        _tell_images(report.images)
    if report.waits_for_approval:
        console.say("")
        console.say("Nothing is sent into this catalog until you approve it:")
        console.say(f"  meta-sync preflight --store {store_id} --approve")


def _tell_findings(title: str, findings: Sequence[PreflightFinding]) -> None:
    if not findings:
        return
    console.say("")
    console.say(title)
    show_rows(
        _REASONS,
        (
            (
                one.sentence,
                f"{one.count:,}",
                one.action,
                ", ".join(as_it_is(item.variant_id) for item in one.examples[:_SHOWN_EXAMPLES]),
            )
            for one in findings
        ),
    )


def _tell_catalog(catalog: PreflightCatalog) -> None:
    console.say("")
    name = f" {as_it_is(catalog.catalog_name)}" if catalog.catalog_name else ""
    console.say(f"The Meta catalog{name} ({catalog.catalog_id}) shows {catalog.items:,} items.")
    rows = (
        ("not there yet", catalog.created, "creates them"),
        ("as they would be sent", catalog.unchanged, "sends them once, so that they are known to be right"),
        (
            "other than in the store",
            catalog.changed.count,
            "changes them, and empties what the store does not have",
        ),
        (
            "with a sale that the store does not have",
            catalog.sales_ended.count,
            "ends the sale (part of the above)",
        ),
        ("no longer wanted there", catalog.deleted.count, "deletes them"),
        ("known, but not fit to be sent", catalog.not_syncable.count, "leaves them as they are"),
        ("not of this store", catalog.foreign.count, "leaves them as they are"),
    )
    show_rows(_KINDS, ((now, f"{count:,}", does) for now, count, does in rows if count))
    for title, kind in (
        ("What would change, for example:", catalog.changed),
        ("What would be deleted, for example:", catalog.deleted),
        ("What is not of this store, for example:", catalog.foreign),
    ):
        if kind.count:
            console.say("")
            console.say(title)
            show_rows(_ITEMS, (row for one in kind.examples[:_SHOWN_EXAMPLES] for row in _rows(one)))
    for source in catalog.sources or ():
        shown = as_it_is(source.name or source.id)
        console.say(f"The data feed {shown} ({as_it_is(source.id)}) writes this catalog, too.")


def _rows(item: PreflightCatalogItem) -> list[tuple[str, ...]]:
    shown = (item.retailer_id or "", item.title or "")
    if not item.changes:
        return [(*shown, "price", item.price or "", "")]
    return [(*shown, one.field, one.meta or "", one.store or "") for one in item.changes]


def _tell_images(images: PreflightImages) -> None:
    console.say("")
    console.say(f"{images.checked:,} images were asked for, of which {images.good:,} will do.")
    columns = (Column("what is wrong"), Column("images"), Column("for example"))
    if images.findings:
        show_rows(
            columns,
            (
                (one.sentence, f"{one.count:,}", as_it_is(one.examples[0].url) if one.examples else "")
                for one in images.findings
            ),
        )
