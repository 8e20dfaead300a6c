"""Real processes for tests: the sandbox on a real socket, a real worker that may be killed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol, Self

import uvicorn
from sqlalchemy import text

from meta_sync.core.config import load_settings
from meta_sync.core.crypto import Cipher, generate_encryption_key
from meta_sync.core.db import Database
from meta_sync.core.queue import MemoryJobQueue
from meta_sync.graph.client import make_http_client
from meta_sync.sandbox.app import create_app
from meta_sync.sandbox.options import DEMO_APP_ID, DEMO_APP_SECRET, SandboxOptions
from meta_sync.sandbox.state import SandboxState
from tests.support.world import World

_ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def serving_sandbox(options: SandboxOptions) -> Iterator[tuple[str, SandboxState]]:
    """The sandbox under uvicorn on a free loopback port, in a thread of its own."""
    app = create_app(options)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, lifespan="off"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", app.state.sandbox
        finally:
            server.should_exit = True
            thread.join(10)


@asynccontextmanager
async def open_real_world(
    database: Database, database_url: str, options: SandboxOptions | None = None
) -> AsyncIterator[World]:
    """A world whose sandbox other processes can reach."""
    options = replace(options or SandboxOptions(processing_delay_seconds=0.05), demo=True)
    with serving_sandbox(options) as (address, sandbox):
        settings = load_settings(
            {},
            env_file=None,
            database_url=database_url,
            encryption_keys=generate_encryption_key(),
            graph_url=address,
            app_id=DEMO_APP_ID,
            app_secret=DEMO_APP_SECRET,
            unknown_hold_seconds=1,
        )
        async with make_http_client() as http:
            world = World(
                database, settings, Cipher(settings.encryption_keys), http, sandbox, MemoryJobQueue(), ""
            )
            store = await world.stores.create(
                "Shop", currency="EUR", storefront_base_url="https://shop.example"
            )
            world.store_id = store.store_id
            yield world


class Running(Protocol):
    """What is used of ``subprocess.Popen``."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int, /) -> None: ...
    def kill(self) -> None: ...


class WorkerProcess:
    """A worker (or another process of the service) as an operator runs it.

    ``database_url`` leads it to its database another way than the world's own.
    """

    def __init__(
        self,
        world: World,
        *arguments: str,
        failpoints: str = "",
        redis_url: str = "",
        database_url: str = "",
    ) -> None:
        settings = world.settings
        assert settings.database_url is not None
        assert settings.app_secret is not None
        self._log = tempfile.NamedTemporaryFile()  # noqa: SIM115 - closed with the process
        # Not measured: a worker that is killed writes no figures, and measuring doubles its start.
        aside = ("META_SYNC_", "COVERAGE_", "COV_")
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(aside)},
            "META_SYNC_DATABASE_URL": database_url or settings.database_url.get_secret_value(),
            "META_SYNC_ENCRYPTION_KEYS": settings.encryption_keys[0].get_secret_value(),
            "META_SYNC_GRAPH_URL": settings.graph_url,
            "META_SYNC_APP_ID": settings.app_id or "",
            "META_SYNC_APP_SECRET": settings.app_secret.get_secret_value(),
            "META_SYNC_UNKNOWN_HOLD_SECONDS": str(settings.unknown_hold_seconds),
            "META_SYNC_FAILPOINTS": failpoints,
            "META_SYNC_REDIS_URL": redis_url,
        }
        self.process = self._start(list(arguments or ("worker",)), environment)

    def _start(self, arguments: list[str], environment: dict[str, str]) -> Running:
        return subprocess.Popen(
            [sys.executable, "-m", "meta_sync", *arguments],
            env=environment,
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )

    async def wait(self, seconds: float = 60) -> int:
        """The exit code; negative is the signal."""
        deadline = asyncio.get_running_loop().time() + seconds
        while self.process.poll() is None:
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(f"the worker did not end in {seconds} s:\n{self.log()[-3000:]}")
            await asyncio.sleep(0.02)
        assert self.process.returncode is not None
        return self.process.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
        self._log.close()

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")


async def let_leases_run_out(world: World) -> None:
    """What a minute does after a crash: leases, claims and call deadlines of the dead worker are over."""
    async with world.database.platform() as connection:
        for statement in (
            "UPDATE worker_heartbeats SET seen_at = now() - interval '1 minute'",
            "UPDATE batches SET due_at = now() WHERE state IN ('sending', 'open')",
            "UPDATE jobs SET leased_until = NULL WHERE leased_until IS NOT NULL",
            "UPDATE imports SET leased_until = NULL WHERE leased_until IS NOT NULL",
        ):
            await connection.execute(text(statement))


async def until_quiet(world: World, worker: WorkerProcess, seconds: float = 90) -> None:
    """Wait until the running worker has nothing left to do."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not await world.is_quiet():
        if worker.process.poll() is not None:
            raise AssertionError(
                f"the worker ended with {worker.process.returncode}:\n{worker.log()[-3000:]}"
            )
        if loop.time() > deadline:
            raise AssertionError(
                f"not quiet after {seconds} s: {await world.leftovers()}\n{worker.log()[-3000:]}"
            )
        await asyncio.sleep(0.05)


async def until(
    ask: Callable[[], Awaitable[object]], wanted: object, process: WorkerProcess, seconds: float = 60
) -> None:
    """Wait until a question has the wanted answer, while the process lives."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while (answer := await ask()) != wanted:
        if process.process.poll() is not None or loop.time() > deadline:
            raise AssertionError(f"{answer!r} instead of {wanted!r}\n{process.log()[-3000:]}")
        await asyncio.sleep(0.05)
