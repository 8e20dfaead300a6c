"""Codes of jobs and imports as a whole: why one did not do all that was asked of it."""

from __future__ import annotations

from enum import StrEnum

from meta_sync.sync.code_entry import CodeEntry, table

__all__ = ["JOBS", "JobCode"]


class JobCode(StrEnum):
    """Codes that jobs and imports end with, beside those of pauses and of the API."""

    ITEMS_FAILED = "items_failed"
    CATALOG_CHANGED = "catalog_changed"
    ROWS_FAILED = "rows_failed"
    NO_ROW_IMPORTED = "no_row_imported"
    FILE_REFUSED = "file_refused"
    FILE_NOT_RECEIVED = "file_not_received"
    FILE_NOT_FETCHED = "file_not_fetched"
    IMPORT_STOPPED = "import_stopped"
    READING_STOPPED = "reading_stopped"
    READING_REFUSED = "reading_refused"
    READING_GAVE_UP = "reading_gave_up"


JOBS: tuple[CodeEntry, ...] = (
    *table(
        "job",
        "product",
        "warning",
        (
            (
                "items_failed",
                "Some items of the job failed, or Meta has given no verdict on them so far.",
                "Read the list of errors: it says of each item what is the matter. Then resync what failed.",
            ),
            (
                "rows_failed",
                "Some rows of the file could not be imported, or what the file leaves out was not deleted.",
                "Read the import's report, correct the rows that it names, and import the file again.",
            ),
        ),
    ),
    CodeEntry(
        "catalog_changed",
        "job",
        "catalog",
        "info",
        "The job ended because another Meta catalog was selected for the store.",
        "Nothing to do: a job of the new catalog's own was started when it was selected.",
    ),
    *table(
        "job",
        "product",
        "error",
        (
            (
                "no_row_imported",
                "No row of the file could be imported.",
                "Read the import's report, correct the rows, and import the file again.",
            ),
            (
                "file_refused",
                "The file cannot be read, or not to its end.",
                "Do what the message says about the file, then import it again.",
            ),
        ),
    ),
    *table(
        "job",
        "network",
        "error",
        (
            (
                "file_not_received",
                "The file of the import did not come whole.",
                "Upload the file again, in parts if it is larger than is taken here.",
            ),
            (
                "file_not_fetched",
                "The file could not be fetched from its address.",
                "Check the address and what it needs to be read, as the message says, and import it again.",
            ),
        ),
    ),
    CodeEntry(
        "import_stopped",
        "job",
        "unknown",
        "error",
        "The import ended before its file did, for a reason that is not in the file's rows.",
        "Upload the file again, in parts if it is large. If it stops again, look at the worker's log.",
    ),
    *table(
        "job",
        "unknown",
        "error",
        (
            (
                "reading_stopped",
                "Reading the catalog at Meta ended early because of a fault of the service.",
                "Start it again. If it stops again, look at the worker's log.",
            ),
            (
                "reading_refused",
                "Meta refused to let the catalog be read.",
                "Do what the message says, or start it again later.",
            ),
            (
                "reading_gave_up",
                "The catalog could not be read at Meta for a day.",
                "Run the connection check and mend what it names, then start it again.",
            ),
        ),
    ),
)
