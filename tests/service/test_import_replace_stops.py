"""Imports that replace and are large, slow, stopped or left behind: they end the same, or say why not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from meta_sync.catalog.ingest import import_limits, import_replace, import_run, import_runner
from meta_sync.catalog.models import Lane
from meta_sync.core.db import Database
from meta_sync.core.failpoints import arm, disarm_all
from meta_sync.sync import sweep
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


async def test_large_deletions_go_in_groups_within_one_transaction(
    i: ImportBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_replace, "_PAGE_PRODUCTS", 7)
    monkeypatch.setattr(import_replace, "_GROUP_VARIANTS", 5)
    monkeypatch.setattr(import_runner, "_CHUNK_ENTRIES", 10)
    ids = [f"n{number:03}" for number in range(60)]
    await i.run(feed(*rows_of(*ids[:30]), *rows_of(*ids[30:50], group="g1"), *rows_of(*ids[50:], group="g2")))
    i.b.sink.take()
    import_id = await i.uploaded(feed(*rows_of(*ids[::3])), mode="replace", allow_mass_delete=True)
    arm("import.within_deletion", "raise@3")
    assert await i.runner.run(import_id)
    disarm_all()
    assert await i.live() == ids, "a part of it must not be seen"
    await i.expire_leases()
    assert await i.runner.run(import_id)
    view = await i.service.get("s", import_id)
    assert (view.status, counted(view)[-1]) == ("success", 40)
    assert await i.live() == ids[::3]
    told = [
        change.variant_id for _, changes in i.b.sink.calls for change in changes if change.lane is Lane.LIVE
    ]
    assert sorted(told) == [item for item in ids if item not in ids[::3]]


@pytest.mark.parametrize("passage", range(1, 8))
@pytest.mark.parametrize(
    "where",
    [
        "import.after_survey",
        "import.after_chunk",
        "import.before_deletion",
        "import.within_deletion",
        "catalog.after_commit",
    ],
)
async def test_a_stop_anywhere_ends_in_the_same_state(
    i: ImportBench, monkeypatch: pytest.MonkeyPatch, where: str, passage: int
) -> None:
    monkeypatch.setattr(import_runner, "_CHUNK_ENTRIES", 3)
    monkeypatch.setattr(import_replace, "_GROUP_PRODUCTS", 1)
    await i.run(feed(*rows_of(*TEN)))
    i.b.sink.take()
    rows = [*rows_of(*TEN[:3], price="2.00 USD"), ("i3", "bad"), *rows_of(*TEN[4:8]), ("i0", "3.00 USD")]
    import_id = await i.uploaded(feed(*rows), mode="replace")
    arm(where, f"raise@{passage}")
    await i.runner.run(import_id)
    disarm_all()
    await i.expire_leases()
    await i.runner.run(import_id)
    view = await i.service.get("s", import_id)
    assert (view.status, counted(view)) == ("partial", (0, 3, 4, 0, 2, 2))
    assert await i.live() == TEN[:8]
    assert set(i.b.sink.take()) >= {"i0", "i1", "i2", "i8", "i9"}
    assert await i.b.rows("SELECT 1 FROM import_seen UNION ALL SELECT 1 FROM import_chunks") == []


async def test_a_refusal_survives_a_stop_and_a_change_of_the_setting(i: ImportBench) -> None:
    await i.run(feed(*rows_of(*TEN)))
    import_id = await i.uploaded(feed(*rows_of(*TEN[:2])), mode="replace")
    arm("import.after_survey", "raise@2")
    assert await i.runner.run(import_id)
    disarm_all()
    await i.expire_leases()
    assert await i.runner.run(import_id)
    assert (await i.service.get("s", import_id)).error_code == "CONFLICT"
    assert await i.live() == TEN


async def test_progress_goes_up_only(i: ImportBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_runner, "_CHUNK_ENTRIES", 100)
    long_rows = [(f"n{number}", "1.00 USD", "", "x" * 500) for number in range(1_000)]
    import_id = await i.uploaded(feed(*long_rows), mode="replace")
    arm("import.after_survey", "sleep:0.02")
    arm("import.after_chunk", "sleep:0.02")
    task = asyncio.create_task(i.runner.run(import_id))
    shown: list[int] = []
    while not task.done():
        shown.append((await i.service.get("s", import_id)).progress)
        await asyncio.sleep(0)
    assert await task
    assert shown == sorted(shown)
    assert len({figure for figure in shown if 0 < figure < 50}) > 1
    assert len({figure for figure in shown if 50 < figure < 100}) > 1


async def test_more_rows_than_any_file_may_have(i: ImportBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_run, "MAX_ROWS", 6)
    view = await i.replace(feed(*rows_of(*TEN)))
    assert (view.status, counted(view)) == ("error", (0, 0, 0, 0, 0, 0))
    assert view.message == (
        "The file has more than 6 rows. Send it in parts. Nothing was imported and nothing deleted."
    )
    view = await i.run(feed(*rows_of(*TEN)))
    assert (view.status, counted(view)) == ("error", (6, 0, 0, 0, 0, 0))
    assert view.message is not None
    assert view.message.endswith("The 6 items before that point were imported.")
    assert await i.live() == TEN[:6]


async def test_an_import_that_takes_too_long_is_ended(
    i: ImportBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_runner, "_CHUNK_ENTRIES", 4)
    import_id = await i.uploaded(feed(*rows_of(*TEN)))
    arm("import.after_chunk", "raise")
    assert await i.runner.run(import_id)
    disarm_all()
    await i.expire_leases()
    hours = import_limits.LONGEST_RUN_HOURS
    await i.sql(f"UPDATE imports SET started_at = now() - interval '{hours} hours'")
    assert await i.runner.run(import_id)
    view = await i.service.get("s", import_id)
    assert view.status == "error"
    assert view.message == (
        f"The import was ended after {hours} hours, when row 4 was reached. Send the file in parts. "
        "The 4 items before that point were imported."
    )


async def test_what_an_import_left_behind_is_swept(i: ImportBench) -> None:
    view = await i.run(feed(*rows_of(*TEN)))
    waiting = await i.uploaded(feed(*rows_of(*TEN)))
    await i.sql(
        "INSERT INTO import_seen (store_id, import_id, kind, id) VALUES"
        f" ('s', '{view.import_id}', 'v', 'a'), ('s', '{waiting}', 'v', 'a')"
    )
    await i.runner.sweep()
    assert await i.b.rows("SELECT import_id FROM import_seen") == [(waiting,)]


async def test_what_was_left_behind_while_no_worker_ran_goes_with_its_import(
    i: ImportBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody imports by the command alone, and its process is killed at the very end."""
    view = await i.run(feed(*rows_of(*TEN)))
    await i.sql(
        "INSERT INTO import_seen (store_id, import_id, kind, id)"
        f" SELECT 's', '{view.import_id}', 'v', n::text FROM generate_series(1, 5) AS n"
    )
    await i.sql("UPDATE imports SET finished_at = now() - interval '31 days'")
    monkeypatch.setattr(sweep, "_SEEN_AT_ONCE", 3)

    async def left() -> tuple[int, int]:
        async with i.b.database.platform() as connection:
            await sweep.purge(connection)
        (found,) = await i.b.rows("SELECT (SELECT count(*) FROM import_seen), (SELECT count(*) FROM imports)")
        return found[0], found[1]

    assert await left() == (2, 1)
    assert await left() == (0, 0)
