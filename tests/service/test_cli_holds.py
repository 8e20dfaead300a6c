"""``holds`` on the command line: for people, for machines, and what it says when there is nothing to decide."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from sqlalchemy import text

from meta_sync.core.db import Database
from tests.service.test_cli_commands import Run, feed, run, store

__all__ = ["run", "store"]


_HOLD = text(
    """
    INSERT INTO holds (store_id, link_id, kind, state, items, base_items, threshold, held_at)
    VALUES (:store_id, 0, 'delete', 'held', 2, 3, 0, now())
    """
)
_HELD = text(
    """
    UPDATE intents SET held_by = (SELECT hold_id FROM holds WHERE store_id = :store_id)
    WHERE store_id = :store_id AND variant_id <> 'sku-0'
    """
)


def _hold(url: str, store: str) -> None:
    """Two items held, as the worker leaves them."""

    async def work() -> None:
        database = Database.connect(url)
        try:
            async with database.platform() as connection:
                for statement in (_HOLD, _HELD):
                    await connection.execute(statement, {"store_id": store})
        finally:
            await database.dispose()

    asyncio.run(work())


def test_holds_for_people_and_machines(run: Run, store: str, tmp_path: Path, database_url: str) -> None:
    assert run("holds", "list", "--store", store) == (0, "Nothing is held.\n", "")
    assert run("import", str(feed(tmp_path / "feed.tsv", 3)), "--store", store).code == 0
    _hold(database_url, store)
    [hold] = json.loads(run("holds", "list", "--store", store, "--json").output)["holds"]
    assert (hold["kind"], hold["state"], hold["items"], hold["code"]) == ("delete", "held", 2, "held_delete")
    assert "delete" in run("holds", "list", "--store", store).output
    assert run("holds", "list", "--store", store, "--state", "released").output == "Nothing is held.\n"
    shown = json.loads(run("holds", "show", hold["id"], "--store", store, "--json").output)
    assert [one["variantId"] for one in shown["items"]] == ["sku-1", "sku-2"]
    few = run("holds", "show", hold["id"], "--store", store, "--limit", "1")
    assert "sku-1" in few.output and "sku-2" not in few.output
    assert few.errors == "These are 1 of 2 items; --limit shows more.\n"
    refused = run("holds", "release", hold["id"], "--store", store, "--shown", "1")
    assert refused.code == 1 and "keeps back 2 items by now" in refused.errors
    released = run("holds", "release", hold["id"], "--store", store)
    assert released == (0, "2 items will be sent.\n", "")
    late = run("holds", "discard", hold["id"], "--store", store)
    assert late.code == 1 and "it is released" in late.errors


@pytest.mark.parametrize("command", ["show", "release", "discard"])
def test_a_hold_that_there_is_not(run: Run, store: str, command: str) -> None:
    for hold in ("4711", "none", "9" * 30):
        said = run("holds", command, hold, "--store", store)
        assert said.code == 1 and "no such hold" in said.errors
