"""The drain against its limit, in one run: ``python -m bench.run [--rows N]``. Gate on the ratios, never on rows/s.

Two programs do the same work over the same rows in turn: L, written by hand, and S, the service's pipeline. Each pass
begins with tables set back, vacuumed and checkpointed; the first pair warms up, is held to equal bodies and is thrown
away; of the others the median of the paired ratios counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import asyncpg
import psutil

from bench import data, plans
from bench.memory import api_memory, worker_memory
from bench.program import Place, Program, connect
from bench.report import Pair, Pass, report
from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.core.config import load_settings
from meta_sync.core.crypto import Cipher, generate_encryption_key
from meta_sync.core.migrations import upgrade
from meta_sync.stores.settings import StoreSettings

__all__ = ["main"]

_DATABASE = "bench"
_SERVER = {"shared_buffers": "1GB", "max_wal_size": "4GB"}
"""As measured for the budget. Everything that makes commits safe is left on."""


@dataclass
class Bench:
    """Everything that runs, and how to look at it."""

    rows: int
    place: Place
    server_pid: int
    owner: asyncpg.Connection[Any]
    limit: Program
    service: Program
    pairs: list[Pair] = field(default_factory=list)

    def posted(self, *, record: bool = False) -> dict[str, Any]:
        """What the sink got since the last look."""
        word = "record" if record else "count"
        with urlopen(f"http://127.0.0.1:{self.place.sink_port}/bench/take?{word}") as answer:
            said: dict[str, Any] = json.load(answer)
        return said

    async def timed(self, program: Program, work: str) -> Pass:
        """Have one work done, and look what it cost the program and the database."""
        database = _processor_seconds(self.server_pid)
        timed = await program.do(work)
        return Pass(timed.seconds, timed.cpu_seconds, _processor_seconds(self.server_pid) - database)

    async def pair(self) -> Pair:
        """Both programs once, each pass from a clean start; refuses what is not the same work."""
        is_recorded = not self.pairs
        self.posted(record=is_recorded)
        await data.drop_service(self.owner)
        await data.reset_limit(self.owner)
        limit_first = await self.timed(self.limit, "drain")
        by_limit = self.posted(record=is_recorded)
        await data.queue_limit(self.owner)
        limit_noop = await self.timed(self.limit, "drain")
        self._require(self.posted(record=is_recorded)["calls"] == 0, "the limit's second pass sent something")
        await self._require_none("bench.outbox")

        await data.reset_service(self.owner, self.place.link_id)
        service_first = await self.timed(self.service, "drain")
        by_service = self.posted(record=is_recorded)
        await self._require_none("intents")
        service_settle = await self.timed(self.service, "settle")
        synced = await self.owner.fetchval("SELECT count(*) FROM sync_state WHERE status = 'synced'")
        self._require(synced == self.rows, f"only {synced} of {self.rows} items are synced")
        self.posted(record=is_recorded)
        await data.queue_service(self.owner)
        service_noop = await self.timed(self.service, "drain")
        self._require(self.posted()["calls"] == 0, "the service's second pass sent something")
        await self._require_none("intents")

        same = ("calls", "body_bytes", "items", "digest")
        differing = [one for one in same if by_limit[one] != by_service[one]]
        self._require(not differing, f"the bodies differ: {by_limit} and {by_service}")
        self._require(not is_recorded or by_limit["items"] == self.rows, "not every row was posted")
        pair = Pair(limit_first, service_first, service_settle, limit_noop, service_noop)
        self.pairs.append(pair)
        return pair

    async def _require_none(self, table: str) -> None:
        left = await self.owner.fetchval(f"SELECT count(*) FROM {table}")
        self._require(left == 0, f"{left} rows are left in {table}")

    @staticmethod
    def _require(holds: bool, otherwise: str) -> None:
        if not holds:
            raise SystemExit(f"The passes are not comparable: {otherwise}.")


@asynccontextmanager
async def open_bench(server: EmbeddedPostgres, rows: int) -> AsyncIterator[Bench]:
    """Load the data and start the sink and both programs."""
    server.create_database(_DATABASE)
    url = server.url(_DATABASE)
    await upgrade(url)
    key = generate_encryption_key()
    settings = load_settings({}, env_file=None, encryption_keys=key)
    sink = await asyncio.create_subprocess_exec(
        *_python("bench.null_sink"), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert sink.stdin is not None
    assert sink.stdout is not None
    port = int(await sink.stdout.readline())
    owner = await connect(url)
    link_id = await data.load(
        owner, rows=rows, graph_host=f"127.0.0.1:{port}", cipher=Cipher(settings.encryption_keys)
    )
    place = Place(url, key, port, link_id, StoreSettings().batch_size)
    assert server.pid is not None
    bench = Bench(
        rows, place, server.pid, owner, Program("bench.limit", place), Program("bench.drain", place)
    )
    await bench.limit.start()
    await bench.service.start()
    try:
        yield bench
    finally:
        await bench.limit.stop()
        await bench.service.stop()
        await owner.close()
        sink.stdin.close()
        await sink.wait()


def _python(module: str) -> list[str]:
    return [sys.executable, "-m", module]


def _processor_seconds(server_pid: int) -> float:
    """What the server and all its processes have used; those that ended are counted with the server."""
    total = 0.0
    server = psutil.Process(server_pid)
    for process in (server, *server.children(recursive=True)):
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
            if process is server:
                total += times.children_user + times.children_system
    return total


async def _run(arguments: argparse.Namespace) -> bool:
    extra = plans.SERVER_SETTINGS if arguments.explain else {}
    with tempfile.TemporaryDirectory(prefix="meta-sync-bench-") as directory:
        server = EmbeddedPostgres(Path(directory) / "postgres", {**_SERVER, **extra})
        server.start()
        try:
            async with open_bench(server, arguments.rows) as bench:
                if arguments.explain:
                    await plans.explain(bench, server.directory / "server.log")
                    return True
                for number in range(arguments.pairs + 1):
                    pair = await bench.pair()
                    note = " (not counted)" if number == 0 else ""
                    print(f"pair {number}{note}: {pair}", flush=True)
                passed = report(bench.pairs[1:] or bench.pairs, bench.rows, bench.place.batch_size)
                if not arguments.no_memory:
                    await worker_memory(bench)
                    await api_memory(bench)
                return passed
        finally:
            server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--pairs", type=int, default=3, help="counted pairs; one more is run before them")
    parser.add_argument("--no-memory", action="store_true", help="leave out the memory of worker and API")
    parser.add_argument(
        "--explain", action="store_true", help="print the plans of the hot statements instead"
    )
    parser.add_argument("--gate", action="store_true", help="exit with 1 when a gate is not kept")
    arguments = parser.parse_args()
    passed = asyncio.run(_run(arguments))
    if arguments.gate and not passed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
