"""Writing stock: its own table, so that the wide rows stay untouched by the commonest of all changes. Never commits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.arrays import columns_of
from meta_sync.catalog.repository import ConcurrentWriteError
from meta_sync.catalog.states import STOCK_CLOCKS, StockState
from meta_sync.catalog.working_set import WorkingSet

__all__ = ["moving_clocks", "write_stock"]

_COLUMNS = (
    "variant_id",
    "track_inventory",
    "quantity_on_hand",
    "reserved_quantity",
    "allow_backorder",
    *STOCK_CLOCKS,
)
_UNNEST = f"""
    unnest(
        CAST(:variant_id AS text[]), CAST(:track_inventory AS boolean[]), CAST(:quantity_on_hand AS bigint[]),
        CAST(:reserved_quantity AS bigint[]), CAST(:allow_backorder AS boolean[]),
        {", ".join(f"CAST(:{name} AS timestamptz[])" for name in STOCK_CLOCKS)}
    ) AS u ({", ".join(_COLUMNS)})
"""
_INSERT = text(
    f"""
    INSERT INTO inventory (store_id, {", ".join(_COLUMNS)}, version)
    SELECT :store_id, u.*, nextval('version_seq') FROM {_UNNEST}
    ORDER BY u.variant_id COLLATE "C"
    ON CONFLICT (store_id, variant_id) DO NOTHING
    RETURNING variant_id
    """
)
_UPDATE = text(
    f"""
    UPDATE inventory AS t
    SET track_inventory = u.track_inventory, quantity_on_hand = u.quantity_on_hand,
        reserved_quantity = u.reserved_quantity, allow_backorder = u.allow_backorder,
        {", ".join(f"{name} = u.{name}" for name in STOCK_CLOCKS)}, version = nextval('version_seq'), updated_at = now()
    FROM {_UNNEST}
    WHERE t.store_id = :store_id AND t.variant_id = u.variant_id
    """
)


def moving_clocks(table: str, key: str, clocks: Sequence[str], *, texts: Sequence[str] = ()) -> str:
    """A statement that moves clocks, and texts kept beside them, and nothing else; one array parameter per column."""
    types = {**dict.fromkeys(clocks, "timestamptz"), **dict.fromkeys(texts, "text")}
    parameters = ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in types.items())
    return f"""
    UPDATE {table} AS t SET {", ".join(f"{name} = u.{name}" for name in types)}
    FROM unnest(CAST(:{key} AS text[]), {parameters}) AS u ({key}, {", ".join(types)})
    WHERE t.store_id = :store_id AND t.{key} = u.{key}
    """


_MOVE_CLOCKS = text(moving_clocks("inventory", "variant_id", STOCK_CLOCKS))


async def write_stock(connection: AsyncConnection, store_id: str, working: WorkingSet) -> None:
    """Write the records that differ, and clocks that moved alone. The records were locked when they were read.

    Raises
    ------
    ConcurrentWriteError
        A record that was not there when we looked is there now: its clock has to be compared first.
    """
    changed = working.changed_stock()
    new = [working.stock[variant_id] for variant_id in changed if variant_id not in working.stock_before]
    known = [working.stock[variant_id] for variant_id in changed if variant_id in working.stock_before]
    if new:
        inserted = await connection.execute(_INSERT, _parameters(store_id, new))
        if len(inserted.all()) < len(new):
            raise ConcurrentWriteError
    if known:
        await connection.execute(_UPDATE, _parameters(store_id, known))
    if moved := working.moved_stock_clocks():
        rows = [(row.variant_id, *row.clocks) for row in moved]
        await connection.execute(
            _MOVE_CLOCKS,
            {"store_id": store_id, **columns_of(("variant_id", *STOCK_CLOCKS), rows)},
        )


def _parameters(store_id: str, rows: Sequence[StockState]) -> dict[str, Any]:
    return {
        "store_id": store_id,
        **columns_of(
            _COLUMNS,
            [
                (
                    row.variant_id,
                    row.track_inventory,
                    row.quantity_on_hand,
                    row.reserved_quantity,
                    row.allow_backorder,
                    *row.clocks,
                )
                for row in rows
            ],
        ),
    }
