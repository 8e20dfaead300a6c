"""Dry runs: everything is read, judged and counted against the store as it is, and nothing is written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from meta_sync.catalog.ingest import import_limits, import_runner
from meta_sync.catalog.ingest.import_rows import lease_import
from meta_sync.core.db import Database
from meta_sync.core.failpoints import arm, disarm_all
from meta_sync.core.queue import JobName
from tests.support.catalog import product, variant
from tests.support.imports import ImportBench, counted, feed, open_imports, rows_of

WOO = "ID,Type,SKU,Name,Published,Description,In stock?,Stock,Regular price,Categories,Images,Parent\n"


@pytest.fixture
async def i(database: Database) -> AsyncIterator[ImportBench]:
    async with open_imports(database) as made:
        yield made


@pytest.fixture(autouse=True)
def no_failpoints() -> Iterator[None]:
    yield
    disarm_all()


async def lines(i: ImportBench, import_id: str) -> list[tuple[int, str, str | None, str, str]]:
    return [(one.row, one.kind, one.item_id, one.field, one.message) for one in await i.report(import_id)]


async def test_it_says_what_would_change_and_writes_nothing(i: ImportBench) -> None:
    await i.run(feed(*rows_of("a", "b", "c")))
    i.b.sink.take()
    i.b.queue.sent.clear()
    before = await i.b.snapshot()
    content = feed(
        ("a", "2.50 USD"),
        ("b", "1.00 USD", "", "Another title"),
        ("c", "1.00 USD"),
        ("d", "4.00 USD"),
        ("e", "x"),
    )
    view = await i.run(content, dry_run=True)
    assert (view.status, view.dry_run) == ("partial", True)
    assert view.message == "This was a dry run: nothing was written."
    assert counted(view) == (1, 2, 1, 0, 1, 0)
    assert (await i.b.snapshot(), i.b.sink.calls) == (before, [])
    assert JobName.DRAIN not in i.b.queue.sent
    told = await lines(i, view.import_id)
    assert [line for line in told if line[1] in {"create", "change"}] == [
        (1, "change", "a", "price", "price 1.00 -> 2.50 USD"),
        (2, "change", "b", "title", "title Title b -> Another title"),
        (4, "create", "d", "", "Title d, 4.00 USD"),
    ]
    assert [error.row for error in view.errors] == [5]
    assert await i.b.rows("SELECT 1 FROM import_seen UNION ALL SELECT 1 FROM import_chunks") == []
    # What it foretold is what happens.
    assert counted(await i.run(content)) == counted(view)
    assert counted(await i.run(content, dry_run=True)) == (0, 0, 4, 0, 1, 0)


@pytest.mark.parametrize("entries", [1, 2, 100])
async def test_it_counts_as_the_import_does_whatever_the_chunks(
    i: ImportBench, monkeypatch: pytest.MonkeyPatch, entries: int
) -> None:
    """Products that the file itself makes, renames, revives or takes over stand in for those of the store."""
    monkeypatch.setattr(import_runner, "_CHUNK_ENTRIES", entries)
    await i.run(feed(*rows_of("a", "b", group="g"), *rows_of("gone")))
    await i.b.catalog.delete_product("s", "gone")
    await i.b.catalog.put_product("s", product("api-made", variant("m", 100)))
    content = feed(
        *rows_of("a", group="renamed"),
        *rows_of("n1", "n2", "n3", group="fresh"),
        *rows_of("gone"),
        *rows_of("late", group="gone"),
        *rows_of("m", group="api-made"),
        *rows_of("b", group="g"),
        *rows_of("n1", group="fresh"),
    )
    before = await i.b.snapshot()
    tried = await i.run(content, dry_run=True)
    assert await i.b.snapshot() == before
    assert counted(tried) == counted(await i.run(content)) == (5, 2, 1, 0, 1, 0)


@pytest.mark.parametrize("entries", [1, 2, 100])
async def test_variations_find_parents_that_only_the_file_has(
    i: ImportBench, monkeypatch: pytest.MonkeyPatch, entries: int
) -> None:
    monkeypatch.setattr(import_runner, "_CHUNK_ENTRIES", entries)
    content = WOO + (
        "11,variation,,S,1,,1,1,10,,https://x.example/s.jpg,id:10\n"
        "12,variation,,M,1,,1,2,11,,https://x.example/s.jpg,id:10\n"
        "99,variation,,Lost,1,,1,2,11,,https://x.example/s.jpg,id:98\n"
        "10,variable,,Shirt,1,Text,1,,,Clothes,https://x.example/p.jpg,\n"
        "1,simple,,Mug,1,Text,1,5,3,Kitchen,https://x.example/m.jpg,\n"
    )
    tried = await i.run(content.encode(), dry_run=True)
    assert counted(tried) == (3, 0, 0, 0, 1, 0)
    assert [(error.item_id, error.rule) for error in tried.errors] == [("99", "no_product")]
    assert await i.b.rows("SELECT 1 FROM products UNION ALL SELECT 1 FROM variants") == []
    real = await i.run(content.encode())
    assert (counted(real), real.counts["products"]) == (counted(tried), tried.counts["products"])
    changed = content.replace(",5,3,", ",7,3,").encode()
    told = await lines(i, (await i.run(changed, dry_run=True)).import_id)
    assert ("1", "quantity on hand 5 -> 7") in {(line[2], line[4]) for line in told}


async def test_a_product_that_fails_is_no_item_and_is_told_of_by_its_variations(i: ImportBench) -> None:
    long_id = "x" * 300
    content = WOO + (
        "11,variation,,S,1,,1,1,10,,https://x.example/s.jpg,id:10\n"
        f"21,variation,,S,1,,1,1,10,,https://x.example/s.jpg,id:{long_id}\n"
        "31,variation,,S,1,,1,1,10,,https://x.example/s.jpg,id:30\n"
        "41,variation,,S,1,,1,1,10,,https://x.example/s.jpg,id:40\n"
        "1,simple,,Mug,1,Text,1,5,3,Kitchen,https://x.example/m.jpg,\n"
        "10,variable,,Shirt,what,Text,1,,,Clothes,https://x.example/p.jpg,\n"
        f"{long_id},variable,,Shirt,1,Text,1,,,Clothes,https://x.example/p.jpg,\n"
        f"30,variable,,{'x' * 100_001},1,Text,1,,,Clothes,https://x.example/p.jpg,\n"
    )
    for dry_run in (True, False):
        view = await i.run(content.encode(), dry_run=dry_run)
        assert (view.status, counted(view)) == ("partial", (1, 0, 0, 0, 4, 0))
        told = {error.item_id: error.message for error in view.errors if error.rule == "no_product"}
        assert told == {
            "11": "The product 10 of this item is not in the store, and its row in the file did not go in.",
            "31": "The product 30 of this item is not in the store, and its row in the file did not go in.",
            "41": "The product 40 of this item is neither in the file nor in the store.",
        }


async def test_with_replace_it_tells_what_would_go(i: ImportBench) -> None:
    ids = [f"i{number}" for number in range(10)]
    await i.run(feed(*rows_of(*ids)))
    before = await i.b.snapshot()
    view = await i.replace(feed(*rows_of(*ids[:8])), dry_run=True)
    assert (view.status, counted(view)) == ("success", (0, 0, 8, 0, 0, 2))
    assert await lines(i, view.import_id) == [
        (0, "delete", item, "id", "The file leaves this item out; it would be deleted.") for item in ids[8:]
    ]
    view = await i.replace(feed(*rows_of(*ids[:3], "new")), dry_run=True)
    assert (view.status, view.error_code, counted(view)) == ("error", "CONFLICT", (1, 0, 3, 0, 0, 7))
    assert view.message == (
        "This was a dry run: nothing was written. The file leaves out 7 of the 10 items of the source google-csv (70%); "
        "one import may delete at most 30%. It would be refused. If the file is whole and this is meant, import it again "
        "with allowMassDelete."
    )
    view = await i.replace(feed(), dry_run=True)
    assert (view.status, view.error_code, counted(view)) == ("error", "CONFLICT", (0, 0, 0, 0, 0, 0))
    view = await i.replace(feed(*rows_of(*ids[:3])), dry_run=True, allow_mass_delete=True)
    assert (view.status, counted(view)) == ("success", (0, 0, 3, 0, 0, 7))
    view = await i.replace(feed(*rows_of(*ids[:8]), ("", "1.00 USD")), dry_run=True)
    assert (view.status, counted(view)) == ("partial", (0, 0, 8, 0, 1, 0))
    assert await i.b.snapshot() == before


async def test_lines_are_stored_up_to_a_limit_and_counted_beyond(
    i: ImportBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("create", "delete"):
        monkeypatch.setitem(import_limits.MAX_STORED_FINDINGS, kind, 3)
    view = await i.run(feed(*rows_of("a", "b", "c", "d", "e")), dry_run=True)
    assert counted(view)[0] == 5
    assert len(await i.report(view.import_id)) == 3
    await i.run(feed(*rows_of("a", "b", "c", "d", "e")))
    view = await i.replace(feed(*rows_of("f")), dry_run=True, allow_mass_delete=True)
    assert counted(view)[-1] == 5
    assert [one.kind for one in await i.report(view.import_id)].count("delete") == 3


@pytest.mark.parametrize("passage", [1, 2, 3, 4])
async def test_it_goes_on_after_a_stop_and_counts_everything_once(
    i: ImportBench, monkeypatch: pytest.MonkeyPatch, passage: int
) -> None:
    monkeypatch.setattr(import_runner, "_CHUNK_ENTRIES", 2)
    await i.run(feed(*rows_of("a", "b", "c", "x")))
    content = feed(*rows_of("a", "b", price="2.00 USD"), *rows_of("c", "d", "e", group="g"))
    import_id = await i.uploaded(content, mode="replace", dry_run=True, allow_mass_delete=True)
    arm("import.after_chunk", f"raise@{passage}")
    await i.runner.run(import_id)
    disarm_all()
    await i.expire_leases()
    await i.runner.run(import_id)
    view = await i.service.get("s", import_id)
    assert (view.status, counted(view)) == ("success", (2, 3, 0, 0, 0, 1))
    assert len(await i.report(import_id)) == 6


async def test_it_waits_for_imports_before_it_and_nobody_waits_for_it(
    i: ImportBench, database: Database
) -> None:
    """It tells what the file would change, so what is on its way comes first; it leaves nothing that others could miss."""
    content = feed(*rows_of("a"))
    first = await i.uploaded(content)
    tried = await i.uploaded(content, dry_run=True)
    last = await i.uploaded(content)
    assert not await i.runner.run(tried)
    assert await i.runner.run(first)
    async with database.platform() as connection:
        lease = await lease_import(connection, tried)
    assert lease is not None
    assert lease.dry_run
    assert await i.runner.run(last)
    await i.expire_leases()
    assert await i.runner.run(tried)
    assert counted(await i.service.get("s", tried)) == (0, 0, 1, 0, 0, 0)


async def test_replacing_imports_of_one_source_run_one_after_the_other(
    i: ImportBench, database: Database
) -> None:
    first = await i.uploaded(feed(*rows_of("a", "b", "c", "d")), mode="replace")
    second = await i.uploaded(feed(*rows_of("a", "b", "c")), mode="replace")
    async with database.platform() as connection:
        assert await lease_import(connection, first) is not None
    assert not await i.runner.run(second)
    await i.expire_leases()
    assert await i.runner.run(first)
    assert await i.runner.run(second)
    assert await i.live() == ["a", "b", "c"]
