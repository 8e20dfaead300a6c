"""Saleor's data as a Django fixture (``dumpdata``): one list of objects that name each other by key, in any order.

Decisions: every product variant is an item, with Saleor's own key as its id, since a SKU may be empty or change; its
product is a product without being an item. The price is that of the first channel that sells in the store's currency;
a discounted price counts where the listing has a lower one. A product that is not published or not listed in that
currency is private, and one that cannot be bought there is out of stock. Stock is the sum over all warehouses. Of a
description the paragraphs count. Sales, collections, pages and menus are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

from typing_extensions import override

from meta_sync.catalog.ingest.describe import describe
from meta_sync.catalog.ingest.encoding import decode_head, read_head
from meta_sync.catalog.ingest.formats.saleor_facts import Listing, SaleorFacts, key_of
from meta_sync.catalog.ingest.jsonstream import read_array
from meta_sync.catalog.ingest.prices import read_price
from meta_sync.catalog.ingest.reader import RowFaultError
from meta_sync.catalog.ingest.rows import (
    FileRefusedError,
    FormatContext,
    ImportedParent,
    ImportedVariant,
    ImportFormat,
    Parsed,
    RowFailure,
    RowSkip,
    RowWarning,
)
from meta_sync.catalog.ingest.values import UnreadableValueError, quoted
from meta_sync.catalog.models import InventoryInput, ProductInput, VariantInput
from meta_sync.core.text import text_fault

__all__ = ["SaleorJson"]

_FIXTURE = re.compile(r'\s*\[\s*\{\s*"(?:model|pk)"\s*:')
_MODEL = re.compile(
    r'"model"\s*:\s*"(?:product|attribute|channel|discount|giftcard|warehouse|account|shipping|menu|page|site|order'
    r'|checkout|payment|webhook|app|tax|plugins|thumbnail|core)\.\w+"'
)
_PRODUCT_MODEL = re.compile(r'"model"\s*:\s*"product\.product')
_ROW_MODELS = frozenset(("product.product", "product.productvariant"))
_MOST_QUANTITY = 2**31 - 1
_SHOWN_CHARS = 200


class _Object(NamedTuple):
    """One element of the fixture."""

    row: int
    model: str
    pk: str | None
    shown_pk: str | None
    fields: Mapping[str, Any]


class SaleorJson(ImportFormat):
    """The fixture. It is read twice: first for what its objects say about each other."""

    name = "saleor-json"

    @override
    def recognises(self, head: bytes, file_name: str | None) -> float:
        text = decode_head(head)
        if not _FIXTURE.match(text):
            return 0.0
        return 0.97 if _PRODUCT_MODEL.search(text) else 0.6 if _MODEL.search(text) else 0.0

    @override
    def parse(self, file: BinaryIO, context: FormatContext) -> Iterator[Parsed]:
        head = read_head(file)
        if not self.recognises(head, None):
            raise FileRefusedError(describe(head))
        with SaleorFacts(context.currency) as facts:
            for one in _objects(file, context, facts.models):
                facts.look_at(one.model, one.pk, one.fields)
            if not facts.has_variants and not context.is_cancelled():
                raise FileRefusedError(
                    "The file is data of a Django application, but without product variants of Saleor."
                )
            if facts.has_several_channels:
                message = (
                    f"Several channels sell in {context.currency}; of each variant the price that comes first in the file"
                    " counts."
                )
                yield RowWarning(0, "channel", message, rule="several_channels")
            if facts.is_cut:
                message = "A product has so many pictures, stocks or attributes that the last of them were left out."
                yield RowWarning(0, "file", message, rule="too_many")
            rows = _Rows(self.name, context, facts)
            for one in _objects(file, context, _ROW_MODELS):
                yield from rows.read(one)


def _objects(file: BinaryIO, context: FormatContext, models: frozenset[str]) -> Iterator[_Object]:
    """The objects of these models; the others are checked to be objects of a fixture."""
    for row, element in read_array(file, context.is_cancelled):
        model = element.get("model") if isinstance(element, dict) else None
        fields = element.get("fields") if isinstance(element, dict) else None
        if not isinstance(element, dict) or not isinstance(model, str) or not isinstance(fields, dict):
            raise FileRefusedError(
                f"Element {row} of the list is no object of a Django fixture: it needs model and fields."
            )
        if model not in models:
            continue
        pk = element.get("pk")
        key = key_of(pk)
        shown = str(pk) if key is not None and text_fault(str(pk)) is None else None
        yield _Object(row, model, key if shown else None, shown, fields)


class _Rows:
    """Turns products and variants into what an import takes."""

    def __init__(self, source: str, context: FormatContext, facts: SaleorFacts) -> None:
        self._source = source
        self._context = context
        self._facts = facts

    def read(self, one: _Object) -> Iterator[Parsed]:
        """One product or variant."""
        if one.pk is None or one.shown_pk is None:
            message = "The object has no key, so it could not be found again."
            yield RowFailure(
                one.row, "pk", message, rule="missing_id", is_item=one.model != "product.product"
            )
            return
        warnings: list[RowWarning] = []
        try:
            if one.model == "product.product":
                parsed = self._product(one, one.pk, one.shown_pk)
            else:
                parsed = self._variant(one, one.pk, one.shown_pk, warnings)
        except RowFaultError as fault:
            # A product's key is no item's, and may be the number of a variant of another product.
            is_item = one.model != "product.product"
            yield fault.failure(one.row, one.shown_pk if is_item else None, is_item=is_item)
            return
        yield parsed
        yield from warnings

    def _product(self, one: _Object, pk: str, product_id: str) -> Parsed:
        if not self._facts.is_sold(pk):
            message = "The product has no variant, so there is nothing of it to buy."
            return RowSkip(one.row, "product", message, None, "not_an_item", product_id)
        listing = self._facts.product_listing(pk)
        pictures = [self._checked("image", text) for text in self._facts.product_pictures(pk)]
        brand = self._facts.brand(pk)
        product = ProductInput(
            id=product_id,
            title=self._text(one, "name"),
            description=self._description(one),
            slug=self._text(one, "slug"),
            visibility="public" if listing is not None and listing.is_published else "private",
            brand=self._checked("brand", brand) if brand else None,
            thumbnail=pictures[0] if pictures else None,
            images=pictures[1:],
            categories=[
                self._checked("category", name)
                for name in self._facts.category_path(key_of(one.fields.get("category")))
            ],
            source=self._source,
        )
        return ImportedParent(one.row, product)

    def _variant(self, one: _Object, pk: str, item_id: str, warnings: list[RowWarning]) -> Parsed:
        product = one.fields.get("product")
        product_key = key_of(product)
        if product_key is None or text_fault(str(product)) is not None:
            raise RowFaultError("product", "The variant names no product.", rule="missing_parent")
        listing = self._facts.variant_listing(pk)
        if listing is None:
            return self._unlisted(one, pk, item_id)
        price = self._price(listing.price, "price_amount", one.row, item_id, warnings)
        discounted = self._price(
            listing.discounted_price, "discounted_price_amount", one.row, item_id, warnings
        )
        pictures = [self._checked("image", text) for text in self._facts.variant_pictures(pk)]
        availability, inventory = self._stock(one, pk, self._facts.product_listing(product_key))
        variant = VariantInput(
            id=item_id,
            sku=self._text(one, "sku"),
            price=price,
            special_price=discounted
            if discounted is not None and price is not None and discounted < price
            else None,
            thumbnail=pictures[0] if pictures else None,
            images=pictures[1:],
            options={
                self._checked("attribute", name): self._checked("attribute", value)
                for name, value in self._facts.options(pk).items()
            },
            availability=availability,
            inventory=inventory,
        )
        given = ProductInput(id=str(product), source=self._source)
        return ImportedVariant(one.row, given, variant, product_is_partial=True)

    def _unlisted(self, one: _Object, pk: str, item_id: str) -> RowSkip:
        """A variant without a price in the store's currency."""
        other = self._facts.other_currency(pk)
        if other is not None:
            message = f"The variant has a price in {quoted(other)}, but none in {self._context.currency}, the store's currency."
            raise RowFaultError("currency", message, rule="wrong_currency", value=other)
        message = "The variant has a price in no channel, so it is not for sale."
        return RowSkip(one.row, "price_amount", message, item_id, "no_price")

    def _price(
        self, text: str | None, field: str, row: int, item_id: str, warnings: list[RowWarning]
    ) -> int | None:
        if text is None:
            return None
        try:
            price = read_price(text, self._context.currency, grouped=False)
        except UnreadableValueError as error:
            raise RowFaultError(field, str(error), rule=error.rule, value=text) from None
        if price.note:
            warnings.append(RowWarning(row, field, price.note, item_id, "rounded_price", text))
        return price.minor_units

    def _stock(
        self, one: _Object, pk: str, listing: Listing | None
    ) -> tuple[str | None, InventoryInput | None]:
        if listing is not None and not listing.is_purchasable:
            return "out of stock", InventoryInput(track_inventory=False)
        if one.fields.get("is_preorder") is True:
            return "preorder", InventoryInput(track_inventory=False)
        if one.fields.get("track_inventory") is False:
            return None, InventoryInput(track_inventory=False)
        if not self._facts.has_stock:
            return None, None
        stock = self._facts.stock(pk)
        quantity, reserved = min(stock.quantity, _MOST_QUANTITY), min(stock.allocated, _MOST_QUANTITY)
        return None, InventoryInput(
            track_inventory=True, quantity_on_hand=quantity, reserved_quantity=reserved
        )

    def _description(self, one: _Object) -> str | None:
        """The text of the description's blocks, with a line for each; else the plain text that Saleor keeps beside it."""
        description = one.fields.get("description")
        blocks = description.get("blocks") if isinstance(description, dict) else None
        lines: list[str] = []
        for block in blocks if isinstance(blocks, list) else ():
            data = block.get("data") if isinstance(block, dict) else None
            if isinstance(data, dict):
                items = data.get("items")
                texts = [data.get("text"), *(items if isinstance(items, list) else ())]
                lines.extend(text.strip() for text in texts if isinstance(text, str) and text.strip())
        return (
            self._checked("description", "\n".join(lines))
            if lines
            else self._text(one, "description_plaintext")
        )

    def _text(self, one: _Object, field: str) -> str | None:
        value = one.fields.get(field)
        return self._checked(field, value.strip()) if isinstance(value, str) and value.strip() else None

    def _checked(self, field: str, text: str) -> str:
        """The text, if it can be stored."""
        if len(text) > self._context.max_cell_chars:
            message = (
                f"The text has {len(text)} characters; at most {self._context.max_cell_chars} are allowed."
            )
            raise RowFaultError(field, message, rule="too_long", value=text[:_SHOWN_CHARS])
        fault = text_fault(text)
        if fault:
            raise RowFaultError(field, f"The text {fault}.", rule="bad_text", value=text[:_SHOWN_CHARS])
        return text
