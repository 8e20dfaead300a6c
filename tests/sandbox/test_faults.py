"""Every fault, seen from the caller's side."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from meta_sync.sandbox.faults import FaultKind
from meta_sync.sandbox.options import DEMO_BUSINESS_ID, DEMO_CATALOG_ID
from tests.sandbox.support import World, change, error_of, update

STATUS = f"{DEMO_CATALOG_ID}/check_batch_request_status"


@pytest.mark.parametrize(
    ("kind", "how", "error", "applied"),
    [
        ("drop_before", "close", httpx.RemoteProtocolError, False),
        ("drop_before", "timeout", httpx.ReadTimeout, False),
        ("drop_after", "close", httpx.RemoteProtocolError, True),
        ("drop_after", "timeout", httpx.ReadTimeout, True),
        ("half_response", "close", httpx.RemoteProtocolError, True),
    ],
)
async def test_a_lost_answer(
    world: World, kind: str, how: str, error: type[httpx.TransportError], applied: bool
) -> None:
    world.fault(kind, how=how, edge="items_batch")
    with pytest.raises(error):
        await world.send(update("A"))
    world.clock.forward(2)
    assert ("A" in world.catalog.items) is applied
    assert world.state.requests[-1].status == (200 if kind == "half_response" else 0)
    assert (await world.send(update("A"))).status_code == 200


@pytest.mark.parametrize(
    ("kind", "applied"),
    [
        ("html_500_before", False),
        ("html_500_after", True),
        ("transient_before", False),
        ("transient_after", True),
        ("reduce_data", False),
        ("token_error", False),
        ("access_lost", False),
        ("blocked", False),
        ("graph_error", False),
        ("invalid_json", True),
    ],
)
async def test_whether_a_failed_call_was_heard(world: World, kind: str, applied: bool) -> None:
    world.fault(kind)
    response = await world.send(update("A"))
    assert response.status_code != 200 or kind == "invalid_json"
    world.clock.forward(2)
    assert ("A" in world.catalog.items) is applied


@pytest.mark.parametrize(
    ("kind", "parameters", "expected"),
    [
        ("transient_before", {}, (500, 2, None)),
        ("transient_after", {}, (500, 2, None)),
        ("reduce_data", {}, (500, 1, None)),
        ("token_error", {}, (400, 190, 463)),
        ("token_error", {"subcode": 460}, (400, 190, 460)),
        ("token_error", {"subcode": 0}, (400, 190, None)),
        ("access_lost", {}, (400, 100, 33)),
        ("blocked", {}, (400, 368, None)),
        ("graph_error", {"code": 613, "subcode": 1996, "status": 403}, (403, 613, 1996)),
    ],
)
async def test_refusals_on_request(
    world: World, kind: str, parameters: dict[str, int], expected: tuple[int, int, int | None]
) -> None:
    world.fault(kind, **parameters)
    response = await world.send(update("A"))
    assert error_of(response) == expected
    assert ("is_transient" in response.json()["error"]) is kind.startswith("transient")
    assert world.state.requests[-1].error_code == expected[1]


async def test_an_html_page_with_500(world: World) -> None:
    world.fault("html_500_before")
    response = await world.get("me")
    assert response.status_code == 500
    assert response.headers["content-type"].startswith("text/html")


async def test_json_that_ends_in_the_middle(world: World) -> None:
    world.fault("invalid_json")
    response = await world.get("me")
    assert response.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        response.json()


@pytest.mark.parametrize(("edge", "code"), [("items_batch", 80014), ("products", 80009)])
async def test_throttling_lasts_until_access_is_regained(world: World, edge: str, code: int) -> None:
    world.fault("throttled", edge=edge, minutes=3)

    async def call() -> httpx.Response:
        return await (
            world.send(update("A")) if edge == "items_batch" else world.get(f"{DEMO_CATALOG_ID}/products")
        )

    for passed in (0, 1, 2):
        response = await call()
        assert error_of(response) == (400, code, None)
        [entry] = json.loads(response.headers["x-business-use-case-usage"])[DEMO_BUSINESS_ID]
        assert entry["estimated_time_to_regain_access"] == 3 - passed
        assert entry["call_count"] >= 100
        world.clock.forward(60)
    assert (await call()).status_code == 200


async def test_a_slow_answer(world: World) -> None:
    world.fault("slow", seconds=7)
    assert (await world.get("me")).status_code == 200
    assert world.slept == [7]


async def test_no_handle_and_half_of_the_reasons(world: World) -> None:
    world.fault("no_handles")
    response = await world.send(update("A"), update("B"), update("C"))
    assert response.status_code == 200
    assert response.json()["handles"] == []
    assert [entry["retailer_id"] for entry in response.json()["validation_status"]] == ["A"]
    world.clock.forward(60)
    assert world.catalog.items == {}


@pytest.mark.parametrize(("kind", "word"), [("handle_error", "error"), ("handle_canceled", "canceled")])
async def test_a_batch_that_fails_in_the_middle(world: World, kind: str, word: str) -> None:
    world.fault(kind, share=0.5)
    report = await world.report(*(update(f"A{number}") for number in range(10)))
    assert report["status"] == word
    assert len(world.catalog.items) == 5


async def test_a_late_batch_is_overtaken(world: World) -> None:
    world.fault("handle_late", seconds=3600)
    late = await world.handle(update("A", title="Old"))
    await world.report(update("A", title="New"))
    assert world.catalog.items["A"]["title"] == "New"
    assert (await world.status(late))["status"] == "started"
    world.clock.forward(3600)
    assert world.catalog.items["A"]["title"] == "Old"
    assert (await world.status(late))["status"] == "finished"


async def test_a_batch_that_never_ends(world: World) -> None:
    world.fault("handle_never")
    handle = await world.handle(update("A"))
    world.clock.forward(30 * 24 * 3600)
    assert (await world.status(handle))["status"] == "started"
    assert world.catalog.items == {}


async def test_capped_errors_keep_the_true_total(world: World) -> None:
    world.fault("errors_capped", limit=3)
    report = await world.report(*(update(f"A{number}", condition="old") for number in range(10)))
    assert len(report["errors"]) == len(report["ids_of_invalid_requests"]) == 3
    assert report["errors_total_count"] == 10


@pytest.mark.parametrize(
    ("kind", "limit", "sent", "reported"),
    [
        ("ids_trimmed", 0, " Sku-1 ", "Sku-1"),
        ("ids_trimmed", 4, "Sku-12", "Sku-"),
        ("ids_other_case", 0, "Sku-1", "sKU-1"),
    ],
)
async def test_ids_reported_otherwise(world: World, kind: str, limit: int, sent: str, reported: str) -> None:
    world.fault(kind, limit=limit)
    report = await world.report(update(sent, condition="old"))
    assert [error["id"] for error in report["errors"]] == report["ids_of_invalid_requests"] == [reported]


@pytest.mark.parametrize("counted", [True, False])
async def test_required_fields_as_warnings(world: World, counted: bool) -> None:
    world.fault("required_as_warnings", counted=counted)
    report = await world.report(change("A", title="No more than a title"), update("B"))
    assert report["errors"] == []
    assert {warning["id"] for warning in report["warnings"]} == {"A"}
    assert (report["errors_total_count"] > 0) is counted
    assert report["errors_total_count"] == len(report["ids_of_invalid_requests"])
    assert list(world.catalog.items) == ["B"]


async def test_reads_lag_behind_writes(world: World) -> None:
    await world.report(update("A", title="Old"), update("B"))
    world.fault("read_lag", count=None, seconds=30)
    await world.report(update("A", title="New"), {"method": "DELETE", "data": {"id": "B"}}, update("C"))

    async def titles() -> dict[str, str]:
        data = (await world.products(fields="retailer_id,name"))["data"]
        return {entry["retailer_id"]: entry["name"] for entry in data}

    assert world.catalog.items.keys() == {"A", "C"}
    assert await titles() == {"A": "Old", "B": "T-shirt"}
    world.clock.forward(30)
    assert await titles() == {"A": "New", "C": "T-shirt"}


async def test_prices_as_another_locale_writes_them(world: World) -> None:
    await world.report(update("A", price="1234.50 EUR"))
    world.fault("locale_prices")
    [node] = await world.found({"retailer_id": {"eq": "A"}}, "price,currency")
    assert (node["price"], node["currency"]) == ("1.234,50\N{NO-BREAK SPACE}€", "EUR")


async def test_an_unknown_handle_for_once(world: World) -> None:
    handle = await world.handle(update("A"))
    world.fault("unknown_handle")
    assert error_of(await world.get(STATUS, handle=handle)) == (400, 100, None)
    assert (await world.status(handle))["handle"] == handle


async def test_keys_that_are_not_there(world: World) -> None:
    world.fault("absent_keys", count=None)
    report = await world.report(update("A"))
    assert set(report) == {"handle", "status"}
    assert "handles" not in (await world.send(update("A", price="free"))).json()


async def test_messages_in_another_language_unless_asked_otherwise(world: World) -> None:
    world.fault("localized_messages", count=None)
    czech = await world.send(update("A", price="free"))
    assert czech.json()["validation_status"][0]["errors"] == [
        {"message": "Hodnota price v rámci  není platná. Zkontrolujte to"}
    ]
    english = await world.send(update("A", price="free"), locale="en_US")
    assert "is invalid" in english.json()["validation_status"][0]["errors"][0]["message"]
    handle = await world.handle(change("A", title="T"))
    world.clock.forward(2)
    assert "Chybí" in (await world.status(handle))["errors"][0]["message"]
    assert "Descriptions are missing" in (await world.status(handle, locale="en_US"))["errors"][0]["message"]


async def test_status_words_nobody_promised(world: World) -> None:
    world.fault("status_words", count=None)
    handle = await world.handle(update("A"))
    assert (await world.status(handle))["status"] == "in_progress"
    world.clock.forward(2)
    assert (await world.status(handle))["status"] == "Finished"


async def test_counts_skips_and_matches(world: World) -> None:
    armed = world.fault("blocked", edge="products", catalog_id=DEMO_CATALOG_ID, count=2, skip=1)
    path = f"{DEMO_CATALOG_ID}/products"
    assert (await world.get("me")).status_code == 200
    statuses = [(await world.get(path)).status_code for _ in range(4)]
    assert statuses == [200, 400, 400, 200]
    assert (armed.fired, armed.left) == (2, 0)
    world.fault("blocked", catalog_id="1")
    assert (await world.get(path)).status_code == 200


async def test_a_probability_means_for_ever_and_follows_the_seed(make_world: Callable[..., World]) -> None:
    async def statuses(seed: int) -> list[int]:
        world = make_world(seed=seed)
        world.fault("blocked", probability=0.3)
        return [(await world.get("me")).status_code for _ in range(100)]

    first = await statuses(1)
    assert 10 < first.count(400) < 60
    assert await statuses(1) == first
    assert await statuses(2) != first


async def test_the_adverse_profile_misbehaves_and_still_keeps_what_it_confirms(
    make_world: Callable[..., World],
) -> None:
    """A caller that repeats what it does not know and believes only whole reports ends up right."""
    world = make_world(profile="adverse", seed=3, calls_per_hour=100_000)
    wanted = {f"A{number}": f"Title {number}" for number in range(60)}
    failures = 0
    for retailer_id, title in wanted.items():
        for _ in range(20):
            try:
                response = await world.send(update(retailer_id, title=title))
                [handle] = response.json()["handles"]
            except (httpx.TransportError, ValueError, KeyError):
                failures += 1
                continue
            world.clock.forward(120)
            node = {"status": "unknown"}
            for _ in range(20):
                try:
                    answer = await world.get(STATUS, handle=handle, load_ids_of_invalid_requests="true")
                    [node] = answer.json()["data"]
                    break
                except (httpx.TransportError, ValueError, KeyError):
                    failures += 1
            if node["status"].lower() == "finished" and not node.get("errors_total_count"):
                break
            failures += 1
    assert failures > 5
    assert {key: entry["title"] for key, entry in world.catalog.items.items()} == wanted


def test_every_kind_is_written_down() -> None:
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text()
    assert [kind for kind in FaultKind if f"`{kind}`" not in text] == []


async def test_a_poisonous_record_spoils_every_call_that_carries_it(world: World) -> None:
    world.fault("poison", count=None, retailer_id="bad", code=100, message="Invalid parameter")
    spoiled = await world.send(update("good"), update("bad"))
    assert (error_of(spoiled), spoiled.json()["error"]["message"]) == ((400, 100, None), "Invalid parameter")
    assert (await world.send(update("good"))).status_code == 200
    world.clock.forward(2)
    assert set(world.catalog.items) == {"good"}
