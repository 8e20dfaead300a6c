"""What a frontend reads about failures: the failed items, the table of codes, and the code wherever an error is shown."""

from __future__ import annotations

import httpx
import pytest

from meta_sync.access.models import Permission
from meta_sync.sync.codes import CODES, entry_of
from tests.support.api import Api, Caller, assert_error, product_body
from tests.support.pipeline import execute

_SAID = "The price is wrong: <0>."
_FAILED_ITEM = {
    "variantId", "productId", "productTitle", "sku", "metaRetailerId", "lastHandle", "attempts", "code", "category",
    "explanation", "action", "lastError", "lastPushedAt", "updatedAt", "retryAt", "presence", "pendingIntent", "href",
}  # fmt: skip


@pytest.fixture
async def caller(api: Api) -> Caller:
    """A caller of a connected store, of whose three items Meta refuses one and the mapping another."""
    await api.world.connect()
    api.world.sandbox.refuse("bad", _SAID)
    caller = await api.caller()
    await caller.data("PUT", "/catalog/products/lamp", json=product_body("good", "bad", title="Lamp"))
    body = product_body("free")
    body["variants"][0]["price"] = None
    await caller.data("PUT", "/catalog/products/chair", json=body)
    await api.world.run()
    return caller


async def test_the_list_of_failed_items(caller: Caller) -> None:
    response = await caller.get("/admin/meta/errors")
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["metadata"] == {
        "page": 1,
        "limit": 50,
        "total": 1,
        "totalIsExact": True,
        "nextCursor": None,
    }
    [failed] = answer["data"]
    assert set(failed) == _FAILED_ITEM
    assert (failed["variantId"], failed["sku"], failed["productTitle"]) == ("bad", "SKU-bad", "Lamp")
    assert (failed["code"], failed["category"]) == ("rejected_by_meta", "product")
    assert failed["explanation"] == entry_of("rejected_by_meta").sentence
    assert failed["action"] == entry_of("rejected_by_meta").action
    assert _SAID in failed["lastError"]
    assert failed["explanation"] not in failed["lastError"]
    assert (failed["attempts"], failed["pendingIntent"]) == (1, False)
    assert (await caller.data("GET", failed["href"]))["syncStatus"] == "failed"


async def test_filters_and_paging(api: Api, caller: Caller) -> None:
    await execute(
        api.world,
        "UPDATE sync_state SET status = 'failed', code = 'not_saved', error_text = NULL WHERE variant_id = 'good'",
    )

    async def ids(**parameters: str | int) -> list[str]:
        response = await caller.get("/admin/meta/errors", **parameters)
        assert response.status_code == 200, response.text
        return [one["variantId"] for one in response.json()["data"]]

    assert await ids(sort="variantId") == ["bad", "good"]
    assert await ids(errorCode="not_saved") == ["good"]
    assert await ids(search="LAMP", sort="variantId") == ["bad", "good"]
    assert await ids(productId="chair") == []
    assert await ids(limit=1, page=2, sort="variantId") == ["good"]
    first = (await caller.get("/admin/meta/errors", limit=1, sort="variantId")).json()["metadata"]
    assert await ids(limit=1, sort="variantId", cursor=first["nextCursor"]) == ["good"]
    assert_error(await caller.get("/admin/meta/errors", cursor="x"), 400, "VALIDATION_ERROR")
    assert_error(await caller.get("/admin/meta/errors", limit=201), 400, "VALIDATION_ERROR")
    assert_error(await caller.get("/admin/meta/errors", page=51, limit=200), 400, "VALIDATION_ERROR")


async def test_who_may_read(api: Api, caller: Caller) -> None:
    for path in ("/admin/meta/errors", "/admin/meta/error-codes"):
        assert_error(await api.nobody.get(path), 401, "UNAUTHORIZED")
        stranger = await api.caller(permissions=(Permission.PRODUCTS_READ,))
        assert_error(await stranger.get(path), 403, "FORBIDDEN")


async def test_the_table_of_codes(caller: Caller) -> None:
    codes = (await caller.data("GET", "/admin/meta/error-codes"))["codes"]
    assert [one["code"] for one in codes] == list(CODES)
    assert next(one for one in codes if one["code"] == "missing_price") == {
        "code": "missing_price",
        "group": "skip",
        "category": "product",
        "severity": "error",
        "explanation": "The variant has no price above zero, as Meta counts this currency.",
        "action": "Enter a price for the variant.",
    }


def explained(answer: dict[str, object], prefix: str = "error") -> tuple[object, object, object]:
    return (answer[f"{prefix}Category"], answer[f"{prefix}Explanation"], answer[f"{prefix}Action"])


async def test_the_list_and_the_detail_explain_the_code_of_an_item(caller: Caller) -> None:
    rows: httpx.Response = await caller.get("/admin/meta/items")
    by_id = {row["variantId"]: row for row in rows.json()["data"]}
    for variant_id, code in (("bad", "rejected_by_meta"), ("free", "missing_price"), ("good", None)):
        entry = entry_of(code) if code else None
        wanted = (entry.category, entry.sentence, entry.action) if entry else (None, None, None)
        detail = await caller.data("GET", f"/admin/meta/items/{variant_id}")
        assert by_id[variant_id]["errorCode"] == detail["syncState"]["errorCode"] == code
        assert explained(by_id[variant_id]) == explained(detail["syncState"]) == wanted
    free = (await caller.data("GET", "/admin/meta/items/free"))["eligibility"]
    assert free["message"] == entry_of("missing_price").sentence
    assert free["nextStep"] == entry_of("missing_price").action


async def test_remarks_of_the_mapping_say_what_to_do(caller: Caller) -> None:
    body = product_body("loud", title="LAMP FOR THE GARDEN")
    await caller.data("PUT", "/catalog/products/loud", json=body)
    issues = (await caller.data("GET", "/admin/meta/items/loud"))["issues"]
    [loud] = [issue for issue in issues if issue["code"] == "text_all_caps"]
    assert loud["action"] == entry_of("text_all_caps").action
    assert "capital letters" in loud["message"]


async def test_the_last_error_of_the_status_is_explained(api: Api, caller: Caller) -> None:
    error = (await caller.data("GET", "/admin/meta/status"))["lastError"]
    assert set(error) == {"code", "message", "at", "category", "explanation", "action"}
    assert error["code"] == "rejected_by_meta"
    assert _SAID in error["message"]
    assert error["action"] == entry_of("rejected_by_meta").action
    await execute(
        api.world,
        "UPDATE credentials SET dead_at = now() + interval '1 s', dead_code = 190, dead_reason = 'Session has expired'",
    )
    error = (await caller.data("GET", "/admin/meta/status"))["lastError"]
    assert (error["code"], error["message"]) == ("190", "Session has expired")
    assert (error["category"], error["action"]) == ("authentication", "Connect the store to Meta again.")


async def test_where_meta_said_nothing_the_last_error_is_our_own_sentence(api: Api, caller: Caller) -> None:
    await execute(
        api.world,
        "UPDATE sync_state SET code = 'mapping_failed', error_text = NULL, updated_at = now() WHERE status = 'failed'",
    )
    error = (await caller.data("GET", "/admin/meta/status"))["lastError"]
    assert error["code"] == "mapping_failed"
    assert error["message"] == error["explanation"] == entry_of("mapping_failed").sentence


async def test_rows_of_an_import_say_what_to_do(api: Api, caller: Caller) -> None:
    file = b"id\ttitle\tprice\tlink\timage_link\na\tLamp\t1.00 XXX\thttps://s.example/a\thttps://s.example/a.jpg\n"
    response = await caller(
        "POST", "/catalog/imports", files={"file": ("feed.tsv", file)}, data={"format": "google-tsv"}
    )
    assert response.status_code == 202, response.text
    assert await api.factory.import_runner().run_next()
    found = await caller.data("GET", f"/catalog/imports/{response.json()['data']['importId']}")
    [failed] = found["errors"]
    assert failed["rule"] in CODES
    assert failed["action"] == entry_of(failed["rule"]).action
