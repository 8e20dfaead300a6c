"""Parameters that several routes share: ids in paths, and the paging of lists."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query
from pydantic import AfterValidator

from meta_sync.api.path_ids import read_path_id
from meta_sync.core.paging import MAX_PAGE_ROWS

__all__ = [
    "CursorQuery",
    "FeedIdPath",
    "ImportIdPath",
    "ItemLimitQuery",
    "JobIdPath",
    "KeyIdPath",
    "LimitQuery",
    "PageQuery",
    "ProductIdPath",
    "StoreIdPath",
    "VariantIdPath",
]

_OWN_ID = (
    "The store's own id. One that a path cannot carry is written `~` + base64url, as in the object's `href`."
)

ProductIdPath = Annotated[str, Path(alias="productId", description=_OWN_ID), AfterValidator(read_path_id)]
VariantIdPath = Annotated[str, Path(alias="variantId", description=_OWN_ID), AfterValidator(read_path_id)]
StoreIdPath = Annotated[
    str, Path(alias="storeId", description="The store's `storeId`."), AfterValidator(read_path_id)
]
KeyIdPath = Annotated[
    str,
    Path(alias="keyId", description="The key's `keyId`, not the key itself."),
    AfterValidator(read_path_id),
]
FeedIdPath = Annotated[
    str, Path(alias="feedId", description="The feed's `feedId`."), AfterValidator(read_path_id)
]
JobIdPath = Annotated[
    str,
    Path(alias="jobId", description="The job's `id`, which answers that start one call `jobId`."),
    AfterValidator(read_path_id),
]
ImportIdPath = Annotated[
    str, Path(alias="importId", description="The import's `importId`."), AfterValidator(read_path_id)
]

PageQuery = Annotated[
    int,
    Query(
        ge=1,
        description="Page number from 1, within the first 10,000 rows. Ignored when a cursor is given.",
        # The service judges it with the limit, and names the cursor to go on with.
        json_schema_extra={"maximum": MAX_PAGE_ROWS},
    ),
]
LimitQuery = Annotated[int, Query(ge=1, le=200, description="Rows per page.")]
ItemLimitQuery = Annotated[int, Query(ge=1, le=100, description="Rows per page.")]
CursorQuery = Annotated[
    str | None,
    Query(
        max_length=4096,
        description="`nextCursor` of the page before; works at any depth, for the same filters only.",
    ),
]
