"""The sandbox behind a real server, called by Meta's own SDK and over plain sockets."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import uvicorn
from facebook_business.adobjects.business import Business
from facebook_business.adobjects.productcatalog import ProductCatalog
from facebook_business.adobjects.user import User
from facebook_business.api import FacebookAdsApi
from facebook_business.exceptions import FacebookRequestError
from facebook_business.session import FacebookSession

from meta_sync.sandbox.app import create_app
from meta_sync.sandbox.faults import FaultSpec
from meta_sync.sandbox.options import (
    DEMO_ACCESS_TOKEN,
    DEMO_APP_ID,
    DEMO_APP_SECRET,
    DEMO_BUSINESS_ID,
    DEMO_CATALOG_ID,
    SandboxOptions,
)
from meta_sync.sandbox.state import SandboxState
from tests.sandbox.support import BEARER, update

pytestmark = pytest.mark.filterwarnings("ignore:value of requests might not be compatible:UserWarning")
"""The SDK says so of every items_batch call: its own table calls the list a map."""


@dataclass
class Served:
    url: str
    state: SandboxState

    def fault(self, kind: str, **parameters: Any) -> None:
        self.state.faults.add(FaultSpec.model_validate({"kind": kind, **parameters}))


@pytest.fixture
def served() -> Iterator[Served]:
    options = SandboxOptions(demo=True, require_proof=True, processing_delay_seconds=0)
    app = create_app(options)
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, lifespan="off", log_level="error", ws="none", timeout_graceful_shutdown=1)
    )
    started = threading.Event()

    async def startup(sockets: Any = None) -> None:
        await uvicorn.Server.startup(server, sockets)
        started.set()

    server.startup = startup  # type: ignore[method-assign]  # put in place of the real one for this test
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert started.wait(10)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield Served(f"http://127.0.0.1:{port}", app.state.sandbox)
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture
def sdk(served: Served, monkeypatch: pytest.MonkeyPatch) -> FacebookAdsApi:
    monkeypatch.setattr(FacebookSession, "GRAPH", served.url)
    return FacebookAdsApi.init(
        app_id=DEMO_APP_ID,
        app_secret=DEMO_APP_SECRET,
        access_token=DEMO_ACCESS_TOKEN,
        api_version="v26.0",
        crash_log=False,
    )


@pytest.mark.usefixtures("sdk")
def test_the_sdk_writes_follows_and_reads(served: Served) -> None:
    catalog = ProductCatalog(DEMO_CATALOG_ID)
    requests = [update("SKU-1", title="Šála & “quotes” + 100 %"), update("SKU-2", condition="old")]
    answer = catalog.create_items_batch(
        params={"item_type": "PRODUCT_ITEM", "allow_upsert": True, "requests": requests}
    )
    handle = answer["handles"][0]
    [report] = catalog.get_check_batch_request_status(
        params={"handle": handle, "load_ids_of_invalid_requests": True},
        fields=["handle", "status", "errors", "errors_total_count", "ids_of_invalid_requests"],
    )
    assert report["status"] == "finished"
    assert report["ids_of_invalid_requests"] == ["SKU-2"]
    assert served.state.catalog(DEMO_CATALOG_ID).items["SKU-1"]["title"] == "Šála & “quotes” + 100 %"
    products = catalog.get_products(
        fields=["retailer_id", "name", "price"], params={"filter": {"retailer_id": {"eq": "sku-1"}}}
    )
    assert [(entry["retailer_id"], entry["price"]) for entry in products] == [("SKU-1", "€19.90")]


@pytest.mark.usefixtures("sdk")
def test_the_sdk_pages_by_following_links(served: Served) -> None:
    catalog = ProductCatalog(DEMO_CATALOG_ID)
    requests = [update(f"SKU-{number}") for number in range(7)]
    catalog.create_items_batch(params={"item_type": "PRODUCT_ITEM", "requests": requests})
    cursor = catalog.get_products(fields=["retailer_id"], params={"limit": 2, "summary": True})
    assert [entry["retailer_id"] for entry in cursor] == [f"SKU-{number}" for number in range(7)]
    assert cursor.total() == 7


@pytest.mark.usefixtures("sdk")
def test_the_sdk_lists_and_creates_catalogs(served: Served) -> None:
    assert User("me").api_get(fields=["name"])["name"] == "Demo System User"
    assert [entry["id"] for entry in User("me").get_businesses()] == [DEMO_BUSINESS_ID]
    created = Business(DEMO_BUSINESS_ID).create_owned_product_catalog(params={"name": "By the SDK"})
    owned = Business(DEMO_BUSINESS_ID).get_owned_product_catalogs(fields=["id", "name"])
    assert {entry["name"] for entry in owned} == {"Demo Catalog", "By the SDK"}
    assert ProductCatalog(created["id"]).api_get(fields=["product_count"])["product_count"] == 0
    assert served.state.has_catalog(created["id"])


def test_the_sdk_understands_our_errors(served: Served, sdk: FacebookAdsApi) -> None:
    served.fault("transient_before")
    with pytest.raises(FacebookRequestError) as transient:
        ProductCatalog(DEMO_CATALOG_ID).api_get()
    assert (transient.value.http_status(), transient.value.api_error_code()) == (500, 2)
    assert transient.value.api_transient_error()
    served.fault("token_error", subcode=460)
    with pytest.raises(FacebookRequestError) as dead:
        ProductCatalog(DEMO_CATALOG_ID).api_get()
    assert (dead.value.api_error_code(), dead.value.api_error_subcode()) == (190, 460)
    sdk._session.app_secret = "another secret"
    sdk._session.appsecret_proof = sdk._session._gen_appsecret_proof()
    sdk._session.requests.params.update({"appsecret_proof": sdk._session.appsecret_proof})
    with pytest.raises(FacebookRequestError) as proof:
        ProductCatalog(DEMO_CATALOG_ID).api_get()
    assert proof.value.api_error_code() == 100


def test_the_sdk_sends_many_calls_in_one(served: Served, sdk: FacebookAdsApi) -> None:
    batch = sdk.new_batch()
    results: list[Any] = []
    for number in range(3):
        ProductCatalog(DEMO_CATALOG_ID).create_items_batch(
            params={"item_type": "PRODUCT_ITEM", "requests": [update(f"SKU-{number}")]},
            batch=batch,
            success=lambda response: results.append(response.json()["handles"]),
            failure=lambda response: results.append(response.error()),
        )
    assert batch.execute() is None
    assert [len(handles) for handles in results] == [1, 1, 1]
    assert len(served.state.catalog(DEMO_CATALOG_ID).items) == 3
    assert [entry.edge for entry in served.state.requests] == ["items_batch"] * 3


def signed(served: Served, **parameters: Any) -> dict[str, Any]:
    import hashlib
    import hmac

    proof = hmac.new(DEMO_APP_SECRET.encode(), DEMO_ACCESS_TOKEN.encode(), hashlib.sha256)
    return {"appsecret_proof": proof.hexdigest(), **parameters}


@pytest.mark.parametrize(
    ("kind", "how", "error"),
    [
        ("drop_before", "close", (httpx.RemoteProtocolError, httpx.ReadError)),
        ("drop_after", "close", (httpx.RemoteProtocolError, httpx.ReadError)),
        ("drop_after", "timeout", httpx.ReadTimeout),
        ("half_response", "close", (httpx.RemoteProtocolError, httpx.ReadError)),
    ],
)
def test_a_lost_answer_is_lost_on_the_wire(
    served: Served,
    kind: str,
    how: str,
    error: type[httpx.TransportError],
    capfd: pytest.CaptureFixture[str],
) -> None:
    served.fault(kind, how=how)
    body = {"item_type": "PRODUCT_ITEM", "requests": [update("A")]}
    with httpx.Client(base_url=served.url, params=signed(served), headers=BEARER, timeout=5) as client:
        with pytest.raises(error):
            client.post(f"/{DEMO_CATALOG_ID}/items_batch", json=body, timeout=0.5)
        assert ("A" in served.state.catalog(DEMO_CATALOG_ID).items) is (kind != "drop_before")
        assert client.get("/me").status_code == 200
    assert "Traceback" not in capfd.readouterr().err


def test_json_that_ends_in_the_middle_is_a_whole_http_answer(served: Served) -> None:
    served.fault("invalid_json")
    response = httpx.get(f"{served.url}/me", params=signed(served), headers=BEARER)
    assert response.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        response.json()
