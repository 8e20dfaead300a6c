"""``import``: a file into the catalog of a store, in this process, whether or not a worker runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from meta_sync.catalog.ingest.imports import CHUNK_BYTES, ImportFinding, ImportService, ImportView
from meta_sync.cli import console
from meta_sync.cli.options import JsonOutput, StoreId, read_settings
from meta_sync.cli.running import run
from meta_sync.cli.session import open_session
from meta_sync.core.config import Settings
from meta_sync.factory import Factory

__all__ = ["add_to"]

_LOOK_SECONDS = 0.3
_OVER = frozenset({"success", "partial", "error"})
_EXIT_CODES = {"error": 1, "partial": 3}
_SHOWN_FINDINGS = 20
_KINDS = {"failure": "", "skip": " (skipped)", "warning": " (warning)"}
"""What is said of a finding, the gravest kind first."""
_PROGRESS_STEP_PERCENT = 10


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("import")(_import)


def _import(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="The file.")],
    *,
    store: StoreId,
    format_: Annotated[
        str | None, typer.Option("--format", help="Its format, when it is not recognised by itself.")
    ] = None,
    mode: Annotated[str, typer.Option(help="upsert: what the file leaves out stays.")] = "upsert",
    source: Annotated[
        str | None, typer.Option(help="Name of the feed its products belong to. Default: the format's name.")
    ] = None,
    json: JsonOutput = False,
) -> None:
    """Import a product file. Exit code 1: nothing could be read; 3: some rows failed."""

    async def do(settings: Settings) -> tuple[ImportView, list[ImportFinding]]:
        async with open_session(settings) as session:
            imports = session.factory.imports()
            import_id = await imports.create(
                store,
                file_name=file.name,
                format=format_,
                mode=mode,
                source=source,
                requested_by="command line",
            )
            await imports.upload(store, import_id, _pieces(file))
            view = await _run_to_end(session.factory, store, import_id, quiet=json)
            return view, [finding async for finding in imports.report(store, import_id)]

    view, findings = run(do(read_settings()))
    if json:
        console.print_json(_as_json(view))
    else:
        _show(view, findings, file.name)
    raise typer.Exit(_EXIT_CODES.get(view.status, 0))


async def _pieces(file: Path) -> AsyncIterator[bytes]:
    with file.open("rb") as stream:
        while piece := await asyncio.to_thread(stream.read, CHUNK_BYTES):
            yield piece


async def _run_to_end(factory: Factory, store_id: str, import_id: str, *, quiet: bool) -> ImportView:
    """Run the import here, unless a worker was quicker; earlier ones of the same feed go first."""
    imports, runner = factory.imports(), factory.import_runner()

    async def work() -> None:
        while (await imports.get(store_id, import_id)).status not in _OVER:
            if not (await runner.run(import_id) or await runner.run_next()):
                await asyncio.sleep(_LOOK_SECONDS)

    working = asyncio.create_task(work())
    try:
        await _watch(imports, store_id, import_id, working, quiet=quiet)
        await working
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    return await imports.get(store_id, import_id)


async def _watch(
    imports: ImportService, store_id: str, import_id: str, working: asyncio.Task[None], *, quiet: bool
) -> None:
    screen = console.screen()
    if quiet:
        await asyncio.wait([working])
        return
    if not screen.is_terminal:
        await _watch_in_lines(imports, store_id, import_id, working)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=screen, transient=True) as progress:
        task = progress.add_task("Importing", total=100)
        while not working.done():
            view = await imports.get(store_id, import_id)
            progress.update(task, completed=view.progress, description=f"{view.counts['rows']} rows")
            await asyncio.wait([working], timeout=_LOOK_SECONDS)


async def _watch_in_lines(
    imports: ImportService, store_id: str, import_id: str, working: asyncio.Task[None]
) -> None:
    said = 0
    while not (await asyncio.wait([working], timeout=_LOOK_SECONDS))[0]:
        view = await imports.get(store_id, import_id)
        if view.status not in _OVER and view.progress >= said + _PROGRESS_STEP_PERCENT:
            said = view.progress
            console.say(f"  {view.counts['rows']} rows, {said} %")


def _show(view: ImportView, findings: list[ImportFinding], name: str) -> None:
    counts = view.counts
    console.say(f"{name}: {view.status} ({view.format or 'unknown format'})")
    if view.message:
        console.say(f"  {view.message}")
    console.say(
        f"  {counts['rows']} rows, {counts['products']} products, {counts['variants']} variants: "
        f"{counts['created']} created, {counts['changed']} changed, {counts['unchanged']} unchanged, "
        f"{counts['skipped']} skipped, {counts['failed']} failed"
    )
    order = list(_KINDS)
    findings = sorted(findings, key=lambda finding: (order.index(finding.kind), finding.row))
    for finding in findings[:_SHOWN_FINDINGS]:
        place = f"row {finding.row}, {finding.field}" if finding.row else finding.field
        console.say(f"  {place}{_KINDS[finding.kind]}: {finding.message}")
    if len(findings) > _SHOWN_FINDINGS:
        console.say(f"  … and {len(findings) - _SHOWN_FINDINGS} more in the report:")
        console.say(f"  GET /catalog/imports/{view.import_id}/report")
    if findings and view.format != "google-rss":
        console.say("  Row 1 is the first below the header.")


def _as_json(view: ImportView) -> dict[str, Any]:
    return {
        "importId": view.import_id,
        "status": view.status,
        "format": view.format,
        "mode": view.mode,
        "source": view.source,
        "progress": view.progress,
        "counts": view.counts,
        "message": view.message,
        "errors": [
            {"row": error.row, "field": error.field, "message": error.message} for error in view.errors
        ],
    }
