"""Bodies of imports."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from meta_sync.api.path_ids import href
from meta_sync.api.schemas.base import Answer, PagedAnswer, View
from meta_sync.catalog.ingest.imports import ImportFinding, ImportView

__all__ = ["Import", "ImportAnswer", "ImportPage", "StartedImport", "StartedImportAnswer"]


class ImportCounts(View):
    """Items of the file. created + changed + unchanged + skipped + failed = all of them."""

    rows: int
    products: int
    variants: int
    created: int
    changed: int
    unchanged: int
    skipped: int
    failed: int


class ImportRowError(View):
    """One row that did not go in."""

    row: int
    field: str
    message: str
    item_id: str | None

    @classmethod
    def of(cls, finding: ImportFinding) -> ImportRowError:
        """The failure as answered."""
        return cls(row=finding.row, field=finding.field, message=finding.message, item_id=finding.item_id)


class Import(View):
    """One import as it stands."""

    import_id: str
    status: str = Field(
        description="uploading, queued, running, success, partial (some rows failed) or error."
    )
    format: str | None
    mode: str
    source: str | None
    file_name: str | None
    size_bytes: int
    progress: int = Field(description="Percent of the file that is settled.")
    counts: ImportCounts
    message: str | None
    requested_by: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    errors: list[ImportRowError] = Field(description="The first 100; the report has all.")
    href: str

    @classmethod
    def of(cls, view: ImportView) -> Import:
        """The import as answered."""
        shown = {
            name: getattr(view, name) for name in cls.model_fields if name not in {"counts", "errors", "href"}
        }
        return cls(
            **shown,
            counts=ImportCounts.model_validate(view.counts),
            errors=[ImportRowError.of(finding) for finding in view.errors],
            href=href("/catalog/imports", view.import_id),
        )


class StartedImport(View):
    """An upload that was taken in."""

    import_id: str
    status: str
    href: str


class ImportAnswer(Answer):
    data: Import


class ImportPage(PagedAnswer):
    data: list[Import]


class StartedImportAnswer(Answer):
    data: StartedImport
