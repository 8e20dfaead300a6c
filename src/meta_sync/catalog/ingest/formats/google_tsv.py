"""Google's and Meta's product feed as a table with tabs, as Google's own template is."""

from __future__ import annotations

from meta_sync.catalog.ingest.formats.google_csv import GoogleCsv

__all__ = ["GoogleTsv"]


class GoogleTsv(GoogleCsv):
    """The feed as tab-separated text. Differs from the CSV in its name and in what it looks like, not in reading."""

    name = "google-tsv"
    delimiters = frozenset("\t")
