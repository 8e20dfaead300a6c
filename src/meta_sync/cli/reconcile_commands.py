"""``reconcile``: what Meta shows compared with what it confirmed, and the repair of what is not so."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import Annotated

import typer

from meta_sync.api.schemas.reconciliations import ReconciledItem
from meta_sync.api.schemas.reconciliations import Reconciliation as ReconciliationBody
from meta_sync.cli import console
from meta_sync.cli.options import JsonOutput, StoreId, read_settings
from meta_sync.cli.progress import JobProgress
from meta_sync.cli.running import run
from meta_sync.cli.session import Session, open_session
from meta_sync.cli.tables import Column, show_rows
from meta_sync.core.config import Settings
from meta_sync.core.errors import ConflictError
from meta_sync.stores.audit import COMMAND_LINE
from meta_sync.sync.codes import entry_of
from meta_sync.sync.reconcile_models import RECONCILIATION, Finding, FindingState, Verdict
from meta_sync.sync.reconcile_repair import RepairOrder
from meta_sync.sync.reconcile_service import FindingFilter, Reconciliation

__all__ = ["add_to"]

_LOOK_SECONDS = 1.0
_SHOWN = 50
_LONGEST_VALUE_CHARS = 40
_COLUMNS = (
    Column("item"),
    Column("verdict"),
    Column("what differs (confirmed -> at Meta)", may_be_cut=True),
)
_WORDS = {
    Verdict.MISSING: "is not there",
    Verdict.DIFFERENT: "is another",
    Verdict.UNVERIFIABLE: "cannot be told",
    Verdict.ORPHAN: "should be gone",
    Verdict.FOREIGN: "is not this store's",
}


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("reconcile")(_reconcile)


def _reconcile(
    *,
    store: StoreId,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Show how far it is until it is over, and what it found. Ctrl-C leaves it running.",
        ),
    ] = False,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="When it is over, send again what is ours and not as it should be."),
    ] = False,
    json: JsonOutput = False,
) -> None:
    """Read the Meta catalog back and compare it with what Meta confirmed. What is found is read twice.

    With --watch or --repair the exit code is 1 when something has drifted that was not repaired, or it ended early.
    """
    watched = watch or repair

    async def work(settings: Settings) -> tuple[Reconciliation, list[Finding], int]:
        async with open_session(settings) as session:
            await session.factory.stores().get(store)
            job_id = await _start_or_join(session, store, join=watched)
            if not watched:
                return await session.factory.reconciliations().get(store, job_id), [], 0
            found = await _watch(session, store, job_id, quiet=json)
            findings = await _findings(session, store, job_id)
            done = await _repair(session, store, job_id) if repair and found.job.status == "success" else 0
            return found, findings, done

    found, findings, repaired = run(work(read_settings()))
    if json:
        console.print_json(_as_json(found, findings, repaired))
    elif not watched:
        console.say(f"The reconciliation {found.job.job_id} runs by itself.")
        console.say(f"Watch it with: meta-sync reconcile --store {store} --watch")
    else:
        _say(found, findings, repaired if repair else None, store)
    has_drifted = found.tally.drift_percent > 0 and not repair
    if watched and (found.job.status != "success" or has_drifted):
        raise typer.Exit(1)


async def _start_or_join(session: Session, store_id: str, *, join: bool) -> str:
    """A new one, or the one that runs already, which is as good a thing to watch."""
    try:
        return await session.factory.reconciliations().start(store_id, actor=COMMAND_LINE)
    except ConflictError as error:
        running = await session.factory.jobs().running(store_id, RECONCILIATION) if join else None
        if running is None:
            raise
        console.note(error.message)
        return running


async def _watch(session: Session, store_id: str, job_id: str, *, quiet: bool) -> Reconciliation:
    progress = JobProgress()
    with nullcontext() if quiet else progress:
        while True:
            found = await session.factory.reconciliations().get(store_id, job_id)
            if not quiet:
                progress.show(found.job)
            if found.job.is_over:
                return found
            await asyncio.sleep(_LOOK_SECONDS)


async def _findings(session: Session, store_id: str, job_id: str) -> list[Finding]:
    wanted = FindingFilter(state=FindingState.AGREED)
    return (await session.factory.reconciliations().findings(store_id, job_id, wanted, limit=_SHOWN)).findings


async def _repair(session: Session, store_id: str, job_id: str) -> int:
    done = 0
    while True:
        plan = await session.factory.repairs().repair(store_id, job_id, RepairOrder(), actor=COMMAND_LINE)
        done += len(plan.steps)
        if not plan.remaining or not plan.steps:
            return done


def _as_json(found: Reconciliation, findings: list[Finding], repaired: int) -> dict[str, object]:
    return {
        "reconciliation": ReconciliationBody.of(found).model_dump(mode="json", by_alias=True),
        "items": [ReconciledItem.of(one).model_dump(mode="json", by_alias=True) for one in findings],
        "repaired": repaired,
    }


def _say(found: Reconciliation, findings: list[Finding], repaired: int | None, store_id: str) -> None:
    job, tally = found.job, found.tally
    if job.status != "success":
        entry = None if job.error_code is None else entry_of(job.error_code)
        console.say(f"The reconciliation did not come to its end: {job.status}.")
        if entry is not None:
            console.say(f"  {job.message or entry.sentence} {entry.action}")
        return
    console.say(
        f"Read {job.looked_at:,} items, compared {tally.compared:,}: {tally.agreeing:,} are as Meta confirmed them"
        + (f", {tally.busy:,} were on the move." if tally.busy else ".")
    )
    if findings:
        show_rows(_COLUMNS, map(_row, findings))
        shown = tally.missing + tally.different + tally.unverifiable + tally.orphan + tally.foreign
        if shown > len(findings):
            console.note(f"These are the first {len(findings):,} of {shown:,}.")
    told = [
        f"{count:,} {name}"
        for name, count in (
            ("missing", tally.missing),
            ("different", tally.different),
            ("orphaned", tally.orphan),
            ("that cannot be told", tally.unverifiable),
            ("of others", tally.foreign),
        )
        if count
    ]
    console.say(f"Drift: {tally.drift_percent:g} %" + (f" ({', '.join(told)})." if told else "."))
    if repaired is not None:
        console.say(f"{repaired:,} items are decided anew and sent as the store has them.")
    elif tally.drift_percent:
        console.say(f"Repair with: meta-sync reconcile --store {store_id} --repair")


def _row(finding: Finding) -> tuple[str, str, str]:
    if finding.verdict is Verdict.FOREIGN:
        shown = finding.found or {}
        feed = shown.get("product_feed")
        by = f"from the feed {feed['name']}" if isinstance(feed, dict) and feed.get("name") else ""
        what = " ".join(part for part in (_value(shown.get("name")), by) if part)
    else:
        what = ", ".join(
            f"{name}: {_value(confirmed)} -> {_value(shown)}"
            for name, (confirmed, shown) in sorted(finding.differences.items())
        )
    return finding.retailer_id, _WORDS[finding.verdict], what


def _value(value: object) -> str:
    said = "nothing" if value in (None, "", []) else str(value)
    return said if len(said) <= _LONGEST_VALUE_CHARS else f"{said[: _LONGEST_VALUE_CHARS - 1]}…"
