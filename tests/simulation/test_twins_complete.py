"""Every statement that the pipeline executes has a twin, or a reason why a simulation needs none."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from sqlalchemy import Executable

import meta_sync.sync
from meta_sync.catalog import inventory_write, products_write
from meta_sync.catalog import repository as catalog_repository
from meta_sync.connection import repository as connection_repository
from meta_sync.stores import repository as stores_repository
from tests.simulation import edits, twins
from tests.simulation.memory import MissingTwinError, twin_of

twins.load()

_READ_BY_THE_API = "read by the API, never by the pipeline"
_PURGE = "deletes what is older than its retention, days after a simulation's end"
_PREFLIGHT = "of the look before a first run, which reads; the simulated people have its report at once"
_PARTITIONS = "makes and drops partitions, which the memory has none of"
_COUNTERS = "adds up counters, which only the API shows"

_CHOSEN = "of a job over chosen items; the simulated people start jobs over all"

_HOLDS = "of a person's decision about a hold, which ends in a statement that has a twin"

_DRY = "of a dry run, which sends nothing"

_CHECKUP = "of a check-up, which reads and writes nothing"

_DECIDED = "of a decision about what Meta shows, which the simulated people do not make"

_WITHOUT_TWIN = {
    "meta_sync.catalog.repository._STOCK_OWNERS": "read for events, which end in the same writes as other edits",
    "meta_sync.connection.repository._LINKS_WITH_KIND": "the common part of other statements",
    "meta_sync.sync.adopt.ADOPT_STATES": _DECIDED,
    "meta_sync.sync.adopt.AS_ADOPTED": _DECIDED,
    "meta_sync.sync.adopt.EVENTS": _DECIDED,
    "meta_sync.sync.adopt.FINDINGS": _DECIDED,
    "meta_sync.sync.adopt.FINDINGS_AFTER": _DECIDED,
    "meta_sync.sync.adopt.FINDING_DONE": _DECIDED,
    "meta_sync.sync.adopt.GIVE_UP_STATES": _DECIDED,
    "meta_sync.sync.adopt.LEDGER_IDS": _DECIDED,
    "meta_sync.sync.adopt.RELEASE_DELETES": _DECIDED,
    "meta_sync.sync.adopt_statements.CHANGED_SINCE": _DECIDED,
    "meta_sync.sync.adopt_statements.LOCK_IN_FLIGHT": _DECIDED,
    "meta_sync.sync.adopt_statements.LOOK_AGAIN": _DECIDED,
    "meta_sync.sync.adopt_statements.NEW_STATES": _DECIDED,
    "meta_sync.sync.adopt_statements.PIN": _DECIDED,
    "meta_sync.sync.adopt_statements.PINNED": _DECIDED,
    "meta_sync.sync.checkup_facts._FAILED_CODES": _CHECKUP,
    "meta_sync.sync.checkup_facts._FEEDS": _CHECKUP,
    "meta_sync.sync.checkup_facts._FEED_SECRETS": _CHECKUP,
    "meta_sync.sync.checkup_facts._IMPORTS": _CHECKUP,
    "meta_sync.sync.checkup_facts._JOBS": _CHECKUP,
    "meta_sync.sync.checkup_facts._NOW": _CHECKUP,
    "meta_sync.sync.checkup_facts._OPEN_BATCHES": _CHECKUP,
    "meta_sync.sync.checkup_facts._RETRIES": _CHECKUP,
    "meta_sync.sync.checkup_facts._STORES": _CHECKUP,
    "meta_sync.sync.checkup_facts._STORE_SECRETS": _CHECKUP,
    "meta_sync.sync.checkup_facts._TOKENS": _CHECKUP,
    "meta_sync.sync.checkup_facts._WAITING": _CHECKUP,
    "meta_sync.sync.checkup_facts._WORKERS": _CHECKUP,
    "meta_sync.sync.handles._CALLS": _READ_BY_THE_API,
    "meta_sync.sync.handles._ONE": _READ_BY_THE_API,
    "meta_sync.sync.holds._HELD_AT_MOST": _READ_BY_THE_API,
    "meta_sync.sync.holds._HELD_NOW": _HOLDS,
    "meta_sync.sync.holds._LIST": _READ_BY_THE_API,
    "meta_sync.sync.holds._LOCK": _HOLDS,
    "meta_sync.sync.holds._NOTE_ITEMS": _HOLDS,
    "meta_sync.sync.holds._ONE": _READ_BY_THE_API,
    "meta_sync.sync.holds._PAYLOADS": _READ_BY_THE_API,
    "meta_sync.sync.holds._PLACE": _READ_BY_THE_API,
    "meta_sync.sync.holds._TOTAL": _READ_BY_THE_API,
    "meta_sync.sync.item_detail._LAST_PUSHED_HASH": _READ_BY_THE_API,
    "meta_sync.sync.item_filters._ESTIMATE": _READ_BY_THE_API,
    "meta_sync.sync.item_filters._FOUND": _READ_BY_THE_API,
    "meta_sync.sync.item_filters._LANE": _READ_BY_THE_API,
    "meta_sync.sync.item_filters._OFFERED": _READ_BY_THE_API,
    "meta_sync.sync.item_filters._OF_PRODUCT": _READ_BY_THE_API,
    "meta_sync.sync.item_filters._TOMBSTONES": _READ_BY_THE_API,
    "meta_sync.sync.item_filters._WAITING": _READ_BY_THE_API,
    "meta_sync.sync.item_walk._EXPECT_LOOKUPS": _READ_BY_THE_API,
    "meta_sync.sync.item_walk._EXPECT_WALKS": _READ_BY_THE_API,
    "meta_sync.sync.item_queries._ITEM_ROWS": _READ_BY_THE_API,
    "meta_sync.sync.item_queries._LIVE": _READ_BY_THE_API,
    "meta_sync.sync.item_queries._STATE_COUNTS": _READ_BY_THE_API,
    "meta_sync.sync.item_queries._STATUS_COUNT": _READ_BY_THE_API,
    "meta_sync.sync.items._PRODUCT_SYNC": _READ_BY_THE_API,
    "meta_sync.sync.job_actions._EVENTS": _CHOSEN,
    "meta_sync.sync.job_actions._EXCLUDE": _CHOSEN,
    "meta_sync.sync.job_actions._FORCE": _CHOSEN,
    "meta_sync.sync.job_actions._LOCK_IN_FLIGHT": _CHOSEN,
    "meta_sync.sync.job_actions._RESYNC": _CHOSEN,
    "meta_sync.sync.job_actions._RETRY": _CHOSEN,
    "meta_sync.sync.job_dry_run._FINDINGS": _DRY,
    "meta_sync.sync.job_dry_run._NOTE": _DRY,
    "meta_sync.sync.job_dry_run._PAYLOADS": _DRY,
    "meta_sync.sync.job_dry_run._RESULT": _DRY,
    "meta_sync.sync.job_reading._COUNT": _READ_BY_THE_API,
    "meta_sync.sync.job_reading._LIST": _READ_BY_THE_API,
    "meta_sync.sync.job_reading._LIST_AFTER": _READ_BY_THE_API,
    "meta_sync.sync.job_reading._MANY": _READ_BY_THE_API,
    "meta_sync.sync.job_reading._NOW": _READ_BY_THE_API,
    "meta_sync.sync.job_reading._TOKEN": _READ_BY_THE_API,
    "meta_sync.sync.job_reading.IMPORT_COLUMNS": "columns of statements that the API reads",
    "meta_sync.sync.job_runner.FAIL": _DRY,
    "meta_sync.sync.job_scope.SCOPE": _CHOSEN,
    "meta_sync.sync.job_scope._OF_PRODUCTS": _CHOSEN,
    "meta_sync.sync.jobs._FINDINGS": _READ_BY_THE_API,
    "meta_sync.sync.jobs._KNOWN": _READ_BY_THE_API,
    "meta_sync.sync.meta_ids._KNOWN": _READ_BY_THE_API,
    "meta_sync.sync.meta_ids._NOTE": "of a question that a person asks, which the pipeline does not read",
    "meta_sync.sync.preflight_keys._ALIKE": _PREFLIGHT,
    "meta_sync.sync.preflight_keys._EQUAL": _PREFLIGHT,
    "meta_sync.sync.preflight_keys._GROUPS": _PREFLIGHT,
    "meta_sync.sync.preflight_keys._KEEP": _PREFLIGHT,
    "meta_sync.sync.preflight_keys._KNOWN": _PREFLIGHT,
    "meta_sync.sync.preflight_reports._COUNT": _READ_BY_THE_API,
    "meta_sync.sync.preflight_reports._LIST": _READ_BY_THE_API,
    "meta_sync.sync.preflight_reports._ONE": _READ_BY_THE_API,
    "meta_sync.sync.reading._CHOSEN": _CHOSEN,
    "meta_sync.sync.removal._BEGIN": _DECIDED,
    "meta_sync.sync.removal_end._END": _DECIDED,
    "meta_sync.sync.status._ACTIVITY": _READ_BY_THE_API,
    "meta_sync.sync.status._EVER": _READ_BY_THE_API,
    "meta_sync.sync.status._FAILED_BATCH": _READ_BY_THE_API,
    "meta_sync.sync.status._FAILED_ITEM": _READ_BY_THE_API,
    "meta_sync.sync.status._PAUSED_SINCE": _READ_BY_THE_API,
    "meta_sync.sync.status._TOKEN": _READ_BY_THE_API,
    "meta_sync.sync.reconcile_service._COUNT": _READ_BY_THE_API,
    "meta_sync.sync.reconcile_service._FINDINGS": _READ_BY_THE_API,
    "meta_sync.sync.reconcile_service._LAST": _READ_BY_THE_API,
    "meta_sync.sync.sweep._DROP_PARTITIONS": _PARTITIONS,
    "meta_sync.sync.sweep._FOLD": _COUNTERS,
    "meta_sync.sync.sweep._OLD_AUDIT": _PURGE,
    "meta_sync.sync.sweep._OLD_BATCHES": _PURGE,
    "meta_sync.sync.sweep._OLD_CALLS": _PURGE,
    "meta_sync.sync.sweep._OLD_CHUNKS": _PURGE,
    "meta_sync.sync.sweep._OLD_FINDINGS": _PURGE,
    "meta_sync.sync.sweep._OLD_KEYS": _PURGE,
    "meta_sync.sync.sweep._OLD_RECEIPTS": _PURGE,
    "meta_sync.sync.sweep._OLD_RECONCILED": _PURGE,
    "meta_sync.sync.sweep._SUPERSEDED": _PURGE,
    "meta_sync.sync.sweep._OLD_ROWS": _PURGE,
    "meta_sync.sync.sweep._OLD_SEEN": _PURGE,
    "meta_sync.sync.sweep._PARTITIONS": _PARTITIONS,
    "meta_sync.sync.sweep._WAIT_LITTLE": _PARTITIONS,
    "meta_sync.sync.timeline._KNOWN": _READ_BY_THE_API,
}


def _modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(meta_sync.sync.__path__, f"{meta_sync.sync.__name__}."):
        yield importlib.import_module(found.name)
    yield from (catalog_repository, connection_repository, stores_repository, products_write, inventory_write)
    yield edits


def _statements(value: Any) -> Iterator[Any]:
    """A value, or the values in it, as far as they can be executed. Parts of statements cannot."""
    if isinstance(value, Executable):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _statements(one)
    elif isinstance(value, tuple | list | set | frozenset):
        for one in value:
            yield from _statements(one)


def _has_twin(statement: Any) -> bool:
    try:
        twin_of(statement)
    except MissingTwinError:
        return False
    return True


def _found() -> dict[str, list[Any]]:
    """Statements by the name under which they were found first; others import some of them."""
    found: dict[str, list[Any]] = {}
    seen: set[int] = set()
    for module in _modules():
        for name, value in sorted(vars(module).items()):
            for statement in _statements(value):
                if id(statement) not in seen:
                    seen.add(id(statement))
                    found.setdefault(f"{module.__name__}.{name}", []).append(statement)
    return found


def test_every_statement_has_a_twin_or_a_reason() -> None:
    missing = [
        name
        for name, statements in _found().items()
        if name not in _WITHOUT_TWIN and not all(map(_has_twin, statements))
    ]
    assert missing == []


def test_the_walk_finds_statements_of_every_kind() -> None:
    found = _found()
    assert len(found["meta_sync.stores.repository._SECRETS"]) == 3, "in a mapping"
    assert len(found["meta_sync.sync.sweep._OLD_ROWS"]) > 3, "in a tuple"
    assert found["meta_sync.sync.reading._READY"], "built by Core"
    assert found["meta_sync.sync.job_runner.LEASE"], "written as text"


def test_reasons_are_given_only_where_they_are_needed() -> None:
    found = _found()
    assert _WITHOUT_TWIN.keys() <= found.keys()
    assert [name for name in _WITHOUT_TWIN if any(map(_has_twin, found[name]))] == []
