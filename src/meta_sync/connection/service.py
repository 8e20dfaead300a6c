"""Connecting a store to Meta: its token and its catalog.

Every call to Meta happens between two transactions; the second one looks again at what the first one read.
"""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.connection import neighbours, repository
from meta_sync.connection.audit import record_selection, record_sync_switch, record_token, token_told
from meta_sync.connection.graph_errors import service_error
from meta_sync.connection.inputs import Selection, checked_selection, checked_token
from meta_sync.connection.inquiries import (
    App,
    ask_about_token,
    read_product_catalog,
    store_app,
    usable_token,
)
from meta_sync.connection.models import (
    ActiveLink,
    LinkListener,
    SelectResult,
    StoredCredential,
    TokenVerdict,
    graph_host,
)
from meta_sync.core.clock import Clock
from meta_sync.core.config import Settings
from meta_sync.core.crypto import Cipher
from meta_sync.core.db import Database, retry_transaction
from meta_sync.core.errors import ConflictError
from meta_sync.core.ids import new_id
from meta_sync.core.queue import JobName, JobQueue
from meta_sync.graph.client import GraphClient
from meta_sync.graph.errors import CredentialsError, GraphError
from meta_sync.graph.wire import CatalogInfo
from meta_sync.stores.audit import COMMAND_LINE
from meta_sync.stores.repository import lock_settings, lock_store, require_possible_id, write_settings

__all__ = ["ConnectionService"]

_TAKEN = "This Meta catalog is already in use here. Select another one, or end its use first."


class ConnectionService:
    """Sets a store's token and selects its catalog.

    Parameters
    ----------
    database, cipher
        Where tokens and links are, and what encrypts the tokens.
    graph
        The client for Meta; asked in the store's own API version.
    settings
        Of the process: the Graph address, and the app of stores that have none of their own.
    listener
        Acts on a selection inside its transaction.
    queue
        Woken after what was committed.
    clock
        Judges the expiry that Meta names.
    """

    def __init__(  # noqa: PLR0917 - wired once, by the factory
        self,
        database: Database,
        cipher: Cipher,
        graph: GraphClient,
        settings: Settings,
        listener: LinkListener,
        queue: JobQueue,
        clock: Clock,
    ) -> None:
        self._database = database
        self._cipher = cipher
        self._graph = graph
        self._settings = settings
        self._listener = listener
        self._queue = queue
        self._clock = clock
        self._host = graph_host(settings.graph_url)

    async def set_token(
        self, store_id: str, access_token: SecretStr, *, actor: str = COMMAND_LINE
    ) -> dict[str, Any]:
        """Check a token with Meta and make it the store's. The selected catalog goes on with it.

        Here and below ``actor`` is who asks, for the audit log; whoever has no credential is at the command line.

        Returns
        -------
        dict
            What became known of the token, in camel case; never the token.

        Raises
        ------
        NotFoundError
            There is no such store.
        ValidationFailedError
            It is no token.
        ServiceError
            ``meta_misconfigured``: no app is configured, or Meta does not accept it. ``meta_account_error``: Meta says
            that the token will not do. ``meta_graph_error`` and ``meta_rate_limited``: Meta could not be asked.
        ConflictError
            The store's app was changed at the same time.
        """
        require_possible_id(store_id)
        token = checked_token(access_token)
        async with self._database.store(store_id) as connection:
            app = await store_app(connection, store_id, self._cipher, self._settings)
        verdict = await ask_about_token(self._graph, app, token, now=self._clock())
        stored = await retry_transaction(lambda: self._store_token(store_id, app, token, verdict, actor))
        await self._wake(JobName.DRAIN, JobName.POLL)
        return {
            "connected": True,
            "accountId": stored.account_id,
            "accountName": stored.account_name,
            "connectedAt": stored.created_at.isoformat(),
            "scope": ",".join(stored.scopes),
            "tokenKind": stored.token_kind,
            "tokenExpiresAt": stored.expires_at.isoformat() if stored.expires_at else None,
        }

    async def select_catalog(
        self,
        store_id: str,
        business_id: str,
        business_name: str,
        catalog_id: str,
        catalog_name: str,
        *,
        enable_sync: bool | None,
        dry_run: bool,
        actor: str = COMMAND_LINE,
    ) -> SelectResult:
        """Make a Meta catalog the one the store is synced to, and start its first sync.

        The catalog that is selected already stays as it is; one that was selected before is returned to. A dry run
        checks everything and writes nothing.

        Raises
        ------
        NotFoundError
            There is no such store.
        ValidationFailedError
            An id or a name is missing or too long.
        ServiceError
            ``meta_not_connected``: there is no token, or Meta no longer accepts it. ``meta_misconfigured``: no app.
            ``meta_account_error``: the catalog is out of reach or not one for products. ``meta_graph_error`` and
            ``meta_rate_limited``: Meta could not be asked.
        ConflictError
            The catalog is in use by another store, or the token was changed at the same time.
        """
        require_possible_id(store_id)
        wanted = checked_selection(business_id, business_name, catalog_id, catalog_name)
        async with self._database.store(store_id) as connection:
            app = await store_app(connection, store_id, self._cipher, self._settings)
            token = await usable_token(connection, store_id, self._cipher, app, now=self._clock())
        catalog = await self._read_catalog(app, token, wanted.catalog_id)
        await self._require_free(store_id, catalog.id)
        if dry_run:
            waits = await self._would_wait(store_id, catalog)
            return SelectResult(token.system_user_id, catalog.id, token.token_kind, None, waits)
        try:
            link, job_id = await retry_transaction(
                lambda: self._select(store_id, token, catalog, wanted, enable_sync=enable_sync, actor=actor)
            )
        except IntegrityError as error:
            # Two stores at the same moment: the index decides which of them is first.
            if "catalog_links_one_store" not in str(error.orig):
                raise
            raise ConflictError(_TAKEN) from None
        await self._wake(JobName.JOBS, JobName.DRAIN, JobName.POLL)
        waits = link.first_run_approved_at is None
        return SelectResult(link.system_user_id, link.catalog_id, link.token_kind, job_id, waits)

    async def active_link(self, connection: AsyncConnection, store_id: str) -> ActiveLink | None:
        """The link a store uses now, read in the caller's transaction."""
        return await repository.active_link(connection, store_id)

    async def _store_token(
        self, store_id: str, app: App, token: SecretStr, verdict: TokenVerdict, actor: str
    ) -> StoredCredential:
        async with self._database.store(store_id) as connection:
            await lock_store(connection, store_id)
            now = await store_app(connection, store_id, self._cipher, self._settings)
            if now.app_id != app.app_id:
                raise ConflictError(
                    "The app of this store was changed at the same time. Set the token again."
                )
            former = await token_told(connection, store_id)
            stored = await repository.insert_active_credential(
                connection,
                self._cipher,
                credential_id=new_id("cred"),
                store_id=store_id,
                access_token=token,
                app_id=app.app_id,
                verdict=verdict,
            )
            await repository.use_credential(connection, stored)
            await repository.delete_unused_credentials(connection, store_id)
            await neighbours.end_reconnect_pause(connection, store_id)
            await neighbours.make_due(connection, store_id)
            await record_token(connection, stored, actor, before=former)
            return stored

    async def _read_catalog(self, app: App, token: StoredCredential, catalog_id: str) -> CatalogInfo:
        try:
            return await read_product_catalog(self._graph, app, token, catalog_id)
        except GraphError as error:
            if isinstance(error, CredentialsError) and error.account_state == "needs_reconnect":
                await self._bury(token, error)
            raise service_error(error) from None

    async def _bury(self, token: StoredCredential, error: GraphError) -> None:
        async with self._database.store(token.store_id) as connection:
            await repository.mark_dead(
                connection, token.credential_id, error.code, error.subcode, error.message
            )

    async def _require_free(self, store_id: str, catalog_id: str) -> None:
        async with self._database.platform() as connection:
            if await repository.is_used_elsewhere(
                connection, store_id, host=self._host, catalog_id=catalog_id
            ):
                raise ConflictError(_TAKEN)

    async def _would_wait(self, store_id: str, catalog: CatalogInfo) -> bool:
        """Whether the first run into the catalog waits for approval once it is selected."""
        async with self._database.store(store_id) as connection:
            known = await repository.known_link(connection, store_id, host=self._host, catalog_id=catalog.id)
        if known is not None and (known.active or known.is_approved):
            return not known.is_approved
        return catalog.product_count != 0

    async def _select(
        self,
        store_id: str,
        token: StoredCredential,
        catalog: CatalogInfo,
        wanted: Selection,
        *,
        enable_sync: bool | None,
        actor: str,
    ) -> tuple[ActiveLink, str | None]:
        async with self._database.store(store_id) as connection:
            settings = await lock_settings(connection, store_id)
            now = await repository.active_credential(connection, self._cipher, store_id)
            if now is None or now.credential_id != token.credential_id or now.dead_at is not None:
                raise ConflictError(
                    "The store's token was changed at the same time. Select the catalog again."
                )
            if enable_sync is not None and enable_sync != settings.sync_enabled:
                # Payloads do not depend on it, so the mapping epoch stays.
                changed = settings.model_copy(update={"sync_enabled": enable_sync})
                await write_settings(connection, store_id, changed, raise_mapping_epoch=False)
                await neighbours.make_due(connection, store_id)
                await record_sync_switch(connection, store_id, actor, enabled=enable_sync)
            link = await repository.active_link(connection, store_id)
            if link is not None and (link.graph_host, link.catalog_id) == (self._host, catalog.id):
                await repository.update_catalog_facts(connection, link.link_id, catalog)
                # Meta has just shown it to us: access that was lost is there again.
                if await neighbours.end_reconnect_pause(connection, store_id):
                    await neighbours.make_due(connection, store_id)
                return link, None
            former = link
            link, is_known = await repository.activate_link(
                connection,
                token,
                catalog,
                host=self._host,
                catalog_name=wanted.catalog_name,
                business_id=wanted.business_id,
                business_name=wanted.business_name,
            )
            job_id = await self._listener.link_selected(connection, link, returning=is_known)
            await record_selection(connection, former, link, actor, job_id=job_id)
            return link, job_id

    async def _wake(self, *names: JobName) -> None:
        for name in names:
            await self._queue.wake(name)
