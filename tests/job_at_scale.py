"""A large store through a dry run, a job that is called off twice, and one that ends; its numbers are looked at throughout.

Not part of the test suite by its size; the suite runs a small one. By hand::

    python -m tests.job_at_scale --variants 100000

A real PostgreSQL, a worker in a process of its own, the API behind a socket, and the sandbox as Meta. While each job runs it
is sampled by `GET` and by its event stream, beside the status of the store. Ends with an error at the first sample whose
numbers do not add up, and unless the sandbox ends up with exactly what the mapper makes of the catalog.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import io
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
from sqlalchemy import text

from meta_sync.api import event_stream
from meta_sync.api.event_stream import StreamTimes
from meta_sync.core.db import Database
from meta_sync.core.logging import configure_logging
from meta_sync.sandbox.options import SandboxOptions
from meta_sync.sync.drain import Timing
from tests.soak import fill
from tests.support.api import Caller, open_api
from tests.support.forked import Changes, ForkedWorker
from tests.support.pipeline import assert_sums, fetch, one
from tests.support.postgres import fresh_database, running_postgres
from tests.support.processes import open_real_world, until_quiet
from tests.support.serving import serving
from tests.support.watched_job import OVER, Watched, table_of
from tests.support.world import FAST, World

__all__ = ["run_at_scale"]

_JOBS = "/admin/meta/sync-jobs"
_SMALL = 10_000
"""Below it the waits of the tests are enough; above, those of production."""
_STREAM_SECONDS = 1_800.0
_QUICK = StreamTimes(look=0.05, idle_look=0.1)
_PER_PRODUCT = 4


class Scale:
    """The store, the API over it, and what happened so far."""

    def __init__(self, world: World, store: Caller, worker: ForkedWorker, variants: int) -> None:
        self.world = world
        self.store = store
        self.worker = worker
        self.variants = variants
        self.phases: list[Watched] = []

    async def start(self, **body: Any) -> str:
        started = await self.store.data("POST", _JOBS, 202, json=body)
        conflict = await self.store("POST", _JOBS, json=body)
        assert conflict.status_code == 409
        told = {one["field"]: one["message"] for one in conflict.json()["details"]}
        assert told["jobId"] == started["jobId"], conflict.text
        return str(started["jobId"])

    async def status(self, watched: Watched) -> dict[str, Any]:
        """The store's own counts, which add up to its items at every moment."""
        counts: dict[str, Any] = (await self.store.data("GET", "/admin/meta/status"))["counts"]
        by_status = ("synced", "submitted", "pending", "failed", "skipped", "deleted", "neverSynced")
        assert sum(counts[name] for name in by_status) == counts["total"] == self.variants, counts
        watched.statuses += 1
        return counts

    async def look(self, watched: Watched, job_id: str) -> dict[str, Any]:
        job: dict[str, Any] = await self.store.data("GET", f"{_JOBS}/{job_id}")
        watched.saw(job, how="GET")
        watched.samples += 1
        return job

    async def _follow(self, watched: Watched, job_id: str) -> None:
        """Read the event stream to its end; connect again as a client does when it is over before the job."""
        headers = dict(self.store.headers)
        while True:
            async with self.store.http.stream(
                "GET", f"{_JOBS}/{job_id}/stream", headers=headers, timeout=_STREAM_SECONDS
            ) as answer:
                assert answer.status_code == 200
                event: dict[str, str] = {}
                async for line in answer.aiter_lines():
                    name, _, value = line.partition(": ")
                    if line:
                        event[name] = value
                        continue
                    if "data" in event:
                        watched.saw(orjson.loads(event["data"]), how="stream")
                        watched.events += 1
                        headers["Last-Event-ID"] = event["id"]
                        if event["event"] == "done":
                            return
                    event = {}

    async def watch(
        self, name: str, job_id: str, *, until: Callable[[dict[str, Any]], bool] | None = None
    ) -> Watched:
        """Sample a job until it is over, or until a sample that is waited for; then its stream is left alone."""
        watched = Watched(name)
        self.phases.append(watched)
        calls = self.world.calls()
        stream = asyncio.create_task(self._follow(watched, job_id))
        looked_at = 0.0
        try:
            while True:
                job = await self.look(watched, job_id)
                await self.status(watched)
                if until is not None and until(job):
                    stream.cancel()
                    break
                if job["estimatedFinishAt"] is not None and time.monotonic() - looked_at > 1:
                    looked_at = time.monotonic()
                    watched.estimates.append(_seconds_ahead(job))
                if job["status"] in OVER:
                    await asyncio.wait_for(stream, 30)
                    break
                assert until is None or job["status"] not in OVER, f"over too soon: {job}"
                assert self.worker.process.poll() is None, self.worker.log()[-3000:]
                await asyncio.sleep(0.04 if self.variants < _SMALL else 0.25)
        finally:
            stream.cancel()
            await asyncio.gather(stream, return_exceptions=True)
        watched.seconds = time.monotonic() - watched.began_at
        watched.calls = self.world.calls() - calls
        return watched

    async def cancel(self, job_id: str) -> dict[str, Any]:
        answered = await self.store("POST", f"{_JOBS}/{job_id}/cancel")
        assert answered.status_code == 202, answered.text
        job: dict[str, Any] = answered.json()["data"]
        assert job["status"] == "cancelling", job
        return job

    async def quiet(self) -> None:
        await until_quiet(self.world, self.worker, 900)

    async def kept(self) -> list[Any]:
        """What a dry run must not touch, in one figure per table."""
        return [
            await one(self.world, f"SELECT count(*), md5(string_agg(md5(t::text), '' ORDER BY {key})) FROM {name} AS t")
            for name, key in (
                ("intents", "variant_id"),
                ("sync_state", "variant_id"),
                ("item_payloads", "variant_id"),
                ("batches", "batch_id"),
                ("job_pages", "first_id"),
            )
        ]  # fmt: skip


def _seconds_ahead(job: dict[str, Any]) -> float:
    return (datetime.fromisoformat(job["estimatedFinishAt"]) - datetime.now(UTC)).total_seconds()


_CHANGE = """
    UPDATE variants SET price = CASE WHEN hashtext(variant_id) % 100 = 7 THEN NULL ELSE price + 1 END
    WHERE abs(hashtext(variant_id)) % 10 < 8
"""
"""Four items in five differ from what Meta has, some of them are not fit to be shown any more, and nobody has said so."""


async def _first_sync(scale: Scale) -> None:
    """The bootstrap that the selection of a catalog begins."""
    await scale.world.connect()
    jobs = (await scale.store("GET", f"{_JOBS}?type=bootstrap")).json()["data"]
    watched = await scale.watch("first sync", jobs[0]["id"])
    assert (watched.job["status"], watched.job["counts"]["synced"]) == ("success", scale.variants), (
        watched.job
    )
    await scale.quiet()


async def _dry_run(scale: Scale, name: str) -> dict[str, Any]:
    """Try a sync out; what it found. Nothing is written, nothing is called."""
    before = await scale.kept()
    watched = await scale.watch(name, await scale.start(dryRun=True))
    assert await scale.kept() == before
    assert watched.calls == 0
    job = watched.job
    assert (job["status"], job["counts"]["unchanged"]) == ("success", scale.variants), job
    result: dict[str, Any] = job["result"]
    decisions = result["decisions"]
    assert sum(decisions.values()) == scale.variants, result
    sends = decisions["create"] + decisions["update"] + decisions["delete"]
    answered = await scale.store("GET", f"{job['href']}/report")
    lines = list(csv.DictReader(io.StringIO(answered.text)))
    assert len(lines) == result["reportLines"] == min(sends, 10_000), (len(lines), result)
    for line in lines[:200]:
        before_it, after_it = orjson.loads(line["before"]), orjson.loads(line["after"])
        assert line["decision"] in {"update", "delete"}, line
        if line["decision"] == "update":
            assert set(before_it) == set(after_it) == {"price"}, line
            assert before_it["price"] != after_it["price"], line
    return result


async def _call_off_early(scale: Scale) -> None:
    """While the job still looks for what differs: the cursor stops where it is."""
    job_id = await scale.start(description="called off while it looks")
    watched = await scale.watch(
        "called off early", job_id, until=lambda job: job["stage"] == "enqueuing" and job["counts"]["submitted"] > 0
    )  # fmt: skip
    called_off = await scale.cancel(job_id)
    cursor = await one(scale.world, "SELECT cursor, looked_at FROM jobs WHERE job_id = :id", id=job_id)
    rest = await scale.watch("  its end", job_id)
    assert (
        await one(scale.world, "SELECT cursor, looked_at FROM jobs WHERE job_id = :id", id=job_id) == cursor
    )
    assert cursor[1] < scale.variants, "called off in the middle"
    assert rest.job["status"] == "cancelled", rest.job
    assert called_off["counts"]["cancelled"] <= rest.job["counts"]["cancelled"], rest.job
    assert rest.job["counts"]["cancelled"] > 0
    assert await fetch(scale.world, "SELECT variant_id FROM intents") == []
    assert watched.job["id"] == job_id


_CLAIMED_SINCE = """
    SELECT i.variant_id FROM batch_items AS i JOIN batches AS b USING (batch_id)
    WHERE b.created_at >= (SELECT created_at FROM jobs WHERE job_id = :id)
"""


async def _call_off_paused(scale: Scale) -> None:
    """With the store switched off: what people changed meanwhile stays, what only the job wanted goes."""
    job_id = await scale.start(description="called off while paused")
    want = max(1, scale.variants // 10)
    await scale.watch("called off", job_id, until=lambda job: job["counts"]["synced"] >= want)
    await scale.store.data("PATCH", "/admin/meta/settings", json={"syncEnabled": False})
    waiting = await _waits_paused(scale, job_id)
    # Some of these wait for the job's sake already, others differ from nothing that it knows of.
    edited = [f"p{number}-a" for number in range(0, scale.variants // _PER_PRODUCT, 97)][:50]
    for variant_id in edited:
        await scale.store.data(
            "PUT",
            f"/catalog/variants/{variant_id}/inventory",
            json={"trackInventory": True, "quantityOnHand": 7},
        )
    mine = await one(scale.world, "SELECT count(*) FROM intents WHERE job_id = :id", id=job_id)
    assert mine > 0, waiting
    await scale.cancel(job_id)
    rest = await scale.watch("  its end", job_id)
    assert rest.job["status"] == "cancelled", rest.job
    left = dict(await fetch(scale.world, "SELECT variant_id, job_id FROM intents"))
    # What a turn had claimed when the store was switched off was given back, and is finished whoever wanted it.
    claimed = {row[0] for row in await fetch(scale.world, _CLAIMED_SINCE, id=job_id)}
    assert set(left.values()) == {None}, left
    assert set(edited) <= set(left) <= {*edited, *claimed}, left
    calls = scale.world.calls()
    await scale.store.data("PATCH", "/admin/meta/settings", json={"syncEnabled": True})
    await scale.quiet()
    assert scale.world.calls() - calls <= 2, "only what people changed"


async def _waits_paused(scale: Scale, job_id: str) -> dict[str, Any]:
    """The job once all that was at Meta has ended: it says why it stands still, and promises no end."""
    watched = Watched("  paused")
    for _ in range(4_000):
        job = await scale.look(watched, job_id)
        if not job["counts"]["submitted"] and not await one(
            scale.world, "SELECT count(*) FROM sync_state WHERE in_flight IS NOT NULL"
        ):
            break
        await asyncio.sleep(0.05)
    job = await scale.look(watched, job_id)
    assert job["status"] == "running", job
    assert job["estimatedFinishAt"] is None, job
    assert "switched off" in job["message"], job
    return job


async def _refuse_some(scale: Scale) -> set[str]:
    """Items that differ still and that Meta will not take."""
    rows = await fetch(
        scale.world,
        """
        SELECT s.variant_id FROM sync_state AS s JOIN variants AS v USING (store_id, variant_id)
        WHERE s.last_pushed_at < (SELECT min(created_at) FROM jobs WHERE type = 'sync')
          AND v.price IS NOT NULL AND abs(hashtext(v.variant_id)) % 10 < 8
        ORDER BY abs(hashtext(v.variant_id)) % 1000, v.variant_id LIMIT :most
        """,
        most=max(3, scale.variants // 500),
    )
    refused = {row[0] for row in rows}
    assert refused
    for variant_id in refused:
        scale.world.sandbox.refuse(variant_id, "No.")
    return refused


async def _run_to_the_end(scale: Scale, forecast: dict[str, Any], refused: set[str]) -> None:
    """What the last dry run said is what happens."""
    job_id = await scale.start(description="to the end")
    job = (watched := await scale.watch("to the end", job_id)).job
    counts, decisions = job["counts"], forecast["decisions"]
    sends = decisions["create"] + decisions["update"] + decisions["delete"]
    assert job["status"] == ("partial" if refused else "success"), job
    assert (counts["synced"] + counts["failed"], counts["failed"]) == (sends, len(refused)), (
        counts,
        forecast,
    )
    assert counts["unchanged"] + counts["skipped"] == decisions["unchanged"] + decisions["skip"], (
        counts,
        forecast,
    )
    await scale.quiet()
    # Its last batches may be smaller than they could be: nothing waits for more to come.
    assert forecast["calls"] <= watched.calls <= forecast["calls"] + 2, (watched.calls, forecast)


async def _resync_failed(scale: Scale, refused: set[str]) -> None:
    for variant_id in refused:
        assert scale.world.sandbox.lift_refusal(variant_id)
    started = await scale.store.data("POST", "/admin/meta/items/bulk/resync-failed", 202)
    assert started["enqueued"] == len(refused)
    watched = await scale.watch("what had failed", started["jobId"])
    assert (watched.job["status"], watched.job["counts"]["synced"]) == ("success", len(refused)), watched.job
    await scale.quiet()


@asynccontextmanager
async def _opened(database_url: str, variants: int, batch_size: int) -> AsyncIterator[Scale]:
    is_small = variants < _SMALL
    database = Database.connect(database_url, pool_size=8)
    options = SandboxOptions(processing_delay_seconds=0.1 if is_small else 1.0, calls_per_hour=1_000_000)
    # The allowance of an hour would make it last an hour.
    changes = Changes(
        timing=FAST if is_small else Timing(),
        calls_per_hour=1_000_000,
        job_page=max(1, variants // 10) if is_small else None,
        idle_seconds=0.05 if is_small else None,
    )
    # So that even a small one is met in the middle.
    armed = "job.after_page=sleep:0.03" if is_small else ""
    times, event_stream._TIMES = event_stream._TIMES, _QUICK if is_small else event_stream._TIMES
    try:
        async with open_real_world(database, database_url, options) as world:
            await fill(world, variants)
            settings = {"batchSize": batch_size, "guardMaxShare": 1.0}
            await world.stores.patch_settings(world.store_id, settings)
            with ForkedWorker(world, changes=changes, failpoints=armed) as worker:
                async with (
                    open_api(world) as api,
                    serving(api.app) as address,
                    httpx.AsyncClient(base_url=address, timeout=60) as http,
                ):
                    store = await api.caller()
                    yield Scale(world, Caller(http, store.headers), worker, variants)
                assert worker.stop() == 0, worker.log()
    finally:
        event_stream._TIMES = times
        await database.dispose()


async def run_at_scale(database_url: str, *, variants: int, batch_size: int = 2_500) -> str:
    """Run it; a table of what happened."""
    began = time.monotonic()
    variants -= variants % _PER_PRODUCT
    async with _opened(database_url, variants, batch_size) as scale:
        world = scale.world
        filled = time.monotonic() - began
        await _first_sync(scale)
        await _change(scale)
        first = await _dry_run(scale, "dry run")
        deletes = await one(world, "SELECT count(*) FROM variants WHERE price IS NULL")
        differ = await one(
            world,
            "SELECT count(*) FROM variants WHERE abs(hashtext(variant_id)) % 10 < 8 AND price IS NOT NULL",
        )
        assert first["decisions"] == {
            "create": 0, "update": differ, "delete": deletes, "unchanged": variants - differ - deletes, "skip": 0
        }, (first, differ, deletes)  # fmt: skip
        await _call_off_early(scale)
        await _call_off_paused(scale)
        second = await _dry_run(scale, "dry run again")
        left = second["decisions"]
        assert left["update"] + left["delete"] < first["decisions"]["update"] + first["decisions"]["delete"]
        refused = await _refuse_some(scale)
        await _run_to_the_end(scale, second, refused)
        await assert_sums(world)
        await _resync_failed(scale, refused)
        await world.assert_right()
        await assert_sums(world)
        last = await _dry_run(scale, "dry run at last")
        assert (last["calls"], last["decisions"]["update"]) == (0, 0), last
        estimates = [
            f"{seconds:.0f}" for one in scale.phases for seconds in one.estimates if one.name == "to the end"
        ]
    return (
        f"{table_of(scale.phases)}\n"
        f"Forecast of the last run: {second['calls']} calls. Estimated ends of it, in seconds ahead, a second apart:"
        f" {' '.join(estimates) or 'none'}.\n"
        f"{variants} variants, all right, after {time.monotonic() - began:.0f} s, of which {filled:.0f} s to fill the store."
    )


async def _change(scale: Scale) -> None:
    async with scale.world.database.platform() as connection:
        await connection.execute(text(_CHANGE))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", type=int, default=100_000)
    parser.add_argument("--batch-size", type=int, default=2_500)
    arguments = parser.parse_args()
    configure_logging("WARNING", "console")
    with running_postgres() as server, fresh_database(server) as url:
        print(asyncio.run(run_at_scale(url, variants=arguments.variants, batch_size=arguments.batch_size)))


if __name__ == "__main__":
    main()
