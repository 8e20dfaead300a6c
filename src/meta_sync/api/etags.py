"""Entity tags of objects that people watch: whoever asks again and again is told in one line that nothing moved.

The tags are weak: they say that the object is the same, not that the bytes are. Pure; knows no object.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any, TypeVar

from fastapi import Header
from pydantic import BaseModel
from starlette.responses import Response

__all__ = ["NOT_MODIFIED", "IfNoneMatch", "digest_of", "unless_known"]

M = TypeVar("M", bound=BaseModel)

_TAG = re.compile(r'(?:W/)?"([\x21\x23-\x7e]*)"')
_ETAG = {"ETag": {"schema": {"type": "string"}, "description": "Changes when the object does."}}

NOT_MODIFIED: dict[int | str, dict[str, Any]] = {
    200: {"headers": _ETAG},
    304: {"headers": _ETAG, "description": "The object is the one that `If-None-Match` names. No body."},
}
"""What a route with entity tags documents."""

IfNoneMatch = Annotated[
    str | None,
    Header(
        alias="If-None-Match", description="The `ETag` of the last answer; 304 while the object is the same."
    ),
]


def digest_of(state: bytes) -> str:
    """A short name of a state of an object, the same in every process."""
    return hashlib.sha256(state).hexdigest()[:16]


def unless_known(given: M, state: BaseModel, if_none_match: str | None, response: Response) -> M | Response:
    """The answer with the tag of its state in the headers of ``response``, or a 304 for a caller who has it."""
    digest = digest_of(state.model_dump_json(by_alias=True).encode())
    headers = {"ETag": f'W/"{digest}"', "Cache-Control": "private, no-cache"}
    if _names(if_none_match or "", digest):
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return given


def _names(if_none_match: str, digest: str) -> bool:
    return if_none_match.strip() == "*" or digest in _TAG.findall(if_none_match)
