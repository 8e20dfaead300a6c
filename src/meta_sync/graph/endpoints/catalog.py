"""What the service wants of a Meta catalog, in its own verbs. What becomes of items is decided elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote

from meta_sync.graph.auth import GraphCredential
from meta_sync.graph.client import NORMAL_ANSWER_BYTES, QUESTION_DEADLINE_SECONDS, GraphClient
from meta_sync.graph.outcomes import (
    BatchStatusAnswer,
    CannotAsk,
    Ended,
    Finished,
    StillRunning,
    SubmitResult,
    merge_report,
    status_error,
    submit_result,
    unreadable,
)
from meta_sync.graph.usage import Usage, merge_usage
from meta_sync.graph.wire import (
    Answered,
    CatalogInfo,
    ProductsPage,
    ReportPage,
    parse_catalog,
    parse_products,
    parse_report_page,
)

__all__ = [
    "ITEM_FIELDS",
    "SUBMIT_DEADLINE_SECONDS",
    "BatchMethod",
    "CatalogEndpoints",
    "build_batch_body",
]

BatchMethod = Literal["CREATE", "UPDATE", "DELETE"]

SUBMIT_DEADLINE_SECONDS = 60.0
"""For one ``items_batch`` call: 25 MB out at 5 Mbit/s take 40 seconds, the rest is for Meta to answer."""

ITEM_FIELDS = ("id", "retailer_id", "name", "availability", "price", "sale_price", "currency", "visibility")
"""Item fields read when the caller asks for no others; reading uses Meta's older names (documented)."""

_LONG_ANSWER_BYTES = 16_000_000
"""Five thousand items with messages each; a handle must not be lost to the length of what is around it."""

_MOST_REPORT_PAGES = 50
_STATUS_FIELDS = (
    "handle,status,errors,errors_total_count,warnings,warnings_total_count,ids_of_invalid_requests"
)
_LONGEST_FILTER = 4000
"""Characters of a filter within a URL, percent-encoded. Servers refuse URLs from about 8,000 on."""
_MOST_IDS_PER_FILTER = 100
_MOST_FILTER_PAGES = 20


def build_batch_body(records: Iterable[tuple[BatchMethod, bytes]]) -> bytes:
    """The JSON body of an ``items_batch`` call from item objects that are encoded already.

    Each record is the method and the bytes of its ``data`` object; they are joined, not encoded again.
    """
    joined = b",".join(b'{"method":"%b","data":%b}' % (method.encode(), data) for method, data in records)
    return b'{"item_type":"PRODUCT_ITEM","allow_upsert":true,"requests":[' + joined + b"]}"


class CatalogEndpoints:
    """The catalog's edges. Reads raise ``GraphError`` on failure; writes and polls return how they ended."""

    def __init__(self, client: GraphClient) -> None:
        self._client = client

    async def submit_batch(
        self,
        credential: GraphCredential,
        catalog_id: str,
        body: bytes,
        *,
        deadline_seconds: float = SUBMIT_DEADLINE_SECONDS,
    ) -> SubmitResult:
        """Send one batch, made by ``build_batch_body``, once. The deadline covers the whole call."""
        answer = await self._client.write_json(
            credential,
            catalog_id,
            "items_batch",
            body=body,
            deadline_seconds=deadline_seconds,
            max_answer_bytes=_LONG_ANSWER_BYTES,
        )
        return submit_result(answer)

    async def batch_status(
        self,
        credential: GraphCredential,
        catalog_id: str,
        handle: str,
        *,
        deadline_seconds: float = QUESTION_DEADLINE_SECONDS,
    ) -> BatchStatusAnswer:
        """Ask what became of a batch, following the pages of its report.

        Without ``load_ids_of_invalid_requests`` the list of refused ids stays empty (documented). The
        deadline is that of each page.
        """
        params = {"handle": handle, "load_ids_of_invalid_requests": "true", "fields": _STATUS_FIELDS}
        pages: list[ReportPage] = []
        cursors: set[str] = set()
        usage = Usage()
        while True:
            answer = await self._client.read(
                credential,
                catalog_id,
                "check_batch_request_status",
                params=params,
                deadline_seconds=deadline_seconds,
                max_answer_bytes=_LONG_ANSWER_BYTES,
            )
            usage = merge_usage(usage, answer.usage)
            failed = status_error(answer)
            if failed is not None:
                return CannotAsk(failed.error, usage) if pages else failed
            page = parse_report_page(answer.value, handle)
            ended = _not_finished(page, usage, is_first=not pages)
            if ended is not None:
                return ended
            pages.append(page)
            if page.after is None or page.after in cursors or len(pages) == _MOST_REPORT_PAGES:
                return Finished(merge_report(pages, handle), usage)
            cursors.add(page.after)
            params = {**params, "after": page.after}

    async def find_items(
        self,
        credential: GraphCredential,
        catalog_id: str,
        retailer_ids: Sequence[str],
        fields: Sequence[str] = ITEM_FIELDS,
    ) -> Answered[ProductsPage]:
        """Items by retailer id, in as many questions as the length of the ids demands.

        Meta's filters ignore case, so the answer may hold items nobody asked for: compare ids exactly. An
        item that was written moments ago may be missing (observed).

        ``has_next`` in the result means that not everything was read.

        Raises
        ------
        GraphError
            One of the questions failed.
        """
        usage = Usage()
        found: list[dict[str, Any]] = []
        has_more = False
        for chunk in _chunks(retailer_ids):
            wanted = _filter(chunk)
            page = await self.list_products(credential, catalog_id, fields, filter_json=wanted)
            usage = merge_usage(usage, page.usage)
            found.extend(page.value.items)
            for _ in range(_MOST_FILTER_PAGES):
                if page.value.after is None:
                    break
                page = await self.list_products(
                    credential, catalog_id, fields, after=page.value.after, filter_json=wanted
                )
                usage = merge_usage(usage, page.usage)
                found.extend(page.value.items)
            has_more = has_more or page.value.has_next
        return Answered(ProductsPage(tuple(found), has_next=has_more), usage)

    async def list_products(
        self,
        credential: GraphCredential,
        catalog_id: str,
        fields: Sequence[str] = ITEM_FIELDS,
        *,
        after: str | None = None,
        limit: int = 100,
        filter_json: str | None = None,
        with_total: bool = False,
    ) -> Answered[ProductsPage]:
        """One page of the catalog; go on with ``after`` while ``has_next``. Cursors do not outlive a walk.

        Raises
        ------
        GraphError
            The question failed, or the answer holds no list.
        """
        return await self._list(
            credential,
            catalog_id,
            {} if filter_json is None else {"filter": filter_json},
            fields,
            after=after,
            limit=limit,
            with_total=with_total,
        )

    async def _list(
        self,
        credential: GraphCredential,
        catalog_id: str,
        params: Mapping[str, str],
        fields: Sequence[str],
        *,
        after: str | None,
        limit: int,
        with_total: bool,
        max_answer_bytes: int = NORMAL_ANSWER_BYTES,
    ) -> Answered[ProductsPage]:
        params = {**params, "fields": ",".join(fields), "limit": str(limit)}
        if after is not None:
            params["after"] = after
        if with_total:
            params["summary"] = "true"
        answer = await self._client.read(
            credential, catalog_id, "products", params=params, max_answer_bytes=max_answer_bytes
        )
        if answer.error is not None:
            raise answer.error
        page = parse_products(answer.value)
        if page is None:
            raise unreadable(answer, "Meta's answer holds no list of items.")
        return Answered(page, answer.usage)

    async def walk_products(
        self,
        credential: GraphCredential,
        catalog_id: str,
        fields: Sequence[str],
        *,
        after: str | None = None,
        limit: int,
        with_total: bool = False,
    ) -> Answered[ProductsPage]:
        """One large page of a walk over all items (``bulk_pagination``); else like ``list_products``.

        Raises
        ------
        GraphError
            The question failed; ``TooLargeError``, or a failure of Meta's own, when the page is too much for Meta.
        """
        return await self._list(
            credential,
            catalog_id,
            {"bulk_pagination": "true"},
            fields,
            after=after,
            limit=limit,
            with_total=with_total,
            max_answer_bytes=_LONG_ANSWER_BYTES,
        )

    async def get_catalog(self, credential: GraphCredential, catalog_id: str) -> Answered[CatalogInfo]:
        """The catalog itself; the proof that it exists and the token reaches it.

        Raises
        ------
        GraphError
            ``AssetLostError`` when it is gone or out of reach, or any other failure.
        """
        answer = await self._client.read(
            credential, catalog_id, params={"fields": "id,name,vertical,product_count"}
        )
        if answer.error is not None:
            raise answer.error
        catalog = parse_catalog(answer.value)
        if catalog is None:
            raise unreadable(answer, "Meta's answer names no catalog.")
        return Answered(catalog, answer.usage)


def _not_finished(page: ReportPage, usage: Usage, *, is_first: bool) -> StillRunning | Ended | None:
    """The end of the poll unless the page is of a finished batch. Later pages may leave the status out."""
    if page.status == "finished" or (not is_first and not page.status):
        return None
    if page.status == "error":
        return Ended("error", usage)
    if page.status in {"canceled", "cancelled"}:
        return Ended("canceled", usage)
    return StillRunning(page.status, usage)


def _filter(retailer_ids: Sequence[str]) -> str:
    return json.dumps(
        {"retailer_id": {"is_any": list(retailer_ids)}}, separators=(",", ":"), ensure_ascii=False
    )


def _chunks(retailer_ids: Sequence[str]) -> Iterator[list[str]]:
    """Distinct ids in groups whose filters fit a URL; every group has at least one."""
    chunk: list[str] = []
    length = 0
    for retailer_id in dict.fromkeys(retailer_ids):
        cost = len(quote(json.dumps(retailer_id, ensure_ascii=False), safe="")) + len("%2C")
        if chunk and (length + cost > _LONGEST_FILTER or len(chunk) == _MOST_IDS_PER_FILTER):
            yield chunk
            chunk, length = [], 0
        chunk.append(retailer_id)
        length += cost
    if chunk:
        yield chunk
