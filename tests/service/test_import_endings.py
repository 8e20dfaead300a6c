"""How imports end that cannot be read, were never finished, or were sent as something else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import BinaryIO

import pytest

from meta_sync.catalog.ingest import import_runner
from meta_sync.catalog.ingest.rows import FileRefusedError, FormatContext, ImportedVariant, Parsed
from meta_sync.catalog.models import ProductInput, VariantInput
from meta_sync.core.db import Database
from tests.support.imports import ImportBench, counted, feed, open_imports, rows_of


@pytest.fixture
async def i(database: Database) -> AsyncIterator[ImportBench]:
    async with open_imports(database) as made:
        yield made


class Breaking:
    """A format whose file ends in the middle."""

    name = "google-csv"

    def recognises(self, head: bytes, file_name: str | None) -> float:
        return 1.0

    def parse(self, file: BinaryIO, context: FormatContext) -> Iterator[Parsed]:
        for number in range(1, 6):
            item = f"i{number}"
            yield ImportedVariant(number, ProductInput(item, title="T"), VariantInput(item, price=1))
        raise FileRefusedError("The file ends in the middle of a row.", line=7, column=3)


async def test_a_file_that_breaks_off_is_an_error_that_says_where_and_what_went_in(
    i: ImportBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_runner, "format_by_name", lambda name: Breaking())
    monkeypatch.setattr(import_runner, "_CHUNK_ENTRIES", 2)
    view = await i.run(feed(*rows_of("a")))
    assert view.status == "error"
    assert view.message == (
        "The file ends in the middle of a row (line 7, column 3). The 5 items before that point were imported."
    )
    assert counted(view) == (5, 0, 0, 0, 0, 0)


async def test_abandoned_uploads_are_ended(i: ImportBench) -> None:
    old, fresh = await i.service.create("s"), await i.service.create("s")
    await i.service.append_chunk("s", old, 0, b"x")
    await i.sql(f"UPDATE imports SET created_at = now() - interval '2 days' WHERE import_id = '{old}'")
    assert await i.runner.sweep() == 1
    assert ((await i.service.get("s", old)).status, (await i.service.get("s", fresh)).status) == (
        "error",
        "uploading",
    )
    assert await i.b.rows("SELECT 1 FROM import_chunks") == []


async def test_a_format_that_was_named_wrongly_is_corrected(i: ImportBench) -> None:
    view = await i.run(feed(*rows_of("a")), format="shopify-csv")
    assert view.status == "error"
    assert view.message == (
        "The file is not in the format shopify-csv that was asked for; it is recognised as google-csv."
        " Import it without naming a format."
    )
