"""What the outside world does to a store, in memory and in PostgreSQL, with the rows and lanes of the real services."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from meta_sync.catalog import products_write
from meta_sync.catalog.models import InventoryInput, Lane, ProductInput, VariantInput
from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.connection.repository import token_context
from meta_sync.core.crypto import Cipher, generate_encryption_key
from meta_sync.core.errors import ConflictError
from meta_sync.sync import distrust, job_statements
from meta_sync.sync.job_statements import SEVERAL_JOBS, THE_CLOCK
from tests.simulation import edits
from tests.simulation.contract import HOST, SENDING, Bench, open_bench
from tests.simulation.memory import Row, Rows, Transaction, twin

CIPHER = Cipher([SecretStr(generate_encryption_key())])
_BODY: dict[str, Any] = {
    "title": 'A "chair"',
    "images": ["https://shop.example/b.jpg", 'a \\ "quoted", one', "", "line\nbreak"],
    "categories": ["{x}", "NULL"],
}

_FORGET_INTENT = text("DELETE FROM intents WHERE store_id = :store_id AND variant_id = :variant_id")
_KILL_TOKEN = text("UPDATE credentials SET dead_at = now() WHERE credential_id = :credential_id")
_KEYS_OF_OPTIONS = text(
    "SELECT key FROM variants, LATERAL jsonb_object_keys(options) AS key WHERE store_id = :store_id"
)


@twin(_FORGET_INTENT)
def _forget_intent(t: Transaction, p: Mapping[str, Any]) -> Rows:
    t.intents.delete(t.intents.rows[p["store_id"], p["variant_id"]])
    return Rows(rowcount=1)


@twin(_KILL_TOKEN)
def _kill_token(t: Transaction, p: Mapping[str, Any]) -> Rows:
    t.credentials.update(t.credentials.rows[p["credential_id"],], dead_at=t.now)
    return Rows(rowcount=1)


@pytest.fixture(scope="module")
def bench(postgres_server: EmbeddedPostgres) -> Iterator[Bench]:
    with open_bench(postgres_server) as bench:
        yield bench
        bench.mirror.compare_tables()


class _Shop:
    """A store under edit. Time passes between the edits, and what they leave behind is told."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.store_id = bench.store()

    async def __call__(self, edit: Any, *given: Any, **fields: Any) -> dict[str, Lane]:
        """Do an edit; the variants that got an intent, each with its lane."""
        self.bench.clock.move(1)
        for row in self.bench.mirror.tables["intents"]:
            if row["store_id"] == self.store_id:
                await self.bench.count(_FORGET_INTENT, store_id=self.store_id, variant_id=row["variant_id"])
        async with self.bench.mirror.platform() as connection:
            told = await edit(connection, self.store_id, *given, **fields)
        intents = self.rows("intents")
        found = {row["variant_id"]: Lane(row["lane"]) for row in intents}
        if isinstance(told, set):
            assert told == found.keys()
        return found

    def rows(self, table: str) -> list[Row]:
        return [row for row in self.bench.mirror.tables[table] if row["store_id"] == self.store_id]

    def row(self, table: str, row_id: str) -> Row:
        row = self.bench.mirror.tables[table].get(self.store_id, row_id)
        assert row is not None
        return row


@pytest.fixture
def shop(bench: Bench) -> _Shop:
    return _Shop(bench)


def _sale(bench: Bench) -> dict[str, Any]:
    now = bench.clock.now
    return {"special_price": 50, "special_price_start": now, "special_price_end": now + timedelta(days=1)}


# --- the catalog --------------------------------------------------------------------------------------------------------


async def test_urgency_of_a_variants_change(shop: _Shop) -> None:
    assert await shop(edits.put_product, "p", **_BODY) == {}
    options = {"size": "L", "a": "1", "colour": "red", "é": "2"}
    new = await shop(edits.put_variant, "p", "v", price=100, options=options, images=["x"])
    assert new == {"v": Lane.CONTENT}
    assert list(shop.row("variants", "v")["options"]) == ["a", "é", "size", "colour"]
    live, content = {"v": Lane.LIVE}, {"v": Lane.CONTENT}
    before = shop.row("variants", "v")
    assert await shop(edits.put_variant, "p", "v") == {}
    assert shop.row("variants", "v") is before
    assert await shop(edits.put_variant, "p", "v", price=90) == live
    assert await shop(edits.put_variant, "p", "v", **_sale(shop.bench)) == live
    assert await shop(edits.put_variant, "p", "v", availability="out of stock") == live
    assert await shop(edits.put_variant, "p", "v", sku="S") == content
    assert await shop(edits.put_variant, "p", "v", options={"size": "M"}, sku=None) == content
    assert await shop(edits.put_variant, "p", "v", special_price=None, images=[]) == live
    after = shop.row("variants", "v")
    assert after["version"] > before["version"]
    assert after["updated_at"] > before["updated_at"] == before["created_at"] == after["created_at"]
    assert (after["price"], after["options"], after["images"]) == (90, {"size": "M"}, [])


async def test_postgresql_keeps_options_in_the_same_order(shop: _Shop) -> None:
    await shop(edits.put_product, "p")
    options = {"size": "L", "Z": "1", "a": "1", "colour": "red", "é": "2", "ab": "3"}
    await shop(edits.put_variant, "p", "v", options=options)

    async def stored() -> list[str]:
        async with shop.bench.mirror.engine.begin() as connection:
            rows = await connection.execute(_KEYS_OF_OPTIONS, {"store_id": shop.store_id})
            return list(rows.scalars())

    assert shop.bench.mirror.thread.run(stored()) == list(shop.row("variants", "v")["options"])


async def test_urgency_of_a_products_change(shop: _Shop) -> None:
    await shop(edits.put_product, "p", **_BODY)
    await shop(edits.put_variant, "p", "v")
    assert shop.row("products", "p")["images"] == _BODY["images"]
    live, content = {"v": Lane.LIVE}, {"v": Lane.CONTENT}
    assert await shop(edits.put_product, "p", **_BODY) == {}
    assert await shop(edits.put_product, "p", title="Table") == content
    assert await shop(edits.put_product, "p", visibility="private") == live
    assert await shop(edits.put_product, "p", visibility="public", categories=[]) == live
    assert await shop(edits.put_product, "p", status="draft") == live
    assert shop.row("products", "p")["title"] == "Table"
    assert await shop(edits.put_product, "p", source="file") == {}


async def test_a_second_variant_makes_a_group(shop: _Shop) -> None:
    await shop(edits.put_product, "p")
    assert await shop(edits.put_variant, "p", "a") == {"a": Lane.CONTENT}
    assert await shop(edits.put_variant, "p", "b") == {"a": Lane.CONTENT, "b": Lane.CONTENT}
    assert await shop(edits.put_variant, "p", "c") == {"c": Lane.CONTENT}
    assert await shop(edits.delete_variant, "c") == {"c": Lane.LIVE}
    assert await shop(edits.delete_variant, "b") == {"a": Lane.CONTENT, "b": Lane.LIVE}
    deleted_at = shop.row("variants", "b")["deleted_at"]
    assert deleted_at == shop.bench.clock.now
    assert await shop(edits.delete_variant, "b") == {}
    assert await shop(edits.delete_variant, "no such variant") == {}
    assert await shop(edits.put_variant, "p", "b", price=5) == {"a": Lane.CONTENT, "b": Lane.LIVE}
    assert shop.row("variants", "b")["deleted_at"] is None


async def test_a_variant_moves_to_another_product(shop: _Shop) -> None:
    for product_id in ("p", "q", "hidden"):
        await shop(
            edits.put_product, product_id, visibility="private" if product_id == "hidden" else "public"
        )
    await shop(edits.put_variant, "p", "a")
    await shop(edits.put_variant, "p", "b")
    await shop(edits.put_variant, "q", "c")
    moved = await shop(edits.put_variant, "q", "a")
    assert moved == {"a": Lane.CONTENT, "b": Lane.CONTENT, "c": Lane.CONTENT}
    assert await shop(edits.put_variant, "hidden", "a") == {"a": Lane.LIVE, "c": Lane.CONTENT}
    assert shop.row("variants", "a")["product_id"] == "hidden"


async def test_an_id_that_is_also_a_products_renames_its_group(shop: _Shop) -> None:
    for product_id in ("p", "q"):
        await shop(edits.put_product, product_id)
    for variant_id in ("a", "b"):
        await shop(edits.put_variant, "p", variant_id)
    renamed = await shop(edits.put_variant, "q", "p")
    assert renamed == {"a": Lane.CONTENT, "b": Lane.CONTENT, "p": Lane.CONTENT}


async def test_a_deleted_product(shop: _Shop) -> None:
    assert await shop(edits.put_variant, "p", "v") == {}
    await shop(edits.put_product, "p", title="Chair")
    for variant_id in ("a", "b"):
        await shop(edits.put_variant, "p", variant_id)
    await shop(edits.delete_variant, "a")
    first = shop.row("variants", "a")["deleted_at"]
    assert await shop(edits.delete_product, "p") == {"b": Lane.LIVE}
    assert shop.row("products", "p")["deleted_at"] == shop.row("variants", "b")["deleted_at"]
    assert shop.row("variants", "a")["deleted_at"] == first
    assert await shop(edits.delete_product, "p") == {}
    assert await shop(edits.delete_product, "no such product") == {}
    assert await shop(edits.put_variant, "p", "a") == {}
    assert await shop(edits.put_product, "p", status="draft") == {}
    assert (shop.row("products", "p")["deleted_at"], shop.row("products", "p")["title"]) == (None, "Chair")
    assert shop.row("variants", "b")["deleted_at"] is not None
    assert await shop(edits.put_variant, "p", "a") == {"a": Lane.LIVE}


async def test_a_tombstone_keeps_the_time_of_its_first_deletion(shop: _Shop) -> None:
    values: dict[str, Any] = dict.fromkeys(products_write._PRODUCT_COLUMNS)
    values |= {"product_id": "p", "status": "active", "visibility": "public", "source": "api"}
    values |= {"images": "{}", "categories": '{"a"}'}
    kept = []
    for is_deleted in (True, True, False, True):
        shop.bench.clock.move(1)
        columns = {name: [value] for name, value in {**values, "deleted": is_deleted}.items()}
        given = {"store_id": shop.store_id, **columns}
        assert await shop.bench.count(products_write._UPSERT_PRODUCTS, **given) == 1
        kept.append(shop.row("products", "p")["deleted_at"])
    first, last = shop.bench.clock.after(-3), shop.bench.clock.now
    assert kept == [first, first, None, last]


async def test_stock(shop: _Shop) -> None:
    await shop(edits.put_product, "p")
    assert await shop(edits.set_inventory, "v", quantity_on_hand=3) == {}
    await shop(edits.put_variant, "p", "v")
    assert await shop(edits.set_inventory, "v") == {}
    assert shop.rows("inventory") == []
    assert await shop(edits.set_inventory, "v", quantity_on_hand=3) == {"v": Lane.LIVE}
    first = shop.row("inventory", "v")
    assert (first["track_inventory"], first["quantity_on_hand"]) == (True, 3)
    assert await shop(edits.set_inventory, "v", quantity_on_hand=3) == {}
    assert await shop(edits.set_inventory, "v", track_inventory=False, reserved_quantity=1) == {
        "v": Lane.LIVE
    }
    second = shop.row("inventory", "v")
    assert (second["quantity_on_hand"], second["reserved_quantity"]) == (3, 1)
    assert second["version"] > first["version"]
    moment = shop.bench.clock.now
    assert await shop(edits.set_inventory, "v", quantity_on_hand=3, updated_at=moment) == {}
    assert shop.row("inventory", "v")["source_updated_at"] == moment
    await shop(edits.delete_variant, "v")
    assert await shop(edits.set_inventory, "v", quantity_on_hand=9) == {}


async def test_a_whole_product_is_replaced(shop: _Shop) -> None:
    stock = InventoryInput(quantity_on_hand=2)
    body = ProductInput("p", variants=[VariantInput("a", inventory=stock), VariantInput("b")])
    assert await shop(edits.put_whole_product, body) == {"a": Lane.CONTENT, "b": Lane.CONTENT}
    assert await shop(edits.put_whole_product, body) == {}
    moment = shop.bench.clock.now
    body = ProductInput("p", updated_at=moment, variants=body.variants)
    assert await shop(edits.put_whole_product, body) == {}
    assert shop.row("products", "p")["source_updated_at"] == moment
    body = ProductInput("p", variants=[VariantInput("b"), VariantInput("c")])
    assert await shop(edits.put_whole_product, body) == {"a": Lane.LIVE, "c": Lane.CONTENT}


async def test_an_edit_gives_the_active_link_its_state_rows(shop: _Shop) -> None:
    link_id = shop.bench.link(shop.store_id)
    await shop(edits.put_product, "p")
    await shop(edits.put_variant, "p", "v")
    assert [(row["link_id"], row["status"]) for row in shop.rows("sync_state")] == [(link_id, "pending")]
    assert [row["due_at"] for row in shop.rows("store_queue")] == [shop.bench.clock.now]


# --- settings, links and tokens -----------------------------------------------------------------------------------------


async def test_a_store_is_made_with_its_settings(bench: Bench) -> None:
    store_id = f"made_{bench.number()}"
    async with bench.mirror.platform() as connection:
        await edits.create_store(connection, store_id, {**SENDING, "business_id": "1", "default_brand": None})
    row = bench.mirror.tables["stores"].get(store_id)
    assert row is not None
    assert row["settings"] == SENDING
    assert row["mapping_epoch"] == 1


async def test_what_a_change_of_settings_begins(shop: _Shop) -> None:
    shop.bench.link(shop.store_id)

    async def change(**settings: Any) -> tuple[Any, int]:
        shop.bench.clock.move(1)
        async with shop.bench.mirror.platform() as connection:
            written = await edits.change_settings(connection, shop.store_id, settings)
        row = shop.bench.mirror.tables["stores"].rows[shop.store_id,]
        return written, row["mapping_epoch"]

    assert await change(sync_enabled=True) == (False, 1)
    assert await change(sync_enabled=False) == (True, 1)
    assert shop.rows("jobs") == []
    assert await change(default_brand="Acme") == (True, 2)
    assert [(row["type"], row["mapping_epoch"]) for row in shop.rows("jobs")] == [("reevaluation", 2)]
    assert await change(default_brand=None, sync_enabled=True) == (True, 3)
    assert [row["mapping_epoch"] for row in shop.rows("jobs")] == [3]
    assert shop.bench.mirror.tables["stores"].rows[shop.store_id,]["settings"] == SENDING
    shop.bench.put("store_pauses", store_id=shop.store_id, reason="needs_reconnect")
    assert await change(sync_enabled=False) == (True, 3)
    assert len(shop.rows("store_pauses")) == 1
    assert await change(app_id="12345") == (True, 3)
    assert shop.rows("store_pauses") == []


async def test_a_change_whose_meaning_the_caller_says(shop: _Shop) -> None:
    shop.bench.link(shop.store_id)
    async with shop.bench.mirror.platform() as connection:
        assert await edits.change_settings(connection, shop.store_id, SENDING, mapping_changed=True)
        given = {"quantity_policy": "none"}
        with pytest.raises(ValueError, match="quantity_policy"):
            await edits.change_settings(connection, shop.store_id, given, mapping_changed=False)
    assert shop.bench.mirror.tables["stores"].rows[shop.store_id,]["mapping_epoch"] == 2


async def test_the_currency_is_fixed_when_something_was_sent(shop: _Shop) -> None:
    link_id = shop.bench.link(shop.store_id, active=False)

    async def change() -> None:
        async with shop.bench.mirror.platform() as connection:
            await edits.change_settings(connection, shop.store_id, {"currency": "USD"})

    shop.bench.state(shop.store_id, link_id, "v")
    await change()
    shop.bench.state(shop.store_id, link_id, "w", retailer_id="w")
    async with shop.bench.mirror.platform() as connection:
        with pytest.raises(ConflictError):
            await edits.change_settings(connection, shop.store_id, {"currency": "EUR"})


async def test_a_token_replaces_another(shop: _Shop) -> None:
    link_id = shop.bench.link(shop.store_id)
    left = shop.bench.link(shop.store_id, active=False, credential_id=f"used_{shop.store_id}")
    for name, is_active in (("used", False), ("unused", False), ("active", True)):
        shop.bench.put(
            "credentials",
            credential_id=f"{name}_{shop.store_id}",
            store_id=shop.store_id,
            access_token=b"",
            token_kind="user",
            active=is_active,
        )
    for reason in ("needs_reconnect", "meta_unreachable"):
        for pause_link in (0, link_id, left):
            shop.bench.put("store_pauses", store_id=shop.store_id, reason=reason, link_id=pause_link)
    for due_at in (None, -5, 5):
        at = None if due_at is None else shop.bench.clock.after(due_at)
        other = _Shop(shop.bench)
        shop.bench.put("store_queue", store_id=other.store_id, due_at=at)
        async with shop.bench.mirror.platform() as connection:
            await edits.replace_token(connection, CIPHER, other.store_id, "t", is_system_user=False)
        now = shop.bench.clock.now
        assert [row["due_at"] for row in other.rows("store_queue")] == [at if due_at == -5 else now]
    async with shop.bench.mirror.platform() as connection:
        kept = await edits.replace_token(connection, CIPHER, shop.store_id, "the token", account_id="77")
    tokens = {row["credential_id"]: row for row in shop.rows("credentials")}
    assert tokens.keys() == {f"used_{shop.store_id}", kept}
    opened = CIPHER.decrypt(tokens[kept]["access_token"], context=token_context(kept))
    assert opened.get_secret_value() == "the token"
    links = {row["link_id"]: row for row in shop.rows("catalog_links")}
    assert (links[link_id]["credential_id"], links[link_id]["system_user_id"]) == (kept, "77")
    assert links[left]["credential_id"] == f"used_{shop.store_id}"
    assert {row["reason"] for row in shop.rows("store_pauses")} == {"meta_unreachable"}
    assert shop.rows("store_queue") == []


async def test_catalogs_are_selected(shop: _Shop) -> None:
    first, second = f"one of {shop.store_id}", f"two of {shop.store_id}"

    async def select(catalog_id: str, store_id: str = shop.store_id, **facts: Any) -> int | None:
        shop.bench.clock.move(1)
        async with shop.bench.mirror.platform() as connection:
            facts = {"was_empty": True, **facts}
            return await edits.select_catalog(connection, store_id, HOST, catalog_id, **facts)

    assert await select(first) is None
    async with shop.bench.mirror.platform() as connection:
        kept = await edits.replace_token(connection, CIPHER, shop.store_id, "t")
    await shop(edits.put_product, "p")
    await shop(edits.put_variant, "p", "v")
    one = await select(first)
    assert one is not None
    assert [row["status"] for row in shop.rows("sync_state")] == ["never_synced"]
    two = await select(second, was_empty=False)
    links = {row["link_id"]: row for row in shop.rows("catalog_links")}
    assert [links[link_id]["active"] for link_id in (one, two)] == [False, True]
    assert (links[two]["was_empty"], links[two]["product_count"]) == (False, 1)
    assert await select(first, was_empty=False, business_name="Other") == one
    again = shop.bench.mirror.tables["catalog_links"].rows[one,]
    assert (again["epoch"], again["was_empty"], again["business_name"]) == (2, False, "Other")
    assert sorted(row["status"] for row in shop.rows("jobs")) == [*["cancelled"] * 3, "queued"]
    # The one that is selected stays as it is, but for what Meta says of it; lost access is there again.
    shop.bench.put("store_pauses", store_id=shop.store_id, reason="needs_reconnect", link_id=one)
    assert await select(first) == one
    assert (shop.rows("store_pauses"), len(shop.rows("jobs"))) == ([], 4)
    assert [row["due_at"] for row in shop.rows("store_queue")] != [shop.bench.clock.now]
    other = _Shop(shop.bench)
    async with shop.bench.mirror.platform() as connection:
        await edits.replace_token(connection, CIPHER, other.store_id, "t")
    with pytest.raises(IntegrityError):
        await select(first, other.store_id)
    assert other.rows("catalog_links") == []
    await shop.bench.count(_KILL_TOKEN, credential_id=kept)
    assert await select(second) is None


async def test_a_catalog_with_items_waits_until_it_is_approved(shop: _Shop) -> None:
    first, second = f"one of {shop.store_id}", f"two of {shop.store_id}"

    async def select(catalog_id: str, *, was_empty: bool) -> None:
        shop.bench.clock.move(1)
        async with shop.bench.mirror.platform() as connection:
            await edits.select_catalog(connection, shop.store_id, HOST, catalog_id, was_empty=was_empty)

    async def approve() -> bool:
        shop.bench.clock.move(1)
        async with shop.bench.mirror.platform() as connection:
            return await edits.approve(connection, shop.store_id)

    def held() -> list[tuple[str, int, str]]:
        return [(row["reason"], row["link_id"], row["code"]) for row in shop.rows("store_pauses")]

    async with shop.bench.mirror.platform() as connection:
        await edits.replace_token(connection, CIPHER, shop.store_id, "t")
    assert not await approve()
    await select(first, was_empty=True)
    assert (held(), await approve()) == ([], False)
    waits = [("held", 0, "first_run_approval")]
    await select(second, was_empty=False)
    assert held() == waits
    # Left and come back to: a report of before says nothing of the catalog as it is now.
    await select(first, was_empty=False)
    assert held() == []
    await select(second, was_empty=False)
    assert held() == waits
    assert [row["status"] for row in shop.rows("jobs") if row["type"] == "preflight"] == [
        "cancelled",
        "queued",
    ]
    assert await approve()
    assert (held(), await approve()) == ([], False)
    approved = {row["catalog_id"]: row["first_run_approved_by"] for row in shop.rows("catalog_links")}
    assert approved == {first: None, second: "somebody"}
    assert all(row["first_run_approved_at"] is not None for row in shop.rows("catalog_links"))
    await select(first, was_empty=False)
    await select(second, was_empty=False)
    assert held() == []


async def test_everything_is_distrusted(shop: _Shop) -> None:
    with pytest.raises(ConflictError):
        await shop(edits.distrust)
    bench, store_id = shop.bench, shop.store_id
    links = {bench.link(store_id, active=False): 1, bench.link(store_id): 3}
    for link_id in links:
        bench.state(store_id, link_id, "refused", rejected_hash=b"r", discarded_hash=b"d")
        bench.state(store_id, link_id, "sent")
    for kind, status in (("bootstrap", "running"), ("reevaluation", "running"), ("bootstrap", "partial")):
        leased_until = bench.clock.after(60)
        job = {"job_id": f"{kind} {status} {store_id}", "type": kind, "status": status}
        bench.put("jobs", store_id=store_id, link_id=max(links), leased_until=leased_until, **job)
    for cancelled in (1, 2):
        await shop(edits.distrust)
        kinds = sorted((row["type"], row["status"]) for row in shop.rows("jobs"))
        bootstraps = [*["cancelled"] * cancelled, "partial", "queued"]
        assert kinds == [*(("bootstrap", one) for one in bootstraps), ("reevaluation", "running")]
    found = {row["link_id"]: (row["epoch"], row["was_empty"]) for row in shop.rows("catalog_links")}
    assert found == {min(links): (1, True), max(links): (3, False)}
    refused = {row["link_id"] for row in shop.rows("sync_state") if row["rejected_hash"]}
    assert refused == {min(links)}


async def test_what_a_cancelled_first_sync_asked_for_is_the_next_ones(bench: Bench) -> None:
    store_id, other_id = bench.store(), bench.store()
    jobs = {kind: f"{kind} {store_id}" for kind in ("bootstrap", "sync")}
    for kind, job_id in jobs.items():
        bench.put("jobs", job_id=job_id, store_id=store_id, type=kind, status="running")
    owners = {**jobs, "several": SEVERAL_JOBS, "sale": THE_CLOCK, "change": None}
    for variant_id, owner in owners.items():
        bench.intent(store_id, variant_id, job_id=owner)
        bench.intent(other_id, variant_id, job_id=owner)
    assert await bench.ask(distrust._ANY_OTHER_JOB, store_id=store_id) == [(True,)]
    await bench.count(job_statements.LINK_GONE, job_id=jobs["sync"], fence=0)
    assert await bench.ask(distrust._ANY_OTHER_JOB, store_id=store_id) == [(False,)]
    assert await bench.ask(distrust._CANCEL_BOOTSTRAP, store_id=store_id) == [(jobs["bootstrap"],)]
    for of in ([jobs["bootstrap"]], [jobs["bootstrap"], SEVERAL_JOBS]):
        given = {"store_id": store_id, "owners": of}
        assert await bench.ask(distrust._LOCK_INTENTS, **given) == [(1,)]
        assert await bench.count(distrust._TAKE_OVER, **given, job_id="next") == 1
    assert _owners(bench, store_id) == {**owners, "bootstrap": "next", "several": "next"}
    assert _owners(bench, other_id) == owners


def _owners(bench: Bench, store_id: str) -> dict[str, str | None]:
    return {
        row["variant_id"]: row["job_id"]
        for row in bench.mirror.tables["intents"]
        if row["store_id"] == store_id
    }


async def test_the_stores_that_are_connected(shop: _Shop) -> None:
    shop.bench.link(shop.store_id)
    other = _Shop(shop.bench)
    shop.bench.link(other.store_id, active=False)
    connected = [row[0] for row in await shop.bench.ask(distrust._CONNECTED_STORES)]
    assert connected == sorted(connected)
    assert shop.store_id in connected
    assert other.store_id not in connected
