"""Imports: files of any size into the source catalog, streamed through and worked off behind the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from meta_sync.access.models import Permission
from meta_sync.api.by_address import begin_by_address
from meta_sync.api.context import Context, RequestContext
from meta_sync.api.documentation import errors
from meta_sync.api.etags import NOT_MODIFIED, IfNoneMatch, unless_known
from meta_sync.api.event_stream import EventStreamResponse, LastEventId, Seen, documented_stream, stream
from meta_sync.api.import_report import import_report
from meta_sync.api.parameters import CursorQuery, ImportIdPath, LimitQuery, PageQuery
from meta_sync.api.path_ids import href
from meta_sync.api.routing import router
from meta_sync.api.schemas.base import answer, paged
from meta_sync.api.schemas.feeds import ImportByAddress
from meta_sync.api.schemas.imports import (
    Import,
    ImportAnswer,
    ImportPage,
    StartedImport,
    StartedImportAnswer,
)
from meta_sync.api.security import requires
from meta_sync.api.uploads import UploadOptions, abandon_upload, read_form, whole_body
from meta_sync.catalog.ingest.detect import FORMATS
from meta_sync.core.errors import ErrorDetail, ServiceError, ValidationFailedError
from meta_sync.core.timed_list import Position

__all__ = ["routes"]

routes = router("Imports")

_SWITCH = "On where the query or the body says `true`."
_OPTIONS = ("format", "mode", "source", "fileName", "dryRun", "allowMassDelete")
_FORMATS = {"type": "string", "enum": [*FORMATS]}
_MODES = {"type": "string", "enum": ["upsert", "replace"]}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": (
            "The file, as one part of a form called `file` or as the whole body, or as JSON the address to fetch it from."
            " What the JSON leaves out or says as null is taken from the query. A file that is the whole body may also be"
            " called `application/x-ndjson`, `application/xml` or `text/csv`: its format is told by its content."
        ),
        "content": {
            "application/json": {"schema": ImportByAddress.model_json_schema()},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "additionalProperties": False,
                    "properties": {
                        "format": _FORMATS,
                        "mode": _MODES,
                        "source": {"type": "string", "maxLength": 200},
                        "dryRun": {"type": "boolean", "description": _SWITCH},
                        "allowMassDelete": {"type": "boolean", "description": _SWITCH},
                        "file": {"type": "string", "format": "binary", "minLength": 1},
                    },
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary", "minLength": 1}},
        },
    }
}


def _words(words: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [words, {"type": "null"}]}


@routes.post(
    "/catalog/imports",
    operation_id="createImport",
    summary="Import a file",
    description=(
        "Takes a feed file in and reads it behind the answer. The options stand in the query or in the form; in a form with a"
        " large file they come before it. Imports of one source run one after the other. `mode=replace` deletes what the file"
        " leaves out of its own source, after the whole file was read; above the share that the settings allow"
        " (`guardMaxShare`) the import is refused unless `allowMassDelete` is given. `dryRun` judges and counts everything"
        " and writes nothing; the report then lists what would change."
    ),
    status_code=202,
    responses=errors("CONFLICT"),
    openapi_extra=_BODY,
)
@requires(Permission.PRODUCTS_WRITE, idempotent=True)
async def create_import(
    context: Context,
    request: Request,
    *,
    format: Annotated[  # noqa: A002 - the API's own word
        str | None,
        Query(description="Recognised from the file when absent.", json_schema_extra=_words(_FORMATS)),
    ] = None,
    mode: Annotated[
        str | None, Query(description="`upsert` (default) or `replace`.", json_schema_extra=_words(_MODES))
    ] = None,
    source: Annotated[
        str | None,
        Query(min_length=1, max_length=200, description="Name of the feed; the format's name when absent."),
    ] = None,
    file_name: Annotated[
        str | None, Query(alias="fileName", max_length=255, description="Helps to recognise the format.")
    ] = None,
    dry_run: Annotated[
        bool, Query(alias="dryRun", description=f"Only say what would change. {_SWITCH}")
    ] = False,
    allow_mass_delete: Annotated[
        bool,
        Query(alias="allowMassDelete", description=f"Delete however much the file leaves out. {_SWITCH}"),
    ] = False,
) -> StartedImportAnswer:
    _refuse_unknown(request)
    options = UploadOptions(format, mode, source, file_name, dry_run, allow_mass_delete)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        import_id = await begin_by_address(context, request, options)
    else:
        pieces = whole_body(request)
        if kind == "multipart/form-data":
            form = await read_form(request, options)
            options, pieces = form.options, form.pieces()
        import_id = await _take_in(context, options, pieces)
    started = await context.factory.imports().get(context.store_id, import_id)
    result = StartedImport(
        import_id=import_id, status=started.status, href=href("/catalog/imports", import_id)
    )
    return answer(StartedImportAnswer, result, 202)


def _refuse_unknown(request: Request) -> None:
    """A switch that is spelt wrongly must not turn a dry run into a real import."""
    unknown = [name for name in request.query_params if name not in _OPTIONS]
    if unknown:
        raise ValidationFailedError(
            f"{unknown[0][:100]} is no option of an import; they are {', '.join(_OPTIONS)}.",
            details=[ErrorDetail(name[:100], "is no option of an import") for name in unknown[:20]],
        )


async def _take_in(context: RequestContext, options: UploadOptions, pieces: AsyncIterator[bytes]) -> str:
    imports = context.factory.imports()
    import_id = await imports.create(
        context.store_id,
        file_name=options.file_name,
        format=options.format,
        mode=options.mode or "upsert",
        source=options.source,
        dry_run=options.dry_run,
        allow_mass_delete=options.allow_mass_delete,
        requested_by=context.actor,
    )
    try:
        await imports.upload(context.store_id, import_id, pieces)
    except Exception as error:
        reason = error.message if isinstance(error, ServiceError) else "The upload broke off."
        await abandon_upload(context.process.database, context.store_id, import_id, reason)
        raise
    return import_id


@routes.get(
    "/catalog/imports",
    operation_id="listImports",
    summary="List imports",
    description="Newest first, without their errors.",
)
@requires(Permission.PRODUCTS_READ)
async def list_imports(
    context: Context, page: PageQuery = 1, limit: LimitQuery = 50, cursor: CursorQuery = None
) -> ImportPage:
    scope = f"imports\n{context.store_id}"
    after = Position.read(context.cursors, scope, cursor)
    found = await context.factory.imports().list(context.store_id, page, limit, after=after)
    return paged(
        ImportPage,
        [Import.of(view) for view in found.rows],
        page=page,
        limit=limit,
        cursor=cursor,
        total=found.total,
        total_is_exact=found.is_total_exact,
        next_cursor=found.next_cursor(context.cursors, scope),
    )


@routes.get(
    "/catalog/imports/{importId}",
    operation_id="getImport",
    summary="Read an import",
    description=(
        "How far the import is, what it did, and its first 100 errors. Whoever asks again and again sends the `ETag` of the"
        " last answer as `If-None-Match`."
    ),
    response_model=ImportAnswer,
    responses=NOT_MODIFIED,
)
@requires(Permission.PRODUCTS_READ)
async def get_import(
    context: Context, import_id: ImportIdPath, response: Response, if_none_match: IfNoneMatch = None
) -> ImportAnswer | Response:
    found = Import.of(await context.factory.imports().get(context.store_id, import_id))
    return unless_known(answer(ImportAnswer, found), found, if_none_match, response)


@routes.get(
    "/catalog/imports/{importId}/stream",
    operation_id="streamImport",
    summary="Follow an import",
    **documented_stream("the import"),
)
@requires(Permission.PRODUCTS_READ)
async def stream_import(
    context: Context, import_id: ImportIdPath, request: Request, last_event_id: LastEventId = None
) -> EventStreamResponse:
    imports = context.factory.imports()
    await imports.get(context.store_id, import_id)

    async def look() -> Seen:
        view = await imports.get(context.store_id, import_id)
        return Seen(Import.of(view).model_dump_json(by_alias=True).encode(), view.is_over)

    return stream(request, context.store_id, look, last_event_id)


@routes.get(
    "/catalog/imports/{importId}/report",
    operation_id="getImportReport",
    summary="Download the report of an import",
    description=(
        "Every row that failed, was left out or has a remark, every deletion, and after a dry run what would change, as CSV"
        " that is safe to open in a spreadsheet. At most 10,000 lines of a kind, 1,000 remarks; the counts are exact beyond."
    ),
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "The report."}},
)
@requires(Permission.PRODUCTS_READ)
async def get_import_report(context: Context, import_id: ImportIdPath) -> StreamingResponse:
    imports = context.factory.imports()
    await imports.get(context.store_id, import_id)
    return StreamingResponse(
        import_report(imports.report(context.store_id, import_id)),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{import_id}.csv"'},
    )
