"""What a long import has seen is dropped by row id, however little the planner knows of the table."""

from __future__ import annotations

from sqlalchemy import text

from meta_sync.catalog.ingest.import_rows import forget_seen
from meta_sync.core.db import Database
from tests.support.imports import open_imports


async def test_what_was_seen_is_dropped_though_the_table_grew_since_it_was_analysed(
    database: Database,
) -> None:
    async with open_imports(database) as i:
        await i.sql("ANALYZE import_seen")
        await i.sql(
            "INSERT INTO import_seen (store_id, import_id, kind, id)"
            " SELECT 's', 'import_long', 'v', 'item-' || n FROM generate_series(1, 40000) AS n"
        )
        await i.sql("INSERT INTO import_seen (store_id, import_id, kind, id) VALUES ('s', 'other', 'v', 'a')")
        is_more = True
        while is_more:
            async with database.store("s") as connection:
                # Compared row by row with each other it would take minutes.
                await connection.execute(text("SET LOCAL statement_timeout = '10s'"))
                is_more = await forget_seen(connection, "import_long")
        assert await i.b.rows("SELECT import_id FROM import_seen") == [("other",)]
