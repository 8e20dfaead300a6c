"""What happens to an accepted batch: when it ends, what it changes, what its report says.

Time never passes by itself here. A batch gets its end when it is accepted, and whoever looks at a catalog first calls
:func:`advance`, which applies everything that has ended by then, in the order it ended.
"""

from __future__ import annotations

import math
import random
import secrets
from collections.abc import Sequence
from typing import Any

from meta_sync.sandbox.faults import FaultBook, FaultKind, FaultSpec
from meta_sync.sandbox.fields import FIELDS, is_empty, text_of
from meta_sync.sandbox.messages import Finding
from meta_sync.sandbox.model import Batch, Catalog, Refusal
from meta_sync.sandbox.options import SandboxOptions
from meta_sync.sandbox.validation import Record, check_fields, check_item

__all__ = ["Processor"]

_EDGE = "items_batch"
_LONGEST_ADVERSE_DELAY = 3.0
"""In the adverse profile a batch takes between nothing and this many times the usual delay."""


class Processor:
    """Accepts batches and applies them when their time has come."""

    def __init__(self, options: SandboxOptions, faults: FaultBook, chance: random.Random) -> None:
        self._options = options
        self._faults = faults
        self._chance = chance
        self._last_number = 0
        self._refusals: dict[tuple[str | None, str], Refusal] = {}

    @property
    def refusals(self) -> dict[tuple[str | None, str], Refusal]:
        """Standing refusals by catalog id (``None``: any catalog) and retailer id."""
        return self._refusals

    def refusal(self, catalog_id: str, retailer_id: str) -> Refusal | None:
        """The refusal that stands for an item of a catalog, if any."""
        if not self._refusals:
            return None
        return self._refusals.get((catalog_id, retailer_id)) or self._refusals.get((None, retailer_id))

    def accept(self, catalog: Catalog, records: list[Record], *, allow_upsert: bool, now: float) -> Batch:
        """Queue records and choose their fate."""
        self._last_number += 1
        adverse = self._options.profile == "adverse"
        if adverse:
            records = self._chance.sample(records, len(records))
        batch = Batch(
            # "Ac" and 88 more characters: the shape of every handle seen. Never the same twice, seed or not.
            handle="Ac" + secrets.token_urlsafe(66),
            number=self._last_number,
            tie=self._chance.random() if adverse else self._last_number,
            accepted_at=now,
            ends_at=self._usual_end(catalog, now),
            records=records,
            allow_upsert=allow_upsert,
            error_cap=self._options.error_list_cap,
            line_base=self._chance.choice((0, 1)) if adverse else 1,
        )
        self._strike(catalog.id, batch)
        catalog.batches[batch.handle] = batch
        catalog.open_batches.append(batch)
        return batch

    def advance(self, catalog: Catalog, now: float) -> None:
        """Apply every batch of a catalog that has ended by now."""
        if not any(batch.ends_at <= now for batch in catalog.open_batches):
            return
        due = [batch for batch in catalog.open_batches if batch.ends_at <= now]
        catalog.open_batches = [batch for batch in catalog.open_batches if batch.ends_at > now]
        for batch in sorted(due, key=lambda batch: (batch.ends_at, batch.tie)):
            self._apply(catalog, batch)

    def _usual_end(self, catalog: Catalog, now: float) -> float:
        delay = self._options.processing_delay_seconds
        if self._options.profile == "adverse":
            return now + self._chance.uniform(0, _LONGEST_ADVERSE_DELAY) * delay
        catalog.last_end_at = max(catalog.last_end_at, now + delay)
        return catalog.last_end_at

    def _strike(self, catalog_id: str, batch: Batch) -> None:
        """Let the faults that wait for an accepted batch change its fate."""

        def take(kind: FaultKind) -> FaultSpec | None:
            return self._faults.take(kind, _EDGE, catalog_id)

        for kind, status in ((FaultKind.HANDLE_ERROR, "error"), (FaultKind.HANDLE_CANCELED, "canceled")):
            if fault := take(kind):
                batch.end_status, batch.applied_share = status, fault.share
        if fault := take(FaultKind.HANDLE_LATE):
            batch.ends_at += fault.seconds
        if take(FaultKind.HANDLE_NEVER):
            batch.ends_at = math.inf
        if fault := take(FaultKind.ERRORS_CAPPED):
            batch.error_cap = fault.limit
        if fault := take(FaultKind.IDS_TRIMMED):
            batch.trim_ids_to = fault.limit
        batch.ids_other_case = take(FaultKind.IDS_OTHER_CASE) is not None
        if fault := take(FaultKind.REQUIRED_AS_WARNINGS):
            batch.required_as_warnings, batch.required_still_counted = True, fault.counted

    def _apply(self, catalog: Catalog, batch: Batch) -> None:
        lag = self._faults.take(FaultKind.READ_LAG, "products", catalog.id)
        lag_until = None if lag is None else batch.ends_at + lag.seconds
        records: Sequence[Record] = batch.records
        if batch.applied_share < 1:
            records = self._chance.sample(batch.records, int(len(batch.records) * batch.applied_share))
        for record in records:
            errors, item = self._judge(catalog, record, allow_upsert=batch.allow_upsert)
            batch.errors += errors
            if errors:
                continue
            if lag_until is not None:
                catalog.hold_back(record.id, lag_until, batch.ends_at)
            if item is None:
                catalog.remove(record.id)
                continue
            catalog.store(record.id, item)
            if "google_product_category" not in item:
                batch.warnings.append(record.finding("no_category"))
        batch.records = []
        batch.is_over = True

    def _judge(
        self, catalog: Catalog, record: Record, *, allow_upsert: bool
    ) -> tuple[list[Finding], dict[str, Any] | None]:
        """The errors of a record and, without any, the item after it; ``None`` means deleted."""
        refusal = self.refusal(catalog.id, record.id)
        if refusal is not None:
            return [record.finding("refused", text=refusal.text)], None
        if record.method == "DELETE":
            return [], None
        known = catalog.items.get(record.id)
        if known is None and not allow_upsert and record.method == "UPDATE":
            return [record.finding("unknown_item")], None
        item = merge(known, record)
        errors = [*check_fields(record), *check_item(record, item, creating=known is None)]
        group = text_of(item["item_group_id"]) if "item_group_id" in item else None
        for taken in (record.id if catalog.is_group(record.id) else None, group):
            if taken is not None and (taken == record.id or taken in catalog.items):
                errors.append(record.finding("id_used_by_group", taken))
                break
        return errors, item


def merge(known: dict[str, Any] | None, record: Record) -> dict[str, Any]:
    """The item after an update: fields sent replace, empty ones vanish, the others stay. Unknown fields are dropped."""
    item = {} if known is None else dict(known)
    for name, value in record.data.items():
        if name not in FIELDS:
            continue
        if is_empty(value) or (name == "sale_price" and value in (0, "0")):
            item.pop(name, None)
        else:
            item[name] = value
    item["id"] = record.data["id"]
    return item
