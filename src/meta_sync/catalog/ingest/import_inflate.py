"""Unpacks a compressed upload before it is read, in a thread and in turns, so that the import's lease can be renewed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from meta_sync.catalog.ingest.compression import Inflation, InflationLimits, compression_of

__all__ = ["plain_file"]

_TURN_SECONDS = 2.0
"""A small part of what a lease lasts."""


async def plain_file(path: Path, limits: InflationLimits, renew: Callable[[], Awaitable[None]]) -> Path:
    """The upload as the formats read it: itself, or what was compressed in it, which then takes its place on disk.

    Raises
    ------
    FileRefusedError
        The compressed file is damaged, cut, too large or not of one file.
    """
    if await asyncio.to_thread(_compression, path) is None:
        return path
    plain = path.with_name("plain")
    inflation = Inflation(path, plain, limits)
    try:
        while not await _turn(inflation):
            await renew()
    finally:
        inflation.close()
    path.unlink()
    return plain


def _compression(path: Path) -> str | None:
    with path.open("rb") as file:
        return compression_of(file.read(4))


async def _turn(inflation: Inflation) -> bool:
    """One turn. When we are cancelled it is waited for: the files must not be closed under it."""
    turn = asyncio.ensure_future(asyncio.to_thread(inflation.advance, _TURN_SECONDS))
    try:
        return await asyncio.shield(turn)
    except asyncio.CancelledError:
        await asyncio.wait([turn])
        raise
