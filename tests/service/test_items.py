"""Items as a person sees them: order, pages and cursors, filters, totals, and what the next drain would send."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from meta_sync.catalog.models import Lane
from meta_sync.core.clock import utc_now
from meta_sync.core.db import Database
from meta_sync.core.errors import NotFoundError, ValidationFailedError
from meta_sync.core.paging import CursorCodec
from meta_sync.sync import item_filters, item_pages, item_queries
from meta_sync.sync.item_queries import ItemFilter, ItemSort, search_pattern
from meta_sync.sync.items import ItemsService
from meta_sync.sync.models import DecisionKind, Method, Presence, Status
from tests.support.world import World, open_world, variant

NOON = datetime(2026, 5, 3, 12, tzinfo=UTC)


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        yield world


@pytest.fixture
def service(database: Database) -> ItemsService:
    return ItemsService(database, utc_now, CursorCodec(b"key"))


async def execute(world: World, statement: str, **values: object) -> None:
    async with world.database.platform() as connection:
        await connection.execute(text(statement), {"store_id": world.store_id, **values})


async def fill(world: World) -> list[str]:
    """Twelve items: five pushed (two at the same instant), a failed and a skipped one, five never looked at."""
    await world.connect(sync=False)
    for number in range(12):
        await world.put(f"p{number:02}", variant(f"v{number:02}"))
    await execute(world, "DELETE FROM sync_state WHERE variant_id >= 'v09'")
    await execute(world, "UPDATE sync_state SET status = 'never_synced' WHERE variant_id IN ('v07', 'v08')")
    pushed = {"v03": 5, "v01": 4, "v04": 4, "v00": 3, "v02": 1}
    for variant_id, hours in pushed.items():
        await execute(
            world,
            "UPDATE sync_state SET status = 'synced', presence = 'present', confirmed_hash = '\\x01', "
            "retailer_id = variant_id, last_pushed_at = :at WHERE variant_id = :variant_id",
            at=NOON + timedelta(hours=hours),
            variant_id=variant_id,
        )
    await execute(
        world,
        "UPDATE sync_state SET status = 'failed', code = '1234', error_text = 'No', attempts = 2, last_pushed_at = :at "
        "WHERE variant_id = 'v02'",
        at=NOON + timedelta(hours=1),
    )
    await execute(
        world, "UPDATE sync_state SET status = 'skipped', code = 'missing_price' WHERE variant_id = 'v05'"
    )
    return ["v03", "v01", "v04", "v00", "v02", "v05", "v06", "v07", "v08", "v09", "v10", "v11"]


async def by_page(service: ItemsService, world: World, wanted: ItemFilter, limit: int) -> list[str]:
    found: list[str] = []
    for page in itertools.count(1):
        answer = await service.list(world.store_id, wanted, page=page, limit=limit)
        found += [item.variant_id for item in answer.items]
        if len(answer.items) < limit:
            return found
    raise AssertionError


async def by_cursor(service: ItemsService, world: World, wanted: ItemFilter, limit: int) -> list[str]:
    found: list[str] = []
    cursor: str | None = None
    while True:
        answer = await service.list(world.store_id, wanted, limit=limit, cursor=cursor)
        found += [item.variant_id for item in answer.items]
        cursor = answer.next_cursor
        if cursor is None:
            return found


async def test_last_pushed_first_never_pushed_last_however_it_is_cut(
    world: World, service: ItemsService
) -> None:
    expected = await fill(world)
    for limit in (1, 2, 3, 5, 6, 12, 100):
        assert await by_page(service, world, ItemFilter(), limit) == expected, limit
        assert await by_cursor(service, world, ItemFilter(), limit) == expected, limit
    stable = ItemFilter(sort=ItemSort.VARIANT_ID)
    for limit in (1, 5, 12):
        assert await by_page(service, world, stable, limit) == sorted(expected)
        assert await by_cursor(service, world, stable, limit) == sorted(expected)
    assert (await service.list(world.store_id, ItemFilter(), page=3, limit=12)).items == []


async def test_a_cursor_by_variant_id_survives_a_running_sync(world: World, service: ItemsService) -> None:
    expected = sorted(await fill(world))
    wanted = ItemFilter(sort=ItemSort.VARIANT_ID)
    first = await service.list(world.store_id, wanted, limit=5)
    await execute(world, "UPDATE sync_state SET last_pushed_at = now(), status = 'pending'")
    rest = await service.list(world.store_id, wanted, limit=100, cursor=first.next_cursor)
    assert [item.variant_id for item in [*first.items, *rest.items]] == expected


FILTERS: list[tuple[ItemFilter, list[str]]] = [
    (ItemFilter(status=Status.SYNCED), ["v03", "v01", "v04", "v00"]),
    (ItemFilter(status=Status.FAILED), ["v02"]),
    (ItemFilter(status=Status.SKIPPED), ["v05"]),
    (ItemFilter(status=Status.PENDING), ["v06"]),
    (ItemFilter(status=Status.NEVER_SYNCED), ["v07", "v08", "v09", "v10", "v11"]),
    (ItemFilter(status=Status.DELETED), []),
    (ItemFilter(error_code="1234"), ["v02"]),
    (ItemFilter(error_code="missing_price"), ["v05"]),
    (ItemFilter(product_id="p09"), ["v09"]),
    (ItemFilter(search="PRODUCT P1"), ["v10", "v11"]),
    (ItemFilter(search="sku-v0"), ["v03", "v01", "v04", "v00", "v02", "v05", "v06", "v07", "v08", "v09"]),
    (ItemFilter(search="v03"), ["v03"]),
    (ItemFilter(search="product-p04"), ["v04"]),
    (ItemFilter(search="%"), []),
    (ItemFilter(search="v_3"), []),
    (ItemFilter(search="\\"), []),
    (ItemFilter(search="v0", status=Status.SYNCED, product_id="p01"), ["v01"]),
]


async def test_filters_with_totals_and_cursors(world: World, service: ItemsService) -> None:
    await fill(world)
    for wanted, expected in FILTERS:
        answer = await service.list(world.store_id, wanted, limit=100)
        assert [item.variant_id for item in answer.items] == expected, wanted
        assert (answer.total, answer.is_total_exact) == (len(expected), True), wanted
        assert await by_cursor(service, world, wanted, 2) == expected, wanted
        stable = replace(wanted, sort=ItemSort.VARIANT_ID)
        assert await by_cursor(service, world, stable, 2) == sorted(expected), wanted


@pytest.mark.parametrize("few", [0, 3])
@pytest.mark.parametrize("is_every_row_written", [False, True])
async def test_a_walk_finds_what_looking_up_finds(
    world: World,
    service: ItemsService,
    monkeypatch: pytest.MonkeyPatch,
    few: int,
    is_every_row_written: bool,
) -> None:
    """Where many match, each row is looked at; where few do, the few are looked up: the list is the same."""
    await fill(world)
    # What waits in a lane is held in memory, or looked up row by row.
    monkeypatch.setattr(item_filters, "_SMALL_LANE", 0 if few else 10_000)
    if is_every_row_written:
        await execute(
            world,
            "INSERT INTO sync_state (link_id, variant_id, store_id, status) "
            "SELECT l.link_id, v.variant_id, v.store_id, 'never_synced' FROM catalog_links AS l, variants AS v "
            "ON CONFLICT DO NOTHING",
        )
    await world.put("p07", variant("v07"), status="draft")
    await execute(world, "UPDATE intents SET lane = 2 WHERE variant_id < 'v06'")
    # One waits for the batch that is under way.
    await execute(
        world,
        "INSERT INTO batches (store_id, link_id, graph_host, catalog_id, state, lane, body_bytes, link_epoch,"
        " mapping_epoch, sent, created_on) SELECT :store_id, link_id, 'h', '1', 'open', 0, 1, 1, 1, 1, now()"
        " FROM catalog_links",
    )
    await execute(
        world, "UPDATE intents SET parked_by = (SELECT batch_id FROM batches) WHERE variant_id = 'v01'"
    )
    asked = [wanted for wanted, _ in FILTERS]
    asked += [ItemFilter(lane=lane) for lane in Lane]
    asked += [ItemFilter(eligible_only=True), ItemFilter(eligible_only=True, status=Status.NEVER_SYNCED)]
    asked += [ItemFilter(lane=Lane.BULK, search="v0", eligible_only=True), ItemFilter()]
    asked += [ItemFilter(lane=Lane.BULK, status=status) for status in (Status.FAILED, Status.NEVER_SYNCED)]
    for wanted in (replace(one, sort=sort) for one in asked for sort in ItemSort):
        monkeypatch.setattr(item_filters, "FEW", 10_000)
        looked_up = await service.list(world.store_id, wanted, limit=100)
        monkeypatch.setattr(item_filters, "FEW", few)
        walked = await service.list(world.store_id, wanted, limit=100)
        assert walked.items == looked_up.items, wanted
        assert walked.total == looked_up.total or not walked.is_total_exact
        expected = [item.variant_id for item in looked_up.items]
        assert await by_cursor(service, world, wanted, 2) == expected, wanted
        assert await by_page(service, world, wanted, 3) == expected, wanted
        # A cursor of one way goes on in the other.
        first = await service.list(world.store_id, wanted, limit=2)
        monkeypatch.setattr(item_filters, "FEW", 10_000)
        if first.next_cursor:
            rest = await service.list(world.store_id, wanted, limit=100, cursor=first.next_cursor)
            assert [item.variant_id for item in [*first.items, *rest.items]] == expected, wanted


async def test_the_lane_of_what_waits(world: World, service: ItemsService) -> None:
    await fill(world)
    await execute(world, "UPDATE intents SET lane = 2")
    await execute(world, "UPDATE intents SET lane = 0 WHERE variant_id = 'v02'")
    await execute(world, "DELETE FROM intents WHERE variant_id = 'v03'")
    live = await service.list(world.store_id, ItemFilter(lane=Lane.LIVE))
    assert [(item.variant_id, item.lane) for item in live.items] == [("v02", Lane.LIVE)]
    assert (await service.list(world.store_id, ItemFilter(lane=Lane.BULK))).total == 10
    everything = {item.variant_id: item for item in (await service.list(world.store_id, ItemFilter())).items}
    assert everything["v03"].lane is None


async def test_eligible_only_leaves_out_what_the_store_does_not_show(
    world: World, service: ItemsService
) -> None:
    await world.connect(sync=False)
    await world.put("shown", variant("a"))
    await world.put("draft", variant("b"), status="draft")
    await world.put("private", variant("c"), visibility="private")
    await world.put("gone", variant("d"))
    await world.catalog.delete_product(world.store_id, "gone")
    found = await service.list(world.store_id, ItemFilter(eligible_only=True))
    assert [item.variant_id for item in found.items] == ["a"]


async def test_tombstones_are_listed_while_they_have_a_record(world: World, service: ItemsService) -> None:
    await world.put("p", variant("v"))
    await world.catalog.delete_product(world.store_id, "p")
    assert (await service.list(world.store_id, ItemFilter())).total == 0
    with pytest.raises(NotFoundError):
        await service.detail(world.store_id, "v")

    await world.connect(sync=False)
    await world.put("q", variant("w"))
    await world.catalog.delete_product(world.store_id, "q")
    found = await service.list(world.store_id, ItemFilter())
    assert [(item.variant_id, item.deleted_at is not None) for item in found.items] == [("w", True)]
    detail = await service.detail(world.store_id, "w")
    assert detail.eligibility.reason == "product_deleted"
    assert detail.next_request is not None
    assert detail.next_request.decision is DecisionKind.DROP


async def test_totals_stop_at_ten_thousand_but_for_a_status(
    world: World, service: ItemsService, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(world)
    monkeypatch.setattr(item_pages, "MAX_PAGE_ROWS", 4)
    answer = await service.list(world.store_id, ItemFilter(), limit=2)
    assert (answer.total, answer.is_total_exact) == (4, False)
    answer = await service.list(world.store_id, ItemFilter(status=Status.NEVER_SYNCED), limit=2)
    assert (answer.total, answer.is_total_exact) == (5, True)
    with pytest.raises(ValidationFailedError, match="cursor"):
        await service.list(world.store_id, ItemFilter(), page=101, limit=100)


async def test_counts_are_exact_before_and_after_a_fold(world: World, database: Database) -> None:
    await fill(world)
    async with database.store(world.store_id) as connection:
        link_id = await connection.scalar(text("SELECT link_id FROM catalog_links"))
        before = await item_queries.state_counts(connection, world.store_id, link_id)
    assert before.total == before.variants == 12
    assert sum(before.by_status.values()) == 12
    assert before.by_status[Status.NEVER_SYNCED] == 5
    assert before.intents == 12
    await execute(
        world,
        "WITH gone AS (DELETE FROM counter_deltas RETURNING *) INSERT INTO counters "
        "SELECT store_id, link_id, name, sum(delta) FROM gone GROUP BY 1, 2, 3 "
        "ON CONFLICT (store_id, link_id, name) DO UPDATE SET value = counters.value + excluded.value",
    )
    await world.catalog.delete_product(world.store_id, "p00")
    async with database.store(world.store_id) as connection:
        after = await item_queries.state_counts(connection, world.store_id, link_id)
    assert (after.variants, after.total) == (11, 12)
    assert sum(after.by_status.values()) == 12


def test_like_characters_are_text() -> None:
    assert search_pattern("50%_\\X") == "%50\\%\\_\\\\x%"


async def test_detail_before_anything_is_connected(world: World, service: ItemsService) -> None:
    await world.put("p", variant("v", special_price=999, options={"color": "Red"}))
    detail = await service.detail(world.store_id, "v")
    assert detail.sync_state is None
    assert detail.next_request is None
    assert detail.eligibility.is_eligible
    assert detail.mapped is not None
    assert (detail.mapped["price"], detail.mapped["sale_price"]) == ("19.99 EUR", "9.99 EUR")
    with pytest.raises(NotFoundError):
        await service.detail(world.store_id, "nowhere")


async def test_next_request_is_what_the_drain_then_sends(world: World, service: ItemsService) -> None:
    await world.connect()
    await world.put("p", variant("v", special_price=999, options={"color": "Red"}))
    promised = (await service.detail(world.store_id, "v")).next_request
    assert promised is not None
    assert (promised.decision, promised.method) == (DecisionKind.UPSERT, Method.UPDATE)
    await world.run()
    sent = world.at_meta()["v"]
    assert promised.data is not None
    assert {name: value for name, value in promised.data.items() if value not in ("", [])} == sent

    settled = await service.detail(world.store_id, "v")
    assert settled.sync_state is not None
    assert settled.sync_state.state.status is Status.SYNCED
    assert settled.sync_state.state.presence is Presence.PRESENT
    assert settled.sync_state.last_pushed_hash == settled.sync_state.state.confirmed_hash
    assert settled.sync_state.last_handle
    assert settled.next_request is not None
    assert settled.next_request.decision is DecisionKind.NOOP

    await world.put("p", variant("v"))
    clearing = (await service.detail(world.store_id, "v")).next_request
    assert clearing is not None
    assert clearing.data is not None
    assert (clearing.data["sale_price"], clearing.data["color"]) == ("", "")

    await world.put("p", variant("v", price=None))
    removing = (await service.detail(world.store_id, "v")).next_request
    assert removing is not None
    assert (removing.decision, removing.method, removing.data) == (
        DecisionKind.DELETE, Method.DELETE, {"id": "v"}
    )  # fmt: skip


async def test_preview_shows_what_would_be_sent(world: World, service: ItemsService) -> None:
    await world.connect()
    await world.stores.patch_settings(world.store_id, {"feedMode": "preview"})
    await world.put("p", variant("v"))
    detail = await service.detail(world.store_id, "v")
    assert detail.next_request is not None
    assert detail.next_request.decision is DecisionKind.UPSERT
    assert detail.pending_intent is not None


async def test_how_products_stand(world: World, service: ItemsService) -> None:
    await world.connect()
    await world.put("p", variant("a"), variant("b", price=None))
    await world.put("q", variant("c"))
    await world.run()
    sync = await service.product_sync(world.store_id, ["p", "q", "nowhere"])
    assert sync["p"].counts == {Status.SYNCED: 1, Status.SKIPPED: 1}
    assert sync["p"].worst_status is Status.SKIPPED
    assert sync["p"].last_sync_at is not None
    assert (sync["q"].worst_status, sync["nowhere"].worst_status) == (Status.SYNCED, None)


async def test_what_meta_refused_is_not_said_to_be_sent_again(world: World, service: ItemsService) -> None:
    await world.connect()
    world.sandbox.refuse("v", "A required field is missing: nobody likes it")
    await world.put("p", variant("v"))
    await world.run()
    refused = await service.detail(world.store_id, "v")
    assert refused.sync_state is not None
    assert refused.sync_state.state.status is Status.FAILED
    assert refused.next_request is not None
    assert (refused.next_request.decision, refused.next_request.data) == (DecisionKind.KEEP, None)
    assert refused.next_request.reason == refused.sync_state.state.code

    await world.put("p", variant("v"), title="Repaired")
    repaired = (await service.detail(world.store_id, "v")).next_request
    assert repaired is not None
    assert repaired.decision is DecisionKind.UPSERT
