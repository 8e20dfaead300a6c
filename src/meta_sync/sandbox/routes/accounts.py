"""The caller and the businesses: ``/me``, ``/debug_token`` and what belongs to a business."""

from __future__ import annotations

import hmac
from typing import Any

from meta_sync.sandbox.auth import app_token, check_proof, token_fault
from meta_sync.sandbox.errors import GraphError, nonexisting_field, parameter_error, token_error
from meta_sync.sandbox.fields import words
from meta_sync.sandbox.model import AccessToken, Business, Catalog
from meta_sync.sandbox.state import SandboxState
from meta_sync.sandbox.wire import Call, page_of, select

__all__ = [
    "business_node",
    "catalog_node",
    "create_catalog",
    "debug_token",
    "me",
    "my_assigned_catalogs",
    "my_businesses",
    "my_permissions",
    "owned_catalogs",
    "shared_catalogs",
]

_VERTICALS = words(
    "adoptable_pets apps_and_software articles_and_publications commerce destinations flights generic home_listings "
    "hotels local_service_businesses media_titles offer_items offline_commerce services transactable_items "
    "vehicles"
)
_CATALOG_FIELDS = words(
    "id name business owner_business vertical product_count feed_count default_image_url fallback_image_url "
    "da_display_settings is_catalog_segment is_local_catalog catalog_store store_catalog_settings "
    "commerce_merchant_settings creator_user show_assign_permissions user_access_expire_time "
    "ad_account_to_collaborative_ads_share_settings agency_collaborative_ads_share_settings"
)
_BUSINESS_FIELDS = words(
    "id name created_time link primary_page profile_picture_uri timezone_id two_factor_type verification_status "
    "vertical vertical_id is_hidden user_access_expire_time"
)
_ME_FIELDS = frozenset({"id", "name", "client_business_id", "first_name", "last_name", "email"})


def me(_state: SandboxState, call: Call, token: AccessToken) -> dict[str, Any]:
    """``GET /me``: the owner of the token."""
    fields = call.fields(("id", "name"))
    _refuse_unknown(fields, _ME_FIELDS, "User")
    node = {
        "id": token.user_id,
        "name": token.user_name,
        "client_business_id": token.business_ids[0] if token.business_ids else None,
    }
    return select(node, fields)


def debug_token(state: SandboxState, call: Call) -> dict[str, Any]:
    """``GET /debug_token``: what a token is, asked with the app's token or a living token of the app."""
    if not hmac.compare_digest((call.token or "").encode(), app_token(state).encode()):
        caller = state.tokens.get(call.token or "")
        fault = token_fault(state, caller)
        if fault is not None:
            raise fault
        check_proof(state, call)
    inspected = state.tokens.get(call.required("input_token"))
    fault = token_fault(state, inspected)
    if fault is not None or inspected is None:
        fault = fault or token_error(None)
        error = {"code": fault.code, "message": fault.message}
        # The inner key is "subcode", unlike the envelope's.
        data: dict[str, Any] = {
            "error": error | ({} if fault.subcode is None else {"subcode": fault.subcode})
        }
        if inspected is not None:
            data |= {"app_id": state.options.app_id, "expires_at": int(inspected.expires_at or 0)}
        return {"data": data | {"is_valid": False, "scopes": []}}
    granular: list[dict[str, Any]] = []
    for scope in sorted(inspected.scopes - {"public_profile"}):
        named = inspected.catalog_ids if scope == "catalog_management" else None
        granular.append({"scope": scope} | ({"target_ids": list(named)} if named else {}))
    return {
        "data": {
            "app_id": state.options.app_id,
            "type": inspected.type,
            "application": "Sandbox App",
            "data_access_expires_at": 0,
            "expires_at": int(inspected.expires_at or 0),
            "is_valid": True,
            "issued_at": int(inspected.issued_at),
            "scopes": sorted(inspected.scopes),
            "granular_scopes": granular,
            "user_id": inspected.user_id,
        }
    }


def my_permissions(_state: SandboxState, _call: Call, token: AccessToken) -> dict[str, Any]:
    """``GET /me/permissions``."""
    return {"data": [{"permission": scope, "status": "granted"} for scope in sorted(token.scopes)]}


def my_businesses(state: SandboxState, call: Call, token: AccessToken) -> dict[str, Any]:
    """``GET /me/businesses``."""
    fields = call.fields(("id", "name"))
    _refuse_unknown(fields, _BUSINESS_FIELDS, "Business")
    known = [state.businesses[key] for key in token.business_ids if key in state.businesses]
    page, rest = page_of(call, known)
    return {"data": [select(_business_fields(business), fields) for business in page], **rest}


def business_node(state: SandboxState, call: Call, _token: AccessToken) -> dict[str, Any]:
    """``GET /{business}``."""
    fields = call.fields(("id", "name"))
    _refuse_unknown(fields, _BUSINESS_FIELDS, "Business")
    return select(_business_fields(state.businesses[call.segments[0]]), fields)


def owned_catalogs(state: SandboxState, call: Call, token: AccessToken) -> dict[str, Any]:
    """``GET /{business}/owned_product_catalogs``: those the token opens."""
    business_id = call.segments[0]
    return _catalog_page(state, call, [c for c in state.catalogs_of(token) if c.business_id == business_id])


def shared_catalogs(state: SandboxState, call: Call, token: AccessToken) -> dict[str, Any]:
    """``GET /{business}/client_product_catalogs``: catalogs other businesses lent to this one."""
    lent = state.businesses[call.segments[0]].client_catalog_ids
    return _catalog_page(state, call, [c for c in state.catalogs_of(token) if c.id in lent])


def my_assigned_catalogs(state: SandboxState, call: Call, token: AccessToken) -> dict[str, Any]:
    """``GET /me/assigned_product_catalogs``."""
    return _catalog_page(state, call, state.catalogs_of(token))


def create_catalog(state: SandboxState, call: Call, token: AccessToken) -> dict[str, Any]:
    """``POST /{business}/owned_product_catalogs``. The first catalog of a business needs accepted terms."""
    business = state.businesses[call.segments[0]]
    name = call.required("name")
    vertical = call.text("vertical", "commerce")
    if vertical not in _VERTICALS:
        raise parameter_error(f"Param vertical must be one of {{{', '.join(sorted(_VERTICALS)).upper()}}}")
    if not business.terms_accepted:
        raise GraphError(
            200,
            "(#200) The business must accept the catalog terms by creating its first catalog in Business Manager",
            status=403,
        )
    catalog = state.add_catalog(business.id, name, vertical=vertical)
    if token.catalog_ids is not None:
        token.catalog_ids = (*token.catalog_ids, catalog.id)
    return {"id": catalog.id}


def catalog_node(state: SandboxState, call: Call, _token: AccessToken) -> dict[str, Any]:
    """``GET /{catalog}``."""
    fields = call.fields(("id", "name"))
    _refuse_unknown(fields, _CATALOG_FIELDS, "ProductCatalog")
    return select(_catalog_fields(state, state.catalog(call.segments[0])), fields)


def _catalog_page(state: SandboxState, call: Call, catalogs: list[Catalog]) -> dict[str, Any]:
    fields = call.fields(("id", "name"))
    _refuse_unknown(fields, _CATALOG_FIELDS, "ProductCatalog")
    page, rest = page_of(call, catalogs)
    return {"data": [select(_catalog_fields(state, catalog), fields) for catalog in page], **rest}


def _business_fields(business: Business) -> dict[str, Any]:
    return {
        "id": business.id,
        "name": business.name,
        "verification_status": business.verification_status,
        "vertical": "RETAIL",
        "link": f"https://www.facebook.com/{business.id}",
        "is_hidden": False,
    }


def _catalog_fields(state: SandboxState, catalog: Catalog) -> dict[str, Any]:
    owner = state.businesses[catalog.business_id]
    return {
        "id": catalog.id,
        "name": catalog.name,
        "vertical": catalog.vertical,
        "business": {"id": owner.id, "name": owner.name},
        "owner_business": {"id": owner.id, "name": owner.name},
        "product_count": catalog.count(state.now()),
        "feed_count": len(catalog.data_sources),
        "is_catalog_segment": False,
        "is_local_catalog": False,
    }


def _refuse_unknown(fields: dict[str, Any], known: frozenset[str], node: str) -> None:
    for name in fields:
        if name not in known:
            raise nonexisting_field(name, node)
