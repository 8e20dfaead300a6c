"""The approval of a first run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meta_sync.sync import first_run
from tests.simulation.memory import Rows, Transaction, twin


@twin(first_run._NEWEST_REPORT)
def newest_report(t: Transaction, p: Mapping[str, Any]) -> Rows:
    link = t.catalog_links.get(p["link_id"])
    found = [
        row
        for row in t.jobs
        if row["store_id"] == p["store_id"]
        and row["link_id"] == p["link_id"]
        and row["type"] == "preflight"
        and row["status"] == "success"
        and link is not None
        and row["created_at"] >= link["selected_at"]
    ]
    newest = sorted(found, key=lambda row: (row["finished_at"], row["job_id"]), reverse=True)
    return Rows((row["job_id"],) for row in newest[:1])


@twin(first_run._APPROVE)
def approve(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.catalog_links.get(p["link_id"])
    if row is None or not row["active"] or row["first_run_approved_at"] is not None:
        return Rows()
    t.catalog_links.update(row, first_run_approved_at=t.now, first_run_approved_by=p["actor"])
    return Rows([(1,)])
