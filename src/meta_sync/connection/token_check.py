"""Whether a token will do, judged from what Meta's debug_token says of it. Pure."""

from __future__ import annotations

from datetime import datetime

from meta_sync.connection.graph_errors import account_error
from meta_sync.connection.models import TokenKind
from meta_sync.graph.wire import TokenInfo

__all__ = ["REQUIRED_SCOPES", "require_usable_token"]

REQUIRED_SCOPES = ("catalog_management", "business_management")
"""Permissions without which a catalog can neither be found nor written (Meta's page "Catalog Batch API")."""

_KINDS: dict[str, TokenKind] = {"USER": "user", "SYSTEM_USER": "system_user"}
_EXPIRED_SUBCODE = 463


def require_usable_token(info: TokenInfo, *, app_id: str, now: datetime) -> TokenKind:
    """The kind of a token that can be used.

    Raises
    ------
    ServiceError
        ``meta_account_error``: the token expired, is not valid, belongs to another app, is of a kind that cannot write
        catalogs, or lacks a permission. The sentence says which, and what to do.
    """
    if info.error_subcode == _EXPIRED_SUBCODE or (info.expires_at is not None and info.expires_at <= now):
        raise account_error(
            "The access token has expired. Generate a new one and set it here.",
            category="authentication",
            code=info.error_code,
            subcode=info.error_subcode,
        )
    if not info.is_valid:
        raise account_error(
            "The access token is not valid. Generate a new one and set it here.",
            category="authentication",
            code=info.error_code,
            subcode=info.error_subcode,
            said=info.error_message,
        )
    if info.app_id != app_id:
        raise account_error(
            f"The access token was issued to another Meta app ({info.app_id or 'not named'}); this store uses the app "
            f"{app_id}. Generate a token with that app, or set appId and appSecret to those of the other one.",
            category="authentication",
        )
    kind = _KINDS.get((info.type or "").upper())
    if kind is None:
        raise account_error(
            f"The access token is of the kind {(info.type or 'unknown').upper()}, which cannot write catalogs. Use the "
            "token of a System User.",
            category="authentication",
        )
    missing = [scope for scope in REQUIRED_SCOPES if scope not in info.scopes]
    if missing:
        raise account_error(
            f"The access token lacks the permission {' and '.join(missing)}. Generate one that has it and set it here.",
            category="permission",
        )
    return kind
