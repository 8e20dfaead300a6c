"""Uploads and imports from the first byte to the report, over a real database and the real formats."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Iterator

import pytest

from meta_sync.catalog.ingest import import_runner, import_tally
from meta_sync.catalog.ingest.import_rows import lease_import
from meta_sync.catalog.ingest.imports import ImportService, ImportView
from meta_sync.catalog.models import Lane
from meta_sync.core.db import Database
from meta_sync.core.errors import (
    ConflictError,
    NotFoundError,
    PayloadTooLargeError,
    ValidationFailedError,
)
from meta_sync.core.failpoints import arm, disarm_all
from meta_sync.core.queue import JobName
from tests.support.catalog import product, stock, variant
from tests.support.imports import ImportBench, open_imports

COLUMNS = ("id", "title", "description", "price", "link", "image_link", "availability", "item_group_id")


def feed(*rows: tuple[str, ...]) -> bytes:
    """A Google CSV; a row is id, price and optionally group and title."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    for row in rows:
        item_id, price, group, title = (*row, *("", "")[len(row) - 2 :]) if len(row) < 4 else row
        link = f"https://x.example/{item_id}"
        writer.writerow(
            [
                item_id,
                title or f"Title {group or item_id}",
                "Text",
                price,
                link,
                f"{link}.jpg",
                "in stock",
                group,
            ]
        )
    return file.getvalue().encode()


def woo(*rows: str) -> bytes:
    header = "ID,Type,SKU,Name,Published,Description,In stock?,Stock,Regular price,Categories,Images,Parent"
    return "\n".join([header, *rows]).encode()


@pytest.fixture
async def i(database: Database) -> AsyncIterator[ImportBench]:
    async with open_imports(database) as made:
        await made.sql(
            "INSERT INTO stores (store_id, public_id, name, settings) VALUES ('bare', 'b', 'b', '{}')"
        )
        yield made


@pytest.fixture(autouse=True)
def no_failpoints() -> Iterator[None]:
    yield
    disarm_all()


def counted(view: ImportView) -> tuple[int, ...]:
    """created, changed, unchanged, skipped, failed."""
    return tuple(view.counts[name] for name in ("created", "changed", "unchanged", "skipped", "failed"))


async def test_a_file_goes_in_and_again_changes_nothing(i: ImportBench) -> None:
    content = feed(("a", "10.00 USD", "g"), ("b", "11.00 USD", "g"), ("c", "12.00 USD"))
    view = await i.run(content)
    assert (view.status, view.format, view.source, view.mode, view.progress) == (
        "success",
        "google-csv",
        "google-csv",
        "upsert",
        100,
    )
    assert counted(view) == (3, 0, 0, 0, 0)
    assert (view.counts["rows"], view.counts["products"], view.counts["variants"]) == (3, 2, 3)
    assert i.b.sink.take() == dict.fromkeys("abc", Lane.BULK)
    assert JobName.DRAIN in i.b.queue.sent
    stored = await i.b.catalog.get_product("s", "g")
    assert (stored.product.source, [one.price for one in stored.product.variants]) == (
        "google-csv",
        [1000, 1100],
    )
    assert await i.b.rows("SELECT 1 FROM import_chunks") == await i.b.rows("SELECT 1 FROM import_seen") == []

    before = await i.b.snapshot()
    i.b.queue.sent.clear()
    view = await i.run(content)
    assert (view.status, counted(view)) == ("success", (0, 0, 3, 0, 0))
    assert await i.b.snapshot() == before
    assert i.b.sink.calls == []
    assert JobName.DRAIN not in i.b.queue.sent


async def test_existing_items_keep_their_lanes_and_nothing_absent_is_deleted(i: ImportBench) -> None:
    await i.run(feed(("a", "1.00 USD", "g"), ("b", "1.00 USD", "g"), ("c", "1.00 USD"), ("d", "1.00 USD")))
    i.b.sink.take()
    view = await i.run(feed(("a", "2.00 USD", "g"), ("c", "1.00 USD", "", "New title"), ("e", "1.00 USD")))
    assert counted(view) == (1, 2, 0, 0, 0)
    assert i.b.sink.take() == {"a": Lane.LIVE, "c": Lane.CONTENT, "e": Lane.BULK}
    live = await i.b.rows("SELECT variant_id FROM variants WHERE deleted_at IS NULL ORDER BY 1")
    assert [row[0] for row in live] == list("abcde")


async def test_the_second_item_of_a_product_gives_the_first_a_group(i: ImportBench) -> None:
    await i.run(feed(("a", "1.00 USD", "g")))
    i.b.sink.take()
    view = await i.run(feed(("b", "1.00 USD", "g")))
    assert counted(view) == (1, 0, 0, 0, 0)
    assert i.b.sink.take() == {"a": Lane.CONTENT, "b": Lane.BULK}


async def test_first_row_of_a_product_and_of_an_id_counts_across_chunks(
    i: ImportBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_runner, "_CHUNK_ENTRIES", 2)
    content = feed(
        ("a", "1.00 USD", "g", "First"),
        ("b", "1.00 USD", "g", "Second"),
        ("c", "1.00 USD", "g", "Third"),
        ("a", "9.00 USD", "g"),
        ("d", "1.00 USD"),
        ("d", "9.00 USD"),
    )
    for expected in ((4, 0, 0, 0, 2), (0, 0, 4, 0, 2)):
        view = await i.run(content)
        assert (view.status, counted(view)) == ("partial", expected)
        assert [(error.row, error.field, error.message, error.item_id) for error in view.errors] == [
            (4, "id", "The id a appears again; the first row counts.", "a"),
            (6, "id", "The id d appears again; the first row counts.", "d"),
        ]
    assert (await i.b.catalog.get_product("s", "g")).product.title == "First"
    assert await i.b.rows("SELECT DISTINCT price FROM variants") == [(100,)]


async def test_bad_rows_are_counted_and_named_and_the_rest_goes_in(i: ImportBench) -> None:
    content = feed(
        ("a", "1.00 USD"), ("b", "1.00 EUR"), ("x" * 300, "1.00 USD"), ("c", "nonsense"), ("d", "2.00 USD")
    )
    view = await i.run(content)
    assert view.status == "partial"
    assert (counted(view), view.counts["rows"]) == ((2, 0, 0, 0, 3), 5)
    assert {error.row for error in view.errors} == {2, 3, 4}
    too_long = next(error for error in view.errors if error.row == 3)
    assert (too_long.field, too_long.message) == ("id", "id must have 1 to 200 characters.")
    report = [finding async for finding in i.service.report("s", view.import_id)]
    assert {(finding.row, finding.kind) for finding in report} >= {
        (2, "failure"),
        (3, "failure"),
        (4, "failure"),
    }


async def test_a_file_of_which_no_row_goes_in_has_failed(i: ImportBench) -> None:
    view = await i.run(feed(("a", "1.00 EUR"), ("b", "2.00 EUR")))
    assert (view.status, view.counts["failed"]) == ("error", 2)
    assert view.message == "No row of the file could be imported; the errors say why."


async def test_findings_are_stored_up_to_a_limit_and_counted_beyond(
    i: ImportBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(import_tally._MAX_STORED, "failure", 5)
    monkeypatch.setattr(import_runner, "_CHUNK_ENTRIES", 4)
    view = await i.run(feed(*((f"i{number}", "bad") for number in range(12)), ("ok", "1.00 USD")))
    assert counted(view) == (1, 0, 0, 0, 12)
    report = [finding async for finding in i.service.report("s", view.import_id)]
    assert [finding.row for finding in report if finding.kind == "failure"] == [1, 2, 3, 4, 5]


async def test_variations_before_their_parent_find_it(
    i: ImportBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_runner, "_CHUNK_ENTRIES", 2)
    content = woo(
        "1,simple,,Mug,1,Text,1,5,3,Kitchen,https://x.example/m.jpg,",
        "11,variation,,Shirt - S,1,,1,1,10,,https://x.example/s.jpg,id:10",
        "12,variation,,Shirt - M,1,,1,2,11,,https://x.example/s.jpg,id:10",
        "99,variation,,Lost,1,,1,2,11,,https://x.example/s.jpg,id:98",
        "10,variable,,Shirt,1,Text,1,,,Clothes,https://x.example/p.jpg,",
    )
    view = await i.run(content)
    assert (view.status, view.format) == ("partial", "woocommerce-csv")
    assert counted(view) == (3, 0, 0, 0, 1)
    assert view.counts["products"] == 2
    assert [(error.row, error.item_id) for error in view.errors] == [(4, "99")]
    shirt = await i.b.catalog.get_product("s", "10")
    assert (shirt.product.title, [one.id for one in shirt.product.variants]) == ("Shirt", ["11", "12"])
    i.b.sink.take()
    before = await i.b.snapshot()
    assert counted(await i.run(content)) == (0, 0, 3, 0, 1)
    assert (await i.b.snapshot(), i.b.sink.calls) == (before, [])


async def test_a_parent_that_cannot_be_stored_is_named_and_is_no_item(i: ImportBench) -> None:
    """What the figures add up to is the items of the file, of which it is none."""
    long = "9" * 201
    view = await i.run(
        woo(
            f"{long},variable,,Shirt,1,Text,1,,,Clothes,https://x.example/p.jpg,",
            f"11,variation,,Shirt - S,1,,1,1,10,,https://x.example/s.jpg,id:{long}",
            "1,simple,,Mug,1,Text,1,5,3,Kitchen,https://x.example/m.jpg,",
        )
    )
    assert (view.status, counted(view)) == ("partial", (1, 0, 0, 0, 1))
    assert [(error.row, error.item_id) for error in view.errors] == [(1, None), (2, "11")]
    view = await i.run(woo(f"{long},variable,,Shirt,1,Text,1,,,Clothes,https://x.example/p.jpg,"))
    assert (view.status, counted(view)) == ("partial", (0, 0, 0, 0, 0))


async def test_variations_of_a_stored_parent_leave_it_as_it_is(i: ImportBench) -> None:
    await i.b.catalog.put_product("s", product("10", variant("11", 5), title="Stored", source="api"))
    view = await i.run(woo("11,variation,,Shirt - S,1,,1,1,10,,https://x.example/s.jpg,id:10"))
    assert counted(view) == (0, 1, 0, 0, 0)
    stored = await i.b.catalog.get_product("s", "10")
    assert (stored.product.title, stored.product.source) == ("Stored", "api")


async def test_an_upload_in_pieces_is_put_together(i: ImportBench) -> None:
    content = feed(*((f"i{number:04}", "1.00 USD") for number in range(50)))

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 100):
            yield content[start : start + 100]

    import_id = await i.service.create("s", file_name="feed.csv")
    await i.service.upload("s", import_id, pieces())
    assert await i.runner.run_next()
    assert counted(await i.service.get("s", import_id)) == (50, 0, 0, 0, 0)

    import_id = await i.service.create("s", file_name="feed.csv", source="other")
    for number in (1, 0, 0):
        half = content[: len(content) // 2] if number == 0 else content[len(content) // 2 :]
        await i.service.append_chunk("s", import_id, number, half)
    view = await i.service.get("s", import_id)
    assert (view.status, view.size_bytes, view.progress) == ("uploading", len(content), 0)
    await i.service.finish_upload("s", import_id)
    with pytest.raises(ConflictError):
        await i.service.append_chunk("s", import_id, 2, b"x")
    assert await i.runner.run_next()
    assert counted(await i.service.get("s", import_id))[:3] == (0, 50, 0)


async def test_an_upload_with_a_missing_piece_or_without_a_byte_is_refused(i: ImportBench) -> None:
    import_id = await i.service.create("s")
    with pytest.raises(ValidationFailedError, match="empty"):
        await i.service.finish_upload("s", import_id)
    await i.service.append_chunk("s", import_id, 0, b"x")
    await i.service.append_chunk("s", import_id, 3, b"x")
    with pytest.raises(ValidationFailedError, match="lacks 2 of its pieces"):
        await i.service.finish_upload("s", import_id)


async def test_an_upload_beyond_the_limit_ends_at_once(i: ImportBench) -> None:
    service = ImportService(i.b.database, i.b.queue, max_upload_bytes=10)
    import_id = await service.create("s")
    await service.append_chunk("s", import_id, 0, b"12345")
    with pytest.raises(PayloadTooLargeError, match="10 bytes"):
        await service.append_chunk("s", import_id, 1, b"678901")
    view = await service.get("s", import_id)
    assert (view.status, view.error_code) == ("error", "file_not_received")
    assert view.message is not None
    assert "10 bytes" in view.message
    assert await i.b.rows("SELECT 1 FROM import_chunks") == []
    with pytest.raises(ConflictError):
        await service.append_chunk("s", import_id, 1, b"6")


async def test_what_cannot_be_imported_is_refused_at_once(i: ImportBench) -> None:
    with pytest.raises(ConflictError, match="currency"):
        await i.service.create("bare")
    with pytest.raises(ValidationFailedError) as caught:
        await i.service.create("s", mode="merge")
    assert caught.value.details[0].field == "mode"
    with pytest.raises(ValidationFailedError, match="google-rss"):
        await i.service.create("s", format="pdf")
    with pytest.raises(ValidationFailedError):
        await i.service.create("s", source="\n")
    with pytest.raises(NotFoundError):
        await i.service.create("nobody")
    for call in (i.service.get("t", "import_x"), i.service.finish_upload("t", "import_x")):
        with pytest.raises(NotFoundError):
            await call
    import_id = await i.uploaded(b"\x89PNG\r\n\x1a\n" + b"\x00" * 100, file_name="x.png")
    view = await i.service.get("s", import_id)
    assert view.status == "error"
    assert view.message
    assert not await i.runner.run_next()


async def test_another_store_sees_nothing_of_an_import(i: ImportBench) -> None:
    view = await i.run(feed(("a", "1.00 USD"), ("b", "bad")))
    with pytest.raises(NotFoundError):
        await i.service.get("t", view.import_id)
    with pytest.raises(NotFoundError):
        await i.service.append_chunk("t", view.import_id, 0, b"x")
    with pytest.raises(NotFoundError):
        _ = [finding async for finding in i.service.report("t", view.import_id)]
    assert (await i.service.list("t")).rows == []
    found = await i.service.list("s")
    assert ([one.import_id for one in found.rows], found.total) == ([view.import_id], 1)


async def test_imports_of_one_source_wait_for_each_other_and_others_do_not(
    i: ImportBench, database: Database
) -> None:
    content = feed(("a", "1.00 USD"))
    first = await i.uploaded(content)
    second = await i.uploaded(content)
    other = await i.uploaded(content, source="elsewhere")
    async with database.platform() as connection:
        lease = await lease_import(connection)
    assert lease is not None
    assert lease.import_id == first
    assert not await i.runner.run(second)
    assert await i.runner.run_next()
    assert (await i.service.get("s", other)).status == "success"
    assert (await i.service.get("s", second)).status == "queued"
    assert not await i.runner.run_next()
    await i.expire_leases()
    assert await i.runner.run_next()
    assert (await i.service.get("s", first)).status == "success"
    assert await i.runner.run_next()
    assert (await i.service.get("s", second)).status == "success"


async def test_an_import_that_is_killed_goes_on_and_counts_everything_once(
    i: ImportBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_runner, "_CHUNK_ENTRIES", 3)
    rows = [(f"i{number:02}", "1.00 USD") for number in range(10)]
    rows[4] = ("i04", "bad")
    rows[8] = ("i01", "9.00 USD")
    import_id = await i.uploaded(feed(*rows))
    arm("import.after_chunk", "raise@2")
    assert await i.runner.run_next()
    view = await i.service.get("s", import_id)
    assert (view.status, counted(view)) == ("running", (5, 0, 0, 0, 1))
    assert 0 < view.progress < 100
    assert not await i.runner.run_next(), "it must wait before it starts again"
    # News that comes in meanwhile is not overwritten by rows that were settled before.
    await i.b.catalog.put_inventory("s", [("i00", stock(7))])
    await i.b.catalog.put_product("s", product("i01", variant("i01", 4242)))
    await i.expire_leases()
    assert await i.runner.run_next()
    view = await i.service.get("s", import_id)
    assert (view.status, counted(view), view.counts["rows"]) == ("partial", (8, 0, 0, 0, 2), 10)
    assert [error.row for error in view.errors] == [5, 9]
    assert await i.b.rows("SELECT price FROM variants WHERE variant_id = 'i01'") == [(4242,)]


@pytest.mark.parametrize("passage", [1, 2, 3, 4, 5, 6, 7, 8])
async def test_an_import_with_late_parents_survives_a_stop_after_any_chunk(
    i: ImportBench, monkeypatch: pytest.MonkeyPatch, passage: int
) -> None:
    monkeypatch.setattr(import_runner, "_CHUNK_ENTRIES", 2)
    content = woo(
        "1,simple,,Mug,1,Text,1,5,3,Kitchen,https://x.example/m.jpg,",
        "2,simple,,Cup,1,Text,1,5,3,Kitchen,https://x.example/m.jpg,",
        "11,variation,,S,1,,1,1,10,,https://x.example/s.jpg,id:10",
        "21,variation,,S,1,,1,1,10,,https://x.example/s.jpg,id:20",
        "20,variable,,Coat,1,Text,1,,,Clothes,https://x.example/p.jpg,",
        "10,variable,,Shirt,1,Text,1,,,Clothes,https://x.example/p.jpg,",
    )
    import_id = await i.uploaded(content)
    arm("import.after_chunk", f"raise@{passage}")
    assert await i.runner.run_next()
    await i.expire_leases()
    await i.runner.run_next()
    view = await i.service.get("s", import_id)
    assert (view.status, counted(view), view.counts["products"]) == ("success", (4, 0, 0, 0, 0), 4)


async def test_a_start_that_never_reaches_the_end_is_given_up_after_five(i: ImportBench) -> None:
    import_id = await i.uploaded(feed(("a", "1.00 USD")))
    arm("catalog.before_commit", "raise")
    for _ in range(5):
        assert await i.runner.run_next()
        await i.expire_leases()
    assert (await i.service.get("s", import_id)).status == "running"
    assert await i.runner.run_next()
    view = await i.service.get("s", import_id)
    assert (view.status, view.error_code) == ("error", "import_stopped")
    assert view.message is not None
    assert "stopped 5 times" in view.message
    assert not await i.runner.run_next()


async def test_a_stopped_process_gives_its_import_back(
    i: ImportBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_runner, "_CHUNK_ENTRIES", 1)
    import_id = await i.uploaded(feed(*((f"i{number}", "1.00 USD") for number in range(5))))
    arm("import.after_chunk", "sleep:60@2")
    task = asyncio.create_task(i.runner.run_next())
    while (await i.service.get("s", import_id)).counts["rows"] != 2:
        assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await i.b.rows("SELECT status, starts FROM imports") == [("queued", 0)]
    assert await i.runner.run_next()
    assert counted(await i.service.get("s", import_id)) == (5, 0, 0, 0, 0)


async def test_a_worker_that_lost_its_lease_writes_nothing_more(
    i: ImportBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_runner, "_CHUNK_ENTRIES", 1)
    import_id = await i.uploaded(feed(("a", "1.00 USD"), ("b", "1.00 USD")))
    wake = i.b.queue.wake

    async def steal(name: JobName) -> None:
        await wake(name)
        await i.sql("UPDATE imports SET fence = fence + 1")

    monkeypatch.setattr(i.b.queue, "wake", steal)
    assert await i.runner.run_next()
    view = await i.service.get("s", import_id)
    assert (view.status, counted(view)) == ("running", (1, 0, 0, 0, 0))
    assert await i.b.rows("SELECT variant_id FROM variants") == [("a",)]
