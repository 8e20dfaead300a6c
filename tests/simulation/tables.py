"""The tables of a simulation, with the defaults and constraints that the migrations give them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Float

from meta_sync.schema import metadata
from tests.simulation.memory import Row, Table, Unique

__all__ = ["COLUMNS", "make_tables"]


def _now(now: datetime) -> datetime:
    return now


def _accounted(row: Row) -> bool:
    return bool(row["state"] != "over" or row["accepted"] + row["rejected"] + row["unknown"] == row["sent"])


def _synced(row: Row) -> bool:
    return row["status"] != "synced" or row["confirmed_hash"] is not None or row["in_flight"] is not None


_UNIQUE: dict[str, tuple[Unique, ...]] = {
    "sync_state": (Unique("sync_state_retailer_id_key", ("link_id", "retailer_id")),),
    "batches": (Unique("batches_handle_key", ("graph_host", "catalog_id", "handle")),),
    "jobs": (
        Unique(
            "jobs_one_running",
            ("store_id", "type"),
            lambda row: row["status"] in {"queued", "running", "cancelling"},
        ),
    ),
    "holds": (
        Unique("holds_one_open", ("link_id", "kind"), lambda row: row["state"] in {"counting", "held"}),
    ),
    "catalog_links": (
        Unique("catalog_links_one_active", ("store_id",), lambda row: row["active"]),
        Unique("catalog_links_one_store", ("graph_host", "catalog_id"), lambda row: row["active"]),
    ),
    "credentials": (Unique("credentials_one_active", ("store_id",), lambda row: row["active"]),),
}
_CHECKS = {"batches": {"accounted": _accounted}, "sync_state": {"synced": _synced}}
_INDEX = {"batch_items": "batch_id", "batch_calls": "batch_id"}
_NAMES = (
    "stores",
    "credentials",
    "catalog_links",
    "products",
    "variants",
    "inventory",
    "intents",
    "sync_state",
    "item_payloads",
    "batches",
    "batch_calls",
    "batch_items",
    "item_events",
    "store_queue",
    "store_pauses",
    "splits",
    "split_parts",
    "jobs",
    "job_pages",
    "schedules",
    "worker_heartbeats",
    "holds",
    "guard_counts",
    "reconcile_findings",
    "job_keys",
)

COLUMNS = {name: tuple(column.name for column in metadata.tables[name].columns) for name in _NAMES}
"""The columns of each table, in the order of the schema."""


def _default(text: str) -> Any:
    """The value of a column's default, as the schema writes it."""
    if text in {"now()", "CURRENT_TIMESTAMP"}:
        return _now
    plain = text.partition("::")[0].strip("'")
    if plain in {"true", "false"}:
        return plain == "true"
    if plain == "{}":
        return {} if "jsonb" in text else []
    return int(plain) if plain.lstrip("-").isdigit() else plain


_DEFAULTS: dict[str, dict[str, Any]] = {}
for _name in _NAMES:
    _DEFAULTS[_name] = {}
    for _column in metadata.tables[_name].columns:
        _given: Any = _column.server_default
        if _given is None or not hasattr(_given, "arg"):
            _DEFAULTS[_name][_column.name] = None
        else:
            _value = _default(str(getattr(_given.arg, "text", _given.arg)))
            _DEFAULTS[_name][_column.name] = float(_value) if isinstance(_column.type, Float) else _value


def make_tables() -> dict[str, Table]:
    """Empty tables."""
    return {
        name: Table(
            name,
            tuple(column.name for column in metadata.tables[name].primary_key.columns),
            _DEFAULTS[name],
            index=_INDEX.get(name),
            unique=_UNIQUE.get(name, ()),
            checks=_CHECKS.get(name),
        )
        for name in _NAMES
    }
