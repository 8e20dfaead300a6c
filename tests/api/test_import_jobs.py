"""Imports among the jobs: the same shape, list, stream and report; and called off without anything half applied."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from sqlalchemy import text

from meta_sync.catalog.ingest import import_cancel, import_replace, import_runner
from meta_sync.catalog.ingest.import_runner import ImportRunner
from tests.api.test_imports import feed, row
from tests.api.test_jobs import FIELDS, JOBS
from tests.api.test_sync import connect
from tests.support.api import Api, Caller, assert_error, product_body
from tests.support.pipeline import assert_sums, fetch, one
from tests.support.world import World
from tests.worker.watching import eventually


async def _upload(store: Caller, content: bytes, **query: str) -> str:
    """The id of an import that waits in line."""
    asked = "&".join(f"{name}={value}" for name, value in {"format": "google-csv", **query}.items())
    started = await store.data(
        "POST",
        f"/catalog/imports?{asked}",
        202,
        content=content,
        headers={"Content-Type": "application/octet-stream"},
    )
    return str(started["importId"])


def _stopped_at(
    monkeypatch: pytest.MonkeyPatch, name: str, passage: int, action: Callable[[], Awaitable[Any]]
) -> None:
    """Do something at a passage of a boundary of the runner."""
    passed = 0

    async def at(boundary: str) -> None:
        nonlocal passed
        passed += boundary == name
        if boundary == name and passed == passage:
            await action()

    monkeypatch.setattr(import_runner, "failpoint", at)


@pytest.fixture
def runner(api: Api, monkeypatch: pytest.MonkeyPatch) -> ImportRunner:
    monkeypatch.setattr(import_runner, "_CHUNK_ENTRIES", 3)
    return api.factory.import_runner()


async def _live(world: World) -> list[str]:
    return [
        row[0]
        for row in await fetch(world, "SELECT variant_id FROM variants WHERE deleted_at IS NULL ORDER BY 1")
    ]


async def test_an_import_is_a_job_like_any_other(world: World, store: Caller, runner: ImportRunner) -> None:
    await store.data("PUT", "/catalog/products/p0", json=product_body("v0"))
    await connect(store, enableSync=True)
    content = feed(row("a"), row("b"), row("c", price="19.99 USD"), row("d"))
    import_id = await _upload(store, content, fileName="autumn.csv", source="erp")
    waiting = await store.data("GET", f"{JOBS}/{import_id}")
    assert set(waiting) == FIELDS
    assert (waiting["status"], waiting["stage"], waiting["percent"], waiting["scope"]["kind"]) == (
        "queued", "waiting", 0, "file"
    )  # fmt: skip
    assert (waiting["type"], waiting["action"], waiting["description"]) == ("import", "import", "autumn.csv")
    assert waiting["importHref"] == f"/catalog/imports/{import_id}"
    assert await runner.run_next()
    job = await store.data("GET", waiting["href"])
    assert (job["status"], job["stage"], job["percent"]) == ("partial", "done", 100)
    assert job["counts"] == {
        "total": 4, "enqueued": 3, "unchanged": 0, "submitted": 0, "synced": 0, "failed": 1, "skipped": 0, "cancelled": 0
    }  # fmt: skip
    assert (job["error"]["code"], job["error"]["category"]) == ("rows_failed", "product")
    assert job["ratePerMinute"] > 0
    # The same lines under both addresses.
    report = await store("GET", f"{JOBS}/{import_id}/report")
    assert report.text == (await store("GET", f"/catalog/imports/{import_id}/report")).text
    assert "wrong_currency" in report.text
    streamed = await store("GET", f"{JOBS}/{import_id}/stream")
    assert streamed.text.count("event: done") == 1
    data = next(line for line in streamed.text.splitlines() if line.startswith("data: "))
    assert orjson.loads(data.removeprefix("data: "))["counts"] == job["counts"]
    assert_error(await store("POST", f"{JOBS}/{import_id}/cancel"), 409, "CONFLICT")


async def test_one_list_has_them_all(world: World, store: Caller, runner: ImportRunner) -> None:
    await store.data("PUT", "/catalog/products/p0", json=product_body("v0"))
    await connect(store, enableSync=True)
    await world.run()
    made = ["bootstrap"]
    for number in range(3):
        await _upload(store, feed(row(f"a{number}")))
        assert await runner.run_next()
        await store.data("POST", JOBS, 202)
        await world.run()
        made += ["import", "sync"]
    made.reverse()
    whole = (await store("GET", JOBS)).json()
    assert [job["type"] for job in whole["data"]] == made
    assert whole["metadata"]["total"] == 7
    for size in (1, 2, 3):
        by_page, by_cursor, cursor = [], [], ""
        for page in range(1, 9):
            by_page += (await store("GET", f"{JOBS}?limit={size}&page={page}")).json()["data"]
        while True:
            answered = (await store("GET", f"{JOBS}?limit={size}{cursor}")).json()
            by_cursor += answered["data"]
            if answered["metadata"]["nextCursor"] is None:
                break
            cursor = f"&cursor={answered['metadata']['nextCursor']}"
        assert by_page == by_cursor == whole["data"]
    only = (await store("GET", f"{JOBS}?type=import&status=success")).json()
    assert ([job["type"] for job in only["data"]], only["metadata"]["total"]) == (["import"] * 3, 3)
    assert (await store("GET", f"{JOBS}?type=import&status=queued")).json()["data"] == []
    await _upload(store, feed(row("late")))
    assert len((await store("GET", f"{JOBS}?status=queued")).json()["data"]) == 1


async def test_called_off_between_two_pieces_of_the_file(
    world: World, store: Caller, runner: ImportRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    await connect(store, enableSync=True)
    await world.run()
    import_id = await _upload(store, feed(*(row(f"v{number}") for number in range(10))))
    behind = await _upload(store, feed(row("v9", title="Later")))
    answered: list[Any] = []

    async def call_off() -> None:
        answered.append(await store("POST", f"{JOBS}/{import_id}/cancel"))

    _stopped_at(monkeypatch, "import.after_chunk", 2, call_off)
    assert await runner.run_next()
    (cancelled,) = answered
    job = cancelled.json()["data"]
    assert (cancelled.status_code, job["status"], job["stage"]) == (202, "cancelled", "done")
    assert "What came before row 6 had gone in and stays: 6 items created, 0 changed." in job["message"]
    assert (job["counts"]["total"], job["counts"]["enqueued"], job["error"]) == (6, 6, None)
    # What it says is what is there, and what is there is synced like anything else.
    assert await _live(world) == [f"v{number}" for number in range(6)]
    await world.run()
    await world.assert_right()
    await assert_sums(world)
    assert await one(world, "SELECT count(*) FROM import_chunks WHERE import_id = :id", id=import_id) == 0
    view = await store.data("GET", f"/catalog/imports/{import_id}")
    assert (view["status"], view["message"]) == ("cancelled", job["message"])
    assert (await store("POST", f"{JOBS}/{import_id}/cancel")).json()["data"] == job, "twice changes nothing"
    # The next one of the source waits no longer; what the first had noted of its file is swept away.
    monkeypatch.undo()
    assert await runner.run_next()
    assert (await store.data("GET", f"{JOBS}/{behind}"))["status"] == "success"
    await runner.sweep()
    assert await one(world, "SELECT count(*) FROM import_seen") == 0


@pytest.mark.parametrize(
    ("boundary", "said", "left"),
    [
        ("import.after_survey", "Nothing was imported and nothing deleted.", ["v0", "v1"]),
        ("import.after_chunk", "Nothing was deleted.", ["v0", "v1", "v7"]),
        ("import.before_deletion", "Nothing was deleted.", ["v0", "v1", "v7"]),
    ],
)
async def test_a_replacing_import_that_is_called_off_deletes_nothing(
    world: World,
    store: Caller,
    runner: ImportRunner,
    monkeypatch: pytest.MonkeyPatch,
    boundary: str,
    said: str,
    left: list[str],
) -> None:
    await _upload(store, feed(row("v0"), row("v1")))
    assert await runner.run_next()
    import_id = await _upload(store, feed(row("v7")), mode="replace", allowMassDelete="true")
    _stopped_at(monkeypatch, boundary, 1, lambda: store("POST", f"{JOBS}/{import_id}/cancel"))
    assert await runner.run_next()
    job = await store.data("GET", f"{JOBS}/{import_id}")
    assert job["status"] == "cancelled"
    assert said in job["message"]
    assert await _live(world) == left


async def test_within_the_deletion_it_waits_and_says_that_all_was_done(
    world: World, store: Caller, runner: ImportRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of a deletion is never left: who calls it off then is told that it came too late."""
    await _upload(store, feed(row("v0"), row("v1")))
    assert await runner.run_next()
    import_id = await _upload(store, feed(row("v7")), mode="replace", allowMassDelete="true")
    asked: list[asyncio.Task[Any]] = []

    async def call_off() -> None:
        asked.append(asyncio.create_task(store("POST", f"{JOBS}/{import_id}/cancel")))
        await eventually(
            lambda: fetch(world, "SELECT 1 FROM pg_locks WHERE NOT granted"), "its waiting for the deletion"
        )

    async def at(boundary: str) -> None:
        if boundary == "import.within_deletion" and not asked:
            await call_off()

    monkeypatch.setattr(import_replace, "failpoint", at)
    assert await runner.run_next()
    await asyncio.gather(*asked)
    job = await store.data("GET", f"{JOBS}/{import_id}")
    assert job["status"] == "cancelled"
    assert "all of it was done, 2 items that the file leaves out were deleted" in job["message"]
    assert await _live(world) == ["v7"]


async def test_a_dry_run_and_one_that_waits_leave_nothing(
    world: World, store: Caller, runner: ImportRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = await _upload(store, feed(row("v0")))
    answered = await store.data("POST", f"{JOBS}/{waits}/cancel", 202)
    assert (answered["status"], answered["message"]) == (
        "cancelled", "The import was called off. Nothing was imported."
    )  # fmt: skip
    assert not await runner.run_next()
    tried = await _upload(store, feed(*(row(f"v{number}") for number in range(8))), dryRun="true")
    _stopped_at(monkeypatch, "import.after_chunk", 1, lambda: store("POST", f"{JOBS}/{tried}/cancel"))
    assert await runner.run_next()
    job = await store.data("GET", f"{JOBS}/{tried}")
    assert (job["status"], job["dryRun"]) == ("cancelled", True)
    assert "dry run: nothing was written" in job["message"]
    assert await _live(world) == []


async def test_what_is_written_whole_is_not_waited_for(
    store: Caller, world: World, runner: ImportRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deletion may take minutes in its one transaction; whoever calls the import off then is told at once."""
    monkeypatch.setattr(
        import_cancel, "_WAIT_LITTLE", text("SELECT set_config('lock_timeout', '50ms', true)")
    )
    import_id = await _upload(store, feed(row("v0")))
    async with world.database.platform() as connection:
        await connection.execute(text("SELECT 1 FROM imports FOR UPDATE"))
        refused = await store("POST", f"{JOBS}/{import_id}/cancel")
    assert_error(refused, 409, "CONFLICT")
    assert "Try again" in refused.json()["message"]
    assert (await store.data("POST", f"{JOBS}/{import_id}/cancel", 202))["status"] == "cancelled"


async def test_who_may_and_whose(api: Api, store: Caller, runner: ImportRunner) -> None:
    import_id = await _upload(store, feed(row("v0")))
    viewer = await api.caller(permissions=["metaCatalog:view"])
    assert (await viewer("GET", f"{JOBS}/{import_id}")).status_code == 200
    assert_error(await viewer("POST", f"{JOBS}/{import_id}/cancel"), 403, "FORBIDDEN")
    other = await api.factory.stores().create("Other", currency="EUR")
    stranger = await api.caller(other.store_id)
    for method, path in (("GET", ""), ("GET", "/report"), ("GET", "/stream"), ("POST", "/cancel")):
        assert_error(await stranger(method, f"{JOBS}/{import_id}{path}"), 404, "NOT_FOUND")
    assert (await stranger("GET", JOBS)).json()["data"] == []
    assert await runner.run_next(), "nobody has called it off"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "file_refused"),
        (feed(row("v0", price="1.00 USD")), "no_row_imported"),
    ],
    ids=["no feed", "no row"],
)
async def test_what_fails_says_why(store: Caller, runner: ImportRunner, content: bytes, code: str) -> None:
    import_id = await _upload(store, content)
    await runner.run_next()
    job = await store.data("GET", f"{JOBS}/{import_id}")
    assert (job["status"], job["error"]["code"]) == ("error", code)
    assert job["error"]["message"] == job["message"]
    assert job["error"]["action"].endswith(".")
    assert (await store.data("GET", f"/catalog/imports/{import_id}"))["errorCode"] == code
