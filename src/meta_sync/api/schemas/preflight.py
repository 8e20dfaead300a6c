"""Bodies of pre-flight reports: what a sync would make of a store's items and of its Meta catalog."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import Field

from meta_sync.api.path_ids import href
from meta_sync.api.schemas.base import Answer, Body, Flag, View
from meta_sync.api.schemas.jobs import JobStatus
from meta_sync.sync.code_entry import Severity
from meta_sync.sync.codes import explain, names_of
from meta_sync.sync.preflight_compare import CatalogTally
from meta_sync.sync.preflight_reports import Approval, PreflightReport
from meta_sync.sync.preflight_scan import Finding

__all__ = [
    "FirstRunApproval",
    "FirstRunApprovalAnswer",
    "Preflight",
    "PreflightAnswer",
    "PreflightBody",
    "PreflightList",
    "PreflightListAnswer",
    "StartedPreflight",
    "StartedPreflightAnswer",
]

_PATH = "/admin/meta/preflight"
_UP_TO = "At most 20 of them."
_CODES = f"One of the reasons why items are left out, a remark of the mapping, or {names_of('preflight')}."


class PreflightBody(Body):
    """What the report is to be about."""

    probe_images: Flag = Field(
        default=False, description="Also look whether up to 200 images can be fetched from the internet."
    )


class StartedPreflight(View):
    """A report that is being made."""

    job_id: str
    status: JobStatus
    href: str = Field(description="The report.")


class PreflightItem(View):
    """An item of the store, as an example."""

    variant_id: str
    product_id: str | None
    retailer_id: str | None = Field(description="Its id at Meta, now or later.")
    title: str | None
    message: str | None = Field(description="What is to be said of this very item.")


class PreflightFinding(View):
    """Something that was found, how often, and where."""

    code: str = Field(description=_CODES)
    severity: Severity = Field(description="How bad it is.")
    sentence: str = Field(description="What the code means.")
    action: str = Field(description="What to do about it.")
    count: int = Field(description="How many items it is about.")
    examples: list[PreflightItem] = Field(description=_UP_TO)


class PreflightImage(View):
    """An image that would not do."""

    variant_id: str
    product_id: str
    url: str = Field(description="The image's address.")
    message: str | None = Field(description="What its server answered, or what is wrong with the file.")


class PreflightImageFinding(View):
    """Something that is wrong with images."""

    code: str = Field(description="One that begins with `image_`.")
    sentence: str = Field(description="What the code means.")
    action: str = Field(description="What to do about it.")
    count: int = Field(description="How many images it is about.")
    examples: list[PreflightImage] = Field(description=_UP_TO)


class PreflightImages(View):
    """What looking at images came to. Only the main image of an item is looked at, each address once."""

    checked: int = Field(description="Different addresses that were asked; never more than 200.")
    good: int = Field(description="Of these the ones that will do.")
    findings: list[PreflightImageFinding] = Field(description="What is wrong with the others.")


class PreflightChange(View):
    """A field that would change."""

    field: str = Field(description="Its name in what is sent to Meta.")
    meta: str | None = Field(description="What Meta shows; null where it shows nothing.")
    store: str | None = Field(description="What would be sent; null where the field would be emptied.")


class PreflightCatalogItem(View):
    """An item of the Meta catalog, as an example."""

    retailer_id: str | None = Field(description="Its id at Meta.")
    variant_id: str | None = Field(description="The store's variant under this id; null where it has none.")
    title: str | None
    price: str | None = Field(description="As Meta shows it.")
    sale_price: str | None = Field(description="As Meta shows it.")
    feed_id: str | None = Field(description="The data feed that put it there.")
    changes: list[PreflightChange] = Field(description="Fields that would change.")


class PreflightKind(View):
    """Items of the Meta catalog that the same would happen to."""

    count: int = Field(description="How many items there are of the kind.")
    examples: list[PreflightCatalogItem] = Field(description=_UP_TO)


class PreflightSource(View):
    """A data feed, or another source, that writes the Meta catalog."""

    id: str
    name: str | None
    upload_type: str | None = Field(description="In Meta's words.")
    ingestion_source_type: str | None = Field(description="`PRIMARY`, `SUPPLEMENTARY`: in Meta's words.")


class PreflightCatalog(View):
    """What the Meta catalog holds, and what a sync would make of it."""

    catalog_id: str | None
    catalog_name: str | None
    items: int = Field(
        description="That Meta shows; the sum of the counts below but `created` and `salesEnded`."
    )
    created: int = Field(description="Items of the store that are not there yet.")
    unchanged: int = Field(description="There under an id of the store, and as they would be sent.")
    changed: PreflightKind = Field(
        description="There under an id of the store, and other than they would be sent."
    )
    deleted: PreflightKind = Field(description="Sent once, and no longer wanted there.")
    not_syncable: PreflightKind = Field(
        description="There under an id of the store that is not fit to be sent. They stay as they are."
    )
    foreign: PreflightKind = Field(description="There under no id of the store. They stay as they are.")
    sales_ended: PreflightKind = Field(
        description="Of `changed`: Meta shows a sale price, and the store has none now."
    )
    changed_fields: dict[str, int] = Field(description="In how many items each field would change.")
    currencies: dict[str, int] = Field(description="How many items are in which currency.")
    of_feeds: int = Field(description="How many items a data feed put there.")
    sources: list[PreflightSource] | None = Field(
        description="Who else writes the catalog; null where Meta does not let the token see it."
    )


class Preflight(View):
    """A report of what a sync would do. It is whole once `status` is `success`; until then it grows."""

    id: str
    status: JobStatus
    message: str | None = Field(description="Why it waits, or what ended it.")
    error_code: str | None
    requested_by: str | None = Field(description="The API key, or null for the service itself.")
    created_at: datetime
    finished_at: datetime | None
    waits_for_approval: bool = Field(
        description="The first sync into this catalog waits until such a report is approved."
    )
    approved_at: datetime | None = Field(description="When the first sync into the catalog was allowed.")
    approved_by: str | None = Field(description="Who allowed it; null for a catalog that was empty.")
    variants: int = Field(description="Variants of the store that were looked at.")
    syncable: int = Field(description="Of these the ones that can be sent.")
    not_syncable: list[PreflightFinding] = Field(description="Why the others cannot, most frequent first.")
    warnings: list[PreflightFinding] = Field(
        description="What is odd about items that can be sent, or about the catalog; most frequent first."
    )
    catalog: PreflightCatalog | None = Field(
        description="Null where no catalog is selected, and before it was read."
    )
    images: PreflightImages | None = Field(description="Null unless asked for with `probeImages`.")
    href: str

    @classmethod
    def of(cls, report: PreflightReport) -> Preflight:
        """The report as answered."""
        scan = report.result.get("scan", {})
        return cls.model_validate(
            {
                "id": report.job_id,
                **{name: getattr(report, name) for name in _AS_THEY_ARE},
                "variants": scan.get("variants", 0),
                "syncable": scan.get("syncable", 0),
                "not_syncable": _findings(scan.get("reasons", {})),
                "warnings": _findings(scan.get("warnings", {})),
                "catalog": _catalog(report, scan),
                "images": _images(report.result.get("images")),
                "href": href(_PATH, report.job_id),
            }
        )


_AS_THEY_ARE = (
    "status",
    "message",
    "error_code",
    "requested_by",
    "created_at",
    "finished_at",
    "waits_for_approval",
    "approved_at",
    "approved_by",
)


def _findings(found: Mapping[str, Any]) -> list[PreflightFinding]:
    findings = [_finding(code, stored) for code, stored in found.items()]
    return sorted(findings, key=lambda one: (-one.count, one.code))


def _finding(code: str, stored: Mapping[str, Any]) -> PreflightFinding:
    entry = explain(code)
    return PreflightFinding(
        code=code,
        severity=entry.severity,
        sentence=entry.sentence,
        action=entry.action,
        count=stored["count"],
        examples=[PreflightItem.model_validate({"message": None, **one}) for one in stored["examples"]],
    )


def _images(stored: Mapping[str, Any] | None) -> PreflightImages | None:
    if stored is None:
        return None
    findings = []
    for code, found in sorted(stored["findings"].items()):
        entry = explain(code)
        findings.append(
            PreflightImageFinding(
                code=code,
                sentence=entry.sentence,
                action=entry.action,
                count=found["count"],
                examples=[
                    PreflightImage.model_validate({**one, "message": one["message"] or None})
                    for one in found["examples"]
                ],
            )
        )
    return PreflightImages(checked=stored["checked"], good=stored["good"], findings=findings)


def _catalog(report: PreflightReport, scan: Mapping[str, Any]) -> PreflightCatalog | None:
    stored = report.result.get("catalog", {}).get("tally")
    if stored is None:
        return None
    tally = CatalogTally.of(stored)
    sources = report.result.get("sources")
    return PreflightCatalog(
        catalog_id=report.catalog_id,
        catalog_name=report.catalog_name,
        items=tally.items,
        created=max(0, scan.get("syncable", 0) - tally.adopted),
        unchanged=tally.unchanged,
        changed=_kind(tally.changed),
        deleted=_kind(tally.deleted),
        not_syncable=_kind(tally.unfit),
        foreign=_kind(tally.foreign),
        sales_ended=_kind(tally.sales_ended),
        changed_fields=tally.changed_fields,
        currencies=tally.currencies,
        of_feeds=tally.of_feeds,
        sources=None if sources is None else [PreflightSource.model_validate(one) for one in sources],
    )


def _kind(finding: Finding) -> PreflightKind:
    return PreflightKind(
        count=finding.count,
        examples=[
            PreflightCatalogItem.model_validate({**one, "changes": _changes(one.get("changes", {}))})
            for one in finding.examples
        ],
    )


def _changes(stored: Mapping[str, Any]) -> list[PreflightChange]:
    return [PreflightChange(field=name, meta=meta, store=store) for name, (meta, store) in stored.items()]


class PreflightList(View):
    """The newest reports."""

    reports: list[Preflight] = Field(description="At most 50, newest first.")


class FirstRunApproval(View):
    """The first sync into a catalog, allowed."""

    job_id: str
    catalog_id: str
    approved_at: datetime = Field(description="When it was allowed.")
    approved_by: str | None = Field(description="Who allowed it; null for a catalog that was empty.")

    @classmethod
    def of(cls, approval: Approval) -> FirstRunApproval:
        """The approval as answered."""
        return cls.model_validate(approval)


class StartedPreflightAnswer(Answer):
    data: StartedPreflight


class PreflightAnswer(Answer):
    data: Preflight


class PreflightListAnswer(Answer):
    data: PreflightList


class FirstRunApprovalAnswer(Answer):
    data: FirstRunApproval
