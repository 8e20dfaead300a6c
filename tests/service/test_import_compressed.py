"""Compressed uploads from the first byte to the report: as if the plain file had been sent, or nothing of them at all."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from meta_sync.catalog.ingest.import_runner import ImportRunner
from meta_sync.catalog.ingest.imports import CHUNK_BYTES, ImportService, ImportView
from meta_sync.core.db import Database
from tests.support.catalog import Bench, bench

COUNTS = ("created", "changed", "unchanged", "skipped", "failed")


class CompressedBench:
    """Imports of whole files into a store, through the service and the runner."""

    def __init__(self, b: Bench, *, max_inflated_bytes: int) -> None:
        self.b = b
        self.service = ImportService(b.database, b.queue, max_upload_bytes=50_000_000)
        self.runner = ImportRunner(
            b.database, b.sink, b.queue, lambda: b.now, max_inflated_bytes=max_inflated_bytes
        )

    async def currency(self, code: str) -> None:
        async with self.b.database.platform() as connection:
            await connection.execute(
                text(
                    "INSERT INTO stores (store_id, public_id, name, settings)"
                    " VALUES ('s', 's', 's', jsonb_build_object('currency', CAST(:currency AS text)))"
                ),
                {"currency": code},
            )

    async def uploaded(self, content: bytes, format_name: str | None, source: str | None) -> str:
        async def pieces() -> AsyncIterator[bytes]:
            for at in range(0, len(content), CHUNK_BYTES):
                yield content[at : at + CHUNK_BYTES]

        import_id = await self.service.create("s", format=format_name, source=source)
        await self.service.upload("s", import_id, pieces())
        return import_id

    async def run(
        self, content: bytes, *, format_name: str | None = None, source: str | None = None
    ) -> ImportView:
        import_id = await self.uploaded(content, format_name, source)
        await self.runner.run_next()
        return await self.service.get("s", import_id)

    async def items(self) -> int:
        return len(await self.b.rows("SELECT 1 FROM variants"))


@pytest.fixture
async def c(database: Database) -> CompressedBench:
    made = CompressedBench(bench(database), max_inflated_bytes=400_000_000)
    await made.currency("USD")
    return made


def feed(items: int) -> bytes:
    rows = (f"s{n},Item {n},{n}.00 USD,https://shop.example/{n}\n" for n in range(1, items + 1))
    return ("id,title,price,link\n" + "".join(rows)).encode()


def zipped(*files: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return file.getvalue()


def counted(view: ImportView) -> tuple[int, ...]:
    return tuple(view.counts[name] for name in COUNTS)


async def test_a_compressed_file_is_its_content(c: CompressedBench) -> None:
    content = feed(2_500)
    first = await c.run(gzip.compress(content))
    assert (first.status, first.format, first.source, first.progress) == (
        "success",
        "google-csv",
        "google-csv",
        100,
    )
    assert counted(first) == (2_500, 0, 0, 0, 0)
    before = await c.b.snapshot()
    c.b.sink.take()
    for packed in (
        content,
        zipped(("__MACOSX/._feed.csv", b"x"), ("export/feed.csv", content)),
        b"".join(gzip.compress(content[at : at + 20_000]) for at in range(0, len(content), 20_000)),
    ):
        again = await c.run(packed, format_name="google-csv")
        assert (again.status, counted(again)) == ("success", (0, 0, 2_500, 0, 0))
        assert await c.b.snapshot() == before
    assert c.b.sink.calls == []


async def test_our_own_body_in_both_writings_is_the_same_catalog(c: CompressedBench) -> None:
    bodies = [
        {
            "id": f"p{n}",
            "title": f"Product {n}",
            "updatedAt": "2026-05-01T10:00:00Z",
            "variants": [
                {
                    "id": f"v{n}{size}",
                    "price": 1000 + n,
                    "options": {"Size": size},
                    "inventory": {"trackInventory": True, "quantityOnHand": n},
                }
                for size in "SML"
            ],
        }
        for n in range(400)
    ]
    lines = "".join(json.dumps(body) + "\n" for body in bodies).encode()
    whole = json.dumps({"products": bodies}, indent=2).encode()
    first = await c.run(gzip.compress(lines), source="erp")
    assert (first.status, first.format, counted(first)) == ("success", "ndjson", (1_200, 0, 0, 0, 0))
    assert (first.counts["rows"], first.counts["products"]) == (400, 400)
    before = await c.b.snapshot()
    second = await c.run(zipped(("products.json", whole)), source="erp")
    assert (second.status, second.format, counted(second)) == ("success", "json", (0, 0, 1_200, 0, 0))
    assert await c.b.snapshot() == before


async def test_progress_is_of_the_upload_while_the_plain_file_is_read(c: CompressedBench) -> None:
    seen: list[tuple[int, int]] = []
    content = gzip.compress(feed(5_000))

    async def watch() -> None:
        async with c.b.database.platform() as connection:
            row = (await connection.execute(text("SELECT bytes_read, size_bytes FROM imports"))).one()
        seen.append((row[0], row[1]))

    class WatchingQueue(type(c.b.queue)):  # type: ignore[misc]  # the bench's own kind of queue
        async def wake(self, *arguments: object) -> None:
            await watch()

    c.runner = ImportRunner(c.b.database, c.b.sink, WatchingQueue(), lambda: c.b.now)
    view = await c.run(content)
    assert view.status == "success"
    reads = [read for read, _ in seen[:-1]]
    assert reads == sorted(reads)
    assert {size for _, size in seen} == {len(content)}
    assert 0 < reads[0] < len(content)
    assert len(set(reads)) >= 3


async def test_a_cut_file_imports_nothing(c: CompressedBench) -> None:
    packed = gzip.compress(feed(2_500))
    for cut in (packed[:-1], packed[: len(packed) // 2]):
        view = await c.run(cut)
        assert (view.status, view.counts["variants"]) == ("error", 0)
        assert view.message is not None
        assert "breaks off before its end" in view.message
    archive = zipped(("feed.csv", feed(2_500)))
    view = await c.run(archive[: len(archive) // 2])
    assert (view.status, view.message) == (
        "error",
        "The ZIP archive is damaged or breaks off. Pack or download it again.",
    )
    assert await c.items() == 0


async def test_a_bomb_is_stopped_within_its_bounds(c: CompressedBench) -> None:
    small = CompressedBench(c.b, max_inflated_bytes=3_000_000)
    content = feed(100) + b"s,x,1 USD,https://shop.example\n" * 300_000
    for bomb in (gzip.compress(content), zipped(("feed.csv", content))):
        assert len(bomb) < 50_000
        view = await small.run(bomb)
        assert (view.status, view.counts["rows"]) == ("error", 0)
        assert view.message is not None
        assert "larger than 3,000,000 bytes" in view.message
    assert await c.items() == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (zipped(("a.csv", feed(3)), ("b.csv", feed(3))), '2 files ("a.csv", "b.csv")'),
        (zipped(("[Content_Types].xml", b"<Types/>"), ("xl/workbook.xml", b"<x/>")), "Excel workbook"),
        (zipped(("a.zip", zipped(("b.csv", feed(3))))), "another archive"),
        (gzip.compress(b""), "empty"),
        (gzip.compress(b"<html><body>Login</body></html>"), "HTML page"),
        (gzip.compress(feed(3)) + b"id,title\n", "followed by something"),
    ],
    # The content holds the time at which it was packed; processes that run the suite side by side must name it alike.
    ids=["two files", "workbook", "archive", "empty", "page", "more behind it"],
)
async def test_other_archives_end_the_import_with_a_sentence(
    c: CompressedBench, content: bytes, words: str
) -> None:
    for format_name in (None, "google-csv"):
        view = await c.run(content, format_name=format_name)
        assert view.status == "error"
        assert view.message is not None
        assert words in view.message
    assert await c.items() == 0


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "currency", "items", "failed"),
    [
        ("big/samsung_uk_crawl.ndjson", "GBP", 442, 308),
        ("big/thai_thaiwatsadu_38k.json.gz", "THB", 3_962, 38),
    ],
)
async def test_large_real_files_go_in_once(
    database: Database, shared_data: Path, name: str, currency: str, items: int, failed: int
) -> None:
    made = CompressedBench(bench(database), max_inflated_bytes=400_000_000)
    await made.currency(currency)
    content = (shared_data / name).read_bytes()
    if name.endswith(".json.gz"):
        # The first tenth of the products: reading all of them is the formats' test, and all of it is measured by hand.
        content = gzip.compress(json.dumps(json.loads(gzip.decompress(content))[:4_000]).encode(), mtime=0)
    first = await made.run(content)
    assert (first.status, counted(first)) == ("partial", (items, 0, 0, 0, failed))
    assert {error.field for error in first.errors} <= {"sku", "id"}
    made.b.sink.calls.clear()
    second = await made.run(content)
    assert (second.status, counted(second)) == ("partial", (0, 0, items, 0, failed))
    assert made.b.sink.calls == []
