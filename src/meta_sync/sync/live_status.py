"""One item as Meta shows it at this moment: a question that a person asks. Decides nothing and sends nothing."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.connection.graph_errors import misconfigured, not_connected, service_error
from meta_sync.connection.repository import active_link
from meta_sync.core.config import Settings
from meta_sync.core.crypto import Cipher, DecryptionError
from meta_sync.core.db import Database, retry_transaction
from meta_sync.core.errors import ServiceError, UnavailableError
from meta_sync.graph.client import GraphClient
from meta_sync.graph.endpoints.catalog import CatalogEndpoints
from meta_sync.graph.errors import GraphError
from meta_sync.graph.governor import WaitUntil, decide_call
from meta_sync.graph.usage import Usage
from meta_sync.graph.wire import ProductsPage
from meta_sync.stores.repository import load_settings
from meta_sync.sync.budget import load_budget
from meta_sync.sync.context import Access, link_access, mapping_settings
from meta_sync.sync.drain import database_time
from meta_sync.sync.item_detail import read_record
from meta_sync.sync.mapping import retailer_id_for
from meta_sync.sync.mapping_settings import MappingSettings
from meta_sync.sync.meta_ids import note_meta_id
from meta_sync.sync.pauses import PauseReason, active_pauses
from meta_sync.sync.record import answer_facts

__all__ = ["LiveIssue", "LiveStatus", "LiveStatusService"]

_FIELDS = (
    "id",
    "retailer_id",
    "name",
    "availability",
    "price",
    "sale_price",
    "currency",
    "visibility",
    "review_status",
    "image_fetch_status",
    "errors",
)
_SILENT = frozenset({PauseReason.META_UNREACHABLE, PauseReason.BLOCKED_BY_META})
"""Meta does not answer, or is not to be asked. A lost token or permission may have been mended just now."""
_PAUSE_SECONDS = 60
_NOT_SET_UP = frozenset({"meta_not_connected", "meta_misconfigured"})
"""Before Meta is asked these are no faults of a question about an item, but its answer."""


@dataclass(frozen=True, slots=True)
class LiveIssue:
    """Something Meta says is wrong with an item, in its own words."""

    type: str | None
    priority: str | None
    title: str | None
    description: str | None
    call_to_action: str | None


@dataclass(frozen=True, slots=True)
class LiveStatus:
    """An item as Meta shows it. Texts are Meta's own; ``None`` where Meta shows nothing.

    Meta was not asked at all where ``catalog_id`` is absent: the only issue says what has to be set up first.
    """

    found: bool
    retailer_id: str | None
    catalog_id: str | None
    checked_at: datetime
    meta_id: str | None = None
    name: str | None = None
    availability: str | None = None
    price: str | None = None
    sale_price: str | None = None
    currency: str | None = None
    visibility: str | None = None
    review_status: str | None = None
    image_status: str | None = None
    issues: tuple[LiveIssue, ...] = ()


class LiveStatusService:
    """Asks Meta about single items, within the budget that the pipeline spends too."""

    def __init__(
        self,
        database: Database,
        graph: GraphClient,
        cipher: Cipher,
        process: Settings,
        *,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._database = database
        self._graph = graph
        self._cipher = cipher
        self._process = process
        self._jitter = jitter

    async def ask(self, store_id: str, variant_id: str) -> LiveStatus:
        """What Meta shows of the item now, found by exactly its retailer id.

        Meta shows an item some time after it has taken it.

        Raises
        ------
        NotFoundError
            The store has no such variant, or it was deleted and Meta never knew it.
        ServiceError
            ``meta_rate_limited``: Meta wants silence. ``meta_misconfigured``, ``meta_account_error`` and
            ``meta_graph_error``: Meta refused the question.
        UnavailableError
            Meta does not answer, or refuses the store's calls for a while.
        """
        async with self._database.store(store_id) as connection:
            try:
                access, retailer_id, now = await self._prepare(connection, store_id, variant_id)
            except ServiceError as error:
                if error.code not in _NOT_SET_UP:
                    raise
                return _not_asked(error, await database_time(connection))
        catalog_id = access.link.catalog_id
        if not retailer_id:
            # The template needs a value that the variant does not have: there is nothing to ask for.
            return LiveStatus(False, retailer_id, catalog_id, now)
        catalog = CatalogEndpoints(self._graph.for_version(access.graph_version))
        try:
            answer = await catalog.find_items(access.credential, catalog_id, [retailer_id], _FIELDS)
        except GraphError as error:
            failed = error
            await retry_transaction(lambda: self._note(access, Usage(), failed))
            raise service_error(error) from None
        await retry_transaction(lambda: self._note(access, answer.usage, None))
        status = _status(answer.value, retailer_id, catalog_id, now)
        async with self._database.platform() as connection:
            await note_meta_id(connection, access.link, variant_id, status.meta_id, now)
        return status

    async def _prepare(
        self, connection: AsyncConnection, store_id: str, variant_id: str
    ) -> tuple[Access, str, datetime]:
        settings, _ = await load_settings(connection, store_id)
        link = await active_link(connection, store_id)
        record = await read_record(connection, store_id, link, variant_id)
        if link is None:
            raise not_connected("No Meta catalog is selected yet.")
        try:
            access = await link_access(connection, link, settings, self._cipher, self._process)
        except DecryptionError as error:
            raise misconfigured(f"The stored token cannot be read: {error}. Set it again.") from None
        if access is None:
            raise not_connected("The store is not connected to Meta. Set an access token first.")
        if access.is_dead:
            raise not_connected("Meta no longer accepts the store's token. Set a new one first.")
        now = await database_time(connection)
        budget = await load_budget(connection, link.link_id, with_calls=False)
        waits = decide_call(budget, now, "question")
        if isinstance(waits, WaitUntil):
            raise ServiceError(
                "Meta limits the number of calls at the moment. Try again later.",
                code="meta_rate_limited",
                status=503,
                retry_after_seconds=_seconds(waits.at, now),
            )
        for pause in await active_pauses(connection, store_id, link.link_id):
            if pause.reason in _SILENT:
                raise UnavailableError(
                    f"Meta cannot be asked at the moment. {pause.message or ''}".strip(),
                    retry_after_seconds=_PAUSE_SECONDS if pause.until is None else _seconds(pause.until, now),
                )
        mapping = mapping_settings(settings, link.business_name) or MappingSettings(
            currency="USD", retailer_id_template=settings.retailer_id_template
        )
        retailer_id = record.state.retailer_id or retailer_id_for(record.item, mapping)
        return access, retailer_id, now

    async def _note(self, access: Access, usage: Usage, error: GraphError | None) -> None:
        """What the answer says of the budget, the token and the store, as after every question."""
        async with self._database.platform() as connection:
            await answer_facts(
                connection,
                access,
                usage,
                error,
                purpose="question",
                now=await database_time(connection),
                jitter=self._jitter(),
                retry_factor=1.0,
                pause_scope_link=True,
            )


def _seconds(until: datetime, now: datetime) -> int:
    return max(1, math.ceil((until - now).total_seconds()))


def _not_asked(error: ServiceError, now: datetime) -> LiveStatus:
    return LiveStatus(False, None, None, now, issues=(LiveIssue(None, None, None, error.message, None),))


def _status(page: ProductsPage, retailer_id: str, catalog_id: str, now: datetime) -> LiveStatus:
    # Meta's filters ignore case; ids do not.
    item = next((one for one in page.items if one.get("retailer_id") == retailer_id), None)
    if item is None:
        if page.has_next:
            raise ServiceError(
                "Meta's answer was cut off before the item was found. Try again in a minute.",
                code="meta_graph_error",
                status=502,
            )
        return LiveStatus(False, retailer_id, catalog_id, now)
    return LiveStatus(
        True,
        retailer_id,
        catalog_id,
        now,
        _text(item.get("id")),
        _text(item.get("name")),
        _text(item.get("availability")),
        _text(item.get("price")),
        _text(item.get("sale_price")),
        _text(item.get("currency")),
        _text(item.get("visibility")),
        _text(item.get("review_status")),
        _text(item.get("image_fetch_status")),
        tuple(_issue(one) for one in _list(item.get("errors"))),
    )


def _issue(said: Any) -> LiveIssue:
    if not isinstance(said, dict):
        return LiveIssue(None, None, None, _text(said), None)
    return LiveIssue(
        _text(said.get("error_type")),
        _text(said.get("error_priority")),
        _text(said.get("title")),
        _text(said.get("description")),
        _text(said.get("call_to_action")),
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    """Meta's value as a text; an empty one says nothing."""
    return None if value is None or value == "" else str(value)
