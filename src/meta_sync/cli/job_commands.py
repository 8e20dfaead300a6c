"""``jobs``: the long work of a store as people see it, and calling it off. Starting it is for ``sync`` and ``import``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import typer

from meta_sync.api.schemas.jobs import SyncJob
from meta_sync.cli import console
from meta_sync.cli.options import JsonOutput, StoreId, read_settings
from meta_sync.cli.progress import job_sentence
from meta_sync.cli.running import run
from meta_sync.cli.session import Session, open_session
from meta_sync.cli.tables import Column, as_it_is, show_rows
from meta_sync.core.config import Settings
from meta_sync.stores.audit import COMMAND_LINE
from meta_sync.sync.codes import explain
from meta_sync.sync.job_models import JobPage, JobView, ScopeKind

__all__ = ["add_to", "say_why"]

_PAGE_JOBS = 200
_SHOWN_JOBS = 20
_LEFT_SOMETHING = 3
_COLUMNS = (
    *map(Column, ("job", "type", "status", "percent", "items", "failed", "began (UTC)")),
    Column("of what", may_be_cut=True),
)
_JobStatus = Literal["queued", "running", "cancelling", "cancelled", "success", "partial", "error"]
_JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    jobs = typer.Typer(
        no_args_is_help=True, help="Long work of a store: syncs, imports, what settings started."
    )
    jobs.command("list")(_list)
    jobs.command("show")(_show)
    jobs.command("cancel")(_cancel)
    app.add_typer(jobs, name="jobs")


def _list(
    *,
    store: StoreId,
    kind: Annotated[
        str | None,
        typer.Option("--type", metavar="TYPE", help="Only jobs of this type, such as sync or import."),
    ] = None,
    status: Annotated[_JobStatus | None, typer.Option("--status", help="Only jobs in this status.")] = None,
    most: Annotated[
        int, typer.Option("--limit", min=1, max=10_000, help="Show at most so many jobs.")
    ] = _SHOWN_JOBS,
    json: JsonOutput = False,
) -> None:
    """Show the jobs of a store, newest first."""

    async def read(settings: Settings) -> tuple[list[JobView], JobPage]:
        async with open_session(settings) as session:
            await session.factory.stores().get(store)
            jobs = session.factory.jobs()
            page = await jobs.page(store, type=kind, status=status, limit=min(most, _PAGE_JOBS))
            found = list(page.jobs)
            while page.has_more and len(found) < most:
                last = (found[-1].created_at.isoformat(), found[-1].job_id)
                limit = min(most - len(found), _PAGE_JOBS)
                page = await jobs.page(store, type=kind, status=status, limit=limit, after=last)
                found += page.jobs
            return found, page

    found, page = run(read(read_settings()))
    if json:
        console.print_json({"jobs": [_as_json(job) for job in found], "hasMore": page.has_more})
    elif not found:
        console.say("The store has no jobs." if kind is None and status is None else "There is no such job.")
    else:
        _show_jobs(found)
        if page.has_more:
            console.note(f"These are the newest {len(found):,}; --limit shows more.")


def _show(*, job: _JobId, store: StoreId, json: JsonOutput = False) -> None:
    """Show one job: how far it is, what became of its items, and why it did not do all.

    Exit code 0: it has done all, or goes on. 3: it is over and left something undone. 1: it could not be found out.
    """

    async def read(session: Session) -> JobView:
        return await session.factory.jobs().get(store, job)

    found = _of_store(store, read)
    if json:
        console.print_json(_as_json(found))
    else:
        _tell(found, store)
    if found.is_over and found.status != "success":
        raise typer.Exit(_LEFT_SOMETHING)


def _cancel(*, job: _JobId, store: StoreId, json: JsonOutput = False) -> None:
    """Call a job off: it asks for nothing more and takes back what only it wanted. What is at Meta ends there.

    Calling off what is being called off changes nothing. Exit code 1: the job is over, or cannot be called off.
    """

    async def cancel(session: Session) -> JobView:
        return await session.factory.jobs().cancel(store, job, actor=COMMAND_LINE)

    found = _of_store(store, cancel)
    if json:
        console.print_json(_as_json(found))
    elif found.is_over:
        console.say(f"The job {found.job_id} is called off: {job_sentence(found)}.")
    else:
        console.say(
            f"The job {found.job_id} is being called off. Look again with: meta-sync jobs show {found.job_id}"
            f" --store {store}"
        )


def _of_store(store_id: str, work: Callable[[Session], Awaitable[JobView]]) -> JobView:
    """What is done to one job of a store that there is."""

    async def do(settings: Settings) -> JobView:
        async with open_session(settings) as session:
            await session.factory.stores().get(store_id)
            return await work(session)

    return run(do(read_settings()))


def say_why(job: JobView, store_id: str) -> None:
    """Why a job that is over did not do all, and what to do about it."""
    if job.message:
        console.say(as_it_is(job.message))
    if job.error_code is None:
        return
    entry = explain(job.error_code)
    console.say(f"{entry.sentence} {entry.action}")
    if job.counts.failed and not job.is_import:
        console.say(f"See them with: meta-sync errors --store {store_id}")


def _as_json(job: JobView) -> dict[str, Any]:
    """As the API answers it."""
    return SyncJob.of(job).model_dump(mode="json", by_alias=True)


def _tell(job: JobView, store_id: str) -> None:
    by = f" for {as_it_is(job.requested_by)}" if job.requested_by else ""
    kind = f"{job.type}, dry run" if job.dry_run else job.type
    console.say(f"{job.job_id} ({kind}) of {_subject(job)}, made at {_time(job.created_at)} UTC{by}.")
    console.say(f"{job.percent} %, {job_sentence(job)}.")
    if job.is_over:
        say_why(job, store_id)
    elif job.message and not job.is_paused:
        console.say(as_it_is(job.message))


def _show_jobs(found: list[JobView]) -> None:
    show_rows(_COLUMNS, (_row(job) for job in found))


def _row(job: JobView) -> tuple[str, ...]:
    return (
        job.job_id,
        f"{job.type}, dry run" if job.dry_run else job.type,
        "paused" if job.is_paused else job.status,
        f"{job.percent}",
        f"{job.counts.total:,}",
        f"{job.counts.failed:,}",
        _time(job.started_at),
        _subject(job),
    )


def _time(moment: datetime | None) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}" if moment else ""


def _subject(job: JobView) -> str:
    """What a job is about, in words."""
    scope = job.scope
    if scope.kind is ScopeKind.FILE:
        return as_it_is(job.description) if job.description else "a file"
    words = {
        ScopeKind.ALL: "everything",
        ScopeKind.FILTER: "what a filter finds",
        ScopeKind.VARIANTS: f"{len(scope.ids):,} chosen variant" + ("" if len(scope.ids) == 1 else "s"),
        ScopeKind.PRODUCTS: f"{len(scope.ids):,} chosen product" + ("" if len(scope.ids) == 1 else "s"),
    }
    about = words[scope.kind]
    return f"{about} ({as_it_is(job.description)})" if job.description else about
