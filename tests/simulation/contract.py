"""What contract tests of twins stand on: rows that are laid on both sides, and a clock that both sides read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.schema import metadata
from tests.simulation.clock import EPOCH
from tests.simulation.mirror import MirrorDatabase, mirroring
from tests.simulation.tables import COLUMNS, make_tables
from tests.simulation.twins import load
from tests.support.postgres import fresh_database

__all__ = ["HOST", "SENDING", "Bench", "Clock", "open_bench"]

HOST = "graph.simulated"
SENDING = {"sync_enabled": True, "currency": "EUR", "storefront_base_url": "https://shop.example"}
"""Settings of a store that may send."""


@dataclass
class Clock:
    """The database's time on both sides."""

    now: datetime = EPOCH

    def __call__(self) -> datetime:
        return self.now

    def after(self, seconds: float) -> datetime:
        """The time so many seconds from now; before now, when negative."""
        return self.now + timedelta(seconds=seconds)

    def move(self, seconds: float) -> None:
        """Let time pass."""
        self.now = self.after(seconds)


@dataclass
class Bench:
    """Memory and PostgreSQL side by side. Each test has a store of its own, so that none sees another's rows."""

    mirror: MirrorDatabase
    clock: Clock
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def number(self) -> int:
        """A number that nothing else on this bench has."""
        return next(self._numbers)

    def put(self, table: str, *rows: dict[str, Any], **values: Any) -> None:
        """Lay rows on both sides: the values, for each of the rows with its own besides."""
        laid = [
            self.mirror.tables[table].insert(self.clock.now, **{**values, **row}) for row in rows or ({},)
        ]
        self.mirror.tables[table].commit()
        plain = [{name: row[name] for name in COLUMNS[table]} for row in laid]

        async def work() -> None:
            async with self.mirror.engine.begin() as connection:
                await connection.execute(metadata.tables[table].insert(), plain)

        self.mirror.thread.run(work())

    async def ask(self, statement: Any, **parameters: Any) -> list[Any]:
        """Run one statement on both sides, in a transaction of its own; the rows it gives."""
        async with self.mirror.platform() as connection:
            rows: list[Any] = (await connection.execute(statement, parameters)).all()
        return rows

    async def count(self, statement: Any, **parameters: Any) -> int:
        """Run one statement on both sides, in a transaction of its own; the number of rows it wrote."""
        async with self.mirror.platform() as connection:
            written: int = (await connection.execute(statement, parameters)).rowcount
        return written

    def store(self, **values: Any) -> str:
        """A store that may send."""
        store_id = f"store_{self.number()}"
        self.put(
            "stores",
            **{
                "store_id": store_id,
                "public_id": f"public_{store_id}",
                "name": "Shop",
                "settings": SENDING,
                **values,
            },
        )
        return store_id

    def link(self, store_id: str, **values: Any) -> int:
        """The store's link to a catalog that was empty."""
        link_id = self.number()
        given = {
            "link_id": link_id,
            "store_id": store_id,
            "graph_host": HOST,
            "catalog_id": f"catalog_{link_id}",
            "credential_id": f"token_{store_id}",
            "active": True,
            "was_empty": True,
            "usage_percent": 0.0,
            "questions_usage_percent": 0.0,
        }
        self.put("catalog_links", **{**given, **values})
        return link_id

    def variant(self, store_id: str, variant_id: str, **values: Any) -> None:
        """A variant; of the product ``p`` unless another is named."""
        given = {"store_id": store_id, "variant_id": variant_id, "product_id": "p", "version": 1}
        self.put("variants", **{**given, **values})

    def product(self, store_id: str, product_id: str, **values: Any) -> None:
        """A product that may be sold."""
        given = {
            "store_id": store_id,
            "product_id": product_id,
            "status": "active",
            "visibility": "public",
            "source": "api",
            "version": 1,
        }
        self.put("products", **{**given, **values})

    def intent(self, store_id: str, variant_id: str, **values: Any) -> None:
        """An intent with a version that no other has."""
        given = {"store_id": store_id, "variant_id": variant_id, "version": -self.number(), "lane": 0}
        self.put("intents", **{**given, **values})

    def state(self, store_id: str, link_id: int, variant_id: str, **values: Any) -> None:
        """What is known of an item."""
        given = {"link_id": link_id, "variant_id": variant_id, "store_id": store_id, "status": "pending"}
        self.put("sync_state", **{**given, **values})

    def batch(self, store_id: str, link_id: int, **values: Any) -> int:
        """A batch whose only call has an unknown end."""
        # Far from the numbers that the pipeline's own batches take.
        batch_id = 1_000_000 + self.number()
        given = {
            "batch_id": batch_id,
            "store_id": store_id,
            "link_id": link_id,
            "graph_host": HOST,
            "catalog_id": "catalog",
            "state": "unknown",
            "lane": 0,
            "body": b"body",
            "body_bytes": 4,
            "link_epoch": 1,
            "mapping_epoch": 1,
            "sent": 1,
            "calls": 1,
            "created_on": self.clock.now.date(),
            "due_at": self.clock.now,
        }
        self.put("batches", **{**given, **values})
        return batch_id

    def call(self, batch_id: int, call_number: int, **values: Any) -> None:
        """A call of a batch, just being made."""
        given = {
            "batch_id": batch_id,
            "call_number": call_number,
            "store_id": "store",
            "link_id": 0,
            "state": "sending",
            "deadline_at": self.clock.after(60),
        }
        self.put("batch_calls", **{**given, **values})


@contextmanager
def open_bench(server: EmbeddedPostgres) -> Iterator[Bench]:
    """A bench on a fresh database."""
    load()
    clock = Clock()
    with fresh_database(server) as url, mirroring(url, make_tables(), clock) as mirror:
        yield Bench(mirror, clock)
