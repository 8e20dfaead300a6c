"""How long the mapper takes per row. Prints microseconds per row for the full evaluation, hash and encoding included.

Run it as ``python bench/mapping_speed.py [rows]``. The rows are made before the clock starts; the best of five rounds
counts, because anything slower measured the machine's other work.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import perf_counter

from meta_sync.catalog.models import CatalogItem
from meta_sync.sync.mapping import MappedItem, Mapper
from meta_sync.sync.mapping_settings import MappingSettings

NOW = datetime(2026, 10, 1, 12, 0, tzinfo=UTC)
ROUNDS = 5

PLAIN = (
    "A light jacket for cool evenings, made of organic cotton with a brushed lining. Two pockets with zips, a collar "
    "that stands, and cuffs that can be adjusted. Machine wash at 30 degrees, do not tumble dry. The model is 1.83 m "
    "tall and wears size M. Made in Portugal from certified yarn, shipped without plastic."
)
HTML = (
    "<div><p>A light jacket for <strong>cool evenings</strong>, made of organic cotton &amp; hemp.</p>\n<ul>\n<li>Two "
    "pockets</li>\n<li>Stand-up collar</li>\n<li>Adjustable cuffs</li>\n</ul>\n<p>Machine wash at 30&nbsp;degrees."
    '<br/>See the <a href="https://shop.example/care?x=1&amp;y=2">care guide</a>.</p></div>'
)
COLORS = ("Navy", "Olive", "Sand", "Black", "Wine red")
SIZES = ("XS", "S", "M", "L", "XL")


def check_digit(body: str) -> str:
    total = sum(int(digit) * (3, 1)[place % 2] for place, digit in enumerate(reversed(body)))
    return str(-total % 10)


def make_item(number: int, *, description: str, sale: bool) -> CatalogItem:
    """A row of a fashion shop: five images, two options, tracked stock, a barcode."""
    product, place = divmod(number, 10)
    ean = f"40063{number:07d}"
    images = [f"https://cdn.shop.example/media/catalog/{product:06d}/view-{view}.jpg" for view in range(4)]
    return CatalogItem(
        variant_id=f"var_{number:08d}",
        product_id=f"prod_{product:07d}",
        title=f"Evening jacket model {product} with stand-up collar",
        subtitle="Organic cotton",
        description=description,
        slug=f"evening-jacket-{product}",
        product_link=None,
        status="active",
        visibility="public",
        brand=f"Brand {product % 40}",
        vendor=f"Vendor {product % 90}",
        product_thumbnail=images[0],
        product_images=images,
        categories=["Clothing", "Outerwear", "Jackets"],
        google_product_category=None,
        product_deleted=False,
        sku=f"JKT-{product:05d}-{place:02d}",
        variant_link=None,
        price=12_900 + place,
        special_price=9_900 if sale else None,
        special_price_start=NOW - timedelta(days=2) if sale else None,
        special_price_end=NOW + timedelta(days=5) if sale else None,
        condition=None,
        variant_thumbnail=f"https://cdn.shop.example/media/catalog/{product:06d}/variant-{place}.jpg",
        variant_images=[],
        ean=ean + check_digit(ean),
        upc=None,
        barcode=None,
        options={"Color": COLORS[place % 5], "Size": SIZES[place // 2 % 5]},
        availability=None,
        variant_deleted=False,
        track_inventory=True,
        quantity_on_hand=number % 70,
        reserved_quantity=number % 3,
        allow_backorder=False,
        live_variant_count=10,
        group_id_taken=False,
    )


def measure(make: Callable[[int], CatalogItem], rows: int) -> tuple[float, float]:
    """Microseconds per row and bytes per row."""
    settings = MappingSettings(
        currency="EUR", storefront_base_url="https://shop.example", default_brand="Shop"
    )
    mapper = Mapper(settings)
    items = [make(number) for number in range(rows)]
    best = float("inf")
    size = 0
    gc.disable()
    for _ in range(ROUNDS):
        size = 0
        start = perf_counter()
        for item in items:
            mapped = mapper.evaluate(item, excluded=False, retailer_id=item.variant_id, now=NOW)
            size += len(mapped.encoded) if isinstance(mapped, MappedItem) else 0
        best = min(best, perf_counter() - start)
    gc.enable()
    return best / rows * 1e6, size / rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="?", type=int, default=20_000)
    rows = parser.parse_args().rows
    cases: dict[str, Callable[[int], CatalogItem]] = {
        "plain description": lambda number: make_item(number, description=PLAIN, sale=False),
        "plain, on sale": lambda number: make_item(number, description=PLAIN, sale=True),
        "HTML description": lambda number: make_item(number, description=HTML, sale=False),
    }
    for name, make in cases.items():
        microseconds, size = measure(make, rows)
        print(f"{name:20} {microseconds:6.2f} µs per row, {size:5.0f} bytes")


if __name__ == "__main__":
    main()
