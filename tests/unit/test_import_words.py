"""What imports say: values cut and made harmless, changes in words."""

from __future__ import annotations

import pytest

from meta_sync.catalog.ingest.import_changes import describe_change, describe_new
from meta_sync.catalog.ingest.import_tally import Tally, quotable
from meta_sync.catalog.ingest.import_write import _refused
from meta_sync.catalog.ingest.rows import ImportedVariant, RowFailure
from meta_sync.catalog.models import InventoryInput, ProductInput, VariantInput
from meta_sync.catalog.working_set import MergeOutcome, WorkingSet


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain", "plain"),
        ("two\nlines\tand more", "two lines and more"),
        ("bell\x07 and \x1b[31mred", "bell\ufffd and \ufffd[31mred"),
        ("turned \u202eround\u2066", "turned \ufffdround\ufffd"),
        ("soft\u00adhyphen", "soft\u00adhyphen"),
        ("x" * 30, "x" * 19 + "…"),
    ],
)
def test_what_a_file_says_is_cut_and_cannot_steer_a_terminal(given: str, shown: str) -> None:
    assert quotable(given, 20) == shown


def test_a_finding_keeps_its_rule_and_the_cut_value() -> None:
    tally = Tally()
    line = tally.note(RowFailure(3, "price", "It is no price.", "a", "unreadable", "9" * 500))
    assert line == (1, "failure", 3, "price", "It is no price.", "a", "unreadable", "9" * 199 + "…")
    assert Tally.restored(tally.to_stored()) == tally


def test_a_product_that_has_all_the_variants_it_may_have_refuses_one_more() -> None:
    entry = ImportedVariant(7, ProductInput(id="p", source="s", variants=[]), VariantInput(id="v"))
    refused = _refused(entry, MergeOutcome.TOO_MANY_VARIANTS, set())
    assert isinstance(refused, RowFailure)
    assert (refused.row, refused.item_id, refused.rule, refused.value) == (7, "v", "too_many_variants", "p")


def working_after(before: ProductInput, after: ProductInput) -> WorkingSet:
    """A working set in which the one product with its one variant changed."""
    first = WorkingSet()
    first.put(before)
    second = WorkingSet(first.products.values(), first.variants.values(), first.stock.values())
    second.put(after)
    return second


def of(title: str = "Lamp", **fields: object) -> ProductInput:
    return ProductInput("p", title=title, variants=[VariantInput("v", **fields)])  # type: ignore[arg-type]  # short


@pytest.mark.parametrize(
    ("before", "after", "currency", "fields", "message"),
    [
        (of(price=1999), of(price=1799), "EUR", "price", "price 19.99 -> 17.99 EUR"),
        (of(price=1999), of(price=1799), "JPY", "price", "price 1999 -> 1799 JPY"),
        (of(price=1005), of(price=None), "KWD", "price", "price 1.005 KWD -> none"),
        (of(price=1), of("Lantern", price=1), "EUR", "title", "title Lamp -> Lantern"),
        (of("L" * 80, price=1), of("L" * 80 + "!", price=1), "EUR", "title", "title differs"),
        (
            of(images=["a.jpg"], options={"Size": "S"}),
            of(images=[], options={"Size": "M"}),
            "EUR",
            "images, options",
            "images a.jpg -> none; options Size: S -> Size: M",
        ),
        (
            of(inventory=InventoryInput(quantity_on_hand=3)),
            of(inventory=InventoryInput(quantity_on_hand=0, track_inventory=False)),
            "EUR",
            "track inventory, quantity on hand",
            "track inventory yes -> no; quantity on hand 3 -> 0",
        ),
    ],
)
def test_what_differs_is_said_in_words(
    before: ProductInput, after: ProductInput, currency: str, fields: str, message: str
) -> None:
    found = describe_change(working_after(before, after), "v", with_product=True, currency=currency)
    assert found == (fields, message)


def test_many_differences_are_counted_rather_than_listed() -> None:
    names = ("sku", "link", "condition", "thumbnail", "ean", "upc", "barcode", "availability")
    before, after = of(price=1), of(price=2, **dict.fromkeys(names, "x"))
    fields, message = describe_change(working_after(before, after), "v", with_product=False, currency="EUR")
    assert len(fields.split(", ")) == 9
    assert message.endswith("; and 1 more")


def test_a_new_item_is_told_by_title_and_price() -> None:
    assert (
        describe_new(ProductInput("p", title="Lamp"), VariantInput("v", price=5), "EUR") == "Lamp, 0.05 EUR"
    )
    assert describe_new(ProductInput("p"), VariantInput("v"), "EUR") == "p"
