"""The failed items of a store, explained: which they are, in which order, and what is said of each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from meta_sync.core.clock import utc_now
from meta_sync.core.db import Database
from meta_sync.core.errors import ValidationFailedError
from meta_sync.core.paging import CursorCodec
from meta_sync.sync.codes import entry_of
from meta_sync.sync.errors_list import ErrorsService
from meta_sync.sync.item_filters import ItemFilter, ItemSort
from meta_sync.sync.items import ItemsService
from tests.support.pipeline import execute, fetch, one
from tests.support.world import World, open_world, variant

_FIRST = datetime(2026, 5, 3, 10, tzinfo=UTC)


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        await world.connect()
        yield world


@pytest.fixture
def errors(database: Database) -> ErrorsService:
    return ErrorsService(ItemsService(database, utc_now, CursorCodec(b"k" * 32)))


async def fail(
    world: World, variant_id: str, code: str, at: datetime | None, said: str | None = None
) -> None:
    await execute(
        world,
        "UPDATE sync_state SET status = 'failed', code = :code, error_text = :said, attempts = 1,"
        " confirmed_hash = NULL, last_pushed_at = CAST(:at AS timestamptz) WHERE variant_id = :variant_id",
        variant_id=variant_id,
        code=code,
        said=said,
        at=at,
    )


async def fill(world: World) -> None:
    await world.put("p", *[variant(f"v{number}") for number in range(6)], title="Lamp")
    await world.put("q", variant("w0"), variant("w1"), title="Chair")
    await world.run()
    await fail(world, "v0", "rejected_by_meta", _FIRST, "The price is wrong. [bold]")
    await fail(world, "v1", "poll_timeout", _FIRST + timedelta(hours=1))
    await fail(world, "v2", "mapping_failed", None)
    await fail(world, "v3", "rejected_by_meta", _FIRST + timedelta(hours=1), "No image.")
    await fail(world, "w1", "too_large", _FIRST + timedelta(hours=2), "Please reduce the amount of data.")


_NEWEST_FIRST = ["w1", "v1", "v3", "v0", "v2"]


async def test_failed_items_come_with_what_their_codes_mean(world: World, errors: ErrorsService) -> None:
    await fill(world)
    found = await errors.list(world.store_id, ItemFilter())
    assert [failed.item.variant_id for failed in found.items] == _NEWEST_FIRST
    assert (found.total, found.is_total_exact, found.next_cursor) == (5, True, None)
    by_id = {failed.item.variant_id: failed for failed in found.items}
    refused = by_id["v0"]
    assert (refused.code, refused.entry) == ("rejected_by_meta", entry_of("rejected_by_meta"))
    assert refused.item.last_error == "The price is wrong. [bold]", "Meta's words are left as they are"
    assert (refused.item.product_title, refused.item.sku) == ("Lamp", "SKU-v0")
    assert refused.item.updated_at is not None
    assert by_id["v1"].item.last_error is None
    assert by_id["v1"].entry.category == "network"
    assert by_id["v2"].entry.action.startswith("Report it")


@pytest.mark.parametrize("limit", [1, 2, 4])
async def test_the_list_is_the_same_however_it_is_cut(
    world: World, errors: ErrorsService, limit: int
) -> None:
    await fill(world)
    by_cursor: list[str] = []
    cursor: str | None = None
    while True:
        found = await errors.list(world.store_id, ItemFilter(), limit=limit, cursor=cursor)
        by_cursor += [failed.item.variant_id for failed in found.items]
        cursor = found.next_cursor
        if cursor is None:
            break
    by_page: list[str] = []
    for page in range(1, 7):
        found = await errors.list(world.store_id, ItemFilter(), page=page, limit=limit)
        by_page += [failed.item.variant_id for failed in found.items]
    assert by_cursor == by_page == _NEWEST_FIRST


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (ItemFilter(error_code="rejected_by_meta"), ["v3", "v0"]),
        (ItemFilter(error_code="missing_price"), []),
        (ItemFilter(product_id="q"), ["w1"]),
        (ItemFilter(search="LAMP"), ["v1", "v3", "v0", "v2"]),
        (ItemFilter(search="v3"), ["v3"]),
        (ItemFilter(sort=ItemSort.VARIANT_ID), ["v0", "v1", "v2", "v3", "w1"]),
        (ItemFilter(error_code="rejected_by_meta", search="v0", product_id="p"), ["v0"]),
    ],
)
async def test_filters(world: World, errors: ErrorsService, wanted: ItemFilter, expected: list[str]) -> None:
    await fill(world)
    found = await errors.list(world.store_id, wanted)
    assert [failed.item.variant_id for failed in found.items] == expected
    assert (found.total, found.is_total_exact) == (len(expected), True)


async def test_too_deep_a_page_and_a_foreign_cursor_are_refused(world: World, errors: ErrorsService) -> None:
    await fill(world)
    with pytest.raises(ValidationFailedError):
        await errors.list(world.store_id, ItemFilter(), page=51, limit=200)
    found = await errors.list(world.store_id, ItemFilter(), limit=2)
    assert found.next_cursor is not None
    with pytest.raises(ValidationFailedError):
        await errors.list(world.store_id, ItemFilter(product_id="p"), cursor=found.next_cursor)


async def test_without_a_catalog_nothing_failed(
    database: Database, database_url: str, errors: ErrorsService
) -> None:
    async with open_world(database, database_url) as world:
        found = await errors.list(world.store_id, ItemFilter())
        assert (found.items, found.total, found.next_cursor) == ([], 0, None)


async def test_a_batch_that_could_not_be_asked_about_for_a_month_says_so(world: World) -> None:
    await world.put("p", variant("a"))
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    assert await one(world, "SELECT state FROM batches") == "open"
    await execute(world, "UPDATE credentials SET dead_at = now(), dead_code = 190, dead_reason = 'Expired'")
    await execute(
        world,
        "UPDATE batches SET due_at = now(), created_at = now() - interval '31 days',"
        " sent_at = now() - interval '31 days'",
    )
    await pipeline.poll_tick()
    [batch] = await fetch(world, "SELECT state, error_code, error_text, unknown FROM batches")
    assert batch == ("over", "not_asked", None, 1)
    assert await one(world, "SELECT count(*) FROM intents") == 1
