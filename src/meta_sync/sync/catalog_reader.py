"""Reads a Meta catalog for jobs: one question at a time, within the budget, between transactions and never inside one.

What the answers mean is the caller's matter. Reading never pauses a store for what Meta thinks of the question itself.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.connection.repository import active_link
from meta_sync.core.config import Settings
from meta_sync.core.crypto import Cipher, DecryptionError
from meta_sync.core.db import Database, retry_transaction
from meta_sync.graph.client import GraphClient
from meta_sync.graph.endpoints.catalog import CatalogEndpoints
from meta_sync.graph.errors import (
    AssetLostError,
    BlockedError,
    CredentialsError,
    GraphError,
    InvalidRequestError,
    NoAnswerError,
    PermissionMissingError,
    ThrottledError,
    TooLargeError,
    TransientError,
    UnreadableAnswerError,
    VersionRetiredError,
)
from meta_sync.graph.governor import BudgetState, WaitUntil, after_answer, decide_call
from meta_sync.graph.usage import Usage
from meta_sync.graph.wire import Answered, ProductsPage
from meta_sync.stores.repository import load_settings
from meta_sync.sync.budget import load_budget, save_budget
from meta_sync.sync.context import Access, link_access
from meta_sync.sync.drain import database_time
from meta_sync.sync.pauses import questions_paused_until
from meta_sync.sync.record import answer_facts

__all__ = [
    "SMALLEST_PAGE",
    "CatalogReader",
    "LinkGone",
    "NotNow",
    "Question",
    "Read",
    "Refused",
    "smaller_page",
]

SMALLEST_PAGE = 10
"""Items per question below which size cannot be what Meta objects to."""

_READING_PERCENT = 60.0
"""Of Meta's allowance for questions: from here on what is left is kept for polls, which items wait for."""
_READING_PAUSE = timedelta(minutes=5)
_AGAIN = timedelta(minutes=1)
"""Until access is looked for again that only a person can mend."""
_SIZE_ERRORS = (TooLargeError, NoAnswerError, TransientError, UnreadableAnswerError)
"""What Meta says, or does, about an answer that is too much for it; the last three may have other causes."""
_OF_THE_STORE = (
    CredentialsError,
    PermissionMissingError,
    AssetLostError,
    BlockedError,
    VersionRetiredError,
    ThrottledError,
)
"""Failures that say something of the store's connection. The others are this question's: nobody else waits for them, and
a page that Meta cannot make in time must not keep changes from being sent."""

_CODES: dict[type[GraphError], str] = {
    ThrottledError: "throttled",
    BlockedError: "blocked_by_meta",
    VersionRetiredError: "blocked_by_meta",
    CredentialsError: "needs_reconnect",
    PermissionMissingError: "needs_reconnect",
    AssetLostError: "needs_reconnect",
}

ValueT = TypeVar("ValueT")


@dataclass(frozen=True, slots=True)
class Question:
    """What a question is asked with: the catalog in use and the way to it."""

    catalog: CatalogEndpoints
    access: Access

    @property
    def catalog_id(self) -> str:
        """Meta's id of the catalog."""
        return self.access.link.catalog_id


@dataclass(frozen=True, slots=True)
class Read(Generic[ValueT]):
    """Meta's answer. ``asked_at`` is the database's time before the question: what is newer, it cannot show."""

    value: ValueT
    asked_at: datetime


@dataclass(frozen=True, slots=True)
class NotNow:
    """Nothing was learned; ask again at ``until``.

    ``code`` is of the table of codes and says why. ``is_too_much``: a smaller page may pass.
    """

    until: datetime
    code: str
    is_too_much: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Meta understands the question and refuses it: a cursor that it no longer knows, or a field or filter."""

    error: GraphError


@dataclass(frozen=True, slots=True)
class LinkGone:
    """The store uses another catalog by now, or none."""


class _Timing(Protocol):
    @property
    def retry_factor(self) -> float: ...


def smaller_page(limit: int) -> int:
    """The page to try after one that was too much."""
    return max(SMALLEST_PAGE, limit // 2)


class CatalogReader:
    """Asks questions about the catalog that a store uses. One per worker; keeps nothing between questions."""

    def __init__(
        self,
        database: Database,
        graph: GraphClient,
        cipher: Cipher,
        process: Settings,
        *,
        timing: _Timing,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._database = database
        self._graph = graph
        self._cipher = cipher
        self._process = process
        self._timing = timing
        self._jitter = jitter

    async def page(
        self,
        store_id: str,
        link_id: int,
        fields: Sequence[str],
        *,
        after: str | None,
        limit: int,
        with_total: bool = False,
    ) -> Read[ProductsPage] | NotNow | Refused | LinkGone:
        """One page of the walk over all items; short pages are no end, only a missing ``has_next`` is."""
        return await self.ask(
            store_id,
            link_id,
            lambda question: question.catalog.walk_products(
                question.access.credential,
                question.catalog_id,
                fields,
                after=after,
                limit=limit,
                with_total=with_total,
            ),
        )

    async def find(
        self, store_id: str, link_id: int, retailer_ids: Sequence[str], fields: Sequence[str]
    ) -> Read[ProductsPage] | NotNow | Refused | LinkGone:
        """Items by retailer id; a few questions when the ids are long. Meta's filters ignore case: compare exactly.

        ``has_next`` in the answer means that not everything was read.
        """
        return await self.ask(
            store_id,
            link_id,
            lambda question: question.catalog.find_items(
                question.access.credential, question.catalog_id, retailer_ids, fields
            ),
        )

    async def ask(
        self,
        store_id: str,
        link_id: int,
        question: Callable[[Question], Awaitable[Answered[ValueT]]],
    ) -> Read[ValueT] | NotNow | Refused | LinkGone:
        """Ask when it may be asked, and store what the answer says of budget, token and link."""
        ready = await self._prepare(store_id, link_id)
        if not isinstance(ready, _Ready):
            return ready
        asked = Question(CatalogEndpoints(self._graph.for_version(ready.access.graph_version)), ready.access)
        try:
            answer = await question(asked)
        except GraphError as error:
            failed = error
            return await retry_transaction(lambda: self._failed(ready.access, failed))
        await retry_transaction(lambda: self._answered(ready.access, answer.usage))
        return Read(answer.value, ready.now)

    async def _prepare(self, store_id: str, link_id: int) -> _Ready | NotNow | LinkGone:
        async with self._database.platform() as connection:
            now = await database_time(connection)
            link = await active_link(connection, store_id)
            if link is None or link.link_id != link_id:
                return LinkGone()
            settings, _ = await load_settings(connection, store_id)
            access = None
            with suppress(DecryptionError):
                access = await link_access(connection, link, settings, self._cipher, self._process)
            if access is None or access.is_dead:
                return NotNow(now + self._again(), "needs_reconnect")
            budget = await load_budget(connection, link_id, with_calls=False)
            until = _reading_waits(budget, now)
            if until is not None:
                return NotNow(until, "throttled")
            paused = await questions_paused_until(connection, store_id, link_id)
            if paused is not None:
                return NotNow(paused, "meta_unreachable")
        return _Ready(access, now)

    async def _answered(self, access: Access, usage: Usage) -> None:
        async with self._database.platform() as connection:
            await self._facts(connection, access, usage, None, await database_time(connection))

    async def _failed(self, access: Access, error: GraphError) -> NotNow | Refused:
        async with self._database.platform() as connection:
            now = await database_time(connection)
            link = access.link
            if isinstance(error, _OF_THE_STORE):
                await self._facts(connection, access, error.facts.usage, error, now)
            else:
                before = await load_budget(connection, link.link_id, with_calls=False)
                after = after_answer(before, now, error.facts.usage, error, purpose="question")
                await save_budget(connection, link.link_id, before, after)
            if isinstance(error, InvalidRequestError):
                return Refused(error)
            waits = _reading_waits(await load_budget(connection, link.link_id, with_calls=False), now)
            paused = await questions_paused_until(connection, link.store_id, link.link_id)
        if isinstance(error, TooLargeError):
            return NotNow(waits or now, "throttled", is_too_much=True)
        until = max((one for one in (waits, paused) if one is not None), default=now + self._again())
        return NotNow(until, _CODES.get(type(error), "meta_unreachable"), isinstance(error, _SIZE_ERRORS))

    async def _facts(
        self,
        connection: AsyncConnection,
        access: Access,
        usage: Usage,
        error: GraphError | None,
        now: datetime,
    ) -> None:
        await answer_facts(
            connection,
            access,
            usage,
            error,
            purpose="question",
            now=now,
            jitter=self._jitter(),
            retry_factor=self._timing.retry_factor,
            pause_scope_link=True,
        )

    def _again(self) -> timedelta:
        return _AGAIN * self._timing.retry_factor


@dataclass(frozen=True, slots=True)
class _Ready:
    access: Access
    now: datetime


def _reading_waits(budget: BudgetState, now: datetime) -> datetime | None:
    """When reading may go on; ``None``: now. It stops long before the questions that items wait for have to."""
    decided = decide_call(budget, now, "question")
    if isinstance(decided, WaitUntil):
        return decided.at
    bucket = budget.questions
    if bucket.usage_at is None or bucket.usage_percent < _READING_PERCENT:
        return None
    until = bucket.usage_at + _READING_PAUSE
    return until if until > now else None
