"""Who a call is made as: the token, the app, and the proof that we hold the app's secret."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from pydantic import SecretStr

__all__ = ["GraphCredential", "app_credential", "appsecret_proof"]


@dataclass(frozen=True, slots=True)
class GraphCredential:
    """A token together with the app it was issued to.

    Attributes
    ----------
    access_token
        User, page, system user or app token.
    app_id
        The app the token belongs to.
    app_secret
        With it every call carries a proof; without it none does, and an app that requires proofs is refused.
    """

    access_token: SecretStr
    app_id: str
    app_secret: SecretStr | None = None


def appsecret_proof(access_token: str, app_secret: str) -> str:
    """HMAC-SHA256 of the token keyed by the app secret, in lower-case hex.

    The plain form, which lives as long as the token (Meta's page "Secure Graph API Calls"). Sending it where
    the app does not require it does no harm.
    """
    return hmac.new(app_secret.encode(), access_token.encode(), hashlib.sha256).hexdigest()


def app_credential(app_id: str, app_secret: SecretStr) -> GraphCredential:
    """The credential of the app itself, whose token is its id and secret joined by a bar (documented)."""
    return GraphCredential(SecretStr(f"{app_id}|{app_secret.get_secret_value()}"), app_id, app_secret)
