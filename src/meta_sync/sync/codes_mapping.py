"""Codes of the mapping: why an item is not fit to be sent, and what the mapping had to change in one that is."""

from __future__ import annotations

from meta_sync.sync.code_entry import CodeEntry, table

__all__ = ["MAPPING"]

_WANTED_SO = table(
    "skip",
    "product",
    "info",
    (
        (
            "product_deleted",
            "The product was deleted in the store.",
            "Create the product again in the store if it should be sold on Meta.",
        ),
        (
            "variant_deleted",
            "The variant was deleted in the store.",
            "Add the variant to its product again if it should be sold on Meta.",
        ),
        (
            "excluded_by_operator",
            "A person took the item off Meta.",
            "Resync the item by name to allow it again.",
        ),
        (
            "product_not_active",
            "The product is not active in the store (draft or archived).",
            "Set the product's status to active.",
        ),
        (
            "product_not_public",
            "The product is not public in the store.",
            "Set the product's visibility to public.",
        ),
        (
            "adopted_left_alone",
            "The item was adopted from Meta and stays there as it is, although the store's row could not be sent.",
            (
                "Complete the item if the store is to manage it. To take it off Meta, delete it in the store or choose to "
                "delete it from Meta."
            ),
        ),
        (
            "delete_grace",
            "The item is to go, and is shown as out of stock until its grace is over. Then it is deleted.",
            "Nothing to do. If it should stay, make it available in the store again before the grace is over.",
        ),
    ),
)
_NOT_FIT = table(
    "skip",
    "product",
    "error",
    (
        (
            "missing_price",
            "The variant has no price above zero, as Meta counts this currency.",
            "Enter a price for the variant.",
        ),
        (
            "missing_storefront_slug",
            "No address of the product's page can be built.",
            "Give the product a slug and set the storefront's address, or give the product a complete link.",
        ),
        ("missing_title", "The product has no title.", "Enter a title for the product."),
        (
            "missing_image",
            "Neither the variant nor the product has an image with a usable address.",
            "Add an image with a complete http or https address, or set the media address in the settings.",
        ),
        (
            "missing_identifier",
            "The item has no brand, no valid GTIN and no SKU; Meta needs one of them.",
            "Enter a brand, a barcode or a SKU, or set a default brand in the settings.",
        ),
        (
            "invalid_id",
            "The item's id at Meta would be empty, longer than 100 characters, or contain control characters.",
            "Change the variant's id or SKU, or the id template in the settings.",
        ),
    ),
)
_SHORTEN = "Shorten it in the store if what is cut matters to buyers."
_ISSUES = table(
    "issue",
    "product",
    "warning",
    (
        (
            "price_precision_lost",
            "The price has more decimals than Meta takes and was rounded.",
            "Enter a price with as many decimals as the currency has.",
            "Meta takes fewer decimals than the store's price has; it was rounded to {}.",
        ),
        (
            "sale_not_below_price",
            "The special price is not below the price and is not sent.",
            "Lower the special price below the price, or remove it.",
            "The special price {} is not below the price and is not sent.",
        ),
        (
            "sale_window_empty",
            "The special price ends when it starts or before and is not sent.",
            "Let the special price end after it starts.",
            "The special price ends when it starts or before ({}) and is not sent.",
        ),
        (
            "title_cut",
            "The title is longer than Meta takes and was cut.",
            _SHORTEN,
            "The title is longer than {} characters and was cut.",
        ),
        (
            "description_cut",
            "The description is longer than Meta takes and was cut.",
            _SHORTEN,
            "The description is longer than {} characters and was cut.",
        ),
        (
            "value_cut",
            "A value is longer than Meta takes and was cut.",
            _SHORTEN,
            "The value is longer than {} characters and was cut.",
        ),
        (
            "text_all_caps",
            "A text was all capital letters, which Meta flags; it is sent in ordinary ones.",
            "Write the text in ordinary letters in the store.",
            "The text was all capital letters, which Meta flags; it is sent as {}.",
        ),
        (
            "id_breaks_checkout_link",
            "The item's id contains a comma or a colon, which breaks Meta's checkout link.",
            "Use ids without commas and colons, if the checkout link is to be used.",
            "The id {} contains a comma or a colon, which breaks Meta's checkout link.",
        ),
        (
            "id_has_outer_spaces",
            "The item's id begins or ends with a space, which Meta may remove.",
            "Remove the spaces around the variant's id or SKU.",
            "The id {} begins or ends with a space, which Meta may remove.",
        ),
        (
            "id_equals_group",
            "The product's id is also an item's id, so the group of its variants is sent with the prefix g:.",
            "Nothing to do, unless the group's id is used elsewhere: then give product and variant different ids.",
            "The product id {} is also an item's id; the group is sent with the prefix g:.",
        ),
        (
            "group_id_replaced",
            "The product's id cannot be a group id at Meta, so a short code derived from it is sent.",
            "Nothing to do, unless the group's id is used elsewhere: then give the product a shorter, plain id.",
            "The product id {} cannot be a group id at Meta; a short code derived from it is sent.",
        ),
        (
            "group_without_attribute",
            "The product has several variants, but this one has no option that tells it apart; Meta shows no picker.",
            "Give the variant an option, such as a colour or a size.",
            "The product {} has several variants, but this one has no option that tells it apart; Meta shows no picker.",
        ),
        (
            "gtin_invalid",
            "The barcode is no valid GTIN and is not sent.",
            "Enter the barcode as it is printed: 8, 12, 13 or 14 digits with a correct check digit.",
            "The barcode {} is no valid GTIN (8, 12, 13 or 14 digits with a correct check digit).",
        ),
        (
            "gtin_mangled",
            "The barcode was turned into a rounded number by a spreadsheet; digits are lost and it is not sent.",
            "Enter the barcode again; in the spreadsheet keep its column as text.",
            "The barcode {} was turned into a rounded number by a spreadsheet; digits are lost.",
        ),
        (
            "link_unusable",
            "The link is no complete http or https address and is not sent.",
            "Enter the whole address of the page, or none: then it is built from the slug.",
            "The link {} is no complete http or https address and is not sent.",
        ),
        (
            "image_unusable",
            "An image is no complete http or https address and is not sent.",
            "Enter the whole address of the image, or set the media address in the settings.",
            "The image {} is no complete http or https address and is not sent.",
        ),
        (
            "url_not_public",
            "An address points to this computer; Meta cannot reach it.",
            "Use the public address of the shop, in the settings or in the product.",
            "The address {} points to this computer; Meta cannot reach it.",
        ),
        (
            "images_cut",
            "There are more additional images than Meta takes; the rest is not sent.",
            "Put the most important images first.",
            "There are more than {} additional images; the rest is not sent.",
        ),
        (
            "availability_unknown",
            "The availability is not a word Meta knows; the item is sent as in stock.",
            "Use in stock, out of stock, available for order or preorder.",
            "The availability {} is not a word Meta knows; the item is sent as in stock.",
        ),
        (
            "condition_unknown",
            "The condition is not a word Meta knows; the store's default is sent.",
            "Use new, refurbished or used.",
            "The condition {} is not a word Meta knows; the store's default is sent.",
        ),
        (
            "gender_unknown",
            "The gender is not a word Meta knows and is not sent.",
            "Use female, male or unisex.",
            "The gender {} is not a word Meta knows and is not sent.",
        ),
        (
            "age_group_unknown",
            "The age group is not a word Meta knows and is not sent.",
            "Use one of the age groups that Meta knows, such as adult, kids or infant.",
            "The age group {} is not a word Meta knows and is not sent.",
        ),
        (
            "color_is_code",
            "The colour is a code; Meta wants a word, so it is not sent.",
            "Enter the colour as a word.",
            "The colour {} is a code; Meta wants a word, so it is not sent.",
        ),
        (
            "option_repeated",
            "Two options of the variant mean the same field; only one of them is sent.",
            "Keep one of the two options.",
            "Two options mean the same field; {} is not sent.",
        ),
        (
            "category_too_long",
            "The category is longer than 250 characters and is not sent.",
            "Choose a category of Google's or Meta's list.",
            "The category {} is longer than 250 characters and is not sent.",
        ),
    ),
)

MAPPING: tuple[CodeEntry, ...] = (*_WANTED_SO, *_NOT_FIT, *_ISSUES)
