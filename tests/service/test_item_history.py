"""What a person reads of the past: an item's timeline, batches with their items, and what happened to the store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import text

from meta_sync.core.db import Database
from meta_sync.core.errors import NotFoundError, ValidationFailedError
from meta_sync.core.paging import CursorCodec
from meta_sync.sync.activity import ActivityService
from meta_sync.sync.attempts import AttemptOutcome
from meta_sync.sync.handles import BatchState, HandlesService
from meta_sync.sync.timeline import TimelineService
from tests.support.world import World, open_world, variant

CURSORS = CursorCodec(b"key")


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        await world.connect()
        yield world


@pytest.fixture
def timeline(database: Database) -> TimelineService:
    return TimelineService(database, CURSORS)


@pytest.fixture
def handles(database: Database) -> HandlesService:
    return HandlesService(database, CURSORS)


@pytest.fixture
def activity(database: Database) -> ActivityService:
    return ActivityService(database, CURSORS)


async def everything(read: Callable[..., Awaitable[Any]], name: str, **given: Any) -> list[Any]:
    """The whole list, in pages of two by cursor; the same as one large page has."""
    found: list[Any] = []
    cursor: str | None = None
    while True:
        page = await read(**given, limit=2, cursor=cursor)
        found += getattr(page, name)
        cursor = page.next_cursor
        if cursor is None:
            break
    whole = await read(**given, limit=100)
    assert getattr(whole, name) == found
    by_page = [one for page in (1, 2) for one in getattr(await read(**given, limit=3, page=page), name)]
    assert by_page == found[:6]
    return found


async def live_through_much(world: World) -> None:
    """Sent, refused, sent again, taken off, brought back."""
    world.sandbox.refuse("v", "A required field is missing: nobody likes it")
    await world.put("p", variant("v"), variant("w"))
    await world.run()
    assert world.sandbox.lift_refusal("v")
    await world.put("p", variant("v", 2500), variant("w"))
    await world.run()
    await world.operations.exclude(world.store_id, "v", actor="key_1")
    await world.run()
    await world.operations.resync(world.store_id, "v", force=True, refresh_images=False, actor="key_2")
    await world.run()


async def test_a_timeline_tells_what_happened_newest_first(world: World, timeline: TimelineService) -> None:
    await live_through_much(world)
    entries = await everything(timeline.timeline, "entries", store_id=world.store_id, variant_id="v")
    assert [entry.at for entry in entries] == sorted((entry.at for entry in entries), reverse=True)
    assert len({entry.id for entry in entries}) == len(entries)
    told = [(entry.kind, entry.attempt.outcome if entry.attempt else entry.code) for entry in entries]
    assert told[0] == ("state", None)
    assert sorted(told[1:], key=str) == sorted(
        [
            ("attempt", AttemptOutcome.REJECTED),
            ("attempt", AttemptOutcome.ACCEPTED),
            ("attempt", AttemptOutcome.ACCEPTED),
            ("attempt", AttemptOutcome.ACCEPTED),
            ("refused", "rejected_by_meta"),
            ("excluded", "excluded_by_operator"),
            ("resync", None),
        ],
        key=str,
    )
    assert entries[0].message == "Meta has confirmed the item."
    [refused] = [entry for entry in entries if entry.kind == "refused"]
    assert refused.meta_text == "A required field is missing: nobody likes it"
    assert [entry.actor for entry in entries if entry.actor] == ["key_2", "key_1"]
    attempts = [entry.attempt for entry in entries if entry.attempt]
    assert [attempt.method for attempt in attempts] == ["UPDATE", "DELETE", "UPDATE", "UPDATE"]
    assert [attempt.payload_hash is None for attempt in attempts] == [False, True, False, False]
    assert all(attempt.handle and attempt.finished_at and attempt.retailer_id == "v" for attempt in attempts)
    assert "price" in attempts[0].fields


async def test_an_attempt_under_way_and_one_given_back(world: World, timeline: TimelineService) -> None:
    await world.put("p", variant("v"))
    await world.pipeline().drain_tick()
    [state, attempt] = (await timeline.timeline(world.store_id, "v")).entries
    assert state.message == "The item was sent, and Meta is working on it."
    assert attempt.attempt is not None
    assert attempt.attempt.outcome is AttemptOutcome.UNDER_WAY
    async with world.database.platform() as connection:
        await connection.execute(
            text("UPDATE batches SET state = 'over', sent = 0, error_code = '190', error_text = 'No token'")
        )
    attempt = (await timeline.timeline(world.store_id, "v")).entries[1]
    assert attempt.attempt is not None
    assert attempt.attempt.outcome is AttemptOutcome.RETURNED
    assert (attempt.code, attempt.meta_text) == ("190", "No token")


async def test_timelines_of_items_that_are_new_unknown_and_of_others(
    world: World, timeline: TimelineService
) -> None:
    await world.put("p", variant("v", price=None))
    await world.run()
    entries = (await timeline.timeline(world.store_id, "v")).entries
    assert [(entry.kind, entry.code) for entry in entries] == [
        ("state", "missing_price"),
        ("skip", "missing_price"),
    ]
    assert entries[1].message.startswith("The item was left out. ")
    assert len(entries[1].message) > len("The item was left out. ")
    with pytest.raises(NotFoundError):
        await timeline.timeline(world.store_id, "nowhere")
    first = await timeline.timeline(world.store_id, "v", limit=1)
    with pytest.raises(ValidationFailedError):
        await timeline.timeline(world.store_id, "w", cursor=first.next_cursor)
    with pytest.raises(ValidationFailedError, match="cursor"):
        await timeline.timeline(world.store_id, "v", page=101, limit=100)


async def test_batches_with_their_life_and_items(world: World, handles: HandlesService) -> None:
    await live_through_much(world)
    batches = await everything(handles.list, "batches", store_id=world.store_id)
    assert [batch.batch_id for batch in batches] == sorted(
        (batch.batch_id for batch in batches), reverse=True
    )
    assert {batch.state for batch in batches} == {BatchState.OVER}
    assert all(
        batch.sent == batch.accepted + batch.rejected + batch.unknown and batch.handle for batch in batches
    )
    first = batches[-1]
    assert (first.sent, first.accepted, first.rejected) == (2, 1, 1)
    detail = await handles.detail(world.store_id, str(first.batch_id))
    assert detail.batch == first
    assert [(one.number, one.handle) for one in detail.calls] == [(1, first.handle)]
    assert [(one.variant_id, one.outcome) for one in detail.items] == [
        ("v", AttemptOutcome.REJECTED),
        ("w", AttemptOutcome.ACCEPTED),
    ]
    assert detail.items[0].error_text == "A required field is missing: nobody likes it"
    one = await handles.detail(world.store_id, str(first.batch_id), outcome=AttemptOutcome.REJECTED)
    assert ([item.variant_id for item in one.items], one.total) == (["v"], 1)
    page = await handles.detail(world.store_id, str(first.batch_id), limit=1)
    rest = await handles.detail(world.store_id, str(first.batch_id), limit=1, cursor=page.next_cursor)
    assert ([item.variant_id for item in rest.items], rest.next_cursor) == (["w"], None)
    for nothing in ("999999", "-1", "x", "١", str(2**63), "1" * 50):
        with pytest.raises(NotFoundError):
            await handles.detail(world.store_id, nothing)


async def test_batches_by_state(world: World, handles: HandlesService) -> None:
    await world.put("p", variant("v"))
    await world.run()
    await world.put("p", variant("v", 2500))
    await world.pipeline().drain_tick()
    newest, oldest = (await handles.list(world.store_id)).batches
    assert (newest.state, oldest.state) == (BatchState.OPEN, BatchState.OVER)
    assert newest.due_at is not None
    for state, expected in (
        (BatchState.OPEN, [newest]),
        (BatchState.OVER, [oldest]),
        (BatchState.UNKNOWN, []),
    ):
        found = await handles.list(world.store_id, state=state)
        assert (found.batches, found.total, found.is_total_exact) == (expected, len(expected), True)


async def test_what_happened_to_a_store(world: World, activity: ActivityService) -> None:
    await live_through_much(world)
    await world.stores.patch_settings(world.store_id, {"defaultCondition": "used"})
    await world.run()
    async with world.database.platform() as connection:
        for statement in (
            "INSERT INTO store_pauses (store_id, reason, code, message) VALUES (:s, 'meta_unreachable', '2', 'Down')",
            "UPDATE store_pauses SET failures = failures + 1 WHERE store_id = :s",
            "DELETE FROM store_pauses WHERE store_id = :s",
            """
            INSERT INTO imports (import_id, store_id, status, mode, file_name, finished_at, message)
            VALUES ('imp_1', :s, 'error', 'upsert', 'a.csv', now(), 'Nothing in it.')
            """,
        ):
            await connection.execute(text(statement), {"s": world.store_id})
    entries = await everything(activity.list, "entries", store_id=world.store_id)
    assert [entry.at for entry in entries] == sorted((entry.at for entry in entries), reverse=True)
    assert len({entry.id for entry in entries}) == len(entries)
    messages = {entry.kind: entry.message for entry in reversed(entries)}
    assert messages["settings_changed"].startswith("Settings were changed: ")
    assert any("defaultCondition" in one.message for one in entries if one.kind == "settings_changed")
    assert messages["pause_began"].startswith("Sending stopped. ")
    assert messages["pause_ended"].startswith("This no longer keeps the store from sending: ")
    assert messages["import_ended"] == "The import of a.csv failed. Nothing in it."
    assert {"token_set", "catalog_selected", "job_started", "job_ended", "batch_sent", "batch_ended"} <= set(
        messages
    )
    first = [one.message for one in entries if one.kind == "batch_ended"][-1]
    assert first.endswith("is over: 1 of 2 items accepted, 1 refused.")
    kinds = [entry.kind for entry in entries]
    assert (kinds.count("pause_began"), kinds.count("pause_ended")) == (1, 1)


async def test_a_pause_of_a_catalog_used_before_stops_no_sending(
    world: World, activity: ActivityService
) -> None:
    async with world.database.platform() as connection:
        pause = "INSERT INTO store_pauses (store_id, reason, link_id) VALUES (:s, 'meta_unreachable', 4711)"
        for statement in (pause, "DELETE FROM store_pauses WHERE store_id = :s"):
            await connection.execute(text(statement), {"s": world.store_id})
    ended, began = (await activity.list(world.store_id, limit=2)).entries
    assert (ended.kind, began.kind) == ("pause_ended", "pause_began")
    for one in (ended, began):
        assert one.message.startswith("Questions about a catalog that was used before")


async def test_settings_are_named_and_their_values_kept_back(world: World) -> None:
    await world.stores.patch_settings(world.store_id, {"verifyToken": "very-secret-word"})
    async with world.database.platform() as connection:
        rows = (await connection.execute(text("SELECT store_events::text FROM store_events"))).scalars().all()
    assert any("verify_token" in row for row in rows)
    assert not any("very-secret-word" in row for row in rows)


async def test_another_store_sees_nothing_of_it(
    world: World, timeline: TimelineService, handles: HandlesService, activity: ActivityService
) -> None:
    await world.put("p", variant("v"))
    await world.run()
    [batch] = (await handles.list(world.store_id)).batches
    assert (await handles.list("other")).batches == []
    assert (await activity.list("other")).entries == []
    with pytest.raises(NotFoundError):
        await handles.detail("other", str(batch.batch_id))
    with pytest.raises(NotFoundError):
        await timeline.timeline("other", "v")
