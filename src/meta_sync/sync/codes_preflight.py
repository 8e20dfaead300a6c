"""Codes of the pre-flight report: what stands out when a store's items, its Meta catalog and its images are looked through."""

from __future__ import annotations

from enum import StrEnum

from meta_sync.sync.code_entry import CodeEntry, table

__all__ = ["PREFLIGHT", "PreflightCode"]


class PreflightCode(StrEnum):
    """Remarks of a pre-flight report, beside those of the mapping."""

    DUPLICATE_TITLE_AND_DESCRIPTION = "duplicate_title_and_description"
    IDS_DIFFER_BY_CASE = "ids_differ_by_case"
    GROUP_TOO_LARGE = "group_too_large"
    CATALOG_CURRENCY_DIFFERS = "catalog_currency_differs"
    FEED_WRITES_CATALOG = "feed_writes_catalog"
    IMAGE_NOT_REACHED = "image_not_reached"
    IMAGE_REFUSED = "image_refused"
    IMAGE_GONE = "image_gone"
    IMAGE_NOT_PUBLIC = "image_not_public"
    IMAGE_WRONG_FORMAT = "image_wrong_format"
    IMAGE_TOO_LARGE = "image_too_large"
    IMAGE_TOO_SMALL = "image_too_small"


PREFLIGHT: tuple[CodeEntry, ...] = table(
    "preflight",
    "product",
    "warning",
    (
        (
            "duplicate_title_and_description",
            "Different products have the same title and the same description.",
            "Say in the title or the description what sets each of them apart.",
        ),
        (
            "ids_differ_by_case",
            "Items have ids that are equal but for capital letters, which Meta's own searches do not tell apart.",
            "Give the variants ids that differ in more than their case, before they are sent for the first time.",
        ),
        (
            "group_too_large",
            "A product has more than 300 variants, from where on Meta warns.",
            "Split the product into several ones.",
        ),
        (
            "catalog_currency_differs",
            "The Meta catalog has items in another currency than the store's.",
            "Select a catalog of the store's own currency, or remove the other items there: Meta expects one currency.",
        ),
        (
            "feed_writes_catalog",
            "A data feed at Meta writes the catalog, too.",
            (
                "Switch the feed off in Commerce Manager: one that replaces the catalog deletes what it does not have, and values "
                "go back and forth between two writers."
            ),
        ),
        (
            "image_not_reached",
            "The image's server cannot be reached or does not answer as it should.",
            "Check the address and the server. Meta fetches images from the public internet.",
        ),
        (
            "image_refused",
            "The image's server refuses to give it out to a program.",
            "Let crawlers fetch images: Meta's calls itself facebookexternalhit. Look at the server's and the CDN's rules for bots.",
        ),
        (
            "image_gone",
            "There is no image at the address.",
            "Correct the address of the image, or upload it again.",
        ),
        (
            "image_not_public",
            "The image's address cannot be used from the public internet.",
            "Give images public addresses that begin with https://.",
        ),
        (
            "image_wrong_format",
            "What is at the address is no JPEG or PNG image.",
            "Use JPEG or PNG images.",
        ),
        (
            "image_too_large",
            "The image has more than the 8 MB that Meta takes.",
            "Make the file smaller.",
        ),
        (
            "image_too_small",
            "The image has less than the 500 by 500 pixels that Meta asks for.",
            "Use a larger image, under a new address.",
        ),
    ),
)
