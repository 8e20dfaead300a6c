"""Bodies of errors: the failed items of a store, and the table of codes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import ConfigDict, Field

from meta_sync.api.path_ids import href
from meta_sync.api.schemas.base import Answer, PagedAnswer, View
from meta_sync.graph.errors import Category
from meta_sync.sync.codes import CODES, CodeEntry, CodeGroup, Severity, entry_of, names_of
from meta_sync.sync.errors_list import FailedItem
from meta_sync.sync.models import Presence

__all__ = [
    "ErrorCode",
    "ErrorCodes",
    "ErrorCodesAnswer",
    "ErrorPage",
    "MetaFailedItem",
]

_EXAMPLE = entry_of("missing_price")
_CODE_EXAMPLE: dict[str, Any] = {
    "code": _EXAMPLE.code,
    "group": _EXAMPLE.group,
    "category": _EXAMPLE.category,
    "severity": _EXAMPLE.severity,
    "explanation": _EXAMPLE.sentence,
    "action": _EXAMPLE.action,
}


class MetaFailedItem(View):
    """One item that failed, why, and what to do."""

    variant_id: str = Field(description="The store's own id of the variant.")
    product_id: str = Field(description="The product that the variant belongs to.")
    product_title: str | None = Field(description="The product's title; null where it has none.")
    sku: str | None = Field(description="The variant's SKU.")
    meta_retailer_id: str | None = Field(description="The id it was first sent under.")
    last_handle: str | None = Field(description="Meta's handle of the last batch with the item.")
    attempts: int = Field(description="How often Meta refused the item in a row.")
    code: str = Field(
        description=f"Stable code of the failure: {names_of('item')} or `nothing_taken`. More may be added."
    )
    category: Category = Field(description="Kind of the cause.")
    explanation: str = Field(description="What the code means, as a sentence.")
    action: str = Field(description="What to do next, as a sentence.")
    last_error: str | None = Field(
        description="What Meta said, word for word; null where it said nothing about the item."
    )
    last_pushed_at: datetime | None = Field(description="When the item was last sent.")
    updated_at: datetime | None = Field(description="When what is recorded of the item last changed.")
    retry_at: datetime | None = Field(description="When the item is sent again by itself, if it is.")
    presence: Presence = Field(description="Whether the item, perhaps an older state of it, is at Meta.")
    pending_intent: bool = Field(description="Whether a newer state of the item waits to be looked at.")
    href: str = Field(description="Where the item in full is.")

    @classmethod
    def of(cls, failed: FailedItem) -> MetaFailedItem:
        """The item as answered."""
        item, entry = failed.item, failed.entry
        return cls(
            variant_id=item.variant_id,
            product_id=item.product_id,
            product_title=item.product_title,
            sku=item.sku,
            meta_retailer_id=item.meta_retailer_id,
            last_handle=item.last_handle,
            attempts=item.attempts,
            code=failed.code,
            category=entry.category,
            explanation=entry.sentence,
            action=entry.action,
            last_error=item.last_error,
            last_pushed_at=item.last_pushed_at,
            updated_at=item.updated_at,
            retry_at=item.retry_at,
            presence=item.presence,
            pending_intent=item.lane is not None,
            href=href("/admin/meta/items", item.variant_id),
        )


class ErrorCode(View):
    """One code that the service shows, with what it means and what to do."""

    model_config = ConfigDict(json_schema_extra={"examples": [_CODE_EXAMPLE]})

    code: str = Field(description="Stable; never used for anything else.")
    group: CodeGroup = Field(
        description=(
            f"What the code is said of. `item`, a failed item: {names_of('item')}."
            f" `skip`, an item that is left out: {names_of('skip')}."
            f" `issue`, a remark of the mapping: {names_of('issue')}."
            f" `pause`, a store that stands still: {names_of('pause')}."
            f" `batch`, a batch: {names_of('batch')}."
            f" `meta`, what a number of Meta's or a failed call means: {names_of('meta')}."
            f" `import`, the rule of a row: {names_of('import')}."
            f" `api`, an error answer: {names_of('api')}."
        )
    )
    category: Category = Field(description="Kind of the cause.")
    severity: Severity = Field(
        description=(
            "`error`: something is not as the store has it. `warning`: it works, but not as it might."
            " `info`: as somebody wanted it, or over by itself."
        )
    )
    explanation: str = Field(description="What is the matter, as a sentence.")
    action: str = Field(description="What to do next, as a sentence.")

    @classmethod
    def of(cls, entry: CodeEntry) -> ErrorCode:
        """The entry as answered."""
        return cls(
            code=entry.code,
            group=entry.group,
            category=entry.category,
            severity=entry.severity,
            explanation=entry.sentence,
            action=entry.action,
        )


class ErrorCodes(View):
    """The whole table."""

    codes: list[ErrorCode] = Field(description="Every code, in the order of the groups.")

    @classmethod
    def all(cls) -> ErrorCodes:
        """The table as answered."""
        return cls(codes=[ErrorCode.of(entry) for entry in CODES.values()])


class ErrorPage(PagedAnswer):
    data: list[MetaFailedItem]


class ErrorCodesAnswer(Answer):
    data: ErrorCodes
