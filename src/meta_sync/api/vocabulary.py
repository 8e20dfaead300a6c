"""What fields mean whose name says the same wherever it stands, for the document: one name, one sentence.

A field that means something of its own has its description where it is defined; this list never overrules that.
"""

from __future__ import annotations

from typing import Any

__all__ = ["FIELDS", "PLACES", "describe_fields"]

_SETTINGS = {
    "adAccountId": "Meta's id of the ad account.",
    "alertEmails": "Addresses that alerts go to.",
    "alertWebhookUrl": "Address that alerts are posted to.",
    "appId": "The store's own Meta app; the installation's where it is not set.",
    "appSecret": "Secret of the store's own Meta app.",
    "batchSize": "Items per call to Meta, at most.",
    "conversionsAccessToken": "Token for the Conversions API.",
    "currency": "ISO 4217 code of all prices; fixed once anything was sent.",
    "defaultBrand": "Brand of products that have none.",
    "defaultCondition": "Condition of variants that have none.",
    "deleteGraceDays": "Days that a deletion at Meta is put off.",
    "features": "Parts of Meta that the store uses; each asks for permissions of its own.",
    "feedMode": "`preview`: nothing is sent, and changes wait.",
    "graphVersion": "Version of the Graph API that is spoken.",
    "guardMaxShare": "Share of the items that may be deleted at once without being asked about.",
    "guardMinItems": "Fewer deletions than this are never asked about; imports that replace do not heed it.",
    "handlePollMaxAgeMinutes": "When Meta has not finished a batch by then, its items go out again.",
    "handlesPerPollTick": "Batches that are asked about at once, at most.",
    "identifierExistsFallback": "Say `identifier_exists: no` of items without GTIN, MPN and brand.",
    "maxAttempts": "How often an item is tried again by itself.",
    "mediaBaseUrl": "Address before image paths that are not whole addresses.",
    "pixelId": "Meta's id of the pixel.",
    "pollIntervalSeconds": "Longest wait between two questions about one batch.",
    "quantityPolicy": "How exactly Meta is told a stock: up to 50, exactly, or not at all.",
    "redirectUri": "Where Meta's dialog sends people back to.",
    "retailerIdTemplate": "What ids at Meta are made of; `{variantId}`, `{productId}` and `{sku}` are filled in.",
    "retentionAuditDays": "Days that the audit log is kept.",
    "retentionBatchHistoryDays": "Days that batches and their items are kept.",
    "retentionBuyerDataDays": "Days that buyers' data is kept; the order stays.",
    "retentionConversionBodyDays": "Days that the bodies of conversion events are kept.",
    "retentionDayMetricsDays": "Days that figures per day are kept.",
    "retentionHourMetricsDays": "Days that metrics per hour are kept.",
    "retentionHourlyFiguresDays": "Days that hourly figures are kept.",
    "retentionMessageDays": "Days that messages are kept.",
    "retentionMinuteMetricsDays": "Days that metrics per minute are kept.",
    "retentionTimelineDays": "Days that the notes of an item's timeline are kept.",
    "retentionWebhookBodyDays": "Days that the bodies of webhooks are kept.",
    "storefrontBaseUrl": "Address of the shop, before the paths of its products.",
    "storefrontProductPath": "Path of a product in the shop; `{slug}` and the like are filled in.",
    "syncEnabled": "Whether anything is sent.",
    "syncIntervalSeconds": "Longest time between two looks at the whole store; changes never wait for it.",
    "systemUserName": "Name of the System User at Meta.",
    "testEventCode": "Code that marks conversion events as tests.",
    "timezone": "IANA time zone of times in imports that name none.",
    "tokenExpiryAlertDays": "Days before a token's end at which alerts go out.",
    "verifyToken": "Word that Meta's webhooks are set up with.",
}
_CATALOG = {
    "allowBackorder": "Whether it may be ordered without stock.",
    "availability": "What is said of availability where stock is not tracked.",
    "barcode": "Any other code of the item.",
    "brand": "Brand; the setting `defaultBrand` where it is absent.",
    "categories": "The shop's categories, outer to inner.",
    "condition": "new, refurbished or used.",
    "ean": "EAN or ISBN; checked before it is sent as GTIN.",
    "googleProductCategory": "Category of Google's list, by name or number.",
    "images": "Addresses of further images, or paths below `mediaBaseUrl`.",
    "inventory": "The stock; null where nothing is known of it.",
    "link": "Address in the shop; made of the settings where it is absent.",
    "options": "What tells it from the product's other variants, such as colour and size.",
    "price": "Whole minor units of the store's currency.",
    "publicId": "Random id that may stand in public addresses.",
    "quantityOnHand": "Pieces in stock.",
    "reservedQuantity": "Pieces of them that are promised already.",
    "sku": "The shop's own code.",
    "slug": "The product's name in addresses.",
    "specialPrice": "Reduced price, in whole minor units of the store's currency.",
    "specialPriceEnd": "When the reduced price ends.",
    "specialPriceStart": "From when the reduced price holds.",
    "subtitle": "Line below the title.",
    "thumbnail": "Main image: an address, or a path below `mediaBaseUrl`.",
    "title": "What it is called.",
    "trackInventory": "Whether the stock decides about availability.",
    "upc": "UPC; checked before it is sent as GTIN.",
    "variants": "Its variants.",
    "vendor": "Who makes or supplies it.",
    "visibility": "Only public products are sent.",
}
_COMMON = {
    "accepted": "How many went in.",
    "at": "When it happened.",
    "attempts": "How often Meta refused the item in a row.",
    "businessId": "Meta's id of the business.",
    "businessName": "Name of the business, as Meta shows it.",
    "catalogId": "Meta's id of the catalog.",
    "catalogName": "Name of the catalog, as Meta shows it.",
    "category": "Kind of the cause.",
    "changed": "How many look different now.",
    "checkedAt": "When Meta was asked.",
    "confirmedAt": "When Meta last said that the item is as it should be.",
    "connectedAt": "Since when the token is used.",
    "counts": "Figures at this moment; they add up.",
    "createdAt": "When it was made.",
    "deleted": "Whether it is gone.",
    "details": "What is wrong, field by field; empty where it is no matter of fields.",
    "dryRun": "Everything is judged and counted, nothing is sent or written.",
    "eligibleOnly": "Only variants of active, public products that are not deleted.",
    "enqueued": "What is looked at again because of it.",
    "errorCode": "Stable code of what went wrong.",
    "feedId": "Id of the feed.",
    "finishedAt": "When it was over.",
    "format": "Name of the format; null while it is not recognised.",
    "href": "Path of this object.",
    "id": "Its id.",
    "importId": "Id of the import.",
    "index": "Its place among those sent, from 0.",
    "intervalSeconds": "Seconds from one fetch to the next.",
    "issues": "What the mapping had to cut, drop or could not read.",
    "itemId": "The item's id, where the row has one.",
    "items": "The rows.",
    "jobId": "Id of the job.",
    "keyId": "Id of the key; it is no secret.",
    "lane": "How urgent what waits is; null where nothing waits.",
    "lastHandle": "Meta's handle of the last batch with the item.",
    "lastPushedAt": "When the item was last sent.",
    "limit": "Rows per page.",
    "message": "What is to be said about it, as a sentence.",
    "metaRetailerId": "The id it was first sent under.",
    "metadata": "What is to be said beside the data.",
    "method": "What was asked of Meta.",
    "mode": "`upsert` leaves what the file does not have, `replace` deletes it.",
    "name": "What people call it.",
    "nextStep": "What to do about it, as a sentence.",
    "outcome": "What became of it.",
    "password": "Password for basic authentication.",
    "pendingIntent": "Whether a newer state of the item waits to be looked at.",
    "permissions": "What the credential may do.",
    "presence": "Whether the item is at Meta.",
    "productId": "The store's own id of the product.",
    "rejected": "What did not go in, and why.",
    "requestedBy": "Id of the API key that asked for it; null for the service itself.",
    "scope": "What it is about.",
    "source": "Who the products belong to: the name of a feed, `api` or `meta`.",
    "startedAt": "When it began.",
    "status": "How it stands.",
    "storeId": "Id of the store; null for the platform.",
    "syncStatus": "How the item stands at Meta.",
    "systemUserId": "Meta's id of the System User behind the token; null for a person's.",
    "tokenExpiresAt": "When the token ends; null where Meta names no end.",
    "tokenKind": "Whose token it is.",
    "type": "What kind of thing it is.",
    "unchanged": "How many looked as they should already.",
    "updatedAt": "When it was last changed.",
    "username": "User name for basic authentication.",
    "variantId": "The store's own id of the variant.",
}
FIELDS = {**_SETTINGS, **_CATALOG, **_COMMON}
"""The sentence of a field by its name."""

PLACES = {
    "ActivityEntry.subject": "What it is about.",
    "ActivitySubject.id": "Its id; null where there is but one.",
    "ApiKey.lastUsedAt": "When it was last used, to the minute or so; null if never.",
    "CreatedApiKey.apiKey": "The key itself. Keep it; it cannot be read again.",
    "DryRunDecisions.create": "Not at Meta yet.",
    "DryRunDecisions.delete": "At Meta, and to be taken off.",
    "DryRunDecisions.update": "At Meta, and different.",
    "DryRunResult.decisions": "Items by what would be done.",
    "Feed.allowMassDelete": "Whether a replace may delete a large part of its source's products.",
    "Feed.enabled": "Whether it is fetched on its schedule.",
    "Feed.lastImportId": "The last import that its file went to.",
    "Import.allowMassDelete": "Whether it may delete a large part of its source's products.",
    "Import.fileName": "Name of the file, where one was given.",
    "Import.message": "Why it failed, or what is to be said about its end.",
    "Import.sizeBytes": "Size of the file in bytes, as it came.",
    "ImportCounts.changed": "Items that look different now.",
    "ImportCounts.created": "Items that are new.",
    "ImportCounts.failed": "Items that cannot be read; `errors` and the report say why.",
    "ImportCounts.products": "Products of the file.",
    "ImportCounts.rows": "Rows of the file.",
    "ImportCounts.skipped": "Rows that are no item for sale.",
    "ImportCounts.unchanged": "Items that were as the file has them.",
    "ImportCounts.variants": "Variants of the file.",
    "ImportRowError.field": "Column or field of the file.",
    "ImportRowError.row": "Number of the row; 0 for the file as a whole.",
    "ItemEligibility.eligible": "Whether the item may be sent.",
    "ItemSyncState.status": "How the item stands at this catalog.",
    "Liveness.status": "Always `live`.",
    "Liveness.version": "Version of meta-sync.",
    "MediaUpdate.variants": "Pictures of its variants; those that are absent stay.",
    "MetaConnectionStatus.configuration": "What is still missing.",
    "MetaErrorBody.fbCode": "Meta's code.",
    "MetaErrorBody.fbSubcode": "Meta's subcode.",
    "MetaErrorBody.fbTraceId": "Meta's id of the call, for Meta's support.",
    "MetaErrorBody.fbType": "Meta's name of the kind of error.",
    "MetaHandle.accepted": "Items that Meta accepted.",
    "MetaHandle.bodyBytes": "Size of the call's body in bytes.",
    "MetaHandle.createdAt": "When it was put together.",
    "MetaHandle.errorCode": "Why the batch as a whole failed or waited; null where it did not.",
    "MetaHandle.rejected": "Items that Meta refused.",
    "MetaHandleCall.errorCode": "Why the call failed; null where it did not.",
    "MetaHandleCall.handle": "Meta's id of the call, once Meta took it.",
    "MetaHandleCall.number": "1 for the first call.",
    "MetaItemDetail.eligibility": "Whether the item may be sent, and why not.",
    "MetaItemDetail.product": "The product behind the item.",
    "MetaItemDetail.syncState": "What is recorded of the item at Meta; null before it was looked at.",
    "MetaItemDetail.variant": "The variant behind the item.",
    "MetaItemIssue.priority": "How grave it is, in Meta's word.",
    "MetaItemLiveStatus.availability": "What Meta shows of the availability.",
    "MetaItemLiveStatus.currency": "Currency that Meta shows the price in.",
    "MetaItemLiveStatus.errors": "What Meta says is wrong with the item.",
    "MetaItemLiveStatus.name": "Title that Meta shows.",
    "MetaItemLiveStatus.salePrice": "Reduced price as Meta formats it.",
    "MetaItemLiveStatus.visibility": "Whether Meta shows the item to people.",
    "MetaItemSummary.productSlug": "The product's name in addresses.",
    "MetaItemSummary.productStatus": "Status of the product.",
    "MetaItemSummary.productTitle": "Title of the product.",
    "MetaItemSummary.productVisibility": "Visibility of the product.",
    "NextRequest.decision": "What would be done.",
    "NextRequest.reason": "Why, as a code; null where it goes without saying.",
    "Product.changedAt": "When it was last changed here.",
    "Product.description": "Text about the product; HTML is taken out before it is sent.",
    "Product.sync": "How its variants stand at Meta.",
    "ProductBatch.products": "The products.",
    "ProductSync.lastSyncAt": "When Meta last confirmed one of them.",
    "ProductSync.worstStatus": "The status that wants most attention; null without variants.",
    "Readiness.database": "Always `ok`; else the answer is 503.",
    "Readiness.status": "Always `ready`.",
    "RevokedApiKey.revoked": "Always true.",
    "StatusBudget.allowancePerHour": "Calls that Meta allows within an hour.",
    "StatusBudget.blockedUntil": "Until when Meta allows no call; null while it does.",
    "StatusBudget.callsLastHour": "Calls within the last hour.",
    "StatusBudget.nextCallAt": "When the next call may be made; null where at once.",
    "StatusCatalog.productCount": "Items that Meta counts in the catalog.",
    "StatusCatalog.vertical": "Meta's kind of catalog.",
    "StatusConfiguration.missingKeys": "Settings without which nothing can be sent.",
    "SyncJob.stage": "What it is busy with.",
    "SyncJobCounts.failed": "Items that failed.",
    "SyncJobFilter.errorCode": "Only items with this code.",
    "SyncJobFilter.lane": "Only items that wait in this lane.",
    "SyncJobFilter.productId": "Only items of this product.",
    "SyncJobFilter.search": "Text within variant id, sku, title or slug.",
    "SyncJobFilter.status": "Only items in this status.",
    "SyncJobScope.filter": "The filter; null where items were named or all are meant.",
    "SyncJobScope.kind": "How the items were chosen.",
    "TimelineAttempt.batchId": "Id of the batch it went out in.",
    "TokenStatus.accountId": "Meta's id of who the token stands for.",
    "TokenStatus.accountName": "Name of who the token stands for.",
    "TokenStatus.connected": "Always true: a token that cannot be used is refused.",
    "TokenStatus.scope": "Permissions of the token, with commas between them.",
    "UpdateFeedBody.allowMassDelete": "Whether a replace may delete a large part of its source's products.",
    "VariantChange.variant": "The whole variant.",
}
"""The sentence of a field that means something of its own, by its schema and name."""

_ALIKE = {
    "BatchProduct": "Product",
    "CreateFeedBody": "Feed",
    "MetaHandleDetail": "MetaHandle",
    "ProductBody": "Product",
    "ProductUpdate": "Product",
    "UpdateFeedBody": "Feed",
}
"""Schemas whose fields mean what those of another one mean."""


def describe_fields(document: dict[str, Any]) -> None:
    """Describe every field and every envelope of the document that says nothing of itself."""
    schemas = document["components"]["schemas"]
    answers = _answers(document)
    for name, schema in schemas.items():
        if name in answers:
            schema.setdefault(
                "description", f"Answer of {' and '.join(f'`{one}`' for one in answers[name])}."
            )
            data = schema["properties"]["data"]
            told = (
                "The rows of the page."
                if data.get("type") == "array"
                else "What was asked for, or came of it."
            )
            data.setdefault("description", told)
        for field, one in schema.get("properties", {}).items():
            place = f"{_ALIKE.get(name, name)}.{field}"
            sentence = PLACES.get(f"{name}.{field}", PLACES.get(place, FIELDS.get(field)))
            if sentence is not None:
                one.setdefault("description", sentence)


def _answers(document: dict[str, Any]) -> dict[str, list[str]]:
    """The operations that answer with a schema, by its name."""
    found: dict[str, list[str]] = {}
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                for content in response.get("content", {}).values():
                    reference = content.get("schema", {}).get("$ref", "")
                    if status.startswith("2") and reference:
                        found.setdefault(reference.rpartition("/")[2], []).append(operation["operationId"])
    return {name: sorted(operations) for name, operations in found.items()}
