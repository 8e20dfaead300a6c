"""Rows of jobs for contract tests."""

from __future__ import annotations

from typing import Any

from tests.simulation.contract import Bench

__all__ = ["STATUSES", "job_row"]

STATUSES = ("queued", "running", "cancelling", "cancelled", "success", "partial", "error")


def job_row(bench: Bench, store_id: str, link_id: int | None, **values: Any) -> str:
    """A job that runs and is held for long, so that nobody takes it."""
    job_id = f"job_{bench.number()}"
    given = {
        "job_id": job_id,
        "store_id": store_id,
        "link_id": link_id,
        "type": "bootstrap",
        "status": "running",
        "mapping_epoch": 3,
        "fence": 7,
        "leased_until": bench.clock.after(1_000_000),
        "started_at": bench.clock.now,
    }
    bench.put("jobs", **{**given, **values})
    return job_id
