"""One chunk of an import: judge its rows, write the good ones, count and note the rest. Runs inside one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.ingest.import_rows import ImportLease, add_findings, mark_seen
from meta_sync.catalog.ingest.import_tally import Finding, Tally
from meta_sync.catalog.ingest.rows import (
    ImportedParent,
    ImportedVariant,
    Parsed,
    RowFailure,
    RowSkip,
    RowWarning,
)
from meta_sync.catalog.models import ChangeSink, Lane, ProductInput
from meta_sync.catalog.products_write import save_working_set
from meta_sync.catalog.repository import load_working_set
from meta_sync.catalog.validation import MAX_VARIANTS, validate_product
from meta_sync.catalog.working_set import MergeOutcome, WorkingSet

__all__ = ["Chunk"]


@dataclass(slots=True)
class Chunk:
    """One transaction's worth of an import. The tally is thrown away with the transaction when that fails."""

    connection: AsyncConnection
    lease: ImportLease
    tally: Tally
    sink: ChangeSink
    now: datetime

    async def write_parents(self, entries: Sequence[Parsed]) -> int:
        """Write the products that are not items themselves; how many variants were enqueued."""
        findings: list[Finding | None] = []
        good: list[ImportedParent] = []
        for entry in entries:
            if not isinstance(entry, ImportedParent):
                continue
            if failure := self._fault(entry.row, entry.product, None):
                findings.append(self.tally.note(failure))
            else:
                good.append(entry)
        new = await mark_seen(self.connection, self.lease, "p", [entry.product.id for entry in good])
        working = await load_working_set(self.connection, self.lease.store_id, new, [])
        for entry in good:
            if entry.product.id in new:
                new.discard(entry.product.id)
                self.tally.products += 1
                working.merge_product(self._owned(entry.product))
        return await self._save(working, findings)

    async def write_items(self, entries: Sequence[Parsed]) -> int:
        """Write the variants among the entries; how many variants were enqueued."""
        findings: list[Finding | None] = []
        candidates: list[ImportedVariant] = []
        for entry in entries:
            self.tally.saw(entry)
            if isinstance(entry, RowFailure | RowSkip | RowWarning):
                findings.append(self.tally.note(entry))
            elif isinstance(entry, ImportedVariant):
                given = replace(entry.product, variants=[entry.variant])
                if failure := self._fault(entry.row, given, entry.variant.id):
                    findings.append(self.tally.note(failure))
                else:
                    candidates.append(entry)
        accepted, repeated = await self._first_of_each(candidates)
        findings.extend(self.tally.note(failure) for failure in repeated)
        naming = [entry.product.id for entry in accepted if not entry.product_is_partial]
        new_products = await mark_seen(self.connection, self.lease, "p", naming)
        self.tally.products += len(new_products)
        working = await load_working_set(
            self.connection,
            self.lease.store_id,
            [entry.product.id for entry in accepted],
            [entry.variant.id for entry in accepted],
            [entry.variant.id for entry in accepted if entry.variant.inventory is not None],
        )
        findings.extend(self._merge(working, entry, new_products) for entry in accepted)
        return await self._save(working, findings)

    async def _first_of_each(
        self, candidates: Sequence[ImportedVariant]
    ) -> tuple[list[ImportedVariant], list[RowFailure]]:
        """The first row of each id, and a failure for each further one."""
        unseen = await mark_seen(self.connection, self.lease, "v", [entry.variant.id for entry in candidates])
        accepted: list[ImportedVariant] = []
        repeated: list[RowFailure] = []
        for entry in candidates:
            variant_id = entry.variant.id
            if variant_id in unseen:
                unseen.discard(variant_id)
                accepted.append(entry)
            else:
                message = f"The id {variant_id} appears again; the first row counts."
                repeated.append(RowFailure(entry.row, "id", message, variant_id))
        return accepted, repeated

    def _merge(self, working: WorkingSet, entry: ImportedVariant, new_products: set[str]) -> Finding | None:
        """Apply one row and count what became of it; a finding when it was left out."""
        product_id, variant_id = entry.product.id, entry.variant.id
        product_changed = False
        if not entry.product_is_partial and product_id in new_products:
            new_products.discard(product_id)
            product_changed = working.merge_product(self._owned(entry.product)).row_changed
        outcome = working.merge_variant(product_id, entry.variant, clock=entry.product.updated_at)
        if outcome is MergeOutcome.STALE:
            message = f"The store has later news of product {product_id}; the row was left out."
            return self.tally.note(RowSkip(entry.row, "id", message, variant_id))
        if outcome is MergeOutcome.NO_PRODUCT:
            message = f"The product {product_id} of this item is neither in the file nor in the store."
            return self.tally.note(RowFailure(entry.row, "product", message, variant_id))
        if outcome is MergeOutcome.TOO_MANY_VARIANTS:
            message = f"The product {product_id} has {MAX_VARIANTS:,} variants already; it cannot have more."
            return self.tally.note(RowFailure(entry.row, "product", message, variant_id))
        self.tally.variants += 1
        if outcome is MergeOutcome.CREATED:
            self.tally.created += 1
        elif outcome is MergeOutcome.CHANGED or product_changed:
            self.tally.changed += 1
        else:
            self.tally.unchanged += 1
        return None

    def _owned(self, product: ProductInput) -> ProductInput:
        """The product as this import's source owns it."""
        return replace(product, source=self.lease.source, variants=[])

    def _fault(self, row: int, given: ProductInput, item_id: str | None) -> RowFailure | None:
        """The first reason why a row cannot be stored."""
        details = validate_product(given, now=self.now)
        if not details:
            return None
        name = details[0].field.removeprefix("variants[0].")
        return RowFailure(row, name, f"{name} {details[0].message}.", item_id)

    async def _save(self, working: WorkingSet, findings: Sequence[Finding | None]) -> int:
        enqueued = await save_working_set(
            self.connection, self.lease.store_id, working, self.sink, new_lane=Lane.BULK
        )
        noted = [finding for finding in findings if finding is not None]
        await add_findings(self.connection, self.lease, noted)
        return len(enqueued)
