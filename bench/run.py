"""The drain against its limit, in one run: ``python -m bench.run [--rows N]``. Gate on the ratios, never on rows/s.

Two programs do the same work over the same rows in turn: L, written by hand, and S, the service's pipeline. Each pass
begins with tables set back, vacuumed and checkpointed; the first pair warms up, is held to equal bodies and is thrown
away; of the others the median of the paired ratios counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from urllib.request import urlopen

import asyncpg

from bench import data, plans
from bench.memory import api_memory, worker_memory
from bench.program import Place, Program, Timed
from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.core.config import load_settings
from meta_sync.core.crypto import Cipher, generate_encryption_key
from meta_sync.core.migrations import upgrade
from meta_sync.stores.settings import StoreSettings

__all__ = ["main"]

GATE = 1.5
"""The service may take this many times as long as the limit, first send and no-op each."""

_DATABASE = "bench"
_SERVER = {"shared_buffers": "1GB", "max_wal_size": "4GB"}
"""As measured for the budget. Everything that makes commits safe is left on."""


@dataclass
class Pair:
    """One round of both programs."""

    limit_first: Timed
    service_first: Timed
    service_settle: Timed
    limit_noop: Timed
    service_noop: Timed


@dataclass
class Bench:
    """Everything that runs, and how to look at it."""

    rows: int
    place: Place
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

    async def pair(self) -> Pair:
        """Both programs once, each pass from a clean start; refuses what is not the same work."""
        is_recorded = not self.pairs
        self.posted(record=is_recorded)
        await data.drop_service(self.owner)
        await data.reset_limit(self.owner)
        limit_first = await self.limit.do("drain")
        by_limit = self.posted(record=is_recorded)
        await data.queue_limit(self.owner)
        limit_noop = await self.limit.do("drain")
        self._require(self.posted(record=is_recorded)["calls"] == 0, "the limit's second pass sent something")
        await self._require_none("bench.outbox")

        await data.reset_service(self.owner, self.place.link_id)
        service_first = await self.service.do("drain")
        by_service = self.posted(record=is_recorded)
        await self._require_none("intents")
        service_settle = await self.service.do("settle")
        synced = await self.owner.fetchval("SELECT count(*) FROM sync_state WHERE status = 'synced'")
        self._require(synced == self.rows, f"only {synced} of {self.rows} items are synced")
        self.posted(record=is_recorded)
        await data.queue_service(self.owner)
        service_noop = await self.service.do("drain")
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
    owner = await asyncpg.connect(url, command_timeout=300)
    link_id = await data.load(
        owner, rows=rows, graph_host=f"127.0.0.1:{port}", cipher=Cipher(settings.encryption_keys)
    )
    place = Place(url, key, port, link_id, StoreSettings().batch_size)
    bench = Bench(rows, place, owner, Program("bench.limit", place), Program("bench.drain", place))
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
    import sys

    return [sys.executable, "-m", module]


def _report(bench: Bench) -> bool:
    counted = bench.pairs[1:] or bench.pairs
    first = [pair.service_first.seconds / pair.limit_first.seconds for pair in counted]
    cycle = [
        (pair.service_first.seconds + pair.service_settle.seconds) / pair.limit_first.seconds
        for pair in counted
    ]
    noop = [pair.service_noop.seconds / pair.limit_noop.seconds for pair in counted]
    print()
    print(f"{bench.rows} rows, {len(counted)} counted pairs, batches of {bench.place.batch_size}")
    print(f"{'':34}{'L rows/s':>10}{'S rows/s':>10}{'S/L':>7}  pairs")
    _line(bench, "first send: intents to submitted", counted, "limit_first", ["service_first"], first)
    _line(bench, "  and asked about and settled", counted, "limit_first", ["service_first", "service_settle"], cycle)
    _line(bench, "no-op resync", counted, "limit_noop", ["service_noop"], noop)
    last = bench.pairs[-1]
    print()
    print(f"processor of S in the first send: {last.service_first.cpu_seconds / bench.rows * 1e6:.1f} µs per row")
    print(f"processor of L in the first send: {last.limit_first.cpu_seconds / bench.rows * 1e6:.1f} µs per row")
    passed = median(first) <= GATE and median(noop) <= GATE
    print(f"gates (first send and no-op at most {GATE}): {'kept' if passed else 'NOT KEPT'}")
    return passed


def _line(
    bench: Bench, name: str, pairs: list[Pair], limit: str, service: list[str], ratios: list[float]
) -> None:
    by_limit = median(bench.rows / getattr(pair, limit).seconds for pair in pairs)
    by_service = median(bench.rows / sum(getattr(pair, one).seconds for one in service) for pair in pairs)
    each = " ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"{name:34}{by_limit:10,.0f}{by_service:10,.0f}{median(ratios):7.2f}  {each}")


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
                    print(
                        f"pair {number}{' (not counted)' if number == 0 else ''}: first send "
                        f"L {pair.limit_first.seconds:.2f} s, S {pair.service_first.seconds:.2f} s "
                        f"and {pair.service_settle.seconds:.2f} s to settle; "
                        f"no-op L {pair.limit_noop.seconds:.2f} s, S {pair.service_noop.seconds:.2f} s",
                        flush=True,
                    )
                passed = _report(bench)
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
    parser.add_argument("--explain", action="store_true", help="print the plans of the hot statements instead")
    parser.add_argument("--gate", action="store_true", help="exit with 1 when a gate is not kept")
    arguments = parser.parse_args()
    passed = asyncio.run(_run(arguments))
    if arguments.gate and not passed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
