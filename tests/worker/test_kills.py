"""kill -9 at every boundary of the pipeline: another worker ends the work, nothing is lost and nothing is sent wrong."""

from __future__ import annotations

import signal
import socket
from collections.abc import AsyncIterator

import httpx
import pytest

from meta_sync.access.service import AccessService
from meta_sync.catalog.ingest.imports import ImportService
from meta_sync.core.db import Database
from meta_sync.core.failpoints import FAILPOINTS
from meta_sync.sandbox.options import DEMO_CATALOG_ID
from tests.support.findings import states_of
from tests.support.pipeline import execute, fetch
from tests.support.processes import WorkerProcess, let_leases_run_out, open_real_world, until, until_quiet
from tests.support.world import World, product, variant

pytestmark = pytest.mark.kill

_PRODUCTS = 40
_OF_THE_PIPELINE = [
    name
    for name in FAILPOINTS
    if name.partition(".")[0] in {"claim", "submit", "outcome", "poll", "settle", "job"}
]


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_real_world(database, database_url) as world:
        yield world


async def _fill(world: World, price: int) -> None:
    await world.catalog.put_products(
        world.store_id,
        [
            product(
                f"p{number}",
                variant(f"p{number}-a", price, special_price=price // 2),
                variant(f"p{number}-b", price),
            )
            for number in range(_PRODUCTS)
        ],
    )


_SECOND_PASSAGES = ("submit.after_call", "settle.before_commit")
"""Where the second passage differs from the first: other batches are already at Meta, or settled."""


@pytest.mark.parametrize(
    ("name", "passage"), [(name, 1) for name in _OF_THE_PIPELINE] + [(name, 2) for name in _SECOND_PASSAGES]
)
async def test_killed_at_a_failpoint(world: World, name: str, passage: int) -> None:
    await _fill(world, 1000)
    await world.connect()
    # Small batches, so that every boundary is passed more than once.
    await world.stores.patch_settings(world.store_id, {"batchSize": 50})
    with WorkerProcess(world, failpoints=f"{name}=kill@{passage}") as victim:
        assert await victim.wait() == -signal.SIGKILL, victim.log()
    # The world goes on while the worker is down.
    await world.put("p1", variant("p1-a", 7777))
    await world.catalog.delete_product(world.store_id, "p2")
    await let_leases_run_out(world)
    with WorkerProcess(world) as worker:
        await until_quiet(world, worker)
        await world.assert_right()
        assert worker.stop() == 0, worker.log()
    assert world.at_meta()["p1-a"]["price"] == "77.77 EUR"
    assert "sale_price" not in world.at_meta()["p1-a"]
    assert all(state["attempts"] == 0 for state in (await world.states()).values())


async def test_an_import_is_ended_by_another_worker(world: World) -> None:
    await world.connect()
    rows = "".join(
        f"i{number},Item {number},10.00 EUR,https://shop.example/{number},https://shop.example/{number}.jpg,Acme\n"
        for number in range(2500)
    )
    content = f"id,title,price,link,image_link,brand\n{rows}".encode()
    service = ImportService(world.database, world.queue, max_upload_bytes=10_000_000)
    import_id = await service.create(world.store_id, file_name="feed.csv")
    await service.append_chunk(world.store_id, import_id, 0, content)
    await service.finish_upload(world.store_id, import_id)
    with WorkerProcess(world, failpoints="import.after_chunk=kill@2") as victim:
        assert await victim.wait() == -signal.SIGKILL, victim.log()
    await let_leases_run_out(world)

    async def status() -> str:
        return (await service.get(world.store_id, import_id)).status

    with WorkerProcess(world) as worker:
        await until(status, "success", worker)
        await until_quiet(world, worker)
        await world.assert_right()
    view = await service.get(world.store_id, import_id)
    assert view.counts["created"] == len(world.at_meta()) == 2500


_AGED = """
    UPDATE sync_state SET updated_at = t.at, last_pushed_at = t.at, confirmed_at = t.at
    FROM (SELECT now() - interval '1 hour' AS at) AS t
"""


async def test_a_reconciliation_is_ended_by_another_worker(world: World) -> None:
    """Killed between Meta's answer and the transaction that writes it: nothing is counted twice, or believed too early."""
    await world.connect()
    await world.put("p", variant("a"), variant("b"), variant("c"))
    await world.run()
    await execute(world, _AGED)
    await execute(world, "UPDATE variants SET updated_at = now() - interval '1 hour'")
    catalog = world.sandbox.catalog(DEMO_CATALOG_ID)
    catalog.remove("a")
    catalog.store("other", {"id": "other", "title": "Mug"})
    job_id = await world.reconciliations.start(world.store_id, actor="somebody")

    async def stage() -> str:
        return (await world.reconciliations.get(world.store_id, job_id)).job.stage

    with WorkerProcess(world, failpoints="reconcile.after_second_read=kill") as victim:
        await until(stage, "rereading", victim)
        # A quarter of an hour has passed.
        await execute(world, "UPDATE jobs SET leased_until = now()")
        assert await victim.wait() == -signal.SIGKILL, victim.log()
    assert set((await states_of(world)).values()) == {"suspected"}
    await let_leases_run_out(world)
    another = world.pipeline()
    while await stage() != "done":
        assert await another.read_jobs_tick() == 1
    found = await world.reconciliations.get(world.store_id, job_id)
    assert (found.job.status, found.job.looked_at) == ("success", 3)
    assert (found.tally.missing, found.tally.foreign, found.tally.compared, found.tally.busy) == (1, 1, 2, 0)
    assert await states_of(world) == {"a": "agreed", "other": "agreed"}
    assert await fetch(world, "SELECT 1 FROM job_keys") == []


@pytest.mark.parametrize("name", ["catalog.before_commit", "catalog.after_commit"])
async def test_an_api_process_killed_at_a_commit(world: World, name: str) -> None:
    """Either nothing of the change is there, or all of it: the product and the intent to send it."""
    await world.put("p", variant("a", 1000))
    await world.connect()
    key = await AccessService(world.database).create_key(world.store_id, ["catalog:write"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    body: dict[str, object] = {
        "title": "P",
        "slug": "p",
        "brand": "B",
        "thumbnail": "https://shop.example/p.jpg",
    }
    body |= {"variants": [{"id": "a", "price": 2000}]}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        with WorkerProcess(world, "api", "--port", str(port), failpoints=f"{name}=kill") as victim:
            await until(lambda: _answers(client), True, victim)
            with pytest.raises(httpx.TransportError):
                await client.put(
                    "/catalog/products/p", json=body, headers={"X-API-Key": key.api_key}, timeout=20
                )
            assert await victim.wait() == -signal.SIGKILL, victim.log()
    with WorkerProcess(world) as worker:
        await until_quiet(world, worker)
        await world.assert_right()
    assert world.at_meta()["a"]["price"] == ("10.00 EUR" if name == "catalog.before_commit" else "20.00 EUR")


async def _answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/health/live")).status_code == 200
    except httpx.TransportError:
        return False
