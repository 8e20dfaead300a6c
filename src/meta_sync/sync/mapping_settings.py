"""The store's settings that a payload depends on. Raising the mapping epoch goes with every change of one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["MappingSettings", "QuantityPolicy"]

QuantityPolicy = Literal["capped", "exact", "none"]


@dataclass(frozen=True, slots=True)
class MappingSettings:
    """What the mapper may know of a store."""

    currency: str
    storefront_base_url: str | None = None
    storefront_product_path: str = "/product/{slug}"
    media_base_url: str | None = None
    default_condition: str = "new"
    default_brand: str | None = None
    business_name: str | None = None
    identifier_exists_fallback: bool = False
    retailer_id_template: str = "{variantId}"
    quantity_policy: QuantityPolicy = "capped"
