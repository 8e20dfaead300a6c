"""``items`` and ``resync`` on the command line: for people, for machines, and what they do when there is nothing."""

from __future__ import annotations

import json
from pathlib import Path

from tests.service.test_cli_commands import Run, feed, run, store

__all__ = ["run", "store"]


def test_items_for_people_and_machines(run: Run, store: str, tmp_path: Path) -> None:
    assert run("items", "--store", store) == (0, "The store has no items.\n", "")
    assert run("import", str(feed(tmp_path / "feed.tsv", 120)), "--store", store).code == 0
    shown = run("items", "--store", store)
    assert shown.code == 0
    assert "Lamp" in shown.output
    assert "never_synced" in shown.output
    assert shown.errors == "These are 50 of 120 items; --limit shows more.\n"
    everything = json.loads(run("items", "--store", store, "--limit", "500", "--json").output)
    assert (everything["total"], everything["totalIsExact"]) == (120, True)
    assert len({item["variantId"] for item in everything["items"]}) == 120
    assert {"syncStatus", "presence", "errorCode", "href"} <= set(everything["items"][0])
    found = json.loads(run("items", "--store", store, "--search", "LAMP 11", "--json").output)
    # 11, and 110 to 119.
    assert found["total"] == 11
    none = run("items", "--store", store, "--status", "failed")
    assert (none.code, none.output) == (0, "There is no such item.\n")
    assert run("items", "--store", store, "--status", "lost").code == 2
    assert run("items", "--store", "nowhere").code == 1


def test_resync(run: Run, store: str, tmp_path: Path) -> None:
    assert run("import", str(feed(tmp_path / "feed.tsv", 1)), "--store", store).code == 0
    early = run("resync", "sku-0", "--store", store)
    assert (early.code, early.output) == (1, "")
    assert "No Meta catalog is selected yet." in early.errors
    missing = run("resync", "nowhere", "--store", store)
    assert missing.code == 1
    assert "no such variant" in missing.errors
