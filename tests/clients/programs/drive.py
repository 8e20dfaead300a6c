"""A shop's program over the generated client and nothing else: from a store that does not exist to an item's timeline.

Run by its test, in the generators' environment, with what it needs to know as JSON on standard input; prints what it saw.
"""

# The package is generated next to this file by the test, which then checks both strictly, with everything resolved.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

from meta_sync_client import AuthenticatedClient
from meta_sync_client.api.catalog import get_product, send_events
from meta_sync_client.api.connection import bootstrap, get_status, select_catalog, set_token, update_settings
from meta_sync_client.api.errors import list_errors
from meta_sync_client.api.imports import create_import, get_import, get_import_report
from meta_sync_client.api.items import get_item, get_item_timeline, list_items, resync_item
from meta_sync_client.api.jobs import get_sync_job, stream_sync_job
from meta_sync_client.api.platform import create_api_key, create_store
from meta_sync_client.models import (
    AttemptOutcome,
    BasicsUpdatedEvent,
    CreateApiKeyBody,
    CreateImportFilesBody,
    CreateStoreBody,
    Error,
    ImportAnswer,
    ImportCounts,
    ItemSort,
    MetaItemSummary,
    Permission,
    ProductUpdate,
    ResyncBody,
    SelectCatalogBody,
    SettingsPatch,
    StockAdjustedEvent,
    StockAdjustment,
    SyncJob,
    SyncJobAnswer,
    SyncJobStage,
    SyncJobStatus,
    SyncStatus,
    TimelineEntry,
    TokenBody,
)
from meta_sync_client.types import UNSET, File, Response, Unset

A = TypeVar("A")

_PATIENCE_SECONDS = 60
_OVER = (SyncJobStatus.SUCCESS, SyncJobStatus.PARTIAL, SyncJobStatus.ERROR, SyncJobStatus.CANCELLED)


def given(answer: A | Error | None) -> A:
    """The answer of a call that must succeed."""
    if answer is None or isinstance(answer, Error):
        raise AssertionError(f"refused: {answer}")
    return answer


def refusal(response: Response[Any]) -> dict[str, Any]:
    """What is known of a call that must be refused."""
    error = response.parsed
    assert isinstance(error, Error), response
    assert error.status_code == response.status_code
    return {
        "status": error.status_code,
        "code": error.error_code,
        "fields": [detail.field for detail in error.details],
    }


def until(look: Callable[[], A | None], what: str) -> A:
    """What a look finds once it finds anything."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found = look()
        if found is not None:
            return found
        time.sleep(0.2)
    raise AssertionError(f"waited in vain for {what}")


class Shop:
    """One store, through its own key."""

    def __init__(self, client: AuthenticatedClient) -> None:
        self.client = client

    def imported(self, body: CreateImportFilesBody | File) -> tuple[str, ImportCounts]:
        """Import a file to its end."""
        started = given(create_import.sync(client=self.client, body=body, source="feed"))

        def look() -> ImportCounts | None:
            answer = get_import.sync(import_id=started.data.import_id, client=self.client)
            assert isinstance(answer, ImportAnswer), answer
            seen = answer.data
            return seen.counts if seen.status in {"success", "partial", "error"} else None

        return started.data.import_id, until(look, "the import")

    def job(self, job_id: str) -> SyncJob:
        """A job as it stands."""
        answer = get_sync_job.sync(job_id=job_id, client=self.client)
        assert isinstance(answer, SyncJobAnswer), answer
        return answer.data

    def watched(self, job_id: str) -> SyncJob:
        """A job at its end, its counts checked at every look."""

        def look() -> SyncJob | None:
            job = self.job(job_id)
            counts = job.counts
            waiting = counts.enqueued + counts.submitted
            ended = counts.unchanged + counts.synced + counts.failed + counts.skipped + counts.cancelled
            is_over = job.status in _OVER
            assert waiting + ended <= counts.total, counts
            assert not is_over or (waiting, ended) == (0, counts.total), counts
            return job if is_over else None

        return until(look, f"job {job_id}")

    def items(self, status: SyncStatus) -> Iterator[MetaItemSummary]:
        """Items in a status, page by page with the cursor."""
        cursor: str | Unset = UNSET
        while True:
            page = given(
                list_items.sync(
                    client=self.client, status=status, sort=ItemSort.VARIANTID, limit=4, cursor=cursor
                )
            )
            yield from page.data
            if page.metadata.next_cursor is None:
                return
            cursor = page.metadata.next_cursor

    def accepted(self, path_id: str) -> list[TimelineEntry]:
        """The attempts that Meta accepted, newest first."""
        timeline = given(get_item_timeline.sync(variant_id=path_id, client=self.client)).data
        return [one for one in timeline if one.attempt and one.attempt.outcome is AttemptOutcome.ACCEPTED]


def open_shop(known: dict[str, str]) -> tuple[str, Shop]:
    """A new store with a key of its own, connected to a catalog, not sending yet."""
    platform = AuthenticatedClient(known["address"], known["platformKey"], raise_on_unexpected_status=True)
    store = given(
        create_store.sync(client=platform, body=CreateStoreBody(name="Python", currency="EUR"))
    ).data
    rights = [Permission.METACATALOGMANAGE, Permission.CATALOGWRITE]
    key = given(
        create_api_key.sync(store.store_id, client=platform, body=CreateApiKeyBody(permissions=rights))
    ).data
    client = AuthenticatedClient(known["address"], key.api_key, raise_on_unexpected_status=True)
    settings = given(
        update_settings.sync(
            client=client,
            body=SettingsPatch(
                storefront_base_url="https://shop.example", default_brand="Acme", batch_size=50
            ),
        )
    ).data
    assert (settings.default_brand, settings.batch_size, settings.sync_enabled) == ("Acme", 50, False)
    given(set_token.sync(client=client, body=TokenBody(access_token=known["accessToken"])))
    selected = given(
        select_catalog.sync(
            client=client,
            body=SelectCatalogBody(
                business_id=known["businessId"],
                business_name="Demo",
                catalog_id=known["catalogId"],
                catalog_name="Python",
            ),
        )
    ).data
    assert selected.catalog_id == known["catalogId"]
    shop = Shop(client)
    if selected.job_id is not None:
        shop.watched(selected.job_id)
    return store.store_id, shop


def import_files(shop: Shop, known: dict[str, str]) -> dict[str, Any]:
    """One file in a form and one as the whole body."""
    with Path(known["form"]).open("rb") as opened:
        form_id, form = shop.imported(
            CreateImportFilesBody(file=File(opened, "goods.ndjson", "application/x-ndjson"), dry_run=False)
        )
    _, raw = shop.imported(File(BytesIO(Path(known["raw"]).read_bytes())))
    report = given(get_import_report.sync(import_id=form_id, client=shop.client))
    return {"form": form.to_dict(), "raw": raw.to_dict(), "report": report.splitlines()}


def send_news(shop: Shop) -> dict[str, Any]:
    """A patch of a private product and stock of a variant, as events; and what became of the product."""
    sent = given(
        send_events.sync(
            client=shop.client,
            body=[
                BasicsUpdatedEvent(
                    ProductUpdate(product_id="secret", title="Renamed"),
                    "1",
                    "/drive",
                    "1.0",
                    "vendor.product.basics.updated",
                ),
                StockAdjustedEvent(
                    StockAdjustment("mug-1", quantity_on_hand=7, reserved_quantity=2),
                    "2",
                    "/drive",
                    "1.0",
                    "inventory.stock.adjusted",
                ),
            ],
        )
    ).data
    product = given(get_product.sync("secret", client=shop.client)).data
    return {
        "accepted": sent.accepted,
        "product": [product.title, product.status, product.visibility, product.source],
    }


def resync_first(shop: Shop, item: MetaItemSummary) -> dict[str, Any]:
    """Have an item sent once more, by the id that its address is written with."""
    path_id = item.href.rpartition("/")[2]
    detail = given(get_item.sync(path_id, client=shop.client)).data
    assert detail.variant.id == item.variant_id
    before = len(shop.accepted(path_id))
    assert given(resync_item.sync(path_id, client=shop.client, body=ResyncBody(force=True))).data.enqueued
    newest = until(
        lambda: entries[0] if len(entries := shop.accepted(path_id)) > before else None, "a second attempt"
    )
    assert newest.attempt
    return {
        "variantId": item.variant_id,
        "kinds": sorted(
            {one.kind for one in given(get_item_timeline.sync(path_id, client=shop.client)).data}
        ),
        "hash": newest.attempt.payload_hash,
        "message": newest.message,
    }


def main() -> None:
    known: dict[str, str] = json.load(sys.stdin)
    store_id, shop = open_shop(known)
    seen: dict[str, Any] = {
        "storeId": store_id,
        "imports": import_files(shop, known),
        "events": send_news(shop),
    }

    # The job looks at everything while nothing is sent yet: no item has ended before it was counted.
    job_id = given(bootstrap.sync(client=shop.client)).data.job_id
    until(
        lambda: True if shop.job(job_id).stage is SyncJobStage.SYNCING else None,
        "the job's look at all items",
    )
    given(update_settings.sync(client=shop.client, body=SettingsPatch(sync_enabled=True)))
    job = shop.watched(job_id)
    stream = given(stream_sync_job.sync(job.id, client=shop.client))
    seen["job"] = {"id": job.id, "status": job.status, "counts": job.counts.to_dict()}
    seen["stream"] = [line for line in stream.splitlines() if line.startswith("event:")]

    failed = given(list_errors.sync(client=shop.client)).data
    seen["errors"] = [[one.variant_id, one.code, one.category, one.last_error, one.action] for one in failed]
    items = list(shop.items(SyncStatus.SYNCED))
    seen["synced"] = [item.variant_id for item in items]
    seen["skipped"] = [[one.variant_id, one.error_code] for one in shop.items(SyncStatus.SKIPPED)]
    found = given(list_items.sync(client=shop.client, search="MUG", product_id="mug")).data
    seen["found"] = sorted(item.variant_id for item in found)
    seen["timeline"] = resync_first(shop, items[0])
    seen["counts"] = given(get_status.sync(client=shop.client)).data.counts.to_dict()
    stranger = AuthenticatedClient(known["address"], "nobody", raise_on_unexpected_status=True)
    seen["refusals"] = [
        refusal(get_item.sync_detailed("absent", client=shop.client)),
        refusal(update_settings.sync_detailed(client=shop.client, body=SettingsPatch(batch_size=0))),
        refusal(get_status.sync_detailed(client=stranger)),
    ]
    json.dump(seen, sys.stdout)


main()
