"""A real Redis per test that needs one, over a throw-away directory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meta_sync.cli.embedded_redis import EmbeddedRedis, find_redis_server


@contextmanager
def running_redis(directory: Path) -> Iterator[EmbeddedRedis]:
    """A server, or a skipped test on a machine without one."""
    binary = find_redis_server()
    if binary is None:
        pytest.skip("no redis-server on this machine")
    server = EmbeddedRedis(directory / "redis", binary)
    server.start()
    try:
        yield server
    finally:
        server.stop()
