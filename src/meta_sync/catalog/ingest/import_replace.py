"""Mode ``replace``: what a file leaves out of its own source is deleted, once the whole file was read and as a whole found fit.

An item goes only if it was of this source when the whole file had been read, and still is when it is deleted: other sources
may have items of the same product. A product goes with its last item, whosesoever that was, if it is of this source itself.
Takes a connection and never commits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.ingest.import_rows import ImportLease, add_findings, mark_seen, seen
from meta_sync.catalog.ingest.import_tally import Finding, Tally
from meta_sync.catalog.ingest.rows import ImportedVariant, Parsed, RowFailure, RowSkip
from meta_sync.catalog.models import ChangeSink, Lane
from meta_sync.catalog.products_write import save_working_set
from meta_sync.catalog.repository import load_working_set
from meta_sync.catalog.validation import id_fault
from meta_sync.core.failpoints import failpoint

__all__ = ["Deletion", "DeletionHeldError", "check_whole", "list_absent", "note_named"]

_NAMED, _ABSENT, _EMPTY = "n", "a", "e"
"""Kinds of ``import_seen``."""
_PAGE_PRODUCTS = 2_000
_GROUP_VARIANTS = 4_000
_GROUP_PRODUCTS = 500
"""What is locked and held in memory at once: a product may have thousands of variants, and all of them are looked at."""
_LISTED_AT_ONCE = 10_000
_ROUNDING = 1e-9
"""A share of exactly 30 % is not above 30 %, whatever binary fractions make of it."""

# Every inner look-up is a scalar subquery or behind OFFSET 0: joined freely, fresh statistics would make the planner read
# whole tables once per page.
# The products of the source, and those of others in which it has items.
_PAGE = """
    SELECT product_id FROM (
        (
            SELECT product_id FROM products
            WHERE store_id = :store_id AND source = :source AND deleted_at IS NULL AND product_id > :after
            ORDER BY product_id LIMIT :most
        ) UNION (
            SELECT DISTINCT product_id FROM variants
            WHERE store_id = :store_id AND source = :source AND deleted_at IS NULL AND product_id > :after
            ORDER BY product_id LIMIT :most
        )
    ) AS either
    ORDER BY product_id LIMIT :most
"""
_OWNED_PAGE = f"""
    SELECT product_id, (
        SELECT source FROM products AS p WHERE p.store_id = :store_id AND p.product_id = found.product_id
    ) AS source
    FROM ({_PAGE}) AS found
"""
_LIVE_OF_PAGE = """
    FROM variants AS v WHERE v.store_id = :store_id AND v.product_id = page.product_id AND v.deleted_at IS NULL
"""
_OWN_OF_PAGE = f"{_LIVE_OF_PAGE} AND COALESCE(v.source, page.source) = :source"
_NOTE_ABSENT = text(
    f"""
    WITH page AS MATERIALIZED ({_OWNED_PAGE}),
    live AS MATERIALIZED (
        SELECT own.variant_id,
            (SELECT true FROM import_seen AS n
             WHERE n.import_id = :import_id AND n.kind = '{_NAMED}' AND n.id = own.variant_id) AS named
        FROM page JOIN LATERAL (SELECT v.variant_id {_OWN_OF_PAGE} OFFSET 0) AS own ON true
    ),
    noted AS (
        INSERT INTO import_seen (store_id, import_id, kind, id)
        SELECT :store_id, :import_id, '{_ABSENT}', variant_id FROM live WHERE named IS NULL
        UNION ALL
        SELECT :store_id, :import_id, '{_EMPTY}', product_id FROM page
        WHERE source = :source AND (SELECT true {_LIVE_OF_PAGE} LIMIT 1) IS NULL
        ON CONFLICT (import_id, kind, id) DO NOTHING
    )
    SELECT (SELECT max(product_id) FROM page), count(*), count(*) FILTER (WHERE named IS NULL) FROM live
    """
)
_COUNT_ABSENT = text(
    f"""
    WITH page AS MATERIALIZED ({_OWNED_PAGE})
    SELECT page.product_id,
        (SELECT count(*) FROM variants AS v WHERE v.store_id = :store_id AND v.product_id = page.product_id),
        (SELECT count(*) {_OWN_OF_PAGE}),
        (SELECT count(*) {_OWN_OF_PAGE}
           AND (SELECT true FROM import_seen AS a
                WHERE a.import_id = :import_id AND a.kind = '{_ABSENT}' AND a.id = v.variant_id)),
        (SELECT true FROM import_seen AS e
         WHERE e.import_id = :import_id AND e.kind = '{_EMPTY}' AND e.id = page.product_id)
    FROM page
    ORDER BY page.product_id
    """
)
_LIST_ABSENT = text(
    f"""
    SELECT id FROM import_seen WHERE import_id = :import_id AND kind = '{_ABSENT}' ORDER BY id LIMIT :most
    """
)


class DeletionHeldError(Exception):
    """The store changed while the import ran, so that the deletion would be too large by now."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


async def note_named(
    connection: AsyncConnection, lease: ImportLease, tally: Tally, entries: Sequence[Parsed]
) -> None:
    """Note every item that these rows name, those that fail or are left out among them."""
    named: set[str] = set()
    for entry in entries:
        item_id = _named_by(entry)
        # What cannot be an id is none of a stored item either.
        if item_id is not None and not id_fault(item_id):
            named.add(item_id)
        tally.survey(entry, is_named=item_id is not None)
    await mark_seen(connection, lease, _NAMED, named)
    tally.survey_entries += len(entries)


def _named_by(entry: Parsed) -> str | None:
    if isinstance(entry, ImportedVariant):
        return entry.variant.id
    if isinstance(entry, RowFailure) and (entry.rule == "ragged_row" or entry.field == "row"):
        # The cells do not fit the header: what stands in the column of the ids may be half of one, or another cell,
        # and a missing quotation mark may have swallowed the rows below.
        return None
    if isinstance(entry, RowFailure | RowSkip):
        return entry.item_id or None
    return None


async def check_whole(
    connection: AsyncConnection, lease: ImportLease, tally: Tally, *, most_share: float
) -> None:
    """Note what the file leaves out and which products have nothing, and judge the import as a whole: the tally says what is wrong with it.

    ``most_share``: the largest part of the source's items that one import may delete, unless it is allowed to.
    """
    tally.live, tally.absent = await _note_absent(connection, lease)
    tally.checked = True
    if not tally.named and not tally.faulty:
        tally.refusal = "The file has no items, so it would delete everything of its source. Nothing was imported and nothing deleted."
    elif not tally.named:
        tally.held_back = "No row of the file is an item that can be imported, so nothing was deleted."
    elif tally.nameless:
        tally.held_back = _nameless_sentence(tally)
    elif not lease.allow_mass_delete and tally.absent > tally.live * most_share + _ROUNDING:
        tally.refusal = (
            f"The file leaves out {tally.absent:,} of the {tally.live:,} items of the source {lease.source} "
            f"({_percent(tally.absent, tally.live)}); one import may delete at most {most_share:.0%}. Nothing was imported "
            "and nothing deleted. If the file is whole and this is meant, import it again with allowMassDelete."
        )


def _nameless_sentence(tally: Tally) -> str:
    others = "" if tally.nameless == 1 else f" and {tally.nameless - 1:,} more rows"
    return (
        f"Row {tally.first_nameless_row:,}{others} cannot be read and may be any item of the store, so nothing was deleted. "
        "Mend the file and import it again."
    )


def _percent(part: int, whole: int) -> str:
    return f"{part / max(whole, 1):.0%}"


async def _note_absent(connection: AsyncConnection, lease: ImportLease) -> tuple[int, int]:
    """How many live items the source has, and how many of them the file does not name.

    The latter are noted, and so are the source's products without any item.
    """
    live = absent = 0
    after = ""
    while True:
        parameters = {**_parameters(lease), "after": after, "most": _PAGE_PRODUCTS}
        last, page_live, page_absent = (await connection.execute(_NOTE_ABSENT, parameters)).one()
        if last is None:
            return live, absent
        live, absent, after = live + page_live, absent + page_absent, last


def _parameters(lease: ImportLease) -> dict[str, object]:
    return {"store_id": lease.store_id, "import_id": lease.import_id, "source": lease.source}


@dataclass(slots=True)
class Deletion:
    """The one step that deletes. All of it happens inside one transaction, in groups so that memory stays bounded.

    Parameters
    ----------
    sink
        Where intents go; it may hold them back to the end, since writing one locks what the whole store waits for.
    most_share
        As in `check_whole`; asked again, since the store may have fewer items by now.
    """

    connection: AsyncConnection
    lease: ImportLease
    tally: Tally
    sink: ChangeSink
    most_share: float

    async def run(self) -> None:
        """Delete what was noted as absent and is still of this source.

        Raises
        ------
        DeletionHeldError
            It would be too much of what the store has by now; the transaction must be rolled back.
        """
        live, after = 0, ""
        while True:
            parameters = {**_parameters(self.lease), "after": after, "most": _PAGE_PRODUCTS}
            page = (await self.connection.execute(_COUNT_ABSENT, parameters)).all()
            if not page:
                break
            live += sum(row[2] for row in page)
            for product_ids in _groups([(row[0], row[1]) for row in page if row[3] or row[4]]):
                await self._delete(product_ids)
                await failpoint("import.within_deletion")
            after = page[-1][0]
        self._check(min(live, self.tally.live))
        self.tally.deletion_done = True

    def _check(self, live: int) -> None:
        if self.lease.allow_mass_delete or self.tally.deleted <= live * self.most_share + _ROUNDING:
            return
        raise DeletionHeldError(
            f"While the file was imported, the store came down to {live:,} items of the source {self.lease.source}; to "
            f"delete {self.tally.deleted:,} of them is more than {self.most_share:.0%}, so nothing was deleted. Import the "
            "file again, with allowMassDelete if this is meant."
        )

    async def _delete(self, product_ids: Collection[str]) -> None:
        working = await load_working_set(self.connection, self.lease.store_id, product_ids, [])
        # Read under the locks: what moved to another product or source since is not ours any more.
        live: defaultdict[str, set[str]] = defaultdict(set)
        own: set[str] = set()
        for variant in working.variants.values():
            if variant.deleted:
                continue
            live[variant.product_id].add(variant.variant_id)
            if variant.source_within(working.products[variant.product_id]) == self.lease.source:
                own.add(variant.variant_id)
        gone = await seen(self.connection, self.lease, _ABSENT, own)
        # A product that the file names stays though it has nothing to sell, or the next import would make it again.
        kept = await seen(self.connection, self.lease, "p", product_ids)
        kept |= await seen(self.connection, self.lease, "f", product_ids)
        kept |= set(product_ids) - live.keys() - await seen(self.connection, self.lease, _EMPTY, product_ids)
        for product_id, product in working.products.items():
            is_own = product.source == self.lease.source and product_id not in kept
            if is_own and live[product_id] <= gone:
                working.delete(product_id)
            else:
                working.delete_variants(live[product_id] & gone)
        await save_working_set(self.connection, self.lease.store_id, working, self.sink, new_lane=Lane.BULK)
        self.tally.deleted += len(gone)
        await add_findings(self.connection, self.lease, _lines(self.tally, gone, "was deleted"))


def _groups(products: Sequence[tuple[str, int]]) -> Iterator[list[str]]:
    """Product ids in order, so many at once that all of their variants fit into memory."""
    group: list[str] = []
    variants = 0
    for product_id, count in products:
        if group and (variants + count > _GROUP_VARIANTS or len(group) >= _GROUP_PRODUCTS):
            yield group
            group, variants = [], 0
        group.append(product_id)
        variants += count
    if group:
        yield group


async def list_absent(connection: AsyncConnection, lease: ImportLease, tally: Tally) -> None:
    """In a dry run: count and list what would be deleted, of a file that leaves out too much with leave to do so."""
    tally.deletion_done = True
    # Without items no leave helps.
    if tally.held_back is not None or not tally.named:
        return
    tally.deleted = tally.absent
    parameters = {"import_id": lease.import_id, "most": _LISTED_AT_ONCE}
    absent = (await connection.execute(_LIST_ABSENT, parameters)).scalars().all()
    await add_findings(connection, lease, _lines(tally, absent, "would be deleted"))


def _lines(tally: Tally, item_ids: Collection[str], what: str) -> list[Finding]:
    lines = [
        tally.line(
            "delete",
            0,
            column="id",
            message=f"The file leaves this item out; it {what}.",
            item_id=item_id,
            rule="absent",
        )
        for item_id in sorted(item_ids)
    ]
    return [line for line in lines if line is not None]
