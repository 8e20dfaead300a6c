"""Codes of decisions about items at Meta: why one that a person asked for was not carried out."""

from __future__ import annotations

from meta_sync.sync.code_entry import table

__all__ = ["ADOPT"]

ADOPT = table(
    "adopt",
    "catalog",
    "warning",
    (
        (
            "not_among_findings",
            "The reconciliation found nothing of this id, is not sure of it, or it has been dealt with already.",
            "Look at the reconciliation's items; start a new reconciliation if the catalog has changed since.",
        ),
        (
            "id_taken",
            "A variant of the store has this id, or goes to Meta under it.",
            "Give the store's variant another id, or delete the item at Meta.",
        ),
        (
            "product_id_taken",
            "The item belongs to a group at Meta whose id is that of a product which the store manages itself.",
            "Add the variant to that product in the store, or delete the item at Meta.",
        ),
        (
            "price_unclear",
            "Meta shows a price that can be read in more than one way, or not at all.",
            "Enter the item in the store by hand, or correct its price in Commerce Manager and start a new reconciliation.",
        ),
        (
            "other_currency",
            "The item's price is in another currency than the store's.",
            "Correct the currency in Commerce Manager, or delete the item at Meta.",
        ),
        (
            "not_storable",
            "A value of the item, such as its id, cannot be stored in the store's catalog.",
            "Correct the item in Commerce Manager, or delete it at Meta.",
        ),
        (
            "group_full",
            "The item's group has more items than a product may have variants.",
            "Split the group at Meta.",
        ),
        (
            "from_a_feed",
            "A data feed put the item there: it would come back, and Meta refuses to delete it from elsewhere.",
            "Remove the item from that feed, or the feed from the catalog in Commerce Manager.",
        ),
        (
            "nothing_chosen",
            "None of the chosen fields is one that differs and can be kept like this.",
            "Choose fields among those that the finding names.",
        ),
        (
            "changed_since",
            "The item was sent to Meta, or changed in the store, after Meta was read.",
            "Start a new reconciliation and decide about what it finds.",
        ),
        (
            "stock_decides",
            "The availability follows from the stock that the store tracks.",
            "Correct the stock in the store.",
        ),
    ),
)
