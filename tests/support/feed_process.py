"""A process that fetches one due feed from the test's own server, and may be killed on the way.

Run as ``python -m tests.support.feed_process PORT`` with the database, the key and the failpoints in the environment.
"""

from __future__ import annotations

import asyncio
import os
import sys

from pydantic import SecretStr

from meta_sync.catalog.ingest.feeds_fetch import FeedFetcher, FetchLimits
from meta_sync.catalog.ingest.imports import ImportService
from meta_sync.core.crypto import Cipher
from meta_sync.core.db import Database
from meta_sync.core.failpoints import arm_from_environment
from meta_sync.core.queue import MemoryJobQueue
from tests.support.feed_server import FeedServer


async def main(port: int) -> None:
    arm_from_environment(os.environ)
    database = Database.connect(os.environ["META_SYNC_DATABASE_URL"], pool_size=2)
    server = FeedServer(port, names={"shop.example": ["127.0.0.1"]})
    fetcher = FeedFetcher(
        database,
        Cipher([SecretStr(os.environ["META_SYNC_ENCRYPTION_KEYS"])]),
        server.client(),
        ImportService(database, MemoryJobQueue(), max_upload_bytes=10_000_000),
        limits=FetchLimits(10_000_000),
    )
    await fetcher.fetch_next()
    await database.dispose()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
