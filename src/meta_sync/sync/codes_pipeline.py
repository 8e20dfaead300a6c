"""Codes of the pipeline: what becomes of items and batches, why a store stands still, and what Meta's failures mean."""

from __future__ import annotations

from enum import StrEnum

from meta_sync.graph.errors import Advice
from meta_sync.sync.code_entry import CodeEntry, table

__all__ = ["FAMILIES", "PIPELINE", "FailureCode"]


class FailureCode(StrEnum):
    """Codes that the pipeline gives to items and batches itself, beside the reasons why an item is not fit to be sent."""

    REJECTED_BY_META = "rejected_by_meta"
    REFUSED_WITHOUT_REASON = "refused_without_reason"
    CANNOT_CLEAR = "cannot_clear"
    NOT_SAVED = "not_saved"
    TOO_LARGE = "too_large"
    SERVER_ERRORS = "server_errors"
    MAPPING_FAILED = "mapping_failed"
    ID_IN_USE = "id_in_use"
    POLL_TIMEOUT = "poll_timeout"
    BATCH_ERROR = "batch_error"
    BATCH_CANCELED = "batch_canceled"
    NOTHING_TAKEN = "nothing_taken"
    NO_ANSWER = "no_answer"
    NOT_ASKED = "not_asked"


_AGAIN = "Nothing to do: the item is sent again by itself."

_ITEMS = (
    *table(
        "item",
        "product",
        "error",
        (
            (
                "rejected_by_meta",
                "Meta refused the item for what it holds.",
                "Correct what Meta's words name in the store. The item is sent again when it changes, or when it is resynced.",
            ),
            (
                "refused_without_reason",
                "Meta refused the item and did not say why.",
                (
                    "Compare the item with Meta's rules for catalog items, change it or resync it. If it is refused again, look at "
                    "it in Commerce Manager."
                ),
            ),
            (
                "cannot_clear",
                "A value that the store no longer has could not be removed at Meta: it wants this field filled.",
                "Give the field that Meta names a value again, or remove the item from Meta and resync it.",
            ),
            (
                "not_saved",
                "Meta's report leaves open whether the item was saved, and Meta does not show it as it was sent.",
                "Look for missing fields of the item in Commerce Manager, then change it in the store or resync it.",
            ),
            (
                "too_large",
                "The item alone is more than Meta takes in one call.",
                "Shorten the product's description and leave out images. The item is sent again when it changes.",
            ),
            (
                "server_errors",
                "Meta answered every call with this item with an error of its own, and other calls not.",
                "Nothing to do: the item is tried again, ever more rarely. If it stays, change its texts or its images.",
            ),
        ),
    ),
    CodeEntry(
        "mapping_failed",
        "item",
        "unknown",
        "error",
        "meta-sync could not make a catalog item of the variant. This is a fault of meta-sync.",
        "Report it with the variant's id; the worker's log has the cause. Changing the variant may help meanwhile.",
    ),
    CodeEntry(
        "id_in_use",
        "skip",
        "product",
        "error",
        "Another variant of the store goes to Meta under the same id, and was there first.",
        "Give the variants different ids or SKUs, or change the id template in the settings.",
    ),
    CodeEntry(
        "poll_timeout",
        "item",
        "network",
        "error",
        "Meta did not finish the batch in time. What it made of the item is not known.",
        _AGAIN,
    ),
)

_BATCHES = (
    *table(
        "batch",
        "network",
        "warning",
        (
            (
                "batch_error",
                "Meta ended the batch with an error and gave no verdict on its items.",
                "Nothing to do: the items are sent again after a while, in smaller batches.",
            ),
            (
                "batch_canceled",
                "Meta cancelled the batch and gave no verdict on its items.",
                "Nothing to do: the items are sent again after a while, in smaller batches.",
            ),
            (
                "no_answer",
                "Whether Meta carried out the call is not known, because no answer came back.",
                "Nothing to do: the items are sent again once the call can no longer be at work.",
            ),
            (
                "not_asked",
                "Meta could not be asked about the batch for too long, so its outcome will not be known.",
                "Nothing to do: the items are sent again.",
            ),
        ),
    ),
    CodeEntry(
        "nothing_taken",
        "batch",
        "catalog",
        "error",
        "Meta answered the call, ingested nothing of it and gave no reason.",
        "Look at the catalog in Commerce Manager. Sending is tried again by itself.",
    ),
)

_PAUSES = (
    *table(
        "pause",
        "authentication",
        "error",
        (
            (
                "not_connected",
                "The store is not connected to Meta.",
                "Connect the store with a token, then select a catalog.",
            ),
            (
                "needs_reconnect",
                "The store's access to Meta no longer works: its token, its permissions or its way to the catalog.",
                "Do what the last error says; mostly that is to connect the store to Meta again with a new token.",
            ),
            (
                "token_expired",
                "The time of the store's token is up.",
                "Generate a new token and connect the store with it.",
            ),
            (
                "token_unreadable",
                "The store's token cannot be read: it was stored under an encryption key that is not configured.",
                "Put that key back into META_SYNC_ENCRYPTION_KEYS, or connect the store with its token again.",
            ),
        ),
    ),
    *table(
        "pause",
        "catalog",
        "error",
        (
            (
                "config_incomplete",
                "Settings are missing without which nothing can be sent.",
                "Fill in the settings that the status lists as missing.",
            ),
            (
                "graph_url_changed",
                "The catalog was selected at another Graph address than the service uses now.",
                "Select the catalog again, or set META_SYNC_GRAPH_URL back.",
            ),
        ),
    ),
    CodeEntry(
        "sync_disabled",
        "pause",
        "catalog",
        "info",
        "Sending is switched off for the store. Changes are kept until it is switched on.",
        "Set syncEnabled to true in the settings.",
    ),
    *table(
        "pause",
        "catalog",
        "warning",
        (
            (
                "held",
                "Nothing is sent until a person has approved the first sync into this catalog.",
                "Read the pre-flight report, which says what would be changed, and approve it.",
            ),
            (
                "first_run_approval",
                "The catalog had items already when it was selected, so the first sync waits until a person has approved it.",
                (
                    "Read the pre-flight report, which says what would be changed, and approve it. If this is the wrong "
                    "catalog, select another one."
                ),
            ),
        ),
    ),
    CodeEntry(
        "preview",
        "pause",
        "catalog",
        "info",
        "The store is in preview: changes are kept and nothing is sent.",
        "Set feedMode to live in the settings when it is to go out.",
    ),
    CodeEntry(
        "newer_mapper",
        "pause",
        "unknown",
        "warning",
        "A newer version of meta-sync has taken the store over; workers of this version leave it alone.",
        "Upgrade every process to that version.",
    ),
    CodeEntry(
        "throttled",
        "pause",
        "rate_limit",
        "info",
        "The number of calls that Meta allows is used up for the moment.",
        "Nothing to do: sending goes on by itself when Meta allows it again.",
    ),
    CodeEntry(
        "meta_unreachable",
        "pause",
        "network",
        "warning",
        "Meta does not answer, or answers with errors of its own.",
        "Nothing to do: it is tried again by itself. If it lasts, look at Meta's status page and at the network.",
    ),
    CodeEntry(
        "blocked_by_meta",
        "pause",
        "permission",
        "error",
        "Meta refuses the store's calls as a whole, whatever items they carry.",
        "Do what the last error says. The calls are tried again by themselves at the time that the status gives.",
    ),
)

FAMILIES: dict[str, CodeEntry] = {
    advice: CodeEntry(code, "meta", category, severity, sentence, advice)  # type: ignore[arg-type]  # rows of a table
    for advice, code, category, severity, sentence in (
        (
            Advice.RECONNECT,
            "meta_token_refused",
            "authentication",
            "error",
            "Meta does not accept the store's token: it expired, was revoked, or the person behind it lost access.",
        ),
        (
            Advice.CHECK_APP,
            "meta_app_refused",
            "authentication",
            "error",
            "Meta does not accept the app id and app secret that calls are made with.",
        ),
        (
            Advice.CHECK_CONNECTION,
            "meta_access_refused",
            "authentication",
            "error",
            "Meta refuses the store's access and does not say why.",
        ),
        (
            Advice.GRANT,
            "meta_permission_missing",
            "permission",
            "error",
            "The store's token may not do what the sync needs.",
        ),
        (
            Advice.ACCOUNT_QUALITY,
            "meta_account_blocked",
            "permission",
            "error",
            "Meta blocks the business or its account for a breach of its rules.",
        ),
        (
            Advice.PICK_CATALOG,
            "meta_catalog_lost",
            "catalog",
            "error",
            "The selected catalog cannot be reached with the store's token.",
        ),
        (
            Advice.WAIT,
            "meta_rate_limited",
            "rate_limit",
            "info",
            "Meta limits the number of calls at the moment.",
        ),
        (
            Advice.NEW_VERSION,
            "meta_version_retired",
            "unknown",
            "error",
            "Meta no longer serves the Graph API version that the store uses.",
        ),
        (
            Advice.HALVE,
            "meta_call_too_large",
            "unknown",
            "info",
            "Meta says that the call carries too much.",
        ),
        (
            Advice.FIX,
            "meta_call_refused",
            "product",
            "error",
            "Meta understood the call and refuses what it holds.",
        ),
        (
            Advice.LATER,
            "meta_trouble",
            "network",
            "warning",
            "Meta has trouble of its own.",
        ),
        (
            Advice.CONNECT_LATER,
            "meta_not_reached",
            "network",
            "warning",
            "No connection to Meta could be made; nothing was sent.",
        ),
        (
            Advice.FIND_OUT,
            "meta_no_answer",
            "network",
            "warning",
            "The connection to Meta ended before the answer was complete.",
        ),
        (
            Advice.REPORT_REPEATED,
            "meta_answer_too_long",
            "network",
            "warning",
            "Meta's answer was longer than any that is read.",
        ),
        (
            Advice.REPORT,
            "meta_unknown_error",
            "unknown",
            "error",
            "Meta reported an error that meta-sync does not know.",
        ),
    )
}
"""What a failure of the Graph API means, by the advice that its rule in ``graph.errors`` gives: Meta's numbers are many,
the things that one can do are few."""

PIPELINE: tuple[CodeEntry, ...] = (*_ITEMS, *_BATCHES, *_PAUSES, *FAMILIES.values())
