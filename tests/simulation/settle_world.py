"""A store with batches in every state, on both sides of a mirror: what contract tests of polling and settling need."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any
from zlib import crc32

from meta_sync.graph.endpoints.catalog import build_batch_body
from meta_sync.schema import metadata
from tests.simulation.contract import HOST, SENDING, Bench
from tests.simulation.memory import MemoryConnection, Row, Rows
from tests.simulation.tables import COLUMNS

__all__ = ["SettleWorld"]

_STATUSES = ("never_synced", "pending", "submitted", "failed", "skipped", "deleted")
"""States that an item of a batch is tried in; ``synced`` breaks a constraint here and there, so it comes alone."""
_PAYLOADS = (
    b'{"id":"%b","price":"9.99 EUR","availability":"in stock","quantity_to_sell_on_facebook":"7"}',
    b'{"id":"%b","price":12.50,"quantity_to_sell_on_facebook":7,"availability":null}',
    b'{ "id" : "%b" , "quantity_to_sell_on_facebook" : "", "price":"1 \\u20ac", "title":"a \\"b\\" \xc3\xa9" }',
    b'{"id":"%b","quantity_to_sell_on_facebook":null,"price":true,"a":[1, 2],"b":{"price":"no"}}',
)
"""The data of records; PostgreSQL keeps every byte of it, spaces and escapes too."""


class SettleWorld:
    """One store with one link on a bench; rows are brought to PostgreSQL before the next statement."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.mirror = bench.mirror
        self.clock = bench.clock
        self.number = bench.number()
        self.store_id = f"store{self.number}"
        self.link_id = self.number
        self.choice = random.Random(self.number)
        self._batches = 0
        self._new: list[tuple[str, Row]] = []
        self._open: MemoryConnection | None = None
        self.put("stores", store_id=self.store_id, public_id=self.store_id, name="A store", settings=SENDING)
        self.put(
            "credentials",
            credential_id=f"token{self.number}",
            store_id=self.store_id,
            access_token=b"secret",
            token_kind="user",
            active=True,
        )
        self.link(self.link_id)
        self.put("store_queue", store_id=self.store_id)

    def link(self, link_id: int, **values: Any) -> Row:
        """A link of the store to a catalog."""
        given = {
            "link_id": link_id,
            "store_id": self.store_id,
            "graph_host": HOST,
            "catalog_id": f"catalog{link_id}",
            "credential_id": f"token{self.number}",
            "epoch": 3,
            "active": True,
            "was_empty": True,
            "usage_percent": 0.0,
            "questions_usage_percent": 0.0,
        }
        return self.put("catalog_links", **{**given, **values})

    def put(self, table: str, **values: Any) -> Row:
        """A row on both sides."""
        row = self.mirror.tables[table].insert(self.clock.now, **values)
        self._new.append((table, row))
        return row

    def flush(self) -> None:
        """Bring PostgreSQL what was put."""
        by_table: dict[str, list[Row]] = {}
        for table, row in self._new:
            self.mirror.tables[table].commit()
            by_table.setdefault(table, []).append({name: row[name] for name in COLUMNS[table]})
        self._new.clear()

        async def work() -> None:
            async with self.mirror.engine.begin() as connection:
                for table, rows in by_table.items():
                    await connection.execute(metadata.tables[table].insert(), rows)

        self.mirror.thread.run(work())

    def run(self, statement: Any, **parameters: Any) -> Rows:
        """Execute a statement on both sides, which must answer the same.

        It shares a transaction with those before it, unless rows were put or time has passed since.
        """
        if self._new or (self._open is not None and self._open.transaction.now != self.clock.now):
            self.commit()
            self.flush()
        if self._open is None:
            self._open = self.mirror.open()
        try:
            return self._open.run(statement, parameters)
        except BaseException:
            self._open.rollback()
            self._open = None
            raise

    def commit(self) -> None:
        """Keep what the statements did."""
        if self._open is not None:
            self._open.commit()
            self._open = None

    def compare(self) -> None:
        """All rows must be on both sides."""
        self.commit()
        self.flush()
        self.mirror.compare_tables()

    def end(self) -> None:
        """Compare all rows and take them away, so that those of many tests need not be compared again and again."""
        try:
            self.compare()
        finally:
            names = [name for name, table in self.mirror.tables.items() if table.rows]
            for name in names:
                table = self.mirror.tables[name]
                for row in table:
                    table.delete(row)
                table.commit()
            self.mirror.thread.run(self._delete(names))

    async def _delete(self, names: Sequence[str]) -> None:
        async with self.mirror.engine.begin() as connection:
            for name in names:
                await connection.execute(metadata.tables[name].delete())

    def row(self, table: str, *key: Any) -> Row:
        """A row as it is now."""
        row = self.mirror.tables[table].get(*key)
        assert row is not None, (table, key)
        return row

    def batch(self, state: str = "open", **values: Any) -> Row:
        """A batch, without attempts and calls."""
        self._batches += 1
        batch_id = self.number * 1_000 + self._batches
        given: dict[str, Any] = {
            "batch_id": batch_id,
            "store_id": self.store_id,
            "link_id": self.link_id,
            "graph_host": HOST,
            "catalog_id": f"catalog{self.link_id}",
            "state": state,
            "lane": 1,
            "handle": f"handle{batch_id}",
            "body_bytes": 0,
            "link_epoch": 3,
            "mapping_epoch": 1,
            "sent": 4,
            "calls": 1,
            "created_on": self.clock.now.date(),
            "due_at": self.clock.now,
            "created_at": self.clock.now - timedelta(seconds=30),
        }
        if state == "over":
            given |= {"sent": 0, "due_at": None, "finished_at": self.clock.now}
        return self.put("batches", **{**given, **values})

    def call(self, batch: Mapping[str, Any], number: int = 1, state: str = "sending", **values: Any) -> Row:
        """A call of a batch."""
        given = {
            "batch_id": batch["batch_id"],
            "call_number": number,
            "store_id": self.store_id,
            "link_id": self.link_id,
            "state": state,
            "deadline_at": self.clock.now + timedelta(seconds=60),
        }
        return self.put("batch_calls", **{**given, **values})

    def attempt(self, batch: Row, variant_id: str, method: str = "UPDATE", **values: Any) -> Row:
        """An attempt, with what was known before drawn by lot."""
        choice = self.choice
        status = choice.choice([*_STATUSES, "synced"])
        given: dict[str, Any] = {
            "created_on": batch["created_on"],
            "batch_id": batch["batch_id"],
            "variant_id": variant_id,
            "store_id": self.store_id,
            "link_id": self.link_id,
            "retailer_id": f"r{variant_id}",
            "method": method,
            "payload_hash": choice.choice([b"p1", b"p2"]) if method == "UPDATE" else b"DELETE",
            "fields": choice.sample(["price", "title", "link", "brand"], 2),
            "cleared": choice.choice([[], ["gtin"]]),
            "previous_confirmed_hash": b"before" if status == "synced" else choice.choice([None, b"older"]),
            "previous_confirmed_epoch": choice.choice([None, 1, 2]),
            "previous_may_hold": choice.choice([[], ["gtin", "price"]]),
            "previous_presence": choice.choice(["absent", "maybe", "present"]),
            "previous_status": status,
        }
        return self.put("batch_items", **{**given, **values})

    def state(self, variant_id: str, in_flight: int | None, **values: Any) -> Row:
        """The row of an item, with everything that may be owed or known drawn by lot."""
        choice = self.choice
        given: dict[str, Any] = {
            "link_id": self.link_id,
            "variant_id": variant_id,
            "store_id": self.store_id,
            "status": "submitted",
            "presence": choice.choice(["absent", "maybe", "present"]),
            "retailer_id": f"r{variant_id}",
            # A claim takes it away, so an item in flight has none; the statements do not rely on it.
            "confirmed_hash": choice.choice([None, b"known"]),
            "confirmed_epoch": choice.choice([None, 1]),
            "may_hold": choice.choice([[], ["price", "gtin"]]),
            "rejected_hash": choice.choice([None, b"refused"]),
            "in_flight": in_flight,
            "disturbed_at": choice.choice([None, self.clock.now - timedelta(seconds=3)]),
            "retry_at": choice.choice([None, self.clock.now]),
            "batch_limit": choice.choice([None, 10]),
            "retries": choice.choice([0, 1, 2, 9, 999, 1000]),
            "retry_hash": choice.choice([None, b"p1", b"p2", b"DELETE"]),
            "confirmed_price": choice.choice([None, "1 EUR"]),
            "confirmed_availability": "out of stock",
            "confirmed_quantity": 4,
            "confirmed_at": self.clock.now - timedelta(days=1),
            "code": choice.choice([None, "rejected_by_meta"]),
            "error_text": choice.choice([None, "No."]),
            "attempts": choice.choice([0, 2]),
            "last_handle": choice.choice([None, "older"]),
            "updated_at": self.clock.now - timedelta(seconds=9),
        }
        return self.put("sync_state", **{**given, **values})

    def intent(self, variant_id: str, parked_by: int | None, **values: Any) -> Row:
        """An intent for an item, of any lane and age."""
        choice = self.choice
        given = {
            "store_id": self.store_id,
            "variant_id": variant_id,
            "version": 1,
            "lane": choice.choice([0, 1, 2]),
            "first_at": self.clock.now - timedelta(seconds=choice.choice([1, 60])),
            "parked_by": parked_by,
            "job_id": choice.choice([None, "job"]),
        }
        return self.put("intents", **{**given, **values})

    def payload(self, variant_id: str, **values: Any) -> Row:
        """What was confirmed of an item before."""
        given = {
            "link_id": self.link_id,
            "variant_id": variant_id,
            "store_id": self.store_id,
            "payload": b"{}",
            "confirmed_at": self.clock.now - timedelta(days=1),
        }
        return self.put("item_payloads", **{**given, **values})

    def full_batch(
        self, state: str = "open", *, with_body: bool = True, some_unknown: bool = True, **values: Any
    ) -> Row:
        """A batch of items in every state: method, verdict so far, disturbed or not, in flight or not any more.

        Beside it stand rows that look much like its own: attempts of its number on another day, its items under
        another link, another store's intents of the same names.
        """
        batch = self.batch(state, **values)
        batch_id = batch["batch_id"]
        count = 0
        outcomes = (None, "rejected", "unknown" if some_unknown else None)
        for status in _STATUSES:
            for disturbed_at in (None, self.clock.now):
                for method, number in _ENDS:
                    count += 1
                    variant_id = f"v{batch_id}-{count:02}"
                    self.attempt(batch, variant_id, method, outcome=outcomes[number])
                    self.state(variant_id, batch_id, status=status, disturbed_at=disturbed_at)
                    self._surroundings(batch, variant_id, count)
        for in_flight, status in ((None, "synced"), (None, "failed"), (batch_id + 500, "submitted")):
            for outcome in outcomes:
                count += 1
                variant_id = f"v{batch_id}-{count:02}"
                self.attempt(batch, variant_id, outcome=outcome)
                self.state(variant_id, in_flight, status=status, confirmed_hash=b"later")
                self.intent(variant_id, None)
        for outcome in outcomes:
            count += 1
            self.attempt(batch, f"v{batch_id}-{count:02}", outcome=outcome)
        self._look_alikes(batch)
        return self._changed(batch, sent=count, body=self._body(batch) if with_body else None)

    def _changed(self, row: Row, **changes: Any) -> Row:
        """A batch that is still new, and so is brought to PostgreSQL as it is now."""
        newer = self.mirror.tables["batches"].update(row, **changes)
        self._new = [(table, newer if one is row else one) for table, one in self._new]
        return newer

    def _surroundings(self, batch: Row, variant_id: str, count: int) -> None:
        """Payloads and intents of some items."""
        if count % 5 > 1:
            self.payload(variant_id)
        if count % 4:
            parked_by = (None, batch["batch_id"], batch["batch_id"] + 500)[count % 3]
            self.intent(variant_id, parked_by)

    def _look_alikes(self, batch: Row) -> None:
        batch_id, other = batch["batch_id"], f"other{self.number}-{batch['batch_id']}"
        day_before: date = batch["created_on"] - timedelta(days=1)
        for number, outcome in enumerate((None, "rejected", "unknown")):
            stray = f"v{batch_id}-stray{number}"
            self.attempt(batch, stray, outcome=outcome, created_on=day_before)
            self.state(stray, batch_id, status="submitted")
            self.intent(stray, batch_id)
        for variant_id in (f"v{batch_id}-01", f"v{batch_id}-02"):
            link_id = self.link_id + 500_000
            self.state(variant_id, batch_id, link_id=link_id, retailer_id=f"{other}{variant_id}")
            self.payload(variant_id, link_id=link_id)
            self.intent(variant_id, batch_id, store_id=other)

    def _body(self, batch: Row) -> bytes:
        """The stored body, in which some records are missing and one is nobody's."""
        records: list[tuple[Any, bytes]] = [("UPDATE", b'{"price":"of nobody"}')]
        for number, row in enumerate(self.mirror.tables["batch_items"].by_index(batch["batch_id"])):
            if number % 11 == 5:
                continue
            retailer_id = row["retailer_id"].encode()
            data = (
                b'{"id":"%b"}'
                if row["method"] == "DELETE"
                else _PAYLOADS[crc32(retailer_id) % len(_PAYLOADS)]
            )
            records.append((row["method"], data.replace(b"%b", retailer_id)))
        return build_batch_body(records)

    def settle_parameters(self, batch: Row, **more: Any) -> dict[str, Any]:
        """What ``settle`` gives to its statements, apart from what they are about."""
        names: Mapping[str, Any] = {
            "batch_id": batch["batch_id"],
            "store_id": batch["store_id"],
            "link_id": batch["link_id"],
            "created_on": batch["created_on"],
            "link_epoch": batch["link_epoch"],
            "lane": batch["lane"],
            "first_at": batch["created_at"],
            "only_ids": None,
            "except_ids": [],
            "batch_limit": None,
            "only_without_outcome": False,
            "is_certain": True,
        }
        return {**names, **more}

    def variants(self, batch: Row) -> Sequence[str]:
        """The items of a batch, in order."""
        return sorted(
            {row["variant_id"] for row in self.mirror.tables["batch_items"].by_index(batch["batch_id"])}
        )


_ENDS = (("UPDATE", 0), ("UPDATE", 0), ("UPDATE", 1), ("UPDATE", 2), ("DELETE", 0), ("DELETE", 1))
"""Methods, and the number of the verdict so far."""
