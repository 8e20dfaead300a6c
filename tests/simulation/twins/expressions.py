"""What SQL expressions say, for twins: NULL where SQL says NULL, microseconds where SQL rounds to microseconds.

No statement is registered here.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from meta_sync.sync.models import Status
from meta_sync.sync.states import TRANSITIONS, Event

__all__ = ["after", "greatest", "seconds"]

_AFTER: dict[Event, dict[str, str]] = {
    event: {
        status.value: (cells.get(status) or status).value  # A cell that cannot happen keeps the state.
        for status in Status
    }
    for event, cells in TRANSITIONS.items()
}


def after(event: Event, status: str) -> str:
    """``states.status_case``."""
    return _AFTER[event][status]


def greatest(*values: Any) -> Any:
    """``GREATEST``, which leaves out NULLs."""
    return max((one for one in values if one is not None), default=None)


def seconds(value: float) -> timedelta:
    """``make_interval(secs => value)``: rounded to the microsecond, halves to even."""
    return timedelta(microseconds=round(value * 1e6))
