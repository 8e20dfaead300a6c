"""The pre-flight look: what a sync would make of a store's items and of its Meta catalog. It changes neither.

A job of several stages, each worked off page by page: our variants, what can only be told of all of them together, the
feeds that write the catalog, the items that it has already, and on request the images. Meta and the images' servers are
asked between transactions, never within one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.core.db import Database, retry_transaction
from meta_sync.core.outbound import OutboundClient
from meta_sync.graph.client import GraphClient
from meta_sync.graph.endpoints.sources import DataSource, SourcesEndpoints
from meta_sync.graph.wire import ProductsPage
from meta_sync.sync.catalog_reader import (
    SMALLEST_PAGE,
    CatalogReader,
    LinkGone,
    NotNow,
    Question,
    Read,
    Refused,
    smaller_page,
)
from meta_sync.sync.codes import JobCode, PreflightCode
from meta_sync.sync.context import UNREADABLE_TOKEN
from meta_sync.sync.drain import database_time
from meta_sync.sync.mapping import MappedItem
from meta_sync.sync.preflight_compare import CatalogTally, Match, add_page, retailer_id_of
from meta_sync.sync.preflight_keys import (
    Alike,
    alike_ids,
    alike_texts,
    equal_ids,
    keep_keys,
    known_ids,
    large_groups,
)
from meta_sync.sync.preflight_probing import PROBING, ImageStage
from meta_sync.sync.preflight_scan import Finding, KeyKind, Scan, Scanner
from meta_sync.sync.preflight_store import PreflightStore, catalog_changed, said, stand_still
from meta_sync.sync.read_jobs import ReadJob, advance, fail, finish, give_back
from meta_sync.sync.reading import read_chosen, read_items
from meta_sync.sync.reconcile_compare import READ_FIELDS

__all__ = ["PreflightHandler"]

_PAGE = 2_000
_META_PAGE = 500
_MOST_WALKS = 3
"""Of the catalog, when Meta no longer knows the cursor of one."""


class PreflightHandler:
    """Works the look off. Reads the store's rows and Meta, and writes only to the job's own rows."""

    def __init__(
        self, database: Database, reader: CatalogReader, graph: GraphClient, outbound: OutboundClient
    ) -> None:
        self._database = database
        self._reader = reader
        self._graph = graph
        self._images = ImageStage(database, outbound)

    async def step(self, job: ReadJob) -> None:
        """Do one page of the stage that the job is in."""
        match job.stage:
            case "comparing":
                await retry_transaction(lambda: self._compare(job))
            case "asking":
                await self._ask_sources(job)
            case "reading":
                await self._read_catalog(job)
            case "probing":
                await self._images.step(job)
            case _:
                await retry_transaction(lambda: self._scan(job))

    # --- Our own items ----------------------------------------------------------------------------------------------

    async def _scan(self, job: ReadJob) -> None:
        async with self._database.platform() as connection:
            store = await PreflightStore.read(connection, job)
            if not isinstance(store, PreflightStore):
                await stand_still(connection, job, store)
                return
            now = await database_time(connection)
            page = await read_items(connection, job.store_id, store.link_id, after=job.cursor, limit=_PAGE)
            scan = Scan.of(job.result.get("scan", {}))
            keys = Scanner(scan, store.state_link, store.mapper, now).page(page)
            is_last = len(page) < _PAGE
            moved = await advance(
                connection,
                job,
                stage="comparing" if is_last else "scanning",
                cursor=None if is_last else page[-1][0].variant_id,
                result={**job.result, "scan": scan.stored()},
                looked_at=len(page),
            )
            if moved:
                await keep_keys(connection, job.job_id, job.store_id, keys)

    async def _compare(self, job: ReadJob) -> None:
        """What can only be told of all items together."""
        async with self._database.platform() as connection:
            store = await PreflightStore.read(connection, job)
            if not isinstance(store, PreflightStore):
                await stand_still(connection, job, store)
                return
            scan = Scan.of(job.result.get("scan", {}))
            for code, alike, sentence in (
                (
                    PreflightCode.DUPLICATE_TITLE_AND_DESCRIPTION,
                    await alike_texts(connection, job.job_id),
                    "Variant {} has the same texts.",
                ),
                (
                    PreflightCode.IDS_DIFFER_BY_CASE,
                    await alike_ids(connection, job.job_id),
                    "The id of variant {} differs by case only.",
                ),
                ("id_in_use", await equal_ids(connection, job.job_id), "Another variant has the same id."),
                (
                    PreflightCode.GROUP_TOO_LARGE,
                    await large_groups(connection, job.store_id),
                    "The product has {} variants.",
                ),
            ):
                if alike.count:
                    scan.warnings[code] = await self._finding(connection, store, alike, sentence)
            result = {**job.result, "scan": scan.stored()}
            if job.link_id is None:
                await self._next_after_catalog(connection, job, result)
                return
            await advance(connection, job, stage="asking", cursor=None, result=result)

    @staticmethod
    async def _finding(
        connection: AsyncConnection, store: PreflightStore, alike: Alike, sentence: str
    ) -> Finding:
        found = await read_chosen(
            connection, store.store_id, store.link_id, [one for one, _ in alike.examples]
        )
        items = {item.variant_id: (item, state) for item, state in found}
        examples = []
        for variant_id, other in alike.examples:
            item, state = items.get(variant_id, (None, None))
            retailer_id = None
            if item is not None and state is not None:
                retailer_id = state.retailer_id or store.mapper.retailer_id_for(item) or None
            examples.append(
                {
                    "variantId": variant_id,
                    "productId": None if item is None else item.product_id,
                    "retailerId": retailer_id,
                    "title": None if item is None or item.title is None else item.title[:100],
                    "message": sentence.format(other),
                }
            )
        return Finding(alike.count, examples)

    # --- The Meta catalog -------------------------------------------------------------------------------------------

    async def _ask_sources(self, job: ReadJob) -> None:
        assert job.link_id is not None

        async def ask(question: Question) -> Any:
            graph = self._graph.for_version(question.access.graph_version)
            access = question.access
            return await SourcesEndpoints(graph).list_sources(access.credential, question.catalog_id)

        answer: Read[tuple[DataSource, ...]] | NotNow | Refused | LinkGone = await self._reader.ask(
            job.store_id, job.link_id, ask
        )
        # A token that may not list feeds may read items all the same: the report says that it is not known.
        sources = [asdict(one) for one in answer.value] if isinstance(answer, Read) else None
        if isinstance(answer, NotNow | LinkGone):
            await self._wait(job, answer)
            return
        result = {**job.result, "sources": sources}
        if sources:
            scan = Scan.of(job.result.get("scan", {}))
            scan.warnings[PreflightCode.FEED_WRITES_CATALOG] = Finding(len(sources))
            result["scan"] = scan.stored()
        await self._move(job, stage="reading", cursor=None, result=result)

    async def _read_catalog(self, job: ReadJob) -> None:
        assert job.link_id is not None
        catalog = job.result.get("catalog", {})
        limit = int(catalog.get("limit", _META_PAGE))
        answer = await self._reader.page(
            job.store_id,
            job.link_id,
            READ_FIELDS,
            after=job.cursor,
            limit=limit,
            with_total=job.cursor is None,
        )
        if isinstance(answer, Refused):
            await self._walk_again(job, catalog, answer.error.message)
        elif isinstance(answer, NotNow) and answer.is_too_much and limit > SMALLEST_PAGE:
            result = {**job.result, "catalog": {**catalog, "limit": smaller_page(limit)}}
            await self._move(job, stage="reading", cursor=job.cursor, result=result, until=answer)
        elif not isinstance(answer, Read):
            await self._wait(job, answer)
        elif answer.value.has_next and answer.value.after is None:
            await self._walk_again(job, catalog, "")
        else:
            page = answer.value
            await retry_transaction(lambda: self._add_page(job, catalog, page))

    async def _walk_again(self, job: ReadJob, catalog: Mapping[str, Any], said: str) -> None:
        """Begin the walk anew: cursors do not outlive changes of the catalog for ever."""
        walks = int(catalog.get("walks", 1))
        if job.cursor is None or walks >= _MOST_WALKS:
            await self._end(job, JobCode.READING_REFUSED, said)
            return
        again = {"limit": catalog.get("limit", _META_PAGE), "walks": walks + 1}
        await self._move(job, stage="reading", cursor=None, result={**job.result, "catalog": again})

    async def _add_page(self, job: ReadJob, catalog: Mapping[str, Any], page: ProductsPage) -> None:
        async with self._database.platform() as connection:
            store = await PreflightStore.read(connection, job)
            if not isinstance(store, PreflightStore):
                await stand_still(connection, job, store)
                return
            tally = CatalogTally.of(catalog.get("tally", {}))
            add_page(tally, page.items, await self._matches(connection, job, store, page.items))
            total = page.total_count if page.total_count is not None else catalog.get("total")
            result = {**job.result, "catalog": {**catalog, "tally": tally.stored(), "total": total}}
            if not page.has_next:
                others = sum(tally.currencies.values()) - tally.currencies.get(store.currency, 0)
                if others:
                    scan = Scan.of(job.result.get("scan", {}))
                    scan.warnings[PreflightCode.CATALOG_CURRENCY_DIFFERS] = Finding(others)
                    result["scan"] = scan.stored()
                await self._next_after_catalog(connection, job, result)
                return
            looked_at = len(page.items)
            in_all = job.looked_at + page.total_count if page.total_count is not None else None
            await advance(
                connection,
                job,
                stage="reading",
                cursor=page.after,
                result=result,
                looked_at=looked_at,
                total=in_all,
            )

    @staticmethod
    async def _matches(
        connection: AsyncConnection, job: ReadJob, store: PreflightStore, shown: Sequence[Mapping[str, Any]]
    ) -> dict[str, Match]:
        ids = [one for one in map(retailer_id_of, shown) if one is not None]
        known = await known_ids(connection, job.job_id, ids)
        wanted = sorted({variant for kind, variant in known.values() if kind == KeyKind.SENDABLE})
        now = await database_time(connection)
        data: dict[str, Mapping[str, Any]] = {}
        for item, state in await read_chosen(connection, job.store_id, store.link_id, wanted):
            mapped = store.mapper.evaluate(
                item, excluded=state.is_excluded, retailer_id=state.retailer_id, now=now
            )
            if isinstance(mapped, MappedItem):
                data[item.variant_id] = mapped.data
        return {
            one: Match(kind, variant, data.get(variant) if kind == KeyKind.SENDABLE else None)
            for one, (kind, variant) in known.items()
        }

    async def _next_after_catalog(
        self, connection: AsyncConnection, job: ReadJob, result: Mapping[str, Any]
    ) -> None:
        if result.get("options", {}).get("probeImages"):
            await advance(connection, job, stage=PROBING, cursor=None, result=result)
        else:
            await finish(connection, job, result)

    # --- Moving the job ---------------------------------------------------------------------------------------------

    async def _wait(self, job: ReadJob, answer: NotNow | LinkGone) -> None:
        async def work() -> None:
            async with self._database.platform() as connection:
                if isinstance(answer, LinkGone):
                    await catalog_changed(connection, job)
                    return
                code = "needs_reconnect" if answer.code == UNREADABLE_TOKEN else answer.code
                await give_back(connection, job, until=answer.until, message=said(code))

        await retry_transaction(work)

    async def _move(
        self,
        job: ReadJob,
        *,
        stage: str,
        cursor: str | None,
        result: Mapping[str, Any],
        until: NotNow | None = None,
    ) -> None:
        async def work() -> None:
            async with self._database.platform() as connection:
                at = None if until is None else until.until
                await advance(connection, job, stage=stage, cursor=cursor, result=result, until=at)

        await retry_transaction(work)

    async def _finish(self, job: ReadJob, result: Mapping[str, Any]) -> None:
        async def work() -> None:
            async with self._database.platform() as connection:
                await finish(connection, job, result)

        await retry_transaction(work)

    async def _end(self, job: ReadJob, code: str, said: str) -> None:
        async def work() -> None:
            async with self._database.platform() as connection:
                await fail(connection, job, code, message=said or None)

        await retry_transaction(work)
