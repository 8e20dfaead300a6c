"""May an item be sent to Meta at all? One reason when not, with what to do about it.

The reasons are checked in one fixed order, so that an item always shows the same one. Checking the content makes the
required fields, and the mapping goes on from them.
"""

from __future__ import annotations

from enum import StrEnum

from meta_sync.catalog.models import CatalogItem
from meta_sync.sync.codes import entry_of
from meta_sync.sync.mapping_draft import Draft
from meta_sync.sync.mapping_plan import MappingPlan, plan_for
from meta_sync.sync.mapping_required import (
    fill_id,
    fill_identifiers,
    fill_images,
    fill_link,
    fill_price,
    fill_title,
)
from meta_sync.sync.mapping_settings import MappingSettings

__all__ = ["IneligibleReason", "draft_required", "eligibility", "state_reason"]


class IneligibleReason(StrEnum):
    """Why an item is not sent. The order is the order of the checks."""

    PRODUCT_DELETED = "product_deleted"
    VARIANT_DELETED = "variant_deleted"
    EXCLUDED_BY_OPERATOR = "excluded_by_operator"
    PRODUCT_NOT_ACTIVE = "product_not_active"
    PRODUCT_NOT_PUBLIC = "product_not_public"
    MISSING_PRICE = "missing_price"
    MISSING_STOREFRONT_SLUG = "missing_storefront_slug"
    MISSING_TITLE = "missing_title"
    MISSING_IMAGE = "missing_image"
    MISSING_IDENTIFIER = "missing_identifier"
    INVALID_ID = "invalid_id"

    @property
    def sentence(self) -> str:
        """What is the matter, for a merchant."""
        return entry_of(self).sentence

    @property
    def next_step(self) -> str:
        """What to do about it."""
        return entry_of(self).action


def eligibility(
    item: CatalogItem, settings: MappingSettings, *, excluded: bool, retailer_id: str | None
) -> IneligibleReason | None:
    """Why the item may not be sent, or ``None`` when it may.

    Parameters
    ----------
    excluded
        A person took the item off Meta.
    retailer_id
        The id the item was first sent under; ``None`` when it was never sent, then the settings' template says it.
    """
    reason = state_reason(item, excluded=excluded)
    return reason or draft_required(item, plan_for(settings), Draft(), retailer_id)


def state_reason(item: CatalogItem, *, excluded: bool) -> IneligibleReason | None:
    """The reasons that lie in what the store or a person wants, not in the content."""
    if item.product_deleted:
        return IneligibleReason.PRODUCT_DELETED
    if item.variant_deleted:
        return IneligibleReason.VARIANT_DELETED
    if excluded:
        return IneligibleReason.EXCLUDED_BY_OPERATOR
    if item.status != "active":
        return IneligibleReason.PRODUCT_NOT_ACTIVE
    if item.visibility != "public":
        return IneligibleReason.PRODUCT_NOT_PUBLIC
    return None


def draft_required(
    item: CatalogItem, plan: MappingPlan, draft: Draft, retailer_id: str | None, image_version: int = 0
) -> IneligibleReason | None:
    """Put the required fields into the draft, or stop at the first that cannot be had and name it."""
    if not fill_price(item, plan, draft):
        return IneligibleReason.MISSING_PRICE
    if not fill_link(item, plan, draft):
        return IneligibleReason.MISSING_STOREFRONT_SLUG
    if not fill_title(item, draft):
        return IneligibleReason.MISSING_TITLE
    if not fill_images(item, plan, draft, image_version):
        return IneligibleReason.MISSING_IMAGE
    if not fill_identifiers(item, plan, draft):
        return IneligibleReason.MISSING_IDENTIFIER
    if not fill_id(item, plan, draft, retailer_id):
        return IneligibleReason.INVALID_ID
    return None
