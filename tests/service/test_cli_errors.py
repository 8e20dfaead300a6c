"""``meta-sync errors``: failed items as a table and as JSON, in one exit code."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from meta_sync.core.db import Database
from meta_sync.sync.codes import entry_of
from tests.service.test_cli_commands import Run, feed, run, store

__all__ = ["run", "store"]


@pytest.fixture
def fail(database_url: str) -> Callable[..., None]:
    """Makes items of a store failed, at a catalog that it has selected."""

    async def written(store_id: str, *failures: tuple[str, str, str | None]) -> None:
        database = Database.connect(database_url, pool_size=1)
        async with database.platform() as connection:
            values: dict[str, Any] = {"store_id": store_id}
            await connection.execute(
                text(
                    "INSERT INTO catalog_links (store_id, graph_host, catalog_id, business_id, credential_id, active, epoch, was_empty)"
                    " SELECT :store_id, 'graph.facebook.com', '1', '2', 'c', true, 1, true"
                    " WHERE NOT EXISTS (SELECT FROM catalog_links WHERE store_id = :store_id)"
                ),
                values,
            )
            for variant_id, code, said in failures:
                await connection.execute(
                    text(
                        "INSERT INTO sync_state (link_id, variant_id, store_id, status, code, error_text, attempts)"
                        " SELECT link_id, :variant_id, :store_id, 'failed', :code, :said, 1 FROM catalog_links"
                        " WHERE store_id = :store_id ON CONFLICT (link_id, variant_id) DO UPDATE"
                        " SET status = 'failed', code = excluded.code, error_text = excluded.error_text"
                    ),
                    {**values, "variant_id": variant_id, "code": code, "said": said},
                )
        await database.dispose()

    return lambda *arguments: asyncio.run(written(*arguments))


def test_nothing_failed(run: Run, store: str) -> None:
    result = run("errors", "--store", store)
    assert (result.code, result.output, result.errors) == (0, "No item failed.\n", "")
    result = run("errors", "--store", store, "--json")
    assert (result.code, json.loads(result.output)) == (0, {"items": [], "total": 0, "totalIsExact": True})


def test_failed_items_are_shown_with_what_to_do(
    run: Run, store: str, fail: Callable[..., None], tmp_path: Any
) -> None:
    assert run("import", str(feed(tmp_path / "lamps.tsv", 4)), "--store", store).code == 0
    fail(
        store,
        ("sku-0", "rejected_by_meta", "The image [red] is \x1b[31mnot[/] reachable."),
        ("sku-1", "poll_timeout", None),
        ("sku-2", "rejected_by_meta", "Bad price."),
    )
    result = run("errors", "--store", store)
    assert result.code == 3
    words = " ".join(result.output.replace("│", " ").split())
    for shown in ("sku-0", "Lamp 0", "rejected_by_meta", "poll_timeout", "[red]"):
        assert shown in words
    assert "\x1b" not in result.output
    result = run("errors", "--store", store, "--json")
    assert result.code == 3
    answer = json.loads(result.output)
    assert (answer["total"], answer["totalIsExact"]) == (3, True)
    by_id = {one["variantId"]: one for one in answer["items"]}
    assert by_id["sku-2"]["lastError"] == "Bad price."
    assert by_id["sku-2"]["action"] == entry_of("rejected_by_meta").action
    assert by_id["sku-1"]["lastError"] is None
    assert by_id["sku-1"]["explanation"] == entry_of("poll_timeout").sentence
    only = json.loads(run("errors", "--store", store, "--code", "poll_timeout", "--json").output)
    assert [one["variantId"] for one in only["items"]] == ["sku-1"]
    few = run("errors", "--store", store, "--limit", "2")
    assert "These are 2 of 3 failed items" in few.errors


def test_a_store_that_is_not_there(run: Run) -> None:
    result = run("errors", "--store", "store_none")
    assert result.code == 1
    assert "There is no such store." in result.errors
