"""The record of who did what: one row per managing action, written in the action's own transaction.

Never called after the commit of what it tells about, and never given a secret: what cannot be shown is told as
``configured`` or ``changed``. What the catalog's owners write through the catalog's addresses is not managing and has
no place here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from itertools import islice
from typing import Any, Self

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = [
    "COMMAND_LINE",
    "THE_INSTALLATION",
    "Actor",
    "AuditAction",
    "AuditTarget",
    "first_ids",
    "record_action",
]

_MOST_IDS_TOLD = 20
"""Of an action on many things: enough to recognise it, whatever its size."""


class AuditAction(StrEnum):
    """Every action that is recorded."""

    API_KEY_CREATED = "api_key_created"
    API_KEY_REVOKED = "api_key_revoked"
    CATALOG_SELECTED = "catalog_selected"
    FEED_CREATED = "feed_created"
    FEED_CHANGED = "feed_changed"
    FEED_DELETED = "feed_deleted"
    FEED_STARTED = "feed_started"
    FIRST_RUN_APPROVED = "first_run_approved"
    FOREIGN_DELETED = "foreign_deleted"
    HOLD_DISCARDED = "hold_discarded"
    HOLD_RELEASED = "hold_released"
    IMPORT_STARTED = "import_started"
    ITEM_EXCLUDED = "item_excluded"
    ITEM_PINNED = "item_pinned"
    ITEM_RESYNCED = "item_resynced"
    ITEM_UNPINNED = "item_unpinned"
    ITEMS_ADOPTED = "items_adopted"
    ITEMS_REPAIRED = "items_repaired"
    ITEMS_TAKEN = "items_taken"
    JOB_CANCELLED = "job_cancelled"
    JOB_STARTED = "job_started"
    LINK_DISTRUSTED = "link_distrusted"
    REMOVAL_UNDONE = "removal_undone"
    SETTINGS_CHANGED = "settings_changed"
    STORE_CREATED = "store_created"
    STORE_RENAMED = "store_renamed"
    TOKEN_SET = "token_set"  # noqa: S105 - the name of an action


class AuditTarget(StrEnum):
    """What an action was done to; says what the target's id is the id of."""

    API_KEY = "api_key"
    CATALOG = "catalog"
    FEED = "feed"
    HOLD = "hold"
    IMPORT = "import"
    ITEM = "item"
    JOB = "job"
    STORE = "store"
    TOKEN = "token"  # noqa: S105 - the name of a thing


class Actor(str):
    """Who acts, as the credential names it, with the request it acts by.

    It is the name itself, so that it goes wherever a name goes (``requested_by``, ``actor``) and the request's id with
    it, without a parameter of its own in every layer between.
    """

    __slots__ = ("request_id",)

    request_id: str | None

    def __new__(cls, name: str, request_id: str | None = None) -> Self:
        """Name an actor; ``request_id`` is the id answered in ``X-Request-Id``."""
        actor = super().__new__(cls, name)
        actor.request_id = request_id or None
        return actor


COMMAND_LINE = Actor("command line")
"""Whoever can run commands beside the database; they carry no credential."""

THE_INSTALLATION = ""
"""Stands where a store's id stands, for what belongs to none, such as a key of the platform."""

_INSERT = text(
    """
    INSERT INTO audit_log (store_id, actor, action, target_type, target_id, before, after, request_id)
    VALUES (:store_id, :actor, :action, :target_type, :target_id, CAST(:before AS jsonb), CAST(:after AS jsonb),
            :request_id)
    """
)


async def record_action(
    connection: AsyncConnection,
    store_id: str,
    *,
    actor: str,
    action: AuditAction,
    target_type: AuditTarget,
    target_id: str | None = None,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    request_id: str | None = None,
) -> None:
    """Record an action in the transaction that does it, so that neither stands without the other.

    Parameters
    ----------
    connection
        The transaction of the action: of the store, or across stores.
    store_id
        The store that was acted on, or ``THE_INSTALLATION``.
    actor
        Who acted. An ``Actor`` brings the id of the request along.
    action, target_type, target_id
        What was done, and to what.
    before, after
        What was changed as it was and as it is now, in camel case and of bounded size; of an action that changes nothing
        there, ``after`` tells what was asked for. Never a secret.
    request_id
        Of the request, where the actor does not carry it.
    """
    if request_id is None and isinstance(actor, Actor):
        request_id = actor.request_id
    await connection.execute(
        _INSERT,
        {
            "store_id": store_id,
            "actor": str(actor),
            "action": str(action),
            "target_type": str(target_type),
            "target_id": target_id,
            "before": _json(before),
            "after": _json(after),
            "request_id": request_id,
        },
    )


def first_ids(ids: Iterable[str]) -> list[str]:
    """The first few of many ids, in their order, for an entry about all of them; the count stands beside them."""
    return list(islice(ids, _MOST_IDS_TOLD))


def _json(values: Mapping[str, Any] | None) -> str | None:
    return None if values is None else orjson.dumps(dict(values)).decode()
