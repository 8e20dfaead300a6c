"""Where an answer leads to: which value of it names what in which further operation. Readers and testing tools follow them."""

from __future__ import annotations

from typing import Any

__all__ = ["add_links"]

_JOB, _IMPORT, _FEED = {"jobId": "jobId"}, {"importId": "importId"}, {"feedId": "feedId"}
_OF_JOB = ("getSyncJob", "cancelSyncJob", "streamSyncJob", "getSyncJobReport")
_OF_RECONCILIATION = ("getReconciliation", "listReconciledItems", "repairReconciliation")
_OF_IMPORT = ("getImport", "streamImport", "getImportReport")
_OF_FEED = ("getFeed", "updateFeed", "fetchFeed", "deleteFeed")
_OF_HOLD = ("getHold", "listHeldItems", "releaseHold", "discardHold")
_OF_ITEM = (
    "getItem",
    "getItemTimeline",
    "getItemMetaStatus",
    "resyncItem",
    "resyncVariant",
    "deleteItemFromMeta",
)
_OF_PRODUCT = ("getProduct", "putProduct", "deleteProduct")
_OF_STORE = ("getStore", "updateStore", "createApiKey", "listApiKeys")

_LINKS: dict[str, list[tuple[tuple[str, ...], dict[str, str]]]] = {
    "createStore": [(_OF_STORE, {"storeId": "storeId"})],
    "listStores": [(_OF_STORE, {"storeId": "0/storeId"})],
    "getStore": [(_OF_STORE[1:], {"storeId": "storeId"})],
    "createApiKey": [(("revokeApiKey",), {"keyId": "keyId"})],
    "listApiKeys": [(("revokeApiKey",), {"keyId": "0/keyId"})],
    "putProduct": [(_OF_PRODUCT, {"productId": "productId"})],
    "listProducts": [
        (_OF_PRODUCT, {"productId": "0/id"}),
        (("putInventory", *_OF_ITEM), {"variantId": "0/variants/0/id"}),
    ],
    "getProduct": [
        (_OF_PRODUCT[1:], {"productId": "id"}),
        (("putInventory", *_OF_ITEM), {"variantId": "variants/0/id"}),
    ],
    "createImport": [(_OF_IMPORT, _IMPORT)],
    "listImports": [(_OF_IMPORT, {"importId": "0/importId"})],
    "getImport": [(_OF_IMPORT[1:], _IMPORT)],
    "createFeed": [(_OF_FEED, _FEED)],
    "listFeeds": [(_OF_FEED, {"feedId": "0/feedId"})],
    "getFeed": [(_OF_FEED[1:], _FEED), (("getImport",), {"importId": "lastImportId"})],
    "fetchFeed": [(("getFeed",), _FEED)],
    "selectCatalog": [(_OF_JOB, _JOB)],
    "bootstrap": [(_OF_JOB, _JOB)],
    "createSyncJob": [(_OF_JOB, _JOB)],
    "listSyncJobs": [(_OF_JOB, {"jobId": "0/id"})],
    "getSyncJob": [(_OF_JOB[1:], {"jobId": "id"})],
    "cancelSyncJob": [(("getSyncJob",), {"jobId": "id"})],
    "createPreflight": [(("getPreflight", "approvePreflight", *_OF_JOB), _JOB)],
    "listPreflights": [(("getPreflight", "approvePreflight"), {"jobId": "reports/0/id"})],
    "approvePreflight": [(("getPreflight", "getSyncJob"), _JOB)],
    "getPreflight": [(("approvePreflight", "getSyncJob"), {"jobId": "id"})],
    "createReconciliation": [((*_OF_RECONCILIATION, *_OF_JOB), _JOB)],
    "listReconciliations": [(_OF_RECONCILIATION, {"jobId": "0/id"})],
    "getReconciliation": [((*_OF_RECONCILIATION[1:], "getSyncJob", "cancelSyncJob"), {"jobId": "id"})],
    "listReconciledItems": [(("getItem", "getItemTimeline"), {"variantId": "0/variantId"})],
    "repairReconciliation": [(("getItem", "getItemTimeline"), {"variantId": "items/0/variantId"})],
    "resyncFailedItems": [(_OF_JOB, _JOB)],
    "resyncSkippedItems": [(_OF_JOB, _JOB)],
    "resyncItems": [(_OF_JOB, _JOB)],
    "deleteItemsFromMeta": [(_OF_JOB, _JOB)],
    "listItems": [(_OF_ITEM, {"variantId": "0/variantId"}), (("getProduct",), {"productId": "0/productId"})],
    "getItem": [(_OF_ITEM[1:], {"variantId": "variant/id"}), (("getProduct",), {"productId": "product/id"})],
    "listErrors": [(_OF_ITEM, {"variantId": "0/variantId"})],
    "resyncItem": [(("getItem", "getItemTimeline"), {"variantId": "variantId"})],
    "resyncVariant": [(("getItem", "getItemTimeline"), {"variantId": "variantId"})],
    "deleteItemFromMeta": [(("getItem", "getItemTimeline", "resyncItem"), {"variantId": "variantId"})],
    "listHandles": [(("getHandle",), {"id": "0/id"})],
    "getHandle": [(("getItem", "getItemTimeline"), {"variantId": "items/0/variantId"})],
    "listHolds": [(_OF_HOLD, {"holdId": "0/id"})],
    "getHold": [(_OF_HOLD[1:], {"holdId": "id"})],
    "listHeldItems": [(("getItem", "getItemTimeline"), {"variantId": "0/variantId"})],
    "releaseHold": [(("getHold",), {"holdId": "id"})],
    "discardHold": [(("getHold",), {"holdId": "id"})],
    "getItemTimeline": [(("getHandle",), {"id": "0/attempt/batchId"})],
}
"""Operations that an answer leads to, with the places in its data that their parameters are taken from."""


def add_links(document: dict[str, Any]) -> None:
    """Put the links into the successes, and to every page the link to the next one."""
    operations = {
        one["operationId"]: one for methods in document["paths"].values() for one in methods.values()
    }
    for name, operation in operations.items():
        links = {
            target: _link(target, operations[target]["summary"], places)
            for targets, places in _LINKS.get(name, ())
            for target in targets
        }
        if any(one["name"] == "cursor" for one in operation.get("parameters", ())):
            links["nextPage"] = {
                "operationId": name,
                "description": "The next page; there is none when `nextCursor` is null.",
                # A cursor belongs to the list it came with, its filters and its order.
                "parameters": {
                    **{
                        f"{one['in']}.{one['name']}": f"$request.{one['in']}.{one['name']}"
                        for one in operation["parameters"]
                        if one["in"] in {"path", "query"} and one["name"] not in {"cursor", "page"}
                    },
                    "query.cursor": "$response.body#/metadata/nextCursor",
                },
            }
        if links:
            status = next(one for one in operation["responses"] if one.startswith("2"))
            operation["responses"][status]["links"] = links


def _link(target: str, summary: str, places: dict[str, str]) -> dict[str, Any]:
    parameters = {f"path.{name}": f"$response.body#/data/{place}" for name, place in places.items()}
    return {"operationId": target, "description": f"{summary}.", "parameters": parameters}
