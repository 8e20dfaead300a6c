"""kill -9 of a worker within an import that replaces: another worker ends it, and it was never half applied."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from meta_sync.catalog.ingest.imports import ImportService
from meta_sync.core.db import Database
from tests.support.processes import WorkerProcess, let_leases_run_out, open_real_world, until, until_quiet
from tests.support.world import World

pytestmark = pytest.mark.kill


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_real_world(database, database_url) as world:
        yield world


def feed(numbers: range) -> bytes:
    rows = "".join(
        f"i{number},Item {number},10.00 EUR,https://shop.example/{number},https://shop.example/{number}.jpg,Acme\n"
        for number in numbers
    )
    return f"id,title,price,link,image_link,brand\n{rows}".encode()


@pytest.mark.parametrize(
    "failpoint",
    [
        "import.after_survey=kill@2",
        "import.after_chunk=kill@1",
        "import.before_deletion=kill",
        "import.within_deletion=kill@2",
    ],
)
async def test_a_replacing_import_is_ended_by_another_worker(world: World, failpoint: str) -> None:
    await world.connect()
    service = ImportService(world.database, world.queue, max_upload_bytes=10_000_000)

    async def uploaded(content: bytes, mode: str) -> str:
        import_id = await service.create(world.store_id, file_name="feed.csv", mode=mode)
        await service.append_chunk(world.store_id, import_id, 0, content)
        await service.finish_upload(world.store_id, import_id)
        return import_id

    async def live() -> int:
        async with world.database.platform() as connection:
            found = await connection.scalar(text("SELECT count(*) FROM variants WHERE deleted_at IS NULL"))
        return int(found or 0)

    async def status() -> str:
        return (await service.get(world.store_id, import_id)).status

    import_id = await uploaded(feed(range(2500)), "upsert")
    with WorkerProcess(world) as worker:
        await until(status, "success", worker)
        await until_quiet(world, worker)
    assert len(world.at_meta()) == 2500
    import_id = await uploaded(feed(range(1000, 2600)), "replace")
    # 40 % are missing; the store lets an import delete half.
    await world.stores.patch_settings(world.store_id, {"guardMaxShare": 0.5})
    with WorkerProcess(world, failpoints=failpoint) as victim:
        assert await victim.wait() == -signal.SIGKILL, victim.log()
    assert await live() in {2500, 2600}, "deletions were seen before all of them were done"
    await let_leases_run_out(world)
    with WorkerProcess(world) as worker:
        await until(status, "success", worker)
        await until_quiet(world, worker)
        await world.assert_right()
    view = await service.get(world.store_id, import_id)
    assert (view.counts["created"], view.counts["unchanged"], view.counts["deleted"]) == (100, 1500, 1000)
    assert await live() == len(world.at_meta()) == 1600
