"""Who calls: token, proof of the app secret, scope and access to the object, checked in Graph's order."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime

from meta_sync.sandbox.errors import GraphError, access_lost, missing_permission, token_error
from meta_sync.sandbox.model import AccessToken
from meta_sync.sandbox.state import SandboxState
from meta_sync.sandbox.wire import Call

__all__ = [
    "app_token",
    "authenticate",
    "check_business",
    "check_catalog",
    "check_scopes",
    "expiry_text",
    "token_fault",
]

_PROOF_LIFETIME_SECONDS = 300
"""Documented for proofs that carry a time."""


def app_token(state: SandboxState) -> str:
    """The app's own token: id and secret joined by a bar."""
    return f"{state.options.app_id}|{state.options.app_secret}"


def expiry_text(epoch_seconds: float) -> str:
    """An instant the way Graph writes it into its sentences."""
    return datetime.fromtimestamp(epoch_seconds, UTC).strftime("%A, %d-%b-%y %H:%M:%S UTC")


def token_fault(state: SandboxState, token: AccessToken | None) -> GraphError | None:
    """Why a token opens nothing, or ``None`` when it is alive."""
    if token is None:
        return token_error(None)
    now = state.now()
    expires_at = token.expires_at
    if token.dead_subcode is not None or (expires_at is not None and expires_at <= now):
        subcode = 463 if token.dead_subcode is None else token.dead_subcode
        return token_error(
            subcode or None,
            app_id=state.options.app_id,
            expired=expiry_text(now if expires_at is None else min(expires_at, now)),
            now=expiry_text(now),
        )
    return None


def authenticate(state: SandboxState, call: Call) -> AccessToken:
    """The token of a call, alive and with a right proof if one was sent or is required.

    Raises
    ------
    GraphError
        190 for the token, 100 for the proof.
    """
    token = state.tokens.get(call.token or "")
    fault = token_fault(state, token)
    if fault is not None or token is None:
        raise fault or token_error(None)
    check_proof(state, call)
    return token


def check_proof(state: SandboxState, call: Call) -> None:
    """Check ``appsecret_proof``, plain or with ``appsecret_time``.

    Raises
    ------
    GraphError
        100 when it is wrong, too old, or missing while the app requires it.
    """
    proof = call.text("appsecret_proof")
    if not proof:
        if state.options.require_proof:
            raise GraphError(
                100,
                "API calls from the server require an appsecret_proof argument",
                type_="GraphMethodException",
            )
        return
    message = call.token or ""
    stamp = call.text("appsecret_time")
    fresh = True
    if stamp:
        message = f"{message}|{stamp}"
        fresh = abs(state.now() - call.integer("appsecret_time", 0)) <= _PROOF_LIFETIME_SECONDS
    expected = hmac.new(state.options.app_secret.encode(), message.encode(), hashlib.sha256).hexdigest()
    if not fresh or not hmac.compare_digest(proof.encode(), expected.encode()):
        raise GraphError(
            100, "Invalid appsecret_proof provided in the API argument", type_="GraphMethodException"
        )


def check_scopes(token: AccessToken, scopes: tuple[str, ...]) -> None:
    """Refuse a token that lacks a permission.

    Raises
    ------
    GraphError
        200 naming the first scope it lacks.
    """
    for scope in scopes:
        if scope not in token.scopes:
            raise missing_permission(scope)


def check_catalog(state: SandboxState, token: AccessToken, catalog_id: str, method: str) -> None:
    """Refuse a catalog that is not there or not assigned; the answer is the same.

    Raises
    ------
    GraphError
        100/33.
    """
    if not state.opens(token, catalog_id):
        raise access_lost(catalog_id, method)


def check_business(state: SandboxState, token: AccessToken, business_id: str, method: str) -> None:
    """Refuse a business that is not there or not the token owner's.

    Raises
    ------
    GraphError
        100/33.
    """
    if business_id not in state.businesses or business_id not in token.business_ids:
        raise access_lost(business_id, method)
