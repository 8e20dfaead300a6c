"""What happened to a store lately, in words: batches, jobs, imports, pauses, settings, catalogs and tokens. Reads only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from meta_sync.core.db import Database
from meta_sync.core.paging import CursorCodec
from meta_sync.sync.bulk import expect_lookups
from meta_sync.sync.codes import explain
from meta_sync.sync.merged import MergedPage, Source, read_merged

__all__ = ["ActivityEntry", "ActivityService", "Subject"]

SubjectType = Literal["batch", "job", "import", "settings", "catalog", "token", "store"]


@dataclass(frozen=True, slots=True)
class Subject:
    """What an entry is about; ``id`` is ``None`` where the store has only one."""

    type: SubjectType
    id: str | None


@dataclass(frozen=True, slots=True)
class ActivityEntry:
    """One thing that happened to a store.

    Attributes
    ----------
    kind
        Stable, such as ``batch_sent`` or ``pause_began``.
    message
        What happened, as a sentence.
    meta_text
        What Meta said, in its own words.
    """

    id: str
    at: datetime
    kind: str
    message: str
    subject: Subject
    code: str | None = None
    meta_text: str | None = None
    actor: str | None = None


class ActivityService:
    """Tells what happened to a store."""

    def __init__(self, database: Database, cursors: CursorCodec) -> None:
        self._database = database
        self._cursors = cursors

    async def list(
        self, store_id: str, *, page: int = 1, limit: int = 50, cursor: str | None = None
    ) -> MergedPage[ActivityEntry]:
        """A page of what happened, newest first.

        Raises
        ------
        ValidationFailedError
            The page lies beyond what pages reach, or the cursor is not one of this list.
        """
        async with self._database.store(store_id) as connection:
            await expect_lookups(connection)
            return await read_merged(
                connection,
                _SOURCES,
                {"store_id": store_id},
                cursors=self._cursors,
                scope=f"activity\n{store_id}",
                page=page,
                limit=limit,
                cursor=cursor,
            )


_LANES = ("urgent changes", "changes", "bulk work")
_JOBS = {
    "bootstrap": "full sync",
    "reevaluation": "re-evaluation after changed settings",
    "resync": "resync",
    "sync": "sync",
}
_ENDS = {
    "success": "ended well",
    "partial": "ended, but not with everything done",
    "error": "failed",
    "cancelled": "was cancelled",
}


def _items(count: int) -> str:
    return f"{count:,} item" + ("" if count == 1 else "s")


def _batch_sent(row: Any) -> ActivityEntry:
    at, key, sent, lane = row
    message = f"Batch {key} with {_items(sent)} went to Meta ({_LANES[lane]})."
    return ActivityEntry(f"batch_sent:{key}", at, "batch_sent", message, Subject("batch", key))


def _batch_ended(row: Any) -> ActivityEntry:
    at, key, sent, accepted, rejected, unknown, code, said = row
    message = f"Batch {key} is over: {accepted:,} of {_items(sent)} accepted"
    message += f", {rejected:,} refused" if rejected else ""
    message += f", {unknown:,} without an answer of Meta" if unknown else ""
    if not sent:
        message = f"Meta refused the call with batch {key}, so nothing of it was saved"
    message += "." if not code else f". {explain(code, said).sentence}"
    return ActivityEntry(f"batch_ended:{key}", at, "batch_ended", message, Subject("batch", key), code, said)


def _job_name(kind: str) -> str:
    return _JOBS.get(kind, kind.replace("_", " "))


def _job_started(row: Any) -> ActivityEntry:
    at, key, kind, is_dry_run, actor = row
    rehearsal = " as a dry run" if is_dry_run else ""
    return ActivityEntry(
        f"job_started:{key}",
        at,
        "job_started",
        f"A {_job_name(kind)} was asked for{rehearsal}.",
        Subject("job", key),
        actor=actor,
    )


def _job_ended(row: Any) -> ActivityEntry:
    at, key, kind, status, said, code = row
    message = f"The {_job_name(kind)} {_ENDS.get(status, status)}."
    why = said or (explain(code).sentence if code else "")
    return ActivityEntry(
        f"job_ended:{key}", at, "job_ended", f"{message} {why}".strip(), Subject("job", key), code
    )


def _import_started(row: Any) -> ActivityEntry:
    at, key, name, actor = row
    of = f" of {name}" if name else ""
    return ActivityEntry(
        f"import_started:{key}",
        at,
        "import_started",
        f"An import{of} was asked for.",
        Subject("import", key),
        actor=actor,
    )


def _import_ended(row: Any) -> ActivityEntry:
    at, key, name, status, said, code = row
    of = f" of {name}" if name else ""
    message = f"The import{of} {_ENDS.get(status, status)}."
    return ActivityEntry(
        f"import_ended:{key}",
        at,
        "import_ended",
        f"{message} {said or ''}".strip(),
        Subject("import", key),
        code,
    )


# Where one reason is gone, another may still be there.
_PAUSE_WORDS = {
    ("pause_began", True): "Sending stopped.",
    ("pause_ended", True): "This no longer keeps the store from sending:",
    ("pause_began", False): "Questions about a catalog that was used before have to wait:",
    ("pause_ended", False): "Questions about a catalog that was used before are asked again; this is over:",
}


def _store_event(row: Any) -> ActivityEntry:
    at, key, kind, code, said, detail = row
    entry_id = f"{kind}:{key}"
    if kind == "settings_changed":
        names = ", ".join(_camel(name) for name in detail["keys"])
        return ActivityEntry(
            entry_id, at, kind, f"Settings were changed: {names}.", Subject("settings", None)
        )
    why = explain(detail.get("metaCode") or code, said, reason=code).sentence
    message = f"{_PAUSE_WORDS[kind, detail.get('isInUse', True)]} {why}"
    return ActivityEntry(entry_id, at, kind, message, Subject("store", None), code, said)


def _catalog_selected(row: Any) -> ActivityEntry:
    at, key, name = row
    message = f"The Meta catalog {name or key} was selected."
    return ActivityEntry(f"catalog:{key}", at, "catalog_selected", message, Subject("catalog", key))


def _token_set(row: Any) -> ActivityEntry:
    at, key, name = row
    of = f" of {name}" if name else ""
    return ActivityEntry(
        f"token:{key}", at, "token_set", f"A new access token{of} was stored.", Subject("token", None)
    )


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _source(
    columns: str, table: str, at: str, key: str, tell: Callable[[Any], ActivityEntry]
) -> Source[ActivityEntry]:
    return Source(
        f"SELECT {at}, {key}, {columns} FROM {table} WHERE store_id = :store_id AND {at} IS NOT NULL",
        at,
        f'{key} COLLATE "C"',
        tell,
    )


# Later sources stand above earlier ones of the same instant, as what follows stands above its cause.
_SOURCES: tuple[Source[ActivityEntry], ...] = (
    _source("account_name", "credentials", "created_at", "credential_id", _token_set),
    _source("catalog_name", "catalog_links", "selected_at", "catalog_id", _catalog_selected),
    _source("kind, code, message, detail", "store_events", "at", "event_id::text", _store_event),
    _source("file_name, requested_by", "imports", "created_at", "import_id", _import_started),
    _source("type, dry_run, requested_by", "jobs", "created_at", "job_id", _job_started),
    _source("sent, lane", "batches", "sent_at", "batch_id::text", _batch_sent),
    _source(
        "sent, accepted, rejected, unknown, error_code, error_text",
        "batches",
        "finished_at",
        "batch_id::text",
        _batch_ended,
    ),
    _source("type, status, message, error_code", "jobs", "finished_at", "job_id", _job_ended),
    _source("file_name, status, message, error_code", "imports", "finished_at", "import_id", _import_ended),
)
