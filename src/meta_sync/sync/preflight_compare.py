"""What a Meta catalog that has items already would become by the first run. Pure: reads no row and asks nothing.

Only what Meta shows is told. What it may hold beside that is cleared by the first push anyhow, so nothing depends on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from meta_sync.core.text import encode_json
from meta_sync.sync.preflight_scan import Finding, KeyKind
from meta_sync.sync.reconcile_compare import Match as Equality
from meta_sync.sync.reconcile_compare import compare, held_fields

__all__ = ["CatalogTally", "Match", "add_page", "changed_fields", "retailer_id_of"]

_SHOWN_CHARS = 200
_MOST_CURRENCIES = 20


@dataclass(frozen=True, slots=True)
class Match:
    """What the store has under an id that Meta shows.

    ``data`` is what would be sent; ``None`` where the item is not fit for it, or no longer wanted there.
    """

    kind: str
    variant_id: str
    data: Mapping[str, Any] | None = None


@dataclass(slots=True)
class CatalogTally:
    """What the pages of a catalog came to so far."""

    items: int = 0
    unchanged: int = 0
    """Under an id of ours and, as far as it is compared, as we would send it."""
    changed: Finding = field(default_factory=Finding)
    deleted: Finding = field(default_factory=Finding)
    unfit: Finding = field(default_factory=Finding)
    """Under an id of ours that is not fit to be sent: left as it is."""
    foreign: Finding = field(default_factory=Finding)
    """Under no id of ours: left as it is."""
    sales_ended: Finding = field(default_factory=Finding)
    """Of those that would be sent: Meta shows a sale price where the store has none now."""
    of_feeds: int = 0
    changed_fields: dict[str, int] = field(default_factory=dict)
    currencies: dict[str, int] = field(default_factory=dict)

    @property
    def adopted(self) -> int:
        """Items that are there under an id that would be sent."""
        return self.unchanged + self.changed.count

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> CatalogTally:
        """As it was kept in a job's result; a new one where nothing was."""
        if not stored:
            return cls()
        return cls(
            items=stored["items"],
            unchanged=stored["unchanged"],
            changed=Finding.of(stored["changed"]),
            deleted=Finding.of(stored["deleted"]),
            unfit=Finding.of(stored["unfit"]),
            foreign=Finding.of(stored["foreign"]),
            sales_ended=Finding.of(stored["salesEnded"]),
            of_feeds=stored["ofFeeds"],
            changed_fields=dict(stored["changedFields"]),
            currencies=dict(stored["currencies"]),
        )

    def stored(self) -> dict[str, Any]:
        """As it is kept in a job's result."""
        return {
            "items": self.items,
            "unchanged": self.unchanged,
            "changed": self.changed.stored(),
            "deleted": self.deleted.stored(),
            "unfit": self.unfit.stored(),
            "foreign": self.foreign.stored(),
            "salesEnded": self.sales_ended.stored(),
            "ofFeeds": self.of_feeds,
            "changedFields": self.changed_fields,
            "currencies": self.currencies,
        }


def retailer_id_of(shown: Mapping[str, Any]) -> str | None:
    """The id that whoever made the item gave it; compared byte for byte."""
    value = shown.get("retailer_id")
    return value if isinstance(value, str) and value else None


def add_page(tally: CatalogTally, shown: Sequence[Mapping[str, Any]], matches: Mapping[str, Match]) -> None:
    """Add a page of items as Meta shows them; ``matches`` is by retailer id what the store has under it."""
    for one in shown:
        tally.items += 1
        tally.of_feeds += bool(one.get("product_feed"))
        currency = one.get("currency")
        if isinstance(currency, str) and (
            currency in tally.currencies or len(tally.currencies) < _MOST_CURRENCIES
        ):
            tally.currencies[currency] = tally.currencies.get(currency, 0) + 1
        retailer_id = retailer_id_of(one)
        match = None if retailer_id is None else matches.get(retailer_id)
        _add(tally, one, match)


def _add(tally: CatalogTally, shown: Mapping[str, Any], match: Match | None) -> None:
    if match is None:
        tally.foreign.add(_example(shown, None))
    elif match.kind == KeyKind.TO_DELETE:
        tally.deleted.add(_example(shown, match))
    elif match.data is None:
        tally.unfit.add(_example(shown, match))
    else:
        changes = changed_fields(shown, match.data)
        if not changes:
            tally.unchanged += 1
            return
        tally.changed.add(_example(shown, match) | {"changes": changes})
        for name in changes:
            tally.changed_fields[name] = tally.changed_fields.get(name, 0) + 1
        if "sale_price" in changes and "sale_price" not in match.data:
            tally.sales_ended.add(_example(shown, match) | {"changes": {"sale_price": changes["sale_price"]}})


def changed_fields(shown: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, list[str | None]]:
    """By the name we write, what Meta shows and what would be sent, where they certainly differ. Long values are cut.

    Every field of ours that Meta shows and the store does not have is emptied by the first push.
    """
    cleared = dict.fromkeys(sorted(held_fields(shown) - data.keys()), "")
    compared = compare({**cleared, **data}, shown)
    if compared.match is not Equality.DIFFERENT:
        return {}
    return {
        name: [_cut(_told(theirs)), _cut(_told(ours))]
        for name, (ours, theirs) in sorted(compared.differences.items())
    }


def _told(value: Any) -> str:
    if isinstance(value, str) or value is None:
        return _plain(value)
    return encode_json(value).decode()


def _example(shown: Mapping[str, Any], match: Match | None) -> dict[str, Any]:
    feed = shown.get("product_feed")
    feed_id = feed.get("id") if isinstance(feed, Mapping) else None
    return {
        "retailerId": retailer_id_of(shown),
        "variantId": None if match is None else match.variant_id,
        "title": _cut(_plain(shown.get("name"))),
        "price": _cut(_plain(shown.get("price"))),
        "salePrice": _cut(_plain(shown.get("sale_price"))),
        "feedId": None if feed_id is None else _cut(_plain(feed_id)),
    }


def _plain(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _cut(value: str) -> str | None:
    shown = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in value)
    if not shown:
        return None
    return shown if len(shown) <= _SHOWN_CHARS else shown[: _SHOWN_CHARS - 1] + "…"
