"""One simulated installation: a store, its catalogs at an adverse Meta, worker processes, and people who change things.

Everything is drawn from one seed and runs on virtual time in one thread, so that a seed is a whole history: it happens
again in the same way as often as it is asked for.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson
from pydantic import SecretStr

from meta_sync.core.config import load_settings
from meta_sync.core.crypto import Cipher
from meta_sync.sync import lease
from meta_sync.sync.drain import Timing
from meta_sync.sync.job_models import READ_TYPES
from meta_sync.sync.resend import MAX_CALLS
from tests.simulation.adversity import Adversity
from tests.simulation.clock import EPOCH, VirtualLoop
from tests.simulation.hands import Hands
from tests.simulation.memory import MemoryDatabase, Table
from tests.simulation.meta import SimulatedMeta
from tests.simulation.process import Process
from tests.simulation.watch import watch_attempts, watch_findings, watch_guard

__all__ = ["HOST", "OTHER_STORE", "STORE", "TIMING", "Plan", "SimulatedWorld", "Violation"]

_NOT_SHOWN = {
    "ctid",
    "updated_at",
    "body",
    "body_hash",
    "may_hold",
    "last_handle",
    "store_id",
    "created_on",
    "graph_host",
}

TIMING = Timing(job_look_seconds=60.0, reconcile_quiet_seconds=400.0, reconcile_second_read_seconds=200.0)
"""The product's own waits; but a job that waits for its batches looks at them less often, and decides nothing by it, and
Meta is read back twice within a life, though never sooner than it shows what it has saved."""

HOST = "graph.simulated"
STORE = "store_1"
OTHER_STORE = "store_2"
_KEY = "c2ltdWxhdGVkLWtleS1vZi0zMi1ieXRlcy1mb3ItYWw="


@dataclass(slots=True)
class Violation:
    """Something that must never be so."""

    at: datetime
    text: str


@dataclass(slots=True)
class Plan:
    """What a seed makes of a run, before it begins."""

    seed: int
    workers: int
    variants: int
    batch_size: int
    edits: int
    minutes: float
    """Over how long the edits are spread."""
    kills: int
    freezes: int
    freezes_in_call: float
    """Share of the calls in which the process stands still, and gets its answer minutes later."""
    database_faults: float
    actions: float
    """Share of the edits that are an operator's or a setting's."""
    adversity: Adversity
    refused: bool
    poison: bool
    gives_up_soon: bool
    """Handles are given up after ten minutes, and many batches take longer, or nearly as long."""
    two_stores: bool = False
    """Another store lives in the same installation, with items of the same ids and a catalog of its own."""
    reconciles: bool = False
    """People read Meta back and repair, and somebody at Meta changes and deletes items by hand."""
    guarded: bool = False
    """The guard asks about every second item or so, and somebody decides about what it holds, sooner or later."""

    @classmethod
    def drawn(cls, seed: int) -> Plan:
        rng = random.Random(seed)
        is_calm = rng.random() < 0.05
        adversity = Adversity() if is_calm else Adversity.drawn(rng)
        gives_up_soon = not is_calm and rng.random() < 0.3
        freezes_in_call = 0.0 if is_calm else rng.choice([0.0, 0.0, 0.0, 0.3])
        if freezes_in_call:
            adversity.slow, adversity.slow_seconds = 0.6, (200.0, 1700.0)
        if gives_up_soon:
            adversity.late, adversity.late_seconds = 0.4, (610.0, 2400.0)
            adversity.slow, adversity.slow_seconds = 0.4, (60.0, 590.0)
            adversity.crossed = random.Random(f"crossed {seed}").choice([0.0, 0.0, 0.5, 1.0])
        plan = cls(
            seed=seed,
            workers=rng.choice([1, 2, 2]),
            variants=rng.choice([1, 1, 2, 3, 5]),
            batch_size=rng.choice([1, 2, 3, 50]),
            edits=rng.choice([6, 12, 20]),
            minutes=rng.choice([12.0, 45.0] if gives_up_soon or freezes_in_call else [1.5, 4.0, 12.0, 45.0]),
            kills=0 if is_calm else rng.choice([0, 0, 1, 3]),
            freezes=0 if is_calm else rng.choice([0, 0, 0, 1, 2]),
            freezes_in_call=freezes_in_call,
            database_faults=0.0 if is_calm else rng.choice([0.0, 0.0, 0.01, 0.05]),
            actions=rng.choice([0.0, 0.15, 0.4]),
            adversity=adversity,
            gives_up_soon=gives_up_soon,
            refused=rng.random() < 0.4,
            poison=rng.random() < 0.1,
            # Drawn apart, so that the histories of all other seeds stay as they are.
            guarded=random.Random(f"guarded {seed}").random() < 0.25,
        )
        apart = random.Random(f"reconciles {seed}")
        # Where Meta refuses every call for one item's sake the store pauses, and reads nothing either.
        plan.reconciles = apart.random() < 0.25 and not plan.poison
        plan.two_stores = random.Random(f"two stores {seed}").random() < 0.12 and not plan.poison
        if plan.reconciles and not is_calm:
            adversity.wavers = apart.choice([0.0, 0.2, 0.4])
            adversity.lost_cursor = apart.choice([0.0, 0.1])
        return plan


@dataclass
class SimulatedWorld:
    """What runs, and what was seen.

    Attributes
    ----------
    timing
        The product's own waits.
    strikes_at
        The steps at which something befalls the process that makes them.
    """

    plan: Plan
    loop: VirtualLoop
    tables: dict[str, Table]
    database: MemoryDatabase
    rng: random.Random
    timing: Timing = field(default_factory=lambda: TIMING)
    violations: list[Violation] = field(default_factory=list)
    trace: list[str] | None = None

    def __post_init__(self) -> None:
        self.settings = load_settings(
            {},
            env_file=None,
            database_url="postgresql://nobody@nowhere/none",
            encryption_keys=_KEY,
            graph_url=f"http://{HOST}",
            app_id="1",
            app_secret="app-secret-simulated",
        )
        self.cipher = Cipher(self.settings.encryption_keys)
        self.meta = SimulatedMeta(self.rng, self.plan.adversity, self._known_handles)
        self.meta.log = self.log
        self.meta.on_call = self._check_call
        self.tables["item_payloads"].watchers.append(self._check_confirmed)
        watch_attempts(self.tables, self.violate)
        watch_guard(self.tables, self.now, self.violate)
        watch_findings(self.tables, self.meta, self.violate)
        self.hands = Hands(self, random.Random(f"hands {self.plan.seed}"))
        self.processes: list[Process] = []
        self.database_away_until = 0.0
        self.thawed_at = -10.0
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._is_rearming = False
        self.died = asyncio.Event()
        self._steps = 0
        self._started = 0
        self.kills = self.freezes = 0
        # Steps of an ordinary run number some hundreds to some thousands; each is as likely as any other.
        spread = 150 * max(1, self.plan.edits)
        self._strikes = {self.rng.randrange(spread): "kill" for _ in range(self.plan.kills)}
        self._strikes |= {self.rng.randrange(spread): "freeze" for _ in range(self.plan.freezes)}
        self._due_strike: str | None = None

    # --- accidents --------------------------------------------------------------------------------------------------

    def strikes(self, kind: str) -> bool:
        """Whether this step is the one at which the accident happens. Frozen or dead at most as often as planned."""
        if self.meta.calm:
            return False
        if kind == "kill":
            self._steps += 1
            self._due_strike = self._strikes.pop(self._steps, self._due_strike)
        if self._due_strike != kind:
            return False
        self._due_strike = None
        if kind == "kill":
            self.kills += 1
        else:
            self.freezes += 1
        return True

    def transaction_fate(self) -> str:
        if self.meta.calm or not self.plan.database_faults:
            return ""
        roll = self.rng.random()
        if roll < self.plan.database_faults / 2:
            return "failed"
        return "silent" if roll < self.plan.database_faults else ""

    def _check_call(self, catalog_id: str, records: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """What must be so whenever a call goes out. What changed in the last moments may not have been seen yet."""
        # A process that stood still between its last look and the call did not see what happened meanwhile.
        seconds = 2.0 if self.loop.time() > self.thawed_at + 2 else 1000.0
        moment = self.now() - timedelta(seconds=seconds)
        store_id = next(
            row["store_id"] for row in self.tables["catalog_links"] if row["catalog_id"] == catalog_id
        )
        store = self.tables["stores"].rows[store_id,]
        own = store["settings"]["storefront_base_url"]
        if any("link" in data and not data["link"].startswith(own) for _, data in records):
            self.violate("an item of one store went into the catalog of another")
        if store["updated_at"] < moment:
            if not store["settings"].get("sync_enabled"):
                self.violate("a call was made though sync is off")
            if store["settings"].get("feed_mode", "live") != "live":
                self.violate("a call was made in preview")
        for row in self.tables["catalog_links"]:
            is_of_store = row["store_id"] == store_id and row["active"]
            if is_of_store and row["selected_at"] < moment and row["catalog_id"] != catalog_id:
                self.violate("a call was made to a catalog that the store has left")
            blocked = row["calls_blocked_until"]
            is_known = self.meta.throttled_at < self.loop.time() - seconds
            if row["catalog_id"] == catalog_id and blocked is not None and blocked > self.now() and is_known:
                self.violate("a call was made while Meta's waiting time was not over")
        dead = {row["credential_id"] for row in self.tables["credentials"] if _is_dead(row, moment)}
        links = [row for row in self.tables["catalog_links"] if row["active"]]
        if any(row["catalog_id"] == catalog_id and row["credential_id"] in dead for row in links):
            self.violate("a call was made with a token that is known to be dead")
        self._check_overlap(catalog_id, records)

    def _check_confirmed(self, _table: str, _earlier: Any, later: Mapping[str, Any] | None) -> None:
        """Nothing is taken for confirmed that Meta has refused."""
        if later is None:
            return
        data = orjson.loads(later["payload"])
        catalog_id = self.tables["catalog_links"].rows[later["link_id"],]["catalog_id"]
        if self.meta.refused.get((catalog_id, data["id"])) == data:
            self.violate(f"{later['variant_id']} was confirmed with what Meta refused")

    def _check_overlap(self, catalog_id: str, records: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """No two contents of one item are under way at once, as far as our side can know of them."""
        sent = {data["id"]: (method, data) for method, data in records}
        states = {row["handle"]: row["state"] for row in self.tables["batches"]}
        for work in self.meta.work.values():
            if work.catalog_id != catalog_id or states.get(work.handle) != "open":
                continue
            for index in work.timers:
                if index >= 0:
                    method, data = work.records[index]
                    if data["id"] in sent and sent[data["id"]] != (method, data):
                        self.violate(f"two contents of {data['id']} are under way at once")

    def violate(self, text: str, error: BaseException | None = None) -> None:
        del error
        self.log("VIOLATION", text)
        self.violations.append(Violation(self.now(), text))

    def log(self, *what: Any) -> None:
        if self.trace is not None:
            self.trace.append(f"{self.now():%d %H:%M:%S.%f} " + " ".join(str(one) for one in what))

    def log_row(self, table: str, earlier: Mapping[str, Any] | None, later: Mapping[str, Any] | None) -> None:
        """Say what changed of a row."""
        row = later or earlier or {}
        names = [
            row[name]
            for name in ("variant_id", "batch_id", "call_number", "split_id", "part_id", "reason")
            if name in row
        ]
        if later is None:
            self.log("   ", table, *names, "deleted")
            return
        old = earlier or {}
        changes = {
            name: value for name, value in later.items() if name not in _NOT_SHOWN and value != old.get(name)
        }
        if changes:
            self.log("   ", table, *names, changes if earlier else f"new {changes}")

    def now(self) -> datetime:
        return self.loop.database_time()

    def _known_handles(self) -> set[str]:
        return {row["handle"] for row in self.tables["batch_calls"].rows.values()}

    # --- processes --------------------------------------------------------------------------------------------------

    def start(self) -> Process:
        """Start a worker process."""
        self._started += 1
        process = Process(self, f"worker-{self._started}")
        self.processes.append(process)
        return process

    async def supervise(self) -> None:
        """Start a new process for each that died, some time later, as a supervisor does."""
        for _ in range(self.plan.workers):
            self.start()
        while True:
            await self.died.wait()
            self.died.clear()
            self.processes = [one for one in self.processes if not one.is_dead]
            await asyncio.sleep(self.rng.choice([0.1, 2.0, 40.0, 200.0]))
            while len([one for one in self.processes if not one.is_dead]) < self.plan.workers:
                self.start()

    async def beat(self, name: str) -> None:
        async with self.database.platform() as connection:
            await lease.beat(connection, name, version="simulated", queue="pump")

    # --- waiting ----------------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """Somebody committed something: what waits for work may have to look earlier."""
        if not self._is_rearming:
            self._is_rearming = True
            self.loop.call_soon(self._rearm)

    def _rearm(self) -> None:
        self._is_rearming = False
        for kind, waiters in self._waiters.items():
            due = self._due(kind) if waiters else None
            old = self._timers.pop(kind, None)
            at = None if due is None else max((due - EPOCH).total_seconds() + 0.001, self.loop.time())
            if old is not None:
                if old.when() == at:
                    self._timers[kind] = old
                    continue
                old.cancel()
            if at is not None:
                self._timers[kind] = self.loop.call_at(at, self._wake, kind)

    def _wake(self, kind: str) -> None:
        """Something is due: one of those who wait for it looks, now and then all of them at once."""
        self._timers.pop(kind, None)
        waiters = [one for one in self._waiters[kind] if not one.done()]
        self._waiters[kind] = waiters
        if not waiters:
            return
        chosen = waiters if self.rng.random() < 0.3 else [self.rng.choice(waiters)]
        for waiter in chosen:
            waiter.set_result(None)
        self._waiters[kind] = [one for one in waiters if not one.done()]
        # Should the chosen one be frozen, or come for nothing, another looks soon.
        if self._waiters[kind]:
            self._timers[kind] = self.loop.call_later(0.5, self._wake_if_due, kind)

    def _wake_if_due(self, kind: str) -> None:
        self._timers.pop(kind, None)
        self.changed()

    async def wait_for_work(self, kind: str) -> None:
        """Wait as long as the loops of a real worker would find nothing. At least a moment passes."""
        await asyncio.sleep(0.2)
        waiter: asyncio.Future[None] = self.loop.create_future()
        self._waiters.setdefault(kind, []).append(waiter)
        self.changed()
        await waiter

    def _due(self, kind: str) -> datetime | None:
        """When there may be something to do; ``None``: not before something changes."""
        match kind:
            case "drain":
                times = self._drain_times()
            case "poll":
                times = [_poll_time(row) for row in self.tables["batches"].rows.values()]
            case "jobs":
                times = [
                    row["leased_until"] or self.now()
                    for row in self.tables["jobs"].rows.values()
                    if row["status"] in {"queued", "running", "cancelling"} and row["type"] not in READ_TYPES
                ]
                times += [
                    row["leased_until"] or self.now()
                    for row in self.tables["holds"].rows.values()
                    if row["finished_at"] is None
                ]
            case "reading":
                times = [
                    row["leased_until"] or self.now()
                    for row in self.tables["jobs"].rows.values()
                    if row["status"] in {"queued", "running", "cancelling"} and row["type"] in READ_TYPES
                ]
            case _:
                times = self._sweep_times()
        return min((one for one in times if one is not None), default=None)

    def _drain_times(self) -> list[datetime | None]:
        times: list[datetime | None] = []
        for row in self.tables["store_queue"].rows.values():
            if row["due_at"] is None:
                continue
            free_at = row["leased_until"]
            if free_at is not None:
                beat = self.tables["worker_heartbeats"].get(row["lease_owner"])
                seen = self.now() if beat is None else beat["seen_at"] + timedelta(seconds=10.001)
                free_at = min(free_at + timedelta(seconds=0.001), seen)
            times.append(row["due_at"] if free_at is None else max(row["due_at"], free_at))
        return times

    def _sweep_times(self) -> list[datetime | None]:
        now = self.now()
        times: list[datetime | None] = [row["retry_at"] for row in self.tables["sync_state"].rows.values()]
        for queue in self.tables["store_queue"].rows.values():
            store_id = queue["store_id"]
            swept = queue.get("sales_swept_to")
            ends = [
                row["special_price_end"]
                for row in self.tables["variants"].rows.values()
                if row["store_id"] == store_id
                and row["special_price_end"] is not None
                and (swept is None or row["special_price_end"] > swept)
            ]
            delay = timedelta(seconds=self.timing.sale_delay_seconds + 0.001)
            schedule = self.tables["schedules"].get("sale_windows")
            earliest = now if schedule is None else max(now, schedule["next_at"])
            times += [max(one + delay, earliest) for one in ends]
            if queue["due_at"] is None and not self._stands_still(store_id):
                ready = any(
                    row["parked_by"] is None and row["store_id"] == store_id
                    for row in self.tables["intents"].rows.values()
                )
                times += [now + timedelta(seconds=1)] if ready else []
                epochs = {
                    row["link_id"]: row["epoch"] for row in self.tables["catalog_links"] if row["active"]
                }
                times += [
                    row["due_at"]
                    for row in self.tables["batches"].rows.values()
                    if row["store_id"] == store_id
                    and row["state"] == "unknown"
                    and row["calls"] < MAX_CALLS
                    and epochs.get(row["link_id"]) == row["link_epoch"]
                ]
        # A forgotten store is looked for every second; here at once, or when it becomes one.
        return [now if one is not None and one <= now + timedelta(seconds=1) else one for one in times]

    def _stands_still(self, store_id: str) -> bool:
        settings: Mapping[str, Any] = self.tables["stores"].rows[store_id,]["settings"]
        if not settings.get("sync_enabled") or settings.get("feed_mode", "live") != "live":
            return True
        pauses = self.tables["store_pauses"].rows.values()
        if any(row["until"] is None and row["store_id"] == store_id for row in pauses):
            return True
        return any(
            row["active"] and row["dead_at"] is not None and row["store_id"] == store_id
            for row in self.tables["credentials"].rows.values()
        )


def _is_dead(row: Mapping[str, Any], moment: datetime) -> bool:
    return row["dead_at"] is not None and row["dead_at"] < moment


def _poll_time(row: Mapping[str, Any]) -> datetime | None:
    if row["state"] == "over" or row["due_at"] is None:
        return None
    due: datetime = row["due_at"]
    if row["state"] == "unknown" and row["calls"] < MAX_CALLS and row["hold_until"] is not None:
        hold_until: datetime = row["hold_until"]
        return max(due, hold_until)
    return due


def secret(text: str) -> SecretStr:
    return SecretStr(text)
