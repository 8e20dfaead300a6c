"""The API with something to find in it, behind a real socket, and schemathesis as a program that knows only its document.

Nothing leaves this machine: the sandbox stands in for Meta, and addresses of feeds lead to a server of the test or nowhere.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from meta_sync.access.models import Permission
from meta_sync.api import event_stream
from meta_sync.api.body_guard import BodyLimits
from meta_sync.core.db import Database
from meta_sync.core.outbound import OutboundClient
from meta_sync.sandbox.options import DEMO_ACCESS_TOKEN, DEMO_BUSINESS_ID, DEMO_CATALOG_ID, SandboxOptions
from meta_sync.worker.process import run_worker
from tests.support.api import Api, open_api, product_body
from tests.support.feed_server import FeedServer, feed_server, lets_loopback_in, plain
from tests.support.imports import feed as feed_file
from tests.support.serving import serving
from tests.support.world import World, open_world

__all__ = ["CONFIGURATION", "Credentials", "Outcome", "Service", "open_service", "run_schemathesis"]

CONFIGURATION = Path(__file__).resolve().parents[1] / "schemathesis.toml"

_VIEW = (Permission.CATALOG_VIEW, Permission.PRODUCTS_READ)


@dataclass(frozen=True)
class Credentials:
    """What one run calls with. ``store_id`` goes along as X-Store-Id."""

    key: str | None
    store_id: str


@dataclass
class Service:
    """A service that runs, the objects of its store, and a credential of every kind."""

    url: str
    api: Api
    ids: dict[str, list[str]]
    credentials: dict[str, Credentials]
    kept_keys: list[str]

    async def is_whole(self) -> bool:
        """Whether the store, its credentials and its items are still there for a run to find."""
        for one in self.credentials.values():
            headers = {"X-API-Key": one.key} if one.key else {}
            answered = await self.api.http.get("/admin/me", headers=headers)
            if answered.status_code != (200 if one.key else 401):
                return False
        return True


@asynccontextmanager
async def open_service(database: Database, database_url: str) -> AsyncIterator[Service]:
    """A store with items in every state, jobs, imports, feeds and keys, and a worker that goes on."""
    options = SandboxOptions(processing_delay_seconds=0.01, calls_per_hour=1_000_000)
    async with (
        open_world(database, database_url, options) as world,
        feed_server() as feeds,
        open_api(world, limits=BodyLimits(upload_bytes=2**20, stall_seconds=5.0)) as api,
    ):
        api.context.outbound = OutboundClient(
            resolve=feeds.resolve, is_allowed=lets_loopback_in, ports={80, 443, feeds.port}
        )
        ids = await _fill(world, api, feeds)
        keys = {
            "platform": await api.key(None, tuple(Permission)),
            "store": await api.key(world.store_id),
            "reader": await api.key(world.store_id, _VIEW),
        }
        credentials = {who: Credentials(key, world.store_id) for who, (_, key) in keys.items()}
        credentials["nobody"] = Credentials(None, world.store_id)
        stop = asyncio.Event()
        worker = asyncio.create_task(
            run_worker(
                worker_id="worker-1",
                database=database,
                queue=world.queue,
                redis_url=None,
                pipeline=world.pipeline(),
                imports=api.factory.import_runner(),
                feeds=api.factory.feed_fetcher(),
                stop=stop,
            )
        )
        try:
            # A stream of a job that waits would be as long as a request may take.
            async with serving(api.app) as url, _short_streams():
                yield Service(url, api, ids, credentials, [key_id for key_id, _ in keys.values()])
        finally:
            stop.set()
            await worker


@asynccontextmanager
async def _short_streams() -> AsyncIterator[None]:
    with patch.object(event_stream, "_TIMES", event_stream.StreamTimes(look=0.1, idle_look=0.1, life=0.3)):
        yield


async def _fill(world: World, api: Api, feeds: FeedServer) -> dict[str, list[str]]:
    """Put something behind every address that reads; the ids by the parameter that names them."""
    store, platform = await api.caller(), await api.platform()
    world.sandbox.refuse("bad", "The item was refused.")
    await store.data("PUT", "/catalog/products/p", json=product_body("v", "bad"))
    await store.data("PUT", "/catalog/products/bare", json=product_body("bare", thumbnail=None))
    await store.data("PUT", "/catalog/products/odd", json=product_body("a/b"))
    await store.data("POST", "/admin/meta/token", json={"accessToken": DEMO_ACCESS_TOKEN})
    selection = {
        "businessId": DEMO_BUSINESS_ID, "businessName": "Acme", "catalogId": DEMO_CATALOG_ID,
        "catalogName": "Master", "enableSync": True,
    }  # fmt: skip
    await store.data("POST", "/admin/meta/select-catalog", json=selection)
    await world.run()
    job = await store.data("POST", "/admin/meta/sync-jobs", 202, json={"dryRun": True, "force": True})
    await world.run()
    content = feed_file(("imported", "1.00 EUR"), ("faulty", "cheap"))
    feeds.answers["/feed.csv"] = plain(content)
    uploaded = await store.data("POST", "/catalog/imports?fileName=a.csv", 202, content=content)
    assert await api.factory.import_runner().run_next()
    made = await store.data(
        "POST", "/catalog/feeds", 201, json={"url": feeds.url(), "source": "main", "intervalSeconds": 3600}
    )
    await world.run()
    handles = await store.data("GET", "/admin/meta/handles")
    assert handles
    assert await store.data("GET", "/admin/meta/items?status=skipped")
    key = await platform.data(
        "POST", f"/platform/stores/{world.store_id}/api-keys", json={"permissions": ["catalog:read"]}
    )
    return {
        "importId": [uploaded["importId"]],
        "jobId": [job["jobId"]],
        "feedId": [made["feedId"]],
        "keyId": [key["keyId"]],
        "id": [one["id"] for one in handles],
        "storeId": [world.store_id],
    }


@dataclass
class Outcome:
    """What one run came to."""

    passed: bool
    text: str
    """What the program printed."""
    calls: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    """By phase, operation and status."""
    checks: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By check and how it ended."""

    @property
    def findings(self) -> str:
        """The part of the text that says what is wrong."""
        begin = self.text.find(" FAILURES ")
        return self.text[max(0, begin if begin >= 0 else self.text.find(" ERRORS ")) :][:20_000]

    def statuses(self, operation: str) -> set[int]:
        """What an operation answered."""
        return {status for _, one, status in self.calls if one == operation}


async def run_schemathesis(
    service: Service,
    who: str,
    directory: Path,
    *arguments: str,
    share: int = 1,
    sequences: int = 100,
    examples: int = 100,
) -> Outcome:
    """Run the program against the service with one kind of credential.

    Parameters
    ----------
    service
        What is called. Its credentials outlive the run.
    who
        The kind of credential.
    directory
        For what the program writes.
    arguments
        To its command ``run``.
    share
        Only one in so many cases of the phase "coverage" is sent.
    sequences
        How many sequences of calls are tried in the phase "stateful".
    examples
        How many cases are drawn per operation in the phase "fuzzing". Beginning with an operation is dear, a case is not.
    """
    credentials = service.credentials[who]
    report = directory / f"{who}.ndjson"
    configuration = directory / f"{who}.toml"
    configuration.write_text(
        f"{CONFIGURATION.read_text()}\n[phases.fuzzing.generation]\nmax-examples = {examples}\n"
        f"\n[phases.stateful.generation]\nmax-examples = {sequences}\n"
    )
    command = [
        sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()",
        "--config-file", str(configuration), "run",
        "--report", "ndjson", "--report-ndjson-path", str(report), *arguments,
        "--header", f"X-Store-Id: {credentials.store_id}",
    ]  # fmt: skip
    if credentials.key:
        command += ["--header", f"Authorization: Bearer {credentials.key}"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(CONFIGURATION.parents[1]),
        "CONFORMANCE_KEPT_KEYS": ",".join(service.kept_keys),
        "CONFORMANCE_SHARE": str(share),
        "CONFORMANCE_IDS": json.dumps(service.ids),
    }
    process = await asyncio.create_subprocess_exec(
        *command,
        f"{service.url}/openapi.json",
        cwd=directory,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    outcome = Outcome(process.returncode == 0, output.decode())
    if report.exists():
        for line in report.read_text().splitlines():
            finished = json.loads(line).get("ScenarioFinished")
            if finished is not None:
                _count(outcome, finished["phase"], finished["recorder"])
    return outcome


def _count(outcome: Outcome, phase: str, recorder: dict[str, Any]) -> None:
    for case_id, interaction in recorder.get("interactions", {}).items():
        case = recorder["cases"][case_id]["value"]
        response = interaction["response"]
        status = response["status_code"] if response else 0
        outcome.calls[phase, f"{case['method']} {case['path']}", status] += 1
    for checks in recorder.get("checks", {}).values():
        for check in checks:
            outcome.checks[check["name"], check["status"]] += 1
