"""A store's mapping settings made ready once, so that the work per row is small."""

from __future__ import annotations

from functools import lru_cache

from meta_sync.sync.mapping_identity import IdTemplate
from meta_sync.sync.mapping_money import PriceFormat
from meta_sync.sync.mapping_settings import MappingSettings
from meta_sync.sync.mapping_stock import QUANTITY_CAPS
from meta_sync.sync.mapping_text import clean_text
from meta_sync.sync.mapping_urls import LinkTemplate, MediaBase
from meta_sync.sync.mapping_words import CONDITIONS, fold

__all__ = ["MappingPlan", "plan_for"]


class MappingPlan:
    """What the mapping of one store needs, precomputed.

    Raises
    ------
    KeyError
        The settings' currency is not an active one.
    """

    __slots__ = ("brand_fallback", "default_condition", "ids", "links", "media", "prices", "quantity_cap")

    def __init__(self, settings: MappingSettings) -> None:
        self.prices = PriceFormat(settings.currency)
        self.links = LinkTemplate(settings.storefront_base_url, settings.storefront_product_path)
        self.media = MediaBase(settings.media_base_url)
        self.ids = IdTemplate(settings.retailer_id_template)
        self.quantity_cap = QUANTITY_CAPS[settings.quantity_policy]
        self.default_condition = CONDITIONS.get(fold(settings.default_condition), "new")
        self.brand_fallback = clean_text(settings.default_brand or "")
        """The brand of items without one of their own; may be empty."""
        if not self.brand_fallback and settings.identifier_exists_fallback:
            self.brand_fallback = clean_text(settings.business_name or "")


@lru_cache(maxsize=64)
def plan_for(settings: MappingSettings) -> MappingPlan:
    """The plan of the settings; a few are kept, for callers that map single items."""
    return MappingPlan(settings)
