"""Feeds by address as values: what a caller asks for, what is shown of it, what a worker takes to fetch one."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import SecretStr

__all__ = [
    "LONGEST_INTERVAL_SECONDS",
    "SHORTEST_INTERVAL_SECONDS",
    "FeedInput",
    "FeedLease",
    "FeedView",
    "FetchedFile",
    "password_context",
    "url_context",
]

SHORTEST_INTERVAL_SECONDS = 900
"""A quarter of an hour: whoever needs it faster sends events."""
LONGEST_INTERVAL_SECONDS = 30 * 86_400


def url_context(feed_id: str) -> str:
    """What an encrypted address is bound to."""
    return f"import_feeds.url:{feed_id}"


def password_context(feed_id: str) -> str:
    """What an encrypted password is bound to."""
    return f"import_feeds.password:{feed_id}"


@dataclass(frozen=True, slots=True)
class FeedInput:
    """A feed as it is asked for: an address, how to read what is there, and how often."""

    url: SecretStr
    source: str | None
    format: str | None = None
    mode: str = "upsert"
    username: str | None = None
    password: SecretStr | None = None
    allow_mass_delete: bool = False
    interval_seconds: int | None = None
    """Absent: fetched once."""
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class FeedView:
    """One scheduled feed as it stands, without its secrets."""

    feed_id: str
    source: str
    shown_url: str
    username: str | None
    has_password: bool
    format: str | None
    mode: str
    allow_mass_delete: bool
    interval_seconds: int
    enabled: bool
    next_at: datetime | None
    checked_at: datetime | None
    last_result: str | None
    """``imported``, ``not_modified`` or ``error``."""
    last_message: str | None
    last_import_id: str | None
    failures: int
    """Fetches that failed since the last one that did not."""
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class FeedLease:
    """The right to fetch one feed, until the lease ends or somebody takes a higher fence."""

    feed_id: str
    store_id: str
    source: str
    url: bytes = field(repr=False)
    username: str | None
    password: bytes | None = field(repr=False)
    format: str | None
    mode: str
    allow_mass_delete: bool
    interval_seconds: int | None
    etag: str | None
    last_modified: str | None
    content_hash: bytes | None
    last_import_id: str | None
    failures: int
    fence: int
    import_status: str | None = None
    """Of the last import; ``None`` where there is none (any more)."""

    @property
    def is_once(self) -> bool:
        """Whether it is fetched for one import that waits for it."""
        return self.interval_seconds is None

    @property
    def unfinished_import_id(self) -> str | None:
        """The import that waits for this file: one somebody asked for, or one that a dead worker left behind."""
        return self.last_import_id if self.import_status == "fetching" else None

    @property
    def knows_its_file(self) -> bool:
        """Whether the file that was fetched last went in, so that the same one need not be read again."""
        return self.last_import_id is not None and self.import_status not in {
            "fetching",
            "error",
            "cancelled",
        }

    def conditions(self) -> dict[str, str]:
        """Headers that spare us a file we had."""
        if not self.knows_its_file:
            return {}
        pairs = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in pairs.items() if value}

    def identity(self) -> dict[str, Any]:
        """The lease as statement parameters."""
        return {"feed_id": self.feed_id, "fence": self.fence}


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A file that came whole, on local disk."""

    size_bytes: int
    digest: bytes
    """SHA-256 of its bytes."""
    etag: str | None
    last_modified: str | None
    file_name: str | None
    is_end_proved: bool
    """Whether the server said where it ends. A closed connection says nothing."""
