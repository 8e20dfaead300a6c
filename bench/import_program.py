"""What ``bench.imports`` measures, in a process of its own: reading and COPYing by hand, and the service's import."""

from __future__ import annotations

import asyncio
import csv
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from bench.program import Place, Work, connect, serve
from meta_sync.catalog.ingest.imports import CHUNK_BYTES
from meta_sync.core.config import load_settings
from meta_sync.core.logging import configure_logging
from meta_sync.factory import Factory, ProcessContext

FILE_VARIABLE = "BENCH_IMPORT_FILE"
STORE_ID = "imports"
_COLUMNS = 16
_RECORDS_AT_ONCE = 50_000


def _records(path: Path) -> Iterator[tuple[str, ...]]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        next(reader)
        for row in reader:
            yield tuple(row[:_COLUMNS])


class Imports:
    """One file, imported by hand and by the service."""

    def __init__(self, place: Place, path: Path, context: ProcessContext) -> None:
        self._place = place
        self._path = path
        self._factory = Factory(context)

    async def limit(self) -> None:
        """Read the file and COPY its rows into a table with a key, in one transaction."""
        connection = await connect(self._place.database_url)
        names = ", ".join(f"c{number} text" for number in range(_COLUMNS))
        await connection.execute("CREATE SCHEMA IF NOT EXISTS bench; DROP TABLE IF EXISTS bench.rows")
        await connection.execute(f"CREATE TABLE bench.rows ({names}, PRIMARY KEY (c0))")
        await connection.copy_records_to_table(
            "rows", schema_name="bench", records=_records(self._path), timeout=None
        )
        await connection.close()

    async def upload(self) -> None:
        """Hand the file in, as a request does."""
        service = self._factory.imports()
        import_id = await service.create(STORE_ID, file_name=self._path.name)
        await service.upload(STORE_ID, import_id, self._pieces())

    async def run(self) -> None:
        """Work the import off, as a worker does."""
        assert await self._factory.import_runner().run_next()

    async def _pieces(self) -> AsyncIterator[bytes]:
        with self._path.open("rb") as file:
            while piece := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield piece


async def open_works(place: Place) -> dict[str, Work]:
    configure_logging("WARNING", "json")
    settings = load_settings(
        {},
        env_file=None,
        database_url=place.database_url,
        encryption_keys=place.encryption_key,
        max_upload_bytes=4 * 1024**3,
    )
    context = await ProcessContext.open(settings)
    works = Imports(place, Path(os.environ[FILE_VARIABLE]), context)
    return {"limit": works.limit, "upload": works.upload, "run": works.run}


if __name__ == "__main__":
    serve(open_works)
