"""How a measured program runs: a process of its own that is told what to do, and says how long it took.

The process stays, so that nothing cold is measured; it reads one command per line and answers one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from time import perf_counter, process_time
from typing import Any

import asyncpg
import uvloop
from sqlalchemy import make_url

from meta_sync.core.collector import calm_collector

__all__ = ["Place", "Program", "Timed", "Work", "connect", "serve"]


@dataclass(frozen=True)
class Place:
    """Where the data is."""

    database_url: str
    encryption_key: str
    sink_port: int
    link_id: int
    batch_size: int


@dataclass(frozen=True)
class Timed:
    """One pass: wall time, the program's own processor time, and the largest memory it ever had."""

    seconds: float
    cpu_seconds: float
    peak_rss_bytes: int


Work = Callable[[], Awaitable[None]]


async def connect(database_url: str) -> asyncpg.Connection[Any]:
    """A plain connection to the embedded server."""
    url = make_url(database_url)
    connection: asyncpg.Connection[Any] = await asyncpg.connect(
        user=url.username,
        database=url.database,
        host=url.query["host"],
        port=int(str(url.query.get("port", 5432))),
        ssl=False,
        command_timeout=300,
    )
    return connection


def serve(open_works: Callable[[Place], Awaitable[dict[str, Work]]]) -> None:
    """Run a measured program: the place comes as the only argument, then one name of a work per line."""

    async def run() -> None:
        works = await open_works(Place(**json.loads(sys.argv[1])))
        calm_collector()
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            began, cpu_began = perf_counter(), process_time()
            await works[line.strip()]()
            seconds, cpu_seconds = perf_counter() - began, process_time() - cpu_began
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            print(json.dumps(asdict(Timed(seconds, cpu_seconds, peak))), flush=True)

    uvloop.run(run())


class Program:
    """The other end: a measured program, started and told what to do."""

    def __init__(self, module: str, place: Place) -> None:
        self._arguments = ["-m", module, json.dumps(asdict(place))]
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the process."""
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *self._arguments, stdin=pipe, stdout=pipe
        )

    async def do(self, work: str) -> Timed:
        """Have one work done."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{work}\n".encode())
        line = await self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._arguments[1]} ended while it was to do: {work}")
        said: dict[str, Any] = json.loads(line)
        return Timed(**said)

    async def stop(self) -> None:
        """Let the process end."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            await self._process.wait()
