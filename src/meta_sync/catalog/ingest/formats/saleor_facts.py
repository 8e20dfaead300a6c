"""What the objects of a Saleor fixture say about each other, found in any order and looked up by variant or product.

Everything stands in one lookup that goes to disk when it is large. Texts are kept as ASCII JSON, so that any text a
file can hold fits. Nothing here decides what an item is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from types import TracebackType
from typing import Any, NamedTuple, Self

from meta_sync.catalog.ingest.spill import SpilledLookup
from meta_sync.core.text import text_fault

__all__ = ["Listing", "Media", "SaleorFacts", "Stock", "key_of"]

_MOST_OF_A_KIND = 2_000
"""Pictures, warehouses or attributes kept of one product or variant; more are said to be left out."""
_MOST_CHARS = 2_000
"""Characters kept of a name or address; longer ones are no names."""
_DEEPEST_CATEGORY = 30

Fields = Mapping[str, Any]


class Listing(NamedTuple):
    """What a channel listing in the store's currency says, of a product or of a variant."""

    price: str | None = None
    discounted_price: str | None = None
    is_published: bool = True
    is_purchasable: bool = True


class Media(NamedTuple):
    """One picture of a product: its place in the order, and its file or address."""

    position: float
    address: str


class Stock(NamedTuple):
    """Pieces over all warehouses."""

    quantity: int
    allocated: int


def key_of(value: object) -> str | None:
    """A primary key as text, the same for the number 5 wherever it stands; ``None`` for what is no key."""
    if type(value) is int and abs(value) < 2**63:
        return str(value)
    if not isinstance(value, str):
        return None
    text = json.dumps(value)
    return text if 0 < len(text) <= 250 and value != "" else None


class SaleorFacts:
    """Filled by `look_at` from every object of the file, read afterwards."""

    def __init__(self, currency: str) -> None:
        self._currency = currency
        self._facts = SpilledLookup()
        self.has_variants = False
        """Whether the file holds a variant."""
        self.has_stock = False
        """Whether the file holds stock at all; a dump of the products alone does not."""
        self.is_cut = False
        """Whether one product or variant has more pictures, warehouses or attributes than are kept."""
        self.has_several_channels = False
        """Whether some variant has more than one price in the store's currency."""
        self._readers: dict[str, Callable[[str | None, Fields], None]] = {
            "product.productvariant": self._variant,
            "product.productvariantchannellisting": self._variant_listing,
            "product.productchannellisting": self._product_listing,
            "product.category": self._category,
            "product.productmedia": self._media,
            "product.variantmedia": self._variant_media,
            "warehouse.stock": self._stock,
            "attribute.attribute": self._attribute,
            "attribute.attributevalue": self._value,
            "attribute.assignedvariantattribute": self._assignment,
            "attribute.assignedvariantattributevalue": self._assigned_value,
            "attribute.assignedproductattributevalue": self._product_value,
        }

    @property
    def models(self) -> frozenset[str]:
        """The models whose objects are looked at."""
        return frozenset(self._readers)

    def look_at(self, model: str, pk: str | None, fields: Fields) -> None:
        """Take note of one object of these models."""
        self._readers[model](pk, fields)

    # --- what is asked ----------------------------------------------------------------------------------------

    def is_sold(self, product: str) -> bool:
        """Whether some variant names the product."""
        return f"has-variant {product}" in self._facts

    def variant_listing(self, variant: str) -> Listing | None:
        """The variant's price in the store's currency, by the first channel that has one."""
        found = self._get("price", variant)
        return None if found is None else Listing(*found)

    def other_currency(self, variant: str) -> str | None:
        """A currency other than the store's in which the variant has a price."""
        found: str | None = self._get("currency", variant)
        return found

    def product_listing(self, product: str) -> Listing | None:
        """Whether the product is published where the store's currency is used."""
        found = self._get("listing", product)
        return None if found is None else Listing(*found)

    def category_path(self, category: str | None) -> list[str]:
        """Names from the outermost category to this one."""
        names: list[str] = []
        seen: set[str] = set()
        while category and category not in seen and len(names) < _DEEPEST_CATEGORY:
            seen.add(category)
            found = self._get("category", category)
            if found is None:
                break
            category, name = found
            names.append(name)
        return names[::-1]

    def product_pictures(self, product: str) -> list[str]:
        """Addresses of the product's pictures in the shop's order."""
        return [media.address for media in sorted(Media(*one) for one in self._all("media-of", product))]

    def variant_pictures(self, variant: str) -> list[str]:
        """Addresses of the pictures chosen for the variant, in the shop's order."""
        found = [self._get("media", media) for media in self._all("media-of-variant", variant)]
        return [media.address for media in sorted(Media(*one) for one in found if one is not None)]

    def stock(self, variant: str) -> Stock:
        """Pieces over all warehouses."""
        found = [Stock(*one) for one in self._all("stock", variant)]
        return Stock(sum(one.quantity for one in found), sum(one.allocated for one in found))

    def options(self, variant: str) -> dict[str, str]:
        """Attributes of the variant with their values; several values of one are joined by a slash."""
        values: dict[str, list[str]] = {}
        for assignment in self._all("assignment", variant):
            for value in self._all("value-of", assignment):
                pair = self._attribute_value(value)
                if pair is not None:
                    values.setdefault(pair[1], []).append(pair[2])
        return {name: "/".join(texts) for name, texts in values.items()}

    def brand(self, product: str) -> str | None:
        """The value of the product's attribute ``brand``, where it has one."""
        pairs = (self._attribute_value(value) for value in self._all("value-of-product", product))
        return next((pair[2] for pair in pairs if pair is not None and pair[0] == "brand"), None)

    def _attribute_value(self, value: str) -> tuple[str, str, str] | None:
        """Slug and name of the attribute, and the value's name."""
        found = self._get("value", value)
        attribute = None if found is None else self._get("attribute", found[0])
        return None if attribute is None else (attribute[0], attribute[1], found[1])

    # --- what is noted ----------------------------------------------------------------------------------------

    def _variant(self, pk: str | None, fields: Fields) -> None:
        self.has_variants = True
        product = key_of(fields.get("product"))
        if pk and product:
            self._facts.add(f"has-variant {product}", "1")

    def _variant_listing(self, _pk: str | None, fields: Fields) -> None:
        variant, currency = key_of(fields.get("variant")), fields.get("currency")
        price = _amount(fields.get("price_amount"))
        if variant is None or not isinstance(currency, str) or price is None:
            return
        if currency != self._currency:
            if currency.isascii() and currency.isalpha():
                self._add("currency", variant, currency[:20])
            return
        is_first = self._add("price", variant, Listing(price, _amount(fields.get("discounted_price_amount"))))
        self.has_several_channels |= not is_first

    def _product_listing(self, _pk: str | None, fields: Fields) -> None:
        product = key_of(fields.get("product"))
        if product and fields.get("currency") == self._currency:
            is_shown = (
                fields.get("is_published") is not False and fields.get("visible_in_listings") is not False
            )
            # The key with nothing in it says that the product cannot be bought; a file without the key says nothing.
            is_purchasable = fields.get("available_for_purchase_at", "") is not None
            self._add("listing", product, Listing(None, None, is_shown, is_purchasable))

    def _category(self, pk: str | None, fields: Fields) -> None:
        name = fields.get("name")
        if pk and isinstance(name, str) and name:
            self._add("category", pk, [key_of(fields.get("parent")), name[:_MOST_CHARS]])

    def _media(self, pk: str | None, fields: Fields) -> None:
        product = key_of(fields.get("product"))
        address = fields.get("external_url") or fields.get("image")
        if fields.get("type", "IMAGE") != "IMAGE" or fields.get("to_remove") is True:
            return
        if isinstance(address, str) and address:
            media = Media(_position(fields.get("sort_order")), address[:_MOST_CHARS])
            if pk:
                self._add("media", pk, media)
            if product:
                self._append("media-of", product, media)

    def _variant_media(self, _pk: str | None, fields: Fields) -> None:
        variant, media = key_of(fields.get("variant")), key_of(fields.get("media"))
        if variant and media:
            self._append("media-of-variant", variant, media)

    def _stock(self, _pk: str | None, fields: Fields) -> None:
        variant = key_of(fields.get("product_variant"))
        if variant:
            self.has_stock = True
            self._append(
                "stock",
                variant,
                Stock(_pieces(fields.get("quantity")), _pieces(fields.get("quantity_allocated"))),
            )

    def _attribute(self, pk: str | None, fields: Fields) -> None:
        name, slug = fields.get("name"), fields.get("slug")
        if pk and isinstance(name, str) and name:
            self._add(
                "attribute", pk, [slug[:_MOST_CHARS] if isinstance(slug, str) else "", name[:_MOST_CHARS]]
            )

    def _value(self, pk: str | None, fields: Fields) -> None:
        attribute, name = key_of(fields.get("attribute")), fields.get("name")
        if pk and attribute and isinstance(name, str) and name:
            self._add("value", pk, [attribute, name[:_MOST_CHARS]])

    def _assignment(self, pk: str | None, fields: Fields) -> None:
        variant = key_of(fields.get("variant"))
        if pk and variant:
            self._append("assignment", variant, pk)

    def _assigned_value(self, _pk: str | None, fields: Fields) -> None:
        assignment, value = key_of(fields.get("assignment")), key_of(fields.get("value"))
        if assignment and value:
            self._append("value-of", assignment, value)

    def _product_value(self, _pk: str | None, fields: Fields) -> None:
        product, value = key_of(fields.get("product")), key_of(fields.get("value"))
        if product and value:
            self._append("value-of-product", product, value)

    # --- the lookup -------------------------------------------------------------------------------------------

    def _add(self, kind: str, key: str, value: object) -> bool:
        return self._facts.add(f"{kind} {key}", json.dumps(value))

    def _get(self, kind: str, key: str) -> Any:
        found = self._facts.get(f"{kind} {key}")
        return None if found is None else json.loads(found)

    def _append(self, kind: str, key: str, value: object) -> None:
        """Keep a value behind those there are; the first free number is searched for by halves."""
        taken, free = -1, 0
        while f"{kind} {free} {key}" in self._facts:
            taken, free = free, free * 2 + 1
        while free - taken > 1:
            middle = (taken + free) // 2
            if f"{kind} {middle} {key}" in self._facts:
                taken = middle
            else:
                free = middle
        if free < _MOST_OF_A_KIND:
            self._add(f"{kind} {free}", key, value)
        else:
            self.is_cut = True

    def _all(self, kind: str, key: str) -> Iterator[Any]:
        for number in range(_MOST_OF_A_KIND):
            found = self._get(f"{kind} {number}", key)
            if found is None:
                return
            yield found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._facts.close()


def _amount(value: object) -> str | None:
    """An amount of money as text: Django writes decimals as strings."""
    if isinstance(value, str) and text_fault(value) is None:
        return value[:100].strip() or None
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return f"{value:f}"[:100] if isinstance(value, Decimal) else str(value)[:100]
    return None


def _pieces(value: object) -> int:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31
    return int(str(value)) if is_count else 0


def _position(value: object) -> float:
    """Pictures without a place in the order come last."""
    return value if isinstance(value, int) and abs(value) < 2**53 else float("inf")
