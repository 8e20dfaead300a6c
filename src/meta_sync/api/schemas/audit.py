"""Entries of the audit log, as answered."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from meta_sync.api.schemas.base import PagedAnswer, View
from meta_sync.stores.audit_log import AuditEntry

__all__ = ["AuditLogEntry", "AuditLogPage"]

_VALUES = "values by key. What is secret is told as `configured` or `changed`, never shown. Null where there is nothing to tell."


class AuditLogEntry(View):
    """One action: who did what, and what it changed."""

    id: str = Field(examples=["1042"])
    at: datetime
    actor: str = Field(
        description="The id of an API key, or `command line`.", examples=["key_8f3k2m9x7q4t6w1z5b0c"]
    )
    action: str = Field(
        description="What was done. Further actions may follow.", examples=["settings_changed"]
    )
    target_type: str = Field(
        description="What `targetId` is the id of. Further ones may follow.", examples=["store"]
    )
    target_id: str | None = Field(description="What it was done to.")
    before: dict[str, Any] | None = Field(description=f"What was changed as it was: {_VALUES}")
    after: dict[str, Any] | None = Field(description=f"As it is now, or as it was asked for: {_VALUES}")
    request_id: str | None = Field(description="The `requestId` of the request; null for the command line.")

    @classmethod
    def of(cls, entry: AuditEntry) -> AuditLogEntry:
        """The entry as answered."""
        return cls(
            id=str(entry.audit_id),
            at=entry.at,
            actor=entry.actor,
            action=entry.action,
            target_type=entry.target_type,
            target_id=entry.target_id,
            before=entry.before,
            after=entry.after,
            request_id=entry.request_id,
        )


class AuditLogPage(PagedAnswer):
    """Entries of the audit log, newest first."""

    data: list[AuditLogEntry]
