"""Looks for secrets in the whole database, in whatever form a row could show them."""

from __future__ import annotations

import base64

from sqlalchemy import text

from meta_sync.core.db import Database
from meta_sync.schema import metadata

__all__ = ["every_row", "tables_holding"]


async def every_row(database: Database) -> dict[str, str]:
    """Everything stored, by table, as PostgreSQL writes it out (bytes in hex)."""
    found = {}
    async with database.platform() as connection:
        for name in metadata.tables:
            rows = await connection.execute(text(f"SELECT r::text FROM {name} AS r"))
            found[name] = "\n".join(rows.scalars())
    return found


async def tables_holding(database: Database, secret: str) -> list[str]:
    """Tables in which a secret stands as it is, in hex or in base64."""
    plain = secret.encode()
    forms = {secret, plain.hex(), base64.b64encode(plain).decode().rstrip("=")}
    return [
        name
        for name, content in (await every_row(database)).items()
        if any(form in content for form in forms)
    ]
