"""Bodies of imports."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from meta_sync.api.path_ids import href
from meta_sync.api.schemas.base import Answer, PagedAnswer, View
from meta_sync.catalog.ingest.imports import ImportFinding, ImportView
from meta_sync.sync.codes import explain, names_of

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
    deleted: int = Field(description="Items of the store that the file leaves out; mode replace only.")


class ImportRowError(View):
    """One row that did not go in."""

    row: int
    field: str
    message: str
    item_id: str | None
    rule: str | None = Field(
        description=f"A stable word for the reason: {names_of('import')}. More may be added."
    )
    action: str | None = Field(description="What to do about it, as a sentence.")
    value: str | None = Field(description="What the file says there, cut to 200 characters.")

    @classmethod
    def of(cls, finding: ImportFinding) -> ImportRowError:
        """The failure as answered."""
        shown = {name: getattr(finding, name) for name in cls.model_fields if name != "action"}
        return cls(**shown, action=None if finding.rule is None else explain(finding.rule).action)


class Import(View):
    """One import as it stands."""

    import_id: str
    status: str = Field(
        description="fetching, uploading, queued, running, success, partial (some rows failed, or nothing could be"
        " deleted), error or cancelled (called off; the message says what had gone in)."
    )
    format: str | None
    mode: str
    source: str | None
    file_name: str | None
    size_bytes: int
    progress: int = Field(description="Percent of the file that is settled.")
    counts: ImportCounts
    message: str | None
    error_code: str | None = Field(
        description=f"`CONFLICT` where a replacing import was refused as a whole; else one of {names_of('job')},"
        " `config_incomplete`, or null."
    )
    dry_run: bool = Field(description="Everything was judged and counted, nothing was written.")
    allow_mass_delete: bool
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
