"""The last stage of a pre-flight look, on request: the main images of a store's items, a bounded number of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from meta_sync.core.db import Database, retry_transaction
from meta_sync.core.outbound import OutboundClient
from meta_sync.sync.drain import database_time
from meta_sync.sync.mapping import MappedItem
from meta_sync.sync.preflight_images import probe_images
from meta_sync.sync.preflight_scan import Finding
from meta_sync.sync.preflight_store import PreflightStore, stand_still
from meta_sync.sync.read_jobs import ReadJob, advance, finish
from meta_sync.sync.reading import read_items

__all__ = ["MOST_IMAGES", "PROBING", "ImageStage"]

PROBING = "probing"
"""The job's stage meanwhile."""

MOST_IMAGES = 200
"""Enough to see what is wrong with an image server, and no burden for it."""

_IMAGES_AT_ONCE = 16
_PAGE = 500
_MOST_VARIANTS = 20_000
"""Looked through for so many different images: in some stores all items have the same one."""


@dataclass(frozen=True, slots=True)
class _Urls:
    """Images of a part of a page with the variant and the product of each, and where the next part begins."""

    urls: dict[str, tuple[str, str]]
    variants: int
    cursor: str | None
    is_last: bool


class ImageStage:
    """Looks at images. Their servers are asked between transactions."""

    def __init__(self, database: Database, outbound: OutboundClient) -> None:
        self._database = database
        self._outbound = outbound

    async def step(self, job: ReadJob) -> None:
        """Look at the next few images, and move the job or end it."""
        images = dict(job.result.get("images", {"checked": 0, "good": 0, "variants": 0, "findings": {}}))
        seen = list(images.get("seen", []))
        found = await retry_transaction(lambda: self._image_urls(job, frozenset(seen)))
        if not isinstance(found, _Urls):
            await retry_transaction(lambda: self._stand_still(job, found))
            return
        room = MOST_IMAGES - int(images["checked"])
        asked = list(found.urls)[:room]
        findings = {code: Finding.of(one) for code, one in images["findings"].items()}
        for verdict in await probe_images(self._outbound, asked):
            images["checked"] += 1
            if verdict.code is None:
                images["good"] += 1
                continue
            variant_id, product_id = found.urls[verdict.url]
            findings.setdefault(verdict.code, Finding()).add(
                {
                    "variantId": variant_id,
                    "productId": product_id,
                    "url": verdict.url,
                    "message": verdict.detail,
                }
            )
        images["findings"] = {str(code): one.stored() for code, one in findings.items()}
        images["variants"] += found.variants
        images["seen"] = [*seen, *map(_url_key, asked)]
        is_over = found.is_last or images["checked"] >= MOST_IMAGES or images["variants"] >= _MOST_VARIANTS
        if is_over:
            del images["seen"]
        result = {**job.result, "images": images}
        await retry_transaction(lambda: self._move(job, found.cursor, result, is_over=is_over))

    async def _image_urls(self, job: ReadJob, seen: frozenset[str]) -> _Urls | str:
        """Addresses of main images that were not looked at yet, and where the walk goes on."""
        async with self._database.platform() as connection:
            store = await PreflightStore.read(connection, job)
            if not isinstance(store, PreflightStore):
                return store
            now = await database_time(connection)
            page = await read_items(connection, job.store_id, store.link_id, after=job.cursor, limit=_PAGE)
        urls: dict[str, tuple[str, str]] = {}
        looked_at = 0
        for item, state in page:
            looked_at += 1
            mapped = store.mapper.evaluate(
                item, excluded=state.is_excluded, retailer_id=state.retailer_id, now=now
            )
            if isinstance(mapped, MappedItem) and _url_key(mapped.data["image_link"]) not in seen:
                urls.setdefault(mapped.data["image_link"], (item.variant_id, item.product_id))
            if len(urls) == _IMAGES_AT_ONCE:
                break
        cursor = page[looked_at - 1][0].variant_id if page else job.cursor
        return _Urls(urls, looked_at, cursor, is_last=looked_at == len(page) < _PAGE)

    async def _move(
        self, job: ReadJob, cursor: str | None, result: Mapping[str, Any], *, is_over: bool
    ) -> None:
        async with self._database.platform() as connection:
            if is_over:
                await finish(connection, job, result)
            else:
                await advance(connection, job, stage=PROBING, cursor=cursor, result=result)

    async def _stand_still(self, job: ReadJob, why: str) -> None:
        async with self._database.platform() as connection:
            await stand_still(connection, job, why)


def _url_key(url: str) -> str:
    """A few characters that tell addresses apart; two that share them cost one look."""
    return f"{crc32(url.encode('utf-8', 'surrogatepass')):08x}"
