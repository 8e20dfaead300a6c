"""Whether everything that the API lets somebody change is in the audit log, by the requests of a whole shop's life."""

from __future__ import annotations

import json

from sqlalchemy import text

from meta_sync.api.app import openapi_document
from meta_sync.core.db import Database

__all__ = ["NOT_AUDITED", "assert_everything_is_audited", "changing_operations"]

_OWN_CATALOG = "a shop writing its own catalog, thousands of times an hour: the timeline of the item tells it"

NOT_AUDITED = {
    "createImport": "the import is its own record; one that may delete is recorded, as tests/service/test_audit.py shows",
    "deleteProduct": _OWN_CATALOG,
    "putInventories": _OWN_CATALOG,
    "putInventory": _OWN_CATALOG,
    "putProduct": _OWN_CATALOG,
    "putProducts": _OWN_CATALOG,
    "sendEvents": _OWN_CATALOG,
}
"""Operations that change something and leave no entry, each with the reason."""

_CHANGING = {"post", "put", "patch", "delete"}


def changing_operations() -> set[str]:
    """The operations of the document that change something."""
    paths = json.loads(openapi_document())["paths"]
    return {
        operation["operationId"]
        for operations in paths.values()
        for method, operation in operations.items()
        if method in _CHANGING
    }


async def assert_everything_is_audited(database: Database, request_ids: dict[str, str]) -> None:
    """Every operation that changes something was called, and its request has an entry under the caller's key.

    Parameters
    ----------
    request_ids
        Of a request that succeeded, by operation.
    """
    async with database.platform() as connection:
        rows = await connection.execute(text("SELECT request_id, actor FROM audit_log"))
        actors = {request_id: actor for request_id, actor in rows.all()}
    expected = changing_operations() - NOT_AUDITED.keys()
    unrecorded = [name for name in sorted(expected) if request_ids.get(name) not in actors]
    assert unrecorded == [], "call record_action in the action's transaction, or give a reason in NOT_AUDITED"
    assert {name for name in NOT_AUDITED if request_ids.get(name) in actors} == set(), (
        "the reason does not hold"
    )
    assert all(actors[request_ids[name]].startswith("key_") for name in expected)
