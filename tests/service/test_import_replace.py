"""Mode ``replace``: what the file leaves out goes, and nothing else, whatever the file and the store look like."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy import text

from meta_sync.catalog.ingest import import_runner
from meta_sync.catalog.models import Lane
from meta_sync.core.db import Database
from meta_sync.core.failpoints import arm, disarm_all
from meta_sync.core.queue import JobName
from tests.support.catalog import product, variant
from tests.support.imports import ImportBench, counted, feed, open_imports, rows_of


@pytest.fixture
async def i(database: Database) -> AsyncIterator[ImportBench]:
    async with open_imports(database) as made:
        yield made


@pytest.fixture(autouse=True)
def no_failpoints() -> Iterator[None]:
    yield
    disarm_all()


TEN = [f"i{number}" for number in range(10)]
WOO = "ID,Type,SKU,Name,Published,Description,In stock?,Stock,Regular price,Categories,Images,Parent\n"


def _variation(item: int, parent: int) -> str:
    return f"{item},variation,,S,1,,1,1,10,,https://x.example/s.jpg,id:{parent}\n"


def _parent(item: int) -> str:
    return f"{item},variable,,Shirt,1,Text,1,,,Clothes,https://x.example/p.jpg,\n"


async def test_what_the_file_leaves_out_is_deleted_with_its_intents(i: ImportBench) -> None:
    await i.run(feed(*rows_of("a", "b", "c", group="g"), *rows_of(*TEN)))
    i.b.sink.take()
    i.b.queue.sent.clear()
    view = await i.replace(feed(*rows_of("a", "c", group="g"), *rows_of(*TEN[:8], "new")))
    assert (view.status, view.message, view.error_code) == ("success", None, None)
    assert counted(view) == (1, 0, 10, 0, 0, 3)
    assert await i.live() == ["a", "c", *TEN[:8], "new"]
    assert i.b.sink.take() == {"b": Lane.LIVE, "i8": Lane.LIVE, "i9": Lane.LIVE, "new": Lane.BULK}
    assert JobName.DRAIN in i.b.queue.sent
    assert await i.b.rows("SELECT product_id FROM products WHERE deleted_at IS NOT NULL ORDER BY 1") == [
        ("i8",),
        ("i9",),
    ]
    lines = [(line.kind, line.item_id, line.rule) for line in await i.report(view.import_id)]
    assert lines == [("delete", item, "absent") for item in ("b", "i8", "i9")]
    assert await i.b.rows("SELECT 1 FROM import_seen") == []

    before = await i.b.snapshot()
    view = await i.replace(feed(*rows_of("a", "c", group="g"), *rows_of(*TEN[:8], "new")))
    assert counted(view) == (0, 0, 11, 0, 0, 0)
    assert (await i.b.snapshot(), i.b.sink.calls) == (before, [])


async def test_the_last_but_one_of_a_group_gives_the_rest_another_look(i: ImportBench) -> None:
    await i.run(feed(*rows_of("a", "b", group="g"), *rows_of(*TEN)))
    i.b.sink.take()
    await i.replace(feed(*rows_of("a", group="g"), *rows_of(*TEN)))
    assert i.b.sink.take() == {"a": Lane.CONTENT, "b": Lane.LIVE}


async def test_a_file_cut_at_a_row_boundary_deletes_nothing(i: ImportBench) -> None:
    """Such a file is well-formed: nothing but what it leaves out shows that it is half of one."""
    content = feed(*rows_of(*TEN))
    await i.run(content)
    before = await i.b.snapshot()
    i.b.sink.take()
    lines = content.splitlines(keepends=True)
    for kept in (1, 5, 7):
        view = await i.replace(b"".join(lines[:kept]))
        assert (view.status, view.error_code) == ("error", "CONFLICT"), kept
        assert counted(view) == (0, 0, 0, 0, 0, 0)
    assert await i.b.snapshot() == before
    assert i.b.sink.calls == []
    # Cut within a row: what is left of the row may be any item.
    view = await i.replace(content[:-30])
    assert view.status == "partial"
    assert view.message is not None
    assert "Row 10 cannot be read and may be any item of the store, so nothing was deleted." in view.message
    assert await i.live() == TEN


async def test_sixty_percent_missing_is_refused_with_figures_unless_it_is_meant(i: ImportBench) -> None:
    await i.run(feed(*rows_of(*TEN)))
    i.b.sink.take()
    before = await i.b.snapshot()
    four = feed(*rows_of(*TEN[:4], price="2.00 USD"))
    view = await i.replace(four)
    assert (view.status, view.error_code) == ("error", "CONFLICT")
    assert view.message == (
        "The file leaves out 6 of the 10 items of the source google-csv (60%); one import may delete at most 30%. "
        "Nothing was imported and nothing deleted. If the file is whole and this is meant, import it again with "
        "allowMassDelete."
    )
    assert (await i.b.snapshot(), i.b.sink.calls) == (before, [])
    view = await i.replace(four, allow_mass_delete=True)
    assert (view.status, counted(view), view.allow_mass_delete) == ("success", (0, 4, 0, 0, 0, 6), True)
    assert await i.live() == TEN[:4]


async def test_the_share_is_the_setting_of_the_store_and_exactly_it_is_not_above_it(i: ImportBench) -> None:
    await i.run(feed(*rows_of(*TEN)))
    assert counted(await i.replace(feed(*rows_of(*TEN[:7]))))[-1] == 3
    await i.sql(
        """UPDATE stores SET settings = '{"currency": "USD", "guardMaxShare": 0.1}' WHERE store_id = 's'"""
    )
    view = await i.replace(feed(*rows_of(*TEN[:6])))
    assert view.error_code == "CONFLICT"
    assert await i.live() == TEN[:7]


async def test_nothing_of_another_source_or_of_the_api_is_touched(i: ImportBench) -> None:
    await i.run(feed(*rows_of("x1", "x2", "x3")), source="other")
    await i.b.catalog.put_product("s", product("api-made", variant("y1"), variant("y2")))
    await i.run(feed(*rows_of(*TEN)), source="main")
    before = await i.b.rows(
        "SELECT t.xmin::text, t.* FROM variants t WHERE variant_id < 'i' OR variant_id > 'j'"
    )
    view = await i.replace(feed(*rows_of(*TEN[:8])), source="main")
    assert counted(view)[-1] == 2
    assert await i.live() == [*TEN[:8], "x1", "x2", "x3", "y1", "y2"]
    view = await i.replace(feed(*rows_of("z")), source="third")
    assert (view.status, counted(view)) == ("success", (1, 0, 0, 0, 0, 0))
    after = await i.b.rows(
        "SELECT t.xmin::text, t.* FROM variants t WHERE variant_id < 'i' OR variant_id > 'j'"
    )
    assert [row for row in after if row[2] != "z"] == before


async def test_what_the_file_takes_over_from_another_source_is_not_deleted_at_once(i: ImportBench) -> None:
    """The other source's items of a product were never this one's to leave out."""
    await i.run(feed(*rows_of(*TEN)), source="main")
    await i.run(feed(*rows_of("a", "b", group="g")), source="other")
    view = await i.replace(feed(*rows_of(*TEN), *rows_of("a", group="g")), source="main")
    assert counted(view)[-1] == 0
    assert await i.live() == ["a", "b", *TEN]


async def test_items_of_a_shared_product_stay_whose_they_are(i: ImportBench) -> None:
    """The product belongs to whoever named it last, each of its items to whoever named that one."""
    await i.run(feed(*rows_of("a1", "a2", group="g"), *rows_of(*TEN[:5])), source="one")
    await i.b.catalog.put_product("s", product("api-made", variant("y1"), variant("y2")))
    i.b.sink.take()
    two = feed(*rows_of("a1", group="g"), *rows_of("y1", group="api-made"), *rows_of(*TEN[5:]))
    await i.run(two, source="two")
    i.b.sink.take()
    before = await i.b.snapshot()
    # Two has 7 items, of which it names all: what others have in its products is none of them.
    assert counted(await i.replace(two, source="two")) == (0, 0, 7, 0, 0, 0)
    assert (await i.b.snapshot(), i.b.sink.calls) == (before, [])
    assert await i.live() == ["a1", "a2", *TEN, "y1", "y2"]

    # Of the same product one source drops the item that is its own; the product is the other's.
    view = await i.replace(feed(*rows_of(*TEN[:5])), source="one")
    assert (view.status, counted(view)) == ("success", (0, 0, 5, 0, 0, 1))
    assert await i.live() == ["a1", *TEN, "y1", "y2"]
    view = await i.replace(feed(*rows_of("y1", group="api-made"), *rows_of(*TEN[5:])), source="two")
    assert counted(view) == (0, 0, 6, 0, 0, 1)
    assert await i.b.rows("SELECT product_id FROM products WHERE deleted_at IS NOT NULL") == [("g",)]


async def test_an_item_goes_back_to_its_first_source_when_that_names_it_again(i: ImportBench) -> None:
    whole = feed(*rows_of("a1", "a2", "a3", "a4", group="g"))
    await i.run(whole, source="one")
    await i.run(feed(*rows_of("a1", "a2", group="g")), source="two")
    assert (await i.replace(whole, source="one")).status == "success"
    assert await i.b.rows("SELECT DISTINCT source FROM variants") == [(None,)]
    assert counted(await i.replace(feed(*rows_of("z")), source="two")) == (1, 0, 0, 0, 0, 0)
    assert counted(await i.replace(feed(*rows_of("a2", "a3", "a4", group="g")), source="one"))[-1] == 1
    assert await i.live() == ["a2", "a3", "a4", "z"]


async def test_whose_an_item_is_changes_nothing_that_anybody_sees(i: ImportBench) -> None:
    """A file of variations only: their product belongs to another source and stays as it is."""
    whole = WOO + _parent(100) + "".join(_variation(item, 100) for item in (101, 102))
    await i.run(whole.encode(), source="one")
    variations = (WOO + _variation(101, 100)).encode()
    i.b.sink.take()
    before = await i.b.rows("SELECT variant_id, version, updated_at FROM variants ORDER BY 1")
    tried = await i.replace(variations, source="two", dry_run=True)
    assert counted(tried) == (0, 0, 1, 0, 0, 0)
    assert counted(await i.replace(variations, source="two")) == (0, 0, 1, 0, 0, 0)
    assert await i.b.rows("SELECT variant_id, source FROM variants ORDER BY 1") == [
        ("101", "two"),
        ("102", None),
    ]
    assert await i.b.rows("SELECT variant_id, version, updated_at FROM variants ORDER BY 1") == before
    assert i.b.sink.calls == []
    # The item that two has is the only one that it can leave out, and the only one that one cannot.
    view = await i.replace((WOO + _parent(100) + _variation(102, 100)).encode(), source="one")
    assert (counted(view), await i.live()) == ((0, 0, 1, 0, 0, 0), ["101", "102"])
    view = await i.replace(feed(*rows_of("z")), source="two", allow_mass_delete=True)
    assert (counted(view), await i.live()) == ((1, 0, 0, 0, 0, 1), ["102", "z"])


async def test_a_body_takes_its_product_with_all_that_it_names(i: ImportBench) -> None:
    await i.run(feed(*rows_of("a1", "a2", group="g"), *rows_of(*TEN)), source="one")
    await i.run(feed(*rows_of("a1", group="g")), source="two")
    await i.b.catalog.put_product("s", product("g", variant("a1"), variant("a2")))
    assert await i.b.rows("SELECT DISTINCT source FROM variants") == [(None,)]
    for source in ("one", "two"):
        await i.replace(feed(*rows_of(*TEN)), source=source, allow_mass_delete=True)
    assert await i.live() == ["a1", "a2", *TEN]


@pytest.mark.parametrize("where", ["import.after_survey", "import.after_chunk", "import.before_deletion"])
async def test_an_item_that_changed_hands_meanwhile_stays(i: ImportBench, where: str) -> None:
    await i.run(feed(*rows_of(*TEN)), source="main")
    import_id = await i.uploaded(feed(*rows_of(*TEN[:8])), source="main", mode="replace")
    arm(where, "raise@2" if where == "import.after_survey" else "raise@1")
    assert await i.runner.run(import_id)
    disarm_all()
    assert (await i.service.get("s", import_id)).status == "running"
    # One goes to another feed, the other into a product of the API; both are alive and not in our hands.
    await i.sql("UPDATE products SET source = 'other' WHERE product_id = 'i8'")
    await i.b.catalog.put_product("s", product("api-made", variant("i9")))
    await i.expire_leases()
    assert await i.runner.run(import_id)
    view = await i.service.get("s", import_id)
    assert (view.status, counted(view)[-1]) == ("success", 0)
    assert await i.live() == TEN


async def test_an_item_that_changes_hands_in_the_moment_of_its_deletion_stays(
    i: ImportBench, database: Database
) -> None:
    await i.run(feed(*rows_of(*TEN)), source="main")
    import_id = await i.uploaded(feed(*rows_of(*TEN[:8])), source="main", mode="replace")
    async with database.platform() as connection:
        await connection.execute(text("UPDATE products SET source = 'other' WHERE product_id = 'i8'"))
        running = asyncio.create_task(i.runner.run(import_id))
        waiting = "SELECT 1 FROM pg_locks WHERE NOT granted"
        while not await i.b.rows(waiting):
            assert not running.done()
    assert await running
    assert counted(await i.service.get("s", import_id))[-1] == 1
    assert await i.live() == TEN[:9]


async def test_items_made_while_the_import_runs_stay(i: ImportBench) -> None:
    await i.run(feed(*rows_of(*TEN)), source="main")
    import_id = await i.uploaded(feed(*rows_of(*TEN)), source="main", mode="replace")
    arm("import.before_deletion", "raise")
    assert await i.runner.run(import_id)
    disarm_all()
    await i.b.catalog.put_product("s", product("fresh", variant("fresh"), source="main"))
    await i.expire_leases()
    assert await i.runner.run(import_id)
    assert await i.live() == ["fresh", *TEN]


async def test_a_store_that_shrank_meanwhile_is_asked_about_again(i: ImportBench) -> None:
    await i.run(feed(*rows_of(*TEN)))
    import_id = await i.uploaded(feed(*rows_of(*TEN[:8])), mode="replace")
    arm("import.before_deletion", "raise")
    assert await i.runner.run(import_id)
    disarm_all()
    for item in TEN[:5]:
        await i.b.catalog.delete_product("s", item)
    i.b.sink.take()
    await i.expire_leases()
    assert await i.runner.run(import_id)
    view = await i.service.get("s", import_id)
    assert (view.status, counted(view)[-1]) == ("partial", 0)
    assert view.message is not None
    assert "to delete 2 of them is more than 30%, so nothing was deleted" in view.message
    assert await i.live() == TEN[5:]
    assert i.b.sink.calls == []


async def test_rows_that_fail_by_name_are_no_reason_to_delete_their_items(i: ImportBench) -> None:
    await i.run(feed(*rows_of(*TEN)))
    view = await i.replace(feed(*rows_of(*TEN[:7]), ("i7", "broken"), ("never-there", "broken")))
    assert (view.status, counted(view)) == ("partial", (0, 0, 7, 0, 2, 2))
    assert await i.live() == TEN[:8]


async def test_a_failed_row_without_a_name_may_be_any_item(
    i: ImportBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await i.run(feed(*rows_of(*TEN)))
    monkeypatch.setattr(import_runner, "_CHUNK_ENTRIES", 9)
    import_id = await i.uploaded(feed(*rows_of(*TEN[:8], price="2.00 USD"), ("", "1.00 USD")), mode="replace")
    # A stop in the survey: the row is counted once.
    arm("import.after_survey", "raise")
    assert await i.runner.run(import_id)
    disarm_all()
    await i.expire_leases()
    assert await i.runner.run(import_id)
    view = await i.service.get("s", import_id)
    assert (view.status, counted(view)) == ("partial", (0, 8, 0, 0, 1, 0))
    assert view.message == (
        "Row 9 cannot be read and may be any item of the store, so nothing was deleted. Mend the file and import it again."
    )
    assert await i.live() == TEN


async def test_a_file_without_items_is_refused_and_one_of_failures_deletes_nothing(i: ImportBench) -> None:
    await i.run(feed(*rows_of(*TEN)))
    view = await i.replace(feed(), allow_mass_delete=True)
    assert (view.status, view.error_code) == ("error", "CONFLICT")
    assert view.message is not None
    assert "no items" in view.message
    view = await i.replace(feed(*rows_of(*TEN[:2], price="broken")), allow_mass_delete=True)
    assert (view.status, counted(view)) == ("error", (0, 0, 0, 0, 2, 0))
    assert view.message is not None
    assert "nothing was deleted" in view.message
    assert await i.live() == TEN


async def test_a_file_that_breaks_off_is_refused_before_anything_is_written(i: ImportBench) -> None:
    await i.run(feed(*rows_of(*TEN)))
    items = "".join(
        f"<item><g:id>{item}</g:id><g:title>T</g:title><g:price>9.00 USD</g:price><g:link>https://x.example/</g:link>"
        "<g:image_link>https://x.example/i.jpg</g:image_link></item>"
        for item in [*TEN, "new"]
    )
    content = f'<rss version="2.0" xmlns:g="http://base.google.com/ns/1.0"><channel>{items}'.encode()
    before = await i.b.snapshot()
    view = await i.replace(content, source="google-csv", file_name="feed.xml")
    assert (view.format, view.status) == ("google-rss", "error")
    assert view.message is not None
    assert view.message.endswith("Nothing was imported and nothing deleted.")
    assert await i.b.snapshot() == before


async def test_a_product_that_the_file_still_names_stays_without_its_items(i: ImportBench) -> None:
    whole = WOO + _parent(100) + "".join(_variation(item, 100) for item in range(101, 105))
    whole += _parent(200) + _variation(201, 200)
    await i.run(whole.encode())
    rest = (
        WOO + _parent(100) + "".join(_variation(item, 100) for item in range(101, 105)) + _parent(200)
    ).encode()
    view = await i.replace(rest)
    assert counted(view) == (0, 0, 4, 0, 0, 1)
    assert await i.b.rows("SELECT product_id FROM products WHERE deleted_at IS NOT NULL") == []
    before = await i.b.snapshot()
    assert counted(await i.replace(rest)) == (0, 0, 4, 0, 0, 0)
    assert await i.b.snapshot() == before


async def test_a_product_without_items_goes_unless_the_file_names_it(i: ImportBench) -> None:
    items = "".join(_variation(item, 100) for item in (101, 102))
    await i.run((WOO + _parent(100) + items + _parent(200) + _parent(300)).encode(), source="one")
    await i.run((WOO + _parent(400)).encode(), source="two")
    i.b.sink.take()
    import_id = await i.uploaded(
        (WOO + _parent(100) + items + _parent(200)).encode(), source="one", mode="replace"
    )
    arm("import.before_deletion", "raise")
    assert await i.runner.run(import_id)
    disarm_all()
    # Made since the file was read: not what it leaves out.
    await i.b.catalog.put_product("s", product("fresh", source="one"))
    await i.expire_leases()
    assert await i.runner.run(import_id)
    assert counted(await i.service.get("s", import_id)) == (0, 0, 2, 0, 0, 0)
    gone = await i.b.rows("SELECT product_id FROM products WHERE deleted_at IS NOT NULL")
    assert (gone, i.b.sink.calls) == ([("300",)], [])


def _timed(*ids: str, day: int = 3) -> bytes:
    """Products of one item each as NDJSON, last changed on a day in May."""
    bodies = (
        {"id": one, "title": one, "updatedAt": f"2026-05-{day:02}T10:00:00Z", "variants": [{"id": f"{one}1"}]}
        for one in ids
    )
    return b"".join(json.dumps(body).encode() + b"\n" for body in bodies)


@pytest.mark.parametrize("dry_run", [False, True])
async def test_what_was_left_out_once_comes_back_though_its_source_did_not_touch_it(
    i: ImportBench, *, dry_run: bool
) -> None:
    await i.replace(_timed("a", "b", "c", "d"))
    assert counted(await i.replace(_timed("a", "b", "c"))) == (0, 0, 3, 0, 0, 1)
    view = await i.replace(_timed("a", "b", "c", "d"), dry_run=dry_run)
    assert (view.status, counted(view)) == ("success", (1, 0, 3, 0, 0, 0))
    assert await i.live() == ["a1", "b1", "c1", *([] if dry_run else ["d1"])]


@pytest.mark.parametrize(("mode", "day"), [("replace", 2), ("upsert", 2), ("upsert", 3)])
async def test_news_from_before_a_deletion_is_left_out_and_called_that(
    i: ImportBench, mode: str, day: int
) -> None:
    """It used to be said of such a row that its product was not in the file."""
    await i.run(_timed("a"))
    await i.b.catalog.delete_product("s", "a")
    view = await i.run(_timed("a", day=day), mode=mode)
    assert (view.status, counted(view)) == ("success", (0, 0, 0, 1, 0, 0))
    assert [finding.rule for finding in await i.report(view.import_id)] == ["stale"]
    assert await i.live() == []
