"""Every list of a large store against its limit: ``python -m bench.lists [--variants N] [--gate]``.

Each request goes through the whole service in this process: key, routing, transaction, statements, JSON. The limit is the
plainest page there is, through the same connections and the same API: fifty rows in the order of an index. Beside the
time of the request stands how much of it passed in the database. Requests take turns, so that what disturbs the machine
disturbs them all alike. The gate is on processor time, ours and the database's, which a busy machine changes less.

Beside the table of single requests stands the 95th percentile of the list of items: of all answers to its requests taken
together, each filter, order and depth having been asked for equally often.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from time import perf_counter, process_time
from typing import Any

import httpx
from sqlalchemy import event

from bench.list_data import RARE_WORD, STORE_ID, fill
from bench.program import connect
from meta_sync.api.app import create_app
from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.core.config import load_settings
from meta_sync.core.crypto import generate_encryption_key
from meta_sync.core.db import Database
from meta_sync.core.logging import configure_logging
from meta_sync.core.migrations import upgrade
from meta_sync.core.paging import MAX_PAGE_ROWS
from meta_sync.core.queue import MemoryJobQueue
from meta_sync.factory import Factory, ProcessContext

__all__ = ["main"]

_DATABASE = "bench"
_SERVER = {"shared_buffers": "1GB", "max_wal_size": "4GB"}
_MOST_SECONDS = 0.050
"""The 95th of a hundred requests may take so long."""
_WARM_UP = 6
"""A connection has then had its statements planned for all values."""
_LIMIT = "limit: a page in the order of an index"
_ITEMS, _ERRORS = "/admin/meta/items", "/admin/meta/errors"


@dataclass
class Request:
    """One list as it is asked for, and how long each of its answers took."""

    name: str
    path: str
    parameters: dict[str, Any] = field(default_factory=dict)
    is_deep: bool = False
    """Ask behind the cursor of a page in the middle."""
    is_platform: bool = False
    seconds: list[float] = field(default_factory=list)
    database_seconds: list[float] = field(default_factory=list)
    processor_seconds: list[float] = field(default_factory=list)
    total: str = ""


def _requests(ids: dict[str, str]) -> Iterator[Request]:
    yield Request(_LIMIT, "/catalog/imports", {"limit": 50})
    yield from _item_requests(ids)
    for name, parameters in _FILTERS.items():
        if "status" not in parameters:
            yield Request(f"errors: {name}", _ERRORS, {**parameters, **_of(ids, parameters)})
    for path, parameters in _OTHERS:
        shown = "&".join(f"{name}={value}" for name, value in parameters.items())
        yield Request(f"{path} {shown}".strip(), path.format(**ids), parameters)
        if path.split("/")[-1] not in {"status", "{item}"}:
            is_platform = path.startswith("/platform")
            deepest = {"page": 50, "limit": 200}
            yield Request(
                f"{path} {shown} last page", path.format(**ids), {**parameters, **deepest}, False, is_platform
            )
            yield Request(
                f"{path} {shown} behind a cursor", path.format(**ids), parameters, True, is_platform
            )


_COMMON, _LESS_COMMON = "shirt", "linen"
_FILTERS: dict[str, dict[str, Any]] = {
    "no filter": {},
    **{
        f"status={status}": {"status": status}
        for status in ("synced", "failed", "skipped", "pending", "submitted", "deleted", "never_synced")
    },
    "a product": {"productId": "{product}"},
    **{f"lane={lane}": {"lane": lane} for lane in ("live", "content", "bulk")},
    "common code": {"errorCode": "product_not_active"},
    "rare code": {"errorCode": "cannot_clear"},
    "absent code": {"errorCode": "nothing"},
    "eligible": {"eligibleOnly": True},
    "common word": {"search": _COMMON},
    "rare word": {"search": RARE_WORD},
    "absent word": {"search": "nothing of the kind"},
    "an id": {"search": "{item}"},
    "one letter": {"search": "a"},
    "two letters, common": {"search": "sh"},
    "two letters, absent": {"search": "zz"},
    "common start, absent end": {"search": "organic cotton trousers"},
    "100%": {"search": "100%"},
    "sku_1": {"search": "sku_1"},
    "%": {"search": "%"},
    "eligible and failed": {"eligibleOnly": True, "status": "failed"},
    "eligible and skipped": {"eligibleOnly": True, "status": "skipped"},
    "eligible and synced": {"eligibleOnly": True, "status": "synced"},
    "common word and failed": {"search": _COMMON, "status": "failed"},
    "common word and skipped": {"search": _COMMON, "status": "skipped"},
    "common word and synced": {"search": _COMMON, "status": "synced"},
    "common word and never synced": {"search": _COMMON, "status": "never_synced"},
    "common word and common code": {"search": _COMMON, "errorCode": "product_not_active"},
    "common word and eligible": {"search": _COMMON, "eligibleOnly": True},
    "common word, eligible, failed": {"search": _COMMON, "eligibleOnly": True, "status": "failed"},
    "common word and lane": {"search": _COMMON, "lane": "bulk"},
    "lane and synced": {"lane": "bulk", "status": "synced"},
    "lane and failed": {"lane": "bulk", "status": "failed"},
    "lane and eligible": {"lane": "bulk", "eligibleOnly": True},
    "two letters and failed": {"search": "li", "status": "failed"},
    "all at once": {"search": _LESS_COMMON, "status": "failed", "eligibleOnly": True, "lane": "bulk"},
}
_OTHERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/admin/meta/status", {}),
    ("/admin/meta/items/{item}", {}),
    ("/catalog/products", {}),
    ("/catalog/products", {"source": "google-csv"}),
    ("/catalog/products", {"status": "archived"}),
    ("/catalog/products", {"source": "google-csv", "status": "draft"}),
    ("/catalog/products", {"source": "nobody"}),
    ("/admin/meta/handles", {}),
    ("/admin/meta/handles", {"state": "open"}),
    ("/admin/meta/handles", {"state": "over"}),
    ("/admin/meta/handles/{batch}", {}),
    ("/admin/meta/handles/{batch}", {"outcome": "rejected"}),
    ("/admin/meta/activity", {}),
    ("/admin/meta/items/{item}/timeline", {}),
    ("/admin/meta/items/{busy}/timeline", {}),
    ("/admin/meta/sync-jobs", {}),
    ("/admin/meta/sync-jobs", {"type": "sync"}),
    ("/admin/meta/sync-jobs", {"status": "running"}),
    ("/admin/meta/sync-jobs", {"type": "removal"}),
    ("/catalog/imports", {}),
    ("/catalog/feeds", {}),
    ("/platform/stores", {}),
    ("/platform/stores/store_bench/api-keys", {}),
)


def _of(ids: dict[str, str], parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: value.format(**ids) for name, value in parameters.items() if isinstance(value, str)}


def _item_requests(ids: dict[str, str]) -> Iterator[Request]:
    for name, plain in _FILTERS.items():
        parameters = {**plain, **_of(ids, plain)}
        by_id = {**parameters, "sort": "variantId"}
        yield Request(f"items: {name}", _ITEMS, parameters)
        yield Request(f"items: {name}, by id", _ITEMS, by_id)
        yield Request(f"items: {name}, last page", _ITEMS, {**parameters, "page": 100, "limit": 100})
        yield Request(f"items: {name}, behind a cursor", _ITEMS, parameters, True)
        yield Request(f"items: {name}, by id, last page", _ITEMS, {**by_id, "page": 100, "limit": 100})


class Lists:
    """The service in this process, and a clock on its database."""

    def __init__(self, http: httpx.AsyncClient, database: Database, keys: tuple[str, str]) -> None:
        self._http = http
        self._keys = keys
        self._in_database = 0.0
        self._began = 0.0
        self._watched: list[Path] = []
        for engine in (database.app, database.worker):
            event.listen(engine.sync_engine, "before_cursor_execute", self._before)
            event.listen(engine.sync_engine, "after_cursor_execute", self._after)

    async def watch(self, url: str) -> None:
        """Find the processes that serve us, whose processor time is looked at from now on."""
        owner = await connect(url)
        found = await owner.fetch(
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'meta-sync %'"
        )
        await owner.close()
        self._watched = [Path(f"/proc/{row[0]}/schedstat") for row in found]

    def _processor_seconds(self) -> float:
        """Ours and the database's; unlike wall time it means the same on a busy machine."""
        watched = [one for one in self._watched if one.exists()]
        return process_time() + sum(int(one.read_text().split()[0]) for one in watched) / 1e9

    def _before(self, *_: Any) -> None:
        self._began = perf_counter()

    def _after(self, *_: Any) -> None:
        self._in_database += perf_counter() - self._began

    async def get(self, request: Request) -> dict[str, Any]:
        """One answer, which must be a success."""
        key = self._keys[1] if request.is_platform or request.path.startswith("/platform") else self._keys[0]
        answer = await self._http.get(
            request.path, params=request.parameters, headers={"Authorization": f"Bearer {key}"}
        )
        if answer.status_code != httpx.codes.OK:
            raise SystemExit(f"{request.name}: {answer.status_code} {answer.text}")
        body: dict[str, Any] = answer.json()
        return body

    async def time(self, request: Request) -> None:
        """Ask once and note how long it took."""
        self._in_database = 0.0
        processor = self._processor_seconds()
        began = perf_counter()
        body = await self.get(request)
        request.seconds.append(perf_counter() - began)
        request.database_seconds.append(self._in_database)
        request.processor_seconds.append(self._processor_seconds() - processor)
        about = body["metadata"]
        if "total" in about:
            request.total = f"{about['total']:,}" + ("" if about["totalIsExact"] else "+")

    async def prepare(self, request: Request) -> bool:
        """Find the place in the middle that a deep request asks behind; ``False``: the list has no second page."""
        if not request.is_deep:
            return True
        about = (await self.get(request))["metadata"]
        if about["nextCursor"] is None:
            return False
        page = max(1, min(about["total"], MAX_PAGE_ROWS) // about["limit"] // 2)
        middle = Request(request.name, request.path, {**request.parameters, "page": page})
        middle.is_platform = request.is_platform
        request.parameters["cursor"] = (await self.get(middle))["metadata"]["nextCursor"]
        return True


@asynccontextmanager
async def open_lists(url: str) -> AsyncIterator[Lists]:
    """The service over a filled database."""
    settings = load_settings(
        {}, env_file=None, database_url=url, encryption_keys=generate_encryption_key(), data_dir=Path()
    )
    configure_logging("WARNING", "json")
    context = await ProcessContext.open(settings, queue=MemoryJobQueue())
    access = Factory(context).access()
    of_store = await access.create_key(STORE_ID, ["metaCatalog:view", "catalog:read"])
    of_platform = await access.create_key(None, ["platform:admin"])
    transport = httpx.ASGITransport(create_app(context))
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://bench", timeout=60) as http:
            yield Lists(http, context.database, (of_store.api_key, of_platform.api_key))
    finally:
        await context.database.dispose()
        await context.http.aclose()


async def _ids(url: str) -> dict[str, str]:
    owner = await connect(url)
    try:
        found = await owner.fetchrow(
            "SELECT v.variant_id AS item, v.product_id AS product, b.batch_id::text AS batch, e.variant_id AS busy"
            " FROM variants AS v, (SELECT max(batch_id) - 20 AS batch_id FROM batches) AS b,"
            " (SELECT variant_id FROM item_events GROUP BY 1 ORDER BY count(*) DESC LIMIT 1) AS e"
            " WHERE v.store_id = $1 AND v.sku = 'SKU_160'",
            STORE_ID,
        )
        return dict(found)
    finally:
        await owner.close()


async def measure(url: str, *, rounds: int, only: str = "") -> list[Request]:
    """Ask every list in turn, round after round."""
    ids = await _ids(url)
    async with open_lists(url) as lists:
        chosen = [one for one in _requests(ids) if only in one.name or one.name == _LIMIT]
        chosen = [one for one in chosen if await lists.prepare(one)]
        for number in range(_WARM_UP + rounds):
            for request in chosen:
                await lists.time(request)
            if number == _WARM_UP - 1:
                await lists.watch(url)
                for request in chosen:
                    for measured in (request.seconds, request.database_seconds, request.processor_seconds):
                        measured.clear()
    return chosen


def _part(seconds: list[float], percent: int) -> float:
    return quantiles(seconds, n=100, method="inclusive")[percent - 1]


def report(measured: list[Request], *, most: int | None) -> list[str]:
    """Print the slowest first; the names of those over the limit."""
    limit = next(one for one in measured if one.name == _LIMIT)
    floor = _part(limit.processor_seconds, 50)
    print(
        f"{'p50 ms':>8} {'p95 ms':>8} {'database':>9} {'processor p50, p95':>20} {'of limit':>9} {'total':>9}"
    )
    ordered = sorted(measured, key=lambda one: -_part(one.processor_seconds, 95))
    for one in [*ordered[:most], *([limit] if most is not None else [])]:
        half, most_of_all = _part(one.seconds, 50), _part(one.seconds, 95)
        worked = _part(one.processor_seconds, 50)
        print(
            f"{half * 1e3:8.1f} {most_of_all * 1e3:8.1f} {_part(one.database_seconds, 50) * 1e3:9.1f}"
            f" {worked * 1e3:12.1f} {_part(one.processor_seconds, 95) * 1e3:7.1f} {worked / floor:9.1f}"
            f" {one.total:>9}  {one.name}"
        )
    return [one.name for one in ordered if _part(one.processor_seconds, 95) > _MOST_SECONDS]


def report_whole(measured: list[Request]) -> float:
    """Print what a list takes over all its requests, each as often as any other; the 95th of the items, processor time."""
    limit = next(one for one in measured if one.name == _LIMIT)
    print(
        f"\n{'':>22} {'requests':>9} {'p50 ms':>8} {'p95 ms':>8} {'processor p50, p95':>20} {'of limit p95':>13}"
    )
    whole: dict[str, float] = {}
    of_lists = {"items": _ITEMS, "errors": _ERRORS, "all lists": "", "limit": limit.path}
    for name, path in of_lists.items():
        chosen = [limit] if name == "limit" else [one for one in measured if path in ("", one.path)]
        if not chosen:
            continue
        wall = [seconds for one in chosen for seconds in one.seconds]
        worked = [seconds for one in chosen for seconds in one.processor_seconds]
        whole[name] = _part(worked, 95)
        print(
            f"{name:>22} {len(chosen):9} {_part(wall, 50) * 1e3:8.1f} {_part(wall, 95) * 1e3:8.1f}"
            f" {_part(worked, 50) * 1e3:12.1f} {whole[name] * 1e3:7.1f}"
            f" {whole[name] / _part(limit.processor_seconds, 95):13.1f}"
        )
    over = [one for one in measured if _part(one.seconds, 95) > _MOST_SECONDS]
    print(
        f"{len(over)} of {len(measured)} requests have a 95th over {_MOST_SECONDS * 1e3:.0f} ms of wall time."
    )
    return whole.get("items", 0.0)


async def _run(arguments: argparse.Namespace) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="meta-sync-bench-") as directory:
        server = EmbeddedPostgres(Path(directory) / "postgres", _SERVER)
        server.start()
        try:
            server.create_database(_DATABASE)
            url = server.url(_DATABASE)
            await upgrade(url)
            owner = await connect(url)
            began = perf_counter()
            await fill(owner, arguments.variants)
            await owner.close()
            print(
                f"{arguments.variants:,} variants in {perf_counter() - began:.0f} s, load {os.getloadavg()[0]:.1f}"
            )
            measured = await measure(url, rounds=arguments.rounds, only=arguments.only)
        finally:
            server.stop()
    slow = report(measured, most=None if arguments.all else arguments.most)
    if report_whole(measured) > _MOST_SECONDS:
        slow.insert(0, "the list of items as a whole")
    print(f"{len(measured)} requests, {arguments.rounds} times each, load {os.getloadavg()[0]:.1f}")
    return slow


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--only", default="", help="only requests whose name holds this")
    parser.add_argument("--most", type=int, default=30, help="how many to show, slowest first")
    parser.add_argument("--all", action="store_true", help="show every request")
    parser.add_argument("--gate", action="store_true", help="exit code 1 when one is over 50 ms")
    arguments = parser.parse_args()
    slow = asyncio.run(_run(arguments))
    print("Over 50 ms: " + (", ".join(slow) or "none"))
    if slow and arguments.gate:
        sys.exit(1)


if __name__ == "__main__":
    main()
