"""Changes held back on local disk until a long transaction is nearly over: in memory they would grow with the store.

Telling the pipeline of a change locks rows that everything else of the store waits for, so it is done last and at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.models import Change, ChangeSink, Lane

__all__ = ["ChangeSpool"]

_CHANGES_AT_ONCE = 5_000


class ChangeSpool:
    """A ``ChangeSink`` that remembers, and tells another one when asked to.

    Parameters
    ----------
    path
        A file of its own, which must not outlive the transaction.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_bytes(b"")
        self.count = 0

    async def record(
        self,
        connection: AsyncConnection,  # noqa: ARG002 - the protocol's
        store_id: str,  # noqa: ARG002 - the protocol's
        changes: Sequence[Change],
    ) -> None:
        """Keep the changes."""
        # Ids have no control characters, so a line is one.
        lines = "".join(f"{change.lane:d}{change.variant_id}\n" for change in changes)
        await asyncio.to_thread(self._append, lines.encode())
        self.count += len(changes)

    async def tell(self, sink: ChangeSink, connection: AsyncConnection, store_id: str) -> None:
        """Hand everything on, some thousands at a time and each of them sorted."""
        with self._path.open("rb") as file:
            while lines := await asyncio.to_thread(_read_lines, file):
                lanes: dict[str, Lane] = {}
                for line in lines:
                    variant_id, lane = line[1:].decode(), Lane(int(line[:1]))
                    lanes[variant_id] = min(lane, lanes.get(variant_id, lane))
                await sink.record(
                    connection,
                    store_id,
                    [Change(variant_id, lanes[variant_id]) for variant_id in sorted(lanes)],
                )

    def _append(self, content: bytes) -> None:
        with self._path.open("ab") as file:
            file.write(content)


def _read_lines(file: BinaryIO) -> list[bytes]:
    return [line.rstrip(b"\n") for line in islice(file, _CHANGES_AT_ONCE)]
