"""What a page of the audit log costs: whatever is asked for, it begins at its place in an index, however large the log is."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from meta_sync.core.db import Database
from meta_sync.stores.audit_log import AuditFilter, AuditLogService
from meta_sync.sync import sweep
from tests.service.test_list_plans import CURSORS, analyse, nodes, noted, owning, plans_of

ROWS = 20_000
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
FILTERS = (
    ("audit_log_store_idx", AuditFilter()),
    ("audit_log_store_idx", AuditFilter(target_type="item", search="V7")),
    ("audit_log_action_idx", AuditFilter(action="token_set")),
    ("audit_log_actor_idx", AuditFilter(actor="k1", target_type="item")),
    ("audit_log_target_idx", AuditFilter(target="v77", action="token_set", search="k")),
)

_FILL = (
    "INSERT INTO stores (store_id, public_id, name) VALUES ('s', 's', 's')",
    # Most of the log is this store's: then reading all of it looks cheap.
    f"""INSERT INTO audit_log (store_id, at, actor, action, target_type, target_id)
    SELECT CASE WHEN i % 4 > 0 THEN 's' ELSE 's' || i % 50 END, now() - make_interval(secs => i), 'k' || i % 5,
           CASE WHEN i % 20 = 1 THEN 'token_set' ELSE 'item_resynced' END, 'item', 'v' || i % 1000
    FROM generate_series(1, {ROWS}) AS i""",
)


@pytest.fixture
async def filled(database: Database, database_url: str) -> Database:
    async with owning(database_url) as connection:
        for statement in _FILL:
            await connection.execute(statement)
    return database


@pytest.mark.parametrize("is_known", [False, True])
async def test_a_page_begins_at_its_place_in_an_index(
    filled: Database, database_url: str, is_known: bool
) -> None:
    if is_known:
        await analyse(database_url)
    for index, wanted in FILTERS:
        for bounded in (wanted, replace(wanted, since=SINCE, until=datetime.now(UTC))):
            await _assert_goes_by(filled, index, bounded)


async def _assert_goes_by(database: Database, index: str, wanted: AuditFilter) -> None:
    service = AuditLogService(database, CURSORS)
    with noted(database) as statements:
        found = await service.list("s", wanted, limit=1)
        await service.list("s", wanted, page=5, limit=20)
        if found.next_cursor is not None:
            await service.list("s", wanted, limit=20, cursor=found.next_cursor)
    assert len(statements) >= 2
    for mode in ("custom", "generic"):
        for statement, plan in await plans_of(database, statements, mode):
            used = {
                node["Index Name"]: node.get("Index Cond") for node in nodes(plan) if "Index Name" in node
            }
            assert used.keys() == {index}, (mode, statement, plan)
            assert "ROW(" in str(used[index]), (mode, statement, plan)
            kinds = [
                (node["Node Type"], node.get("Sort Key"), node.get("Index Cond"), node["Total Cost"])
                for node in nodes(plan)
            ]
            assert not [kind for kind in kinds if "Sort" in kind[0]], (mode, str(kinds))


async def test_the_purge_reads_no_entry_that_stays(filled: Database, database_url: str) -> None:
    await analyse(database_url)
    statement = sweep._OLD_AUDIT.text.replace(":most", "100")
    async with filled.platform() as connection:
        raw = (await connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}")).scalar_one()
    plan = (json.loads(raw) if isinstance(raw, str) else raw)[0]["Plan"]
    read = [node for node in nodes(plan) if node.get("Alias") == "l"]
    assert [(node["Node Type"], node["Index Name"]) for node in read] in (
        [("Index Scan", "audit_log_store_idx")],
        [("Index Only Scan", "audit_log_store_idx")],
    )
    assert "at <" in read[0]["Index Cond"]
