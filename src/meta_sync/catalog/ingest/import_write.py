"""One chunk of an import: judge its rows, write the good ones, count and note the rest. Runs inside one transaction.

A dry run takes the same way and stops short of writing: what earlier chunks would have made of a product is then told
from the row itself, since the store does not have it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.ingest.import_changes import describe_change, describe_new
from meta_sync.catalog.ingest.import_rows import ImportLease, add_findings, mark_seen, seen
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
from meta_sync.catalog.states import ProductState, product_state
from meta_sync.catalog.validation import MAX_VARIANTS, id_fault, validate_product
from meta_sync.catalog.working_set import Applied, MergeOutcome, WorkingSet

__all__ = ["Chunk"]


@dataclass(slots=True)
class Chunk:
    """One transaction's worth of an import. The tally is thrown away with the transaction when that fails."""

    connection: AsyncConnection
    lease: ImportLease
    tally: Tally
    sink: ChangeSink
    now: datetime
    currency: str
    _named_products: set[str] = field(default_factory=set)
    """In a dry run: products that an earlier chunk would have made."""
    _failed_products: set[str] = field(default_factory=set)
    """Products that the store does not have and whose own rows failed."""

    async def write_parents(self, entries: Sequence[Parsed]) -> int:
        """Write the products that are not items themselves; how many variants were enqueued."""
        findings: list[Finding | None] = []
        good: list[ImportedParent] = []
        failed: set[str] = set()
        for entry in entries:
            if not isinstance(entry, ImportedParent):
                continue
            if failure := self._fault(entry.row, entry.product, None):
                findings.append(self.tally.note_parent(failure))
                failed.add(entry.product.id)
            else:
                good.append(entry)
        await self._mark_failed(failed | _failed_products(entries))
        new = await mark_seen(self.connection, self.lease, "p", [entry.product.id for entry in good])
        if self.lease.dry_run:
            self.tally.products += len(new)
            return await self._save(WorkingSet(), findings)
        working = await load_working_set(self.connection, self.lease.store_id, new, [])
        for entry in good:
            if entry.product.id in new:
                new.discard(entry.product.id)
                self.tally.products += 1
                self._merge_product(working, entry.product)
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
        await self._mark_failed(_failed_products(entries))
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
        if self.lease.dry_run:
            mentioned = {entry.product.id for entry in accepted} - new_products
            self._named_products = await seen(self.connection, self.lease, "p", mentioned)
        unknown = {entry.product.id for entry in accepted} - working.products.keys()
        self._failed_products = await seen(self.connection, self.lease, "f", unknown)
        findings.extend(self._merge(working, entry, new_products) for entry in accepted)
        return await self._save(working, findings)

    async def _mark_failed(self, product_ids: Collection[str]) -> None:
        # What cannot be an id is no stored product's either.
        known = [product_id for product_id in product_ids if not id_fault(product_id)]
        await mark_seen(self.connection, self.lease, "f", known)

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
                repeated.append(RowFailure(entry.row, "id", message, variant_id, "repeated_id", variant_id))
        return accepted, repeated

    def _merge(self, working: WorkingSet, entry: ImportedVariant, new_products: set[str]) -> Finding | None:
        """Apply one row and count what became of it; a line for the report when it has something to say."""
        product_id, variant_id = entry.product.id, entry.variant.id
        product_changed = False
        if not entry.product_is_partial and product_id in new_products:
            new_products.discard(product_id)
            product_changed = self._merge_product(working, entry.product).row_changed
        elif product_id in self._named_products:
            self._stand_in(working, entry)
        outcome = working.merge_variant(
            product_id,
            entry.variant,
            clock=entry.product.updated_at,
            revives=self.lease.replaces,
            source=self.lease.source,
        )
        if (refused := _refused(entry, outcome, self._failed_products)) is not None:
            return self.tally.note(refused)
        self.tally.variants += 1
        if outcome is MergeOutcome.CREATED:
            self.tally.created += 1
            if self.lease.dry_run:
                message = describe_new(entry.product, entry.variant, self.currency)
                return self.tally.line("create", entry.row, column="", message=message, item_id=variant_id)
        elif outcome is MergeOutcome.CHANGED or product_changed:
            self.tally.changed += 1
            if self.lease.dry_run:
                fields, message = describe_change(
                    working, variant_id, with_product=product_changed, currency=self.currency
                )
                return self.tally.line(
                    "change", entry.row, column=fields, message=message, item_id=variant_id
                )
        else:
            self.tally.unchanged += 1
        return None

    def _stand_in(self, working: WorkingSet, entry: ImportedVariant) -> None:
        """Put the product in that an earlier chunk of this dry run would have made or revived."""
        stored = working.products.get(entry.product.id)
        if stored is not None and not stored.deleted:
            return
        if not entry.product_is_partial:
            self._merge_product(working, entry.product)
        else:
            working.products[entry.product.id] = _alive(stored, self._owned(entry.product))

    def _merge_product(self, working: WorkingSet, product: ProductInput) -> Applied:
        # A replacing file may have left the product out and name it again, without a change at its source meanwhile.
        return working.merge_product(self._owned(product), revives=self.lease.replaces)

    def _owned(self, product: ProductInput) -> ProductInput:
        """The product as this import's source owns it."""
        return replace(product, source=self.lease.source, variants=[])

    def _fault(self, row: int, given: ProductInput, item_id: str | None) -> RowFailure | None:
        """The first reason why a row cannot be stored."""
        details = validate_product(given, now=self.now)
        if not details:
            return None
        name = details[0].field.removeprefix("variants[0].")
        return RowFailure(
            row, name, f"{name} {details[0].message}.", item_id, "invalid", _given(given, details[0].field)
        )

    async def _save(self, working: WorkingSet, findings: Sequence[Finding | None]) -> int:
        enqueued: dict[str, str] = {}
        if not self.lease.dry_run:
            enqueued = await save_working_set(
                self.connection, self.lease.store_id, working, self.sink, new_lane=Lane.BULK
            )
        noted = [finding for finding in findings if finding is not None]
        await add_findings(self.connection, self.lease, noted)
        return len(enqueued)


def _failed_products(entries: Sequence[Parsed]) -> set[str]:
    """Products whose own rows cannot be read."""
    return {
        entry.item_id
        for entry in entries
        if isinstance(entry, RowFailure) and not entry.is_item and entry.item_id is not None
    }


def _refused(
    entry: ImportedVariant, outcome: MergeOutcome, failed_products: Collection[str]
) -> RowFailure | RowSkip | None:
    """Why the row was left out, if it was. ``failed_products``: those whose own rows failed."""
    product_id, variant_id = entry.product.id, entry.variant.id
    if outcome is MergeOutcome.STALE:
        message = f"The store has later news of product {product_id}; the row was left out."
        clock = entry.product.updated_at
        return RowSkip(
            entry.row, "id", message, variant_id, "stale", clock.isoformat() if clock is not None else None
        )
    if outcome is MergeOutcome.NO_PRODUCT:
        message = f"The product {product_id} of this item is neither in the file nor in the store."
        if product_id in failed_products:
            message = f"The product {product_id} of this item is not in the store, and its row in the file did not go in."
        return RowFailure(entry.row, "product", message, variant_id, "no_product", product_id)
    if outcome is MergeOutcome.TOO_MANY_VARIANTS:
        message = f"The product {product_id} has {MAX_VARIANTS:,} variants already; it cannot have more."
        return RowFailure(entry.row, "product", message, variant_id, "too_many_variants", product_id)
    return None


def _alive(stored: ProductState | None, given: ProductInput) -> ProductState:
    return product_state(given, None) if stored is None else replace(stored, deleted=False)


def _given(product: ProductInput, name: str) -> str | None:
    """What the row says in the field that a fault names (``variants[0].specialPrice``), where it is one value."""
    given: object = product
    if name.startswith("variants[0]."):
        given = product.variants[0]
    attribute = name.removeprefix("variants[0].")
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in attribute)
    value = getattr(given, snake, None)
    return str(value) if isinstance(value, str | int | datetime) else None
