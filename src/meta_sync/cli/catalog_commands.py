"""``import``: a file or address into the catalog of a store, in this process, whether or not a worker runs."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr

from meta_sync.catalog.ingest.detect import FORMATS
from meta_sync.catalog.ingest.feeds_models import FeedInput
from meta_sync.catalog.ingest.imports import CHUNK_BYTES, ImportFinding, ImportService, ImportView
from meta_sync.cli import console
from meta_sync.cli.options import JsonOutput, StoreId, read_settings
from meta_sync.cli.progress import ImportProgress
from meta_sync.cli.running import run
from meta_sync.cli.session import open_session
from meta_sync.core.config import Settings
from meta_sync.core.errors import InvalidRequestError, ServiceError
from meta_sync.factory import Factory
from meta_sync.stores.audit import COMMAND_LINE

__all__ = ["add_to"]

_LOOK_SECONDS = 0.3
_EXIT_CODES = {"error": 1, "partial": 3}
_SHOWN_FINDINGS = 20
_KINDS = {
    "failure": "",
    "skip": " (skipped)",
    "warning": " (warning)",
    "delete": " (deleted)",
    "change": " (changed)",
    "create": " (new)",
}
"""What is said of a finding, the gravest kind first."""
_LONGEST_VALUE_CHARS = 60
_OF_ITEMS = frozenset(("create", "change", "delete"))
"""Kinds that say what becomes of an item, not what is the matter with a row."""
_WITH_HEADER = frozenset(
    name for name in FORMATS if name.endswith(("-csv", "-tsv")) and name != "headerless-csv"
)
"""Formats whose rows are counted below a header; the others count items, objects or lines."""


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("import")(_import)


def _import(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="The file, or the http(s) address where it can be fetched.")
    ],
    *,
    store: StoreId,
    format_: Annotated[
        str | None, typer.Option("--format", help="Its format, when it is not recognised by itself.")
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            help="upsert: what the file leaves out stays; replace: it is deleted, if of the same source."
        ),
    ] = "upsert",
    source: Annotated[
        str | None, typer.Option(help="Name of the feed its products belong to. Default: the format's name.")
    ] = None,
    allow_mass_delete: Annotated[
        bool,
        typer.Option("--allow-mass-delete", help="With replace: delete however much the file leaves out."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    json: JsonOutput = False,
) -> None:
    """Import a product file, from here or from an address.

    Exit code 0: every row went in or was left out on purpose. 1: the file could not be read, was refused as a whole, or
    broke off. 3: some rows failed, or nothing could be deleted. A dry run ends as the import would.
    """
    options = _Options(store, format_, mode, source, allow_mass_delete=allow_mass_delete, dry_run=dry_run)
    path = None if _is_address(file) else _readable(file)

    async def do(settings: Settings) -> tuple[ImportView, list[ImportFinding]]:
        async with open_session(settings) as session:
            if path is None:
                import_id = await _begin_fetch(session.factory, options, file)
            else:
                import_id = await _upload(session.factory, options, path)
            view = await _run_to_end(session.factory, store, import_id, quiet=json)
            return view, [finding async for finding in session.factory.imports().report(store, import_id)]

    view, findings = run(do(read_settings()))
    if json:
        console.print_json(_as_json(view))
    else:
        _show(view, findings, view.file_name or "The file")
    raise typer.Exit(_EXIT_CODES.get(view.status, 0))


@dataclass(frozen=True)
class _Options:
    """How a file is imported."""

    store_id: str
    format: str | None
    mode: str
    source: str | None
    allow_mass_delete: bool = field(kw_only=True)
    dry_run: bool = field(kw_only=True)


def _is_address(name: str) -> bool:
    return name.lower().startswith(("http://", "https://"))


async def _begin_fetch(factory: Factory, options: _Options, url: str) -> str:
    feed = FeedInput(
        url=SecretStr(url),
        source=options.source,
        format=options.format,
        mode=options.mode,
        allow_mass_delete=options.allow_mass_delete,
    )
    return await factory.feeds().import_once(
        options.store_id, feed, dry_run=options.dry_run, requested_by=COMMAND_LINE
    )


async def _upload(factory: Factory, options: _Options, path: Path) -> str:
    imports = factory.imports()
    import_id = await imports.create(
        options.store_id,
        file_name=path.name,
        format=options.format,
        mode=options.mode,
        source=options.source,
        dry_run=options.dry_run,
        allow_mass_delete=options.allow_mass_delete,
        requested_by=COMMAND_LINE,
    )
    try:
        await imports.upload(options.store_id, import_id, _pieces(path))
    except ServiceError as error:
        await imports.abandon(options.store_id, import_id, error.message)
        raise
    return import_id


def _readable(name: str) -> Path:
    path = Path(name)
    if path.is_dir():
        raise typer.BadParameter(f"{name} is a folder, not a file.")
    if not path.exists():
        raise typer.BadParameter(f"There is no file {name}.")
    if not os.access(path, os.R_OK):
        raise typer.BadParameter(f"The file {name} may not be read.")
    return path


async def _pieces(file: Path) -> AsyncIterator[bytes]:
    with file.open("rb") as stream:
        read = 0
        while piece := await asyncio.to_thread(stream.read, CHUNK_BYTES):
            read += len(piece)
            yield piece
        status = os.fstat(stream.fileno())
    if stat.S_ISREG(status.st_mode) and read != status.st_size:
        raise InvalidRequestError(
            f"{file.name} changed while it was read. Import it again when it is complete."
        )


async def _run_to_end(factory: Factory, store_id: str, import_id: str, *, quiet: bool) -> ImportView:
    """Run the import here, unless a worker was quicker; earlier ones of the same feed go first."""
    imports, runner, fetcher = factory.imports(), factory.import_runner(), factory.feed_fetcher()

    async def work() -> None:
        while not (view := await imports.get(store_id, import_id)).is_over:
            is_fetched = view.status == "fetching" and await fetcher.fetch_next(import_id=import_id)
            if not (is_fetched or await runner.run(import_id) or await runner.run_next()):
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
    if quiet:
        await asyncio.wait([working])
        return
    with ImportProgress() as progress:
        while not (await asyncio.wait([working], timeout=_LOOK_SECONDS))[0]:
            progress.show(await imports.get(store_id, import_id))


def _show(view: ImportView, findings: list[ImportFinding], name: str) -> None:
    kind = ", dry run" if view.dry_run else ""
    console.say(f"{name}: {view.status} ({view.format or 'unknown format'}{kind})")
    if view.message:
        console.say(f"  {view.message.replace('allowMassDelete', '--allow-mass-delete')}")
    # Of a file that was not read there is nothing to count.
    if view.status != "error" or any(view.counts.values()):
        console.say(f"  {_counted(view)}")
    order = list(_KINDS)
    findings = sorted(findings, key=lambda finding: (order.index(finding.kind), finding.row))
    shown = findings[:_SHOWN_FINDINGS]
    for finding in shown:
        console.say(f"  {_place(finding)}{_KINDS[finding.kind]}: {finding.message}")
    if not findings:
        return
    if view.format in _WITH_HEADER and any(
        finding.row and finding.kind not in _OF_ITEMS for finding in shown
    ):
        console.say("  Row 1 is the first below the header.")
    more = f"{len(findings) - _SHOWN_FINDINGS} more and " if len(findings) > _SHOWN_FINDINGS else ""
    console.say(f"  Report, with {more}rule and value of each: GET /catalog/imports/{view.import_id}/report")


def _counted(view: ImportView) -> str:
    counts = view.counts
    read = ", ".join(
        f"{counts[name]:,} {name if counts[name] != 1 else name.removesuffix('s')}"
        for name in ("rows", "products", "variants")
    )
    names = ["created", "changed", "unchanged", "skipped", "failed"]
    if view.mode == "replace":
        names.append("deleted")
    return f"{read}: " + ", ".join(f"{counts[name]:,} {name}" for name in names)


def _place(finding: ImportFinding) -> str:
    """Where a finding belongs: row, column and what the file says there; for what becomes of an item, the item."""
    if finding.kind in _OF_ITEMS:
        return f"{finding.item_id}"
    place = f"row {finding.row}, {finding.field}" if finding.row else finding.field
    value = finding.value or ""
    if not value or value in finding.message:
        return place
    cut = value if len(value) <= _LONGEST_VALUE_CHARS else f"{value[: _LONGEST_VALUE_CHARS - 1]}…"
    return f'{place} "{cut}"'


def _as_json(view: ImportView) -> dict[str, Any]:
    return {
        "importId": view.import_id,
        "status": view.status,
        "format": view.format,
        "mode": view.mode,
        "source": view.source,
        "dryRun": view.dry_run,
        "progress": view.progress,
        "counts": view.counts,
        "message": view.message,
        "errorCode": view.error_code,
        "errors": [
            {
                "row": error.row,
                "field": error.field,
                "message": error.message,
                "itemId": error.item_id,
                "rule": error.rule,
                "value": error.value,
            }
            for error in view.errors
        ],
        "report": f"/catalog/imports/{view.import_id}/report",
    }
