"""The governor's rows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from meta_sync.sync import budget
from tests.simulation.memory import Rows, Transaction, twin
from tests.simulation.twins.expressions import greatest

_BUCKET_COLUMNS = (
    "calls_blocked_until",
    "throttle_count",
    "usage_percent",
    "usage_at",
    "questions_blocked_until",
    "questions_throttle_count",
    "questions_usage_percent",
    "questions_usage_at",
)
_GROWING = frozenset({"calls_blocked_until", "questions_blocked_until"})
_HOUR = timedelta(hours=1)


@twin(budget._CALL_TIMES)
def call_times(t: Transaction, p: Mapping[str, Any]) -> Rows:
    since = t.now - _HOUR
    times = sorted(
        row["started_at"]
        for row in t.batch_calls
        if row["link_id"] == p["link_id"] and row["started_at"] > since
    )
    return Rows((one,) for one in times[-budget._MOST_CALLS_READ :])


@twin(budget._BUCKETS)
def buckets(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.catalog_links.get(p["link_id"])
    return Rows() if row is None else Rows([tuple(row[name] for name in _BUCKET_COLUMNS)])


@twin(budget._SAVE)
def save(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.catalog_links.get(p["link_id"])
    if row is None:
        return Rows(rowcount=0)
    changes = {
        name: greatest(row[name], p[name]) if name in _GROWING else p[name] for name in _BUCKET_COLUMNS
    }
    t.catalog_links.update(row, **changes)
    return Rows(rowcount=1)
