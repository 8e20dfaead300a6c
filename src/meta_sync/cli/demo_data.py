"""A sample catalog of our own making, as bodies of the public API: a small shop's goods, good and broken.

Pure and repeatable: the same instant gives the same catalog. Prices are minor units of ``CURRENCY``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import product as combinations
from typing import Any

__all__ = ["CURRENCY", "MEDIA_URL", "REFUSED_VARIANT", "STOREFRONT_URL", "sample_products"]

CURRENCY = "EUR"
STOREFRONT_URL = "https://shop.harbour-and-hill.example"
MEDIA_URL = "https://media.harbour-and-hill.example"

REFUSED_VARIANT = "pain-relief-belt"
"""The sandbox is told to refuse this one, as Meta would for what its title claims."""

_DEFAULT_COLOURS = ("Black", "White", "Sea Blue")


@dataclass(frozen=True, slots=True)
class _Kind:
    """What products of one kind share."""

    brand: str
    categories: tuple[str, ...]
    options: dict[str, tuple[str, ...]] = field(default_factory=dict)
    condition: str = "new"


_KINDS = {
    "tee": _Kind(
        "Harbour & Hill",
        ("Apparel & Accessories", "Clothing", "Shirts & Tops"),
        {"Colour": _DEFAULT_COLOURS, "Size": ("S", "M", "L", "XL")},
    ),
    "hoodie": _Kind(
        "Harbour & Hill",
        ("Apparel & Accessories", "Clothing", "Activewear"),
        {"Colour": ("Heather Grey", "Forest Green"), "Size": ("S", "M", "L", "XL")},
    ),
    "shoe": _Kind(
        "Quayside",
        ("Apparel & Accessories", "Shoes"),
        {"Size": ("39", "40", "41", "42", "43", "44", "45")},
    ),
    "mug": _Kind(
        "Clay Lane",
        ("Home & Garden", "Kitchen & Dining", "Tableware", "Drinkware", "Mugs"),
        {"Colour": ("Cream", "Ochre", "Slate", "Moss")},
    ),
    "bag": _Kind(
        "Quayside",
        ("Luggage & Bags", "Backpacks"),
        {"Colour": ("Charcoal", "Sand", "Navy")},
    ),
    "poster": _Kind(
        "Paper Garden",
        ("Home & Garden", "Decor", "Artwork", "Posters, Prints, & Visual Artwork"),
        {"Size": ("A4", "A3", "50 x 70 cm"), "Frame": ("None", "Oak")},
    ),
    "coffee": _Kind(
        "North Pier Roasters",
        ("Food, Beverages & Tobacco", "Beverages", "Coffee"),
        {"Weight": ("250 g", "500 g", "1 kg")},
    ),
    "candle": _Kind(
        "Wick & Wax",
        ("Home & Garden", "Decor", "Home Fragrances", "Candles"),
        {"Scent": ("Fig", "Cedar", "Sea Salt", "Lavender")},
    ),
    "headphones": _Kind(
        "Tonewell",
        ("Electronics", "Audio", "Audio Components", "Headphones & Headsets"),
        {"Color": ("Black", "Silver", "Rust")},
    ),
    "notebook": _Kind(
        "Paper Garden",
        ("Office Supplies", "General Office Supplies", "Paper Products", "Notebooks & Notepads"),
        {"Ruling": ("Lined", "Dotted", "Plain"), "Colour": ("Red", "Black")},
    ),
    "bedding": _Kind(
        "Loom House",
        ("Home & Garden", "Linens & Bedding", "Bedding"),
        {
            "Size": ("135 x 200 cm", "155 x 220 cm", "200 x 200 cm"),
            "Colour": ("White", "Sage", "Clay"),
            "Material": ("Linen",),
        },
    ),
    "toy": _Kind("Pocket Forest", ("Toys & Games", "Toys")),
    "knife": _Kind("Clay Lane", ("Home & Garden", "Kitchen & Dining", "Kitchen Tools & Utensils")),
    "refurbished": _Kind("Tonewell", ("Electronics", "Audio"), condition="refurbished"),
}

_PRODUCTS: tuple[tuple[str, str, int, str], ...] = (
    ("tee", "Organic Cotton T-Shirt", 2490, "A straight cut in heavy organic cotton, washed soft."),
    ("tee", "Striped Sailor T-Shirt", 2990, "Narrow stripes, long hem, sewn shoulders."),
    ("tee", "Pocket T-Shirt", 2690, "One chest pocket, deep enough for a pen."),
    ("tee", "Long Sleeve T-Shirt", 3290, "Ribbed cuffs that stay where you push them."),
    ("tee", "Linen Blend T-Shirt", 3490, "Half linen, half cotton; dries on the line in an hour."),
    ("tee", "Heavyweight T-Shirt", 3190, "Thick enough to wear alone in April."),
    ("hoodie", "Brushed Hoodie", 5990, "Brushed inside, two-layer hood, flat drawcord."),
    ("hoodie", "Zip Hoodie", 6490, "A metal zip and pockets that hold a phone upright."),
    ("hoodie", "Light Summer Hoodie", 4990, "French terry without the winter."),
    ("hoodie", "Quilted Hoodie", 7990, "Quilted lining for windy platforms."),
    ("shoe", "Canvas Sneaker", 6990, "Vulcanised rubber sole and washable canvas."),
    ("shoe", "Leather Deck Shoe", 11990, "Full grain leather, hand-sewn apron."),
    ("shoe", "Trail Runner", 12990, "Grippy lugs and a rock plate."),
    ("shoe", "Wool Slipper", 4990, "Felted wool with a suede sole."),
    ("shoe", "Rain Boot", 7990, "Natural rubber, cotton lining."),
    ("mug", "Stoneware Mug", 1890, "Thrown by hand; 300 ml."),
    ("mug", "Espresso Cup", 1290, "90 ml with a thick wall."),
    ("mug", "Tall Latte Mug", 2190, "400 ml for long mornings."),
    ("mug", "Camp Mug", 1690, "Enamelled steel that survives a fall."),
    ("mug", "Tea Bowl", 2290, "No handle, warm hands."),
    ("bag", "Roll Top Backpack", 8990, "Waxed cotton; 18 litres that grow to 24."),
    ("bag", "City Backpack", 7490, "A padded sleeve for a 15 inch laptop."),
    ("bag", "Day Pack", 5490, "Folds into its own pocket."),
    ("bag", "Cycling Backpack", 9990, "Reflective edges and a rain cover."),
    ("bag", "School Backpack", 6490, "Two compartments and a bottle pocket."),
    ("poster", "Lighthouse Print", 2490, "Pigment print on matt paper."),
    ("poster", "Harbour Map Print", 2990, "The old harbour as it was surveyed in 1874."),
    ("poster", "Herbarium Print", 2490, "Twelve coastal plants with their Latin names."),
    ("poster", "Tide Table Print", 2290, "A year of tides as a wave."),
    ("poster", "Night Ferry Print", 2490, "Four layers of blue."),
    ("poster", "Gulls Print", 2190, "Linocut, printed from the artist's block."),
    ("coffee", "House Blend Coffee", 890, "Chocolate and hazelnut; for every brewer."),
    ("coffee", "Ethiopia Guji Coffee", 1190, "Washed; bergamot and peach."),
    ("coffee", "Colombia Huila Coffee", 1090, "Red apple and caramel."),
    ("coffee", "Decaf Coffee", 1090, "Decaffeinated with sugar cane."),
    ("coffee", "Espresso Roast Coffee", 950, "Dark without being burnt."),
    ("coffee", "Filter Roast Coffee", 990, "Light and clear."),
    ("candle", "Soy Candle", 1990, "Burns for about 40 hours."),
    ("candle", "Travel Candle", 1190, "In a tin with a lid."),
    ("candle", "Beeswax Pillar", 1590, "Pure beeswax; stands by itself."),
    ("candle", "Three Wick Candle", 3490, "For long tables."),
    ("candle", "Refill Candle", 1490, "Drops into the glass you already have."),
    ("headphones", "Over-Ear Headphones", 14990, "40 hours on one charge."),
    ("headphones", "On-Ear Headphones", 8990, "Fold flat, 160 g."),
    ("headphones", "In-Ear Headphones", 5990, "Three sizes of tips."),
    ("headphones", "Studio Headphones", 19990, "Flat response and a coiled cable."),
    ("notebook", "Pocket Notebook", 790, "48 pages, stitched."),
    ("notebook", "A5 Notebook", 1490, "Opens flat; 192 pages."),
    ("notebook", "A4 Notebook", 1990, "Perforated sheets."),
    ("notebook", "Reporter Notebook", 990, "Turns at the top."),
    ("notebook", "Music Notebook", 1290, "Twelve staves to a page."),
    ("bedding", "Washed Linen Duvet Cover", 14990, "Stone-washed European flax."),
    ("bedding", "Linen Duvet Cover with Buttons", 16990, "Closed with mother-of-pearl buttons."),
    ("bedding", "Light Linen Blanket", 9990, "For summer nights."),
    ("bedding", "Linen Bedspread", 18990, "Woven in a waffle pattern."),
    ("bedding", "Linen Sheet", 8990, "Fits mattresses up to 30 cm."),
    ("toy", "Wooden Train", 2990, "Engine, tender and two wagons of beech."),
    ("toy", "Stacking Foxes", 1990, "Seven foxes that balance."),
    ("toy", "Memory Game", 1490, "36 cards of animals of the coast."),
    ("toy", "Kite", 2490, "Flies from 8 km/h of wind."),
    ("toy", "Plush Seal", 2290, "30 cm, washable."),
    ("toy", "Wooden Puzzle", 1790, "Ten thick pieces."),
    ("knife", "Bread Knife", 4990, "Serrated, 24 cm."),
    ("knife", "Paring Knife", 2490, "9 cm, for small work."),
    ("knife", "Oyster Knife", 1990, "With a guard."),
    ("refurbished", "Record Player", 17990, "Serviced and tested, with a new stylus."),
    ("refurbished", "Bookshelf Speakers", 12990, "Serviced pair with new surrounds."),
)


def sample_products(now: datetime) -> list[dict[str, Any]]:
    """The whole catalog as entries of ``POST /catalog/products/batch``.

    Parameters
    ----------
    now
        Sales are placed around it: some run, some begin next week, some are over.
    """
    return [
        *(_good(number, *entry, now) for number, entry in enumerate(_PRODUCTS)),
        *_broken(),
    ]


def _good(  # noqa: PLR0917 - the columns of the table
    number: int, kind_name: str, title: str, price: int, text: str, now: datetime
) -> dict[str, Any]:
    kind = _KINDS[kind_name]
    slug = _slug(title)
    variants = [
        {
            "id": "-".join([slug, *map(_slug, values)]),
            "sku": f"{kind_name[:3].upper()}-{number:03d}-{place:02d}",
            "price": _price(price, values),
            "condition": kind.condition,
            "ean": _ean(number * 100 + place) if number % 2 == 0 else None,
            "options": dict(zip(kind.options, values, strict=True)),
            "inventory": _stock(number, place),
            **_sale(number, _price(price, values), now),
        }
        for place, values in enumerate(combinations(*kind.options.values()))
    ]
    return {
        "id": f"product-{slug}",
        "title": title,
        "description": f"<p>{text}</p><p>Made by {kind.brand}.</p>",
        "slug": slug,
        "status": "active",
        "visibility": "public",
        "brand": kind.brand,
        "vendor": "Harbour & Hill",
        "thumbnail": f"products/{slug}/front.jpg",
        "images": [f"products/{slug}/{view}.jpg" for view in ("front", "side", "detail")],
        "categories": list(kind.categories),
        "variants": variants,
    }


def _price(price: int, values: Sequence[str]) -> int:
    """Larger packs and framed prints cost more."""
    factor = {"500 g": 19, "1 kg": 35, "Oak": 22, "A3": 14, "50 x 70 cm": 18}
    for value in values:
        price = price * factor.get(value, 10) // 10
    return price


def _sale(number: int, price: int, now: datetime) -> dict[str, Any]:
    """Every third product has a sale: running, open-ended, to come, or over."""
    if number % 3:
        return {}
    start, end = (
        (now - timedelta(days=3), now + timedelta(days=11)),
        (now - timedelta(days=1), None),
        (now + timedelta(days=7), now + timedelta(days=14)),
        (now - timedelta(days=20), now - timedelta(days=6)),
    )[number // 3 % 4]
    return {
        "specialPrice": price * 8 // 10,
        "specialPriceStart": start.isoformat(timespec="seconds"),
        "specialPriceEnd": end.isoformat(timespec="seconds") if end else None,
    }


def _stock(number: int, place: int) -> dict[str, Any]:
    """Most are in stock; some are sold out, some can be ordered, some are not counted, some are all reserved."""
    match (number * 7 + place) % 13:
        case 0:
            return {"trackInventory": True, "quantityOnHand": 0, "allowBackorder": False}
        case 1:
            return {"trackInventory": True, "quantityOnHand": 0, "allowBackorder": True}
        case 2:
            return {"trackInventory": False}
        case 3:
            return {"trackInventory": True, "quantityOnHand": 3, "reservedQuantity": 3}
        case rest:
            return {"trackInventory": True, "quantityOnHand": rest * 9, "reservedQuantity": rest % 3}


def _broken() -> Iterator[dict[str, Any]]:
    """What goes wrong in real shops, one product each; the reasons are what the demo is to show."""
    for title, changes, variant in (
        ("Driftwood Mirror", {"thumbnail": None, "images": []}, {}),
        ("Gift Card", {}, {"price": None}),
        ("Free Catalogue", {}, {"price": 0}),
        ("Autumn Coat", {"status": "draft"}, {}),
        ("Christmas Tree 2024", {"status": "archived"}, {}),
        ("Staff Apron", {"visibility": "private"}, {}),
        ("Market Find", {"brand": None, "vendor": None}, {"sku": None}),
        (None, {}, {"id": "untitled-vase", "sku": "VAS-001"}),
        ("Very Long Code Lamp", {}, {"id": f"lamp-{'0123456789' * 10}"}),
        # The mapping cannot know that nobody outside reaches this picture; Meta says so.
        ("Copper Kettle", {"thumbnail": "http://localhost:8080/kettle.jpg", "images": []}, {}),
        ("Miracle Pain Relief Belt", {}, {"id": REFUSED_VARIANT}),
    ):
        slug = _slug(title or "untitled-vase")
        yield {
            "id": f"product-{slug}",
            "title": title,
            "description": "One of the entries that are broken on purpose.",
            "slug": slug,
            "status": "active",
            "visibility": "public",
            "brand": "Harbour & Hill",
            "vendor": "Harbour & Hill",
            "thumbnail": f"products/{slug}/front.jpg",
            "images": [],
            "categories": ["Home & Garden"],
            **changes,
            "variants": [
                {
                    "id": slug,
                    "sku": f"ODD-{slug[:12].upper()}",
                    "price": 3900,
                    "inventory": {"trackInventory": True, "quantityOnHand": 5},
                    **variant,
                }
            ],
        }


def _slug(text: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


def _ean(number: int) -> str:
    """A GTIN-13 with a correct check digit, in the range that shops use for themselves."""
    digits = f"04{number:010d}"
    total = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(digits))
    return f"{digits}{-total % 10}"
