"""What happened to one item, newest first: how it stands, what was noted of it, and every attempt to send it. Reads only.

Attempts are kept as long as batches are, notes longer. Nothing of a payload is told but its hash and its fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.connection.repository import active_link
from meta_sync.core.db import Database
from meta_sync.core.errors import NotFoundError
from meta_sync.core.paging import CursorCodec
from meta_sync.sync.attempts import OUTCOME, AttemptOutcome
from meta_sync.sync.bulk import expect_lookups
from meta_sync.sync.codes import explain
from meta_sync.sync.item_queries import NO_LINK
from meta_sync.sync.merged import MergedPage, Source, read_merged
from meta_sync.sync.models import DELETE_HASH

__all__ = ["AttemptFacts", "TimelineEntry", "TimelineService"]


@dataclass(frozen=True, slots=True)
class AttemptFacts:
    """One attempt to send an item."""

    batch_id: int
    handle: str | None
    catalog_id: str | None
    method: str
    retailer_id: str
    outcome: AttemptOutcome
    payload_hash: bytes | None
    fields: tuple[str, ...]
    cleared: tuple[str, ...]
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One thing that happened.

    Attributes
    ----------
    kind
        Stable: ``state``, ``attempt``, or the kind of a note (``skip``, ``fail``, ``refused``, ``resync``,
        ``excluded``).
    message
        What happened, as a sentence.
    meta_text
        What Meta said, in its own words.
    """

    id: str
    at: datetime
    kind: str
    message: str
    code: str | None = None
    meta_text: str | None = None
    actor: str | None = None
    attempt: AttemptFacts | None = None


class TimelineService:
    """Tells the timeline of an item."""

    def __init__(self, database: Database, cursors: CursorCodec) -> None:
        self._database = database
        self._cursors = cursors

    async def timeline(
        self, store_id: str, variant_id: str, *, page: int = 1, limit: int = 50, cursor: str | None = None
    ) -> MergedPage[TimelineEntry]:
        """A page of what happened to an item, newest first.

        Raises
        ------
        NotFoundError
            The store has no such variant, and nothing is known of one.
        ValidationFailedError
            The page lies beyond what pages reach, or the cursor is not one of this list.
        """
        async with self._database.store(store_id) as connection:
            link = await active_link(connection, store_id)
            await expect_lookups(connection)
            values = {
                "store_id": store_id,
                "variant_id": variant_id,
                "link_id": link.link_id if link is not None else NO_LINK,
            }
            found = await read_merged(
                connection,
                _SOURCES,
                values,
                cursors=self._cursors,
                scope=f"timeline\n{store_id}\n{variant_id}",
                page=page,
                limit=limit,
                cursor=cursor,
            )
            if not found.total and not await _is_known(connection, values):
                raise NotFoundError("There is no such item in this store.")
        return found


_KNOWN = text(
    "SELECT 1 FROM variants WHERE store_id = :store_id AND variant_id = :variant_id AND deleted_at IS NULL"
)


async def _is_known(connection: AsyncConnection, values: dict[str, Any]) -> bool:
    return await connection.scalar(_KNOWN, values) is not None


_ATTEMPT_WORDS = {
    AttemptOutcome.UNDER_WAY: "Meta has not said yet what became of it.",
    AttemptOutcome.ACCEPTED: "Meta accepted it.",
    AttemptOutcome.REJECTED: "Meta refused it.",
    AttemptOutcome.UNKNOWN: "Meta did not say what became of it, so it counts as unknown and is sent again.",
    AttemptOutcome.RETURNED: "Meta refused the whole call, so nothing of it was saved.",
}
_NOTE_WORDS = {
    "skip": "The item was left out.",
    "fail": "The item could not be prepared for Meta.",
    "refused": "Meta refused the item.",
    "resync": "Somebody asked for the item to be sent again.",
    "excluded": "Somebody took the item off Meta. It stays off until it is resynced.",
    "drift": "Meta did not have the item as it had confirmed it. Somebody had it repaired.",
}
_STATE_WORDS = {
    "never_synced": "The item was never sent.",
    "pending": "The item waits to be sent.",
    "submitted": "The item was sent, and Meta is working on it.",
    "synced": "Meta has confirmed the item.",
    "failed": "The item failed.",
    "skipped": "The item is left out.",
    "deleted": "The item was removed from Meta.",
}
_PRESENCE_WORDS = {
    ("failed", "present"): "An earlier version of it is at Meta.",
    ("failed", "maybe"): "An earlier version of it may be at Meta.",
    ("pending", "present"): "An earlier version of it is at Meta.",
}
_ASKED = frozenset({"resync", "excluded"})


def _of_state(row: Any) -> TimelineEntry:
    at, key, status, presence, code, said = row
    sentences = [_STATE_WORDS.get(status, f"The item is {status}.")]
    if code:
        sentences.append(explain(code, said).sentence)
    sentences.append(_PRESENCE_WORDS.get((status, presence), ""))
    return TimelineEntry(f"state:{key}", at, "state", _joined(sentences), code, said)


def _of_note(row: Any) -> TimelineEntry:
    at, key, kind, code, said, actor = row
    sentences = [_NOTE_WORDS.get(kind, f"{kind.replace('_', ' ').capitalize()}.")]
    if code and kind not in _ASKED:
        sentences.append(explain(code, said).sentence)
    return TimelineEntry(f"note:{key}", at, kind, _joined(sentences), code, said, actor)


def _of_attempt(row: Any) -> TimelineEntry:
    (at, key, batch_id, handle, catalog_id, method, retailer_id, outcome, digest, fields, cleared, said) = (
        row[:12]
    )
    finished_at, batch_code, batch_said = row[12:]
    result = AttemptOutcome(outcome)
    what = "Meta was asked to delete the item" if method == "DELETE" else "The item was sent"
    code = batch_code if result in {AttemptOutcome.RETURNED, AttemptOutcome.UNKNOWN} else None
    return TimelineEntry(
        f"attempt:{key}",
        at,
        "attempt",
        f"{what} in batch {batch_id}. {_ATTEMPT_WORDS[result]}",
        code,
        said or (batch_said if code else None),
        None,
        AttemptFacts(
            batch_id,
            handle,
            catalog_id,
            method,
            retailer_id,
            result,
            None if digest == DELETE_HASH else digest,
            tuple(fields),
            tuple(cleared),
            finished_at,
        ),
    )


def _joined(sentences: list[str]) -> str:
    return " ".join(one for one in sentences if one)


# Later sources stand above earlier ones of the same instant.
_SOURCES: tuple[Source[TimelineEntry], ...] = (
    Source(
        f"""
        SELECT a.created_at, a.batch_id::text, a.batch_id, b.handle, b.catalog_id, a.method, a.retailer_id, {OUTCOME},
               a.payload_hash, a.fields, a.cleared, a.error_text, b.finished_at, b.error_code, b.error_text
        FROM catalog_links AS l
        JOIN batch_items AS a ON a.link_id = l.link_id AND a.variant_id = :variant_id
        LEFT JOIN batches AS b ON b.batch_id = a.batch_id
        WHERE l.store_id = :store_id AND a.store_id = :store_id
        """,
        "a.created_at",
        'a.batch_id::text COLLATE "C"',
        _of_attempt,
    ),
    Source(
        """
        SELECT e.at, e.event_id::text, e.kind, e.code, e.message, e.actor FROM item_events AS e
        WHERE e.store_id = :store_id AND e.variant_id = :variant_id
        """,
        "e.at",
        'e.event_id::text COLLATE "C"',
        _of_note,
    ),
    Source(
        """
        SELECT s.updated_at, s.variant_id, s.status, s.presence, s.code, s.error_text FROM sync_state AS s
        WHERE s.link_id = :link_id AND s.variant_id = :variant_id AND s.store_id = :store_id
        """,
        "s.updated_at",
        "s.variant_id",
        _of_state,
    ),
)
