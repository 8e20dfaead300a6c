"""The questions to Meta behind a connection, and what has to be there before they can be asked. Writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.connection import repository
from meta_sync.connection.graph_errors import account_error, misconfigured, not_connected, service_error
from meta_sync.connection.models import StoredCredential, TokenVerdict
from meta_sync.connection.token_check import require_usable_token
from meta_sync.core.config import Settings
from meta_sync.core.crypto import Cipher, DecryptionError
from meta_sync.graph.auth import GraphCredential
from meta_sync.graph.client import GraphClient
from meta_sync.graph.endpoints.catalog import CatalogEndpoints
from meta_sync.graph.endpoints.oauth import OAuthEndpoints
from meta_sync.graph.errors import CredentialsError, GraphError
from meta_sync.graph.wire import CatalogInfo
from meta_sync.stores.repository import app_credentials, load_settings

__all__ = ["App", "ask_about_token", "read_product_catalog", "store_app", "usable_token"]


@dataclass(frozen=True, slots=True)
class App:
    """The Meta app a store uses, and the version of the API it speaks."""

    app_id: str
    app_secret: SecretStr
    graph_version: str


async def store_app(connection: AsyncConnection, store_id: str, cipher: Cipher, settings: Settings) -> App:
    """The app to call Meta with.

    Raises
    ------
    NotFoundError
        There is no such store.
    ServiceError
        ``meta_misconfigured``: there is no app, or its secret cannot be read.
    """
    own, _ = await load_settings(connection, store_id)
    try:
        app_id, app_secret = await app_credentials(connection, store_id, cipher, settings)
    except DecryptionError as error:
        raise misconfigured(f"The store's app secret cannot be read: {error}. Set it again.") from None
    if not app_id or app_secret is None or not app_secret.get_secret_value():
        raise misconfigured(
            "No Meta app is configured. Set appId and appSecret in the store's settings, or META_SYNC_APP_ID and "
            "META_SYNC_APP_SECRET for all stores."
        )
    return App(app_id, app_secret, own.graph_version)


async def usable_token(
    connection: AsyncConnection, store_id: str, cipher: Cipher, app: App, *, now: datetime
) -> StoredCredential:
    """The store's token, unless it is known not to work: Meta is not asked with such a one.

    Raises
    ------
    ServiceError
        ``meta_not_connected``: there is none, it expired, or Meta refused it before. ``meta_account_error``: it belongs
        to another app. ``meta_misconfigured``: it cannot be read.
    """
    try:
        token = await repository.active_credential(connection, cipher, store_id)
    except DecryptionError as error:
        raise misconfigured(f"The stored token cannot be read: {error}. Set it again.") from None
    if token is None:
        raise not_connected("The store is not connected to Meta. Set an access token first.")
    if token.dead_at is not None:
        raise not_connected(
            f"Meta no longer accepts the store's token ({token.dead_reason}). Set a new one first."
        )
    if token.expires_at is not None and token.expires_at <= now:
        raise not_connected("The store's token has expired. Set a new one first.")
    if token.app_id != app.app_id:
        raise account_error(
            f"The store's token was issued to the Meta app {token.app_id}, but the store now uses the app "
            f"{app.app_id}. Set a token of that app.",
            category="authentication",
        )
    return token


async def ask_about_token(graph: GraphClient, app: App, token: SecretStr, *, now: datetime) -> TokenVerdict:
    """What Meta says of a token.

    Raises
    ------
    ServiceError
        ``meta_account_error``: the token will not do. ``meta_misconfigured``: Meta does not accept the app.
        ``meta_graph_error`` and ``meta_rate_limited``: Meta could not be asked.
    """
    oauth = OAuthEndpoints(graph.for_version(app.graph_version))
    try:
        info = (await oauth.debug_token(app.app_id, app.app_secret, token)).value
    except CredentialsError as error:
        raise misconfigured(
            f"Meta does not accept the app id {app.app_id} with its app secret: {error.message} Check appId and "
            "appSecret.",
            error,
        ) from None
    except GraphError as error:
        raise service_error(error) from None
    kind = require_usable_token(info, app_id=app.app_id, now=now)
    try:
        identity = (await oauth.me(GraphCredential(token, app.app_id, app.app_secret))).value
    except GraphError as error:
        raise service_error(error) from None
    return TokenVerdict(kind, info.user_id or identity.id, identity.name, info.scopes, info.expires_at)


async def read_product_catalog(
    graph: GraphClient, app: App, token: StoredCredential, catalog_id: str
) -> CatalogInfo:
    """A catalog, read with the store's token, that can hold products.

    Raises
    ------
    GraphError
        Meta did not give it.
    ServiceError
        ``meta_account_error``: it is one for something else than products.
    """
    endpoints = CatalogEndpoints(graph.for_version(app.graph_version))
    credential = GraphCredential(token.access_token, app.app_id, app.app_secret)
    catalog = (await endpoints.get_catalog(credential, catalog_id)).value
    if catalog.id != catalog_id or catalog.vertical != "commerce":
        raise account_error(
            f"{catalog_id} is not a catalog for products: its vertical is {catalog.vertical or 'unknown'}, and only "
            "commerce can hold them. Select or create another one.",
            category="catalog",
        )
    return catalog
