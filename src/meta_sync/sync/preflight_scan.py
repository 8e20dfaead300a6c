"""What a page of a store's items adds up to in a pre-flight report. Pure: reads no row, asks nothing, writes nothing.

The report holds counts and a few examples of each kind, so that it has the same size for every store. What can only be
told of all items together, such as ids that differ by their case, leaves the page as keys, which are kept outside.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import blake2b
from typing import Any

from meta_sync.catalog.models import CatalogItem
from meta_sync.sync.decide import decide
from meta_sync.sync.eligibility import IneligibleReason
from meta_sync.sync.mapping import Ineligible, Mapper
from meta_sync.sync.models import DecisionKind, ItemState, Link

__all__ = [
    "ID_KINDS",
    "MOST_EXAMPLES",
    "Finding",
    "KeyKind",
    "PageKey",
    "Scan",
    "Scanner",
    "fold_key",
    "id_key",
]

MOST_EXAMPLES = 20
"""Of a reason or a remark: enough to see what is meant, in a row of bounded size."""

_EXAMPLE_CHARS = 100
_GONE = frozenset({IneligibleReason.PRODUCT_DELETED, IneligibleReason.VARIANT_DELETED})


class KeyKind:
    """What a key stands for. An item has one of the first three, under the id it has or would have at Meta."""

    SENDABLE = "id"
    UNFIT = "off"
    """Not fit to be sent, and never sent."""
    TO_DELETE = "del"
    """Sent once, and no longer wanted there."""
    TEXT = "text"
    """A product's title and description."""


ID_KINDS = (KeyKind.SENDABLE, KeyKind.UNFIT, KeyKind.TO_DELETE)


@dataclass(frozen=True, slots=True)
class PageKey:
    """Something that must be recognised when it comes again. The first part of ``key`` tells what is alike."""

    kind: str
    key: str
    example: str
    """The variant that brought it first."""
    times: int = 1


@dataclass(slots=True)
class Finding:
    """How often something was met, and where at first."""

    count: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)

    def add(self, example: dict[str, Any]) -> None:
        """Count one more."""
        self.count += 1
        if len(self.examples) < MOST_EXAMPLES:
            self.examples.append(example)

    @classmethod
    def of(cls, stored: dict[str, Any]) -> Finding:
        """As it was kept."""
        return cls(int(stored["count"]), list(stored["examples"]))

    def stored(self) -> dict[str, Any]:
        """As it is kept in a job's result."""
        return {"count": self.count, "examples": self.examples}


@dataclass(slots=True)
class Scan:
    """What the pages so far came to."""

    variants: int = 0
    """Live ones."""
    syncable: int = 0
    deletes: int = 0
    """Sent once, and no longer wanted at Meta."""
    reasons: dict[str, Finding] = field(default_factory=dict)
    """By the reason why items are not fit to be sent."""
    warnings: dict[str, Finding] = field(default_factory=dict)

    @classmethod
    def of(cls, stored: dict[str, Any]) -> Scan:
        """As it was kept in a job's result; a new one where nothing was."""
        return cls(
            stored.get("variants", 0),
            stored.get("syncable", 0),
            stored.get("deletes", 0),
            {code: Finding.of(one) for code, one in stored.get("reasons", {}).items()},
            {code: Finding.of(one) for code, one in stored.get("warnings", {}).items()},
        )

    def stored(self) -> dict[str, Any]:
        """As it is kept in a job's result."""
        return {
            "variants": self.variants,
            "syncable": self.syncable,
            "deletes": self.deletes,
            "reasons": {str(code): one.stored() for code, one in self.reasons.items()},
            "warnings": {str(code): one.stored() for code, one in self.warnings.items()},
        }

    def warn(self, code: str, example: dict[str, Any]) -> None:
        """Count a remark."""
        self.warnings.setdefault(code, Finding()).add(example)


class Scanner:
    """Adds pages of a store's items to a report.

    Parameters
    ----------
    link
        ``None``: no catalog is selected, so that nothing can be there that would be deleted.
    now
        Of the database; whether a sale is over depends on it.
    """

    def __init__(self, scan: Scan, link: Link | None, mapper: Mapper, now: datetime) -> None:
        self._scan = scan
        self._link = link
        self._mapper = mapper
        self._now = now

    def page(self, items: Sequence[tuple[CatalogItem, ItemState]]) -> list[PageKey]:
        """Add a page; the keys by which its items must be recognised again, each once and in their order."""
        keys: list[PageKey] = []
        for item, state in items:
            keys += self._add(item, state)
        return _merged(keys)

    def _add(self, item: CatalogItem, state: ItemState) -> list[PageKey]:
        try:
            wanted = self._mapper.evaluate(
                item, excluded=state.is_excluded, retailer_id=state.retailer_id, now=self._now
            )
        except Exception:  # noqa: BLE001 - a fault of ours with this row, which the drain shows the same way
            self._scan.variants += 1
            _not_fit(self._scan, "mapping_failed", item)
            return []
        if isinstance(wanted, Ineligible):
            return self._add_unfit(item, state, wanted.reason)
        self._scan.variants += 1
        self._scan.syncable += 1
        retailer_id: str = wanted.data["id"]
        for issue in wanted.issues:
            self._scan.warn(issue.code.value, _example(item, retailer_id) | {"message": issue.sentence})
        text = fold_key(f"{wanted.data['title']}\0{wanted.data['description']}", item.product_id)
        return [
            PageKey(KeyKind.SENDABLE, id_key(retailer_id), item.variant_id),
            PageKey(KeyKind.TEXT, text, item.variant_id),
        ]

    def _add_unfit(self, item: CatalogItem, state: ItemState, reason: IneligibleReason) -> list[PageKey]:
        if reason not in _GONE:
            self._scan.variants += 1
            _not_fit(self._scan, reason.value, item)
        if state.retailer_id is not None and self._is_deleted(item, state):
            self._scan.deletes += 1
            return [PageKey(KeyKind.TO_DELETE, id_key(state.retailer_id), item.variant_id)]
        retailer_id = state.retailer_id or self._mapper.retailer_id_for(item)
        if reason in _GONE or not retailer_id:
            return []
        return [PageKey(KeyKind.UNFIT, id_key(retailer_id), item.variant_id)]

    def _is_deleted(self, item: CatalogItem, state: ItemState) -> bool:
        if self._link is None:
            return False
        return decide(item, state, self._link, self._mapper, now=self._now).kind is DecisionKind.DELETE


def _not_fit(scan: Scan, code: str, item: CatalogItem) -> None:
    scan.reasons.setdefault(code, Finding()).add(_example(item, None))


def _example(item: CatalogItem, retailer_id: str | None) -> dict[str, Any]:
    title = item.title
    return {
        "variantId": item.variant_id,
        "productId": item.product_id,
        "retailerId": retailer_id,
        "title": title if title is None else title[:_EXAMPLE_CHARS],
    }


def _merged(keys: Iterable[PageKey]) -> list[PageKey]:
    """Each key once, with how often it came. The variants of a product share its text, which counts once."""
    merged: dict[tuple[str, str], PageKey] = {}
    for key in keys:
        known = merged.get((key.kind, key.key))
        if known is None:
            merged[key.kind, key.key] = key
        elif key.kind != KeyKind.TEXT:
            merged[key.kind, key.key] = replace(known, times=known.times + 1)
    return [merged[one] for one in sorted(merged)]


def id_key(retailer_id: str) -> str:
    """The key of an id at Meta: ids that differ by their case only have the same first part."""
    return fold_key(retailer_id.casefold(), retailer_id)


def fold_key(alike: str, itself: str) -> str:
    """A key of 45 characters whose first 22 are the same for whatever is alike."""
    return f"{_digest(alike)}:{_digest(itself)}"


def _digest(value: str) -> str:
    made = blake2b(value.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return urlsafe_b64encode(made).rstrip(b"=").decode()
