"""Time as a dependency. Nothing below the edges reads the wall clock itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

__all__ = ["Clock", "monotonic_seconds", "utc_now"]

Clock = Callable[[], datetime]
"""Gives the present instant, always aware and in UTC."""


def utc_now() -> datetime:
    """The present instant in UTC."""
    return datetime.now(UTC)


def monotonic_seconds() -> float:
    """Seconds on a clock that never steps; only differences mean anything."""
    return time.monotonic()
