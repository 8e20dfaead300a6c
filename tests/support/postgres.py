"""One embedded PostgreSQL per test process, a migrated template, a fresh database per test."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.core.migrations import upgrade

_TEMPLATE = "template_migrated"
_numbers = itertools.count(1)
_MEMORY = Path("/dev/shm")  # only a folder of our own within it
_MEMORY_BYTES = 4 * 2**30


def _quick_directory() -> Path | None:
    """Where files live in memory, if this machine has room for them there; the usual place otherwise.

    A new database is some six hundred files, and there is one per test: on a slow disk that is half a second each.
    """
    if not os.access(_MEMORY, os.W_OK) or shutil.disk_usage(_MEMORY).free < _MEMORY_BYTES:
        return None
    return _MEMORY


@contextmanager
def running_postgres(settings: Mapping[str, str] | None = None) -> Iterator[EmbeddedPostgres]:
    """A server without fsync over a throw-away directory, with a migrated template in it."""
    with tempfile.TemporaryDirectory(prefix="meta-sync-test-", dir=_quick_directory()) as directory:
        server = EmbeddedPostgres(
            Path(directory) / "postgres",
            {
                "fsync": "off",
                "synchronous_commit": "off",
                "full_page_writes": "off",
                "shared_buffers": "128MB",
                "max_wal_size": "256MB",
                **(settings or {}),
            },
        )
        server.start()
        try:
            server.create_database(_TEMPLATE)
            asyncio.run(upgrade(server.url(_TEMPLATE)))
            yield server
        finally:
            server.stop()


@contextmanager
def fresh_database(server: EmbeddedPostgres) -> Iterator[str]:
    """The address of a new migrated database, dropped afterwards."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    server.create_database(name, template=_TEMPLATE)
    try:
        yield server.url(name)
    finally:
        server.psql("postgres", f'DROP DATABASE "{name}" WITH (FORCE)')
