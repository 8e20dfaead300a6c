"""What all bodies share: camel case, the envelopes, and the kinds of values JSON may carry.

Answers have no defaults, so that a generated client knows every field is there.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
)
from pydantic.alias_generators import to_camel

from meta_sync.graph.errors import Category
from meta_sync.sync.codes import names_of

__all__ = [
    "Answer",
    "Body",
    "Error",
    "ErrorDetailBody",
    "Flag",
    "Instant",
    "Int64",
    "MetaErrorBody",
    "Metadata",
    "PageMetadata",
    "PagedAnswer",
    "Text",
    "View",
    "answer",
    "paged",
]


class View(BaseModel):
    """Part of an answer."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, from_attributes=True
    )


class Body(BaseModel):
    """A request body, or part of one. Unknown fields are refused: a misspelled price must not be lost in silence."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=False, validate_by_alias=True, extra="forbid"
    )


def _instant_text(value: object) -> object:
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str):
        raise ValueError("must be a text such as 2026-05-03T10:00:00+02:00")  # noqa: TRY004 - becomes a fault of the field
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("must be an ISO 8601 time such as 2026-05-03T10:00:00+02:00") from None
    return moment


def _with_offset(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("must have an offset, such as Z or +01:00")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("must lie within the years 1 to 9999 in UTC") from None


Text = StrictStr
Flag = StrictBool
Int64 = Annotated[
    StrictInt,
    Field(
        ge=-(2**63),
        le=2**63 - 1,
        json_schema_extra={"format": "int64", "minimum": 0, "maximum": 2**63 - 1},
    ),
]
"""A price or a quantity. That it is not below zero is judged with the rest of what the catalog can store."""
Instant = Annotated[datetime, BeforeValidator(_instant_text), AfterValidator(_with_offset)]
"""A moment with an offset; numbers are not taken for times."""


class PageMetadata(View):
    """Where a page stands in its list."""

    page: int | None = Field(description="Page number; null when the page was asked for with a cursor.")
    limit: int
    total: int = Field(description="Rows in the whole list, counted up to 10,000.")
    total_is_exact: bool = Field(description="False: there are more rows than `total` says.")
    next_cursor: str | None = Field(description="Ask for the next page with it; null on the last page.")


class Metadata(View):
    """What is to be said beside the data. Empty so far."""

    model_config = ConfigDict(extra="allow")


class Answer(View):
    """The envelope of every success. Subclasses name the type of ``data``."""

    message: Literal["Success"]
    status_code: int = Field(description="Equals the HTTP status.")
    metadata: Metadata


class PagedAnswer(View):
    """The envelope of every list. Subclasses name the type of ``data``."""

    message: Literal["Success"]
    status_code: int = Field(description="Equals the HTTP status.")
    metadata: PageMetadata


A = TypeVar("A", bound=Answer)
P = TypeVar("P", bound=PagedAnswer)


def answer(kind: type[A], data: Any, status: int = 200) -> A:
    """A success of the given kind."""
    return kind.model_validate({"data": data, "message": "Success", "status_code": status, "metadata": {}})


def paged(
    kind: type[P],
    data: Any,
    *,
    page: int,
    limit: int,
    total: int,
    cursor: str | None = None,
    total_is_exact: bool = True,
    next_cursor: str | None = None,
) -> P:
    """A page of the given kind; ``cursor`` is the one it was asked for with."""
    metadata = {
        "page": page if cursor is None else None,
        "limit": limit,
        "total": total,
        "total_is_exact": total_is_exact,
        "next_cursor": next_cursor,
    }
    return kind.model_validate({"data": data, "message": "Success", "status_code": 200, "metadata": metadata})


class ErrorDetailBody(View):
    """One fault of the input."""

    field: str = Field(description="The field as it was written, such as `variants[0].price`.")
    message: str


class MetaErrorBody(View):
    """What Meta said, when the failure is Meta's."""

    fb_type: str | None
    fb_code: int | None
    fb_subcode: int | None
    fb_trace_id: str | None
    fb_message: str | None = Field(description="What Meta said, word for word.")
    category: Category


class Error(View):
    """The envelope of every failure."""

    message: str = Field(description="A sentence for people.")
    status_code: int = Field(description="Equals the HTTP status.")
    error_code: str = Field(
        description=f"Stable code for programs: {names_of('api')} or `meta_rate_limited`. More may be added."
    )
    details: list[ErrorDetailBody]
    request_id: str = Field(description="Give it when you report the failure.")
    meta: MetaErrorBody | None = Field(default=None, description="Only there when Meta caused the failure.")
