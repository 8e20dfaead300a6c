from __future__ import annotations

import csv
import io
import random
import tracemalloc
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meta_sync.catalog.ingest.describe import describe
from meta_sync.catalog.ingest.detect import FORMATS
from meta_sync.catalog.ingest.formats import shopify_rows
from meta_sync.catalog.ingest.formats.option_ids import MAX_ITEM_ID_CHARS, item_id_of
from meta_sync.catalog.ingest.formats.shopify_columns import is_export, market_of, meaning_of
from meta_sync.catalog.ingest.rows import FileRefusedError, FormatContext, ImportedVariant
from meta_sync.catalog.ingest.spill import SpilledLookup
from meta_sync.catalog.models import InventoryInput, ProductInput
from tests.unit.formats.reading import SAMPLES, Outcome, parse, parse_sample, table

IMAGES = "https://cdn.lamps.example/files/"
SHARED = Path(__file__).parents[3].parent / "shared" / "data"


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return parse_sample("shopify.csv")


@pytest.fixture(scope="module")
def newer() -> Outcome:
    return parse_sample("shopify_new.csv")


def test_the_first_row_speaks_for_the_product_and_all_rows_bring_pictures(outcome: Outcome) -> None:
    assert outcome.products["lamp-arc__Black__S~M"] == ProductInput(
        id="lamp-arc",
        title="Arc & Lamp",
        description="<p>Stands.</p>\n<p>Bends.</p>",
        slug="lamp-arc",
        vendor="Lumen",
        thumbnail=f"{IMAGES}front.jpg?v=1",
        images=[f"{IMAGES}side.jpg?v=1", f"{IMAGES}white.jpg", f"{IMAGES}dark.jpg"],
        categories=["Home & Garden", "Lighting", "Lamps", "Floor lamps"],
        google_product_category="594",
        source="shopify-csv",
    )


def test_variants_have_their_own_figures_and_what_google_wants_of_each(outcome: Outcome) -> None:
    short, long = outcome.variants["lamp-arc__Black__S~M"], outcome.variants["lamp-arc__Black__1=2c=5_m"]
    assert (short.price, short.special_price, short.sku, short.ean) == (5990, 4990, "L-1", "4006381333931")
    assert short.thumbnail == f"{IMAGES}black.jpg"
    assert short.inventory == InventoryInput(True, 5, allow_backorder=False)
    assert (long.price, long.special_price, long.sku, long.ean) == (5990, None, "L-1", None)
    assert long.inventory == InventoryInput(True, 0, allow_backorder=True)
    assert [variant.condition for variant in (short, long)] == ["new", "new"]
    assert long.options == {"Colour": "Black", "Cable": "1,5 m", "gender": "unisex", "age_group": "adult"}
    assert [warning.field for warning in outcome.warnings if warning.row == 2] == ["Variant Barcode"]


def test_rows_that_come_back_further_down_go_on_with_their_product(outcome: Outcome) -> None:
    [white] = [item for item in outcome.items if item.row == 14]
    assert white.variant.id == "lamp-arc__White__S~M"
    assert white.variant.options["Cable"] == "S/M"
    assert (white.product.id, white.product.title, white.product.status) == (
        "lamp-arc",
        "Arc & Lamp",
        "active",
    )


def test_a_product_without_options_has_its_handle_as_id(outcome: Outcome) -> None:
    mug, product = outcome.variants["mug"], outcome.products["mug"]
    assert (mug.price, mug.special_price, mug.sku, mug.options) == (800, None, "M-77", {})
    assert mug.inventory == InventoryInput(track_inventory=False)
    assert product.categories == ["Mugs"]


def test_what_the_shop_shows_to_whom(outcome: Outcome) -> None:
    seen = {item: (product.status, product.visibility) for item, product in outcome.products.items()}
    assert seen["lamp-arc__White__S~M"] == ("active", "public")
    assert seen["mug"] == ("active", "private")  # not published
    assert seen["old-vase"] == ("archived", "public")
    assert seen["hidden-bowl"] == ("active", "private")
    assert seen["tea"] == ("active", "public")


def test_a_price_of_nothing_is_no_sale(outcome: Outcome) -> None:
    vase = outcome.variants["old-vase"]
    assert (vase.price, vase.special_price) == (0, None)
    assert outcome.variants["hidden-bowl"].price == 129_900


def test_a_product_of_one_row_without_anything_to_sell_is_an_item_all_the_same(outcome: Outcome) -> None:
    assert (outcome.variants["tea"].price, outcome.products["tea"].thumbnail) == (None, f"{IMAGES}tea.jpg")


def test_what_is_left_out_and_what_fails(outcome: Outcome) -> None:
    assert [(skip.row, skip.item_id, skip.field, skip.rule) for skip in outcome.skips] == [
        (6, "voucher__10", "Gift Card", "not_sold_alone"),
        (7, "voucher__25", "Gift Card", "not_sold_alone"),
    ]
    assert [(failure.row, failure.field, failure.item_id, failure.rule) for failure in outcome.failures] == [
        (10, "Variant Price", "plate", "unreadable"),
        (11, "Handle", None, "missing_id"),
        (13, "Status", "fork", "unreadable"),
        (17, "row", None, "ragged_row"),
    ]
    assert outcome.failures[2].value == "sold"


def test_what_the_merchant_is_told(outcome: Outcome) -> None:
    told = [(warning.row, warning.field, warning.item_id, warning.rule) for warning in outcome.warnings]
    assert told == [
        (2, "Variant Barcode", "lamp-arc__Black__1=2c=5_m", "rounded_code"),
        (8, "Variant Inventory Policy", "old-vase", "unknown_word"),
        (9, "Google Shopping / Condition", "hidden-bowl", "unknown_word"),
        (12, "Handle", None, "no_product"),
        (15, "Handle", None, "no_product"),
        (16, "Variant Price", "tea", "no_price"),
    ]


def test_every_row_that_is_an_item_ends_as_one_thing(outcome: Outcome) -> None:
    settled = [
        *(item.row for item in outcome.items),
        *(skip.row for skip in outcome.skips),
        *(failure.row for failure in outcome.failures),
    ]
    assert sorted(settled) == [1, 2, 5, 6, 7, 8, 9, 10, 11, 13, 14, 16, 17]


def test_the_newer_spelling_of_the_columns(newer: Outcome) -> None:
    small, medium = newer.variants["linen-shirt__S"], newer.variants["linen-shirt__M"]
    product = newer.products["linen-shirt__S"]
    assert (product.title, product.description, product.vendor) == ("Linen shirt", "Light.", "Weave")
    assert product.categories == ["Apparel & Accessories", "Clothing"]
    assert product.thumbnail == "https://cdn.weave.example/1.jpg"
    assert small.thumbnail == "https://cdn.weave.example/s.jpg"
    assert medium.options == {"Size": "M", "gender": "female"}
    assert medium.upc == "012345678905"
    assert newer.products["scarf"].status == "draft"


def test_a_markets_price_counts_where_its_name_says_the_stores_currency(newer: Outcome) -> None:
    small, medium = newer.variants["linen-shirt__S"], newer.variants["linen-shirt__M"]
    assert (small.price, small.special_price) == (5500, 4400)
    assert (medium.price, medium.special_price) == (4000, None)
    [warning] = [warning for warning in newer.warnings if warning.rule == "other_price"]
    assert (warning.row, warning.field) == (0, "Price / International [USD]")
    euros = parse((SAMPLES / "shopify_new.csv").read_bytes(), currency="EUR")
    assert (euros.variants["linen-shirt__S"].price, euros.variants["linen-shirt__S"].special_price) == (
        5000,
        4000,
    )
    assert not [warning for warning in euros.warnings if warning.rule == "other_price"]


def test_counted_stock_without_a_figure_leaves_the_stock_alone_and_says_so(newer: Outcome) -> None:
    assert newer.variants["linen-shirt__S"].inventory is None
    assert newer.variants["scarf"].inventory == InventoryInput(track_inventory=False)
    assert [warning.row for warning in newer.warnings if warning.rule == "no_stock"] == [0]


def test_a_stock_of_the_merchants_own_counts_without_a_tracker_column() -> None:
    outcome = parse(table(("Handle", "Variant Price", "Variant Inventory Qty"), ("mug", "5", "0")))
    assert outcome.variants["mug"].inventory == InventoryInput(True, 0, allow_backorder=False)


def test_an_option_without_a_name_is_called_as_its_column_is() -> None:
    outcome = parse(table(("Handle", "Option1 Value", "Variant Price"), ("mug", "Red", "5")))
    assert outcome.variants["mug__Red"].options == {"Option1": "Red"}


def test_prices_never_carry_a_currency_and_nobody_is_bothered_about_it(outcome: Outcome) -> None:
    assert not any(warning.row == 0 for warning in outcome.warnings)


# --- ids ----------------------------------------------------------------------------------------------------------


def test_a_sku_that_is_filled_in_or_corrected_changes_no_id(outcome: Outcome) -> None:
    text = (SAMPLES / "shopify.csv").read_text("utf-8")
    changed = parse(text.replace("L-1", "NEW").replace(",49.90,", ",48.00,"))
    assert list(changed.variants) == list(outcome.variants)
    assert {variant.sku for variant in changed.variants.values()} >= {"NEW"}


@pytest.mark.parametrize(
    ("handle", "values", "expected"),
    [
        ("mug", ["Default Title", "", ""], "mug"),
        ("mug", [], "mug"),
        ("ring", ["Rose Gold", "17"], "ring__Rose_Gold__17"),
        ("ring", ["Rose  Gold ", "17"], "ring__Rose_Gold__17"),
        ("ring", ["", "17"], "ring____17"),
        ("tee", ["S/M", "50%: new?"], "tee__S~M__50=25==3a=_new=3f="),
        ("чайник", ["Красный"], "чайник__Красный"),
        ("cafe", ["Cafe\u0301"], "cafe__Café"),
        ("a__b", ["c_d"], "a=5f==5f=b__c=5f=d"),
    ],
)
def test_ids_are_readable(handle: str, values: list[str], expected: str) -> None:
    assert item_id_of(handle, values) == expected


def test_a_long_id_is_cut_and_stays_its_own() -> None:
    handle = "a-very-long-handle-" * 6
    ids = {item_id_of(handle, [value]) for value in ("S", "M", "L" * 90)}
    assert {len(item_id) for item_id in ids} == {MAX_ITEM_ID_CHARS}
    assert len(ids) == 3
    assert item_id_of(handle, ["S"]) == item_id_of(handle, ["S"])


_PIECES = st.text(alphabet="ab_ /=~-1é:", max_size=5).map(lambda text: " ".join(text.split()))


@given(st.lists(st.tuples(_PIECES.filter(bool), st.lists(_PIECES, max_size=3)), min_size=2, max_size=8))
@settings(max_examples=200, deadline=None)
def test_different_options_never_share_an_id(items: list[tuple[str, list[str]]]) -> None:
    def meant(handle: str, values: list[str]) -> tuple[str, ...]:
        while values and not values[-1]:
            values = values[:-1]
        return handle, *values

    ids = {item_id_of(handle, values): meant(handle, values) for handle, values in items}
    assert len(ids) == len({meant(handle, values) for handle, values in items})


# --- rows that do not stand together ------------------------------------------------------------------------------


def _products(outcome: Outcome) -> dict[str, ProductInput]:
    """As an import takes them: what came with the first item of each."""
    found: dict[str, ProductInput] = {}
    for item in outcome.items:
        found.setdefault(item.product.id, item.product)
    return found


def _rows(count: int) -> tuple[list[str], list[list[str]]]:
    header = [
        "Handle",
        "Title",
        "Option1 Name",
        "Option1 Value",
        "Variant Price",
        "Image Src",
        "Image Position",
    ]
    rows = []
    for product in range(count):
        title, option = [f"Product {product}", "Size"], ["", ""]
        for place, size in enumerate("SML"):
            first = title if place == 0 else option
            picture = [f"https://s.example/{product}-{place}.jpg", str(place + 1)]
            rows.append([f"p{product}", *first, size, str(10 + place), *picture])
        rows.append([f"p{product}", "", "", "", "", f"https://s.example/{product}-3.jpg", "4"])
    return header, rows


@given(st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_order_of_the_rows_changes_nothing(order: random.Random) -> None:
    header, rows = _rows(4)
    expected = parse(table(header, *rows))
    order.shuffle(rows)
    shuffled = parse(table(header, *rows))
    assert {item: shuffled.variants[item] for item in sorted(shuffled.variants)} == {
        item: expected.variants[item] for item in sorted(expected.variants)
    }
    assert _products(shuffled) == _products(expected)
    assert len(shuffled.rows) == len(shuffled.items)


def test_a_block_that_does_not_fit_is_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    header, rows = _rows(3)
    expected = parse(table(header, *rows))
    monkeypatch.setattr(shopify_rows, "_MOST_BLOCK_ROWS", 2)
    parted = parse(table(header, *rows))
    assert parted.variants == expected.variants
    assert _products(parted) == _products(expected)


def test_pictures_beyond_the_limit_are_left_out_and_that_is_said() -> None:
    header, rows = _rows(1)
    more = [["p0", "", "", "", "", f"https://s.example/{place}.jpg", str(place)] for place in range(5, 300)]
    outcome = parse(table(header, *rows, *more))
    product = outcome.items[0].product
    assert len([product.thumbnail, *product.images]) == shopify_rows.MOST_PICTURES
    [warning] = outcome.warnings
    assert (warning.row, warning.field) == (1, "Image Src")


def test_a_shuffled_file_is_not_gathered_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shopify_rows, "SpilledLookup", partial(SpilledLookup, 100))
    path = tmp_path / "export.csv"
    rows = [
        (f"p{n % 500}", "T", str(n), "5", "x" * 2_000, f"https://s.example/{n}.jpg") for n in range(2_000)
    ]
    header = ("Handle", "Title", "Option1 Value", "Variant Price", "Body (HTML)", "Image Src")
    path.write_text(table(header, *rows))
    del rows
    items, products = 0, set()
    with path.open("rb") as file:
        tracemalloc.start()
        try:
            for row in FORMATS["shopify-csv"].parse(file, FormatContext("USD")):
                assert isinstance(row, ImportedVariant)
                items += 1
                products.add(row.product.id)
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert (items, len(products)) == (2_000, 500)
    assert peak_bytes < 1_800_000  # a chunk of the file and the ids above; the texts alone are 4 million


# --- the header ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Handle,Title,Variant SKU,Variant Price", True),
        ("URL handle,Title,Price", True),
        ("Handle,Body (HTML),Option1 Name", True),
        ("Handle,Title,Option1 Name,Option1 Value,SKU,Location,On hand", False),  # the export of stock
        ("handle,title,price", False),
        ("id,title,description,link,price,availability", False),
    ],
)
def test_the_header_tells_it_from_other_tables(header: str, expected: bool) -> None:
    assert is_export(header.split(",")) is expected


def test_market_columns() -> None:
    assert meaning_of("Price / United States") == "price/United States"
    assert meaning_of("Compare At Price / EURO") == "compare_at/EURO"
    assert meaning_of("Included / EURO") is None
    names = ["Price / World USD", "Price / Abroad (USD)", "Price / Usd", "Price / EURO", "Variant Price"]
    assert market_of(names, "USD") == "Abroad (USD)"
    assert market_of(names, "EUR") is None


def test_a_file_without_what_is_needed_is_refused() -> None:
    with pytest.raises(FileRefusedError, match="read as shopify-csv and needs"):
        parse("Handle,Variant SKU\nmug,1\n", "shopify-csv")
    assert "read as shopify-csv" in describe(b"Handle,Title,Variant Price\nmug,Mug,5\n")


# --- the real shop ------------------------------------------------------------------------------------------------


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder shared/data is not beside the project")
def test_export_and_affiliate_feed_of_one_shop_agree_on_what_a_buyer_pays() -> None:
    """The feed has one row per product, whose id and link are the handle; the export one per size.

    All 48 agree, and no size costs other than its siblings. Whoever compares the plain prices finds two that differ:
    two dresses are reduced, and the feed names only what is paid. By SKU two pareos have no partner, because they
    have none in the export and the feed says the handle instead.
    """
    export = parse((SHARED / "stores/shopify_export_swimwear.csv").read_bytes(), currency="EUR")
    feed = parse((SHARED / "feeds/awin_product_feed_swimwear.csv").read_bytes(), "google-csv", currency="EUR")
    paid: dict[str, set[int | None]] = {}
    listed: dict[str, int | None] = {}
    for item in export.items:
        variant = item.variant
        paid.setdefault(item.product.id, set()).add(variant.special_price or variant.price)
        listed[item.product.id] = variant.price
    named = {item: variant.price for item, variant in feed.variants.items()}
    assert len(named) == len(feed.items) == 48
    assert all((variant.link or "").endswith(f"/products/{item}") for item, variant in feed.variants.items())
    assert paid == {item: {price} for item, price in named.items()}
    assert sorted(item for item in named if named[item] != listed[item]) == [
        "michaela-dress-rose",
        "rike-dress-champagne",
    ]


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder shared/data is not beside the project")
def test_ids_of_a_real_shop_are_its_own_and_survive_a_shuffle() -> None:
    data = (SHARED / "stores/shopify_export_nl_markets.csv").read_bytes()
    outcome = parse(data, currency="EUR")
    assert len(outcome.variants) == len(outcome.items) == 1_477
    assert sum(variant.sku is None for variant in outcome.variants.values()) == 1_441
    assert all(len(item) <= MAX_ITEM_ID_CHARS for item in outcome.variants)
    assert sum(len(product.images) + 1 for product in _products(outcome).values()) > 298
    header, *rows = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""))
    random.Random(4).shuffle(rows)
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *rows])
    shuffled = parse(text.getvalue(), currency="EUR")
    assert shuffled.variants.keys() == outcome.variants.keys()
    assert _products(shuffled) == _products(outcome)


def test_without_the_row_that_describes_a_product_its_items_wait_and_keep_their_ids() -> None:
    header = "Handle,Title,Status,Option1 Name,Option1 Value,Variant SKU,Variant Price\n"
    good = "mug,Mug,draft,Colour,Red,M-1,9.00\nmug,,,,Blue,M-2,9.00\n"
    ids = set(parse(header + good).variants)
    outcome = parse((header + good).encode().replace(b"Mug,draft", b"M\x00g,draft"))
    assert outcome.items == []
    assert {failure.item_id for failure in outcome.failures} == ids
    assert "describes the product" in outcome.failures[-1].message


def test_a_file_without_titles_changes_items_of_products_that_the_store_knows() -> None:
    [item] = parse(
        "Handle,Option1 Name,Option1 Value,Variant SKU,Variant Price\nmug,Colour,Red,M-1,8.00\n"
    ).items
    assert item.product_is_partial
    assert (item.product.id, item.variant.price) == ("mug", 800)
