"""Codes of imports: the rule of a row that failed, was left out or went in with a remark. The row's own sentence says more."""

from __future__ import annotations

from meta_sync.sync.code_entry import CodeEntry, table

__all__ = ["IMPORTS"]

_AGAIN = "Correct the row and import the file again."

_FAILED = table(
    "import",
    "product",
    "error",
    (
        ("unreadable", "A value of the row cannot be read.", _AGAIN),
        (
            "ragged_row",
            "The row has more or fewer cells than the header, or a quotation mark is left open.",
            "Look for a separator or a quotation mark that is missing or too many, then import the file again.",
        ),
        ("invalid", "A value of the row is not one that the catalog takes.", _AGAIN),
        ("wrong_type", "An entry or a field of the file is of another kind than it has to be.", _AGAIN),
        (
            "too_long",
            "A text, a row or an object of the file is longer than any that is read.",
            "Divide or shorten it and import the file again.",
        ),
        (
            "bad_text",
            "A text cannot be stored: it holds bytes or characters that are no text.",
            "Write the text anew, or export the file as UTF-8, and import it again.",
        ),
        (
            "not_json",
            "The line is not JSON.",
            "Correct the line where the row's own sentence says, and import the file again.",
        ),
        (
            "missing_id",
            "The row does not say which item, or which product, it is.",
            "Fill in the id, the SKU or the handle that the format asks for, and import the file again.",
        ),
        (
            "missing_parent",
            "The row names no product, or one that the file does not have or that cannot be read.",
            "Export the products together with their variants, and leave the rows in their order.",
        ),
        (
            "no_product",
            "The row belongs to no product that the file or the store has.",
            "Import the product first, or together with its variants.",
        ),
        (
            "no_price",
            "The row has no price.",
            "Enter a price in the store's currency and import the file again.",
        ),
        (
            "wrong_currency",
            "The price is in another currency than the store sells in.",
            "Export the prices in the store's currency.",
        ),
        (
            "repeated_id",
            "The file has the same id twice; the first row counts.",
            "Give each item an id of its own, or remove the row that is not wanted.",
        ),
        (
            "too_many_variants",
            "The product has as many variants as one may have.",
            "Divide the product into several.",
        ),
        (
            "unknown_type",
            "The row is of a kind that is not known.",
            "Nothing to do if it is no product for sale; else report the kind with a sample of the file.",
        ),
    ),
)
_LEFT_OUT = table(
    "import",
    "product",
    "info",
    (
        ("not_an_item", "The row is no item for sale.", "Nothing to do."),
        ("not_sold_alone", "The row is something that is not sold alone, or not on Meta.", "Nothing to do."),
        ("deleted", "The shop has deleted what the row describes.", "Nothing to do."),
        (
            "stale",
            "The store has later news of the item than the file.",
            "Nothing to do. To let the file count, export it again.",
        ),
        (
            "absent",
            "The file leaves the item out, and the import replaces what it leaves out.",
            "Nothing to do if it is no longer sold; else add it to the file and import it again.",
        ),
    ),
)
_REMARKS = table(
    "import",
    "product",
    "warning",
    (
        (
            "remark",
            "Something about the row or the file is worth a look.",
            "Read what the row's own sentence says.",
        ),
        (
            "encoding",
            "The file is not UTF-8, or not wholly; the row's own sentence says how it was read.",
            "Look for damaged letters; export the file as UTF-8.",
        ),
        (
            "repaired",
            "The file has & characters that XML wants written as &amp;; it was read all the same.",
            "Nothing to do, or have the file's program write them as &amp;.",
        ),
        (
            "unproved_end",
            "The file was fetched from a server that does not say how long it is, so it may not be whole.",
            "Check that the last products are there, or let the server send the length of the file.",
        ),
        (
            "no_header",
            "The file has no header, so the meaning of its columns was told from what they hold.",
            "Check some products, or export the file with a header.",
        ),
        (
            "flat_rows",
            "Each object of the file is read as one item.",
            "Check that the field taken for the id is the right one.",
        ),
        (
            "unknown_field",
            "The file has fields that are not known; they are left out.",
            "Check their spelling.",
        ),
        (
            "unread_value",
            "What stands in a field is no single value and was left out.",
            "Nothing to do, if it is not needed.",
        ),
        (
            "unknown_word",
            "A word in the row is not one of those that its field may have, so it does not count.",
            "Use one of the words that the format has for the field, and import the file again.",
        ),
        (
            "any_value",
            "The variation fits every value of an attribute, so its item carries none.",
            "Nothing to do, or make a variation for each value.",
        ),
        (
            "unknown_category",
            "The file does not say what a category is; it is left out.",
            "Export the categories, too.",
        ),
        ("source_left_out", "The source in the products is not read.", "Name the source with the import."),
        (
            "further_language",
            "The file has products in several languages or channels; the first row of each counts.",
            "Export the language that buyers on Meta are to see.",
        ),
        (
            "several_channels",
            "Several channels sell in the store's currency; the price that comes first counts.",
            "Export one channel.",
        ),
        (
            "too_many",
            "A product has so many pictures, stocks or attributes that the last of them were left out.",
            "Remove what is not needed.",
        ),
        (
            "no_stock",
            "The file counts no stock, so the stock stays as it is.",
            "Send the stock by the API or in another file.",
        ),
        (
            "switched_off",
            "The variant or offer is switched off in the shop, so it counts as out of stock.",
            "Nothing to do, or switch it on in the shop.",
        ),
        (
            "contradicted_stock",
            "The row says out of stock, but counts pieces; the item counts as out of stock.",
            "Correct the word or the count, whichever is wrong.",
        ),
        (
            "rounded_code",
            "A spreadsheet rounded the barcode, so it is left out.",
            "Format the column as text, enter the barcode again and import the file again.",
        ),
        (
            "no_currency",
            "Prices in the file name no currency, so they are read in the store's.",
            "Nothing to do if that is right; else export the prices with their currency.",
        ),
        (
            "rounded_price",
            "The price was rounded to the smallest unit of the currency, or its dot was taken for the decimal mark.",
            "Check the price; write it without a thousands mark and with no more decimals than the currency has.",
        ),
        ("group_prices", "Prices for groups of buyers or for quantities are left out.", "Nothing to do."),
        (
            "other_price",
            "Another price than the file's general one counts.",
            "Check the prices of some products.",
        ),
        (
            "region_price",
            "The price of one region counts, because there is none for everywhere.",
            "Check the prices.",
        ),
        (
            "price_from",
            "The price is the lowest of several, so it may not be what a buyer pays.",
            "Export each variant with its own price.",
        ),
        (
            "repeated_price",
            "The item has a price from an earlier row; this one is left out.",
            "Remove one of the two.",
        ),
        (
            "discount_too_high",
            "The discount is as high as the price, so it is left out.",
            "Correct the discount in the shop.",
        ),
        (
            "discount_left_out",
            "The product's discount is not known for the price of this combination, so it is left out.",
            "Enter the reduced price of the combination in meta-sync, if it is to be shown.",
        ),
        (
            "sale_window",
            "The sale ends before it begins, so the sale price is left out.",
            "Correct the dates of the sale.",
        ),
        (
            "unknown_discount",
            "The kind of the discount is not known, so it is left out.",
            "Enter the reduced price itself.",
        ),
        (
            "missing_variations",
            "The file has no rows for some variations that a product names.",
            "Export the variations, too.",
        ),
        (
            "shared_variations",
            "Another product names the same variations first and keeps them.",
            "Let each variation belong to one product.",
        ),
        (
            "template_marks",
            "Links hold marks that only another advertising system fills in; they go in as they are.",
            "Remove the marks from the links.",
        ),
    ),
)

IMPORTS: tuple[CodeEntry, ...] = (*_FAILED, *_LEFT_OUT, *_REMARKS)
