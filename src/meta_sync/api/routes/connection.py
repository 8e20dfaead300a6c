"""The connection to Meta and the sync as a whole: token, catalog, status, settings, full sync."""

from __future__ import annotations

from meta_sync.access.models import Permission
from meta_sync.api.context import Context
from meta_sync.api.documentation import errors
from meta_sync.api.routing import router
from meta_sync.api.schemas.base import answer
from meta_sync.api.schemas.connection import (
    BootstrapAnswer,
    BootstrapResult,
    MetaConnectionStatus,
    SelectCatalogBody,
    SelectedCatalogAnswer,
    StatusAnswer,
    TokenAnswer,
    TokenBody,
)
from meta_sync.api.schemas.settings import SettingsAnswer, SettingsPatch
from meta_sync.api.security import requires

__all__ = ["routes"]

routes = router("Connection")


@routes.post(
    "/admin/meta/token",
    operation_id="setToken",
    summary="Connect with a token",
    description="Checks the token with Meta, stores it encrypted and goes on with it. It is never shown again.",
    responses=errors(
        "CONFLICT", "meta_misconfigured", "meta_account_error", "meta_graph_error", "meta_rate_limited"
    ),
)
@requires(Permission.CATALOG_MANAGE)
async def set_token(context: Context, body: TokenBody) -> TokenAnswer:
    stored = await context.factory.connection().set_token(
        context.store_id, body.access_token, actor=context.actor
    )
    return answer(TokenAnswer, stored)


@routes.post(
    "/admin/meta/select-catalog",
    operation_id="selectCatalog",
    summary="Select the Meta catalog",
    description=(
        "Makes a Meta catalog the one the store is synced to and starts its first sync. Selecting the active one again"
        " changes nothing."
    ),
    responses=errors(
        "CONFLICT",
        "meta_misconfigured",
        "meta_account_error",
        "meta_not_connected",
        "meta_graph_error",
        "meta_rate_limited",
    ),
)
@requires(Permission.CATALOG_MANAGE)
async def select_catalog(context: Context, body: SelectCatalogBody) -> SelectedCatalogAnswer:
    selected = await context.factory.connection().select_catalog(
        context.store_id,
        body.business_id,
        body.business_name,
        body.catalog_id,
        body.catalog_name,
        enable_sync=body.enable_sync,
        dry_run=body.dry_run,
        actor=context.actor,
    )
    return answer(SelectedCatalogAnswer, selected)


@routes.get(
    "/admin/meta/status",
    operation_id="getStatus",
    summary="Read how the sync stands",
    description="Connection, configuration, counts by status, and why nothing is sent when nothing is.",
)
@requires(Permission.CATALOG_VIEW)
async def get_status(context: Context) -> StatusAnswer:
    status = await context.factory.status().status(context.store_id)
    return answer(StatusAnswer, MetaConnectionStatus.of(status))


@routes.get(
    "/admin/meta/settings",
    operation_id="getSettings",
    summary="Read the settings",
    description="Every setting of the store. Secrets only say whether they are there.",
)
@requires(Permission.CATALOG_VIEW)
async def get_settings(context: Context) -> SettingsAnswer:
    return answer(SettingsAnswer, await context.factory.stores().settings_view(context.store_id))


@routes.patch(
    "/admin/meta/settings",
    operation_id="updateSettings",
    summary="Change settings",
    description="A key that is absent stays; null puts it back to its default. Effective at once.",
    responses=errors("CONFLICT"),
)
@requires(Permission.CATALOG_MANAGE)
async def update_settings(context: Context, body: SettingsPatch) -> SettingsAnswer:
    changed = await context.factory.stores().patch_settings(context.store_id, body, actor=context.actor)
    return answer(SettingsAnswer, changed)


@routes.post(
    "/admin/meta/bootstrap",
    operation_id="bootstrap",
    summary="Sync everything",
    description="Starts a job that looks at every variant. What Meta has as it should be costs no call.",
    status_code=202,
    responses=errors("CONFLICT", "meta_not_connected"),
)
@requires(Permission.CATALOG_MANAGE, idempotent=True)
async def bootstrap(context: Context) -> BootstrapAnswer:
    started = await context.factory.jobs().start_bootstrap(context.store_id, requested_by=context.actor)
    result = BootstrapResult(enqueued_variants=started.total, job_id=started.job_id)
    return answer(BootstrapAnswer, result, 202)
