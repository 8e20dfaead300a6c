from __future__ import annotations

import codecs
import io
import json
import tracemalloc
from datetime import UTC, datetime
from typing import Any, BinaryIO, cast

import pytest

from meta_sync.catalog.ingest.detect import FORMATS, detect
from meta_sync.catalog.ingest.formats.json_keys import Key, key_of
from meta_sync.catalog.ingest.json_head import read_json_head
from meta_sync.catalog.ingest.rows import FileRefusedError, FormatContext
from meta_sync.catalog.models import InventoryInput
from tests.unit.formats.reading import SAMPLES, Outcome, parse, parse_sample
from tests.unit.formats.test_memory import GeneratedFile


def own(*variants: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"id": "p", "title": "T", "variants": list(variants), **fields}


def lines(*rows: object) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def only_failure(outcome: Outcome) -> tuple[str, str, str | None]:
    (failure,) = outcome.failures
    assert not outcome.items
    return failure.field, failure.rule, failure.value


# --- recognising --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "format_name"),
    [
        ("products.json", "json"),
        ("products.ndjson", "ndjson"),
        ("flat.json", "json"),
        ("flat.ndjson", "ndjson"),
    ],
)
def test_samples_are_recognised_by_their_beginning_alone(name: str, format_name: str) -> None:
    data = (SAMPLES / name).read_bytes()
    first_end = data.index(b"\n", 200) if name.endswith("ndjson") else 400
    for head in (data, data[: first_end + 20], codecs.BOM_UTF8 + data, data.decode().encode("utf-16")):
        assert detect(head, "upload.bin").name == format_name
        assert [other.name for other in FORMATS.values() if other.recognises(head, None) > 0] == [format_name]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1, 2, 3.5]", "list of numbers"),
        ('["a", "b"]', "list of texts"),
        ("[[1], [2]]", "list of lists"),
        ("[]", "list is empty"),
        ('{"products": []}', "list of products is empty"),
        ('{"type": "FeatureCollection", "features": [{"type": "Feature", "id": "1"}]}', "GeoJSON"),
        ('{"id": "p",\n "title": "T", "variants": []}', "single JSON object"),
        ('{"error": {"code": 190}}', "reports an error"),
        ('{"specversion": "1.0", "id": "1", "type": "x"}', "CloudEvents"),
        ('{"items": [{"variantId": "v", "quantityOnHand": 1}]}', "/catalog/inventory/batch"),
        ('[{"model": "product.product", "pk": 1, "fields": {}}]', "Django"),
        ('{"products": [{"id": 1, "title": "T", "body_html": "", "variants": [{"id": 2, "price": "1.00"}]}]}', "Shopify"),
        ('[{"id": "p", "title": "T", "variants": [{"id": "v", "prices": []}]}]', "Medusa"),
        ('[{"vin": "1", "title": "Car", "price": 1}]', "vehicle"),
        ('[{"name": "Anna", "age": 7}]', 'Found: "name", "age"'),
        ('{"a": 1}\n{"a": 2}\n', "no list of products"),
        ('{"a" 1}', "line 1, column 6"),
    ],
)  # fmt: skip
def test_json_of_other_things_is_refused_with_what_it_seems_to_be(text: str, words: str) -> None:
    for name in (None, "json", "ndjson"):
        with pytest.raises(FileRefusedError) as refused:
            parse(text, name)
        message = refused.value.message
        assert message.endswith(".")
        assert words in message or "is read as" in message
        if name is None:
            assert words in message


def test_a_format_that_was_asked_for_wrongly_is_told_the_right_one() -> None:
    with pytest.raises(FileRefusedError, match="read as ndjson"):
        parse_sample("flat.ndjson", "json")
    with pytest.raises(FileRefusedError, match="read as json"):
        parse_sample("flat.json", "ndjson")


def test_a_cut_beginning_still_shows_what_the_file_holds() -> None:
    text = '[{"id": "a", "tags": ["x", "y\\"z"], "n": {"m": 1}}, {"id": "b", "title": "Kett'
    for end in range(1, len(text)):
        head = read_json_head(text[:end])
        assert head is not None
        assert head.form == "array"
    assert read_json_head(text).objects[-1] == {"id": "b"}  # type: ignore[union-attr]  # None fails here too
    assert read_json_head("[" * 60_000) is None
    assert read_json_head('{"a": ' * 20_000) is None


# --- our own body -------------------------------------------------------------------------------------------------


def test_the_whole_body_is_read() -> None:
    outcome = parse_sample("products.json")
    assert (len(outcome.rows), len(outcome.parents)) == (3, 1)
    red, blue = outcome.items
    product = red.product
    assert (red.row, blue.row, outcome.parents[0].row) == (1, 1, 2)
    assert product == blue.product
    assert product.variants == []
    assert (product.id, product.title, product.subtitle) == ("lamp", 'Desk lamp "Reed"', "Bends")
    assert product.description == "<p>A lamp that bends.</p>"
    assert (product.slug, product.link, product.brand, product.vendor) == (
        "desk-lamp",
        "https://shop.example/lamp",
        "Holm & Sohn",
        "Holm",
    )
    assert product.categories == ["Home", "Lamps"]
    assert product.images == ["https://shop.example/lamp-2.jpg"]
    assert product.google_product_category == "Home & Garden > Lighting"
    assert product.updated_at == datetime(2026, 2, 3, 8, tzinfo=UTC)
    assert product.source == "json"
    variant = red.variant
    assert (variant.price, variant.special_price) == (4900, 3900)
    assert variant.special_price_start == datetime(2026, 2, 1, tzinfo=UTC)
    assert variant.special_price_end == datetime(2026, 3, 1, tzinfo=UTC)
    assert variant.options == {"Color": "Red", "Height": "40.5", "Dimmable": "true"}
    assert variant.inventory == InventoryInput(True, 7, 1, False, datetime(2026, 2, 3, 11, tzinfo=UTC))
    assert (variant.ean, variant.condition, variant.sku) == ("4006381333931", "new", "L-1")
    assert (blue.variant.availability, blue.variant.inventory) == ("preorder", None)
    parent = outcome.parents[0].product
    assert (parent.id, parent.status) == ("gift-card", "draft")


def test_every_line_is_accounted_for() -> None:
    outcome = parse_sample("products.ndjson")
    assert [(item.row, item.variant.id) for item in outcome.items] == [
        (1, "mug-s"),
        (1, "mug-l"),
        (4, "plate-1"),
    ]
    found = [(one.row, one.field, one.item_id, one.rule, one.value) for one in outcome.failures]
    assert found == [
        (3, "variants[0].price", "bowl-1", "wrong_type", "12.00"),
        (3, "variants[0].price", "bowl-2", "wrong_type", "12.00"),
        (5, "row", None, "not_json", '{"id": "cup", "title": "Cup" "variants": []}'),
        (6, "variants[0].price", "jug-1", "wrong_type", "19.99"),
    ]
    assert "smallest unit" in outcome.failures[0].message
    assert "line 5, column 30" in outcome.failures[2].message
    assert [(one.row, one.field) for one in outcome.warnings] == [(0, "colour"), (0, "special_price")]


@pytest.mark.parametrize(
    ("body", "field", "rule", "value"),
    [
        ({"id": None, "variants": [{"id": "v"}]}, "id", "missing_id", None),
        (own({"id": ""}), "variants[0].id", "missing_id", ""),
        (own({"id": 7}), "variants[0].id", "wrong_type", "7"),
        (own({"id": "v", "price": True}), "variants[0].price", "wrong_type", "true"),
        (own({"id": "v", "specialPrice": 5.0}), "variants[0].specialPrice", "wrong_type", "5.0"),
        (own({"id": "v"}, title=5), "title", "wrong_type", "5"),
        (own({"id": "v"}, images="a"), "images", "wrong_type", "a"),
        (own({"id": "v"}, images=["a", None]), "images[1]", "wrong_type", None),
        (own({"id": "v"}, updatedAt=1234567890), "updatedAt", "wrong_type", "1234567890"),
        (own({"id": "v"}, updatedAt="yesterday"), "updatedAt", "wrong_type", "yesterday"),
        (own({"id": "v"}, title="a\x00b"), "title", "bad_text", "a\x00b"),
        (own({"id": "v"}, description="x" * 100_001), "description", "too_long", "x" * 200),
        (own({"id": "v", "options": [1]}), "variants[0].options", "wrong_type", "[…]"),
        (own({"id": "v", "options": {"A": ["b"]}}), "variants[0].options.A", "wrong_type", "[…]"),
        (own({"id": "v", "inventory": 5}), "variants[0].inventory", "wrong_type", "5"),
        (
            own({"id": "v", "inventory": {"quantityOnHand": "5"}}),
            "variants[0].inventory.quantityOnHand",
            "wrong_type",
            "5",
        ),
        (
            own({"id": "v", "inventory": {"trackInventory": 1}}),
            "variants[0].inventory.trackInventory",
            "wrong_type",
            "1",
        ),
        ({"id": "p", "variants": {"id": "v"}}, "variants", "wrong_type", "{…}"),
        (5, "row", "wrong_type", "5"),
    ],
)
def test_a_wrong_type_fails_the_product_with_the_place(
    body: object, field: str, rule: str, value: str | None
) -> None:
    good = own({"id": "other", "price": 1})
    outcome = parse(lines(good, body, good, good))
    (failure,) = outcome.failures
    assert (failure.row, failure.field, failure.rule, failure.value) == (2, field, rule, value)
    assert failure.message.endswith(".")
    assert len(outcome.items) == 3


def test_a_variant_that_is_no_object_fails_the_product_with_its_siblings() -> None:
    outcome = parse(lines(own({"id": "other"}), {"id": "p", "variants": [{"id": "a"}, 5]}))
    assert [(one.row, one.field, one.item_id) for one in outcome.failures] == [
        (2, "variants[1]", "a"),
        (2, "variants[1]", None),
    ]


def test_what_a_read_of_the_api_adds_can_be_imported_again_without_a_word() -> None:
    body = own({"id": "v", "href": "/x", "inventory": None}, href="/p", sync={}, createdAt="x", changedAt="y")
    assert parse(lines(body)).warnings == []
    outcome = parse(lines({**body, "source": "erp"}, {**body, "source": "erp"}))
    assert [(one.row, one.rule) for one in outcome.warnings] == [(0, "source_left_out")]
    assert {item.product.source for item in outcome.items} == {"ndjson"}


def test_remarks_about_unknown_fields_end_somewhere() -> None:
    outcome = parse(lines(*(own({"id": f"v{place}"}, **{f"x{place}": 1}) for place in range(200))))
    assert len(outcome.warnings) == 51
    assert "more fields" in outcome.warnings[-1].message
    assert {one.rule for one in outcome.warnings} == {"unknown_field"}
    assert len(outcome.items) == 200


def test_a_product_without_variants_is_only_a_product() -> None:
    outcome = parse(lines(own({"id": "v"}), {"id": "p", "title": "T"}, {"id": "q", "variants": None}))
    assert [(one.row, one.product.id) for one in outcome.parents] == [(2, "p"), (3, "q")]
    assert len(outcome.items) == 1


def test_a_broken_list_is_refused_before_its_first_row() -> None:
    data = (SAMPLES / "products.json").read_bytes()
    for broken in (data[:-5], data.replace(b'"lamp-blue",', b'"lamp-blue"'), data + b"]"):
        rows = FORMATS["json"].parse(io.BytesIO(broken), FormatContext("USD"))
        with pytest.raises(FileRefusedError, match=r"line \d+, column \d+"):
            next(rows)


@pytest.mark.parametrize("path", ["products", "items", "data", ("data", "products"), ("result", "rows")])
def test_the_list_may_stand_in_an_object(path: str | tuple[str, ...]) -> None:
    names = (path,) if isinstance(path, str) else path
    document: object = [own({"id": "v", "price": 5})]
    for name in reversed(names):
        document = {"count": 1, name: document, "next": None}
    outcome = parse(json.dumps(document))
    assert [item.variant.price for item in outcome.items] == [5]


# --- lines --------------------------------------------------------------------------------------------------------


def test_lines_in_other_encodings_and_with_other_ends() -> None:
    text = (SAMPLES / "products.ndjson").read_text().replace("Mug", "Mug für Tee")
    expected = [item.variant.id for item in parse(text).items]
    for data in (
        codecs.BOM_UTF8 + text.encode(),
        text.encode("utf-16"),
        codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
        text.replace("\n", "\r\n").encode(),
        text.rstrip("\n").encode(),
        ("\n\n" + text).encode(),
    ):
        outcome = parse(data, "ndjson")
        assert [item.variant.id for item in outcome.items] == expected
        assert outcome.items[0].product.title == "Mug für Tee"
        assert len(outcome.failures) == 4


def test_a_line_is_bounded_and_the_next_one_is_read() -> None:
    long = own({"id": "long"}, note="é" * 2_000_000)
    text = "\n".join(
        json.dumps(row, ensure_ascii=False) for row in (own({"id": "a"}), long, own({"id": "b"}))
    )
    outcome = parse(text)
    assert [(one.row, one.rule) for one in outcome.failures] == [(2, "too_long")]
    assert [item.variant.id for item in outcome.items] == ["a", "b"]
    longer = text.replace("é" * 2_000_000, "e" * 9_000_000)
    assert [(one.row, one.rule) for one in parse(longer).failures] == [(2, "too_long")]
    assert [item.row for item in parse(longer).items] == [1, 3]


def test_hostile_lines_fail_alone() -> None:
    hostile = ("[" * 100_000, '{"a":' * 50_000, "9" * 5_000, '{"id": 1e999999}', "NaN", '"\\ud800"')
    good = json.dumps(own({"id": "a"}))
    outcome = parse("\n".join((good, good, *hostile, good, good, good, good)))
    assert [one.row for one in outcome.failures] == list(range(3, 9))
    assert len(outcome.items) == 6


# --- flat rows ----------------------------------------------------------------------------------------------------


def test_flat_rows_are_read_by_the_names_of_a_feed() -> None:
    outcome = parse_sample("flat.json")
    kettle, toaster, pan = (outcome.variants[name] for name in ("1001", "1002", "1003"))
    products = outcome.products
    assert products["1001"].title == "Wasserkocher"  # the first language that the file fills
    assert products["1002"].title == "Toaster"  # the key without a language goes first
    assert products["1001"].categories == ["Kitchen", "Kettles"]
    assert (products["1001"].brand, products["1001"].source) == ("Aqua", "json")
    assert (kettle.price, kettle.sku, kettle.link) == (129950, "1001", "https://shop.example/1001")
    assert kettle.inventory == InventoryInput(True, 4, None, None)
    assert (toaster.price, toaster.special_price, toaster.availability) == (149900, 129900, "in stock")
    assert (toaster.thumbnail, toaster.images) == (
        "https://shop.example/a.jpg",
        ["https://shop.example/b.jpg"],
    )
    assert (pan.price, pan.availability) == (1235, "out of stock")
    assert [(one.row, one.field, one.rule) for one in outcome.failures] == [
        (3, "sku", "missing_id"),
        (5, "price", "wrong_currency"),
    ]
    assert "SEK" in outcome.failures[1].message
    assert [one.rule for one in outcome.warnings if one.row == 0] == ["flat_rows"]
    assert '"sku"' in outcome.warnings[0].message


def test_prices_by_currency_and_ids_by_the_best_key_that_is_filled() -> None:
    outcome = parse_sample("flat.ndjson")
    assert {name: one.price for name, one in outcome.variants.items()} == {"TV/2": 52900, "TV/4": 9900}
    assert [(one.row, one.field, one.item_id) for one in outcome.failures] == [
        (1, "sku", None),
        (3, "price_gbp", "TV/3"),
    ]
    assert outcome.variants["TV/2"].availability == "in stock"
    assert outcome.warnings[1:] == []
    text = (SAMPLES / "flat.ndjson").read_text().replace('"sku"', '"article_id"')
    assert set(parse(text, currency="GBP").variants) == {"TV-1", "TV-2", "TV-3"}


def test_numbers_of_money_are_exact_and_never_grouped() -> None:
    rows = [
        {"id": 60342968.0, "title": "A", "price": 1.299},
        {"id": "b", "title": "B", "price": 0.1, "barcode": 4006381333931.0},
        {"id": "c", "title": "C", "price": 1e3},
        {"id": "d", "title": "D", "price": -1},
        {"id": "e", "title": "E", "price": {"amount": "12.50", "currency": "USD"}},
        {"id": "f", "title": "F", "price": {"low": 1}},
        {"id": "g", "title": "G", "price": 1e300},
    ]
    outcome = parse(lines(*rows))
    prices = {name: one.price for name, one in outcome.variants.items()}
    assert prices == {"60342968": 130, "b": 10, "c": 100000, "e": 1250, "f": None}
    assert outcome.variants["b"].barcode == "4006381333931"
    assert [one.item_id for one in outcome.failures] == ["d", "g"]
    assert [one.field for one in outcome.warnings if one.rule == "unread_value"] == ["price"]
    assert parse(lines(*rows[:1]), currency="KWD").variants["60342968"].price == 1299
    assert parse(lines(*rows[:1]), currency="JPY").variants["60342968"].price == 1  # not a thousand


def test_reading_a_file_twice_says_the_same() -> None:
    for name in ("products.json", "products.ndjson", "flat.json", "flat.ndjson"):
        assert parse_sample(name).rows == parse_sample(name).rows


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("price_gbp", Key("price", currency="GBP")),
        ("salePriceEUR", Key("sale_price", currency="EUR")),
        ("name_en", Key("title", language="en")),
        ("description_pt_br", Key("description", language="pt_br")),
        ("productUrl", Key("link")),
        ("imageURL", Key("image_link")),
        ("itemGroupId", Key("item_group_id")),
        ("category_id", None),
        ("size_uk", None),
        ("price_abc", None),
        ("timestamp_utc", None),
        ("x" * 101, None),
    ],
)
def test_what_keys_mean(name: str, expected: Key | None) -> None:
    assert key_of(name) == expected
    assert key_of("name_id") is None
    assert key_of("name_id", has_languages=True) == Key("title", language="id")


# --- memory -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format_name", "file"),
    [
        (
            "json",
            GeneratedFile(
                b'{"products": [{"id": "p", "variants": [{"id": "v"}]},',
                b'{"id": "p@", "variants": [{"id": "v@"}]},\n',
                20_000,
                b"{}]}",
            ),
        ),
        ("ndjson", GeneratedFile(b"", b'{"sku": "s@", "name": "N @", "price": @, "url": "/@"}\n', 30_000)),
    ],
)
def test_memory_does_not_grow_with_the_file(format_name: str, file: GeneratedFile) -> None:
    rows = FORMATS[format_name].parse(cast("BinaryIO", file), FormatContext("USD"))
    count = sum(1 for _ in zip(range(5_000), rows, strict=False))
    tracemalloc.start()
    try:
        count += sum(1 for _ in zip(range(5_000), rows, strict=False))
        kept_bytes, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    count += sum(1 for _ in rows)
    assert count in {20_002, 30_002}  # a failure at the end of the list; two remarks about the rows
    assert kept_bytes < 2_500_000  # the window of the file and its rows, not 5,000 rows
    assert peak_bytes < 5_000_000
