"""The fields without which Meta takes no item. Each function adds its fields and says whether they could be had.

The order in which a lack becomes an item's reason is not decided here, but in ``eligibility``.
"""

from __future__ import annotations

from meta_sync.catalog.models import CatalogItem
from meta_sync.sync.mapping_draft import Draft
from meta_sync.sync.mapping_identity import is_sendable_id, pick_gtin
from meta_sync.sync.mapping_issues import IssueCode
from meta_sync.sync.mapping_plan import MappingPlan
from meta_sync.sync.mapping_text import calm_title, clean_text, cut, is_shouting, plain_text
from meta_sync.sync.mapping_urls import is_clean_url, is_local, with_version

__all__ = [
    "fill_id",
    "fill_identifiers",
    "fill_images",
    "fill_link",
    "fill_price",
    "fill_title",
    "put_within",
]

MAX_TITLE_CHARS = 200
MAX_BRAND_CHARS = 100
MAX_MPN_CHARS = 100
MAX_LABEL_CHARS = 100
MAX_ADDITIONAL_IMAGES = 20
"""Meta's pages say 20 and 50; the smaller holds for both."""


def fill_price(item: CatalogItem, plan: MappingPlan, draft: Draft) -> bool:
    """Add ``price``. A price that Meta would count as zero is none."""
    price = item.price
    if price is None or price <= 0:
        return False
    amount = plan.prices.amount(price)
    if amount <= 0:
        return False
    text = draft.data["price"] = plan.prices.text(amount)
    if not plan.prices.is_exact(price):
        draft.note(IssueCode.PRICE_PRECISION_LOST, "price", text)
    return True


def fill_link(item: CatalogItem, plan: MappingPlan, draft: Draft) -> bool:
    """Add ``link``: what the store gave for variant or product, else the page built from the settings."""
    url = None
    for given in (item.variant_link, item.product_link):
        if given and not given.isspace():
            url = plan.links.given(given)
            if url is not None:
                break
            draft.note(IssueCode.LINK_UNUSABLE, "link", given)
    if url is None:
        url = plan.links.build(item)
        if url is None:
            return False
    draft.data["link"] = url
    if is_local(url):
        draft.note(IssueCode.URL_NOT_PUBLIC, "link", url)
    return True


def fill_title(item: CatalogItem, draft: Draft) -> bool:
    """Add ``title``, plain, calm and cut."""
    title = clean_text(item.title) if item.title else ""
    if not title:
        return False
    if is_shouting(title):
        title = calm_title(title)
        draft.note(IssueCode.TEXT_ALL_CAPS, "title", title)
    if len(title) > MAX_TITLE_CHARS:
        title = cut(title, MAX_TITLE_CHARS)
        draft.note(IssueCode.TITLE_CUT, "title", MAX_TITLE_CHARS)
    draft.data["title"] = title
    return True


def fill_images(item: CatalogItem, plan: MappingPlan, draft: Draft, version: int = 0) -> bool:
    """Add ``image_link`` and ``additional_image_link`` by rank, each address once, versioned when the version is > 0."""
    urls: dict[str, None] = {}
    for given in (item.variant_thumbnail, *item.variant_images, item.product_thumbnail, *item.product_images):
        if not given:
            continue
        if is_clean_url(given):
            urls[given] = None
        elif (url := plan.media.resolve(given)) is not None:
            urls[url] = None
        elif not given.isspace():
            draft.note(IssueCode.IMAGE_UNUSABLE, "image_link", given)
        if len(urls) > MAX_ADDITIONAL_IMAGES + 1:
            urls.popitem()
            draft.note(IssueCode.IMAGES_CUT, "additional_image_link", MAX_ADDITIONAL_IMAGES)
            break
    if not urls:
        return False
    main, *others = urls if version <= 0 else [with_version(url, version) for url in urls]
    draft.data["image_link"] = main
    if others:
        draft.data["additional_image_link"] = others
    if is_local(main):
        draft.note(IssueCode.URL_NOT_PUBLIC, "image_link", main)
    return True


def fill_identifiers(item: CatalogItem, plan: MappingPlan, draft: Draft) -> bool:
    """Add ``brand``, ``gtin`` and ``mpn``, and the labels that show vendor and brand apart. One of the three must be."""
    own = clean_text(item.brand) if item.brand else ""
    vendor = clean_text(item.vendor) if item.vendor else ""
    brand = own or vendor or plan.brand_fallback
    if brand:
        put_within(draft, "brand", brand, MAX_BRAND_CHARS)
    if vendor:
        put_within(draft, "custom_label_0", vendor, MAX_LABEL_CHARS)
    if own:
        put_within(draft, "custom_label_1", own, MAX_LABEL_CHARS)
    gtin = pick_gtin(item, draft) if item.ean or item.upc or item.barcode else None
    if gtin:
        draft.data["gtin"] = gtin
    sku = plain_text(item.sku) if item.sku else ""
    if sku:
        put_within(draft, "mpn", sku, MAX_MPN_CHARS)
    return bool(brand or gtin or sku)


def fill_id(item: CatalogItem, plan: MappingPlan, draft: Draft, retailer_id: str | None) -> bool:
    """Add ``id``: the frozen one, or what the template makes."""
    item_id = plan.ids.build(item) if retailer_id is None else retailer_id
    if not is_sendable_id(item_id):
        return False
    draft.data["id"] = item_id
    if "," in item_id or ":" in item_id:
        draft.note(IssueCode.ID_BREAKS_CHECKOUT_LINK, "id", item_id)
    if item_id[0].isspace() or item_id[-1].isspace():
        draft.note(IssueCode.ID_HAS_OUTER_SPACES, "id", item_id)
    return True


def put_within(draft: Draft, field: str, text: str, limit: int) -> None:
    """Put a text into a field, cut to its limit and with an issue where it is longer."""
    if len(text) > limit:
        text = cut(text, limit)
        draft.note(IssueCode.VALUE_CUT, field, limit)
    draft.data[field] = text
