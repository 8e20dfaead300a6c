"""One catalog write as one transaction, begun again when another write got between."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.repository import ConcurrentWriteError
from meta_sync.core.db import Database, retry_transaction
from meta_sync.core.errors import UnavailableError
from meta_sync.core.failpoints import failpoint

__all__ = ["write_transaction"]

T = TypeVar("T")

_ATTEMPTS = 8
"""Each attempt loses only to a write that got through, so a few are plenty."""


async def write_transaction(
    database: Database, store_id: str, work: Callable[[AsyncConnection], Awaitable[T]]
) -> T:
    """Run ``work`` in a transaction of the store and commit; it reads again what it decides from at each attempt.

    Raises
    ------
    UnavailableError
        Other writes of the same rows kept getting in between.
    """

    async def attempt() -> T:
        async with database.store(store_id) as connection:
            result = await work(connection)
            await failpoint("catalog.before_commit")
        await failpoint("catalog.after_commit")
        return result

    for number in range(1, _ATTEMPTS + 1):
        try:
            return await retry_transaction(attempt)
        except ConcurrentWriteError:
            await asyncio.sleep(random.uniform(0.005, 0.02) * number)
    raise UnavailableError(
        "The same products are being written by others just now. Try again.", retry_after_seconds=1
    )
