"""What people and shops do during a simulation: prices back and forth, sales, deletions, settings, operators, tokens."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

from sqlalchemy.exc import IntegrityError

from meta_sync.core.errors import ConflictError, NotFoundError
from meta_sync.core.queue import MemoryJobQueue
from meta_sync.sync.guard_statements import DECIDED
from meta_sync.sync.job_models import UNFINISHED, JobOrder
from meta_sync.sync.job_statements import CANCEL
from meta_sync.sync.jobs import JobService
from meta_sync.sync.operations import OperationsService
from meta_sync.sync.reconcile_models import RECONCILIATION
from meta_sync.sync.reconcile_repair import RepairOrder, RepairService
from meta_sync.sync.reconcile_service import ReconcileService
from tests.simulation import edits
from tests.simulation.world import HOST, OTHER_STORE, STORE, SimulatedWorld

__all__ = ["CATALOGS", "OTHER_CATALOGS", "People"]

CATALOGS = ("900000000000001", "900000000000002")
OTHER_CATALOGS = ("900000000000003",)
"""Of the second store, where there is one."""
_MOST_READS = 3
_SETTINGS = {
    "sync_enabled": True,
    "currency": "EUR",
    "storefront_base_url": "https://shop.example",
    "business_id": "1",
}


class _Requests:
    """The database as requests see it: this part of the world does not fail."""

    def __init__(self, world: SimulatedWorld) -> None:
        self._world = world

    @asynccontextmanager
    async def platform(self) -> Any:
        async with self._world.database.platform() as connection:
            yield connection
        self._world.changed()

    @asynccontextmanager
    async def store(self, _store_id: str) -> Any:
        async with self.platform() as connection:
            yield connection


class People:
    """Everybody around one store, outside the pipeline. Draws from the world's seed."""

    def __init__(self, world: SimulatedWorld, *, is_other: bool = False) -> None:
        self.world = world
        self.store_id = OTHER_STORE if is_other else STORE
        # In a time of its own: the first store's people live as they would without the second.
        self.rng = random.Random(f"other store {world.plan.seed}") if is_other else world.rng
        self.catalogs = OTHER_CATALOGS if is_other else CATALOGS
        self.requests = _Requests(world)
        database = cast("Any", self.requests)
        self.jobs = JobService(database, MemoryJobQueue())
        self.was_called_off = False
        self.operations = OperationsService(database, MemoryJobQueue())
        self.reconciliations = ReconcileService(database, MemoryJobQueue(), cast("Any", None))
        self.repairs = RepairService(database, MemoryJobQueue())
        self.variants = [f"v{number}" for number in range(world.plan.variants)]
        self.products = ["p0", "p1"] if world.plan.variants > 1 else ["p0"]
        self.home = {one: self.rng.choice(self.products) for one in self.variants}
        self.tokens: list[str] = []
        self.settings: dict[str, Any] = {
            **_SETTINGS,
            "storefront_base_url": f"https://{self.store_id.replace('_', '-')}.example",
            "batch_size": world.plan.batch_size,
            "handle_poll_max_age_minutes": 10 if world.plan.gives_up_soon else 30,
        }
        if world.plan.guarded:
            self.settings |= {"guard_min_items": 1, "guard_max_share": 0.4}
        self.catalog = self.catalogs[0]

    async def set_up(self) -> None:
        """Create the store, its token and its catalog, and some products."""
        world = self.world
        was_empty = self.rng.random() < 0.8
        if not was_empty:
            self._put_foreign_items()
        async with self.requests.platform() as connection:
            await edits.create_store(connection, self.store_id, self.settings)
            await edits.replace_token(connection, world.cipher, self.store_id, self._new_token())
            await edits.select_catalog(connection, self.store_id, HOST, self.catalog, was_empty=was_empty)
            for product_id in self.products:
                await edits.put_product(connection, self.store_id, product_id, **_product(product_id))
            for variant_id in self.variants:
                if self.rng.random() < 0.8:
                    await self._put_variant(connection, variant_id, price=1999)
        await self._perhaps_approve()

    def _put_foreign_items(self) -> None:
        """Items of somebody else: one under the id of a variant, with a sale that never ends."""
        own = {"id": "v0", "title": "Old", "price": "1.00 EUR", "sale_price": "0.50 EUR", "color": "red"}
        self.world.meta.put(self.catalog, "v0", own)
        self.world.hands.add_foreign(self.catalog)

    def _new_token(self) -> str:
        token = f"EAAB-simulated-{self.store_id}-{len(self.tokens)}"
        self.tokens.append(token)
        self.world.meta.tokens.add(token)
        return token

    async def decide_holds(self) -> None:
        """Release or discard whatever is held, for ever; in a time of its own, so that nothing else is drawn otherwise."""
        rng = random.Random(f"holds {self.world.plan.seed}")
        while True:
            await asyncio.sleep(rng.uniform(20, 400))
            async with self.requests.platform() as connection:
                for row in self.world.tables["holds"]:
                    if row["state"] == "held":
                        given = {"hold_id": row["hold_id"], "items": row["items"], "actor": "a person"}
                        state = rng.choice(["released", "released", "discarded"])
                        await connection.execute(DECIDED, {**given, "state": state})

    async def read_back(self) -> None:
        """Somebody changes things at Meta, and others read it back and repair, for ever, in a time of their own."""
        rng = random.Random(f"reading back {self.world.plan.seed}")
        while True:
            await asyncio.sleep(rng.uniform(10, 300))
            link = self._link()
            kind = rng.choice(["hands", "hands", "foreign", "start", "start", "repair", "repair"])
            if link is None:
                continue
            if kind == "hands":
                self.world.hands.meddle(link)
            elif kind == "foreign":
                self.world.hands.add_foreign(link["catalog_id"])
            elif kind == "start":
                await self._start_reading()
            else:
                await self._repair()

    def _link(self) -> Any:
        links = self.world.tables["catalog_links"]
        return next((row for row in links if row["active"] and row["store_id"] == self.store_id), None)

    async def _start_reading(self) -> None:
        try:
            await self.reconciliations.start(self.store_id, actor="somebody")
        except ConflictError:
            self.world.log("one is running")

    async def _repair(self) -> None:
        """Repair what the newest reconciliation of the catalog found, or, as one may, an older one."""
        link = self._link()
        jobs = [
            row["job_id"]
            for row in self.world.tables["jobs"]
            if row["type"] == RECONCILIATION
            and row["status"] == "success"
            and row["link_id"] == link["link_id"]
        ]
        if jobs:
            plan = await self.repairs.repair(self.store_id, jobs[-1], RepairOrder(), actor="somebody")
            self.world.log("repaired", [(one.retailer_id, one.verdict.value) for one in plan.steps])

    async def put_drift_right(self) -> None:
        """At rest: something is done at Meta, Meta is read back as often as that takes, and repaired."""
        world = self.world
        link = self._link()
        for _ in range(3):
            world.hands.meddle(link, at_rest=True)
        for _ in range(_MOST_READS):
            await self._until_read()
            before = len(world.tables["jobs"].rows)
            await self._start_reading()
            await self._until_read()
            newest = list(world.tables["jobs"])[-1]
            if len(world.tables["jobs"].rows) > before and newest["status"] == "success":
                await self._repair()
                return
        world.violate("Meta could not be read back though nothing was in the way")

    async def _until_read(self) -> None:
        jobs = self.world.tables["jobs"]
        while any(row["type"] == RECONCILIATION and row["status"] in UNFINISHED for row in jobs):  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(60)

    async def live(self) -> None:
        """Make the planned number of edits and actions, then stop."""
        plan = self.world.plan
        for _ in range(plan.edits):
            await asyncio.sleep(self.rng.expovariate(1.0) * plan.minutes * 60 / plan.edits)
            if self.rng.random() < 0.5:
                await self._put_right()
            action = self._action if self.rng.random() < plan.actions else self._edit
            for _ in range(self.rng.choice([1, 1, 1, 3])):
                await action()

    async def _put_right(self) -> None:
        """Somebody notices what stops the store; most histories would else be about nothing."""
        if not self.settings["sync_enabled"]:
            await self._switch()
        if self.settings.get("feed_mode", "live") != "live":
            await self._preview()
        if self.world.meta.tokens.isdisjoint(self.tokens):
            await self._bring_token()
        await self._approve()

    async def rest(self) -> None:
        """Put right what stops a store: from here on it must end well by itself."""
        world = self.world
        world.meta.calm = True
        self.settings |= {"sync_enabled": True, "feed_mode": "live"}
        async with self.requests.platform() as connection:
            await edits.replace_token(connection, world.cipher, self.store_id, self._new_token())
            await edits.change_settings(
                connection, self.store_id, self.settings, mapping_changed=self.was_called_off
            )
        await self._approve()

    # --- edits ------------------------------------------------------------------------------------------------------

    async def _edit(self) -> None:
        variant_id = self.rng.choice(self.variants)
        kinds: list[tuple[int, Callable[[Any, str], Awaitable[None]]]] = [
            (5, self._price),
            (4, self._sale),
            (2, self._stock),
            (2, self._delete_or_put_back),
            (1, self._title),
            (1, self._status),
            (1, self._move),
        ]
        weights = [weight for weight, _ in kinds]
        kind = self.rng.choices([one for _, one in kinds], weights)[0]
        self.world.log("edit", kind.__name__, variant_id)
        async with self.requests.platform() as connection:
            await kind(connection, variant_id)

    def _is_live(self, variant_id: str) -> bool:
        row = self.world.tables["variants"].get(self.store_id, variant_id)
        return row is not None and row["deleted_at"] is None

    async def _put_variant(self, connection: Any, variant_id: str, **fields: Any) -> None:
        values = {"sku": f"SKU-{variant_id}", "thumbnail": "https://shop.example/i.jpg", **fields}
        await edits.put_variant(connection, self.store_id, self.home[variant_id], variant_id, **values)

    async def _price(self, connection: Any, variant_id: str) -> None:
        # Few prices, so that they come back; .13 is one that Meta will not have.
        choices = [1999, 1999, 2499, 2999] + ([1913] if self.world.plan.refused else [])
        await self._put_variant(connection, variant_id, price=self.rng.choice(choices))

    async def _sale(self, connection: Any, variant_id: str) -> None:
        if self.rng.random() < 0.45:
            await self._put_variant(
                connection, variant_id, special_price=None, special_price_start=None, special_price_end=None
            )
            return
        start = end = None
        now = self.world.now().replace(microsecond=0)
        if self.rng.random() < 0.6:
            start = now + timedelta(minutes=self.rng.choice([-60, 1, 30]))
            end = now + timedelta(minutes=self.rng.choice([-1, 2, 20, 90, 600]))
        await self._put_variant(
            connection,
            variant_id,
            special_price=self.rng.choice([999, 1499]),
            special_price_start=start,
            special_price_end=end,
        )

    async def _stock(self, connection: Any, variant_id: str) -> None:
        if self._is_live(variant_id):
            await edits.set_inventory(
                connection,
                self.store_id,
                variant_id,
                track_inventory=self.rng.random() < 0.9,
                quantity_on_hand=self.rng.choice([0, 1, 7]),
            )

    async def _delete_or_put_back(self, connection: Any, variant_id: str) -> None:
        if self._is_live(variant_id):
            if self.rng.random() < 0.2:
                await edits.delete_product(connection, self.store_id, self.home[variant_id])
            else:
                await edits.delete_variant(connection, self.store_id, variant_id)
        else:
            product = self.world.tables["products"].get(self.store_id, self.home[variant_id])
            if product is None or product["deleted_at"] is not None:
                await edits.put_product(
                    connection, self.store_id, self.home[variant_id], **_product(self.home[variant_id])
                )
            await self._put_variant(connection, variant_id, price=1999)

    async def _title(self, connection: Any, variant_id: str) -> None:
        words = ["Chair", "Table", "Lamp"] + (["poison"] if self.world.plan.poison else [])
        product_id = self.home[variant_id]
        product = _product(product_id) | {"title": f"{self.rng.choice(words)} {product_id}"}
        await edits.put_product(connection, self.store_id, product_id, **product)

    async def _status(self, connection: Any, variant_id: str) -> None:
        product_id = self.home[variant_id]
        product = _product(product_id) | {"status": self.rng.choice(["active", "draft"])}
        await edits.put_product(connection, self.store_id, product_id, **product)

    async def _move(self, connection: Any, variant_id: str) -> None:
        if self._is_live(variant_id):
            self.home[variant_id] = self.rng.choice(self.products)
            await self._put_variant(connection, variant_id)

    # --- actions ----------------------------------------------------------------------------------------------------

    async def _action(self) -> None:
        kind = self.rng.choice(
            [
                self._change_settings,
                self._change_settings,
                self._bootstrap,
                self._sync,
                self._cancel,
                self._resync,
                self._resync,
                self._exclude,
                self._switch,
                self._preview,
                self._lose_token,
                self._bring_token,
                self._bring_token,
                self._other_catalog,
                self._distrust,
                self._outage,
            ]
        )
        self.world.log("action", kind.__name__)
        await kind()

    async def _change_settings(self) -> None:
        self.settings["default_brand"] = self.rng.choice(["Acme", "Other", None])
        self.settings["quantity_policy"] = self.rng.choice(["capped", "none"])
        await self._store_settings(mapping_changed=True)

    async def _store_settings(self, *, mapping_changed: bool = False) -> None:
        async with self.requests.platform() as connection:
            await edits.change_settings(
                connection, self.store_id, self.settings, mapping_changed=mapping_changed
            )

    async def _bootstrap(self) -> None:
        try:
            await self.jobs.start_bootstrap(self.store_id, requested_by=None)
        except ConflictError:
            self.world.log("one is running")

    async def _sync(self) -> None:
        try:
            await self.jobs.start(self.store_id, JobOrder("sync"))
        except ConflictError:
            self.world.log("one is running")

    async def _cancel(self) -> None:
        """Call a job off; that it did not do its work is the person's will, until somebody has it done."""
        running = {
            row["job_id"]: row["type"]
            for row in self.world.tables["jobs"]
            if row["store_id"] == self.store_id
            and row["status"] in UNFINISHED
            and row["type"] not in {"reevaluation", "preflight"}
        }
        if running:
            job_id = self.rng.choice(sorted(running))
            # What nobody but a sync asked for, Meta has already.
            self.was_called_off = self.was_called_off or running[job_id] not in {"sync", RECONCILIATION}
            async with self.requests.platform() as connection:
                await connection.execute(CANCEL, {"store_id": self.store_id, "job_id": job_id})

    async def _resync(self) -> None:
        try:
            await self.operations.resync(
                self.store_id,
                self.rng.choice(self.variants),
                force=self.rng.random() < 0.7,
                refresh_images=self.rng.random() < 0.2,
                actor="somebody",
            )
        except NotFoundError:
            self.world.log("no such variant")

    async def _exclude(self) -> None:
        try:
            await self.operations.exclude(self.store_id, self.rng.choice(self.variants), actor="somebody")
        except NotFoundError:
            self.world.log("no such variant")

    async def _switch(self) -> None:
        self.settings["sync_enabled"] = not self.settings["sync_enabled"]
        await self._store_settings()

    async def _preview(self) -> None:
        self.settings["feed_mode"] = (
            "live" if self.settings.get("feed_mode", "live") == "preview" else "preview"
        )
        await self._store_settings()

    async def _lose_token(self) -> None:
        self.world.meta.tokens.difference_update(self.tokens)

    async def _bring_token(self) -> None:
        async with self.requests.platform() as connection:
            await edits.replace_token(connection, self.world.cipher, self.store_id, self._new_token())

    async def _other_catalog(self) -> None:
        before = self.catalog
        if len(self.catalogs) == 1 or (self.world.plan.two_stores and self.rng.random() < 0.5):
            await self._catalog_of_another()
            return
        self.catalog = self.catalogs[1 - self.catalogs.index(before)]
        is_empty = not self.world.meta.items.get(self.catalog)
        async with self.requests.platform() as connection:
            link_id = await edits.select_catalog(
                connection, self.store_id, HOST, self.catalog, was_empty=is_empty
            )
        if link_id is None:
            self.world.log("there is no token that works")
            self.catalog = before
        await self._perhaps_approve()

    async def _catalog_of_another(self) -> None:
        """Select what another store uses: that must be refused."""
        taken = [
            row["catalog_id"]
            for row in self.world.tables["catalog_links"]
            if row["active"] and row["store_id"] != self.store_id
        ]
        try:
            async with self.requests.platform() as connection:
                link_id = await edits.select_catalog(
                    connection, self.store_id, HOST, taken[0], was_empty=False
                )
        except IntegrityError:
            self.world.log("another store has it")
            return
        if link_id is not None:
            self.world.violate(f"{self.store_id} has selected a catalog of another store")

    async def _perhaps_approve(self) -> None:
        """Somebody may be there who approves a first run at once; else it is noticed later."""
        if self._is_held() and self.rng.random() < 0.5:
            await self._approve()

    async def _approve(self) -> None:
        if self._is_held():
            async with self.requests.platform() as connection:
                await edits.approve(connection, self.store_id)

    def _is_held(self) -> bool:
        return any(
            row["reason"] == "held" and row["store_id"] == self.store_id
            for row in self.world.tables["store_pauses"]
        )

    async def _distrust(self) -> None:
        async with self.requests.platform() as connection:
            await edits.distrust(connection, self.store_id)

    async def _outage(self) -> None:
        self.world.database_away_until = self.world.loop.time() + self.rng.choice([5, 60, 600])


def _product(product_id: str) -> dict[str, Any]:
    return {
        "title": f"Chair {product_id}",
        "description": "A thing worth having",
        "slug": f"slug-{product_id}",
        "brand": "Acme" if product_id == "p0" else None,
        "thumbnail": "https://shop.example/one.jpg",
        "status": "active",
        "visibility": "public",
    }
