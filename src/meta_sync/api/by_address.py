"""Imports whose body names an address in place of a file. The body is small and read whole, under the usual JSON rules."""

from __future__ import annotations

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.requests import Request

from meta_sync.api.context import RequestContext
from meta_sync.api.json_guard import parse_json_off_loop
from meta_sync.api.schemas.feeds import ImportByAddress
from meta_sync.api.uploads import UploadOptions
from meta_sync.core.errors import PayloadTooLargeError

__all__ = ["begin_by_address"]

_MOST_BYTES = 64 * 1024


async def begin_by_address(context: RequestContext, request: Request, options: UploadOptions) -> str:
    """Begin the import that a JSON body asks for; its id. What the body leaves out, or says as null, is taken from the query.

    The two switches are on where the body or the query asks for them.

    Raises
    ------
    InvalidRequestError, ValidationFailedError, RequestValidationError
        The body is no JSON, or does not describe an import by address.
    PayloadTooLargeError
        It is far larger than any such body: a file of JSON, most likely.
    """
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST_BYTES:
            raise PayloadTooLargeError(
                "A JSON body here names the address of a file. Send a file itself as a form, or with Content-Type "
                "application/octet-stream."
            )
    given = await parse_json_off_loop(bytes(body))
    if isinstance(given, dict):
        queried = {
            "format": options.format,
            "mode": options.mode,
            "source": options.source,
        }
        switched_on = {"dryRun": options.dry_run, "allowMassDelete": options.allow_mass_delete}
        said = {name: value for name, value in given.items() if value is not None}
        given = {**{name: value for name, value in queried.items() if value is not None}, **said}
        # A dry run asked for in the query must not become an import, whatever a client's body says by default. What is
        # no switch stays, to be refused.
        given |= {name: True for name, on in switched_on.items() if on and said.get(name, False) is False}
    try:
        asked = ImportByAddress.model_validate(given)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in found]) from None
    return await context.factory.feeds().import_once(
        context.store_id,
        asked.to_input(source=asked.source),
        dry_run=asked.dry_run,
        requested_by=context.actor,
    )
