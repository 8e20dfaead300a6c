"""How long to wait before the next question or the next try. Pure."""

from __future__ import annotations

__all__ = ["next_poll_seconds", "retry_waits"]

_LONGEST_WAIT_SECONDS = 3600.0
"""Between two tries of an item whose batches Meta ends without a verdict: noticed within the hour when Meta is well."""


def next_poll_seconds(polls: int, ceiling_seconds: float, first_seconds: float) -> float:
    """The wait before the next question about a handle: growing by half each time, up to the store's ceiling."""
    return min(ceiling_seconds, first_seconds * 1.5 ** min(polls, 20))


def retry_waits(first_seconds: float, jitter: float) -> list[float]:
    """The waits after the first, second, ... batch in a row that Meta ended without a verdict on an item, in seconds.

    Doubled each time, up to an hour; the last one holds for all that follow. ``jitter`` between 0 and 1 makes them up
    to a quarter shorter, so that stores hit by one fault of Meta's do not all come back in the same second.
    """
    waits = [first_seconds]
    while waits[-1] < _LONGEST_WAIT_SECONDS:
        waits.append(min(2 * waits[-1], _LONGEST_WAIT_SECONDS))
    return [wait * (1 - jitter / 4) for wait in waits]
