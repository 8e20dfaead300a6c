"""Everything of an installation on one machine: servers, API, worker, sandbox; started in order and stopped in reverse.

It runs nothing of the product itself. What it starts ends with it, even when it is killed: children by the pipe it
holds, servers at the next start.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from meta_sync.cli.child import Child
from meta_sync.cli.data_directory import DataDirectory, Runtime
from meta_sync.cli.embedded import running_postgres, running_redis
from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.cli.embedded_redis import EmbeddedRedis
from meta_sync.cli.network import address_of, listening_socket, wait_until_serving
from meta_sync.cli.running import in_thread, to_the_end
from meta_sync.core.config import ENVIRONMENT_PREFIX, Settings
from meta_sync.core.errors import StartError
from meta_sync.core.migrations import upgrade
from meta_sync.sandbox.options import DEMO_APP_ID, DEMO_APP_SECRET

__all__ = ["Plan", "System", "running_system"]

_READY_SECONDS = 60.0
_LOOK_AFTER_SERVERS_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start.

    Attributes
    ----------
    settings
        Of the process; without a database or a Redis address the embedded ones are used.
    role
        ``up`` or ``demo``: what others are told who want the same data directory.
    sandbox
        Also start a local Graph API and let everything talk to it.
    log_directory
        Where the children's output goes; ``None``: where ours goes.
    say
        Takes sentences for the person.
    """

    settings: Settings
    role: str
    sandbox: bool
    log_directory: Path | None
    say: Callable[[str], None]


@dataclass(slots=True)
class System:
    """What runs.

    Attributes
    ----------
    settings
        With the addresses and the key that are really used.
    embedded
        The embedded servers that were started.
    """

    settings: Settings
    api_url: str
    sandbox_url: str | None
    embedded: Sequence[EmbeddedPostgres | EmbeddedRedis]
    children: Sequence[Child]
    say: Callable[[str], None]

    async def watch(self) -> None:
        """Start again whatever ends. Returns never; cancel it.

        Raises
        ------
        StartError
            Something cannot be started again.
        """
        tasks = [asyncio.create_task(child.keep_running()) for child in self.children]
        tasks.append(asyncio.create_task(self._watch_servers()))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch_servers(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_AFTER_SERVERS_SECONDS)
            for server in self.embedded:
                if server.has_died:
                    name = "PostgreSQL" if isinstance(server, EmbeddedPostgres) else "Redis"
                    self.say(f"The embedded {name} ended unexpectedly. Starting it again.")
                    await in_thread(server.start)


@asynccontextmanager
async def running_system(plan: Plan) -> AsyncIterator[System]:
    """Start everything, in order, and stop it in reverse: children, Redis, PostgreSQL.

    Raises
    ------
    StartError
        Something does not start; the sentence says what and why, and what had started was stopped.
    """
    directory = DataDirectory(plan.settings.data_dir)
    async with AsyncExitStack() as stack:
        directory.prepare()
        stack.enter_context(directory.lock(plan.role))
        # Ports first: a port in use should cost a moment, not the start of two servers.
        listener = stack.enter_context(listening_socket(plan.settings.host, plan.settings.port))
        sandbox = stack.enter_context(listening_socket("127.0.0.1", 0)) if plan.sandbox else None
        settings, embedded = await _servers(stack, plan, directory)
        if sandbox is not None:
            settings = _with_sandbox(settings, sandbox)
        assert settings.database_url is not None
        await to_the_end(upgrade(settings.database_url.get_secret_value()))
        stack.enter_context(_announced(directory, plan.settings, settings, address_of(listener)))
        children = _children(plan, settings, listener, sandbox)
        stack.push_async_callback(_stop_children, children)
        for child in children:
            await child.start()
        system = System(
            settings=settings,
            api_url=address_of(listener),
            sandbox_url=address_of(sandbox) if sandbox is not None else None,
            embedded=embedded,
            children=children,
            say=plan.say,
        )
        await _wait_until_ready(system)
        yield system


async def _servers(
    stack: AsyncExitStack, plan: Plan, directory: DataDirectory
) -> tuple[Settings, list[EmbeddedPostgres | EmbeddedRedis]]:
    settings = plan.settings.model_copy(update={"data_dir": directory.path})
    if sys.stderr.isatty() and plan.log_directory is None and "log_format" not in settings.model_fields_set:
        settings = settings.model_copy(update={"log_format": "console"})
    if not settings.encryption_keys:
        settings = settings.model_copy(update={"encryption_keys": (directory.encryption_key(create=True),)})
    embedded: list[EmbeddedPostgres | EmbeddedRedis] = []
    if settings.database_url is None:
        postgres = await stack.enter_async_context(running_postgres(directory))
        embedded.append(postgres)
        settings = settings.model_copy(update={"database_url": SecretStr(postgres.url())})
    if settings.redis_url is None:
        redis = await stack.enter_async_context(running_redis(directory))
        if redis is None:
            plan.say(
                "No Redis: META_SYNC_REDIS_URL is not set and no redis-server was found. "
                "The worker looks for work by itself, twice a second; nothing else changes."
            )
        else:
            embedded.append(redis)
            settings = settings.model_copy(update={"redis_url": SecretStr(redis.url)})
    return settings, embedded


def _with_sandbox(settings: Settings, sandbox: socket.socket) -> Settings:
    return settings.model_copy(
        update={
            "graph_url": address_of(sandbox),
            "app_id": DEMO_APP_ID,
            "app_secret": SecretStr(DEMO_APP_SECRET),
        }
    )


@contextmanager
def _announced(directory: DataDirectory, given: Settings, used: Settings, api_url: str) -> Iterator[None]:
    """Tell other commands where things are; what the operator set, they are told by the operator."""
    sandbox = used.graph_url != given.graph_url
    directory.write_runtime(
        Runtime(
            pid=os.getpid(),
            database_url=_new(given.database_url, used.database_url),
            redis_url=_new(given.redis_url, used.redis_url),
            api_url=api_url,
            graph_url=used.graph_url if sandbox else None,
            app_id=used.app_id if sandbox else None,
            app_secret=_new(given.app_secret, used.app_secret) if sandbox else None,
        )
    )
    try:
        yield
    finally:
        directory.clear_runtime()


def _new(given: SecretStr | None, used: SecretStr | None) -> str | None:
    return used.get_secret_value() if used is not None and used != given else None


def _children(
    plan: Plan, settings: Settings, listener: socket.socket, sandbox: socket.socket | None
) -> list[Child]:
    environment = _environment(settings)

    def child(name: str, *arguments: str, pass_descriptors: Sequence[int] = ()) -> Child:
        log = plan.log_directory / f"{name.lower()}.log" if plan.log_directory else None
        return Child(
            name,
            arguments,
            environment,
            directory=settings.data_dir,
            log=log,
            pass_descriptors=pass_descriptors,
            say=plan.say,
        )

    def serving(name: str, command: str, socket_: socket.socket) -> Child:
        descriptor = socket_.fileno()
        return child(name, command, "--descriptor", str(descriptor), pass_descriptors=[descriptor])

    children = [serving("API", "api", listener), child("worker", "worker")]
    if sandbox is not None:
        children.insert(0, serving("sandbox", "sandbox", sandbox))
    return children


def _environment(settings: Settings) -> dict[str, str]:
    """Our own environment with every setting written out, so that a child reads nothing else, no ``.env`` either."""
    known = {f"{ENVIRONMENT_PREFIX}{name}".upper(): name for name in Settings.model_fields}
    environment = {name: value for name, value in os.environ.items() if name not in known}
    for variable, name in known.items():
        value = _written(getattr(settings, name))
        if value:
            environment[variable] = value
    return environment


def _written(value: object) -> str:
    """A setting as the environment carries it; empty for one that is not set."""
    if isinstance(value, tuple):
        return ",".join(map(_written, value))
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return "" if value is None else str(value)


async def _stop_children(children: Sequence[Child]) -> None:
    async def stop_all() -> None:
        await asyncio.gather(*(child.stop() for child in children))

    await to_the_end(stop_all())


async def _wait_until_ready(system: System) -> None:
    checks: list[Awaitable[None]] = []
    for child in system.children:
        if child.name == "API":
            checks.append(_ready(child, system.api_url, "/health/live", lambda status: status == 200))
        elif child.name == "sandbox" and system.sandbox_url is not None:
            # Without a token every path of Graph is refused; any answer will do.
            checks.append(_ready(child, system.sandbox_url, "/v25.0/me", lambda _: True))
    await asyncio.gather(*checks)


async def _ready(child: Child, url: str, path: str, accept: Callable[[int], bool]) -> None:
    if await wait_until_serving(
        url, path, seconds=_READY_SECONDS, given_up=lambda: child.has_ended, accept=accept
    ):
        return
    reason = "ended at its start" if child.has_ended else f"did not answer within {_READY_SECONDS:.0f} s"
    raise StartError(f"The {child.name} {reason}. {child.last_words()}".strip())
