"""Adopting what only Meta has, and ending what keeps Meta's values there."""

from __future__ import annotations

from meta_sync.access.models import Permission
from meta_sync.api.context import Context
from meta_sync.api.documentation import errors
from meta_sync.api.parameters import JobIdPath, VariantIdPath
from meta_sync.api.routing import router
from meta_sync.api.schemas.adoption import (
    AdoptBody,
    AdoptResult,
    AdoptResultAnswer,
    UnpinBody,
    UnpinResult,
    UnpinResultAnswer,
)
from meta_sync.api.schemas.base import answer
from meta_sync.api.security import requires

__all__ = ["routes"]

routes = router("Reconciliations")


@routes.post(
    "/admin/meta/reconciliations/{jobId}/adopt",
    operation_id="adoptItems",
    summary="Adopt items that only Meta has",
    description=(
        "Makes products of source `meta` of items that the store never sent and that two reads agree on. Nothing is sent for"
        " them until they are changed in the store, and they are never deleted because they are not fit to be sent. Repeating"
        " it does nothing twice."
    ),
    responses=errors("CONFLICT", "meta_not_connected"),
)
@requires(Permission.CATALOG_MANAGE)
async def adopt_items(context: Context, job_id: JobIdPath, body: AdoptBody) -> AdoptResultAnswer:
    await context.factory.reconciliations().get(context.store_id, job_id)
    result = await context.factory.adoption().adopt(
        context.store_id,
        job_id,
        retailer_ids=body.retailer_ids,
        dry_run=body.dry_run,
        actor=context.actor,
    )
    return answer(AdoptResultAnswer, AdoptResult.of(result, dry_run=body.dry_run))


@routes.post(
    "/admin/meta/items/{variantId}/unpin",
    operation_id="unpinItem",
    summary="End what is pinned of an item",
    description="Sends the store's own values again in place of Meta's that were kept there.",
    responses=errors("meta_not_connected"),
)
@requires(Permission.CATALOG_MANAGE)
async def unpin_item(
    context: Context, variant_id: VariantIdPath, body: UnpinBody | None = None
) -> UnpinResultAnswer:
    fields = body.fields if body is not None else None
    ended = await context.factory.pins().unpin(
        context.store_id, variant_id, fields=fields, actor=context.actor
    )
    return answer(UnpinResultAnswer, UnpinResult(variant_id=variant_id, fields=ended))
