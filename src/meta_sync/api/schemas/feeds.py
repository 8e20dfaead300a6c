"""Bodies of feeds by address. Addresses and passwords are taken and never shown."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, SecretStr, StrictInt
from pydantic_core import CoreSchema

from meta_sync.api.path_ids import href
from meta_sync.api.schemas.base import Answer, Body, Flag, PagedAnswer, Text, View
from meta_sync.catalog.ingest.detect import FORMATS
from meta_sync.catalog.ingest.feeds_models import (
    LONGEST_INTERVAL_SECONDS,
    SHORTEST_INTERVAL_SECONDS,
    FeedInput,
    FeedView,
)

__all__ = [
    "CreateFeedBody",
    "DeletedFeed",
    "DeletedFeedAnswer",
    "Feed",
    "FeedAnswer",
    "FeedPage",
    "ImportByAddress",
    "UpdateFeedBody",
]

_URL = "http or https, on port 80 or 443, reachable from everywhere; without user name and password."
_URL_EXAMPLE = "https://shop.example/feeds/google.xml?lang=en"

Interval = Annotated[StrictInt, Field(ge=SHORTEST_INTERVAL_SECONDS, le=LONGEST_INTERVAL_SECONDS)]
Source = Annotated[Text, Field(min_length=1, max_length=200)]
Url = Annotated[Text, Field(json_schema_extra={"pattern": "^https?://", "maxLength": 2000})]
Username = Annotated[
    Text, Field(json_schema_extra={"minLength": 1, "maxLength": 200, "pattern": "^[^:\\u0000-\\u001f]+$"})
]
Password = Annotated[Text, Field(json_schema_extra={"maxLength": 1000, "pattern": "^[^\\u0000-\\u001f]*$"})]
Format = Annotated[Text, Field(json_schema_extra={"enum": [*FORMATS]})]
Mode = Annotated[Text, Field(json_schema_extra={"enum": ["upsert", "replace"]})]


class _NeverNull:
    """Says that a field may be absent, and not null; the feeds themselves see to it."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        told = handler(schema)
        (kept,) = (one for one in told.pop("anyOf") if one != {"type": "null"})
        return {**told, **kept}


_NEVER_NULL = _NeverNull()


class _Address(Body):
    """What all that is fetched has in common."""

    url: Url = Field(description=_URL, examples=[_URL_EXAMPLE], json_schema_extra={"writeOnly": True})
    format: Format | None = Field(default=None, description="Recognised from the file when absent.")
    mode: Mode = Field(default="upsert", description="`upsert` or `replace`.")
    username: Username | None = Field(default=None, description="For basic authentication, with `password`.")
    password: Password | None = Field(default=None, json_schema_extra={"writeOnly": True})
    allow_mass_delete: Flag = Field(
        default=False, description="Lets a replace delete a large part of its source's products."
    )

    def to_input(self, **fields: Any) -> FeedInput:
        """The feed that is asked for."""
        return FeedInput(
            url=SecretStr(self.url),
            format=self.format,
            mode=self.mode,
            username=self.username,
            password=None if self.password is None else SecretStr(self.password),
            allow_mass_delete=self.allow_mass_delete,
            **fields,
        )


class ImportByAddress(_Address):
    """An import of the file at an address. It is fetched behind the answer."""

    source: Source | None = Field(
        default=None, description="Name of the feed; the format's name when absent."
    )
    dry_run: Flag = Field(default=False, description="Shows what would change, and changes nothing.")


class CreateFeedBody(_Address):
    """A feed that is fetched on a schedule, the first time at once."""

    source: Source = Field(
        description="Name of the feed. One feed per source; a replace deletes only what is of it."
    )
    interval_seconds: Interval = Field(
        description="From one fetch to the next, from 15 minutes to 30 days.", examples=[3600]
    )
    enabled: Flag = True


class UpdateFeedBody(Body):
    """What to change of a feed. A key that is absent stays; null clears format, username or password."""

    url: Annotated[Url | None, _NEVER_NULL] = Field(
        default=None, description=_URL, examples=[_URL_EXAMPLE], json_schema_extra={"writeOnly": True}
    )
    source: Annotated[Source | None, _NEVER_NULL] = None
    format: Format | None = None
    mode: Annotated[Mode | None, _NEVER_NULL] = None
    interval_seconds: Annotated[Interval | None, _NEVER_NULL] = None
    username: Username | None = None
    password: Password | None = Field(default=None, json_schema_extra={"writeOnly": True})
    allow_mass_delete: Annotated[Flag | None, _NEVER_NULL] = None
    enabled: Annotated[Flag | None, _NEVER_NULL] = None

    def changes(self) -> dict[str, Any]:
        """What was given, by the names of ``FeedInput``."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        for name in ("url", "password"):
            if given.get(name) is not None:
                given[name] = SecretStr(given[name])
        return given


class Feed(View):
    """One feed as it stands."""

    feed_id: str
    source: str
    shown_url: str = Field(
        description="The address without the values of its query and without what looks like a key."
    )
    username: str | None
    password: Literal["configured"] | None = Field(description="Never shown; only whether it is there.")
    format: str | None
    mode: str
    allow_mass_delete: bool
    interval_seconds: int
    enabled: bool
    next_at: datetime | None = Field(description="When it is looked at next; null while it is switched off.")
    checked_at: datetime | None = Field(description="When its last fetch ended.")
    last_result: Literal["imported", "not_modified", "error"] | None = Field(
        description="`imported`: the file went to the import `lastImportId`, whose status says how that went."
    )
    last_message: str | None = Field(description="Why the last fetch failed.")
    last_import_id: str | None
    failures: int = Field(description="Fetches that failed since the last one that did not.")
    created_at: datetime
    updated_at: datetime
    href: str

    @classmethod
    def of(cls, view: FeedView) -> Feed:
        """The feed as answered."""
        shown = {name: getattr(view, name) for name in cls.model_fields if name not in {"password", "href"}}
        return cls(
            **shown,
            password="configured" if view.has_password else None,
            href=href("/catalog/feeds", view.feed_id),
        )


class DeletedFeed(View):
    """A feed that is gone."""

    feed_id: str
    deleted: bool


class FeedAnswer(Answer):
    data: Feed


class FeedPage(PagedAnswer):
    data: list[Feed]


class DeletedFeedAnswer(Answer):
    data: DeletedFeed
