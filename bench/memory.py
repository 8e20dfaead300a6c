"""The largest memory of a real worker and a real API process under load, as the operating system counts it.

These are the processes that an operator starts, with everything in them; how fast they are is printed and not compared.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from bench import data
from bench.mapping_speed import PLAIN, make_item
from meta_sync.access.models import Permission
from meta_sync.access.service import AccessService
from meta_sync.core.db import Database

if TYPE_CHECKING:
    from bench.run import Bench

__all__ = ["api_memory", "worker_memory"]

_BATCHES = 10
_PRODUCTS_PER_BATCH = 200
_VARIANTS_PER_PRODUCT = 10
_LONGEST_SECONDS = 60.0


async def worker_memory(bench: Bench) -> None:
    """Let a worker bring the whole catalog to the sink and settle it."""
    await data.reset_service(bench.owner, bench.place.link_id)
    async with _process(bench, "worker") as process:
        began = perf_counter()
        synced = 0
        while perf_counter() - began < _LONGEST_SECONDS:
            await asyncio.sleep(0.25)
            synced = await bench.owner.fetchval("SELECT count(*) FROM sync_state WHERE status = 'synced'")
            if synced == bench.rows:
                break
        seconds = perf_counter() - began
        print(
            f"worker process: peak memory {_megabytes(_peak_rss_bytes(process.pid))}; "
            f"{synced} items submitted and settled in {seconds:.1f} s, its start and the wait for the first poll included"
        )


async def api_memory(bench: Bench) -> None:
    """Put batches of new products over HTTP, two at a time."""
    await data.drop_service(bench.owner)
    api_key = await _api_key(bench.place.database_url)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    async with _process(bench, "api", "--host", "127.0.0.1", "--port", str(port)) as process:
        await _until_live(address)
        idle = _peak_rss_bytes(process.pid)
        bodies = [_products(number) for number in range(_BATCHES)]
        gate = asyncio.Semaphore(2)

        async def put(body: bytes) -> None:
            async with gate:
                await asyncio.to_thread(_post, f"{address}/catalog/products/batch", api_key, body)

        began = perf_counter()
        await asyncio.gather(*map(put, bodies))
        variants = _BATCHES * _PRODUCTS_PER_BATCH * _VARIANTS_PER_PRODUCT
        print(
            f"API process: peak memory {_megabytes(_peak_rss_bytes(process.pid))} ({_megabytes(idle)} after its start); "
            f"{variants / (perf_counter() - began):,.0f} new variants per second in bodies of {len(bodies[0]) / 1e6:.1f} MB"
        )


@asynccontextmanager
async def _process(bench: Bench, *command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {
        **os.environ,
        "META_SYNC_DATABASE_URL": bench.place.database_url,
        "META_SYNC_ENCRYPTION_KEYS": bench.place.encryption_key,
        "META_SYNC_GRAPH_URL": f"http://127.0.0.1:{bench.place.sink_port}",
        "META_SYNC_APP_ID": "1",
        "META_SYNC_APP_SECRET": "secret-of-the-benchmark",
        "META_SYNC_LOG_LEVEL": "ERROR",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "meta_sync", *command), env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        await process.wait()


async def _api_key(database_url: str) -> str:
    database = Database.connect(database_url, pool_size=1)
    try:
        made = await AccessService(database).create_key(data.STORE_ID, [str(Permission.PRODUCTS_WRITE)])
        return made.api_key
    finally:
        await database.dispose()


async def _until_live(address: str) -> None:
    deadline = perf_counter() + _LONGEST_SECONDS
    while True:
        try:
            await asyncio.to_thread(urlopen, f"{address}/health/live", None, 5)
        except (URLError, OSError):
            if perf_counter() > deadline:
                raise
            await asyncio.sleep(0.1)
        else:
            return


def _post(address: str, api_key: str, body: bytes) -> None:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {api_key}"}
    with urlopen(Request(address, body, headers)) as answer:
        said = json.load(answer)["data"]
    if said["rejected"] or said["changed"] == 0:
        raise SystemExit(f"The API did not take the products: {said}")


def _products(batch: int) -> bytes:
    first = batch * _PRODUCTS_PER_BATCH
    return json.dumps(
        {"products": [_product(number) for number in range(first, first + _PRODUCTS_PER_BATCH)]}
    ).encode()


def _product(number: int) -> dict[str, Any]:
    items = [
        make_item(number * _VARIANTS_PER_PRODUCT + place, description=PLAIN, sale=False)
        for place in range(_VARIANTS_PER_PRODUCT)
    ]
    one = items[0]
    return {
        "id": f"api_{one.product_id}",
        "title": one.title,
        "description": one.description,
        "slug": one.slug,
        "brand": one.brand,
        "vendor": one.vendor,
        "thumbnail": one.product_thumbnail,
        "images": list(one.product_images),
        "categories": list(one.categories),
        "variants": [
            {
                "id": f"api_{item.variant_id}",
                "sku": item.sku,
                "price": item.price,
                "thumbnail": item.variant_thumbnail,
                "ean": item.ean,
                "options": item.options,
                "inventory": {"trackInventory": True, "quantityOnHand": item.quantity_on_hand},
            }
            for item in items
        ],
    }


def _peak_rss_bytes(pid: int) -> int:
    """0 where the system does not say."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return 0
    lines = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(lines[0].split()[1]) * 1024 if lines else 0


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB" if size else "unknown"
