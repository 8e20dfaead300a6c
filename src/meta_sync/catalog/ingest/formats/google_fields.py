"""What Google's and Meta's feed fields mean, and how one row of such a feed becomes a variant with its product.

The feed's fields are the same whether they stand in XML or in a table; nothing here knows where they came from.

Decisions: an item's link and pictures belong to the item, so they go to the variant and the product has none of its
own; the product carries title, texts, brand and categories, of which the first row of a group wins at the import.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from zoneinfo import ZoneInfo

from meta_sync.catalog.ingest.reader import Cell, FileNotes, RowFaultError, RowReader
from meta_sync.catalog.ingest.rows import FormatContext, ImportedVariant, Parsed, RowFailure
from meta_sync.catalog.ingest.times import read_window
from meta_sync.catalog.ingest.values import (
    line_breaks,
    plain_text,
    read_availability,
    read_condition,
    read_quantity,
    simplify,
    split_images,
    split_path,
)
from meta_sync.catalog.models import InventoryInput, ProductInput, VariantInput

__all__ = ["FeedRows", "meaning_of"]

_SYNONYMS = {
    "id": "id item_id itemid product_id productid retailer_id content_id offer_id identifiant id_produit",
    "title": "title name product_name product_title titre nom",
    "description": "description desc product_description",
    "link": "link url product_url product_link lien",
    "image_link": "image_link image image_url imageurl image_src main_image image_0_url lien_image lien_de_l_image "
    "lien_vers_l_image",
    "additional_image_link": "additional_image_link additional_image_links additional_image additional_images "
    "additional_image_url additional_image_urls images image_urls lien_image_supplementaire "
    "lien_d_image_supplementaire",
    "availability": "availability disponibilite stock_status",
    "condition": "condition etat",
    "price": "price regular_price prix",
    "sale_price": "sale_price special_price prix_solde prix_promo prix_promotionnel",
    "sale_price_effective_date": "sale_price_effective_date sale_price_dates dates_du_prix_solde "
    "periode_de_validite_du_prix_solde",
    "currency": "currency currency_code devise",
    "brand": "brand marque manufacturer",
    "gtin": "gtin gtin8 gtin12 gtin13 gtin14 isbn",
    "ean": "ean ean13",
    "upc": "upc",
    "barcode": "barcode code_barres",
    "mpn": "mpn reference_fabricant",
    "sku": "sku",
    "item_group_id": "item_group_id group_id identifiant_groupe id_groupe",
    "google_product_category": "google_product_category google_category categorie_de_produits_google",
    "product_type": "product_type category categories product_category type_de_produit categorie",
    "color": "color colour couleur",
    "size": "size taille",
    "material": "material matiere materiau",
    "pattern": "pattern motif",
    "gender": "gender sexe",
    "age_group": "age_group tranche_d_age",
    "quantity": "quantity_to_sell_on_facebook quantity inventory stock_quantity qty quantite",
    "additional_variant_attribute": "additional_variant_attribute additional_variant_attributes",
}
_MEANINGS = {name: meaning for meaning, names in _SYNONYMS.items() for name in names.split()}
_OPTIONS = ("color", "size", "material", "pattern", "gender", "age_group")
_PREFIX = re.compile(r"g\s*:\s*", re.IGNORECASE)
_NUMBERED_IMAGE = re.compile(r"(?:image|additional_image_link)_[0-9]+_url|(?:additional_)?image_link_[0-9]+")


@lru_cache(maxsize=1_024)  # a feed repeats the same few dozen names in every item
def meaning_of(name: str) -> str | None:
    """The feed field that a column or element name stands for, whatever its case, spaces or ``g:``."""
    simple = simplify(_PREFIX.sub("", name, count=1) if ":" in name else name)
    known = _MEANINGS.get(simple)
    if known is None and _NUMBERED_IMAGE.fullmatch(simple):
        return "additional_image_link"
    return known


class FeedRows:
    """Turns the rows of one feed into what an import takes. One object per file: it remembers what was already said."""

    def __init__(self, source: str, context: FormatContext) -> None:
        self._source = source
        self._context = context
        self._zone = ZoneInfo(context.timezone)
        self._notes = FileNotes()

    def read(self, row: int, cells: Mapping[str, Sequence[Cell]]) -> Iterator[Parsed]:
        """One row: the variant and its warnings, or the one failure."""
        reader = RowReader(row, cells, self._context, self._zone, self._notes)
        item_id = reader.text("id")
        if item_id is None:
            yield RowFailure(row, "id", "The row has no id.", rule="missing_id")
            return
        try:
            variant = self._variant(reader, item_id)
            product = self._product(reader, item_id)
        except RowFaultError as fault:
            yield fault.failure(row, item_id)
            return
        yield ImportedVariant(row, product, variant)
        for warning in reader.warnings:
            warning.item_id = item_id if warning.row else None
            yield warning

    def _product(self, reader: RowReader, item_id: str) -> ProductInput:
        description = reader.text("description")
        title, brand = reader.text("title"), reader.text("brand")
        return ProductInput(
            id=reader.text("item_group_id") or item_id,
            title=plain_text(title) if title else None,
            description=line_breaks(description) if description else None,
            brand=plain_text(brand) if brand else None,
            categories=split_path(reader.text("product_type") or ""),
            google_product_category=plain_text(reader.text("google_product_category") or "") or None,
            source=self._source,
        )

    def _variant(self, reader: RowReader, item_id: str) -> VariantInput:
        pictures = split_images(reader.texts("image_link", "additional_image_link"))
        ean, upc, barcode = reader.barcodes()
        variant = VariantInput(
            id=item_id,
            sku=reader.text("sku") or reader.text("mpn"),
            link=reader.text("link"),
            price=reader.price("price", "price"),
            special_price=reader.price("sale_price", "sale price"),
            condition=reader.word("condition", "condition", read_condition),
            thumbnail=pictures[0] if pictures else None,
            images=pictures[1:],
            ean=ean,
            upc=upc,
            barcode=barcode,
            options=_options(reader),
            availability=reader.word("availability", "availability", read_availability),
        )
        self._sale_window(reader, variant)
        variant.inventory = _inventory(reader, variant.availability)
        return variant

    def _sale_window(self, reader: RowReader, variant: VariantInput) -> None:
        window = reader.read("sale_price_effective_date", lambda text: read_window(text, self._zone))
        if window is not None:
            reader.set_sale_window(variant, *window, meaning="sale_price_effective_date")


def _options(reader: RowReader) -> dict[str, str]:
    options = {name: plain_text(text) for name in _OPTIONS if (text := reader.text(name))}
    for text in reader.texts("additional_variant_attribute"):
        for pair in plain_text(text).split(","):
            name, _, value = (part.strip() for part in pair.partition(":"))
            if name and value:
                options.setdefault(name, value)
    return options


def _inventory(reader: RowReader, availability: str | None) -> InventoryInput | None:
    """Stock where the feed counts pieces."""
    quantity = reader.read("quantity", read_quantity)
    if quantity is None:
        return None
    allow_backorder = None if availability is None else availability == "available for order"
    return reader.counted_stock(availability, quantity, allow_backorder=allow_backorder)
