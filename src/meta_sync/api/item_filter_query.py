"""The conditions by which items are found, as parameters that several lists share. Reads nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Depends, Query

from meta_sync.api.schemas.items import LANE_NAMES
from meta_sync.catalog.models import Lane
from meta_sync.sync.item_filters import ItemFilter, ItemSort

__all__ = ["ItemFilterQuery"]


def _item_filter(
    *,
    search: Annotated[
        str | None,
        Query(
            max_length=200, description="Text within variant id, sku, title or slug; case does not matter."
        ),
    ] = None,
    eligible_only: Annotated[
        bool,
        Query(
            alias="eligibleOnly", description="Only variants of active, public products that are not deleted."
        ),
    ] = False,
    product_id: Annotated[
        str | None, Query(alias="productId", description="Only items of this product.")
    ] = None,
    lane: Annotated[
        Literal["live", "content", "bulk"] | None, Query(description="Only items that wait in this lane.")
    ] = None,
    error_code: Annotated[
        str | None, Query(alias="errorCode", description="Only items with this code.")
    ] = None,
    sort: Annotated[ItemSort, Query(description="Order of the list.")] = ItemSort.LAST_PUSHED_AT,
) -> ItemFilter:
    return ItemFilter(
        search=search or None,
        eligible_only=eligible_only,
        product_id=product_id,
        lane=Lane(LANE_NAMES.index(lane)) if lane else None,
        error_code=error_code,
        sort=sort,
    )


ItemFilterQuery = Annotated[ItemFilter, Depends(_item_filter)]
"""Every condition but the status, which not every list has."""
