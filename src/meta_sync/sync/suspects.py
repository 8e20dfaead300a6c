"""Content that Meta answers with nothing but server errors: telling it from an outage, and looking for the culprit.

Items of a batch that ended so stay together (see ``splits.keep_together``) and go out again and again, one call per hold,
while other work flows beside them. Enough errors over enough time, and a catalog that answers, make them suspect; then
they are halved like a refused batch, an error counting as a refusal. Nobody is named unless other calls pass meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.connection.repository import link as link_of
from meta_sync.core.config import Settings
from meta_sync.core.crypto import Cipher, DecryptionError
from meta_sync.core.db import Database, retry_transaction
from meta_sync.graph.client import GraphClient
from meta_sync.graph.endpoints.catalog import CatalogEndpoints
from meta_sync.graph.errors import GraphError
from meta_sync.graph.governor import WaitUntil, decide_call
from meta_sync.graph.usage import Usage
from meta_sync.stores.repository import load_settings
from meta_sync.sync import splits
from meta_sync.sync.budget import load_budget
from meta_sync.sync.codes_pipeline import FailureCode
from meta_sync.sync.context import Access, link_access
from meta_sync.sync.drain import Timing, database_time
from meta_sync.sync.models import BatchItem, OpenBatch
from meta_sync.sync.pauses import questions_paused_until
from meta_sync.sync.record import answer_facts
from meta_sync.sync.record_statements import BLAMED
from meta_sync.sync.settle import release_unknown, settle_refused_at_once, try_blamed_again
from meta_sync.sync.split_statements import IS_SUSPICIOUS, RELEASED
from meta_sync.sync.splits import OutageWait, Refusal, Search
from meta_sync.sync.splitting import SplitKind

__all__ = ["Suspects", "release_after_hold"]


class Suspects:
    """Finds out whether a batch that is over without an answer is suspect."""

    def __init__(
        self,
        database: Database,
        graph: GraphClient,
        cipher: Cipher,
        process: Settings,
        *,
        timing: Timing,
        jitter: Callable[[], float],
    ) -> None:
        self._database = database
        self._graph = graph
        self._cipher = cipher
        self._process = process
        self._timing = timing
        self._jitter = jitter

    async def is_suspect(self, batch_id: int, store_id: str, link_id: int) -> bool:
        """Whether Meta fails at the batch's content again and again and answers for the catalog at the same time.

        Asks Meta when the batch itself gives reason to; no transaction is open meanwhile.
        """
        async with self._database.platform() as connection:
            said = {
                "batch_id": batch_id,
                "errors": self._timing.suspect_errors,
                "after_seconds": self._timing.suspect_after_seconds,
            }
            if not await connection.scalar(IS_SUSPICIOUS, said):
                return False
            access = await self._access(connection, store_id, link_id)
        return access is not None and await self._catalog_answers(access)

    async def _access(self, connection: AsyncConnection, store_id: str, link_id: int) -> Access | None:
        """The way to the catalog, when a question may be asked now."""
        link = await link_of(connection, link_id)
        assert link is not None
        settings, _ = await load_settings(connection, store_id)
        access = None
        with suppress(DecryptionError):
            access = await link_access(connection, link, settings, self._cipher, self._process)
        if access is None or access.is_dead:
            return None
        budget = await load_budget(connection, link_id, with_calls=False)
        waits = decide_call(budget, await database_time(connection), "question")
        until = await questions_paused_until(connection, store_id, link_id)
        return None if isinstance(waits, WaitUntil) or until is not None else access

    async def _catalog_answers(self, access: Access) -> bool:
        catalog = CatalogEndpoints(self._graph.for_version(access.graph_version))
        usage, failure = Usage(), None
        try:
            usage = (await catalog.get_catalog(access.credential, access.link.catalog_id)).usage
        except GraphError as error:
            usage, failure = error.facts.usage, error
        await retry_transaction(lambda: self._note(access, usage, failure))
        return failure is None

    async def _note(self, access: Access, usage: Usage, failure: GraphError | None) -> None:
        async with self._database.platform() as connection:
            await answer_facts(
                connection,
                access,
                usage,
                failure,
                purpose="question",
                now=await database_time(connection),
                jitter=self._jitter(),
                retry_factor=self._timing.retry_factor,
                pause_scope_link=True,
            )


async def release_after_hold(
    connection: AsyncConnection,
    batch_id: int,
    items: Sequence[BatchItem],
    *,
    is_suspect: bool,
    wait: OutageWait,
) -> None:
    """End a batch whose hold is over without an answer: its items go again, together, in halves, or as they come.

    ``is_suspect`` is what ``Suspects.is_suspect`` said of it.
    """
    row = (await connection.execute(RELEASED, {"batch_id": batch_id})).one()
    store_id, link_id, created_on, part_id, server_errors, sent, code, message = row
    batch = OpenBatch(batch_id, 1, store_id, link_id, "", b"", sent, part_id)
    search = await splits.search_of(connection, batch)
    is_refusal = (
        server_errors > 0
        and search is not None
        and search.split.kind is SplitKind.SUSPECT
        and not search.split.is_whole
    )
    names = is_refusal and search is not None and search.split.has_proof and sent == 1
    if names:
        identity = {"batch_id": batch_id, "store_id": store_id, "link_id": link_id, "created_on": created_on}
        await _name(connection, identity, items[0], message)
    rejected = sum(item.outcome == "rejected" for item in items) + int(names)
    unsettled = sum(item.outcome is None for item in items) - int(names)
    released = await release_unknown(
        connection,
        batch_id,
        already_rejected=rejected,
        unsettled=unsettled,
        code=FailureCode.NO_ANSWER,
    )
    if not released or server_errors == 0:
        return
    if is_refusal:
        refusal = Refusal(SplitKind.SUSPECT, code, message or "")
        await splits.refused(connection, batch, refusal, search, is_verdict=names, wait=wait)
        return
    await _keep_together(connection, batch, search, is_suspect=is_suspect, said=(code, message))


async def _name(
    connection: AsyncConnection, identity: dict[str, Any], item: BatchItem, message: str | None
) -> None:
    said = {item.variant_id: message or ""}
    times = await connection.scalar(BLAMED, {"batch_id": identity["batch_id"]})
    await settle_refused_at_once(connection, identity, said, {item.variant_id: FailureCode.SERVER_ERRORS})
    await try_blamed_again(connection, identity["link_id"], item.variant_id, times=times or 0)


async def _keep_together(
    connection: AsyncConnection,
    batch: OpenBatch,
    search: Search | None,
    *,
    is_suspect: bool,
    said: tuple[str | None, str | None],
) -> None:
    """Server errors and nothing else: the items stay together from now on, and are halved once they are suspect."""
    if search is None:
        search = await splits.keep_together(connection, batch)
    if search is not None and search.split.is_whole and is_suspect:
        await splits.begin_search(connection, search, *said)
